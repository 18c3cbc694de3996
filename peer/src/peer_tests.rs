//! A peer from its files: start, join, restart, stop.

use std::path::Path;

use selvedge_comm::{ClientTls, Endpoint, HttpClient, Method};
use selvedge_msp::Certificate;
use selvedge_msp::dir::{MspDirContents, write_msp_dir};
use selvedge_proto::protos;
use selvedge_proto::protos::endorser_client::EndorserClient;

use super::*;
use crate::test_network::{Org, ask, genesis, proposal};

fn write_identity(org: &Org, dir: &Path) {
    let identity = org.holder("peer0", "peer", &[], crate::test_network::now() + 86_400);
    let fabric: selvedge_proto::msp::FabricMspConfig =
        prost::Message::decode(org.msp_config().config).unwrap();
    let root = Certificate::from_pem(&fabric.root_certs[0]).unwrap();
    let contents = MspDirContents {
        cacerts: vec![("ca.pem".into(), root.clone())],
        tlscacerts: vec![("tlsca.pem".into(), root)],
        signcert: Some(("peer0.pem".into(), identity.certificate().clone())),
        key: Some(identity.key().clone()),
        node_ous: true,
        ..Default::default()
    };
    write_msp_dir(dir, &contents).unwrap();
}

fn config(dir: &Path) -> PeerConfig {
    let text = "id: peer0\nmsp_id: Org1MSP\nmsp_dir: msp\nlisten: 127.0.0.1:0\nexternal_address: peer0.org1:7051\n\
                data_dir: data\nvalidator_pool_size: 2\noperations: {listen: '127.0.0.1:0'}\n";
    PeerConfig::from_yaml(text, dir).unwrap()
}

async fn channels(peer: &Peer, org: &Org) -> Vec<String> {
    let endpoint = Endpoint::plain(peer.address().to_string());
    let mut client = EndorserClient::new(endpoint.connect().await.unwrap());
    let signed = proposal(&org.client("user", &[]), &ask("", "cscc", &[b"GetChannels"]));
    let answer = client.process_proposal(signed).await.unwrap().into_inner();
    let response = answer.response.unwrap();
    assert_eq!(response.status, 200, "{}", response.message);
    let found: protos::ChannelQueryResponse = prost::Message::decode(response.payload).unwrap();
    found.channels.into_iter().map(|c| c.channel_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joined_channel_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (org, orderer) = (Org::new("Org1MSP", "org1"), Org::new("OrdererMSP", "orderer"));
    write_identity(&org, &folder.path().join("msp"));
    let block = genesis("trade", &orderer, &[&org]);

    let peer = Peer::start(config(folder.path())).await.unwrap();
    assert!(channels(&peer, &org).await.is_empty());
    peer.join(block.clone()).await.unwrap();
    assert_eq!(channels(&peer, &org).await, ["trade"]);
    assert_eq!(peer.height("trade"), Some(1));
    let again = peer.join(block).await.unwrap_err();
    assert_eq!(
        again.to_string(),
        "ledger [trade] already exists with state [ACTIVE]"
    );
    peer.stop().await;

    // What a crash in the middle of a join leaves is in nobody's way.
    std::fs::create_dir_all(folder.path().join("data/joining/half")).unwrap();
    let peer = Peer::start(config(folder.path())).await.unwrap();
    assert_eq!(channels(&peer, &org).await, ["trade"]);
    assert_eq!(peer.height("trade"), Some(1));
    let url = |path: &str| format!("http://{}{path}", peer.operations_address().unwrap());
    let http = HttpClient::new(ClientTls::default());
    for (path, expected) in [
        ("/healthz", "\"status\":\"OK\""),
        ("/version", env!("CARGO_PKG_VERSION")),
        ("/metrics", "ledger_blockchain_height{channel=\"trade\"} 1\n"),
        (
            "/metrics",
            "selvedge_block_source_connected{channel=\"trade\"} 0\n",
        ),
        ("/metrics", "\nendorser_proposals_received 1\n"),
        ("/metrics", "\nendorser_successful_proposals 1\n"),
        (
            "/metrics",
            "\nendorser_proposal_duration_count{chaincode=\"cscc\",channel=\"\",success=\"true\"} 1\n",
        ),
        (
            "/metrics",
            "\ngrpc_server_unary_requests_completed{code=\"Ok\",method=\"ProcessProposal\",service=\"protos_Endorser\"} 1\n",
        ),
        ("/metrics", "\nselvedge_identity_days_left "),
        ("/metrics", "\nprocess_open_fds "),
        ("/logspec", "{\"spec\":\"info\"}"),
    ] {
        let answer = http
            .request(Method::GET, &url(path), &[], Vec::new())
            .await
            .unwrap();
        assert_eq!(answer.status, 200);
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(text.contains(expected), "{text}");
    }
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let without_identity = Peer::start(config(folder.path())).await.unwrap_err();
    assert!(
        without_identity
            .to_string()
            .starts_with("identity of peer peer0: "),
        "{without_identity}"
    );
    let org = Org::new("Org1MSP", "org1");
    write_identity(&org, &folder.path().join("msp"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut busy = config(folder.path());
    busy.listen = taken.local_addr().unwrap().to_string();
    let busy = Peer::start(busy).await.unwrap_err();
    assert!(busy.to_string().contains("another process"), "{busy}");
    let peer = Peer::start(config(folder.path())).await.unwrap();
    let junk = peer.join(common::Block::default()).await.unwrap_err();
    assert!(matches!(junk, PeerError::Join(JoinError::Refused(_))), "{junk}");
    assert!(peer.channels().is_empty());
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_ends_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    write_identity(&Org::new("Org1MSP", "org1"), &folder.path().join("msp"));
    run(config(folder.path()), std::future::ready(())).await.unwrap();
}
