mod reach;
mod system;

use prost::Message;
use selvedge_msp::SigningIdentity;
use selvedge_proto::{common, kvrwset, lifecycle, protos, rwset};

use super::*;
use crate::chaincode::simulator::sha256;
use crate::chaincode::wasm::tests::{contract, invoking};
use crate::definition::LIFECYCLE;
use crate::test_network::{Ask, Consortium, Draft, Org, ask, draft, now, proposal};

const VALID: protos::TxValidationCode = protos::TxValidationCode::Valid;

/// Puts "key" = "value", reads "other", sets an event, answers 200.
const PUT: &str = "(drop (call $put (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5)))
    (drop (call $get (i32.const 32) (i32.const 5)))
    (drop (call $event (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5)))
    (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 5))";

fn lifecycle_ask(channel: &str, function: &str, message: &impl Message) -> Ask {
    ask(
        channel,
        LIFECYCLE,
        &[function.as_bytes(), &message.encode_to_vec()],
    )
}

#[derive(Clone)]
struct Deployment<'a> {
    name: &'a str,
    version: &'a str,
    sequence: i64,
    init_required: bool,
    package_id: &'a str,
    collections: Option<protos::CollectionConfigPackage>,
}

impl Deployment<'_> {
    fn approve(&self) -> lifecycle::ApproveChaincodeDefinitionForMyOrgArgs {
        let local = lifecycle::chaincode_source::Local {
            package_id: self.package_id.into(),
        };
        lifecycle::ApproveChaincodeDefinitionForMyOrgArgs {
            sequence: self.sequence,
            name: self.name.into(),
            version: self.version.into(),
            init_required: self.init_required,
            collections: self.collections.clone(),
            source: Some(lifecycle::ChaincodeSource {
                r#type: Some(lifecycle::chaincode_source::Type::LocalPackage(local)),
            }),
            ..Default::default()
        }
    }

    fn commit(&self) -> lifecycle::CommitChaincodeDefinitionArgs {
        lifecycle::CommitChaincodeDefinitionArgs {
            sequence: self.sequence,
            name: self.name.into(),
            version: self.version.into(),
            collections: self.collections.clone(),
            init_required: self.init_required,
            ..Default::default()
        }
    }
}

struct World {
    net: Consortium,
    admins: [SigningIdentity; 2],
    user: SigningIdentity,
}

impl World {
    fn new() -> Self {
        let net = Consortium::new();
        let admins = [net.orgs[0].admin(), net.orgs[1].admin()];
        let user = net.orgs[0].client("alice", &[]);
        Self { net, admins, user }
    }

    fn approve(&self, org: usize, what: &Deployment<'_>) -> protos::TxValidationCode {
        let ask = lifecycle_ask(
            &self.net.channel,
            "ApproveChaincodeDefinitionForMyOrg",
            &what.approve(),
        );
        self.net.submit(&[org], &self.admins[org], &ask)
    }

    fn commit(&self, what: &Deployment<'_>) -> protos::TxValidationCode {
        let ask = lifecycle_ask(&self.net.channel, "CommitChaincodeDefinition", &what.commit());
        self.net.submit(&[0, 1], &self.admins[0], &ask)
    }

    /// Installs, approves and commits a contract.
    fn deploy(&self, name: &str, wasm: &[u8], init_required: bool) {
        self.deploy_with(name, wasm, init_required, None);
    }

    fn deploy_with(
        &self,
        name: &str,
        wasm: &[u8],
        init_required: bool,
        collections: Option<protos::CollectionConfigPackage>,
    ) {
        let package_id = self.net.install(name, wasm);
        self.define(&Deployment {
            name,
            version: "1.0",
            sequence: 1,
            init_required,
            package_id: &package_id,
            collections,
        });
    }

    /// Approves and commits a definition.
    fn define(&self, what: &Deployment<'_>) {
        assert_eq!(self.approve(0, what), VALID);
        assert_eq!(self.approve(1, what), VALID);
        assert_eq!(self.commit(what), VALID);
    }

    fn text(&self, ask: &Ask) -> String {
        self.net.response(0, &self.user, ask).message
    }

    fn rwset(&self, signer: &SigningIdentity, ask: &Ask) -> rwset::TxReadWriteSet {
        action(&self.net.answer(0, &proposal(signer, ask))).1
    }
}

fn action(response: &protos::ProposalResponse) -> (protos::ChaincodeAction, rwset::TxReadWriteSet) {
    let payload = protos::ProposalResponsePayload::decode(response.payload.clone()).unwrap();
    let action = protos::ChaincodeAction::decode(payload.extension).unwrap();
    let results = rwset::TxReadWriteSet::decode(action.results.clone()).unwrap();
    (action, results)
}

/// Reads (key, "block.tx" or "nil") and writes of a namespace.
fn public(set: &rwset::TxReadWriteSet, namespace: &str) -> (Vec<(String, String)>, Vec<String>) {
    let ns = set.ns_rwset.iter().find(|n| n.namespace == namespace).unwrap();
    let set = kvrwset::KvrwSet::decode(ns.rwset.clone()).unwrap();
    let version = |v: Option<kvrwset::Version>| match v {
        Some(v) => format!("{}.{}", v.block_num, v.tx_num),
        None => "nil".to_owned(),
    };
    let reads = set
        .reads
        .into_iter()
        .map(|r| (r.key, version(r.version)))
        .collect();
    (reads, set.writes.into_iter().map(|w| w.key).collect())
}

fn hashed(
    set: &rwset::TxReadWriteSet,
    org: &str,
) -> (rwset::CollectionHashedReadWriteSet, kvrwset::HashedRwSet) {
    let ns = set.ns_rwset.iter().find(|n| n.namespace == LIFECYCLE).unwrap();
    let name = format!("_implicit_org_{org}");
    let found = ns
        .collection_hashed_rwset
        .iter()
        .find(|c| c.collection_name == name)
        .unwrap()
        .clone();
    let decoded = kvrwset::HashedRwSet::decode(found.hashed_rwset.clone()).unwrap();
    (found, decoded)
}

fn reads(keys: &[(&str, &str)]) -> Vec<(String, String)> {
    keys.iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// The read/write sets of spec 03 §11.2b, from approval to invocation.
#[test]
fn approve_commit_and_invoke_have_the_read_write_sets_of_fabric() {
    let world = World::new();
    let package_id = world.net.install("cc", &invoking(PUT));
    let what = Deployment {
        name: "cc",
        version: "1.0",
        sequence: 1,
        init_required: false,
        package_id: &package_id,
        collections: None,
    };
    let approve = lifecycle_ask("trade", "ApproveChaincodeDefinitionForMyOrg", &what.approve());
    let set = world.rwset(&world.admins[0], &approve);
    let names: Vec<_> = set.ns_rwset.iter().map(|n| n.namespace.as_str()).collect();
    assert_eq!(names, [LIFECYCLE, "lscc"]);
    let undefined = reads(&[
        ("namespaces/fields/cc/Sequence", "nil"),
        ("namespaces/metadata/cc", "nil"),
    ]);
    assert_eq!(public(&set, LIFECYCLE), (undefined.clone(), vec![]));
    assert_eq!(public(&set, "lscc"), (reads(&[("cc", "nil")]), vec![]));
    let (collection, private) = hashed(&set, "Org1MSP");
    assert!(!collection.pvt_rwset_hash.is_empty());
    let keys: Vec<_> = private
        .hashed_reads
        .iter()
        .map(|r| (r.key_hash.clone(), r.version))
        .collect();
    let hash = |key: &str| sha256(key.as_bytes());
    assert_eq!(
        keys,
        [
            (hash("chaincode-sources/metadata/cc#1"), None),
            (hash("namespaces/metadata/cc#1"), None)
        ]
    );
    let written: Vec<_> = private.hashed_writes.iter().map(|w| w.key_hash.clone()).collect();
    let expected = [
        "chaincode-sources/fields/cc#1/PackageID",
        "chaincode-sources/metadata/cc#1",
        "namespaces/fields/cc#1/Collections",
        "namespaces/fields/cc#1/EndorsementInfo",
        "namespaces/fields/cc#1/ValidationInfo",
        "namespaces/metadata/cc#1",
    ];
    assert_eq!(written, expected.map(hash));
    assert_eq!(private.hashed_writes[2].value_hash, sha256(&[0x12, 0x00]));

    assert_eq!(world.approve(0, &what), VALID);
    let text = world.net.response(0, &world.admins[0], &approve).message;
    assert_eq!(
        text,
        "failed to invoke backing implementation of 'ApproveChaincodeDefinitionForMyOrg': attempted to redefine \
         uncommitted sequence (1) for namespace cc with unchanged content"
    );
    assert_eq!(world.approve(1, &what), VALID);

    let commit = lifecycle_ask("trade", "CommitChaincodeDefinition", &what.commit());
    let set = world.rwset(&world.admins[0], &commit);
    let fields = ["Collections", "EndorsementInfo", "Sequence", "ValidationInfo"]
        .map(|f| format!("namespaces/fields/cc/{f}"));
    let all: Vec<String> = fields
        .iter()
        .cloned()
        .chain(["namespaces/metadata/cc".to_owned()])
        .collect();
    assert_eq!(public(&set, LIFECYCLE), (undefined, all.clone()));
    assert_eq!(public(&set, "lscc").0, reads(&[("cc", "nil")]));
    for (org, block) in [("Org1MSP", 1), ("Org2MSP", 2)] {
        let (collection, private) = hashed(&set, org);
        assert!(collection.pvt_rwset_hash.is_empty());
        assert!(private.hashed_writes.is_empty());
        let found: Vec<_> = private
            .hashed_reads
            .iter()
            .map(|r| (r.key_hash.clone(), r.version.unwrap().block_num))
            .collect();
        let expected = [
            "namespaces/fields/cc#1/Collections",
            "namespaces/fields/cc#1/EndorsementInfo",
            "namespaces/fields/cc#1/ValidationInfo",
            "namespaces/metadata/cc#1",
        ];
        assert_eq!(found, expected.map(|k| (hash(k), block)));
    }
    assert_eq!(world.commit(&what), VALID);

    let answer = world
        .net
        .answer(0, &proposal(&world.user, &ask("trade", "cc", &[b"f"])));
    let (action, set) = action(&answer);
    let id = action.chaincode_id.unwrap();
    assert_eq!(
        (id.name.as_str(), id.version.as_str(), id.path.as_str()),
        ("cc", "1.0", "")
    );
    let event = protos::ChaincodeEvent::decode(action.events).unwrap();
    assert_eq!(
        (event.chaincode_id.as_str(), event.event_name.as_str()),
        ("cc", "key")
    );
    assert_eq!(event.tx_id.len(), 64);
    assert_eq!(
        public(&set, LIFECYCLE),
        (reads(&[("namespaces/fields/cc/Sequence", "3.0")]), vec![])
    );
    assert_eq!(
        public(&set, "cc"),
        (reads(&[("other", "nil")]), vec!["key".to_owned()])
    );
    assert_eq!(set.ns_rwset.len(), 2);
    assert_eq!(answer.version, 1);
    assert_eq!(answer.interest.unwrap().chaincodes[0].name, "cc");
    assert_eq!(
        world
            .net
            .submit(&[0, 1], &world.user, &ask("trade", "cc", &[b"f"])),
        VALID
    );

    // Sequence 2: all five keys are read, and only what changes is written.
    let next = Deployment {
        sequence: 2,
        version: "1.0",
        ..what.clone()
    };
    let approve = lifecycle_ask("trade", "ApproveChaincodeDefinitionForMyOrg", &next.approve());
    let set = world.rwset(&world.admins[0], &approve);
    assert_eq!(set.ns_rwset.len(), 1);
    let at_three: Vec<_> = all.iter().map(|k| (k.clone(), "3.0".to_owned())).collect();
    assert_eq!(public(&set, LIFECYCLE), (at_three.clone(), vec![]));
    assert_eq!(world.approve(0, &next), VALID);
    assert_eq!(world.approve(1, &next), VALID);
    let commit = lifecycle_ask("trade", "CommitChaincodeDefinition", &next.commit());
    let set = world.rwset(&world.admins[0], &commit);
    assert_eq!(public(&set, LIFECYCLE), (at_three, vec![fields[2].clone()]));
}

#[test]
fn a_definition_is_looked_up_before_anything_runs() {
    let world = World::new();
    let undefined = ask("trade", "cc", &[b"f"]);
    assert_eq!(
        world.text(&undefined),
        "make sure the chaincode cc has been successfully defined on channel trade and try again: chaincode cc not found"
    );
    let answer = world.net.answer(0, &proposal(&world.user, &undefined));
    assert!(answer.payload.is_empty() && answer.endorsement.is_none());

    let missing = Deployment {
        name: "cc",
        version: "1.0",
        sequence: 1,
        init_required: false,
        package_id: "cc:0000000000000000000000000000000000000000000000000000000000000000",
        collections: None,
    };
    world.approve(0, &missing);
    world.approve(1, &missing);
    world.commit(&missing);
    let text = world.text(&undefined);
    assert!(
        text.contains("chaincode definition for 'cc' exists, but chaincode is not installed: install"),
        "{text}"
    );

    // Approving again with a package that is there mends it.
    let package_id = world.net.install("cc", &invoking(PUT));
    assert_eq!(
        world.approve(
            0,
            &Deployment {
                package_id: &package_id,
                ..missing.clone()
            }
        ),
        VALID
    );
    assert_eq!(world.net.response(0, &world.user, &undefined).status, 200);
    let channel = world.net.peers[0].channel("trade").unwrap();
    let runtime = world.net.endorsers[0].runtime();
    assert_eq!(runtime.installed(&channel, "cc", "Org1MSP").unwrap().sequence, 1);
    assert!(runtime.installed(&channel, "none", "Org1MSP").is_err());
}

#[test]
fn initialisation_is_required_once_a_version() {
    let world = World::new();
    world.deploy("plain", &invoking(PUT), false);
    let call = |name: &str, is_init: bool| Ask {
        is_init,
        ..ask("trade", name, &[b"f"])
    };
    assert!(
        world
            .text(&call("plain", true))
            .ends_with("chaincode 'plain' does not require initialization but called as init")
    );
    world.deploy("init", &invoking(PUT), true);
    assert!(
        world
            .text(&call("init", false))
            .ends_with("chaincode 'init' has not been initialized for this version, must call as init first")
    );
    let set = world.rwset(&world.user, &call("init", true));
    let key = "\u{0}\u{10ffff}initialized";
    let (read, written) = public(&set, "init");
    assert_eq!(read[0], (key.to_owned(), "nil".to_owned()));
    assert_eq!(written[0], key);
    assert_eq!(world.net.submit(&[0, 1], &world.user, &call("init", true)), VALID);
    assert!(
        world
            .text(&call("init", true))
            .ends_with("chaincode 'init' is already initialized but called as init")
    );
    let (read, written) = public(&world.rwset(&world.user, &call("init", false)), "init");
    assert_eq!(read[0], (key.to_owned(), "7.0".to_owned()));
    assert_eq!(written, ["key"]);
}

#[test]
fn chaincodes_share_a_transaction_and_both_definitions_are_read() {
    let world = World::new();
    world.deploy("other", &invoking(PUT), false);
    let calls = "(call $answer (call $invoke (i32.const 32) (i32.const 5) (i32.const 48) (i32.const 12)))";
    world.deploy("cc", &invoking(calls), false);
    let answer = world
        .net
        .answer(0, &proposal(&world.user, &ask("trade", "cc", &[b"f"])));
    let (action, set) = action(&answer);
    assert!(
        action.events.is_empty(),
        "the event of a called chaincode is dropped"
    );
    let names: Vec<_> = set.ns_rwset.iter().map(|n| n.namespace.as_str()).collect();
    assert_eq!(names, [LIFECYCLE, "other"]);
    let keys: Vec<_> = public(&set, LIFECYCLE).0.into_iter().map(|r| r.0).collect();
    assert_eq!(
        keys,
        [
            "namespaces/fields/cc/Sequence",
            "namespaces/fields/other/Sequence"
        ]
    );
    assert_eq!(public(&set, "other").1, ["key"]);
    let payload = answer.response.unwrap().payload;
    assert_eq!(&payload[..8], &[200, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&payload[8..], b"value");
}

#[test]
fn what_a_chaincode_says_and_what_goes_wrong_differ() {
    let world = World::new();
    let respond = |status: i32| {
        invoking(&format!(
            "(drop (call $put (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5)))
             (drop (call $event (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5)))
             (call $respond (i32.const {status}) (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 0))"
        ))
    };
    world.deploy("refuses", &respond(404), false);
    world.deploy("fails", &respond(500), false);
    world.deploy("crashes", &invoking("(unreachable)"), false);
    let answer = |name: &str| {
        world
            .net
            .answer(0, &proposal(&world.user, &ask("trade", name, &[b"f"])))
    };
    let refused = answer("refuses");
    assert_eq!(refused.response.as_ref().unwrap().status, 404);
    assert!(refused.payload.is_empty() && refused.endorsement.is_none());
    let failed = answer("fails");
    assert_eq!(failed.response.as_ref().unwrap().message, "other");
    assert!(!failed.payload.is_empty() && failed.endorsement.is_none() && failed.interest.is_some());
    assert!(action(&failed).0.events.is_empty());
    let crashed = answer("crashes");
    assert!(crashed.payload.is_empty());
    let message = crashed.response.unwrap().message;
    assert!(
        message.starts_with("error in simulation: failed to execute transaction "),
        "{message}"
    );
    assert!(
        message.contains("chaincode crashes, function f: the contract crashed"),
        "{message}"
    );
}

fn refusal(world: &World, draft: &Draft, signer: &SigningIdentity) -> String {
    match world.net.endorsers[0].process(&draft.sign(signer)) {
        EndorseOutcome::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_check_of_a_proposal_has_its_text() {
    let world = World::new();
    let user = &world.user;
    let good = || draft(user, &ask("trade", "cc", &[b"f"]));
    let broken = |change: fn(&mut Draft)| {
        let mut draft = good();
        change(&mut draft);
        refusal(&world, &draft, user)
    };
    let mut extension = good();
    extension.channel_header.extension = protos::ChaincodeHeaderExtension::default().encode_to_vec().into();
    assert_eq!(
        refusal(&world, &extension, user),
        "ChaincodeHeaderExtension.ChaincodeId is nil"
    );
    let unnamed = draft(user, &ask("trade", "", &[b"f"]));
    assert_eq!(
        refusal(&world, &unnamed, user),
        "ChaincodeHeaderExtension.ChaincodeId.Name is empty"
    );
    assert!(
        broken(|d| d.payload = vec![0xff].into()).starts_with("error unmarshalling ChaincodeProposalPayload")
    );
    assert_eq!(
        broken(|d| d.payload = Default::default()),
        "chaincode invocation spec did not contain chaincode spec"
    );
    assert_eq!(
        broken(|d| d.channel_header.r#type = 2),
        "error validating proposal: invalid header type CONFIG_UPDATE"
    );
    assert_eq!(
        broken(|d| d.channel_header.epoch = 1),
        "error validating proposal: epoch is non-zero"
    );
    assert_eq!(
        broken(|d| d.signature_header.nonce = Default::default()),
        "error validating proposal: nonce is empty"
    );
    assert_eq!(
        broken(|d| d.signature_header.creator = Default::default()),
        "error validating proposal: creator is empty"
    );
    let text = broken(|d| d.channel_header.tx_id = "00".into());
    assert!(
        text.starts_with("error validating proposal: incorrectly computed txid '00' -- expected '"),
        "{text}"
    );

    let stranger = Org::new("Org9MSP", "org9").client("eve", &[]);
    let text = refusal(&world, &draft(&stranger, &ask("trade", "cc", &[b"f"])), &stranger);
    let expected =
        "error validating proposal: access denied: channel [trade] creator org unknown, creator is malformed";
    assert!(text.starts_with(expected), "{text}");
    // Same MSP id, but a CA that the channel does not know.
    let forged = Org::new("Org1MSP", "org1").client("mallory", &[]);
    let text = refusal(&world, &draft(&forged, &ask("trade", "cc", &[b"f"])), &forged);
    assert!(
        text.starts_with("error validating proposal: access denied: channel [trade] creator org [Org1MSP]"),
        "{text}"
    );
    let other = world.net.orgs[0].client("bob", &[]);
    let text = refusal(&world, &good(), &other);
    assert!(
        text.starts_with("error validating proposal: access denied: channel [trade] creator org [Org1MSP]"),
        "{text}"
    );

    let unknown = ask("nowhere", "cc", &[b"f"]);
    let response = world.net.response(0, user, &unknown);
    assert_eq!(
        (response.status, response.message.as_str()),
        (500, "channel 'nowhere' not found")
    );
}

#[test]
fn writers_alone_may_propose_and_only_once() {
    let world = World::new();
    world.deploy("cc", &invoking(PUT), false);
    // A peer is a member but no writer.
    let peer = world.net.orgs[0].holder("peer9", "peer", &[], now() + 1000);
    let text = refusal(&world, &draft(&peer, &ask("trade", "cc", &[b"f"])), &peer);
    assert!(
        text.starts_with(
            "failed evaluating policy on signed data during check policy [/Channel/Application/Writers]: ["
        ),
        "{text}"
    );
    let signed = proposal(&world.user, &ask("trade", "cc", &[b"f"]));
    let responses = [world.net.answer(0, &signed), world.net.answer(1, &signed)];
    let envelope = crate::test_network::transaction(&world.user, &signed, &responses);
    assert_eq!(world.net.commit(vec![envelope]), [VALID]);
    let EndorseOutcome::Refused(text) = world.net.endorsers[0].process(&signed) else {
        panic!("endorsed twice")
    };
    let creator = hex::encode(world.user.creator());
    assert!(
        text.starts_with("duplicate transaction found [")
            && text.ends_with(&format!("]. Creator [{creator}]"))
    );
    let metrics = world.net.endorsers[0].runtime().metrics();
    // The first refusal came before the chaincode ever ran here, when its name was anybody's.
    assert_eq!(metrics.not_allowed.value(&["trade", "unknown"]), 1);
    assert_eq!(metrics.duplicates.value(&["trade", "cc"]), 1);
    assert_eq!(metrics.proposals.taken(&["trade", "cc", "true"]), 1);
    assert_eq!(metrics.executions.taken(&["cc"]), 1);
}

#[test]
fn expired_clients_and_wrong_clocks_are_filtered() {
    let world = World::new();
    let filtered = |signed: &protos::SignedProposal| match world.net.endorsers[0].process(signed) {
        EndorseOutcome::Filtered(why) => why,
        other => panic!("{other:?}"),
    };
    let expired = world.net.orgs[0].holder("old", "client", &[], now() - 10);
    let text = filtered(&proposal(&expired, &ask("trade", "cc", &[b"f"])));
    assert!(text.starts_with("proposal client identity expired"), "{text}");
    for skew in [-1000, 1000] {
        let late = Ask {
            timestamp: now() + skew,
            ..ask("trade", "cc", &[b"f"])
        };
        let text = filtered(&proposal(&world.user, &late));
        assert!(
            text.starts_with("request unauthorized due to incorrect timestamp"),
            "{text}"
        );
    }
}

#[test]
fn any_bytes_are_refused_without_a_panic() {
    let world = World::new();
    for bytes in [&b""[..], b"\xff", b"\x0a\x02\x0a\x00", &[0x0a; 100]] {
        let signed = protos::SignedProposal {
            proposal_bytes: bytes::Bytes::copy_from_slice(bytes),
            signature: bytes::Bytes::new(),
        };
        assert!(!matches!(
            world.net.endorsers[0].process(&signed),
            EndorseOutcome::Answered(_)
        ));
    }
}

#[tokio::test]
async fn proposals_run_beside_the_reactor() {
    let world = World::new();
    let signed = proposal(&world.user, &ask("trade", "cc", &[b"f"]));
    let outcomes =
        futures::future::join_all((0..8).map(|_| world.net.endorsers[0].process_proposal(signed.clone())));
    for outcome in outcomes.await {
        assert!(matches!(outcome, EndorseOutcome::Answered(_)));
    }
}

#[test]
fn a_peer_of_another_organisation_is_no_local_admin() {
    let world = World::new();
    let list = lifecycle_ask(
        "",
        "QueryInstalledChaincodes",
        &lifecycle::QueryInstalledChaincodesArgs {},
    );
    assert_eq!(world.net.response(0, &world.admins[0], &list).status, 200);
    let EndorseOutcome::Refused(text) = world.net.endorsers[0].process(&proposal(&world.admins[1], &list))
    else {
        panic!("accepted")
    };
    assert!(
        text.contains("access denied: channel [] creator org unknown"),
        "{text}"
    );
}
