//! Bad input of every kind gets a precise answer; nothing crashes, nothing is lost (spec 04 §2, 05 §1, 08 §1).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

mod contracts;
mod identities;
mod requests;
mod transactions;

use selvedge_proto::gateway::gateway_client::GatewayClient;
use selvedge_proto::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use selvedge_proto::{common, orderer};
use selvedge_sdk::{Error, Gateway, Invocation};
use selvedge_system_tests::{CHANNEL, Cases, Network, ORG1_PEER, Options, case, checker, within};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status};

pub(crate) const BUYER: &str = "User1@org1.example.com";
pub(crate) const SUPPLIER: &str = "User1@org2.example.com";
/// Small, so that an envelope that is too large is made quickly.
pub(crate) const ABSOLUTE_MAX_BYTES: u32 = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_gets_a_precise_answer() {
    let options = Options {
        absolute_max_bytes: ABSOLUTE_MAX_BYTES,
        orderers: 1,
        ..Options::default()
    };
    let network = Network::up(options).await;
    network.still_works().await;

    let mut cases = Cases::default();
    requests::all(&network, &mut cases).await;
    transactions::all(&network, &mut cases).await;
    contracts::all(&network, &mut cases).await;
    identities::all(&network, &mut cases).await;

    case("the chain is sound", async {
        drop(checker::check(&network).await)
    })
    .await;
    cases.finish();
    network.down().await;
}

/// A case, after which the network works as before.
pub(crate) async fn then_alive(network: &Network, case: impl Future<Output = ()>) {
    case.await;
    network.still_works().await;
}

/// A plain connection to a node.
pub(crate) fn channel(network: &Network, host: &str) -> Channel {
    network.endpoint(host).connect_lazy().unwrap()
}

/// The generated client of the first peer's gateway.
pub(crate) fn gateway_client(network: &Network) -> GatewayClient<Channel> {
    let most = 512 * 1024 * 1024;
    GatewayClient::new(channel(network, ORG1_PEER)).max_encoding_message_size(most)
}

/// Panics unless a status has this code and begins with this text.
pub(crate) fn assert_status(what: &str, status: &Status, code: Code, text: &str) {
    assert_eq!(status.code(), code, "{what}: {status:?}");
    assert!(
        status.message().starts_with(text),
        "{what}: should begin with '{text}': {}",
        status.message()
    );
}

/// Panics unless a failure of the client has this code, this text, and, when given, one detail with that text.
pub(crate) fn assert_rpc(what: &str, error: &Error, code: Code, text: &str, detail: Option<&str>) {
    let Error::Rpc(rpc) = error else {
        panic!("{what}: {error}")
    };
    assert_eq!(rpc.code, code, "{what}: {error}");
    assert!(rpc.message.contains(text), "{what}: should say '{text}': {error}");
    if let Some(detail) = detail {
        assert!(
            rpc.details.iter().any(|d| d.message.contains(detail)),
            "{what}: a detail should say '{detail}': {error}"
        );
        assert!(
            rpc.details
                .iter()
                .all(|d| d.address.contains(':') && d.msp_id.ends_with("MSP")),
            "{what}: {error}"
        );
    }
}

/// A call that the contract refuses: UNKNOWN with its words for Evaluate, ABORTED with them in the details for Endorse
/// (spec 04 §2.2, §2.3).
pub(crate) async fn refused_by_contract(gateway: &Gateway, call: &Invocation, status: i32, words: &str) {
    let what = format!("{} {call:?}", call.chaincode());
    let response = format!("chaincode response {status}, ");
    let evaluated = gateway.evaluate(call).await.expect_err(&what);
    let expected = format!("evaluate call to endorser returned error: {response}");
    assert_rpc(&what, &evaluated, Code::Unknown, &expected, Some(&response));
    assert!(
        evaluated.to_string().contains(words),
        "{what}: should say '{words}': {evaluated}"
    );

    let endorsed = gateway
        .endorse(&gateway.propose(call).unwrap())
        .await
        .expect_err(&what);
    let expected = "failed to endorse transaction, see attached details for more info";
    assert_rpc(&what, &endorsed, Code::Aborted, expected, Some(&response));
    let (told, message) = endorsed.contract_refusal().expect("the contract's words");
    assert_eq!(told, status);
    assert!(message.contains(words), "{what}: should say '{words}': {message}");
}

/// Sends envelopes to an orderer on one stream and reads the answers until it ends.
pub(crate) async fn broadcast(
    network: &Network,
    envelopes: Vec<common::Envelope>,
) -> Vec<orderer::BroadcastResponse> {
    let host = network.orderers().remove(0);
    let mut client =
        AtomicBroadcastClient::new(channel(network, &host)).max_encoding_message_size(512 * 1024 * 1024);
    let answers = client
        .broadcast(tokio_stream::iter(envelopes))
        .await
        .expect("a stream")
        .into_inner();
    let read = async {
        let mut all = Vec::new();
        let mut answers = answers;
        while let Some(answer) = answers.message().await.expect("Broadcast ends with OK") {
            all.push(answer);
        }
        all
    };
    within("the answers of Broadcast", Duration::from_secs(30), read).await
}

/// Panics unless the orderer refuses an envelope with this status and text, and ends the stream.
pub(crate) async fn refused_by_orderer(
    network: &Network,
    what: &str,
    envelope: common::Envelope,
    status: common::Status,
    text: &str,
) {
    let answers = broadcast(network, vec![envelope, common::Envelope::default()]).await;
    assert_eq!(
        answers.len(),
        1,
        "{what}: the stream ends with the first refusal: {answers:?}"
    );
    assert_eq!(answers[0].status, status as i32, "{what}: {answers:?}");
    assert!(
        answers[0].info.contains(text),
        "{what}: should say '{text}': {answers:?}"
    );
}

/// A new key for the probe.
pub(crate) fn put() -> Invocation {
    Invocation::new(CHANNEL, "probe", "put")
        .arg(format!("k{:016x}", rand::random::<u64>()))
        .arg("1")
}
