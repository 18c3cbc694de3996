//! Committing a block: private data, then the block file, then one batch of everything derived from it.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use rocksdb::{Direction, WriteBatch};
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::{block_hash, common, put_metadata};
use sha2::{Digest, Sha256};

use super::{CommitTimes, Ledger, TxLocation};
use crate::commit_hash;
use crate::contents::{self, Body};
use crate::error::LedgerError;
use crate::keys;
use crate::mvcc::{self, TxInput};
use crate::private::{PlainWrites, PrivateWrites, plain_writes};
use crate::snapshot::damaged;
use crate::state::{KeyRef, StateReader};
use crate::updates::UpdateBatch;
use crate::version::Version;

impl Ledger {
    /// Puts the final codes and the commit hash into the metadata of the next block (spec 03 §1, §9).
    pub fn prepare(&self, block: &mut common::Block, codes: &[TxValidationCode], updates: &UpdateBatch) {
        // Every code is below 256 (spec 03 §1).
        let filter: Vec<u8> = codes
            .iter()
            .map(|c| u8::try_from(*c as i32).unwrap_or(u8::MAX))
            .collect();
        let number = block.header.as_ref().map_or(0, |h| h.number);
        let previous = self.commit_hash();
        if number == 1 || !previous.is_empty() {
            let hash = commit_hash::next(&previous, &filter, updates);
            put_metadata(
                block,
                common::BlockMetadataIndex::CommitHash,
                commit_hash::slot(hash),
            );
        }
        put_metadata(
            block,
            common::BlockMetadataIndex::TransactionsFilter,
            filter.into(),
        );
    }

    /// Commits the next block, whose metadata [`Ledger::prepare`] has completed. `updates` is what [`mvcc::judge`] gave.
    /// When this returns, the block is on disk and its writes can be read.
    ///
    /// `private` is the plain text that this peer has of the block's private data. What does not match the hash in its
    /// transaction, or belongs to none that is valid, is left out with a warning: it must not stop the chain.
    ///
    /// # Errors
    /// The block is not the next one or not complete, or a file cannot be written. If the block reached its file but not
    /// the state, the next commit, or the next start, completes it.
    pub fn commit(
        &self,
        block: common::Block,
        updates: UpdateBatch,
        private: Vec<PrivateWrites>,
    ) -> Result<(), LedgerError> {
        self.commit_looked_up(block, updates, private, &[])
    }

    /// As [`Ledger::commit`] by one who has looked up transaction ids in the chain as it is without the block:
    /// `looked_up` holds, for each transaction whose id was, that id (the one that [`crate::indexed_tx_id`] gives) and
    /// whether the chain has it.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    pub fn commit_looked_up(
        &self,
        block: common::Block,
        updates: UpdateBatch,
        private: Vec<PrivateWrites>,
        looked_up: &[Option<(&str, bool)>],
    ) -> Result<(), LedgerError> {
        let mut tip = self.tip.lock();
        if self.blocks.height() != self.height() {
            self.roll_forward(&mut tip)?;
        }
        let number = contents::number_of(&block)?;
        if number != self.height() {
            return Err(LedgerError::OutOfOrder {
                expected: self.height(),
                got: number,
            });
        }
        let codes = contents::codes(&block)?;
        let private = self.matching(&block, &codes, private)?;
        let batch = self.batch(&block, &codes, &updates, &private, looked_up)?;
        let started = Instant::now();
        self.private.put(number, &private, |ns, collection| {
            self.expiry(number, ns, collection)
        })?;
        self.blocks.append(&block)?;
        self.private.remove(number, updates.purges())?;
        let block_storage = started.elapsed();
        self.db.write(batch, false)?;
        *self.times.lock() = CommitTimes {
            block_storage,
            state: started.elapsed().saturating_sub(block_storage),
        };
        self.committed(&block, &updates, &mut tip);
        Ok(())
    }

    /// Block 0: not validated, one VALID byte (spec 03 §10.3).
    pub(super) fn commit_genesis(&self, mut block: common::Block) -> Result<(), LedgerError> {
        let count = contents::envelopes(&block).len();
        let codes = vec![TxValidationCode::Valid; count];
        put_metadata(
            &mut block,
            common::BlockMetadataIndex::TransactionsFilter,
            vec![0; count].into(),
        );
        let updates = self.replayed(&block, &codes)?;
        self.commit(block, updates, Vec::new())
    }

    /// The writes of a block that was judged before.
    pub(super) fn replayed(
        &self,
        block: &common::Block,
        codes: &[TxValidationCode],
    ) -> Result<UpdateBatch, LedgerError> {
        let number = contents::number_of(block)?;
        let mut bodies = Vec::with_capacity(codes.len());
        for (index, (envelope, code)) in contents::envelopes(block).iter().zip(codes).enumerate() {
            let valid = *code == TxValidationCode::Valid;
            bodies.push(if valid {
                Some(contents::body(number, index, envelope)?)
            } else {
                None
            });
        }
        let inputs: Vec<TxInput<'_>> = bodies
            .iter()
            .map(|body| match body {
                Some(Body::Endorser(rwset)) => TxInput {
                    rwset: Some(rwset),
                    config: None,
                },
                Some(Body::Config(config)) => TxInput {
                    rwset: None,
                    config: Some(config.clone()),
                },
                None => TxInput::default(),
            })
            .collect();
        mvcc::replay(number, &inputs, codes, &self.state())
    }

    pub(super) fn committed(&self, block: &common::Block, updates: &UpdateBatch, tip: &mut Bytes) {
        self.block_to_live.forget_if_changed(updates);
        *tip = commit_hash::stored(block).unwrap_or_default();
        if let Some(header) = &block.header {
            self.height.send_replace(header.number + 1);
            // RocksDB keeps what a snapshot can see, and nobody asks for this one any more.
            let mut latest = self.latest.lock();
            latest.take_if(|snapshot| snapshot.height() <= header.number);
        }
    }

    fn expiry(&self, block: u64, ns: &str, collection: &str) -> Result<Option<u64>, LedgerError> {
        self.block_to_live.expiry(&self.state(), block, ns, collection)
    }

    /// The private data that valid transactions of the block commit to.
    fn matching(
        &self,
        block: &common::Block,
        codes: &[TxValidationCode],
        private: Vec<PrivateWrites>,
    ) -> Result<Vec<PrivateWrites>, LedgerError> {
        let number = contents::number_of(block)?;
        let mut kept = Vec::with_capacity(private.len());
        for writes in private {
            let index = usize::try_from(writes.tx).unwrap_or(usize::MAX);
            let valid = codes.get(index) == Some(&TxValidationCode::Valid);
            let body = match contents::envelopes(block).get(index) {
                Some(envelope) if valid => Some(contents::body(number, index, envelope)?),
                _ => None,
            };
            let matches = match &body {
                Some(Body::Endorser(rwset)) => rwset
                    .pvt_rwset_hash(&writes.namespace, &writes.collection)
                    .is_some_and(|hash| writes.matches(hash)),
                _ => false,
            };
            if matches {
                kept.push(writes);
            } else {
                tracing::warn!(
                    channel = self.channel_id,
                    block = number,
                    tx = writes.tx,
                    namespace = writes.namespace,
                    collection = writes.collection,
                    "private data does not belong to a valid transaction with its hash and is not stored"
                );
            }
        }
        Ok(kept)
    }

    /// Everything that a block changes in the state database.
    pub(super) fn batch(
        &self,
        block: &common::Block,
        codes: &[TxValidationCode],
        updates: &UpdateBatch,
        private: &[PrivateWrites],
        looked_up: &[Option<(&str, bool)>],
    ) -> Result<WriteBatch, LedgerError> {
        let header = block.header.clone().unwrap_or_default();
        let mut batch = WriteBatch::default();
        for (ns, changes) in updates.namespaces() {
            for (key, update) in &changes.public {
                let name = keys::state_key(&KeyRef::Public { ns, key });
                put_or_delete(
                    &mut batch,
                    &name,
                    update.version,
                    update.value.as_ref(),
                    &update.metadata,
                );
            }
            for (collection, hashes) in &changes.hashed {
                let expiry = self.expiry(header.number, ns, collection)?;
                for (key_hash, update) in hashes {
                    let name = keys::state_key(&KeyRef::Hashed {
                        ns,
                        collection,
                        key_hash,
                    });
                    put_or_delete(
                        &mut batch,
                        &name,
                        update.version,
                        update.value.as_ref(),
                        &update.metadata,
                    );
                    if let (Some(at), Some(_)) = (expiry, &update.value) {
                        self.expiring.store(true, Ordering::Relaxed);
                        let entry = keys::encode_entry(update.version, &[], &[]);
                        batch.put(keys::expiry_key(at, ns, collection, key_hash), entry);
                    }
                }
            }
        }
        for write in updates.history() {
            let version = Version::new(header.number, write.tx);
            batch.put(keys::history_key(&write.namespace, &write.key, version), []);
        }
        self.put_plain(&mut batch, updates, &plain_writes(private, updates))?;
        self.expire(&mut batch, header.number, updates)?;
        self.index(&mut batch, block, codes, header.number, looked_up)?;
        batch.put(
            keys::block_hash_key(&block_hash(&header)),
            header.number.to_be_bytes(),
        );
        batch.put(keys::META_HEIGHT, (header.number + 1).to_be_bytes());
        Ok(batch)
    }

    /// Transaction ids: the first occurrence of each stays.
    fn index(
        &self,
        batch: &mut WriteBatch,
        block: &common::Block,
        codes: &[TxValidationCode],
        number: u64,
        looked_up: &[Option<(&str, bool)>],
    ) -> Result<(), LedgerError> {
        let mut seen = HashSet::with_capacity(codes.len());
        let mut unknown = Vec::new();
        for (index, (envelope, code)) in (0u64..).zip(contents::envelopes(block).iter().zip(codes)) {
            let place = usize::try_from(index).unwrap_or(usize::MAX);
            let (name, known) = match looked_up.get(place).copied().flatten() {
                Some((id, known)) => (keys::tx_key(id), Some(known)),
                None => match contents::indexed_tx_id(envelope) {
                    Some(id) => (keys::tx_key(&id), None),
                    None => continue,
                },
            };
            if !seen.insert(name.clone()) {
                continue;
            }
            let location = TxLocation {
                block: number,
                index,
                code: *code,
            };
            match known {
                Some(true) => {}
                Some(false) => batch.put(name, location.encode()),
                None => unknown.push((name, location)),
            }
        }
        let names: Vec<Vec<u8>> = unknown.iter().map(|(name, _)| name.clone()).collect();
        let known = self.db.get_many(&names, None)?;
        for ((name, location), known) in unknown.into_iter().zip(known) {
            if known.is_none() {
                batch.put(name, location.encode());
            }
        }
        Ok(())
    }

    /// The plain text beside each hashed update: put, deleted, or carried on under the new version where only the metadata
    /// changed (spec 03 §8).
    fn put_plain(
        &self,
        batch: &mut WriteBatch,
        updates: &UpdateBatch,
        plain: &PlainWrites,
    ) -> Result<(), LedgerError> {
        for (ns, changes) in updates.namespaces() {
            for (collection, hashes) in &changes.hashed {
                let names: Vec<Vec<u8>> = hashes
                    .keys()
                    .map(|h| keys::plain_key(ns, collection, h))
                    .collect();
                let known = self.db.get_many(&names, None)?;
                for (((key_hash, update), index), known) in hashes.iter().zip(names).zip(known) {
                    let place = (ns.clone(), collection.clone(), key_hash.clone());
                    let supplied = plain.get(&place);
                    let key = match (supplied, &known) {
                        (Some(write), _) => write.key.clone(),
                        (None, Some(key)) => String::from_utf8(key.to_vec()).map_err(|_| damaged(&index))?,
                        (None, None) => continue,
                    };
                    let name = KeyRef::Private {
                        ns,
                        collection,
                        key: &key,
                    };
                    let value = match (&update.value, supplied) {
                        (None, _) => {
                            batch.delete(keys::state_key(&name));
                            batch.delete(index);
                            continue;
                        }
                        (Some(_), Some(write)) => write.value.clone(),
                        (Some(hash), None) => {
                            let held = self.state().get_one(name)?.map(|e| e.value);
                            held.filter(|v| Sha256::digest(v).as_slice() == hash.as_ref())
                        }
                    };
                    if let Some(value) = value {
                        batch.put(
                            keys::state_key(&name),
                            keys::encode_entry(update.version, &[], &value),
                        );
                        batch.put(index, key.as_bytes());
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes the hashed and plain entries whose time ends with this block, unless they were written again since.
    fn expire(&self, batch: &mut WriteBatch, number: u64, updates: &UpdateBatch) -> Result<(), LedgerError> {
        // Looking for them is a seek a block; most channels have none.
        if !self.expiring.load(Ordering::Relaxed) {
            return Ok(());
        }
        for found in self
            .db
            .scan_prefix(&keys::expiry_prefix(number), Direction::Forward)
        {
            let (name, entry) = found?;
            batch.delete(&name);
            let (ns, collection, key_hash) = keys::split_expiry_key(&name).ok_or_else(|| damaged(&name))?;
            let version = keys::decode_entry(&entry).ok_or_else(|| damaged(&name))?.version;
            let current = self.state().get_hashed(ns, collection, key_hash)?;
            let rewritten = updates.hashed(ns, collection, key_hash).is_some();
            if rewritten || current.is_none_or(|c| c.version != version) {
                continue;
            }
            batch.delete(keys::state_key(&KeyRef::Hashed {
                ns,
                collection,
                key_hash,
            }));
            let index = keys::plain_key(ns, collection, key_hash);
            if let Some(key) = self.db.get(&index)? {
                let key = std::str::from_utf8(&key).map_err(|_| damaged(&index))?;
                batch.delete(keys::state_key(&KeyRef::Private { ns, collection, key }));
                batch.delete(&index);
            }
        }
        Ok(())
    }
}

fn put_or_delete(
    batch: &mut WriteBatch,
    name: &[u8],
    version: Version,
    value: Option<&Bytes>,
    metadata: &[u8],
) {
    match value {
        Some(value) => batch.put(name, keys::encode_entry(version, metadata, value)),
        None => batch.delete(name),
    }
}
