//! Are the versions that a transaction read still current, and what does it write? (spec 03 §5, §6)
//!
//! Pure and serial: transactions are judged in the order of the block, each against the committed state overlaid by the
//! writes of the valid ones before it. Everything that the block's keys need from the state is read with one `get_many`.

mod conflict;
mod effect;
mod phantom;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use selvedge_proto::kvrwset;
use selvedge_proto::protos::TxValidationCode;

pub use conflict::{ConflictKey, MvccConflict};

use crate::error::LedgerError;
use crate::rwset::ParsedRwset;
use crate::state::{KeyRef, StateReader, VersionedValue};
use crate::updates::{Update, UpdateBatch};
use crate::version::Version;
use crate::{CONFIG_KEY, CONFIG_NAMESPACE};

/// One transaction of the block, at its index.
#[derive(Debug, Clone, Default)]
pub struct TxInput<'a> {
    /// The read/write set of an endorser transaction.
    pub rwset: Option<&'a ParsedRwset>,
    /// Of a configuration transaction, the `ConfigEnvelope` verbatim: it goes to the state without a check.
    pub config: Option<Bytes>,
}

/// Gives the transactions that are VALID so far their final codes, and says what the valid ones write.
///
/// `txs` and `codes` hold one element for every transaction of the block; elements whose code is not VALID are skipped. A
/// transaction that fails gets `MVCC_READ_CONFLICT` or `PHANTOM_READ_CONFLICT`, and one entry in the returned list says
/// over which key. One that has neither a read/write set nor a configuration gets `NIL_TXACTION` (spec 03 §3 H).
///
/// # Errors
/// The state cannot be read, or `txs` and `codes` differ in length. The codes are then of no use.
pub fn judge(
    block: u64,
    txs: &[TxInput<'_>],
    codes: &mut [TxValidationCode],
    state: &dyn StateReader,
) -> Result<(UpdateBatch, Vec<MvccConflict>), LedgerError> {
    same_length(block, txs.len(), codes.len())?;
    let view = View::load(state, txs, codes, true)?;
    let mut updates = UpdateBatch::new();
    let mut conflicts = Vec::new();
    for (index, (tx, code)) in (0u64..).zip(txs.iter().zip(codes.iter_mut())) {
        if *code != TxValidationCode::Valid {
            continue;
        }
        let version = Version::new(block, index);
        if let Some(config) = &tx.config {
            write_config(&mut updates, version, config);
            continue;
        }
        let Some(rwset) = tx.rwset else {
            *code = TxValidationCode::NilTxaction;
            continue;
        };
        match check_reads(index, rwset, &view, &updates)? {
            Some(conflict) => {
                *code = conflict.code();
                conflicts.push(conflict);
            }
            None => effect::apply(rwset, version, &view, &mut updates),
        }
    }
    Ok((updates, conflicts))
}

/// What the block writes, given its final codes: for rolling a state forward over blocks that were judged before.
///
/// # Errors
/// As [`judge`]; also when a VALID transaction has neither a read/write set nor a configuration.
pub fn replay(
    block: u64,
    txs: &[TxInput<'_>],
    codes: &[TxValidationCode],
    state: &dyn StateReader,
) -> Result<UpdateBatch, LedgerError> {
    same_length(block, txs.len(), codes.len())?;
    let view = View::load(state, txs, codes, false)?;
    let mut updates = UpdateBatch::new();
    for (index, (tx, code)) in (0u64..).zip(txs.iter().zip(codes)) {
        if *code != TxValidationCode::Valid {
            continue;
        }
        let version = Version::new(block, index);
        if let Some(config) = &tx.config {
            write_config(&mut updates, version, config);
        } else if let Some(rwset) = tx.rwset {
            effect::apply(rwset, version, &view, &mut updates);
        } else {
            return Err(LedgerError::BadBlock {
                number: block,
                why: format!("transaction {index} is marked valid but carries no read/write set"),
            });
        }
    }
    Ok(updates)
}

fn same_length(number: u64, txs: usize, codes: usize) -> Result<(), LedgerError> {
    if txs == codes {
        return Ok(());
    }
    Err(LedgerError::BadBlock {
        number,
        why: format!("it has {txs} transactions but {codes} validation codes"),
    })
}

fn write_config(updates: &mut UpdateBatch, version: Version, config: &Bytes) {
    let update = Update {
        version,
        value: Some(config.clone()),
        metadata: Bytes::new(),
    };
    updates.set_public(CONFIG_NAMESPACE, CONFIG_KEY, update);
}

/// The committed entries that the block names, read at once, and the state for range scans.
struct View<'a> {
    state: &'a dyn StateReader,
    keys: Vec<KeyRef<'a>>,
    entries: Vec<Option<VersionedValue>>,
}

impl<'a> View<'a> {
    /// Reads what the VALID transactions read (if `reads`) and what they write: a value-only write keeps the key's
    /// metadata, a metadata-only one its value.
    fn load(
        state: &'a dyn StateReader,
        txs: &[TxInput<'a>],
        codes: &[TxValidationCode],
        reads: bool,
    ) -> Result<Self, LedgerError> {
        let mut keys = Vec::new();
        for (tx, _) in txs
            .iter()
            .zip(codes)
            .filter(|(_, c)| **c == TxValidationCode::Valid)
        {
            for ns in tx.rwset.iter().flat_map(|r| &r.namespaces) {
                let name = ns.namespace.as_str();
                let public = |key: &'a String| KeyRef::Public { ns: name, key };
                if reads {
                    keys.extend(ns.public.reads.iter().map(|r| public(&r.key)));
                }
                keys.extend(ns.public.writes.iter().map(|w| public(&w.key)));
                keys.extend(ns.public.metadata_writes.iter().map(|w| public(&w.key)));
                for coll in &ns.collections {
                    let hashed = |key_hash: &'a Bytes| KeyRef::Hashed {
                        ns: name,
                        collection: &coll.collection,
                        key_hash,
                    };
                    if reads {
                        keys.extend(coll.hashed.hashed_reads.iter().map(|r| hashed(&r.key_hash)));
                    }
                    keys.extend(coll.hashed.hashed_writes.iter().map(|w| hashed(&w.key_hash)));
                    keys.extend(coll.hashed.metadata_writes.iter().map(|w| hashed(&w.key_hash)));
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        let entries = state.get_many(&keys)?;
        Ok(Self { state, keys, entries })
    }

    fn committed(&self, key: &KeyRef<'_>) -> Option<&VersionedValue> {
        let place = self.keys.binary_search(key).ok()?;
        self.entries.get(place)?.as_ref()
    }
}

/// The first thing that a transaction read and that is not so any more, in the order of spec 03 §5.
fn check_reads(
    tx: u64,
    rwset: &ParsedRwset,
    view: &View<'_>,
    updates: &UpdateBatch,
) -> Result<Option<MvccConflict>, LedgerError> {
    for ns in &rwset.namespaces {
        let name = ns.namespace.as_str();
        for read in &ns.public.reads {
            let key = KeyRef::Public {
                ns: name,
                key: &read.key,
            };
            let pending = updates.public(name, &read.key);
            if let Some(conflict) = check_read(tx, key, read.version.as_ref(), pending, view) {
                return Ok(Some(conflict));
            }
        }
        for query in &ns.public.range_queries_info {
            if let Some(conflict) = phantom::check(tx, name, query, view.state, updates)? {
                return Ok(Some(conflict));
            }
        }
        for coll in &ns.collections {
            for read in &coll.hashed.hashed_reads {
                let key = KeyRef::Hashed {
                    ns: name,
                    collection: &coll.collection,
                    key_hash: &read.key_hash,
                };
                let pending = updates.hashed(name, &coll.collection, &read.key_hash);
                if let Some(conflict) = check_read(tx, key, read.version.as_ref(), pending, view) {
                    return Ok(Some(conflict));
                }
            }
        }
    }
    Ok(None)
}

fn check_read(
    tx: u64,
    key: KeyRef<'_>,
    read: Option<&kvrwset::Version>,
    pending: Option<&Update>,
    view: &View<'_>,
) -> Option<MvccConflict> {
    let read = read.map(Version::from);
    let current = view.committed(&key).map(|e| e.version);
    if let Some(update) = pending {
        return Some(MvccConflict::read(tx, key, read, current, Some(update.version)));
    }
    (read != current).then(|| MvccConflict::read(tx, key, read, current, current))
}
