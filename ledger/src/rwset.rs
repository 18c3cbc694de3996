//! A transaction's read/write set, decoded once with everything nested in it (spec 03 §3 D.2, §7).

use bytes::Bytes;
use selvedge_proto::go_compat::{self, GoDecodeError};
use selvedge_proto::{kvrwset, rwset};
use sha2::{Digest, Sha256};

/// A decoded `TxReadWriteSet`. Byte fields borrow from the input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParsedRwset {
    /// In the order of the transaction; a name may come twice (that is code 23, ILLEGAL_WRITESET, not a decode error).
    pub namespaces: Vec<NamespaceRwset>,
}

/// What was read and written in one namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NamespaceRwset {
    /// The chaincode's name.
    pub namespace: String,
    /// Public reads, range queries, writes and metadata writes.
    pub public: kvrwset::KvrwSet,
    /// Private collections, by hashes.
    pub collections: Vec<CollectionRwset>,
}

/// What was read and written in one private collection, by hashes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CollectionRwset {
    /// The collection's name.
    pub collection: String,
    /// Hashed reads, writes and metadata writes.
    pub hashed: kvrwset::HashedRwSet,
    /// SHA-256 of the plain pb(KVRWSet); empty where nothing private was written.
    pub pvt_rwset_hash: Bytes,
}

/// Why a read/write set does not decode.
#[derive(Debug, Clone, thiserror::Error)]
#[error("read/write set{place}: {source}")]
pub struct RwsetError {
    place: String,
    source: GoDecodeError,
}

impl ParsedRwset {
    /// Decodes `ChaincodeAction.results`. Empty input is an empty set; `data_model` is not looked at.
    ///
    /// # Errors
    /// Something in it does not decode as Go decodes (spec 01 A.4 item 19): also in namespaces that are only read.
    pub fn parse(results: Bytes) -> Result<Self, RwsetError> {
        let at = |place: String| move |source| RwsetError { place, source };
        let set: rwset::TxReadWriteSet = go_compat::decode(results).map_err(at(String::new()))?;
        let mut namespaces = Vec::with_capacity(set.ns_rwset.len());
        for ns in set.ns_rwset {
            let public =
                go_compat::decode(ns.rwset).map_err(at(format!(" of namespace {}", ns.namespace)))?;
            let mut collections = Vec::with_capacity(ns.collection_hashed_rwset.len());
            for collection in ns.collection_hashed_rwset {
                let hashed = go_compat::decode(collection.hashed_rwset).map_err(|source| RwsetError {
                    place: format!(
                        " of collection {} in namespace {}",
                        collection.collection_name, ns.namespace
                    ),
                    source,
                })?;
                collections.push(CollectionRwset {
                    collection: collection.collection_name,
                    hashed,
                    pvt_rwset_hash: collection.pvt_rwset_hash,
                });
            }
            namespaces.push(NamespaceRwset {
                namespace: ns.namespace,
                public,
                collections,
            });
        }
        Ok(Self { namespaces })
    }

    /// Whether a namespace is listed twice (code 23).
    pub fn has_duplicate_namespace(&self) -> bool {
        let mut names: Vec<&str> = self.namespaces.iter().map(|n| n.namespace.as_str()).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// `pvt_rwset_hash` of a collection, if the transaction wrote private data there.
    pub fn pvt_rwset_hash(&self, namespace: &str, collection: &str) -> Option<&Bytes> {
        self.namespaces
            .iter()
            .filter(|n| n.namespace == namespace)
            .flat_map(|n| &n.collections)
            .find(|c| c.collection == collection && !c.pvt_rwset_hash.is_empty())
            .map(|c| &c.pvt_rwset_hash)
    }
}

impl NamespaceRwset {
    /// Whether the transaction writes here: public, metadata, hashed or hashed metadata (spec 03 §3 D.2.e).
    pub fn has_writes(&self) -> bool {
        !self.public.writes.is_empty()
            || !self.public.metadata_writes.is_empty()
            || self.collections.iter().any(CollectionRwset::has_writes)
    }
}

impl CollectionRwset {
    /// Whether the transaction writes values or metadata here.
    pub fn has_writes(&self) -> bool {
        !self.hashed.hashed_writes.is_empty() || !self.hashed.metadata_writes.is_empty()
    }
}

/// Whether a public write deletes: so marked, or with an empty value (spec 01 A.4 item 18).
pub fn is_delete(write: &kvrwset::KvWrite) -> bool {
    write.is_delete || write.value.is_empty()
}

/// Whether a hashed write deletes: so marked, or the hash is absent or that of an empty value (spec 01 A.4 item 18).
pub fn is_hashed_delete(write: &kvrwset::KvWriteHash) -> bool {
    write.is_delete
        || write.value_hash.is_empty()
        || write.value_hash.as_ref() == Sha256::digest(b"").as_slice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn everything_nested_must_decode() {
        let good = rwset::TxReadWriteSet {
            data_model: 7,
            ns_rwset: vec![rwset::NsReadWriteSet {
                namespace: "cc".into(),
                rwset: kvrwset::KvrwSet {
                    writes: vec![kvrwset::KvWrite {
                        key: "k".into(),
                        is_delete: false,
                        value: Bytes::from_static(b"v"),
                    }],
                    ..Default::default()
                }
                .encode_to_vec()
                .into(),
                collection_hashed_rwset: vec![rwset::CollectionHashedReadWriteSet {
                    collection_name: "c".into(),
                    hashed_rwset: Bytes::new(),
                    pvt_rwset_hash: Bytes::from_static(&[7; 32]),
                }],
            }],
        };
        let parsed = ParsedRwset::parse(good.encode_to_vec().into()).unwrap();
        assert!(parsed.namespaces[0].has_writes());
        assert!(!parsed.has_duplicate_namespace());
        assert_eq!(parsed.pvt_rwset_hash("cc", "c").unwrap().as_ref(), [7; 32]);
        assert_eq!(parsed.pvt_rwset_hash("cc", "d"), None);

        let mut bad = good.clone();
        bad.ns_rwset[0].rwset = Bytes::from_static(&[0xff]);
        assert!(ParsedRwset::parse(bad.encode_to_vec().into()).is_err());
        let mut bad = good.clone();
        bad.ns_rwset[0].collection_hashed_rwset[0].hashed_rwset = Bytes::from_static(&[0x0a, 0x05]);
        let error = ParsedRwset::parse(bad.encode_to_vec().into())
            .unwrap_err()
            .to_string();
        assert!(error.contains("collection c in namespace cc"), "{error}");
        let mut twice = good;
        twice.ns_rwset.push(twice.ns_rwset[0].clone());
        assert!(
            ParsedRwset::parse(twice.encode_to_vec().into())
                .unwrap()
                .has_duplicate_namespace()
        );
        assert_eq!(ParsedRwset::parse(Bytes::new()).unwrap(), ParsedRwset::default());
    }

    proptest::proptest! {
        #[test]
        fn junk_does_not_panic(junk: Vec<u8>) {
            let _ = ParsedRwset::parse(junk.clone().into());
            let _ = crate::indexed_tx_id(&junk.into());
        }
    }

    #[test]
    fn what_counts_as_a_delete() {
        let write = |is_delete, value: &'static [u8]| kvrwset::KvWrite {
            key: "k".into(),
            is_delete,
            value: Bytes::from_static(value),
        };
        assert!(
            is_delete(&write(true, b"x")) && is_delete(&write(false, b"")) && !is_delete(&write(false, b"x"))
        );
        let hashed = |is_delete, is_purge, value_hash: Vec<u8>| kvrwset::KvWriteHash {
            key_hash: Bytes::new(),
            is_delete,
            value_hash: value_hash.into(),
            is_purge,
        };
        assert!(is_hashed_delete(&hashed(true, false, vec![1])));
        assert!(is_hashed_delete(&hashed(false, false, vec![])));
        assert!(is_hashed_delete(&hashed(
            false,
            false,
            Sha256::digest(b"").to_vec()
        )));
        assert!(
            !is_hashed_delete(&hashed(false, true, vec![1])),
            "is_purge alone does not delete"
        );
    }
}
