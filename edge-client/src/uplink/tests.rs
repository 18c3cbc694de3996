//! What becomes of requests, without a network or with a peer that answers what a test tells it to.

use std::path::Path;

use selvedge_proto::protos;
use serde_json::json;

use super::*;
use crate::buffer::{BufferOptions, TransactionRequest};
use crate::testing::{Called, FakeGateway, FakePeer, Fate as Ordered, identity};

#[tokio::test]
async fn what_is_missed_is_given_up_when_the_channel_has_gone_on() {
    let since = Instant::now();
    let doubt = Doubt { since, height: 10 };
    let after = |seconds| since + Duration::from_secs(seconds);
    assert!(!doubt.is_over(11, false, after(29)), "too early");
    assert!(!doubt.is_over(10, false, after(31)), "no block since");
    assert!(!doubt.is_over(4, true, after(31)), "one peer is behind");
    assert!(doubt.is_over(11, false, after(31)));
    assert!(doubt.is_over(10, true, after(601)), "nothing happens there");
    assert!(
        !doubt.is_over(10, false, after(6000)),
        "nothing can be ordered there"
    );
}

/// A gateway with these peers, whose pauses do not end while a test runs.
fn uplink(folder: &Path, mode: &str, peers: &[&str]) -> Arc<Uplink> {
    let peers: Vec<_> = peers
        .iter()
        .map(|address| json!({ "address": address, "msp_id": "Org1MSP" }))
        .collect();
    let config = json!({ "mode": mode, "peers": peers, "first_pause": "1h", "longest_pause": "4h" });
    let config = serde_json::from_value(config).unwrap();
    let buffer = Arc::new(Buffer::open(&folder.join("buffer"), BufferOptions::default()).unwrap());
    let first = identity();
    let key = first.private_key().clone();
    let identities = Identities::open(&folder.join("identities"), "Org1MSP", first, &key).unwrap();
    Arc::new(Uplink::new(buffer, identities, config).unwrap())
}

async fn accept(uplink: &Uplink, channel: &str) -> Job {
    let request = TransactionRequest {
        channel: channel.into(),
        chaincode: "shipment".into(),
        function: "f".into(),
        retry_conflicts: true,
        ..TransactionRequest::default()
    };
    let id = uplink.current_identity();
    uplink.buffer.accept(request, id).await.unwrap();
    uplink.buffer.take_due(1).await.remove(0)
}

async fn is_idle(uplink: &Uplink) -> bool {
    uplink.buffer.take_due(9).await.is_empty()
}

/// A gateway whose only peer says this, and a request under an identity which another has replaced since.
async fn superseded(folder: &Path, says: &'static str) -> (Arc<Uplink>, Job, FakePeer) {
    let peer = FakePeer::start(move |_: &Called| protos::Response {
        status: 500,
        message: says.to_owned(),
        ..Default::default()
    })
    .await;
    let uplink = uplink(folder, "direct", &[&peer.address]);
    let job = accept(&uplink, "trade").await;
    uplink.adopt(identity()).unwrap();
    assert_ne!(job.identity, uplink.current_identity());
    (uplink, job, peer)
}

#[tokio::test]
async fn a_refused_identity_gives_way_to_the_one_that_replaced_it() {
    let folder = tempfile::tempdir().unwrap();
    let denied = "access denied: channel [trade] creator org [Org1MSP]";
    let (uplink, job, _peer) = superseded(folder.path(), denied).await;
    let id = job.id;
    uplink.send(job).await;
    let again = uplink.buffer.take_due(1).await.remove(0);
    assert_eq!((again.id, again.identity), (id, uplink.current_identity()));
    // The current one has nobody to give way to.
    uplink.send(again).await;
    assert!(is_idle(&uplink).await, "it is held");
}

#[tokio::test]
async fn an_identity_that_is_not_refused_stays() {
    let folder = tempfile::tempdir().unwrap();
    let undefined = "make sure the chaincode shipment has been successfully defined";
    let (uplink, job, _peer) = superseded(folder.path(), undefined).await;
    let old = job.identity;
    uplink.send(job).await;
    assert!(uplink.buffer.identities().contains(&old));
    assert!(is_idle(&uplink).await, "it is held");
}

#[tokio::test]
async fn who_loses_a_race_waits_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let code = protos::TxValidationCode::MvccReadConflict;
    let peer = FakeGateway::start(Ordered::Judged(code)).await;
    let uplink = uplink(folder.path(), "gateway", &[&peer]);
    let job = accept(&uplink, "trade").await;
    let id = job.id;
    uplink.send(job).await;
    let lost = uplink.buffer.view(id).unwrap();
    assert_eq!(lost.state, State::Refused);
    let follower = uplink.buffer.view(lost.followed_by).unwrap();
    assert_eq!(follower.state, State::PendingEndorsement);
    assert!(is_idle(&uplink).await, "it waits");
}

#[tokio::test]
async fn what_no_orderer_takes_holds_its_channel_once_all_peers_have_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (
        FakeGateway::start(Ordered::NotOrdered).await,
        FakeGateway::start(Ordered::NotOrdered).await,
    );
    let uplink = uplink(folder.path(), "gateway", &[&first, &second]);
    let (one, other) = (accept(&uplink, "trade").await, accept(&uplink, "other").await);
    let target = one.target;
    uplink.send(one.clone()).await;
    let all_failed = || {
        let held = uplink.held.lock();
        held.get(&target).is_some_and(Hold::all_failed_once)
    };
    assert!(!all_failed(), "the second peer was not asked yet");
    assert!(uplink.view().connected, "somebody answered");
    uplink.goes_on(&one, State::EndorsementError);
    assert!(
        uplink.held.lock().contains_key(&target),
        "an endorsement orders nothing"
    );
    assert!(is_idle(&uplink).await, "its channel waits");
    // The other channel is served by the first peer as far as anybody knows.
    uplink.send(other.clone()).await;
    assert_eq!(uplink.view().peer, first);
    uplink.goes_on(&other, State::CommitError);
    let again = accept(&uplink, "other").await;
    uplink.send(again).await;
    assert_eq!(uplink.view().peer, second);
}
