//! Random blocks against the reference.

use std::collections::BTreeMap;

use proptest::prelude::*;
use selvedge_proto::kvrwset::{HashedRwSet, KvMetadataWriteHash, KvReadHash, KvWriteHash};

use super::*;
use crate::mvcc::reference;
use crate::range_hash::RangeHasher;
use crate::rwset::CollectionRwset;

fn key(i: u8) -> String {
    // The empty key is legal, and so is one with a byte 0.
    match i {
        0 => String::new(),
        1 => "a\0b".into(),
        n => format!("k{n}"),
    }
}

/// What a generated transaction does; reads are filled in from the state, current or spoilt.
#[derive(Debug, Clone)]
enum Op {
    Read {
        ns: u8,
        key: u8,
        spoil: bool,
    },
    Write {
        ns: u8,
        key: u8,
        value: Option<u8>,
    },
    Metadata {
        ns: u8,
        key: u8,
        entries: u8,
    },
    HashedRead {
        ns: u8,
        key: u8,
        spoil: bool,
    },
    HashedWrite {
        ns: u8,
        coll: u8,
        key: u8,
        value: Option<u8>,
        mark: bool,
    },
    HashedMetadata {
        ns: u8,
        coll: u8,
        key: u8,
        entries: u8,
    },
    Range {
        ns: u8,
        start: u8,
        end: u8,
        exhausted: bool,
        degree: u32,
        spoil: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let (ns, key, coll) = (0u8..2, 0u8..7, 0u8..2);
    let value = prop::option::weighted(0.7, 0u8..3);
    prop_oneof![
        2 => (ns.clone(), key.clone(), prop::bool::weighted(0.1)).prop_map(|(ns, key, spoil)| Op::Read { ns, key, spoil }),
        4 => (ns.clone(), key.clone(), value.clone()).prop_map(|(ns, key, value)| Op::Write { ns, key, value }),
        2 => (ns.clone(), key.clone(), 0u8..3).prop_map(|(ns, key, entries)| Op::Metadata { ns, key, entries }),
        1 => (ns.clone(), key.clone(), prop::bool::weighted(0.1)).prop_map(|(ns, key, spoil)| Op::HashedRead { ns, key, spoil }),
        2 => (ns.clone(), coll.clone(), key.clone(), value, any::<bool>())
            .prop_map(|(ns, coll, key, value, mark)| Op::HashedWrite { ns, coll, key, value, mark }),
        1 => (ns.clone(), coll, key.clone(), 0u8..3)
            .prop_map(|(ns, coll, key, entries)| Op::HashedMetadata { ns, coll, key, entries }),
        1 => (ns, key, 0u8..9, any::<bool>(), 0u32..4, 0u8..12)
            .prop_map(|(ns, start, end, exhausted, degree, spoil)| Op::Range { ns, start, end, exhausted, degree, spoil }),
    ]
}

fn rwset(ops: &[Op], state: &MemoryState) -> ParsedRwset {
    let mut spaces: BTreeMap<u8, (KvrwSet, BTreeMap<u8, HashedRwSet>)> = BTreeMap::new();
    let current = |entry: Option<VersionedValue>, spoil: bool| match entry {
        Some(e) if !spoil => version(Some((e.version.block, e.version.tx))),
        Some(_) => None,
        None => spoil.then_some(kvrwset::Version {
            block_num: 0,
            tx_num: 0,
        }),
    };
    for op in ops.iter().cloned() {
        match op {
            Op::Read { ns, key: k, spoil } => {
                let entry = state.get(&format!("ns{ns}"), &key(k)).unwrap();
                let version = current(entry, spoil);
                spaces
                    .entry(ns)
                    .or_default()
                    .0
                    .reads
                    .push(KvRead { key: key(k), version });
            }
            Op::Write { ns, key: k, value } => spaces.entry(ns).or_default().0.writes.push(KvWrite {
                key: key(k),
                is_delete: value == Some(0),
                value: value.map(|v| Bytes::from(vec![v + 1])).unwrap_or_default(),
            }),
            Op::Metadata {
                ns,
                key: k,
                entries: n,
            } => {
                let write = KvMetadataWrite {
                    key: key(k),
                    entries: entries(n),
                };
                spaces.entry(ns).or_default().0.metadata_writes.push(write);
            }
            Op::HashedRead { ns, key: k, spoil } => {
                let entry = state
                    .get_hashed(&format!("ns{ns}"), "c0", key(k).as_bytes())
                    .unwrap();
                let read = KvReadHash {
                    key_hash: key(k).into(),
                    version: current(entry, spoil),
                };
                spaces
                    .entry(ns)
                    .or_default()
                    .1
                    .entry(0)
                    .or_default()
                    .hashed_reads
                    .push(read);
            }
            Op::HashedWrite {
                ns,
                coll,
                key: k,
                value,
                mark,
            } => {
                let write = KvWriteHash {
                    key_hash: key(k).into(),
                    is_delete: mark && value == Some(0),
                    value_hash: value.map(|v| Bytes::from(vec![v; 32])).unwrap_or_default(),
                    is_purge: mark,
                };
                spaces
                    .entry(ns)
                    .or_default()
                    .1
                    .entry(coll)
                    .or_default()
                    .hashed_writes
                    .push(write);
            }
            Op::HashedMetadata {
                ns,
                coll,
                key: k,
                entries: n,
            } => {
                let write = KvMetadataWriteHash {
                    key_hash: key(k).into(),
                    entries: entries(n),
                };
                spaces
                    .entry(ns)
                    .or_default()
                    .1
                    .entry(coll)
                    .or_default()
                    .metadata_writes
                    .push(write);
            }
            Op::Range {
                ns,
                start,
                end,
                exhausted,
                degree,
                spoil,
            } => {
                let query = range(
                    &format!("ns{ns}"),
                    &key(start),
                    &key(end % 8),
                    exhausted,
                    degree,
                    spoil,
                    state,
                );
                spaces.entry(ns).or_default().0.range_queries_info.push(query);
            }
        }
    }
    let namespaces = spaces.into_iter().map(|(ns, (public, colls))| NamespaceRwset {
        namespace: format!("ns{ns}"),
        public,
        collections: colls
            .into_iter()
            .map(|(c, hashed)| CollectionRwset {
                collection: format!("c{c}"),
                hashed,
                pvt_rwset_hash: Bytes::new(),
            })
            .collect(),
    });
    ParsedRwset {
        namespaces: namespaces.collect(),
    }
}

fn range(
    ns: &str,
    start: &str,
    end: &str,
    exhausted: bool,
    degree: u32,
    spoil: u8,
    state: &MemoryState,
) -> RangeQueryInfo {
    let mut reads: Vec<KvRead> = state
        .range(ns, start, end)
        .map(|found| {
            let (key, entry) = found.unwrap();
            KvRead {
                key,
                version: Some(entry.version.to_proto()),
            }
        })
        .collect();
    if !exhausted && let Some(entry) = state.get(ns, end).unwrap() {
        reads.push(KvRead {
            key: end.to_owned(),
            version: Some(entry.version.to_proto()),
        });
    }
    if spoil == 0 {
        reads.pop();
    }
    let reads_info = if degree < 2 {
        (!reads.is_empty() || degree == 1).then_some(ReadsInfo::RawReads(QueryReads { kv_reads: reads }))
    } else {
        let mut hasher = RangeHasher::new(degree).unwrap();
        reads.into_iter().for_each(|r| hasher.add(r));
        hasher.finish()
    };
    RangeQueryInfo {
        start_key: start.to_owned(),
        end_key: end.to_owned(),
        itr_exhausted: exhausted,
        reads_info,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn equals_the_reference(
        blocks in prop::collection::vec(
            prop::collection::vec((prop::collection::vec(op(), 0..7), prop::bool::weighted(0.1)), 1..6), 1..5),
    ) {
        let mut state = MemoryState::default();
        for (number, block) in (0u64..).zip(blocks) {
            let txs: Vec<_> = block.iter().map(|(ops, _)| Some(rwset(ops, &state))).collect();
            let before: Vec<Code> =
                block.iter().map(|(_, bad)| if *bad { Code::EndorsementPolicyFailure } else { Code::Valid }).collect();
            let (codes, updates, conflicts) = judge_all(number, &txs, &before, &state);
            let (wanted, after) = reference::judge(number, &txs, &before, &state);
            prop_assert_eq!(&codes, &wanted);
            let failed: Vec<_> = (0u64..)
                .zip(&codes)
                .filter(|(_, c)| matches!(c, Code::MvccReadConflict | Code::PhantomReadConflict))
                .map(|(i, c)| (i, *c))
                .collect();
            let told: Vec<_> = conflicts.iter().map(|c| (c.tx, c.code())).collect();
            prop_assert_eq!(failed, told);
            state.apply(&updates);
            prop_assert_eq!(&state, &after);
        }
    }
}
