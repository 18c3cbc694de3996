mod random;

use bytes::Bytes;
use selvedge_proto::kvrwset::{
    self, KvMetadataEntry, KvMetadataWrite, KvRead, KvWrite, KvrwSet, QueryReads, RangeQueryInfo,
    range_query_info::ReadsInfo,
};
use selvedge_proto::protos::TxValidationCode as Code;

use super::reference::MemoryState;
use super::*;
use crate::rwset::NamespaceRwset;

fn entries(n: u8) -> Vec<KvMetadataEntry> {
    let entry = |i| KvMetadataEntry {
        name: format!("M{i}"),
        value: Bytes::from(vec![i]),
    };
    (0..n).map(entry).collect()
}

fn version(v: Option<(u64, u64)>) -> Option<kvrwset::Version> {
    v.map(|(block_num, tx_num)| kvrwset::Version { block_num, tx_num })
}

fn judge_all(
    block: u64,
    txs: &[Option<ParsedRwset>],
    before: &[Code],
    state: &MemoryState,
) -> (Vec<Code>, UpdateBatch, Vec<MvccConflict>) {
    let inputs: Vec<TxInput<'_>> = txs
        .iter()
        .map(|t| TxInput {
            rwset: t.as_ref(),
            config: None,
        })
        .collect();
    let mut codes = before.to_vec();
    let (updates, conflicts) = judge(block, &inputs, &mut codes, state).unwrap();
    let replayed = replay(block, &inputs, &codes, state);
    assert_eq!(replayed.unwrap(), updates, "replaying gives the same writes");
    (codes, updates, conflicts)
}

/// A transaction that does `f` to the public set of namespace `cc`.
fn tx(f: impl FnOnce(&mut KvrwSet)) -> Option<ParsedRwset> {
    let mut public = KvrwSet::default();
    f(&mut public);
    Some(ParsedRwset {
        namespaces: vec![NamespaceRwset {
            namespace: "cc".into(),
            public,
            collections: Vec::new(),
        }],
    })
}

fn write(key: &str, value: &'static [u8]) -> KvWrite {
    KvWrite {
        key: key.into(),
        is_delete: false,
        value: Bytes::from_static(value),
    }
}

fn policy(key: &str, n: u8) -> KvMetadataWrite {
    KvMetadataWrite {
        key: key.into(),
        entries: entries(n),
    }
}

fn with(entries: &[(&str, &'static [u8], u64)]) -> MemoryState {
    let entry = |(key, value, block): &(&str, &'static [u8], u64)| {
        let value = VersionedValue {
            value: Bytes::from_static(value),
            metadata: Bytes::from_static(b"old"),
            version: Version::new(*block, 0),
        };
        (("cc".to_owned(), None, key.as_bytes().to_vec()), value)
    };
    MemoryState(entries.iter().map(entry).collect())
}

fn result(ops: impl FnOnce(&mut KvrwSet), state: &MemoryState) -> Option<Update> {
    let (codes, updates, _) = judge_all(9, &[tx(ops)], &[Code::Valid], state);
    assert_eq!(codes, [Code::Valid]);
    updates.public("cc", "k").cloned()
}

/// The examples of spec 03 §5 for keys that one transaction names more than once.
#[test]
fn keys_named_more_than_once() {
    let (absent, there) = (MemoryState::default(), with(&[("k", b"v0", 1)]));
    let put = |value: &'static [u8], metadata: &'static [u8]| {
        Some(Update {
            version: Version::new(9, 0),
            value: Some(Bytes::from_static(value)),
            metadata: Bytes::from_static(metadata),
        })
    };
    let deleted = Some(Update {
        version: Version::new(9, 0),
        value: None,
        metadata: Bytes::new(),
    });
    let twice = |s: &mut KvrwSet| s.writes = vec![write("k", b"a"), write("k", b"b")];
    assert_eq!(result(twice, &absent), None);
    assert_eq!(
        result(twice, &there),
        put(b"v0", b""),
        "the old value stays, its metadata goes"
    );
    let thrice = |s: &mut KvrwSet| s.writes = vec![write("k", b"a"), write("k", b"b"), write("k", b"c")];
    assert_eq!(result(thrice, &absent), put(b"c", b""));
    assert_eq!(result(thrice, &there), put(b"c", b""));
    let write_delete = |s: &mut KvrwSet| s.writes = vec![write("k", b"a"), write("k", b"")];
    assert_eq!(result(write_delete, &there), deleted);
    let delete_write = |s: &mut KvrwSet| s.writes = vec![write("k", b""), write("k", b"a")];
    assert_eq!(result(delete_write, &absent), deleted);
    let two_deletes = |s: &mut KvrwSet| s.writes = vec![write("k", b""), write("k", b"")];
    assert_eq!(result(two_deletes, &there), put(b"v0", b""));
    assert_eq!(result(two_deletes, &absent), None);
}

#[test]
fn values_and_metadata() {
    let there = with(&[("k", b"v0", 1)]);
    let value_only = result(|s| s.writes = vec![write("k", b"new")], &there).unwrap();
    assert_eq!(
        (value_only.value.unwrap().as_ref(), value_only.metadata.as_ref()),
        (&b"new"[..], &b"old"[..])
    );
    let metadata_only = result(|s| s.metadata_writes = vec![policy("k", 1)], &there).unwrap();
    assert_eq!(metadata_only.value.unwrap().as_ref(), b"v0");
    assert_eq!(metadata_only.version, Version::new(9, 0));
    let entry = VersionedValue {
        value: Bytes::new(),
        metadata: metadata_only.metadata,
        version: Version::default(),
    };
    assert_eq!(entry.metadata_entry("M0").unwrap().as_ref(), [0]);
    assert_eq!(entry.metadata_entry("M1"), None);
    let cleared = result(|s| s.metadata_writes = vec![policy("k", 0)], &there).unwrap();
    assert!(cleared.metadata.is_empty());
    let absent = MemoryState::default();
    assert_eq!(
        result(|s| s.metadata_writes = vec![policy("k", 1)], &absent),
        None
    );
    let both =
        |s: &mut KvrwSet| (s.writes, s.metadata_writes) = (vec![write("k", b"v")], vec![policy("k", 1)]);
    assert!(!result(both, &absent).unwrap().metadata.is_empty());
}

#[test]
fn a_key_deleted_earlier_in_the_block_does_not_exist() {
    let there = with(&[("k", b"v0", 1)]);
    let delete = tx(|s| s.writes = vec![write("k", b"")]);
    let metadata = tx(|s| s.metadata_writes = vec![policy("k", 1)]);
    let (codes, updates, _) = judge_all(2, &[delete.clone(), metadata], &[Code::Valid; 2], &there);
    assert_eq!(codes, [Code::Valid; 2]);
    assert_eq!(updates.public("cc", "k").unwrap().version, Version::new(2, 0));
    let rewrite = tx(|s| s.writes = vec![write("k", b"again")]);
    let (_, updates, _) = judge_all(2, &[delete, rewrite], &[Code::Valid; 2], &there);
    let update = updates.public("cc", "k").unwrap();
    assert!(update.metadata.is_empty(), "the delete dropped it");
    assert_eq!(update.version, Version::new(2, 1));
}

#[test]
fn conflicts_name_key_and_winner() {
    let there = with(&[("k", b"v0", 4)]);
    let read = |v| {
        tx(|s| {
            s.reads = vec![KvRead {
                key: "k".into(),
                version: version(v),
            }]
        })
    };
    let blind = tx(|s| s.writes = vec![write("k", b"w")]);
    let txs = [
        read(Some((4, 0))),
        read(Some((3, 1))),
        read(None),
        blind,
        read(Some((4, 0))),
        read(Some((9, 3))),
    ];
    let (codes, _, conflicts) = judge_all(9, &txs, &[Code::Valid; 6], &there);
    let stale = Code::MvccReadConflict;
    assert_eq!(codes, [Code::Valid, stale, stale, Code::Valid, stale, stale]);
    let told: Vec<_> = conflicts.iter().map(|c| (c.tx, c.read, c.winner)).collect();
    let v = |block, tx| Some(Version::new(block, tx));
    assert_eq!(
        told,
        [
            (1, v(3, 1), v(4, 0)),
            (2, None, v(4, 0)),
            (4, v(4, 0), v(9, 3)),
            (5, v(9, 3), v(9, 3)),
        ]
    );
    assert_eq!(
        conflicts[2].to_string(),
        "key \"k\" of cc changed between endorsement and commit: it was read as written by block 4 transaction 0, block 9 \
         transaction 3 came first"
    );
}

#[test]
fn odd_range_summaries_are_conflicts_and_do_no_harm() {
    let there = with(&[("a", b"1", 1), ("b", b"2", 1)]);
    let query = |reads_info, start: &str, end: &str| {
        tx(|s| {
            s.range_queries_info = vec![RangeQueryInfo {
                start_key: start.into(),
                end_key: end.into(),
                itr_exhausted: true,
                reads_info,
            }];
        })
    };
    let merkle = |max_degree| {
        Some(ReadsInfo::ReadsMerkleHashes(kvrwset::QueryReadsMerkleSummary {
            max_degree,
            max_level: u32::MAX,
            max_level_hashes: Vec::new(),
        }))
    };
    let txs = [
        query(merkle(0), "", ""),
        query(merkle(1), "", ""),
        query(merkle(u32::MAX), "", ""),
        query(None, "", ""),
        query(None, "z", "a"),
        query(Some(ReadsInfo::RawReads(QueryReads::default())), "c", ""),
    ];
    let (codes, _, _) = judge_all(9, &txs, &[Code::Valid; 6], &there);
    let phantom = Code::PhantomReadConflict;
    assert_eq!(
        codes,
        [phantom, phantom, phantom, phantom, Code::Valid, Code::Valid]
    );
}

#[test]
fn configurations_pass_and_nothing_at_all_does_not() {
    let config = TxInput {
        rwset: None,
        config: Some(Bytes::from_static(b"config")),
    };
    let mut codes = [Code::Valid, Code::Valid, Code::BadPayload];
    let txs = [config, TxInput::default(), TxInput::default()];
    let (updates, _) = judge(3, &txs, &mut codes, &MemoryState::default()).unwrap();
    assert_eq!(codes, [Code::Valid, Code::NilTxaction, Code::BadPayload]);
    assert_eq!(
        updates.public(CONFIG_NAMESPACE, CONFIG_KEY).unwrap().version,
        Version::new(3, 0)
    );
    assert!(judge(3, &txs, &mut codes[..2], &MemoryState::default()).is_err());
    assert!(replay(3, &txs, &[Code::Valid; 3], &MemoryState::default()).is_err());
}
