//! Spec 03 §5 and §6 written down a second time, slowly and plainly: every transaction is checked and applied on a full copy of
//! the state. What `judge` does with overlays and prefetched entries must come out the same.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use selvedge_proto::kvrwset::{self, range_query_info::ReadsInfo};
use selvedge_proto::protos::TxValidationCode as Code;

use crate::range_hash::RangeHasher;
use crate::rwset::{ParsedRwset, is_delete, is_hashed_delete};
use crate::state::{KeyRef, RangeIter, StateReader, VersionedValue};
use crate::{LedgerError, UpdateBatch, Version};

/// Namespace, collection or none, key.
pub(crate) type Key = (String, Option<String>, Vec<u8>);

/// A state in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MemoryState(pub(crate) BTreeMap<Key, VersionedValue>);

fn owned(key: &KeyRef<'_>) -> Key {
    match key {
        KeyRef::Public { ns, key } => ((*ns).to_owned(), None, key.as_bytes().to_vec()),
        KeyRef::Hashed {
            ns,
            collection,
            key_hash,
        } => (
            (*ns).to_owned(),
            Some((*collection).to_owned()),
            key_hash.to_vec(),
        ),
        KeyRef::Private { .. } => unreachable!("no test reads plain text here"),
    }
}

impl StateReader for MemoryState {
    fn get_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<VersionedValue>>, LedgerError> {
        Ok(keys.iter().map(|k| self.0.get(&owned(k)).cloned()).collect())
    }

    fn range(&self, ns: &str, start: &str, end: &str) -> RangeIter<'_> {
        let (ns, start, end) = (ns.to_owned(), start.as_bytes().to_vec(), end.as_bytes().to_vec());
        Box::new(self.0.iter().filter_map(move |((n, coll, key), entry)| {
            let inside = *n == ns && coll.is_none() && *key >= start && (end.is_empty() || *key < end);
            inside.then(|| Ok((String::from_utf8(key.clone()).unwrap(), entry.clone())))
        }))
    }
}

impl MemoryState {
    pub(crate) fn apply(&mut self, batch: &UpdateBatch) {
        for (ns, changes) in batch.namespaces() {
            let public = changes
                .public
                .iter()
                .map(|(k, u)| (None, k.as_bytes().to_vec(), u));
            let hashed = changes
                .hashed
                .iter()
                .flat_map(|(c, keys)| keys.iter().map(move |(k, u)| (Some(c.clone()), k.to_vec(), u)));
            for (coll, key, update) in public.chain(hashed) {
                let place = (ns.clone(), coll, key);
                match &update.value {
                    Some(value) => {
                        let entry = VersionedValue {
                            value: value.clone(),
                            metadata: update.metadata.clone(),
                            version: update.version,
                        };
                        self.0.insert(place, entry);
                    }
                    None => {
                        self.0.remove(&place);
                    }
                }
            }
        }
    }
}

/// Judges a block on a copy of the state; the codes and the state afterwards.
pub(crate) fn judge(
    block: u64,
    txs: &[Option<ParsedRwset>],
    before: &[Code],
    state: &MemoryState,
) -> (Vec<Code>, MemoryState) {
    let mut state = state.clone();
    let mut touched: BTreeSet<Key> = BTreeSet::new();
    let mut codes = before.to_vec();
    for (index, tx) in txs.iter().enumerate() {
        if codes[index] != Code::Valid {
            continue;
        }
        let Some(tx) = tx else {
            codes[index] = Code::NilTxaction;
            continue;
        };
        codes[index] = verdict(tx, &state, &touched);
        if codes[index] == Code::Valid {
            apply(tx, Version::new(block, index as u64), &mut state, &mut touched);
        }
    }
    (codes, state)
}

fn verdict(tx: &ParsedRwset, state: &MemoryState, touched: &BTreeSet<Key>) -> Code {
    let stale = |key: Key, version: Option<&kvrwset::Version>| {
        touched.contains(&key) || state.0.get(&key).map(|e| e.version.to_proto()).as_ref() != version
    };
    for ns in &tx.namespaces {
        let name = &ns.namespace;
        for read in &ns.public.reads {
            if stale(
                (name.clone(), None, read.key.as_bytes().to_vec()),
                read.version.as_ref(),
            ) {
                return Code::MvccReadConflict;
            }
        }
        for query in &ns.public.range_queries_info {
            if phantom(name, query, state) {
                return Code::PhantomReadConflict;
            }
        }
        for coll in &ns.collections {
            for read in &coll.hashed.hashed_reads {
                let key = (
                    name.clone(),
                    Some(coll.collection.clone()),
                    read.key_hash.to_vec(),
                );
                if stale(key, read.version.as_ref()) {
                    return Code::MvccReadConflict;
                }
            }
        }
    }
    Code::Valid
}

fn phantom(ns: &str, query: &kvrwset::RangeQueryInfo, state: &MemoryState) -> bool {
    let mut now: Vec<kvrwset::KvRead> = Vec::new();
    let read = |key: &str, entry: &VersionedValue| kvrwset::KvRead {
        key: key.to_owned(),
        version: Some(entry.version.to_proto()),
    };
    for found in state.range(ns, &query.start_key, &query.end_key) {
        let (key, entry) = found.unwrap();
        now.push(read(&key, &entry));
    }
    if !query.itr_exhausted
        && let Some(entry) = state
            .0
            .get(&(ns.to_owned(), None, query.end_key.as_bytes().to_vec()))
    {
        now.push(read(&query.end_key, entry));
    }
    match &query.reads_info {
        None => !now.is_empty(),
        Some(ReadsInfo::RawReads(raw)) => raw.kv_reads != now,
        Some(ReadsInfo::ReadsMerkleHashes(merkle)) => {
            let Ok(mut hasher) = RangeHasher::new(merkle.max_degree) else {
                return true;
            };
            now.into_iter().for_each(|r| hasher.add(r));
            hasher.finish() != query.reads_info
        }
    }
}

fn apply(tx: &ParsedRwset, version: Version, state: &mut MemoryState, touched: &mut BTreeSet<Key>) {
    // Operation counts by kind instead of a sum of flags: value, set, clear, delete.
    type Ops = ([u32; 4], Option<Bytes>, Bytes);
    let mut ops: BTreeMap<Key, Ops> = BTreeMap::new();
    let metadata = |entry: &mut Ops, entries: &[kvrwset::KvMetadataEntry]| {
        if entries.is_empty() {
            entry.0[2] += 1;
        } else {
            entry.0[1] += 1;
            let stored = kvrwset::KvMetadataWrite {
                key: String::new(),
                entries: entries.to_vec(),
            };
            entry.2 = stored.encode_to_vec().into();
        }
    };
    let value = |entry: &mut Ops, delete: bool, value: &Bytes| {
        entry.0[if delete { 3 } else { 0 }] += 1;
        if !delete {
            entry.1 = Some(value.clone());
        }
    };
    for ns in &tx.namespaces {
        let public = |key: &str| (ns.namespace.clone(), None, key.as_bytes().to_vec());
        for w in &ns.public.writes {
            value(ops.entry(public(&w.key)).or_default(), is_delete(w), &w.value);
        }
        for w in &ns.public.metadata_writes {
            metadata(ops.entry(public(&w.key)).or_default(), &w.entries);
        }
        for coll in &ns.collections {
            let hashed = |key: &Bytes| (ns.namespace.clone(), Some(coll.collection.clone()), key.to_vec());
            for w in &coll.hashed.hashed_writes {
                value(
                    ops.entry(hashed(&w.key_hash)).or_default(),
                    is_hashed_delete(w),
                    &w.value_hash,
                );
            }
            for w in &coll.hashed.metadata_writes {
                metadata(ops.entry(hashed(&w.key_hash)).or_default(), &w.entries);
            }
        }
    }
    for (key, ([values, sets, clears, deletes], value, metadata)) in ops {
        let f = (values + 2 * sets + 4 * clears + 8 * deletes) % 256;
        let has = |bit: u32| (f / bit) % 2 == 1;
        let old = state.0.get(&key).cloned();
        let new = if has(8) {
            None
        } else if has(1) && (has(2) || has(4)) {
            Some((value.unwrap(), metadata))
        } else if let (0 | 1, Some(value)) = (f, value) {
            Some((value, old.map(|o| o.metadata).unwrap_or_default()))
        } else if let Some(old) = old {
            Some((old.value, metadata))
        } else {
            continue;
        };
        touched.insert(key.clone());
        match new {
            Some((value, metadata)) => {
                state.0.insert(
                    key,
                    VersionedValue {
                        value,
                        metadata,
                        version,
                    },
                );
            }
            None => {
                state.0.remove(&key);
            }
        }
    }
}
