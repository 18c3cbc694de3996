//! The effect of one transaction on each key that it names (spec 03 §5, "Effect of one tx on a key").

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use selvedge_proto::kvrwset::{KvMetadataEntry, KvMetadataWrite};

use super::View;
use crate::rwset::{ParsedRwset, is_delete, is_hashed_delete};
use crate::state::KeyRef;
use crate::updates::{Update, UpdateBatch};
use crate::version::Version;

const VALUE: u8 = 1;
const METADATA_SET: u8 = 2;
const METADATA_CLEARED: u8 = 4;
const DELETE: u8 = 8;

/// The operations on one key, added up: a set may name a key more than once, and peers must agree on what that does.
#[derive(Default)]
struct KeyOps {
    flags: u8,
    value: Option<Bytes>,
    metadata: Bytes,
}

impl KeyOps {
    fn write(&mut self, delete: bool, value: &Bytes) {
        if delete {
            self.flags = self.flags.wrapping_add(DELETE);
        } else {
            self.flags = self.flags.wrapping_add(VALUE);
            self.value = Some(value.clone());
        }
    }

    fn metadata(&mut self, entries: &[KvMetadataEntry]) {
        if entries.is_empty() {
            self.flags = self.flags.wrapping_add(METADATA_CLEARED);
        } else {
            self.flags = self.flags.wrapping_add(METADATA_SET);
            self.metadata = metadata_bytes(entries);
        }
    }

    /// What becomes of the key, given what is there now; `None`: it is left out altogether.
    fn outcome(self, version: Version, existing: Option<(Bytes, Bytes)>) -> Option<Update> {
        let (value, metadata) = if self.flags & DELETE != 0 {
            (None, Bytes::new())
        } else if self.flags & VALUE != 0 && self.flags & (METADATA_SET | METADATA_CLEARED) != 0 {
            (self.value, self.metadata)
        } else if let (VALUE | 0, Some(value)) = (self.flags, self.value) {
            (
                Some(value),
                existing.map(|(_, metadata)| metadata).unwrap_or_default(),
            )
        } else {
            (Some(existing?.0), self.metadata)
        };
        Some(Update {
            version,
            value,
            metadata,
        })
    }
}

/// State metadata as it is stored: `entries` alone, in the order of the write.
fn metadata_bytes(entries: &[KvMetadataEntry]) -> Bytes {
    let message = KvMetadataWrite {
        key: String::new(),
        entries: entries.to_vec(),
    };
    message.encode_to_vec().into()
}

/// Adds the writes of a valid transaction to the block's updates.
pub(super) fn apply(rwset: &ParsedRwset, version: Version, view: &View<'_>, updates: &mut UpdateBatch) {
    let mut ops: BTreeMap<KeyRef<'_>, KeyOps> = BTreeMap::new();
    for ns in &rwset.namespaces {
        let name = ns.namespace.as_str();
        for write in &ns.public.writes {
            let key = KeyRef::Public {
                ns: name,
                key: &write.key,
            };
            ops.entry(key).or_default().write(is_delete(write), &write.value);
            updates.add_history(version.tx, name, &write.key);
        }
        for write in &ns.public.metadata_writes {
            let key = KeyRef::Public {
                ns: name,
                key: &write.key,
            };
            ops.entry(key).or_default().metadata(&write.entries);
        }
        for coll in &ns.collections {
            let hashed = |key_hash| KeyRef::Hashed {
                ns: name,
                collection: &coll.collection,
                key_hash,
            };
            for write in &coll.hashed.hashed_writes {
                let ops = ops.entry(hashed(&write.key_hash)).or_default();
                ops.write(is_hashed_delete(write), &write.value_hash);
                if write.is_purge {
                    updates.add_purge(version.tx, name, &coll.collection, &write.key_hash);
                }
            }
            for write in &coll.hashed.metadata_writes {
                ops.entry(hashed(&write.key_hash))
                    .or_default()
                    .metadata(&write.entries);
            }
        }
    }
    for (key, ops) in ops {
        match key {
            KeyRef::Public { ns, key: name } => {
                let existing = existing(updates.public(ns, name), view, &key);
                if let Some(update) = ops.outcome(version, existing) {
                    updates.set_public(ns, name, update);
                }
            }
            KeyRef::Hashed {
                ns,
                collection,
                key_hash,
            } => {
                let existing = existing(updates.hashed(ns, collection, key_hash), view, &key);
                if let Some(update) = ops.outcome(version, existing) {
                    updates.set_hashed(ns, collection, Bytes::copy_from_slice(key_hash), update);
                }
            }
            KeyRef::Private { .. } => {}
        }
    }
}

/// Value and metadata that earlier transactions of the block left, else the committed ones; `None` where the key does
/// not exist.
fn existing(pending: Option<&Update>, view: &View<'_>, key: &KeyRef<'_>) -> Option<(Bytes, Bytes)> {
    match pending {
        Some(update) => Some((update.value.clone()?, update.metadata.clone())),
        None => view.committed(key).map(|e| (e.value.clone(), e.metadata.clone())),
    }
}
