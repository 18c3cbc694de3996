//! How the world state is read.

use bytes::Bytes;
use prost::Message;
use selvedge_proto::kvrwset;

use crate::error::LedgerError;
use crate::version::Version;

/// A state entry that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedValue {
    /// The value; of a hashed entry the SHA-256 of the private value.
    pub value: Bytes,
    /// pb(KVMetadataWrite) with `entries` alone, or nothing where the entry has no metadata (spec 03 §5).
    pub metadata: Bytes,
    /// Who wrote it last.
    pub version: Version,
}

impl VersionedValue {
    /// The metadata entry of this name, such as `VALIDATION_PARAMETER`; the last one of a name counts (spec 03 §5).
    /// `None` also where the metadata does not decode.
    pub fn metadata_entry(&self, name: &str) -> Option<Bytes> {
        let metadata = kvrwset::KvMetadataWrite::decode(self.metadata.clone()).ok()?;
        let entry = metadata.entries.into_iter().rev().find(|e| e.name == name)?;
        Some(entry.value)
    }
}

/// Names one entry of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRef<'a> {
    /// Public state.
    Public {
        /// The namespace (chaincode name).
        ns: &'a str,
        /// The key.
        key: &'a str,
    },
    /// The hashes of private data, which every peer has.
    Hashed {
        /// The namespace.
        ns: &'a str,
        /// The collection.
        collection: &'a str,
        /// SHA-256 of the key.
        key_hash: &'a [u8],
    },
    /// Private data in plain text, where this peer has it.
    Private {
        /// The namespace.
        ns: &'a str,
        /// The collection.
        collection: &'a str,
        /// The key.
        key: &'a str,
    },
}

/// What a range scan yields: key and entry, in the order of the keys' bytes.
pub type RangeIter<'a> = Box<dyn Iterator<Item = Result<(String, VersionedValue), LedgerError>> + 'a>;

/// The world state at one height.
pub trait StateReader: Send + Sync {
    /// Many entries at once; the answers stand in the order of `keys`, absent ones are `None`.
    ///
    /// # Errors
    /// The database cannot be read, or an entry is damaged.
    fn get_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<VersionedValue>>, LedgerError>;

    /// The public entries of a namespace with `start <= key < end`, by the bytes of the keys; an empty `end` means no
    /// upper bound. (A key that is not UTF-8, which only a scan over hashed entries can meet, comes with replacement
    /// characters.)
    fn range(&self, ns: &str, start: &str, end: &str) -> RangeIter<'_>;

    /// One public entry.
    ///
    /// # Errors
    /// As [`StateReader::get_many`].
    fn get(&self, ns: &str, key: &str) -> Result<Option<VersionedValue>, LedgerError> {
        self.get_one(KeyRef::Public { ns, key })
    }

    /// One entry of the hashes of a private collection.
    ///
    /// # Errors
    /// As [`StateReader::get_many`].
    fn get_hashed(
        &self,
        ns: &str,
        collection: &str,
        key_hash: &[u8],
    ) -> Result<Option<VersionedValue>, LedgerError> {
        self.get_one(KeyRef::Hashed {
            ns,
            collection,
            key_hash,
        })
    }

    /// One private entry in plain text. It is current only where its version equals that of the hashed entry: a peer can
    /// hold an old value whose successor it has not received.
    ///
    /// # Errors
    /// As [`StateReader::get_many`].
    fn get_private(
        &self,
        ns: &str,
        collection: &str,
        key: &str,
    ) -> Result<Option<VersionedValue>, LedgerError> {
        self.get_one(KeyRef::Private { ns, collection, key })
    }

    /// One entry.
    ///
    /// # Errors
    /// As [`StateReader::get_many`].
    fn get_one(&self, key: KeyRef<'_>) -> Result<Option<VersionedValue>, LedgerError> {
        Ok(self.get_many(&[key])?.pop().flatten())
    }

    /// The versions of many entries, in the order of `keys`; `None` for absent ones.
    ///
    /// # Errors
    /// As [`StateReader::get_many`].
    fn versions(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<Version>>, LedgerError> {
        let entries = self.get_many(keys)?;
        Ok(entries.into_iter().map(|e| e.map(|e| e.version)).collect())
    }
}
