//! The direct client's checks, with real certificates and signatures.

use prost::Message;
use selvedge_msp::policy::dsl;
use selvedge_proto::{kvrwset, open_payload, rwset};

use super::*;
use crate::testing::{FakeOrderer, FakePeer, NEWEST, Org, Says, manager};

fn payload(value: &'static str) -> Bytes {
    let kv = kvrwset::KvrwSet {
        writes: vec![kvrwset::KvWrite {
            key: "S-1".into(),
            is_delete: false,
            value: Bytes::from_static(value.as_bytes()),
        }],
        ..Default::default()
    };
    let sets = rwset::TxReadWriteSet {
        ns_rwset: vec![rwset::NsReadWriteSet {
            namespace: "shipment".into(),
            rwset: kv.encode_to_vec().into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let action = protos::ChaincodeAction {
        results: sets.encode_to_vec().into(),
        response: Some(protos::Response {
            status: 200,
            message: String::new(),
            payload: Bytes::from_static(b"done"),
        }),
        ..Default::default()
    };
    protos::ProposalResponsePayload {
        proposal_hash: Bytes::new(),
        extension: action.encode_to_vec().into(),
    }
    .encode_to_vec()
    .into()
}

fn answer(peer: &SigningIdentity, value: &'static str) -> Answer {
    let payload = payload(value);
    let endorser = peer.creator().clone();
    let signature = peer
        .sign(&[payload.as_ref(), endorser.as_ref()].concat())
        .unwrap();
    Answer {
        from: format!("peer of {}", peer.msp_id()),
        payload,
        endorsement: protos::Endorsement { endorser, signature },
    }
}

struct World {
    org1: Org,
    org2: Org,
    client: DirectClient,
}

fn world(policy: Option<&str>) -> World {
    let (org1, org2) = (Org::new("Org1MSP"), Org::new("Org2MSP"));
    let client = DirectClient::new(DirectConfig {
        identity: org1.identity("device-1", "client"),
        endorsers: vec![PeerAddress {
            msp_id: "Org1MSP".into(),
            endpoint: Endpoint::plain("127.0.0.1:1"),
        }],
        orderers: Vec::new(),
        events: Vec::new(),
        msps: manager(&[&org1, &org2]),
        policy: policy.map(|text| dsl::parse(text).unwrap()),
        deadlines: Deadlines::default(),
    })
    .unwrap();
    World { org1, org2, client }
}

fn propose(world: &World) -> Proposal {
    world
        .client
        .propose(&Invocation::new("trade", "shipment", "create"))
        .unwrap()
}

// The connections are lazy, and making one needs a runtime.
#[tokio::test]
async fn a_full_set_of_endorsements_makes_a_signed_envelope() {
    let world = world(Some("AND('Org1MSP.peer','Org2MSP.peer')"));
    let (p1, p2) = (
        world.org1.identity("p1", "peer"),
        world.org2.identity("p2", "peer"),
    );
    let proposal = propose(&world);
    let answers = vec![answer(&p1, "1"), answer(&p2, "1"), answer(&p1, "1")];
    let transaction = world.client.assemble(&proposal, answers).unwrap();
    assert_eq!(transaction.transaction_id(), proposal.transaction_id());
    assert_eq!(transaction.result().as_ref(), b"done");
    let envelope = transaction.envelope();
    let me = world.client.identity();
    me.identity()
        .verify(&envelope.payload, &envelope.signature)
        .unwrap();
    let (payload, _, _) = open_payload(envelope.payload.clone()).unwrap();
    let tx = protos::Transaction::decode(payload.data).unwrap();
    let action = protos::ChaincodeActionPayload::decode(tx.actions[0].payload.clone()).unwrap();
    // The doubled endorser is left out.
    assert_eq!(action.action.unwrap().endorsements.len(), 2);
}

#[tokio::test]
async fn a_forged_endorsement_is_named() {
    let world = world(None);
    let p1 = world.org1.identity("p1", "peer");
    let mut forged = answer(&p1, "1");
    forged.endorsement.signature = p1.sign(b"something else").unwrap();
    let error = world.client.assemble(&propose(&world), vec![forged]).unwrap_err();
    let Error::Endorsement { endorser, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(endorser, "peer of Org1MSP");
}

#[tokio::test]
async fn a_stranger_cannot_endorse() {
    let world = world(None);
    let stranger = Org::new("Org3MSP").identity("p3", "peer");
    let impostor = Org::new("Org1MSP").identity("p1", "peer");
    for endorser in [stranger, impostor] {
        let error = world
            .client
            .assemble(&propose(&world), vec![answer(&endorser, "1")])
            .unwrap_err();
        assert!(matches!(error, Error::Endorsement { .. }), "{error}");
    }
}

#[tokio::test]
async fn too_few_endorsements_are_not_submitted() {
    let world = world(Some("AND('Org1MSP.peer','Org2MSP.peer')"));
    let p1 = world.org1.identity("p1", "peer");
    let error = world
        .client
        .assemble(&propose(&world), vec![answer(&p1, "1")])
        .unwrap_err();
    assert!(matches!(error, Error::PolicyNotMet(_)), "{error}");
    assert!(error.to_string().contains("Org2MSP"), "{error}");
}

#[tokio::test]
async fn a_lying_endorser_is_found() {
    let world = world(None);
    let (p1, p2) = (
        world.org1.identity("p1", "peer"),
        world.org2.identity("p2", "peer"),
    );
    let error = world
        .client
        .assemble(&propose(&world), vec![answer(&p1, "1"), answer(&p2, "2")])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "endorsements of peer of Org1MSP and peer of Org2MSP differ: write of shipment/S-1: \"1\" against \"2\""
    );
}

#[tokio::test]
async fn an_organisation_without_endorser_is_named_before_anything_is_sent() {
    let world = world(None);
    let invocation = Invocation::new("trade", "cc", "f").endorsing_orgs(["Org2MSP"]);
    let proposal = world.client.propose(&invocation).unwrap();
    let error = world.client.endorse(&proposal).await.unwrap_err();
    assert!(error.to_string().contains("Org2MSP"), "{error}");
}

#[tokio::test]
async fn without_orderers_the_submission_says_so() {
    let world = world(None);
    let p1 = world.org1.identity("p1", "peer");
    let transaction = world
        .client
        .assemble(&propose(&world), vec![answer(&p1, "1")])
        .unwrap();
    let error = world.client.submit(&transaction).await.unwrap_err();
    assert!(error.to_string().contains("no orderer is configured"), "{error}");
}

fn response(status: i32, payload: &'static [u8], endorsed: bool) -> protos::ProposalResponse {
    protos::ProposalResponse {
        response: Some(protos::Response {
            status,
            message: "words".into(),
            payload: Bytes::new(),
        }),
        payload: Bytes::from_static(payload),
        endorsement: endorsed.then(protos::Endorsement::default),
        ..Default::default()
    }
}

#[test]
fn only_endorsed_answers_are_accepted() {
    assert!(accept("p", response(200, b"x", true)).is_ok());
    assert!(matches!(
        accept("p", response(200, b"x", false)),
        Err(Error::Malformed { .. })
    ));
    assert!(matches!(
        accept("p", response(404, b"", false)),
        Err(Error::Refused { status: 404, .. })
    ));
    assert!(matches!(
        accept("p", response(500, b"x", false)),
        Err(Error::Refused { status: 500, .. })
    ));
    // Not run: another endorser may be able to.
    assert!(matches!(
        accept("p", response(500, b"", false)),
        Err(Error::Endorsement { .. })
    ));
    assert!(accept("p", protos::ProposalResponse::default()).is_err());
    assert!(agreed_payload(&[]).is_err());
}

#[tokio::test]
async fn what_one_ledger_holds_is_no_refusal_of_the_others() {
    let p1 = world(None).org1.identity("p1", "peer");
    let duplicate = || Error::Endorsement {
        endorser: "p2".into(),
        why: "duplicate transaction found [tx1]. Creator [ab]".into(),
    };
    let refused = || Error::Refused {
        endorser: "p1".into(),
        status: 409,
        message: "recorded already".into(),
    };
    for results in [
        vec![Err(refused()), Err(duplicate())],
        vec![Err(duplicate()), Err(refused())],
        vec![Ok(answer(&p1, "1")), Err(duplicate())],
    ] {
        let Err(error) = all_of(results) else {
            panic!("a duplicate was taken for an endorsement");
        };
        assert_eq!(error.retry(), Retry::LookUp, "{error}");
    }
}

/// A peer of an organisation that endorses a value, with its endpoint.
async fn endorsing(org: &Org, value: &'static str) -> (Arc<FakePeer>, Endpoint) {
    let Answer {
        payload, endorsement, ..
    } = answer(&org.identity("p", "peer"), value);
    let response = protos::ProposalResponse {
        response: Some(protos::Response {
            status: 200,
            ..Default::default()
        }),
        payload,
        endorsement: Some(endorsement),
        ..Default::default()
    };
    FakePeer::start(Says::Endorses(Box::new(response))).await
}

fn client_of(
    world: &World,
    policy: &str,
    endorsers: &[(&Org, Endpoint)],
    orderers: Vec<Endpoint>,
) -> DirectClient {
    DirectClient::new(DirectConfig {
        identity: world.client.identity().clone(),
        endorsers: endorsers
            .iter()
            .map(|(org, endpoint)| PeerAddress {
                msp_id: org.msp_id.to_owned(),
                endpoint: endpoint.clone(),
            })
            .collect(),
        orderers,
        events: Vec::new(),
        msps: manager(&[&world.org1, &world.org2]),
        policy: Some(dsl::parse(policy).unwrap()),
        deadlines: Deadlines {
            submit: Some(Duration::from_millis(500)),
            ..Deadlines::default()
        },
    })
    .unwrap()
}

const EITHER: &str = "OR('Org1MSP.peer','Org2MSP.peer')";

/// A client of two peers, of which either suffices: the first refuses, the second endorses.
async fn of_one_that_refuses(world: &World, status: i32, words: &'static str) -> DirectClient {
    let (_, refusing) = FakePeer::start(Says::Refuses(status, words)).await;
    let (_, other) = endorsing(&world.org2, "1").await;
    let peers = [(&world.org1, refusing), (&world.org2, other)];
    client_of(world, EITHER, &peers, Vec::new())
}

#[tokio::test]
async fn one_that_refuses_alone_is_not_believed() {
    let world = world(None);
    let client = of_one_that_refuses(&world, 404, "shipment S-1 is unknown").await;
    let error = client.endorse(&propose(&world)).await.unwrap_err();
    assert_eq!(error.retry(), Retry::SameTransaction, "{error}");
    assert!(error.to_string().contains("shipment S-1 is unknown"), "{error}");
    client
        .endorse(&propose(&world))
        .await
        .expect("the next attempt is at the other one");
}

#[tokio::test]
async fn what_two_refuse_is_refused() {
    let world = world(None);
    let refusing = async || FakePeer::start(Says::Refuses(404, "unknown")).await.1;
    let (unasked, third) = endorsing(&world.org2, "1").await;
    let peers = [
        (&world.org1, refusing().await),
        (&world.org2, refusing().await),
        (&world.org2, third),
    ];
    let client = client_of(&world, EITHER, &peers, Vec::new());
    let error = client.endorse(&propose(&world)).await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 404, .. }), "{error}");
    assert_eq!(unasked.proposals(), 0);
}

#[tokio::test]
async fn a_contract_that_was_given_no_state_has_not_refused() {
    let world = world(None);
    let words = "GET_STATE failed: transaction ID: ab: connection refused";
    let client = of_one_that_refuses(&world, 500, words).await;
    client
        .endorse(&propose(&world))
        .await
        .expect("the other one endorses");
}

#[tokio::test]
async fn who_differs_is_avoided() {
    let world = world(None);
    let (first, one) = endorsing(&world.org1, "new").await;
    let (_, stale) = endorsing(&world.org2, "old").await;
    let (_, other) = endorsing(&world.org2, "new").await;
    let peers = [(&world.org1, one), (&world.org2, stale), (&world.org2, other)];
    let policy = "AND('Org1MSP.peer','Org2MSP.peer')";
    let client = client_of(&world, policy, &peers, Vec::new());
    let error = client.endorse(&propose(&world)).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch(_)), "{error}");
    let (_, endorsers) = client.endorse_by(&propose(&world)).await.unwrap();
    assert_eq!(
        endorsers,
        [peers[2].1.address.clone(), peers[0].1.address.clone()]
    );
    assert_eq!(first.proposals(), 2);

    // What turned out to be stale: others are asked.
    client.avoid(&endorsers);
    let error = client.endorse(&propose(&world)).await.unwrap_err();
    assert!(
        error.to_string().contains("differ"),
        "the stale one is as good as any: {error}"
    );
}

#[tokio::test]
async fn commits_come_from_a_peer_that_is_in_the_channel() {
    let world = world(None);
    let (stranger, away) = FakePeer::start(Says::NotHere).await;
    let (member, here) = endorsing(&world.org2, "1").await;
    let (reserve, there) = endorsing(&world.org2, "1").await;
    let peers = [(&world.org1, away), (&world.org2, here), (&world.org2, there)];
    let client = client_of(&world, "OR('Org2MSP.peer')", &peers, Vec::new());
    let listener = client.listen("trade", "tx1").await.unwrap();
    let second = client.listen("trade", "tx2").await.unwrap();
    let stream = listener.stream();
    member.commit("tx1");
    let status = listener.wait(None).await.unwrap();
    assert_eq!(status.block_number, NEWEST + 1);
    assert_eq!((stranger.streams(), reserve.streams()), (1, 0));

    // Two who wait on the same silent stream leave it once.
    client.leave_silent("trade", &stream).await;
    client.leave_silent("trade", &second.stream()).await;
    let _third = client.listen("trade", "tx3").await.unwrap();
    assert_eq!((member.streams(), reserve.streams()), (1, 1));
}

#[tokio::test]
async fn one_orderer_outside_the_channel_does_not_end_a_submission() {
    use common::Status::{BadRequest, Forbidden, NotFound, ServiceUnavailable, Success};
    let world = world(None);
    let p1 = world.org1.identity("p1", "peer");
    let transaction = world
        .client
        .assemble(&propose(&world), vec![answer(&p1, "1")])
        .unwrap();
    let (_, peer) = endorsing(&world.org1, "1").await;
    let peers = [(&world.org1, peer)];
    for (statuses, expected) in [
        ([NotFound, Forbidden, Success], None),
        ([NotFound, Forbidden, NotFound], Some(Retry::Never)),
        ([NotFound, NotFound, BadRequest], Some(Retry::Never)),
        (
            [NotFound, NotFound, ServiceUnavailable],
            Some(Retry::SameTransaction),
        ),
    ] {
        let mut orderers = Vec::new();
        for status in statuses {
            orderers.push(FakeOrderer::start(status).await);
        }
        let client = client_of(&world, "OR('Org1MSP.peer')", &peers, orderers);
        let failed = client.submit(&transaction).await.err().map(|error| error.retry());
        assert_eq!(failed, expected, "{statuses:?}");
    }
}
