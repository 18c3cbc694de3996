//! A peer with two channels: whoever is a member of one only hears of the other what he hears of a channel that is not there.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvedge_comm::Endpoint;
use selvedge_msp::SigningIdentity;
use selvedge_proto::gateway::gateway_server::Gateway;
use selvedge_proto::protos::deliver_client::DeliverClient;
use selvedge_proto::{common, gateway, orderer, protos};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::context::PeerContext;
use crate::endorser::EndorseOutcome;
use crate::gateway::test_world::{World, serve, world};
use crate::test_network::{Org, ask, draft, genesis, now};

/// Of the same length, so that answers can be compared after putting one name for the other.
const SECRET: &str = "secret";
const ABSENT: &str = "absent";

/// The first peer's second channel, of its own organisation alone.
async fn two_channels() -> World {
    let world = world(0).await;
    let orderer = Org::new("SecretOrdererMSP", "orderer");
    let block = genesis(SECRET, &orderer, &[&world.consortium.orgs[0]]);
    let peer = Arc::clone(&world.consortium.peers[0]);
    tokio::task::spawn_blocking(move || peer.join_channel(block))
        .await
        .unwrap()
        .unwrap();
    world
}

fn told<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(status) => {
            let details = String::from_utf8_lossy(status.details()).into_owned();
            format!("{:?} {} {details:?}", status.code(), status.message())
        }
    }
}

/// Who asks: whose identity is shown, and whose key signs.
struct Asker<'a> {
    shown: &'a SigningIdentity,
    signs: &'a SigningIdentity,
}

impl Asker<'_> {
    fn proposal(&self, channel: &str, chaincode: &str, args: &[&[u8]]) -> protos::SignedProposal {
        draft(self.shown, &ask(channel, chaincode, args)).sign(self.signs)
    }

    fn envelope(&self, kind: common::HeaderType, channel: &str, data: Bytes) -> common::Envelope {
        let header = common::Header {
            channel_header: common::ChannelHeader {
                r#type: kind as i32,
                timestamp: Some(prost_types::Timestamp {
                    seconds: now(),
                    nanos: 0,
                }),
                channel_id: channel.to_owned(),
                ..Default::default()
            }
            .encode_to_vec()
            .into(),
            signature_header: common::SignatureHeader {
                creator: self.shown.creator().clone(),
                nonce: Bytes::from_static(b"nonce"),
            }
            .encode_to_vec()
            .into(),
        };
        let payload = common::Payload {
            header: Some(header),
            data,
        };
        let payload = Bytes::from(payload.encode_to_vec());
        common::Envelope {
            signature: self.signs.sign(&payload).unwrap(),
            payload,
        }
    }
}

/// Every answer of the peer about a channel, by the question.
async fn answers(world: &World, peer: &str, asker: &Asker<'_>, channel: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut note = |question: &str, answer: String| all.push((question.to_owned(), answer));
    let gateway = &world.gateway;
    for orgs in [&[][..], &["Org1MSP".to_owned()][..]] {
        let request = gateway::EndorseRequest {
            channel_id: channel.to_owned(),
            proposed_transaction: Some(asker.proposal(channel, "cc", &[b"f"])),
            endorsing_organizations: orgs.to_vec(),
            ..Default::default()
        };
        note("endorse", told(gateway.endorse(Request::new(request)).await));
        let request = gateway::EvaluateRequest {
            channel_id: channel.to_owned(),
            proposed_transaction: Some(asker.proposal(channel, "cc", &[b"f"])),
            target_organizations: orgs.to_vec(),
            ..Default::default()
        };
        note("evaluate", told(gateway.evaluate(Request::new(request)).await));
    }
    for named in [channel, "trade"] {
        let request = gateway::SubmitRequest {
            channel_id: channel.to_owned(),
            prepared_transaction: Some(asker.envelope(
                common::HeaderType::EndorserTransaction,
                named,
                Bytes::new(),
            )),
            ..Default::default()
        };
        note("submit", told(gateway.submit(Request::new(request)).await));
    }
    let request = gateway::CommitStatusRequest {
        transaction_id: "tx".into(),
        channel_id: channel.to_owned(),
        identity: asker.shown.creator().clone(),
    };
    let request = Bytes::from(request.encode_to_vec());
    let signed = gateway::SignedCommitStatusRequest {
        signature: asker.signs.sign(&request).unwrap(),
        request,
    };
    note("status", told(gateway.commit_status(Request::new(signed)).await));
    let request = gateway::ChaincodeEventsRequest {
        channel_id: channel.to_owned(),
        chaincode_id: "cc".into(),
        identity: asker.shown.creator().clone(),
        ..Default::default()
    };
    let request = Bytes::from(request.encode_to_vec());
    let signed = gateway::SignedChaincodeEventsRequest {
        signature: asker.signs.sign(&request).unwrap(),
        request,
    };
    let events = gateway.chaincode_events(Request::new(signed)).await;
    note("events", told(events.map(|_| "a stream")));

    let name = channel.as_bytes();
    let calls: [(&str, &str, &[&[u8]]); 9] = [
        (channel, "cc", &[b"f"]),
        (channel, "_lifecycle", &[b"QueryChaincodeDefinitions", b""]),
        (channel, "qscc", &[b"GetChainInfo", name]),
        ("trade", "qscc", &[b"GetChainInfo", name]),
        ("trade", "qscc", &[b"GetBlockByNumber", name, b"0"]),
        ("trade", "qscc", &[b"Junk", name]),
        ("trade", "cscc", &[b"GetConfigBlock", name]),
        ("trade", "cscc", &[b"GetChannelConfig", name]),
        ("", "cscc", &[b"GetChannels"]),
    ];
    for (on, chaincode, args) in calls {
        let outcome = world.consortium.endorsers[0].process(&asker.proposal(on, chaincode, args));
        let said = match outcome {
            EndorseOutcome::Answered(answer) => format!("{:?}", answer.response),
            other => format!("{other:?}"),
        };
        note(&format!("{chaincode} {}", String::from_utf8_lossy(args[0])), said);
    }
    let mut malformed = draft(asker.shown, &ask(channel, "cc", &[b"f"]));
    malformed.channel_header.epoch = 1;
    let outcome = world.consortium.endorsers[0].process(&malformed.sign(asker.signs));
    note("a malformed proposal", format!("{outcome:?}"));

    let position = |at| orderer::SeekPosition { r#type: Some(at) };
    let whole = orderer::SeekInfo {
        start: Some(position(orderer::seek_position::Type::Oldest(Default::default()))),
        stop: Some(position(orderer::seek_position::Type::Newest(Default::default()))),
        ..Default::default()
    };
    for seek in [Bytes::from(whole.encode_to_vec()), Bytes::from_static(&[0xff])] {
        for variant in 0..3 {
            let (requests, outbound) = mpsc::channel(1);
            let seek = asker.envelope(common::HeaderType::DeliverSeekInfo, channel, seek.clone());
            requests.send(seek).await.unwrap();
            let mut client = DeliverClient::new(Endpoint::plain(peer).connect().await.unwrap());
            let outbound = ReceiverStream::new(outbound);
            let stream = match variant {
                0 => client.deliver(outbound).await,
                1 => client.deliver_filtered(outbound).await,
                _ => client.deliver_with_private_data(outbound).await,
            };
            let first = stream.unwrap().into_inner().message().await;
            note("deliver", told(first));
        }
    }
    all
}

async fn compare(world: &World, asker: &Asker<'_>) -> Vec<(String, String)> {
    let routes = tonic::service::Routes::new(world.deliver.server());
    let peer = serve(routes, world.shutdown.clone()).await;
    let secret = answers(world, &peer, asker, SECRET).await;
    let absent = answers(world, &peer, asker, ABSENT).await;
    for ((question, secret), (_, absent)) in secret.iter().zip(&absent) {
        assert_eq!(secret.replace(SECRET, ABSENT), *absent, "{question}");
    }
    absent
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_another_channel_find_none() {
    let world = two_channels().await;
    let stranger = world.consortium.orgs[1].client("eve", &[]);
    let asker = Asker {
        shown: &stranger,
        signs: &stranger,
    };
    let heard = compare(&world, &asker).await;
    let answer = |question: &str| &heard.iter().find(|(q, _)| q == question).unwrap().1;
    assert!(answer("endorse").starts_with("FailedPrecondition channel 'absent' not found"));
    assert!(answer("events").starts_with("NotFound "), "{}", answer("events"));
    assert!(
        answer("deliver").contains("Status(NotFound)"),
        "{}",
        answer("deliver")
    );
    assert!(answer("qscc GetBlockByNumber").contains("Invalid chain ID, absent"));
    // A member finds it.
    let member = world.client();
    let response = world
        .consortium
        .response(0, &member, &ask(SECRET, "qscc", &[b"GetChainInfo", b"secret"]));
    assert_eq!(response.status, 200, "{}", response.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_proves_nothing_is_denied_everything() {
    let world = two_channels().await;
    let nobody = Org::new("OtherMSP", "other").client("eve", &[]);
    let member = world.client();
    for asker in [
        Asker {
            shown: &nobody,
            signs: &nobody,
        },
        // A member's certificate is no secret; without the key it is of no use.
        Asker {
            shown: &member,
            signs: &nobody,
        },
        Asker {
            shown: &world.consortium.orgs[1].client("mallory", &[]),
            signs: &nobody,
        },
    ] {
        let heard = compare(&world, &asker).await;
        let answer = |question: &str| &heard.iter().find(|(q, _)| q == question).unwrap().1;
        assert!(
            answer("cc f").contains("access denied: channel [absent] creator org"),
            "{}",
            answer("cc f")
        );
        assert!(
            answer("events").starts_with("PermissionDenied "),
            "{}",
            answer("events")
        );
        assert!(
            answer("deliver").contains("Status(Forbidden)"),
            "{}",
            answer("deliver")
        );
    }
}
