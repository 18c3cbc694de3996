//! Random blocks through the pipeline and through the reference: same codes, same state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock};

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner};
use selvedge_peer::{PeerChannel, ProcessError, replay};
use selvedge_proto::protos::TxValidationCode as Code;
use selvedge_proto::{Bytes, kvrwset, protos};

use crate::mutation::{self, Mutation, mutation};
use crate::network::Network;
use crate::opened::Version;
use crate::reference::{Definition, Entry, Place, Policy, Reference, Verdict, sha256};
use crate::transaction::{Tx, Writes, rand_nonce};

const KEYS: [&str; 4] = ["", "a", "b", "c"];
const NAMESPACES: [&str; 3] = ["both", "either", "undefined"];
/// With a policy of its own, without one, an organisation's own one, and one that no definition knows.
const COLLECTIONS: [&str; 4] = ["own", "plain", "_implicit_org_Org2MSP", "unknown"];

fn network() -> &'static Network {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    NETWORK.get_or_init(|| Network::usual(2))
}

/// How a random transaction is to be made; versions are filled in from the state of the moment.
#[derive(Debug, Clone)]
struct Plan {
    /// Take the id of an earlier transaction.
    repeat: Option<prop::sample::Index>,
    creator_good: bool,
    signers: BTreeSet<usize>,
    invoked: usize,
    namespaces: Vec<NsPlan>,
    mutation: Option<Mutation>,
}

#[derive(Debug, Clone, Default)]
struct NsPlan {
    /// Key, and whether the version is wrong.
    reads: Vec<(usize, bool)>,
    ranges: Vec<(usize, usize)>,
    values: Vec<(usize, Option<u8>)>,
    policies: Vec<(usize, Option<Policy>)>,
    collection: Option<CollectionPlan>,
}

#[derive(Debug, Clone)]
struct CollectionPlan {
    name: usize,
    reads: Vec<(usize, bool)>,
    values: Vec<(usize, HashedOp)>,
    policies: Vec<(usize, Option<Policy>)>,
}

#[derive(Debug, Clone, Copy)]
enum HashedOp {
    Put(u8),
    Delete,
    Purge,
    /// A value whose hash is that of an empty one, which deletes as well.
    Empty,
}

fn policy() -> impl Strategy<Value = Policy> {
    proptest::sample::select(&Policy::ALL[..])
}

fn reads() -> impl Strategy<Value = Vec<(usize, bool)>> {
    proptest::collection::vec((0..KEYS.len(), proptest::bool::weighted(0.1)), 0..2)
}

fn policies() -> impl Strategy<Value = Vec<(usize, Option<Policy>)>> {
    let one = (0..KEYS.len(), proptest::option::weighted(0.7, policy()));
    proptest::collection::vec(one, 0..2)
}

fn collection_plan() -> impl Strategy<Value = CollectionPlan> {
    let op = prop_oneof![
        6 => any::<u8>().prop_map(HashedOp::Put),
        1 => Just(HashedOp::Delete),
        1 => Just(HashedOp::Purge),
        1 => Just(HashedOp::Empty),
    ];
    let name = prop_oneof![5 => Just(0usize), 5 => Just(1), 3 => Just(2), 1 => Just(3)];
    let values = proptest::collection::vec((0..KEYS.len(), op), 0..3);
    (name, reads(), values, policies()).prop_map(|(name, reads, values, policies)| CollectionPlan {
        name,
        reads,
        values,
        policies,
    })
}

fn ns_plan() -> impl Strategy<Value = NsPlan> {
    let key = 0..KEYS.len();
    (
        reads(),
        proptest::collection::vec((key.clone(), 0..=KEYS.len()), 0..2),
        proptest::collection::vec((key, proptest::option::weighted(0.7, any::<u8>())), 0..3),
        policies(),
        proptest::option::weighted(0.4, collection_plan()),
    )
        .prop_map(|(reads, ranges, values, policies, collection)| NsPlan {
            reads,
            ranges,
            values,
            policies,
            collection,
        })
}

fn plan() -> impl Strategy<Value = Plan> {
    let signers = prop_oneof![
        1 => Just(BTreeSet::new()),
        3 => (0..2usize).prop_map(|org| BTreeSet::from([org])),
        6 => Just(BTreeSet::from([0, 1])),
    ];
    (
        proptest::option::weighted(0.1, any::<prop::sample::Index>()),
        proptest::bool::weighted(0.95),
        signers,
        prop_oneof![8 => Just(1usize), 3 => Just(0), 1 => Just(2)],
        proptest::collection::vec(ns_plan(), 3),
        proptest::option::weighted(0.3, mutation()),
    )
        .prop_map(
            |(repeat, creator_good, signers, invoked, mut namespaces, mutation)| {
                // Most transactions keep to one namespace.
                for (index, ns) in namespaces.iter_mut().enumerate() {
                    if index != invoked && (index == 2 || ns.reads.is_empty()) {
                        *ns = NsPlan::default();
                    }
                }
                Plan {
                    repeat,
                    creator_good,
                    signers,
                    invoked,
                    namespaces,
                    mutation,
                }
            },
        )
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Plan>>> {
    proptest::collection::vec(proptest::collection::vec(plan(), 1..7), 1..5)
}

/// The hash that stands for a private key; any bytes do.
fn key_hash(key: usize) -> Vec<u8> {
    vec![key as u8 + 1; 32]
}

/// The version that a transaction says it read.
fn seen(reference: &Reference<'_>, place: &Place, wrong: bool) -> Option<Version> {
    let version = reference.state.get(place).map(|entry| entry.version);
    if wrong {
        Some((version.map_or(0, |v| v.0) + 1, 7))
    } else {
        version
    }
}

fn proto_version(version: Version) -> kvrwset::Version {
    kvrwset::Version {
        block_num: version.0,
        tx_num: version.1,
    }
}

fn policy_text(policy: Option<Policy>) -> String {
    policy.map_or(String::new(), Policy::text)
}

fn add_public(mut all: Writes, name: &str, plan: &NsPlan, reference: &Reference<'_>) -> Writes {
    let place = |key: &str| (name.to_owned(), key.as_bytes().to_vec());
    for (key, wrong) in &plan.reads {
        all = all.read(name, KEYS[*key], seen(reference, &place(KEYS[*key]), *wrong));
    }
    for (key, value) in &plan.values {
        all = match value {
            Some(value) => all.put(name, KEYS[*key], &[*value]),
            None => all.delete(name, KEYS[*key]),
        };
    }
    for (key, policy) in &plan.policies {
        all = all.policy(name, KEYS[*key], &policy_text(*policy));
    }
    for (start, end) in &plan.ranges {
        let (start, end) = (KEYS[*start], KEYS.get(*end).copied().unwrap_or_default());
        let within = KEYS
            .iter()
            .filter(|k| **k >= start && (end.is_empty() || **k < end));
        let reads = within.filter_map(|key| {
            let version = seen(reference, &place(key), false)?;
            Some(kvrwset::KvRead {
                key: (*key).to_owned(),
                version: Some(proto_version(version)),
            })
        });
        let raw = kvrwset::QueryReads {
            kv_reads: reads.collect(),
        };
        all.public
            .entry(name.to_owned())
            .or_default()
            .range_queries_info
            .push(kvrwset::RangeQueryInfo {
                start_key: start.to_owned(),
                end_key: end.to_owned(),
                itr_exhausted: true,
                reads_info: Some(kvrwset::range_query_info::ReadsInfo::RawReads(raw)),
            });
    }
    all
}

fn add_hashed(mut all: Writes, name: &str, plan: &CollectionPlan, reference: &Reference<'_>) -> Writes {
    let collection = COLLECTIONS[plan.name];
    let place = |key: usize| (format!("{name}$$h{collection}"), key_hash(key));
    let set = all.collection(name, collection);
    for (key, wrong) in &plan.reads {
        set.hashed_reads.push(kvrwset::KvReadHash {
            key_hash: key_hash(*key).into(),
            version: seen(reference, &place(*key), *wrong).map(proto_version),
        });
    }
    for (key, op) in &plan.values {
        let value_hash = match op {
            HashedOp::Put(value) => vec![*value; 32],
            HashedOp::Empty => sha256(&[]),
            HashedOp::Delete | HashedOp::Purge => Vec::new(),
        };
        set.hashed_writes.push(kvrwset::KvWriteHash {
            key_hash: key_hash(*key).into(),
            is_delete: matches!(op, HashedOp::Delete | HashedOp::Purge),
            value_hash: value_hash.into(),
            is_purge: matches!(op, HashedOp::Purge),
        });
    }
    for (key, policy) in &plan.policies {
        all = all.hashed_policy(name, collection, &key_hash(*key), &policy_text(*policy));
    }
    all
}

fn make(plan: &Plan, nonces: &mut Vec<Bytes>, reference: &Reference<'_>) -> Bytes {
    let network = network();
    let nonce = match &plan.repeat {
        Some(index) if !nonces.is_empty() => nonces[index.index(nonces.len())].clone(),
        _ => rand_nonce(),
    };
    nonces.push(nonce.clone());
    let mut writes = Writes::new();
    for (name, ns) in NAMESPACES.iter().zip(&plan.namespaces) {
        writes = add_public(writes, name, ns, reference);
        if let Some(collection) = &ns.collection {
            writes = add_hashed(writes, name, collection, reference);
        }
    }
    let signers: Vec<usize> = plan.signers.iter().copied().collect();
    let tx = Tx {
        creator: &network.orgs[0].client,
        endorsers: network.peers(&signers),
        chaincode: NAMESPACES[plan.invoked].to_owned(),
        results: Bytes::new(),
        nonce,
        events: Bytes::new(),
    };
    mutation::envelope(&tx, &writes, plan.creator_good, plan.mutation.as_ref())
}

fn definition(policy: Policy) -> Definition {
    Definition {
        policy,
        collections: [
            ("own".to_owned(), Some(Policy::Only(1))),
            ("plain".to_owned(), None),
        ]
        .into(),
    }
}

fn collections(definition: &Definition) -> protos::CollectionConfigPackage {
    use protos::application_policy::Type;
    use protos::collection_config::Payload;
    let config = definition.collections.iter().map(|(name, policy)| {
        let parsed = policy.map(|policy| selvedge_msp::policy::dsl::parse(&policy.text()).unwrap());
        let config = protos::StaticCollectionConfig {
            name: name.clone(),
            endorsement_policy: parsed.map(|policy| protos::ApplicationPolicy {
                r#type: Some(Type::SignaturePolicy(policy)),
            }),
            ..Default::default()
        };
        protos::CollectionConfig {
            payload: Some(Payload::StaticCollectionConfig(config)),
        }
    });
    protos::CollectionConfigPackage {
        config: config.collect(),
    }
}

/// Everything in the state but configuration and definitions: value, metadata and version.
fn state_of(channel: &PeerChannel) -> BTreeMap<Place, (String, String, String)> {
    let report = replay::state(channel).unwrap();
    let entries = report.entries.into_iter();
    entries
        .filter(|entry| !["", "_lifecycle"].contains(&entry.ns.as_str()))
        .map(|entry| {
            let key = hex::decode(&entry.key_hex).unwrap();
            let metadata = entry.metadata_hex.unwrap_or_default();
            ((entry.ns, key), (entry.value_hex, metadata, entry.version))
        })
        .collect()
}

fn as_state(entry: &Entry) -> (String, String, String) {
    (
        hex::encode(&entry.value),
        hex::encode(entry.metadata_bytes()),
        format!("{}:{}", entry.version.0, entry.version.1),
    )
}

/// Sends the blocks through both, and returns the codes that came up.
fn agree(blocks: &[Vec<Plan>]) -> Result<BTreeSet<Code>, TestCaseError> {
    let network = network();
    let dir = tempfile::tempdir().unwrap();
    let channel = PeerChannel::create(dir.path(), network.genesis.clone()).unwrap();
    let mut reference = Reference::new(network);
    let next = |envelopes: Vec<Bytes>| {
        let previous = channel.ledger().blocks().last_hash().unwrap();
        network.block(channel.height(), previous, envelopes)
    };
    let definitions = [("both", Policy::Both), ("either", Policy::Either)];
    let definitions = definitions.map(|(name, policy)| (name, definition(policy)));
    let define = definitions.iter().map(|(name, definition)| {
        let tx = network.define(name, &definition.policy.text(), collections(definition));
        tx.envelope()
    });
    channel.process_block(next(define.collect())).unwrap();
    reference.definitions = definitions
        .map(|(name, definition)| (name.to_owned(), definition))
        .into();

    let (mut nonces, mut codes) = (Vec::new(), BTreeSet::new());
    for plans in blocks {
        let mut envelopes: Vec<Bytes> = Vec::new();
        for plan in plans {
            envelopes.push(make(plan, &mut nonces, &reference));
        }
        let number = channel.height();
        while !envelopes.is_empty() {
            let committed = match channel.process_block(next(envelopes.clone())) {
                Ok(committed) => committed,
                Err(error) => {
                    // A type that became CONFIG: such a block must not be passed over.
                    let Verdict::Halt(place) = reference.block(number, &envelopes, &[]) else {
                        return Err(TestCaseError::fail(format!("block {number}: {error}")));
                    };
                    let refused =
                        matches!(error, ProcessError::ConfigTransaction { index, .. } if index == place);
                    prop_assert!(refused, "block {}: {}", number, error);
                    prop_assert_eq!(channel.height(), number);
                    envelopes.remove(place);
                    continue;
                }
            };
            let said: Vec<Code> = committed.txs.iter().map(|tx| tx.code).collect();
            match reference.block(number, &envelopes, &said) {
                Verdict::Codes(wanted) => {
                    let reasons: Vec<_> = committed
                        .txs
                        .iter()
                        .map(|tx| channel.refusal(&tx.tx_id))
                        .collect();
                    prop_assert_eq!(&said, &wanted, "block {}: {:?}", number, reasons);
                }
                Verdict::Unknown => return Ok(codes),
                Verdict::Halt(place) => {
                    return Err(TestCaseError::fail(format!(
                        "transaction {place} of block {number} should have halted the channel: {said:?}"
                    )));
                }
            }
            codes.extend(said);
            let wanted: BTreeMap<Place, _> = reference
                .state
                .iter()
                .map(|(place, entry)| (place.clone(), as_state(entry)))
                .collect();
            prop_assert_eq!(state_of(&channel), wanted, "after block {}", number);
            break;
        }
    }
    Ok(codes)
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(96),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn the_pipeline_agrees_with_the_reference(blocks in blocks()) {
        agree(&blocks)?;
    }
}

/// The random blocks do reach the rules that they are meant to reach.
#[test]
fn the_random_blocks_meet_every_code_that_they_can() {
    let met = Mutex::new(BTreeSet::new());
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig {
            cases: 160,
            failure_persistence: None,
            ..ProptestConfig::default()
        },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let run = runner.run(&blocks(), |blocks| {
        met.lock().unwrap().extend(agree(&blocks)?);
        Ok(())
    });
    run.unwrap();
    let met = met.into_inner().unwrap();
    for code in [
        Code::Valid,
        Code::BadPayload,
        Code::BadCommonHeader,
        Code::BadCreatorSignature,
        Code::InvalidEndorserTransaction,
        Code::BadProposalTxid,
        Code::DuplicateTxid,
        Code::EndorsementPolicyFailure,
        Code::MvccReadConflict,
        Code::PhantomReadConflict,
        Code::BadHeaderExtension,
        Code::BadResponsePayload,
        Code::BadRwset,
        Code::IllegalWriteset,
        Code::InvalidChaincode,
        Code::InvalidOtherReason,
    ] {
        assert!(met.contains(&code), "{code:?} is not among {met:?}");
    }
}
