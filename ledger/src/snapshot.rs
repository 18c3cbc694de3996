//! The state as of one height, and the state as it is now.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{Direction, Snapshot};
use self_cell::self_cell;

use crate::db::Db;
use crate::error::LedgerError;
use crate::keys;
use crate::state::{KeyRef, RangeIter, StateReader, VersionedValue};

self_cell!(
    /// A RocksDB snapshot together with the database that it borrows from, so that it can be owned.
    struct OwnedSnapshot {
        owner: Arc<Db>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// The state after one block, unchanged by later ones for as long as it is kept. RocksDB cannot drop old versions
/// meanwhile, so it should not be kept long.
pub struct StateSnapshot {
    snapshot: OwnedSnapshot,
    height: u64,
}

impl StateSnapshot {
    pub(crate) fn take(db: &Arc<Db>) -> Result<Self, LedgerError> {
        let snapshot = OwnedSnapshot::new(Arc::clone(db), |db| db.rocks().snapshot());
        let found = db.get_many(&[keys::META_HEIGHT.to_vec()], Some(snapshot.borrow_dependent()))?;
        let height = match found.into_iter().next().flatten() {
            Some(bytes) => decode_height(&bytes)?,
            None => 0,
        };
        Ok(Self { snapshot, height })
    }

    /// How many blocks the state holds the writes of: the last one is block `height() - 1`.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Every entry of the state, sorted by namespace and key: namespace (`cc`, `cc$$h<coll>` for hashed and `cc$$p<coll>`
    /// for private entries, empty for the configuration), the key's bytes, and the entry.
    pub fn entries(&self) -> impl Iterator<Item = Result<(String, Bytes, VersionedValue), LedgerError>> + '_ {
        let (from, to) = keys::whole_state();
        let snapshot = self.snapshot.borrow_dependent();
        let scan = self
            .snapshot
            .borrow_owner()
            .scan(from, to, Direction::Forward, Some(snapshot));
        scan.map(|entry| {
            let (name, entry) = entry?;
            let (ns, key) = keys::split_state_key(&name).ok_or_else(|| damaged(&name))?;
            let ns = String::from_utf8_lossy(ns).into_owned();
            let entry = keys::decode_entry(&entry).ok_or_else(|| damaged(&name))?;
            Ok((ns, Bytes::copy_from_slice(key), entry))
        })
    }
}

impl StateReader for StateSnapshot {
    fn get_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<VersionedValue>>, LedgerError> {
        get_many(
            self.snapshot.borrow_owner(),
            Some(self.snapshot.borrow_dependent()),
            keys,
        )
    }

    fn range(&self, ns: &str, start: &str, end: &str) -> RangeIter<'_> {
        let snapshot = self.snapshot.borrow_dependent();
        range(self.snapshot.borrow_owner(), Some(snapshot), ns, start, end)
    }
}

impl fmt::Debug for StateSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSnapshot")
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}

/// The state as it is at the moment of each read. For the thread that commits, which alone knows that nothing changes
/// between two reads; everyone else takes a [`StateSnapshot`].
#[derive(Debug, Clone, Copy)]
pub struct CommittedState<'a> {
    db: &'a Db,
}

impl<'a> CommittedState<'a> {
    pub(crate) fn new(db: &'a Db) -> Self {
        Self { db }
    }
}

impl StateReader for CommittedState<'_> {
    fn get_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<VersionedValue>>, LedgerError> {
        get_many(self.db, None, keys)
    }

    fn range(&self, ns: &str, start: &str, end: &str) -> RangeIter<'_> {
        range(self.db, None, ns, start, end)
    }
}

pub(crate) fn decode_height(bytes: &[u8]) -> Result<u64, LedgerError> {
    let bytes = <[u8; 8]>::try_from(bytes).map_err(|_| damaged(keys::META_HEIGHT))?;
    Ok(u64::from_be_bytes(bytes))
}

pub(crate) fn damaged(name: &[u8]) -> LedgerError {
    LedgerError::DamagedEntry {
        what: name.escape_ascii().to_string(),
    }
}

fn get_many(
    db: &Db,
    snapshot: Option<&Snapshot<'_>>,
    keys: &[KeyRef<'_>],
) -> Result<Vec<Option<VersionedValue>>, LedgerError> {
    let names: Vec<Vec<u8>> = keys.iter().map(keys::state_key).collect();
    let found = db.get_many(&names, snapshot)?;
    let mut entries = Vec::with_capacity(keys.len());
    for (entry, name) in found.into_iter().zip(&names) {
        let entry = entry.map(|bytes| keys::decode_entry(&bytes).ok_or_else(|| damaged(name)));
        entries.push(entry.transpose()?);
    }
    Ok(entries)
}

fn range<'a>(db: &'a Db, snapshot: Option<&Snapshot<'_>>, ns: &str, start: &str, end: &str) -> RangeIter<'a> {
    let (from, to) = keys::state_range(ns, start, end);
    Box::new(db.scan(from, to, Direction::Forward, snapshot).map(|entry| {
        let (name, entry) = entry?;
        let (_, key) = keys::split_state_key(&name).ok_or_else(|| damaged(&name))?;
        let entry = keys::decode_entry(&entry).ok_or_else(|| damaged(&name))?;
        Ok((String::from_utf8_lossy(key).into_owned(), entry))
    }))
}
