//! What a block changes in the state.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::version::Version;

/// What the last valid transaction of a block that touched a key left there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// That transaction.
    pub version: Version,
    /// The value (of a hashed key, the value's hash), or `None`: the key is deleted.
    pub value: Option<Bytes>,
    /// pb(KVMetadataWrite) with `entries` alone, or nothing.
    pub metadata: Bytes,
}

/// The changes in one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceUpdates {
    /// Public keys.
    pub public: BTreeMap<String, Update>,
    /// Key hashes, by collection.
    pub hashed: BTreeMap<String, BTreeMap<Bytes, Update>>,
}

/// A public write of a valid transaction, for the history index (spec 03 §12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryWrite {
    /// Index of the transaction in its block.
    pub tx: u64,
    /// The namespace.
    pub namespace: String,
    /// The key.
    pub key: String,
}

/// A purge of a private key by a valid transaction: its plain text goes from everywhere, history included, but for what
/// later transactions wrote, be they of the same block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Index of the transaction in its block.
    pub tx: u64,
    /// The namespace.
    pub namespace: String,
    /// The collection.
    pub collection: String,
    /// SHA-256 of the key.
    pub key_hash: Bytes,
}

/// The net changes of one block, sorted by bytes, and its entries in the history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateBatch {
    namespaces: BTreeMap<String, NamespaceUpdates>,
    history: Vec<HistoryWrite>,
    purges: Vec<Purge>,
}

impl UpdateBatch {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The changed namespaces, sorted.
    pub fn namespaces(&self) -> &BTreeMap<String, NamespaceUpdates> {
        &self.namespaces
    }

    /// The public writes of valid transactions, in the order of the block.
    pub fn history(&self) -> &[HistoryWrite] {
        &self.history
    }

    /// The purges of private keys, in the order of the block.
    pub fn purges(&self) -> &[Purge] {
        &self.purges
    }

    /// Whether the block changes nothing.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// The change to a public key, if any.
    pub fn public(&self, ns: &str, key: &str) -> Option<&Update> {
        self.namespaces.get(ns)?.public.get(key)
    }

    /// The change to a hashed key, if any.
    pub fn hashed(&self, ns: &str, collection: &str, key_hash: &[u8]) -> Option<&Update> {
        self.namespaces.get(ns)?.hashed.get(collection)?.get(key_hash)
    }

    /// Sets the change to a public key.
    pub fn set_public(&mut self, ns: &str, key: &str, update: Update) {
        self.namespace(ns).public.insert(key.to_owned(), update);
    }

    /// Sets the change to a hashed key.
    pub fn set_hashed(&mut self, ns: &str, collection: &str, key_hash: Bytes, update: Update) {
        let hashed = &mut self.namespace(ns).hashed;
        hashed
            .entry(collection.to_owned())
            .or_default()
            .insert(key_hash, update);
    }

    /// Adds an entry to the history.
    pub fn add_history(&mut self, tx: u64, namespace: &str, key: &str) {
        self.history.push(HistoryWrite {
            tx,
            namespace: namespace.to_owned(),
            key: key.to_owned(),
        });
    }

    /// Adds a purge.
    pub fn add_purge(&mut self, tx: u64, namespace: &str, collection: &str, key_hash: &Bytes) {
        self.purges.push(Purge {
            tx,
            namespace: namespace.to_owned(),
            collection: collection.to_owned(),
            key_hash: key_hash.clone(),
        });
    }

    fn namespace(&mut self, ns: &str) -> &mut NamespaceUpdates {
        self.namespaces.entry(ns.to_owned()).or_default()
    }
}
