//! The service over a small consortium: this peer, and a second one behind gRPC.

use bytes::Bytes;
use selvedge_msp::SigningIdentity;
use selvedge_proto::discovery::{
    AuthInfo, ConfigQuery, EndorsementDescriptor, LocalPeerQuery, Peer as Entry, PeerMembershipResult,
};
use selvedge_proto::gossip::gossip_message::Content;
use selvedge_proto::gossip::{AliveMessage, Envelope, GossipMessage, StateInfo};
use selvedge_proto::protos::{ChaincodeCall, ChaincodeInterest};

use super::*;
use crate::gateway::test_world::{World, world};
use crate::test_network::Org;

fn service(world: &World, tls: bool, org_members_allowed: bool) -> DiscoveryService {
    DiscoveryService::new(DiscoveryParts {
        context: Arc::clone(&world.consortium.peers[0]) as Arc<dyn PeerContext>,
        runtime: Arc::clone(world.consortium.endorsers[0].runtime()),
        peers: world.gateway.peers(),
        tls,
        org_members_allowed,
    })
}

fn query(channel: &str, kind: Kind) -> Query {
    Query {
        channel: channel.to_owned(),
        query: Some(kind),
    }
}

fn config_query(channel: &str) -> Query {
    query(channel, Kind::ConfigQuery(ConfigQuery {}))
}

fn peer_query(channel: &str) -> Query {
    query(channel, Kind::PeerQuery(PeerMembershipQuery::default()))
}

fn interest(chaincode: &str) -> ChaincodeInterest {
    ChaincodeInterest {
        chaincodes: vec![ChaincodeCall {
            name: chaincode.to_owned(),
            ..Default::default()
        }],
    }
}

fn cc_query(channel: &str, interests: &[ChaincodeInterest]) -> Query {
    query(
        channel,
        Kind::CcQuery(ChaincodeQuery {
            interests: interests.to_vec(),
        }),
    )
}

fn signed(signer: &SigningIdentity, tls_hash: &[u8], queries: Vec<Query>) -> SignedRequest {
    let request = DiscoveryRequest {
        authentication: Some(AuthInfo {
            client_identity: signer.creator().clone(),
            client_tls_cert_hash: Bytes::copy_from_slice(tls_hash),
        }),
        queries,
    };
    let payload = Bytes::from(request.encode_to_vec());
    SignedRequest {
        signature: signer.sign(&payload).unwrap(),
        payload,
    }
}

async fn discover(service: &DiscoveryService, request: SignedRequest) -> Vec<Result<Found, String>> {
    let response = service
        .discover(Request::new(request))
        .await
        .unwrap()
        .into_inner();
    response
        .results
        .into_iter()
        .map(|r| match r.result.unwrap() {
            Found::Error(e) => Err(e.content),
            found => Ok(found),
        })
        .collect()
}

async fn one(service: &DiscoveryService, signer: &SigningIdentity, query: Query) -> Result<Found, String> {
    let mut results = discover(service, signed(signer, &[], vec![query])).await;
    assert_eq!(results.len(), 1);
    results.remove(0)
}

fn members(found: Result<Found, String>) -> PeerMembershipResult {
    match found.unwrap() {
        Found::Members(members) => members,
        other => panic!("{other:?}"),
    }
}

fn message(envelope: &Envelope) -> GossipMessage {
    GossipMessage::decode(envelope.payload.clone()).unwrap()
}

fn alive(entry: &Entry) -> AliveMessage {
    match message(entry.membership_info.as_ref().unwrap()).content.unwrap() {
        Content::AliveMsg(alive) => alive,
        other => panic!("{other:?}"),
    }
}

fn state(entry: &Entry) -> StateInfo {
    match message(entry.state_info.as_ref().unwrap()).content.unwrap() {
        Content::StateInfo(state) => state,
        other => panic!("{other:?}"),
    }
}

fn chaincodes(entry: &Entry) -> Vec<(String, String)> {
    let properties = state(entry).properties.unwrap();
    properties
        .chaincodes
        .into_iter()
        .map(|c| (c.name, c.version))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_by_its_first_gap() {
    let world = world(0).await;
    let service = service(&world, true, false);
    let client = world.client();
    let certificate = b"certificate";
    let hash = Sha256::digest(certificate);
    let refused = |request: SignedRequest, certificate: Option<&[u8]>| {
        service.inner.open(&request, certificate).map(drop).unwrap_err()
    };
    let without = |authentication: Option<AuthInfo>| {
        let request = DiscoveryRequest {
            authentication,
            queries: Vec::new(),
        };
        SignedRequest {
            payload: request.encode_to_vec().into(),
            signature: Bytes::new(),
        }
    };
    let junk = SignedRequest {
        payload: Bytes::from_static(&[0xff]),
        signature: Bytes::new(),
    };
    assert!(refused(junk, None).starts_with("failed parsing request: "));
    assert_eq!(
        refused(without(None), None),
        "access denied, no authentication info in request"
    );
    assert_eq!(
        refused(without(Some(AuthInfo::default())), None),
        "access denied, client identity wasn't supplied"
    );
    let request = |hash: &[u8]| signed(&client, hash, Vec::new());
    assert_eq!(
        refused(request(&hash), None),
        "client didn't send a TLS certificate"
    );
    let mismatch = "client claimed TLS hash doesn't match computed TLS hash from gRPC stream";
    assert_eq!(refused(request(&[]), Some(certificate)), mismatch);
    assert_eq!(refused(request(&hash), Some(b"another")), mismatch);
    assert!(service.inner.open(&request(&hash), Some(certificate)).is_ok());
    let many = signed(&client, &hash, vec![config_query("trade"); MAX_QUERIES + 1]);
    assert!(refused(many, Some(certificate)).contains("queries"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_tell_a_channel_from_none() {
    let world = world(0).await;
    let service = service(&world, false, false);
    let stranger = Org::new("OtherMSP", "other").client("eve", &[]);
    let forged = {
        let mut request = signed(&world.client(), &[], vec![config_query("trade")]);
        request.signature = stranger.sign(&request.payload).unwrap();
        request
    };
    let denied: Result<Found, String> = Err("access denied".to_owned());
    assert_eq!(discover(&service, forged).await, std::slice::from_ref(&denied));
    for channel in ["trade", "none", ""] {
        for kind in [
            config_query(channel),
            peer_query(channel),
            cc_query(channel, &[interest("_lifecycle")]),
            query(channel, Kind::LocalPeers(LocalPeerQuery {})),
            Query {
                channel: channel.to_owned(),
                query: None,
            },
        ] {
            assert_eq!(one(&service, &stranger, kind).await, denied, "{channel}");
        }
    }
    assert_eq!(one(&service, &world.client(), config_query("none")).await, denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_without_a_channel_are_for_admins() {
    let world = world(0).await;
    let admin = world.consortium.orgs[0].admin();
    let local = || query("", Kind::LocalPeers(LocalPeerQuery {}));
    let strict = service(&world, false, false);
    let denied = Err("access denied".to_owned());
    assert_eq!(one(&strict, &world.client(), local()).await, denied);
    let foreign = world.consortium.orgs[1].admin();
    assert_eq!(one(&strict, &foreign, local()).await, denied);
    let found = members(one(&strict, &admin, local()).await);
    assert_eq!(found.peers_by_org.len(), 2);
    assert!(found.peers_by_org["Org1MSP"].peers[0].state_info.is_none());
    let open = service(&world, false, true);
    assert!(one(&open, &world.client(), local()).await.is_ok());
    let mismatched = Err("unknown or missing request type".to_owned());
    assert_eq!(one(&strict, &admin, config_query("")).await, mismatched);
    let wrong = query("trade", Kind::LocalPeers(LocalPeerQuery {}));
    assert_eq!(one(&strict, &world.client(), wrong).await, mismatched);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_names_members_and_orderers() {
    let world = world(0).await;
    let found = one(
        &service(&world, false, false),
        &world.client(),
        config_query("trade"),
    )
    .await;
    let Ok(Found::ConfigResult(config)) = found else {
        panic!("{found:?}")
    };
    let mut names: Vec<&str> = config.msps.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["OrdererMSP", "Org1MSP", "Org2MSP"]);
    assert_eq!(config.msps["Org1MSP"].name, "Org1MSP");
    assert!(!config.msps["Org2MSP"].root_certs.is_empty());
    let endpoint = &config.orderers["OrdererMSP"].endpoint[0];
    assert_eq!((endpoint.host.as_str(), endpoint.port), ("127.0.0.1", 7050));
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_prove_who_they_are_and_how_high() {
    let world = world(0).await;
    let service = service(&world, false, false);
    let found = members(one(&service, &world.client(), peer_query("trade")).await);
    let own = &found.peers_by_org["Org1MSP"].peers[0];
    assert_eq!(alive(own).membership.unwrap().endpoint, "peer0.org1:7051");
    let identity = world.consortium.peers[0].identity();
    assert_eq!(own.identity, identity.creator());
    let envelope = own.state_info.as_ref().unwrap();
    identity
        .identity()
        .verify(&envelope.payload, &envelope.signature)
        .unwrap();
    assert_eq!(chaincodes(own), [("_lifecycle".to_owned(), "syscc".to_owned())]);
    assert!(state(own).timestamp.is_some() && alive(own).timestamp.is_some());

    let other = &found.peers_by_org["Org2MSP"].peers[0];
    assert_eq!(other.identity, world.consortium.peers[1].identity().creator());
    assert_eq!(state(other).properties.unwrap().ledger_height, 1);
    // Nobody but the other peer could sign its messages.
    assert!(other.state_info.as_ref().unwrap().signature.is_empty());
    assert_ne!(state(other).pki_id, state(own).pki_id);
    assert_eq!(state(other).channel_mac.len(), 32);

    // A peer that is not there is not a member for a service that has not heard of it before.
    world.end_remote().await;
    let later = super::tests::service(&world, false, false);
    let gone = eventually_alone(&later, &world).await;
    assert_eq!(gone.peers_by_org.len(), 1);
}

/// The answer once the second peer's server has ended.
async fn eventually_alone(service: &DiscoveryService, world: &World) -> PeerMembershipResult {
    loop {
        service.inner.members.forget();
        let found = members(one(service, &world.client(), peer_query("trade")).await);
        if found.peers_by_org.len() == 1 {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

fn layouts(descriptor: &EndorsementDescriptor) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = descriptor
        .layouts
        .iter()
        .map(|layout| {
            let mut orgs: Vec<String> = layout
                .quantities_by_group
                .iter()
                .map(|(group, n)| {
                    let identity = &descriptor.endorsers_by_groups[group].peers[0].identity;
                    let identity = selvedge_proto::msp::SerializedIdentity::decode(identity.clone()).unwrap();
                    format!("{n} {}", identity.mspid)
                })
                .collect();
            orgs.sort();
            orgs
        })
        .collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn endorsers_follow_policy_installation_and_collections() {
    let world = world(0).await;
    world.deploy().await;
    let service = service(&world, false, false);
    let client = world.client();
    let found = one(
        &service,
        &client,
        cc_query("trade", &[interest("cc"), interest("_lifecycle")]),
    )
    .await;
    let Ok(Found::CcQueryRes(found)) = found else {
        panic!("{found:?}")
    };
    assert_eq!(found.content.len(), 2);
    for (descriptor, name) in found.content.iter().zip(["cc", "_lifecycle"]) {
        assert_eq!(descriptor.chaincode, name);
        // Both are guarded by a majority of two organisations.
        assert_eq!(layouts(descriptor), [["1 Org1MSP", "1 Org2MSP"]]);
    }
    let peers = members(one(&service, &client, peer_query("trade")).await);
    for org in ["Org1MSP", "Org2MSP"] {
        assert_eq!(
            chaincodes(&peers.peers_by_org[org].peers[0])[1],
            ("cc".to_owned(), "1".to_owned()),
            "{org}"
        );
    }

    // The implicit collection of one organisation needs that organisation alone; reading it, no other may.
    let mut private = interest("cc");
    private.chaincodes[0].collection_names = vec!["_implicit_org_Org2MSP".to_owned()];
    private.chaincodes[0].disregard_namespace_policy = true;
    let found = one(&service, &client, cc_query("trade", &[private.clone()])).await;
    let Ok(Found::CcQueryRes(found)) = found else {
        panic!("{found:?}")
    };
    assert_eq!(layouts(&found.content[0]), [["1 Org2MSP"]]);
    // Unless it is disregarded, the chaincode's own policy must be met besides.
    let mut written = private.clone();
    written.chaincodes[0].disregard_namespace_policy = false;
    written.chaincodes[0].no_private_reads = true;
    let found = one(&service, &client, cc_query("trade", &[written])).await;
    let Ok(Found::CcQueryRes(found)) = found else {
        panic!("{found:?}")
    };
    assert_eq!(layouts(&found.content[0]), [["1 Org1MSP", "1 Org2MSP"]]);
    let mut nothing = interest("cc");
    nothing.chaincodes[0].disregard_namespace_policy = true;
    let refused = one(&service, &client, cc_query("trade", &[nothing])).await;
    assert!(
        refused
            .as_ref()
            .is_err_and(|why| why.contains("key and collection policies are missing")),
        "{refused:?}"
    );
    private.chaincodes.push(ChaincodeCall {
        name: "cc".to_owned(),
        ..Default::default()
    });
    for (asked, expected) in [
        (
            cc_query("trade", &[private]),
            "failed constructing descriptor for chaincodes:<name:\"cc\" collection_names:\"_implicit_org_Org2MSP\" \
             disregard_namespace_policy:true > chaincodes:<name:\"cc\" >: no peer combination can satisfy the \
             endorsement policy",
        ),
        (
            cc_query("trade", &[interest("nothing")]),
            "failed constructing descriptor for chaincodes:<name:\"nothing\" >: No metadata was found for chaincode \
             nothing in channel trade",
        ),
        (
            cc_query("trade", &[]),
            "chaincode query must have at least one chaincode interest",
        ),
        (
            cc_query("trade", &[ChaincodeInterest::default()]),
            "chaincode interest must contain at least one chaincode",
        ),
        (
            cc_query("trade", &[interest("")]),
            "chaincode name in interest cannot be empty",
        ),
    ] {
        assert_eq!(one(&service, &client, asked).await, Err(expected.to_owned()));
    }
}

#[test]
fn an_interest_has_a_bounded_number_of_policies() {
    let policy = selvedge_msp::policy::dsl::parse("OR('Org1MSP.peer', 'Org2MSP.peer')").unwrap();
    let with = |policies: Vec<_>| {
        let mut asked = interest("cc");
        asked.chaincodes[0].key_policies = policies;
        check_interest(&asked)
    };
    with(vec![policy.clone(); MAX_POLICIES]).unwrap();
    let why = with(vec![policy.clone(); MAX_POLICIES + 1]).unwrap_err();
    assert!(why.contains("key policies and collections"), "{why}");
    let mut wide = policy.clone();
    wide.identities = vec![policy.identities[0].clone(); MAX_POLICY_PARTS];
    let why = with(vec![wide]).unwrap_err();
    assert!(why.contains("rules and principals"), "{why}");
    let mut deep = policy.clone();
    let rule = selvedge_msp::policy::dsl::signed_by(0);
    deep.rule = Some(selvedge_proto::common::SignaturePolicy {
        r#type: Some(selvedge_proto::common::signature_policy::Type::NOutOf(
            selvedge_proto::common::signature_policy::NOutOf {
                n: 1,
                rules: vec![rule; MAX_POLICY_PARTS],
            },
        )),
    });
    assert!(with(vec![deep]).unwrap_err().contains("rules and principals"));
    let mut asked = interest("cc");
    asked.chaincodes[0].collection_names = vec!["c".to_owned(); MAX_POLICIES + 1];
    check_interest(&asked).unwrap_err();
}

#[test]
fn a_relative_policy_reference_starts_at_the_root() {
    use crate::gateway::requirement::Requirement;
    let consortium = crate::test_network::Consortium::new();
    let bundle = consortium.peers[0].channel("trade").unwrap().bundle();
    let absolute = Requirement::of_channel_policy(&bundle, "/Channel/Application/Endorsement");
    assert!(absolute.impossible().is_none(), "{absolute:?}");
    assert_eq!(
        Requirement::of_channel_policy(&bundle, "Application/Endorsement"),
        absolute
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_another_question_proves_nothing() {
    let world = world(0).await;
    let consortium = &world.consortium;
    let asker = consortium.peers[0].identity();
    let bundle = consortium.peers[0].channel("trade").unwrap().bundle();
    let question = probe::Question::new(&asker, "trade").unwrap();
    let answer = consortium.answer(1, &question.proposal);
    let said = question.read(&bundle, "Org2MSP", answer.clone()).unwrap();
    assert_eq!(said.height, 1);
    let other = probe::Question::new(&asker, "trade").unwrap();
    assert!(
        other
            .read(&bundle, "Org2MSP", answer.clone())
            .unwrap_err()
            .contains("another question")
    );
    assert!(
        question
            .read(&bundle, "Org1MSP", answer.clone())
            .unwrap_err()
            .contains("instead of")
    );
    let mut forged = answer.clone();
    let mut payload = forged.payload.to_vec();
    payload.push(0);
    forged.payload = payload.into();
    assert!(question.read(&bundle, "Org2MSP", forged).is_err());
    let mut unsigned = answer;
    unsigned.endorsement = None;
    assert!(question.read(&bundle, "Org2MSP", unsigned).is_err());
}
