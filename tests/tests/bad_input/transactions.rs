//! Transactions that are altered, repeated or race with others.

use bytes::Bytes;
use prost::Message;
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::{common, protos};
use selvedge_sdk::{Error, Invocation, Nonce, Proposal, Transaction};
use selvedge_system_tests::crooked::with_high_s;
use selvedge_system_tests::{CHANNEL, Cases, Network, ORG1_PEER};
use std::time::{Duration, SystemTime};
use tonic::Code;

use super::{BUYER, SUPPLIER, assert_rpc, put, then_alive};

pub(crate) async fn all(network: &Network, cases: &mut Cases) {
    cases
        .run(
            "proposals with wrong signatures or ids",
            then_alive(network, proposals(network)),
        )
        .await;
    cases
        .run("the same transaction again", then_alive(network, again(network)))
        .await;
    cases
        .run(
            "transactions altered after endorsement",
            then_alive(network, altered(network)),
        )
        .await;
    cases
        .run(
            "two transactions on the same key",
            then_alive(network, race(network)),
        )
        .await;
}

/// A failure of the endorser's checks: FAILED_PRECONDITION from the gateway's own peer for Evaluate, a detail for Endorse.
async fn refused_by_endorser(network: &Network, what: &str, proposal: &Proposal, words: &str) {
    let gateway = network.gateway(BUYER);
    let error = gateway.evaluate_proposal(proposal).await.expect_err(what);
    assert_rpc(what, &error, Code::FailedPrecondition, words, None);
    let error = gateway.endorse(proposal).await.expect_err(what);
    let text = "failed to endorse transaction, see attached details for more info";
    assert_rpc(what, &error, Code::Aborted, text, Some(words));
    // Without a gateway the endorser answers with a plain gRPC error.
    let error = network
        .peer(ORG1_PEER)
        .process_proposal(proposal)
        .await
        .expect_err(what);
    assert_rpc(what, &error, Code::Unknown, words, None);
}

/// The proposal with an altered channel header, signed anew.
fn with_header(
    network: &Network,
    proposal: &Proposal,
    edit: impl FnOnce(&mut common::ChannelHeader),
) -> Proposal {
    let mut decoded = protos::Proposal::decode(proposal.bytes().clone()).unwrap();
    let mut header = common::Header::decode(decoded.header.clone()).unwrap();
    let mut channel_header = common::ChannelHeader::decode(header.channel_header.clone()).unwrap();
    edit(&mut channel_header);
    header.channel_header = channel_header.encode_to_vec().into();
    decoded.header = header.encode_to_vec().into();
    let bytes = Bytes::from(decoded.encode_to_vec());
    let signature = network.identity(BUYER).sign(&bytes).unwrap();
    let signed = protos::SignedProposal {
        proposal_bytes: bytes,
        signature,
    };
    let whole = selvedge_proto::gateway::ProposedTransaction {
        transaction_id: channel_header.tx_id,
        proposal: Some(signed),
        ..Default::default()
    };
    Proposal::from_bytes(whole.encode_to_vec().into()).unwrap()
}

async fn proposals(network: &Network) {
    let user = network.identity(BUYER);
    let good = network.gateway(BUYER).propose(&put()).unwrap();
    let denied = format!("access denied: channel [{CHANNEL}] creator org [Org1MSP]");

    let mut forged = good.clone();
    forged.set_signature(user.sign(b"something else").unwrap());
    refused_by_endorser(network, "a signature over something else", &forged, &denied).await;
    let mut forged = good.clone();
    forged.set_signature(with_high_s(&user.sign(good.bytes()).unwrap()));
    refused_by_endorser(network, "a signature with high S", &forged, &denied).await;
    let mut forged = good.clone();
    forged.set_signature(network.identity(SUPPLIER).sign(good.bytes()).unwrap());
    refused_by_endorser(network, "somebody else's signature", &forged, &denied).await;
    let mut forged = good.clone();
    forged.set_signature(Bytes::from_static(b"no signature at all"));
    refused_by_endorser(network, "no signature at all", &forged, &denied).await;

    let other_id = with_header(network, &good, |h| h.tx_id = "00".repeat(32));
    refused_by_endorser(network, "another id", &other_id, "incorrectly computed txid").await;
    let epoch = with_header(network, &good, |h| h.epoch = 7);
    refused_by_endorser(network, "an epoch", &epoch, "epoch is non-zero").await;
    let kind = with_header(network, &good, |h| h.r#type = common::HeaderType::Message as i32);
    refused_by_endorser(network, "another type", &kind, "invalid header type").await;

    let late = SystemTime::now() - Duration::from_secs(3600);
    let mut late = Proposal::new(&put(), user.creator(), &Nonce::random().unwrap(), late);
    late.sign(&user).unwrap();
    let error = network.gateway(BUYER).evaluate_proposal(&late).await.unwrap_err();
    let words = "request unauthorized due to incorrect timestamp";
    assert_rpc("an old time stamp", &error, Code::Unavailable, "", Some(words));
}

async fn again(network: &Network) {
    let gateway = network.gateway(BUYER);
    let proposal = gateway.propose(&put()).unwrap();
    let transaction = gateway.endorse(&proposal).await.unwrap();
    gateway.submit(&transaction).await.unwrap();
    gateway.submit(&transaction).await.unwrap();
    let status = gateway
        .commit_status(CHANNEL, transaction.transaction_id())
        .await
        .unwrap();
    assert!(status.is_valid());
    network.still_works().await;

    let duplicate = format!("duplicate transaction found [{}]", transaction.transaction_id());
    refused_by_endorser(network, "a proposal that has committed", &proposal, &duplicate).await;
    // Submitting it once more does no harm: it is ordered, and invalid; the first verdict stays.
    gateway.submit(&transaction).await.unwrap();
    network.still_works().await;
    let status = gateway
        .commit_status(CHANNEL, transaction.transaction_id())
        .await
        .unwrap();
    assert!(status.is_valid(), "{status:?}");
    let chain = selvedge_system_tests::checker::check(network).await;
    let copies = chain
        .transactions
        .iter()
        .filter(|t| t.id == transaction.transaction_id());
    assert_eq!(
        copies.map(|t| t.code).collect::<Vec<_>>(),
        [
            TxValidationCode::Valid,
            TxValidationCode::DuplicateTxid,
            TxValidationCode::DuplicateTxid
        ]
    );
}

/// Submits an altered copy of an endorsed transaction, signed anew by its creator, and gives the verdict.
async fn verdict(
    network: &Network,
    invocation: &Invocation,
    edit: impl FnOnce(&mut protos::ChaincodeActionPayload),
) -> TxValidationCode {
    let gateway = network.gateway(BUYER);
    let transaction = gateway
        .endorse(&gateway.propose(invocation).unwrap())
        .await
        .unwrap();
    let mut payload = common::Payload::decode(transaction.envelope().payload.clone()).unwrap();
    let mut inner = protos::Transaction::decode(payload.data.clone()).unwrap();
    let mut action = protos::ChaincodeActionPayload::decode(inner.actions[0].payload.clone()).unwrap();
    edit(&mut action);
    inner.actions[0].payload = action.encode_to_vec().into();
    payload.data = inner.encode_to_vec().into();
    let payload = Bytes::from(payload.encode_to_vec());
    let signature = network.identity(BUYER).sign(&payload).unwrap();
    let altered = Transaction::from_envelope(common::Envelope { payload, signature }).unwrap();
    gateway.submit(&altered).await.unwrap();
    gateway
        .commit_status(CHANNEL, altered.transaction_id())
        .await
        .unwrap()
        .code
}

fn endorsed(action: &mut protos::ChaincodeActionPayload) -> &mut protos::ChaincodeEndorsedAction {
    action.action.as_mut().unwrap()
}

async fn altered(network: &Network) {
    let offer = || {
        let id = format!("rfq-{:016x}", rand::random::<u64>());
        let offer = serde_json::json!({
            "id": id, "item": "steel", "price": "1", "quantity": "1", "currency": "USD", "target": "Org2MSP",
        });
        Invocation::new(CHANNEL, "rfq", "offer").arg(offer.to_string())
    };
    // The policy wants both organisations.
    let code = verdict(network, &offer(), |action| {
        drop(endorsed(action).endorsements.pop())
    })
    .await;
    assert_eq!(
        code,
        TxValidationCode::EndorsementPolicyFailure,
        "one endorsement of two"
    );
    let code = verdict(network, &offer(), |action| {
        let endorsements = &mut endorsed(action).endorsements;
        let first = endorsements[0].clone();
        *endorsements = vec![first.clone(), first];
    })
    .await;
    assert_eq!(
        code,
        TxValidationCode::EndorsementPolicyFailure,
        "one endorsement twice"
    );

    // What was endorsed is not what is written: neither signature nor anything else fits.
    let code = verdict(network, &put(), |action| {
        let action = endorsed(action);
        let mut response =
            protos::ProposalResponsePayload::decode(action.proposal_response_payload.clone()).unwrap();
        let mut result = protos::ChaincodeAction::decode(response.extension.clone()).unwrap();
        let mut rwset = selvedge_proto::rwset::TxReadWriteSet::decode(result.results.clone()).unwrap();
        for namespace in rwset.ns_rwset.iter_mut().filter(|n| n.namespace == "probe") {
            let mut kv = selvedge_proto::kvrwset::KvrwSet::decode(namespace.rwset.clone()).unwrap();
            kv.writes[0].value = Bytes::from_static(b"a million");
            namespace.rwset = kv.encode_to_vec().into();
        }
        result.results = rwset.encode_to_vec().into();
        response.extension = result.encode_to_vec().into();
        action.proposal_response_payload = response.encode_to_vec().into();
    })
    .await;
    assert_eq!(
        code,
        TxValidationCode::EndorsementPolicyFailure,
        "another write than was endorsed"
    );

    // The endorsement belongs to another proposal.
    let code = verdict(network, &put(), |action| {
        let action = endorsed(action);
        let mut response =
            protos::ProposalResponsePayload::decode(action.proposal_response_payload.clone()).unwrap();
        response.proposal_hash = Bytes::from_static(&[7; 32]);
        action.proposal_response_payload = response.encode_to_vec().into();
    })
    .await;
    assert_ne!(code, TxValidationCode::Valid, "another proposal hash");
}

async fn race(network: &Network) {
    let key = format!("race-{:016x}", rand::random::<u64>());
    let gateway = network.gateway(BUYER);
    let add = |value: &str| {
        Invocation::new(CHANNEL, "probe", "add")
            .arg(key.as_str())
            .arg(value)
    };
    let mut transactions = Vec::new();
    for value in ["1", "2", "3"] {
        transactions.push(
            gateway
                .endorse(&gateway.propose(&add(value)).unwrap())
                .await
                .unwrap(),
        );
    }
    for transaction in &transactions {
        gateway.submit(transaction).await.unwrap();
    }
    let mut codes = Vec::new();
    for transaction in &transactions {
        let status = gateway
            .commit_status(CHANNEL, transaction.transaction_id())
            .await
            .unwrap();
        codes.push(status.code);
        if !status.is_valid() {
            let error = status.ok().unwrap_err();
            assert!(matches!(error, Error::Commit(_)));
            assert!(
                error
                    .to_string()
                    .ends_with("failed to commit with status code 11 (MVCC_READ_CONFLICT)"),
                "{error}"
            );
        }
    }
    let conflict = TxValidationCode::MvccReadConflict;
    assert_eq!(codes, [TxValidationCode::Valid, conflict, conflict]);
    let get = Invocation::new(CHANNEL, "probe", "get").arg(key.as_str());
    assert_eq!(gateway.evaluate(&get).await.unwrap(), "1");
}
