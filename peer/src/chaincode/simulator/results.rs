//! From what was recorded to the bytes of a read/write set (spec 03 §7).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use selvedge_ledger::{Version, range_hash};
use selvedge_proto::{kvrwset, rwset};

use super::iterator::{Cursor, RangeCursor};
use super::{CollectionSet, NamespaceSet, SimulationResults, Simulator, sha256};

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// What a range query says about itself. A query without results carries neither raw reads nor hashes.
fn range_info(cursor: &RangeCursor) -> kvrwset::RangeQueryInfo {
    let mut hasher = range_hash::RangeHasher::default();
    for (key, version) in &cursor.fetched {
        hasher.add(kvrwset::KvRead {
            key: key.clone(),
            version: Some(version.to_proto()),
        });
    }
    let end = match cursor.fetched.last() {
        Some((key, _)) if !cursor.exhausted => key,
        _ => &cursor.end,
    };
    kvrwset::RangeQueryInfo {
        start_key: cursor.start.clone(),
        end_key: end.clone(),
        itr_exhausted: cursor.exhausted,
        reads_info: hasher.finish(),
    }
}

fn public_set(set: &NamespaceSet, ranges: Vec<kvrwset::RangeQueryInfo>) -> kvrwset::KvrwSet {
    kvrwset::KvrwSet {
        reads: set
            .reads
            .iter()
            .map(|(key, seen)| kvrwset::KvRead {
                key: key.clone(),
                version: seen.as_ref().map(|s| s.version.to_proto()),
            })
            .collect(),
        range_queries_info: ranges,
        writes: writes(&set.writes),
        metadata_writes: set
            .metadata
            .iter()
            .map(|(key, entries)| kvrwset::KvMetadataWrite {
                key: key.clone(),
                entries: entries
                    .iter()
                    .map(|(name, value)| kvrwset::KvMetadataEntry {
                        name: name.clone(),
                        value: value.clone(),
                    })
                    .collect(),
            })
            .collect(),
    }
}

fn writes(writes: &BTreeMap<String, Option<Bytes>>) -> Vec<kvrwset::KvWrite> {
    writes
        .iter()
        .map(|(key, value)| kvrwset::KvWrite {
            key: key.clone(),
            is_delete: value.is_none(),
            value: value.clone().unwrap_or_default(),
        })
        .collect()
}

/// The entries stand in the order of the plain keys, though only hashes are shown.
fn hashed_set(set: &CollectionSet) -> kvrwset::HashedRwSet {
    kvrwset::HashedRwSet {
        hashed_reads: set
            .reads
            .iter()
            .map(|(key, version)| kvrwset::KvReadHash {
                key_hash: sha256(key.as_bytes()),
                version: version.map(Version::to_proto),
            })
            .collect(),
        hashed_writes: set
            .writes
            .iter()
            .map(|(key, value)| kvrwset::KvWriteHash {
                key_hash: sha256(key.as_bytes()),
                is_delete: value.is_none(),
                value_hash: value.as_ref().map(|v| sha256(v)).unwrap_or_default(),
                is_purge: false,
            })
            .collect(),
        metadata_writes: Vec::new(),
    }
}

impl Simulator {
    /// Private data in the clear, when the transaction has written any: a part of its [results](Self::results).
    pub fn private(&self) -> Option<rwset::TxPvtReadWriteSet> {
        let mut collections = self.namespaces.values().flat_map(|set| set.collections.values());
        if collections.all(|collection| collection.writes.is_empty()) {
            return None;
        }
        self.results().private
    }

    /// What the simulation has produced so far.
    pub fn results(&self) -> SimulationResults {
        let mut ranges: BTreeMap<&str, Vec<kvrwset::RangeQueryInfo>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for cursor in &self.cursors {
            let Cursor::Range(cursor) = cursor else { continue };
            let info = range_info(cursor);
            let identity = (
                cursor.namespace.as_str(),
                info.start_key.clone(),
                info.end_key.clone(),
                info.itr_exhausted,
            );
            if seen.insert(identity) {
                ranges.entry(&cursor.namespace).or_default().push(info);
            }
        }
        let names: BTreeSet<&str> = self
            .namespaces
            .keys()
            .map(String::as_str)
            .chain(ranges.keys().copied())
            .collect();
        let empty = NamespaceSet::default();
        let mut public = rwset::TxReadWriteSet::default();
        let mut private = rwset::TxPvtReadWriteSet::default();
        for name in names {
            let set = self.namespaces.get(name).unwrap_or(&empty);
            let (hashed, plain) = collections(set);
            let rwset = encoded(&public_set(set, ranges.remove(name).unwrap_or_default()));
            if rwset.is_empty() && hashed.is_empty() {
                continue;
            }
            public.ns_rwset.push(rwset::NsReadWriteSet {
                namespace: name.to_owned(),
                rwset,
                collection_hashed_rwset: hashed,
            });
            if !plain.is_empty() {
                private.ns_pvt_rwset.push(rwset::NsPvtReadWriteSet {
                    namespace: name.to_owned(),
                    collection_pvt_rwset: plain,
                });
            }
        }
        let private = Some(private).filter(|p| !p.ns_pvt_rwset.is_empty());
        SimulationResults { public, private }
    }
}

fn collections(
    set: &NamespaceSet,
) -> (
    Vec<rwset::CollectionHashedReadWriteSet>,
    Vec<rwset::CollectionPvtReadWriteSet>,
) {
    let mut hashed = Vec::new();
    let mut plain = Vec::new();
    for (name, collection) in &set.collections {
        let hashed_rwset = encoded(&hashed_set(collection));
        if hashed_rwset.is_empty() {
            continue;
        }
        let mut pvt_rwset_hash = Bytes::new();
        if !collection.writes.is_empty() {
            let rwset = encoded(&kvrwset::KvrwSet {
                writes: writes(&collection.writes),
                ..Default::default()
            });
            pvt_rwset_hash = sha256(&rwset);
            plain.push(rwset::CollectionPvtReadWriteSet {
                collection_name: name.clone(),
                rwset,
            });
        }
        hashed.push(rwset::CollectionHashedReadWriteSet {
            collection_name: name.clone(),
            hashed_rwset,
            pvt_rwset_hash,
        });
    }
    (hashed, plain)
}
