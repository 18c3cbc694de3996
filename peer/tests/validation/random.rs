//! Random blocks through the pipeline and through the reference: same codes, same state.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use proptest::prelude::*;
use selvedge_ledger::StateReader;
use selvedge_peer::PeerChannel;
use selvedge_proto::protos::TxValidationCode as Code;
use selvedge_proto::{Bytes, common, kvrwset};

use crate::network::Network;
use crate::reference::{Described, Ns, Policy, Reference, ValueOp};
use crate::transaction::{Tx, Writes, rand_nonce};

const KEYS: [&str; 4] = ["", "a", "b", "c"];

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
    /// Change one byte of the envelope.
    flip: Option<(prop::sample::Index, u8)>,
}

#[derive(Debug, Clone)]
struct NsPlan {
    /// Key, and whether the version is wrong.
    reads: Vec<(usize, bool)>,
    ranges: Vec<(usize, usize)>,
    values: Vec<(usize, Option<u8>)>,
    policies: Vec<(usize, Option<Policy>)>,
}

const NAMESPACES: [&str; 3] = ["both", "either", "undefined"];

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Either),
        Just(Policy::Both),
        (0..2usize).prop_map(Policy::Only)
    ]
}

fn ns_plan() -> impl Strategy<Value = NsPlan> {
    let key = 0..KEYS.len();
    (
        proptest::collection::vec((key.clone(), proptest::bool::weighted(0.1)), 0..2),
        proptest::collection::vec((key.clone(), 0..=KEYS.len()), 0..2),
        proptest::collection::vec((key.clone(), proptest::option::weighted(0.7, any::<u8>())), 0..3),
        proptest::collection::vec((key, proptest::option::weighted(0.7, policy())), 0..2),
    )
        .prop_map(|(reads, ranges, values, policies)| NsPlan {
            reads,
            ranges,
            values,
            policies,
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
        proptest::option::weighted(0.05, (any::<prop::sample::Index>(), 1u8..)),
    )
        .prop_map(|(repeat, creator_good, signers, invoked, mut namespaces, flip)| {
            // Most transactions keep to one namespace.
            for (index, ns) in namespaces.iter_mut().enumerate() {
                if index != invoked && (index == 2 || ns.reads.is_empty()) {
                    *ns = NsPlan {
                        reads: vec![],
                        ranges: vec![],
                        values: vec![],
                        policies: vec![],
                    };
                }
            }
            Plan {
                repeat,
                creator_good,
                signers,
                invoked,
                namespaces,
                flip,
            }
        })
}

fn describe(plan: &NsPlan, name: &str, reference: &Reference) -> Ns {
    let key = |i: usize| KEYS[i].to_owned();
    let version = |key: &str| {
        reference
            .state
            .get(&(name.to_owned(), key.to_owned()))
            .map(|entry| entry.version)
    };
    let reads = plan.reads.iter().map(|(i, wrong)| {
        let version = version(KEYS[*i]);
        (
            key(*i),
            if *wrong {
                Some((version.map_or(0, |v| v.0) + 1, 7))
            } else {
                version
            },
        )
    });
    let ranges = plan.ranges.iter().map(|(start, end)| {
        let (start, end) = (
            key(*start),
            KEYS.get(*end).map_or(String::new(), |k| (*k).to_owned()),
        );
        let results = KEYS
            .iter()
            .filter(|k| **k >= start.as_str() && (end.is_empty() || **k < end.as_str()));
        let results = results
            .filter_map(|k| Some(((*k).to_owned(), version(k)?)))
            .collect();
        (start, end, results)
    });
    Ns {
        reads: reads.collect(),
        ranges: ranges.collect(),
        values: plan
            .values
            .iter()
            .map(|(i, value)| (key(*i), value.map_or(ValueOp::Delete, |v| ValueOp::Put(vec![v]))))
            .collect(),
        policies: plan
            .policies
            .iter()
            .map(|(i, policy)| (key(*i), *policy))
            .collect(),
    }
}

fn writes(namespaces: &[(String, Ns)]) -> Writes {
    let mut all = Writes::new();
    for (name, ns) in namespaces {
        for (key, version) in &ns.reads {
            all = all.read(name, key, *version);
        }
        for (key, op) in &ns.values {
            all = match op {
                ValueOp::Put(value) => all.put(name, key, value),
                ValueOp::Delete => all.delete(name, key),
            };
        }
        for (key, policy) in &ns.policies {
            all = all.policy(name, key, &policy.map_or(String::new(), Policy::text));
        }
        for (start, end, results) in &ns.ranges {
            let reads = results.iter().map(|(key, (block_num, tx_num))| kvrwset::KvRead {
                key: key.clone(),
                version: Some(kvrwset::Version {
                    block_num: *block_num,
                    tx_num: *tx_num,
                }),
            });
            all.public
                .entry(name.clone())
                .or_default()
                .range_queries_info
                .push(kvrwset::RangeQueryInfo {
                    start_key: start.clone(),
                    end_key: end.clone(),
                    itr_exhausted: true,
                    reads_info: Some(kvrwset::range_query_info::ReadsInfo::RawReads(
                        kvrwset::QueryReads {
                            kv_reads: reads.collect(),
                        },
                    )),
                });
        }
    }
    all
}

struct Made {
    described: Described,
    envelope: Bytes,
    /// One byte differs from what was signed.
    mutated: bool,
}

fn make(plan: &Plan, nonces: &mut Vec<Bytes>, reference: &Reference) -> Made {
    let network = network();
    let nonce = match &plan.repeat {
        Some(index) if !nonces.is_empty() => nonces[index.index(nonces.len())].clone(),
        _ => rand_nonce(),
    };
    let mut namespaces: Vec<(String, Ns)> = Vec::new();
    let order = std::iter::once(plan.invoked).chain((0..3).filter(|i| *i != plan.invoked));
    for index in order {
        let name = NAMESPACES[index];
        namespaces.push((
            name.to_owned(),
            describe(&plan.namespaces[index], name, reference),
        ));
    }
    let creator = &network.orgs[0].client;
    let signers: Vec<usize> = plan.signers.iter().copied().collect();
    let tx = Tx {
        creator,
        endorsers: network.peers(&signers),
        chaincode: namespaces[0].0.clone(),
        results: writes(&namespaces).results(),
        nonce: nonce.clone(),
        events: Bytes::new(),
    };
    let mut envelope = tx.envelope();
    if !plan.creator_good {
        use selvedge_proto::Message;
        let mut open = common::Envelope::decode(envelope).unwrap();
        open.signature = creator.sign(b"something else").unwrap();
        envelope = open.encode_to_vec().into();
    }
    let mut described = Described {
        id: tx.id(),
        creator_good: plan.creator_good,
        signers: plan.signers.clone(),
        namespaces,
    };
    let mutated = plan.flip.is_some();
    if let Some((place, by)) = &plan.flip {
        let mut bytes = envelope.to_vec();
        let at = place.index(bytes.len());
        bytes[at] ^= by;
        envelope = bytes.into();
        // Refused before anything else is looked at; what id the index keeps of it does not matter, since it is not used again.
        described.creator_good = false;
        described.id = format!("mutated {}", described.id);
    } else {
        nonces.push(nonce);
    }
    Made {
        described,
        envelope,
        mutated,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_pipeline_agrees_with_the_reference(
        blocks in proptest::collection::vec(proptest::collection::vec(plan(), 1..7), 1..5),
    ) {
        let network = network();
        let dir = tempfile::tempdir().unwrap();
        let channel = PeerChannel::create(dir.path(), network.genesis.clone()).unwrap();
        let mut reference = Reference::default();
        let next = |envelopes: Vec<Bytes>| {
            let previous = channel.ledger().blocks().last_hash().unwrap();
            network.block(channel.height(), previous, envelopes)
        };
        let definitions = [("both", Policy::Both), ("either", Policy::Either)];
        let define = definitions.map(|(name, policy)| network.define(name, &policy.text(), Default::default()).envelope());
        channel.process_block(next(define.to_vec())).unwrap();
        reference.definitions = definitions.iter().map(|(name, policy)| ((*name).to_owned(), *policy)).collect();

        let mut nonces = Vec::new();
        for plans in &blocks {
            let number = channel.height();
            let made: Vec<Made> = plans.iter().map(|plan| make(plan, &mut nonces, &reference)).collect();
            let committed = channel.process_block(next(made.iter().map(|m| m.envelope.clone()).collect())).unwrap();
            let described: Vec<Described> = made.iter().map(|m| m.described.clone()).collect();
            let wanted = reference.block(number, &described);
            for (index, (tx, wanted)) in committed.txs.iter().zip(&wanted).enumerate() {
                if made[index].mutated {
                    let early = [Code::InvalidOtherReason, Code::BadPayload, Code::BadCommonHeader, Code::BadCreatorSignature];
                    prop_assert!(early.contains(&tx.code), "{:?}", tx.code);
                } else {
                    let reason = channel.refusal(&tx.tx_id);
                    prop_assert_eq!(tx.code, *wanted, "tx {} of block {}: {:?}; {:?}", index, number, reason, made[index].described);
                }
            }
            let state = channel.ledger().state();
            for ns in NAMESPACES {
                for key in KEYS {
                    let found = state.get(ns, key).unwrap();
                    let wanted = reference.state.get(&(ns.to_owned(), key.to_owned()));
                    let found = found.map(|e| (e.value.to_vec(), (e.version.block, e.version.tx), !e.metadata.is_empty()));
                    let wanted = wanted.map(|e| (e.value.clone(), e.version, e.policy.is_some()));
                    prop_assert_eq!(found, wanted, "{} {:?} after block {}", ns, key, number);
                }
            }
        }
    }
}
