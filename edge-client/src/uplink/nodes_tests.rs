//! The nodes, with a peer that answers what a test tells it to.

use bytes::Bytes;
use prost::Message;
use selvedge_proto::{common, protos};

use super::*;
use crate::testing::{Called, FakePeer, identity};

struct NoStages;

impl Stages for NoStages {
    fn reached(&self, _: State) {}

    async fn submitting(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn nodes(mode: &str, peers: &[&str]) -> Nodes {
    let peers: Vec<_> = peers
        .iter()
        .map(|address| serde_json::json!({ "address": address, "msp_id": "Org1MSP" }))
        .collect();
    let config = serde_json::json!({ "mode": mode, "peers": peers, "deadline": "5s" });
    Nodes::new(serde_json::from_value(config).unwrap()).unwrap()
}

#[test]
fn what_a_peer_does_not_tell_ends_no_request() {
    let refused = || Error::Refused {
        endorser: "peer0:7051".into(),
        status: 500,
        message: "access denied for [GetChannelConfig][trade]".into(),
    };
    assert_eq!(meaning(&refused()), Meaning::Refused, "as the contract's answer");
    let error = not_of_the_contract(refused());
    assert_eq!(meaning(&error), Meaning::Held);
    assert!(error.to_string().contains("access denied"), "{error}");
}

#[test]
fn those_who_come_late_do_not_turn_back() {
    let nodes = nodes("gateway", &["p0:1", "p1:1", "p2:1"]);
    assert!(nodes.move_on("trade", 0));
    assert!(!nodes.move_on("trade", 0), "it was left before");
    assert_eq!((nodes.peer_index("trade"), nodes.peer_index("other")), (1, 0));
    assert!(nodes.move_on("trade", 1) && nodes.move_on("trade", 2));
    assert_eq!(nodes.peer_index("trade"), 0);
}

fn answer(status: i32, message: &str, payload: impl Into<Bytes>) -> protos::Response {
    protos::Response {
        status,
        message: message.to_owned(),
        payload: payload.into(),
    }
}

fn config(sequence: u64) -> Vec<u8> {
    let group = common::ConfigGroup::default;
    let groups = [
        ("Orderer".to_owned(), group()),
        ("Application".to_owned(), group()),
    ];
    common::Config {
        sequence,
        channel_group: Some(common::ConfigGroup {
            groups: groups.into(),
            ..group()
        }),
    }
    .encode_to_vec()
}

#[tokio::test]
async fn a_configuration_that_may_be_old_is_read_again() {
    let peer = FakePeer::start(|called: &Called| match called.function.as_str() {
        "GetChannelConfig" => answer(200, "", config(called.times)),
        "QueryChaincodeDefinition" => answer(500, "access denied", ""),
        // An endorsement that is not usable.
        _ => answer(500, "make sure the chaincode is defined", ""),
    })
    .await;
    let mut nodes = nodes("direct", &[&peer.address]);
    let me = identity();
    let attempt = async |nodes: &Nodes| {
        let invocation = Invocation::new("trade", "shipment", "f");
        let nonce = Nonce::random().unwrap();
        let failed = nodes
            .attempt(&me, &invocation, &nonce, &NoStages)
            .await
            .unwrap_err();
        assert!(failed.error.to_string().contains("make sure"), "{}", failed.error);
    };
    attempt(&nodes).await;
    attempt(&nodes).await;
    assert_eq!(peer.calls("GetChannelConfig"), 1, "it was read a moment ago");
    nodes.read_again = Duration::ZERO;
    attempt(&nodes).await;
    assert_eq!(peer.calls("GetChannelConfig"), 2);
    let direct = nodes.direct.lock().values().next().unwrap().clone();
    assert_eq!(direct.info.sequence, 2);
}

#[tokio::test]
async fn what_is_not_on_the_ledger_may_be_where_nobody_looked() {
    let peer_with = async |height| {
        FakePeer::start(move |called: &Called| match called.function.as_str() {
            "GetChainInfo" => {
                let info = common::BlockchainInfo {
                    height,
                    ..Default::default()
                };
                answer(200, "", info.encode_to_vec())
            }
            _ => answer(500, "no such transaction ID [t] in index", ""),
        })
        .await
    };
    let (low, high) = (peer_with(7).await, peer_with(9).await);
    let outside = FakePeer::start(|_: &Called| answer(500, "channel 'trade' not found", "")).await;
    let me = identity();
    let look = async |nodes: &Nodes| nodes.look_up(&me, "trade", "t").await.unwrap().unwrap_err();

    let all = nodes("gateway", &[&low.address, &high.address, &outside.address]);
    let absence = look(&all).await;
    assert_eq!(absence.heights, (7, 9));
    assert_eq!(absence.doubt, "", "the one outside the channel cannot have it");

    let one_silent = nodes("gateway", &[&low.address, "127.0.0.1:1"]);
    let doubt = look(&one_silent).await.doubt;
    assert!(doubt.contains("127.0.0.1:1 may have it"), "{doubt}");

    let behind = nodes("gateway", &[&low.address]);
    assert_eq!(look(&behind).await.doubt, "");
    behind.saw_height("other", 9);
    assert_eq!(look(&behind).await.doubt, "");
    behind.saw_height("trade", 9);
    let doubt = look(&behind).await.doubt;
    assert!(doubt.contains("9 were seen"), "{doubt}");

    let nobody = nodes("gateway", &[&outside.address]);
    let error = nobody.look_up(&me, "trade", "t").await.unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
}
