//! Runs a transaction against a snapshot of the state and records what it read and wrote (spec 03 §7).
//!
//! Reads always return committed values, also of keys that the transaction has written. Each key appears once: the
//! first read and the last write count. Everything is kept sorted, so that all endorsers produce the same bytes.

mod interest;
mod iterator;
mod results;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use selvedge_ledger::{HistoryEntry, LedgerError, StateReader, Version, VersionedValue};
use selvedge_proto::rwset;
use sha2::{Digest, Sha256};

use crate::definition::{LIFECYCLE, field_key, metadata_key};
use iterator::Cursor;
pub use iterator::{Item, MAX_RESULTS};

/// Name of the state metadata entry that holds a key's own endorsement policy.
pub const VALIDATION_PARAMETER: &str = "VALIDATION_PARAMETER";
/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 16 * 1024;
/// Longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;
/// Most bytes that one transaction may write, keys included.
pub const MAX_WRITE_BYTES: usize = 32 * 1024 * 1024;
/// Most iterators that may be open at a time.
pub const MAX_OPEN_ITERATORS: usize = 64;

/// The state that a transaction is simulated on: one height of one channel.
pub trait SimulationState: StateReader {
    /// How many blocks it holds the writes of.
    fn height(&self) -> u64;

    /// At most `limit` changes of a key, newest first, beginning below `before` if that is given.
    ///
    /// # Errors
    /// The history cannot be read.
    fn history(
        &self,
        namespace: &str,
        key: &str,
        before: Option<Version>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, LedgerError>;
}

/// Why an access failed.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The access breaks a rule; the text says which. The chaincode may go on.
    #[error("{0}")]
    Refused(String),
    /// The ledger could not be read; the simulation is worthless.
    #[error("the ledger could not be read: {0}")]
    Ledger(#[from] LedgerError),
}

impl SimulationError {
    fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }
}

/// What was found at a key when it was first read.
#[derive(Debug, Clone)]
struct Seen {
    version: Version,
    policy: Option<Bytes>,
}

/// Reads and writes of one namespace.
#[derive(Debug, Default)]
struct NamespaceSet {
    reads: BTreeMap<String, Option<Seen>>,
    writes: BTreeMap<String, Option<Bytes>>,
    metadata: BTreeMap<String, BTreeMap<String, Bytes>>,
    collections: BTreeMap<String, CollectionSet>,
}

/// Reads and writes of one collection, by plain key.
#[derive(Debug, Default)]
struct CollectionSet {
    reads: BTreeMap<String, Option<Version>>,
    writes: BTreeMap<String, Option<Bytes>>,
    plaintext_read: bool,
}

/// What a simulation produced.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulationResults {
    /// What goes into the transaction: public data and hashes of private data.
    pub public: rwset::TxReadWriteSet,
    /// Private data in the clear, when the transaction wrote any.
    pub private: Option<rwset::TxPvtReadWriteSet>,
}

/// A simulation that chaincodes calling each other have in common.
pub type SharedSimulator = Arc<Mutex<Simulator>>;

/// One transaction's view of a channel's state.
pub struct Simulator {
    state: Box<dyn SimulationState>,
    namespaces: BTreeMap<String, NamespaceSet>,
    /// All iterators that were opened, in order: what they fetched is part of the read set.
    cursors: Vec<Cursor>,
    open: usize,
    results: usize,
    written: usize,
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator")
            .field("namespaces", &self.namespaces.keys())
            .finish_non_exhaustive()
    }
}

fn check_key(key: &str) -> Result<(), SimulationError> {
    if key.is_empty() {
        return Err(SimulationError::refused("the key is empty"));
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(SimulationError::refused(format!(
            "the key has {} bytes; at most {MAX_KEY_BYTES} are allowed",
            key.len()
        )));
    }
    Ok(())
}

/// SHA-256, as private keys and values are hashed.
pub fn sha256(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(bytes))
}

impl Simulator {
    /// A simulation that has read and written nothing yet.
    pub fn new(state: Box<dyn SimulationState>) -> Self {
        Self {
            state,
            namespaces: BTreeMap::new(),
            cursors: Vec::new(),
            open: 0,
            results: 0,
            written: 0,
        }
    }

    /// The state underneath: reading it directly is not recorded.
    pub fn state(&self) -> &dyn SimulationState {
        &*self.state
    }

    fn namespace(&mut self, name: &str) -> &mut NamespaceSet {
        if !self.namespaces.contains_key(name) {
            self.namespaces.insert(name.to_owned(), NamespaceSet::default());
        }
        self.namespaces.entry(name.to_owned()).or_default()
    }

    fn collection(&mut self, namespace: &str, collection: &str) -> &mut CollectionSet {
        self.namespace(namespace)
            .collections
            .entry(collection.to_owned())
            .or_default()
    }

    fn read(&mut self, namespace: &str, key: &str) -> Result<Option<VersionedValue>, SimulationError> {
        let found = self.state.get(namespace, key)?;
        let set = self.namespace(namespace);
        if !set.reads.contains_key(key) {
            let seen = found.as_ref().map(|v| Seen {
                version: v.version,
                policy: key_policy(v),
            });
            set.reads.insert(key.to_owned(), seen);
        }
        Ok(found)
    }

    /// The committed value of a key. The read is recorded.
    ///
    /// # Errors
    /// The key is empty or too long, or the ledger fails.
    pub fn get(&mut self, namespace: &str, key: &str) -> Result<Option<Bytes>, SimulationError> {
        Ok(self.get_versioned(namespace, key)?.map(|found| found.value))
    }

    /// As [`Simulator::get`], with the version.
    ///
    /// # Errors
    /// As [`Simulator::get`].
    pub fn get_versioned(
        &mut self,
        namespace: &str,
        key: &str,
    ) -> Result<Option<VersionedValue>, SimulationError> {
        check_key(key)?;
        self.read(namespace, key)
    }

    fn count_write(&mut self, key: &str, value: &[u8]) -> Result<(), SimulationError> {
        check_key(key)?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(SimulationError::refused(format!(
                "the value of key {key:?} has {} bytes; at most {MAX_VALUE_BYTES} are allowed",
                value.len()
            )));
        }
        let written = self.written.saturating_add(key.len() + value.len());
        if written > MAX_WRITE_BYTES {
            return Err(SimulationError::refused(format!(
                "the transaction writes more than {MAX_WRITE_BYTES} bytes: split it"
            )));
        }
        self.written = written;
        Ok(())
    }

    /// Writes a key.
    ///
    /// # Errors
    /// The key or value is not allowed; an empty value is a delete in Fabric (spec 01 A.4.18) and therefore refused.
    pub fn put(&mut self, namespace: &str, key: &str, value: Bytes) -> Result<(), SimulationError> {
        if value.is_empty() {
            return Err(SimulationError::refused(format!(
                "the value of key {key:?} is empty, which the ledger takes for a deletion: delete the key instead"
            )));
        }
        self.count_write(key, &value)?;
        self.namespace(namespace)
            .writes
            .insert(key.to_owned(), Some(value));
        Ok(())
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// The key is not allowed.
    pub fn delete(&mut self, namespace: &str, key: &str) -> Result<(), SimulationError> {
        self.count_write(key, &[])?;
        self.namespace(namespace).writes.insert(key.to_owned(), None);
        Ok(())
    }

    /// The endorsement policy of a key, if it has its own. Counts as a read of the key (spec 03 §5).
    ///
    /// # Errors
    /// The key is not allowed or the ledger fails.
    pub fn validation_parameter(
        &mut self,
        namespace: &str,
        key: &str,
    ) -> Result<Option<Bytes>, SimulationError> {
        check_key(key)?;
        let found = self.read(namespace, key)?;
        Ok(found.as_ref().and_then(key_policy))
    }

    /// Gives a key an endorsement policy of its own: `pb(SignaturePolicyEnvelope)`.
    ///
    /// # Errors
    /// The key or the policy's size is not allowed.
    pub fn set_validation_parameter(
        &mut self,
        namespace: &str,
        key: &str,
        policy: Bytes,
    ) -> Result<(), SimulationError> {
        self.count_write(key, &policy)?;
        let entries = BTreeMap::from([(VALIDATION_PARAMETER.to_owned(), policy)]);
        self.namespace(namespace).metadata.insert(key.to_owned(), entries);
        Ok(())
    }

    /// Records the reads of the five keys of a chaincode's definition: whoever touches its private data depends on
    /// the collections defined there (spec 03 §7). The lifecycle itself is built in and needs none.
    fn touch_collections(&mut self, namespace: &str) -> Result<(), SimulationError> {
        if namespace == LIFECYCLE {
            return Ok(());
        }
        for field in ["Collections", "EndorsementInfo", "Sequence", "ValidationInfo"] {
            self.read(LIFECYCLE, &field_key(namespace, field))?;
        }
        self.read(LIFECYCLE, &metadata_key(namespace))?;
        Ok(())
    }

    fn read_hash(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<VersionedValue>, SimulationError> {
        check_key(key)?;
        self.touch_collections(namespace)?;
        let found = self
            .state
            .get_hashed(namespace, collection, &sha256(key.as_bytes()))?;
        let version = found.as_ref().map(|v| v.version);
        self.collection(namespace, collection)
            .reads
            .entry(key.to_owned())
            .or_insert(version);
        Ok(found)
    }

    /// The hash of a private value, which every peer of the channel knows.
    ///
    /// # Errors
    /// The key is not allowed or the ledger fails.
    pub fn get_private_hash(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, SimulationError> {
        Ok(self.read_hash(namespace, collection, key)?.map(|v| v.value))
    }

    /// A private value in the clear.
    ///
    /// # Errors
    /// The key is not allowed, this peer does not have the value although there is one, or the ledger fails.
    pub fn get_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<Bytes>, SimulationError> {
        let hashed = self.read_hash(namespace, collection, key)?;
        self.collection(namespace, collection).plaintext_read = true;
        let Some(hashed) = hashed else { return Ok(None) };
        let plain = self.state.get_private(namespace, collection, key)?;
        match plain.filter(|p| sha256(&p.value) == hashed.value) {
            Some(found) => Ok(Some(found.value)),
            None => Err(SimulationError::refused(format!(
                "private data matching public hash version is not available. Public hash version = {{BlockNum: {}, \
                 TxNum: {}}}, chaincode {namespace}, collection {collection}: ask a peer of an organization that \
                 holds the collection",
                hashed.version.block, hashed.version.tx
            ))),
        }
    }

    /// Writes a private key: the hash goes into the transaction, the value stays with the collection's members.
    ///
    /// # Errors
    /// The key or value is not allowed.
    pub fn put_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        value: Bytes,
    ) -> Result<(), SimulationError> {
        if value.is_empty() {
            return Err(SimulationError::refused(format!(
                "the private value of key {key:?} is empty"
            )));
        }
        self.count_write(key, &value)?;
        self.touch_collections(namespace)?;
        self.collection(namespace, collection)
            .writes
            .insert(key.to_owned(), Some(value));
        Ok(())
    }

    /// Deletes a private key.
    ///
    /// # Errors
    /// The key is not allowed.
    pub fn delete_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Result<(), SimulationError> {
        self.count_write(key, &[])?;
        self.touch_collections(namespace)?;
        self.collection(namespace, collection)
            .writes
            .insert(key.to_owned(), None);
        Ok(())
    }
}

/// The endorsement policy in a key's committed metadata.
fn key_policy(found: &VersionedValue) -> Option<Bytes> {
    if found.metadata.is_empty() {
        return None;
    }
    found
        .metadata_entry(VALIDATION_PARAMETER)
        .filter(|policy| !policy.is_empty())
}
