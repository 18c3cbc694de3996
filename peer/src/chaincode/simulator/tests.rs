use std::collections::BTreeMap;

use prost::Message;
use selvedge_ledger::{KeyRef, RangeIter};
use selvedge_proto::kvrwset;
use selvedge_proto::kvrwset::range_query_info::ReadsInfo;

use super::*;

/// A state in memory.
#[derive(Debug, Default, Clone)]
pub(crate) struct MemoryState {
    pub(crate) public: BTreeMap<(String, String), VersionedValue>,
    pub(crate) hashed: BTreeMap<(String, String, Vec<u8>), VersionedValue>,
    pub(crate) private: BTreeMap<(String, String, String), VersionedValue>,
    pub(crate) history: BTreeMap<(String, String), Vec<HistoryEntry>>,
}

impl MemoryState {
    pub(crate) fn put(&mut self, ns: &str, key: &str, value: &[u8], version: Version) {
        self.put_with_metadata(ns, key, value, &[], version);
    }

    pub(crate) fn put_with_metadata(
        &mut self,
        ns: &str,
        key: &str,
        value: &[u8],
        metadata: &[u8],
        version: Version,
    ) {
        self.public.insert(
            (ns.into(), key.into()),
            VersionedValue {
                value: Bytes::copy_from_slice(value),
                metadata: Bytes::copy_from_slice(metadata),
                version,
            },
        );
    }

    pub(crate) fn put_private(&mut self, ns: &str, coll: &str, key: &str, value: &[u8], version: Version) {
        let entry = |value| VersionedValue {
            value,
            metadata: Bytes::new(),
            version,
        };
        let hash = sha256(key.as_bytes()).to_vec();
        self.hashed
            .insert((ns.into(), coll.into(), hash), entry(sha256(value)));
        self.private.insert(
            (ns.into(), coll.into(), key.into()),
            entry(Bytes::copy_from_slice(value)),
        );
    }
}

impl StateReader for MemoryState {
    fn get_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<VersionedValue>>, LedgerError> {
        Ok(keys
            .iter()
            .map(|key| match *key {
                KeyRef::Public { ns, key } => self.public.get(&(ns.into(), key.into())).cloned(),
                KeyRef::Hashed {
                    ns,
                    collection,
                    key_hash,
                } => self
                    .hashed
                    .get(&(ns.into(), collection.into(), key_hash.to_vec()))
                    .cloned(),
                KeyRef::Private { ns, collection, key } => self
                    .private
                    .get(&(ns.into(), collection.into(), key.into()))
                    .cloned(),
            })
            .collect())
    }

    fn range(&self, ns: &str, start: &str, end: &str) -> RangeIter<'_> {
        let (ns, end) = (ns.to_owned(), end.to_owned());
        let from = (ns.clone(), start.to_owned());
        Box::new(
            self.public
                .range(from..)
                .take_while(move |((found, key), _)| *found == ns && (end.is_empty() || *key < end))
                .map(|((_, key), value)| Ok((key.clone(), value.clone()))),
        )
    }
}

impl SimulationState for MemoryState {
    fn height(&self) -> u64 {
        1
    }

    fn history(
        &self,
        namespace: &str,
        key: &str,
        before: Option<Version>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, LedgerError> {
        let all = self.history.get(&(namespace.into(), key.into()));
        let below = |e: &&HistoryEntry| before.is_none_or(|b| e.version < b);
        Ok(all
            .into_iter()
            .flatten()
            .filter(below)
            .take(limit)
            .cloned()
            .collect())
    }
}

fn version(block: u64, tx: u64) -> Version {
    Version { block, tx }
}

fn with_keys(count: usize) -> MemoryState {
    let mut state = MemoryState::default();
    for i in 0..count {
        state.put("cc", &format!("k{i:04}"), b"v", version(2, i as u64));
    }
    state
}

fn simulator(state: MemoryState) -> Simulator {
    Simulator::new(Box::new(state))
}

fn set_of(results: &SimulationResults, namespace: &str) -> kvrwset::KvrwSet {
    let ns = results
        .public
        .ns_rwset
        .iter()
        .find(|n| n.namespace == namespace)
        .unwrap();
    kvrwset::KvrwSet::decode(ns.rwset.clone()).unwrap()
}

#[test]
fn a_key_is_recorded_once_sorted_and_reads_ignore_own_writes() {
    let mut state = MemoryState::default();
    state.put("cc", "b", b"old", version(3, 1));
    let mut sim = simulator(state);
    sim.put("cc", "b", Bytes::from_static(b"new")).unwrap();
    sim.put("cc", "a", Bytes::from_static(b"1")).unwrap();
    sim.put("cc", "a", Bytes::from_static(b"2")).unwrap();
    sim.put("cc", "c", Bytes::from_static(b"x")).unwrap();
    sim.delete("cc", "c").unwrap();
    assert_eq!(sim.get("cc", "b").unwrap().unwrap(), "old");
    assert_eq!(sim.get("cc", "a").unwrap(), None);
    sim.get("cc", "b").unwrap();
    let set = set_of(&sim.results(), "cc");
    let read = |key: &str, version| kvrwset::KvRead {
        key: key.into(),
        version,
    };
    let v = kvrwset::Version {
        block_num: 3,
        tx_num: 1,
    };
    assert_eq!(set.reads, vec![read("a", None), read("b", Some(v))]);
    let write = |key: &str, value: &'static str| kvrwset::KvWrite {
        key: key.into(),
        is_delete: value.is_empty(),
        value: value.into(),
    };
    assert_eq!(
        set.writes,
        vec![write("a", "2"), write("b", "new"), write("c", "")]
    );
}

#[test]
fn namespaces_are_sorted_and_untouched_ones_absent() {
    let mut sim = simulator(MemoryState::default());
    sim.get("z", "k").unwrap();
    sim.get("a", "k").unwrap();
    let names: Vec<_> = sim
        .results()
        .public
        .ns_rwset
        .into_iter()
        .map(|n| n.namespace)
        .collect();
    assert_eq!(names, ["a", "z"]);
    assert_eq!(
        simulator(MemoryState::default()).results().public.encoded_len(),
        0
    );
}

#[test]
fn what_is_not_allowed_is_refused() {
    let mut sim = simulator(MemoryState::default());
    let text = |e: Result<(), SimulationError>| e.unwrap_err().to_string();
    assert!(text(sim.put("cc", "", Bytes::from_static(b"x"))).contains("key is empty"));
    assert!(text(sim.put("cc", "k", Bytes::new())).contains("takes for a deletion"));
    assert!(text(sim.delete("cc", &"x".repeat(MAX_KEY_BYTES + 1))).contains("at most 16384"));
    let big = Bytes::from(vec![1; MAX_VALUE_BYTES]);
    for i in 0..3 {
        sim.put("cc", &i.to_string(), big.clone()).unwrap();
    }
    assert!(text(sim.put("cc", "4", big)).contains("split it"));
    assert!(text(sim.put("cc", "5", Bytes::from(vec![1; MAX_VALUE_BYTES + 1]))).contains("at most 8388608"));
}

fn take(sim: &mut Simulator, handle: usize, count: usize) -> usize {
    (0..count).map_while(|_| sim.next(handle).unwrap()).count()
}

fn only_range(sim: Simulator) -> kvrwset::RangeQueryInfo {
    let mut ranges = set_of(&sim.results(), "cc").range_queries_info;
    assert_eq!(ranges.len(), 1);
    ranges.remove(0)
}

#[test]
fn a_short_range_is_recorded_whole_even_if_only_one_result_is_taken() {
    for count in [1, 50, 100] {
        let mut sim = simulator(with_keys(count));
        let handle = sim.open_range("cc", "", "").unwrap();
        take(&mut sim, handle, 1);
        sim.close(handle);
        let range = only_range(sim);
        assert_eq!((range.start_key.as_str(), range.end_key.as_str()), ("\u{1}", ""));
        assert!(range.itr_exhausted);
        match range.reads_info.unwrap() {
            ReadsInfo::RawReads(raw) => {
                assert!(count <= 50);
                assert_eq!(raw.kv_reads.len(), count);
                assert_eq!(raw.kv_reads[0].version.unwrap().block_num, 2);
            }
            ReadsInfo::ReadsMerkleHashes(merkle) => {
                assert_eq!(count, 100);
                assert_eq!(
                    (merkle.max_degree, merkle.max_level, merkle.max_level_hashes.len()),
                    (50, 1, 2)
                );
            }
        }
    }
}

#[test]
fn fifty_results_are_raw_and_fifty_one_are_hashed() {
    for (count, raw) in [(50, true), (51, false)] {
        let mut sim = simulator(with_keys(count));
        sim.open_range("cc", "k", "l").unwrap();
        let info = only_range(sim).reads_info.unwrap();
        assert_eq!(matches!(info, ReadsInfo::RawReads(_)), raw, "{count}");
    }
}

#[test]
fn a_long_range_is_recorded_by_what_the_peer_fetched() {
    let cases = [
        (101, 1, "k0100", false),
        (250, 1, "k0100", false),
        (250, 100, "k0100", false),
        (250, 101, "k0200", false),
        (250, 200, "k0200", false),
        (250, 201, "l", true),
        (250, 1000, "l", true),
        (101, 1000, "l", true),
    ];
    for (count, taken, end, exhausted) in cases {
        let mut sim = simulator(with_keys(count));
        let handle = sim.open_range("cc", "k", "l").unwrap();
        assert_eq!(take(&mut sim, handle, taken), taken.min(count), "{count} {taken}");
        let range = only_range(sim);
        assert_eq!(
            (range.end_key.as_str(), range.itr_exhausted),
            (end, exhausted),
            "{count} {taken}"
        );
    }
}

/// Spec 03 §6, seen on a real chain: 101 fetched results give two leaves, of 51 and 50 reads.
#[test]
fn an_unfinished_iterator_over_many_keys_has_two_leaves() {
    let mut sim = simulator(with_keys(300));
    sim.open_range("cc", "", "").unwrap();
    let range = only_range(sim);
    let reads = |from: u64, to: u64| {
        let kv_reads = (from..to)
            .map(|i| kvrwset::KvRead {
                key: format!("k{i:04}"),
                version: Some(kvrwset::Version {
                    block_num: 2,
                    tx_num: i,
                }),
            })
            .collect();
        sha256(&kvrwset::QueryReads { kv_reads }.encode_to_vec())
    };
    let Some(ReadsInfo::ReadsMerkleHashes(merkle)) = range.reads_info else {
        panic!("not hashed")
    };
    assert_eq!(merkle.max_level_hashes, vec![reads(0, 51), reads(51, 101)]);
    assert_eq!(merkle.max_level, 1);
}

#[test]
fn an_empty_range_is_recorded_without_reads_and_twins_once() {
    let mut sim = simulator(with_keys(3));
    for _ in 0..2 {
        sim.open_range("cc", "x", "y").unwrap();
    }
    sim.open_range("cc", "y", "x").unwrap();
    let ranges = set_of(&sim.results(), "cc").range_queries_info;
    assert_eq!(ranges.len(), 2);
    assert!(ranges.iter().all(|r| r.reads_info.is_none() && r.itr_exhausted));
}

#[test]
fn iterators_are_bounded_and_checked() {
    let mut sim = simulator(with_keys(1));
    for _ in 0..MAX_OPEN_ITERATORS {
        sim.open_range("cc", "", "").unwrap();
    }
    assert!(
        sim.open_range("cc", "", "")
            .unwrap_err()
            .to_string()
            .contains("close those")
    );
    sim.close(0);
    sim.close(0);
    assert!(sim.next(0).is_err());
    let handle = sim.open_history("cc", "k0000").unwrap();
    assert_eq!(sim.next(handle).unwrap(), None);
    sim.close(handle);
    assert!(sim.next(handle).is_err());
    assert!(sim.next(10_000).is_err());
}

#[test]
fn private_data_is_hashed_and_brings_the_five_definition_reads() {
    let mut state = MemoryState::default();
    state.put(LIFECYCLE, "namespaces/fields/cc/Sequence", b"1", version(1, 0));
    state.put_private("cc", "coll", "old", b"secret", version(4, 0));
    let mut sim = simulator(state);
    assert_eq!(sim.get_private("cc", "coll", "old").unwrap().unwrap(), "secret");
    sim.put_private("cc", "coll", "zz", Bytes::from_static(b"1"))
        .unwrap();
    sim.delete_private("cc", "coll", "aa").unwrap();
    let interest = sim.interest(|n| n == LIFECYCLE).unwrap();
    assert_eq!(interest.chaincodes.len(), 1);
    assert_eq!(interest.chaincodes[0].collection_names, ["coll"]);
    assert!(!interest.chaincodes[0].no_private_reads);
    let results = sim.results();
    let keys: Vec<_> = set_of(&results, LIFECYCLE)
        .reads
        .into_iter()
        .map(|r| r.key)
        .collect();
    assert_eq!(
        keys,
        [
            "namespaces/fields/cc/Collections",
            "namespaces/fields/cc/EndorsementInfo",
            "namespaces/fields/cc/Sequence",
            "namespaces/fields/cc/ValidationInfo",
            "namespaces/metadata/cc"
        ]
    );
    let ns = results
        .public
        .ns_rwset
        .iter()
        .find(|n| n.namespace == "cc")
        .unwrap();
    assert!(ns.rwset.is_empty());
    let coll = &ns.collection_hashed_rwset[0];
    let hashed = kvrwset::HashedRwSet::decode(coll.hashed_rwset.clone()).unwrap();
    assert_eq!(hashed.hashed_reads[0].key_hash, sha256(b"old"));
    assert_eq!(hashed.hashed_reads[0].version.unwrap().block_num, 4);
    let written: Vec<_> = hashed
        .hashed_writes
        .iter()
        .map(|w| (w.key_hash.clone(), w.is_delete))
        .collect();
    assert_eq!(written, [(sha256(b"aa"), true), (sha256(b"zz"), false)]);
    assert!(hashed.hashed_writes[0].value_hash.is_empty());
    let private = results.private.unwrap();
    assert_eq!(
        coll.pvt_rwset_hash,
        sha256(&private.ns_pvt_rwset[0].collection_pvt_rwset[0].rwset)
    );
}

#[test]
fn a_private_value_that_this_peer_lacks_is_an_error() {
    let mut state = MemoryState::default();
    state.put_private("cc", "coll", "k", b"secret", version(4, 2));
    state.private.clear();
    let text = simulator(state)
        .get_private("cc", "coll", "k")
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("not available. Public hash version = {BlockNum: 4, TxNum: 2}"),
        "{text}"
    );
}

#[test]
fn key_policies_go_into_the_interest() {
    let policy = selvedge_proto::common::SignaturePolicyEnvelope {
        version: 0,
        ..Default::default()
    };
    let envelope = selvedge_proto::common::SignaturePolicyEnvelope {
        rule: Some(selvedge_proto::common::SignaturePolicy {
            r#type: Some(selvedge_proto::common::signature_policy::Type::SignedBy(0)),
        }),
        ..policy
    };
    let metadata = kvrwset::KvMetadataWrite {
        key: String::new(),
        entries: vec![kvrwset::KvMetadataEntry {
            name: VALIDATION_PARAMETER.into(),
            value: envelope.encode_to_vec().into(),
        }],
    };
    let mut state = MemoryState::default();
    state.put_with_metadata("cc", "guarded", b"v", &metadata.encode_to_vec(), version(1, 0));
    state.put("cc", "plain", b"v", version(1, 0));
    let run = |keys: &[&str]| {
        let mut sim = simulator(state.clone());
        for key in keys {
            sim.put("cc", key, Bytes::from_static(b"x")).unwrap();
        }
        sim.interest(|_| false).unwrap().chaincodes
    };
    let guarded = run(&["guarded"]);
    assert!(guarded[0].disregard_namespace_policy);
    assert_eq!(guarded[0].key_policies, vec![envelope.clone()]);
    let both = run(&["guarded", "plain"]);
    assert!(!both[0].disregard_namespace_policy);
    assert_eq!(both[0].key_policies, vec![envelope]);
    assert!(run(&["plain"])[0].key_policies.is_empty());
    let mut sim = simulator(state.clone());
    assert!(sim.validation_parameter("cc", "guarded").unwrap().is_some());
    assert_eq!(sim.validation_parameter("cc", "plain").unwrap(), None);
}

#[test]
fn history_comes_newest_first_and_in_pieces() {
    let mut state = MemoryState::default();
    let entries: Vec<_> = (0..250u64)
        .rev()
        .map(|n| HistoryEntry {
            tx_id: format!("tx{n}"),
            value: Bytes::from(n.to_string()),
            timestamp: None,
            is_delete: false,
            version: version(n, 0),
        })
        .collect();
    state.history.insert(("cc".into(), "k".into()), entries.clone());
    let mut sim = simulator(state);
    let handle = sim.open_history("cc", "k").unwrap();
    let mut seen = Vec::new();
    while let Some(item) = sim.next(handle).unwrap() {
        seen.push(item);
    }
    assert_eq!(seen, entries.into_iter().map(Item::History).collect::<Vec<_>>());
    assert!(sim.results().public.ns_rwset.is_empty());
}
