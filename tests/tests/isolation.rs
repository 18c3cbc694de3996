//! Two channels with different members on the same nodes: who is no member of one can read nothing of it, not even its name.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use selvedge_comm::Method;
use selvedge_proto::selvedge::cluster as between;
use selvedge_proto::selvedge::cluster::cluster_client::ClusterClient;
use selvedge_proto::{Message, common, protos};
use selvedge_sdk::{
    ClientIdentity, ClientTls, Discovery, Endpoint, EventsFrom, Invocation, Seek, TlsIdentity,
};
use selvedge_system_tests::{
    CHANNEL, Device, Edge, Network, ORG1_PEER, ORG2_PEER, Options, case, checker, crooked, http, json,
    refuses, says,
};
use serde_json::json as value;

/// Of the second organisation alone.
const SECRET: &str = "secret";
/// Not there; as long as the other name, so that answers can be compared.
const ABSENT: &str = "absent";
const OUTSIDER: &str = "User1@org1.example.com";
const MEMBER: &str = "User1@org2.example.com";

fn told<T: Debug, E: Debug>(answer: Result<T, E>) -> String {
    format!("{answer:?}")
}

/// The endpoint of a node, with a client certificate to bind discovery requests to.
fn with_certificate(network: &Network, user: &str, host: &str) -> Endpoint {
    let tls = network.user_dir(user).join("tls");
    let identity = TlsIdentity::from_files(&tls.join("client.crt"), &tls.join("client.key")).unwrap();
    let mut endpoint = network.endpoint(host);
    endpoint.tls = endpoint.tls.map(|tls| ClientTls {
        identity: Some(identity),
        ..tls
    });
    endpoint
}

/// What the second organisation's peer and the orderer say of a channel, by the question.
async fn answers(network: &Network, who: &ClientIdentity, channel: &str) -> Vec<(&'static str, String)> {
    let mut heard = Vec::new();
    let peer = network.peer(ORG2_PEER);
    let gateway = network.gateway_of(who.clone(), ORG2_PEER);
    let put = Invocation::new(channel, "probe", "put").arg("k").arg("v");
    heard.push(("evaluate", told(gateway.evaluate(&put).await)));
    heard.push(("endorse", told(gateway.submit_and_wait(&put).await.map(drop))));
    heard.push(("commit status", told(gateway.commit_status(channel, "tx").await)));
    let events = gateway
        .chaincode_events(channel, "probe", EventsFrom::Block(0))
        .await;
    heard.push(("events", told(events.map(drop))));
    let here = Invocation::new(channel, "qscc", "GetChainInfo").arg(channel);
    heard.push(("qscc on the channel", told(peer.call(who, &here).await)));
    for function in ["GetChainInfo", "GetBlockByNumber", "GetTransactionByID"] {
        let there = Invocation::new(CHANNEL, "qscc", function).arg(channel).arg("0");
        heard.push(("qscc from another channel", told(peer.call(who, &there).await)));
    }
    for function in ["GetConfigBlock", "GetChannelConfig"] {
        let there = Invocation::new(CHANNEL, "cscc", function).arg(channel);
        heard.push(("cscc from another channel", told(peer.call(who, &there).await)));
    }
    let definitions = Invocation::new(channel, "_lifecycle", "QueryChaincodeDefinitions").arg("");
    heard.push(("_lifecycle", told(peer.call(who, &definitions).await)));
    heard.push(("channels", told(peer.channels(who).await)));
    let mut blocks = peer.blocks(who, channel, Seek::one(0)).await.unwrap();
    heard.push(("deliver", told(blocks.next().await)));
    let mut blocks = peer.filtered_blocks(who, channel, Seek::one(0)).await.unwrap();
    heard.push(("filtered blocks", told(blocks.next().await)));
    let mut blocks = gateway
        .blocks_with_private_data(channel, Seek::one(0))
        .await
        .unwrap();
    heard.push(("blocks with private data", told(blocks.next().await)));
    for host in network.orderers() {
        let orderer = network.orderer(&host);
        let mut blocks = orderer.blocks(who, channel, Seek::one(0)).await.unwrap();
        heard.push(("orderer deliver", told(blocks.next().await)));
        heard.push(("broadcast", told(orderer.broadcast(envelope(who, channel)).await)));
        // What orderers ask each other, with and without a certificate that is no orderer's.
        for endpoint in [
            with_certificate(network, OUTSIDER, &host),
            network.endpoint(&host),
        ] {
            let mut cluster = ClusterClient::new(endpoint.connect_lazy().unwrap());
            let request = between::StateRequest {
                channel: channel.to_owned(),
            };
            heard.push(("an orderer's state", told(refusal(cluster.state(request).await))));
            let request = between::BlocksRequest {
                channel: channel.to_owned(),
                start: 0,
                end: 1,
            };
            heard.push((
                "an orderer's blocks",
                told(refusal(cluster.blocks(request).await)),
            ));
        }
    }
    let discovery = Discovery::new(&with_certificate(network, OUTSIDER, ORG2_PEER), who.clone()).unwrap();
    heard.push(("discover config", told(discovery.config(channel).await)));
    heard.push(("discover peers", told(discovery.peers(channel).await)));
    let endorsers = discovery.endorsers(channel, interest("probe")).await;
    heard.push(("discover endorsers", told(endorsers)));
    heard
}

/// What a refusal says, without the moment it was said at.
fn refusal<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<(), String> {
    answer
        .map(drop)
        .map_err(|status| format!("{:?}: {}", status.code(), status.message()))
}

/// Something for an orderer to refuse.
fn envelope(who: &ClientIdentity, channel: &str) -> common::Envelope {
    let header = common::Header {
        channel_header: common::ChannelHeader {
            r#type: common::HeaderType::EndorserTransaction as i32,
            channel_id: channel.to_owned(),
            ..Default::default()
        }
        .encode_to_vec()
        .into(),
        signature_header: common::SignatureHeader {
            creator: who.creator().clone(),
            nonce: Bytes::from_static(b"nonce"),
        }
        .encode_to_vec()
        .into(),
    };
    let payload = common::Payload {
        header: Some(header),
        data: Bytes::new(),
    };
    let payload = Bytes::from(payload.encode_to_vec());
    common::Envelope {
        signature: who.sign(&payload).unwrap(),
        payload,
    }
}

fn interest(chaincode: &str) -> protos::ChaincodeInterest {
    protos::ChaincodeInterest {
        chaincodes: vec![protos::ChaincodeCall {
            name: chaincode.to_owned(),
            ..Default::default()
        }],
    }
}

async fn cannot_tell(network: &Network, who: &ClientIdentity) {
    let secret = answers(network, who, SECRET).await;
    let absent = answers(network, who, ABSENT).await;
    for ((question, secret), (_, absent)) in secret.iter().zip(&absent) {
        assert!(secret.starts_with("Err("), "{question}: {secret}");
        assert_eq!(
            without_ids(&secret.replace(SECRET, ABSENT)),
            without_ids(absent),
            "{question}"
        );
    }
}

/// Transaction ids differ from call to call.
fn without_ids(text: &str) -> String {
    let is_id = |word: &&str| word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit());
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    words
        .map(|word| {
            let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if is_id(&bare) {
                word.replace(bare, "ID")
            } else {
                word.to_owned()
            }
        })
        .collect()
}

async fn discovery_finds_what_members_may_see(network: &Network) {
    let outsider = Discovery::new(
        &with_certificate(network, OUTSIDER, ORG1_PEER),
        network.identity(OUTSIDER),
    )
    .unwrap();
    let config = outsider.config(CHANNEL).await.unwrap();
    let msps: Vec<&str> = config.msps.keys().map(String::as_str).collect();
    assert_eq!(msps, ["OrdererMSP", "Org1MSP", "Org2MSP"]);
    assert_eq!(config.orderers["OrdererMSP"].len(), network.orderers().len());
    let peers = outsider.peers(CHANNEL).await.unwrap();
    let orgs: Vec<&str> = peers.iter().map(|p| p.msp_id.as_str()).collect();
    assert_eq!(orgs, ["Org1MSP", "Org2MSP"]);
    for peer in &peers {
        assert!(peer.ledger_height.unwrap() > 1, "{peer:?}");
        assert!(
            peer.chaincodes.iter().any(|(name, _)| name == "probe"),
            "{peer:?}"
        );
    }
    let plan = outsider.endorsers(CHANNEL, interest("probe")).await.unwrap();
    assert_eq!(
        (plan.groups.len(), plan.layouts.len()),
        (2, 2),
        "one of two organisations"
    );

    let member = Discovery::new(
        &with_certificate(network, MEMBER, ORG2_PEER),
        network.identity(MEMBER),
    )
    .unwrap();
    let peers = member.peers(SECRET).await.unwrap();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].msp_id, "Org2MSP");
    let unbound = Discovery::new(&network.endpoint(ORG2_PEER), network.identity(MEMBER)).unwrap();
    let refused = unbound.config(SECRET).await.unwrap_err().to_string();
    assert!(
        refused.contains("client didn't send a TLS certificate"),
        "{refused}"
    );
}

/// Whoever administers the network from one folder need not say which organisation may read a channel.
async fn administered_from_one_folder(network: &Network) {
    let own = format!("{SECRET}: Org2 on ");
    says(network, &["channel", "list"], &[&own, &format!("{CHANNEL}: ")]).await;
    says(
        network,
        &["channel", "info", "-C", SECRET],
        &["member         Org2"],
    )
    .await;
    let list = ["chaincode", "list", "--channel", SECRET, "--as", MEMBER];
    says(
        network,
        &list,
        &["committed on channel secret:\n  probe version 1"],
    )
    .await;
    let first = ["--as", "Admin@org1.example.com"];
    let list = [&["channel", "list"][..], &first].concat();
    says(network, &list, &["Admin@org1.example.com may not read it"]).await;
    let info = [&["channel", "info", "-C", SECRET][..], &first].concat();
    refuses(
        network,
        &info,
        &["cannot read channel secret as Admin@org1.example.com"],
    )
    .await;
}

/// What a device hands to an edge gateway is committed through the second of its peers; what goes to the channel of all
/// stays with the first.
async fn first_peer_is_no_member(network: &Network, mode: &str) {
    let device = Device {
        name: mode.to_owned(),
        msp_id: "Org2MSP".to_owned(),
        msp_dir: network.user_dir(MEMBER).join("msp"),
    };
    let (first, second) = (network.address(ORG1_PEER), network.address(ORG2_PEER));
    let peers = [(ORG1_PEER, first.as_str()), (ORG2_PEER, second.as_str())];
    let settings = value!({ "uplink": { "mode": mode } });
    let edge = Edge::start_with(network, mode, &device, &peers, &settings).await;
    let url = format!("{}/v1/transactions", edge.url());
    for (channel, peer) in [(SECRET, &second), (CHANNEL, &first), (SECRET, &second)] {
        let put =
            value!({ "channel": channel, "chaincode": "probe", "function": "put", "args": [mode, "1"] });
        let answer = http(Method::POST, &url, &put).await.unwrap();
        assert_eq!(answer.status.as_u16(), 202);
        let id = json(&answer.body)["id"].as_u64().unwrap();
        edge.reaches(id, "committed", Duration::from_secs(60)).await;
        let status = edge.status().await.unwrap();
        assert_eq!(status["uplink"]["peer"], peer.as_str(), "{channel}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_its_members_alone() {
    let network = Network::up(Options {
        orderers: 1,
        contracts: false,
        more_channels: vec![(SECRET.to_owned(), vec!["Org2".to_owned()])],
        ..Options::default()
    })
    .await;
    let own = network
        .peer(ORG1_PEER)
        .channels(&network.identity(OUTSIDER))
        .await;
    assert_eq!(own.unwrap(), [CHANNEL]);
    let members = network.peer(ORG2_PEER).channels(&network.identity(MEMBER)).await;
    assert_eq!(members.unwrap(), [SECRET, CHANNEL]);
    case(
        "discovery finds what members may see",
        discovery_finds_what_members_may_see(&network),
    )
    .await;
    let outsider = network.identity(OUTSIDER);
    case("a member of another channel", cannot_tell(&network, &outsider)).await;
    let nobody = crooked::Wish::client("NobodyMSP", "nobody").issue(&crooked::rogue_authority());
    case("nobody", cannot_tell(&network, &nobody)).await;
    let forger = crooked::Wish::client("Org2MSP", "forger").issue(&crooked::rogue_authority());
    case("a forger", cannot_tell(&network, &forger)).await;
    case(
        "administered from one folder",
        administered_from_one_folder(&network),
    )
    .await;
    for mode in ["gateway", "direct"] {
        case(
            &format!("an edge gateway whose first peer is no member, {mode} mode"),
            first_peer_is_no_member(&network, mode),
        )
        .await;
    }
    checker::check(&network).await;
    checker::check_channel(&network, SECRET, MEMBER, &[ORG2_PEER]).await;
    network.down().await;
}
