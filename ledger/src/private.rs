//! Private data in plain text (spec 03 §8).
//!
//! Blocks hold only hashes, so what a peer has in plain text cannot be made again from them. It is kept twice: as it was
//! endorsed, block by block, in a database of its own that is synced *before* the block is appended; and key by key in the
//! state, which can be rolled forward from the former. `block_to_live` and purges remove it from both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use rocksdb::{Direction, WriteBatch};
use selvedge_proto::kvrwset::{KvWrite, KvrwSet};
use sha2::{Digest, Sha256};

use crate::db::{DatabaseOptions, Db};
use crate::error::LedgerError;
use crate::keys;
use crate::rwset::is_delete;
use crate::snapshot::damaged;
use crate::updates::{Purge, UpdateBatch};

/// What one transaction wrote to one private collection, in plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateWrites {
    /// Index of the transaction in its block.
    pub tx: u64,
    /// The namespace.
    pub namespace: String,
    /// The collection.
    pub collection: String,
    /// pb(KVRWSet), whose SHA-256 the transaction carries as `pvt_rwset_hash`.
    pub rwset: Bytes,
}

impl PrivateWrites {
    /// Whether this is what the transaction committed to.
    pub fn matches(&self, pvt_rwset_hash: &[u8]) -> bool {
        Sha256::digest(&self.rwset).as_slice() == pvt_rwset_hash
    }
}

/// As endorsed: its hash is that of the transaction.
const WHOLE: u8 = 0;
/// Some of its keys were purged since.
const PURGED: u8 = 1;

/// A plain write that belongs to a hashed update of the block.
#[derive(Debug)]
pub(crate) struct PlainWrite {
    pub(crate) key: String,
    /// `None`: deleted.
    pub(crate) value: Option<Bytes>,
}

/// By namespace, collection and key hash.
pub(crate) type PlainWrites = BTreeMap<(String, String, Bytes), PlainWrite>;

/// The plain writes that a block's net hashed updates stand for. Left out are those that a later transaction of the block
/// overwrote, and those whose hash is not the one that the transaction wrote.
pub(crate) fn plain_writes(private: &[PrivateWrites], updates: &UpdateBatch) -> PlainWrites {
    let mut plain = PlainWrites::new();
    for writes in private {
        for write in decode(&writes.rwset).writes {
            let key_hash = Bytes::copy_from_slice(&Sha256::digest(&write.key));
            let Some(update) = updates.hashed(&writes.namespace, &writes.collection, &key_hash) else {
                continue;
            };
            let value = (!is_delete(&write)).then_some(write.value);
            let agrees = match (&update.value, &value) {
                (Some(hash), Some(value)) => hash.as_ref() == Sha256::digest(value).as_slice(),
                (None, None) => true,
                _ => false,
            };
            if update.version.tx == writes.tx && agrees {
                let place = (writes.namespace.clone(), writes.collection.clone(), key_hash);
                plain.insert(
                    place,
                    PlainWrite {
                        key: write.key,
                        value,
                    },
                );
            }
        }
    }
    plain
}

/// The private data of the chain, as endorsed.
///
/// ```text
/// d block64 tx64 ns 00 coll                  one byte WHOLE or PURGED, then pb(KVRWSet)
/// k ns 00 coll 00 key hash block64 tx64      which of them hold a key, for purges
/// e block64 (name of a d entry)              goes at this block
/// ```
/// The database is made when the first private data comes.
#[derive(Debug)]
pub(crate) struct PrivateStore {
    dir: PathBuf,
    options: DatabaseOptions,
    db: Mutex<Option<Arc<Db>>>,
}

impl PrivateStore {
    pub(crate) fn open(dir: PathBuf, options: &DatabaseOptions) -> Result<Self, LedgerError> {
        // It is read only when private data is served again, so it needs little.
        let options = DatabaseOptions {
            block_cache_bytes: options.block_cache_bytes / 8,
            write_buffer_bytes: options.write_buffer_bytes / 4,
            open_files: options.open_files,
        };
        let db = if dir.exists() {
            Some(Arc::new(Db::open(&dir, &options)?))
        } else {
            None
        };
        Ok(Self {
            dir,
            options,
            db: Mutex::new(db),
        })
    }

    fn db(&self) -> Option<Arc<Db>> {
        self.db.lock().clone()
    }

    fn db_or_new(&self) -> Result<Arc<Db>, LedgerError> {
        let mut db = self.db.lock();
        if let Some(db) = db.as_ref() {
            return Ok(Arc::clone(db));
        }
        let opened = Arc::new(Db::open(&self.dir, &self.options)?);
        *db = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Keeps the private data of a block; it is on disk when this returns. `expires`: the block at which a collection's data
    /// goes, if it does.
    pub(crate) fn put(
        &self,
        block: u64,
        private: &[PrivateWrites],
        mut expires: impl FnMut(&str, &str) -> Result<Option<u64>, LedgerError>,
    ) -> Result<(), LedgerError> {
        if private.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        for writes in private {
            let name = data_key(block, writes);
            batch.put(&name, [&[WHOLE], writes.rwset.as_ref()].concat());
            for write in decode(&writes.rwset).writes {
                let hash = Sha256::digest(&write.key);
                batch.put(
                    holder_key(&writes.namespace, &writes.collection, &hash, &name),
                    [],
                );
            }
            if let Some(at) = expires(&writes.namespace, &writes.collection)? {
                batch.put([keys::expiry_prefix(at), name].concat(), []);
            }
        }
        self.db_or_new()?.write(batch, true)
    }

    /// The private data of a block that is still there, in the order of transactions, and whether each is as endorsed.
    pub(crate) fn of_block(&self, block: u64) -> Result<Vec<(PrivateWrites, bool)>, LedgerError> {
        let Some(db) = self.db() else {
            return Ok(Vec::new());
        };
        let mut prefix = vec![b'd'];
        prefix.extend_from_slice(&block.to_be_bytes());
        let parse = |name: &[u8], value: &[u8]| {
            let (tx, rest) = name.get(9..)?.split_first_chunk::<8>()?;
            let (namespace, collection, _) = keys::split_collection_key(rest)?;
            let (kind, rwset) = value.split_first()?;
            let writes = PrivateWrites {
                tx: u64::from_be_bytes(*tx),
                namespace: namespace.to_owned(),
                collection: collection.to_owned(),
                rwset: Bytes::copy_from_slice(rwset),
            };
            Some((writes, *kind == WHOLE))
        };
        db.scan_prefix(&prefix, Direction::Forward)
            .map(|entry| {
                let (name, value) = entry?;
                parse(&name, &value).ok_or_else(|| damaged(&name))
            })
            .collect()
    }

    /// Removes what `block` makes expire and what it purges: what was written up to the transaction that purges, not what
    /// was written after it, in this block or in one that is redone later. Doing it twice does no harm.
    pub(crate) fn remove(&self, block: u64, purges: &[Purge]) -> Result<(), LedgerError> {
        let Some(db) = self.db() else { return Ok(()) };
        let mut batch = WriteBatch::default();
        for entry in db.scan_prefix(&keys::expiry_prefix(block), Direction::Forward) {
            let (name, _) = entry?;
            let data = name.get(9..).ok_or_else(|| damaged(&name))?;
            if let Some(value) = db.get(data)? {
                remove_holders(&mut batch, data, &value)?;
                batch.delete(data);
            }
            batch.delete(&name);
        }
        let mut touched: BTreeMap<Vec<u8>, BTreeSet<&[u8]>> = BTreeMap::new();
        for purge in purges {
            let prefix = holder_prefix(&purge.namespace, &purge.collection, &purge.key_hash);
            for entry in db.scan_prefix(&prefix, Direction::Forward) {
                let (name, _) = entry?;
                let place = name
                    .strip_prefix(prefix.as_slice())
                    .ok_or_else(|| damaged(&name))?;
                // Block and transaction, both big-endian, so they compare as bytes.
                if place > [block.to_be_bytes(), purge.tx.to_be_bytes()].concat().as_slice() {
                    continue;
                }
                let data = [
                    b"d",
                    place,
                    purge.namespace.as_bytes(),
                    &[0],
                    purge.collection.as_bytes(),
                    &[0],
                ]
                .concat();
                touched.entry(data).or_default().insert(&purge.key_hash);
                batch.delete(&name);
            }
        }
        for (name, purged) in touched {
            let Some(value) = db.get(&name)? else { continue };
            let mut rwset = decode(value.get(1..).unwrap_or_default());
            let gone = |write: &KvWrite| purged.contains(Sha256::digest(&write.key).as_slice());
            rwset.writes.retain(|w| !gone(w));
            batch.put(&name, [&[PURGED], rwset.encode_to_vec().as_slice()].concat());
        }
        if batch.is_empty() {
            Ok(())
        } else {
            db.write(batch, true)
        }
    }
}

fn data_key(block: u64, writes: &PrivateWrites) -> Vec<u8> {
    let mut name = vec![b'd'];
    name.extend_from_slice(&block.to_be_bytes());
    name.extend_from_slice(&writes.tx.to_be_bytes());
    keys::put_collection_key(&mut name, &writes.namespace, &writes.collection, &[]);
    name
}

fn holder_prefix(ns: &str, collection: &str, key_hash: &[u8]) -> Vec<u8> {
    keys::plain_key(ns, collection, key_hash)
}

/// `data` is the name of the `d` entry that holds the key; its block and transaction end the name.
fn holder_key(ns: &str, collection: &str, key_hash: &[u8], data: &[u8]) -> Vec<u8> {
    [
        &holder_prefix(ns, collection, key_hash),
        data.get(1..17).unwrap_or_default(),
    ]
    .concat()
}

fn remove_holders(batch: &mut WriteBatch, data: &[u8], value: &[u8]) -> Result<(), LedgerError> {
    let names = data.get(17..).and_then(keys::split_collection_key);
    let (ns, collection, _) = names.ok_or_else(|| damaged(data))?;
    for write in decode(value.get(1..).unwrap_or_default()).writes {
        batch.delete(holder_key(ns, collection, &Sha256::digest(&write.key), data));
    }
    Ok(())
}

/// What its endorsers signed may be junk; it then holds no keys, and must not stop the chain.
fn decode(rwset: &[u8]) -> KvrwSet {
    KvrwSet::decode(rwset).unwrap_or_default()
}
