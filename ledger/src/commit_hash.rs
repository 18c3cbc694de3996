//! The commit hash chain (spec 03 §9).

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::encode_varint;
use selvedge_proto::{common, txmgr};
use sha2::{Digest, Sha256};

use crate::updates::{Update, UpdateBatch};

/// H_n = SHA-256(uvarint(len F) ‖ F ‖ U ‖ H_{n-1}): `filter` is the final TRANSACTIONS_FILTER of block n, `previous` the
/// commit hash of the block before it, empty for block 1.
pub fn next(previous: &[u8], filter: &[u8], updates: &UpdateBatch) -> Bytes {
    let mut head = Vec::with_capacity(10 + filter.len());
    encode_varint(filter.len() as u64, &mut head);
    head.put_slice(filter);
    let digest = Sha256::new()
        .chain_update(head)
        .chain_update(update_bytes(updates))
        .chain_update(previous)
        .finalize();
    Bytes::copy_from_slice(&digest)
}

/// The commit hash that is stored with a block, if it has one.
pub fn stored(block: &common::Block) -> Option<Bytes> {
    let slot = block
        .metadata
        .as_ref()?
        .metadata
        .get(common::BlockMetadataIndex::CommitHash as usize)?;
    if slot.is_empty() {
        return None;
    }
    let metadata = common::Metadata::decode(slot.clone()).ok()?;
    (!metadata.value.is_empty()).then_some(metadata.value)
}

/// What goes into the COMMIT_HASH slot of a block.
pub fn slot(hash: Bytes) -> Bytes {
    let metadata = common::Metadata {
        value: hash,
        signatures: Vec::new(),
    };
    metadata.encode_to_vec().into()
}

/// U: pb(Updates), namespaces, collections and keys sorted by bytes; the configuration's namespace is left out.
fn update_bytes(updates: &UpdateBatch) -> Vec<u8> {
    let mut all = txmgr::Updates::default();
    for (name, namespace) in updates.namespaces() {
        if name == crate::CONFIG_NAMESPACE {
            continue;
        }
        let first = all.kvwrites.len();
        for (key, update) in &namespace.public {
            all.kvwrites
                .push(write(Bytes::copy_from_slice(key.as_bytes()), update));
        }
        for (collection, keys) in &namespace.hashed {
            let first_of_collection = all.kvwrites.len();
            for (key_hash, update) in keys {
                all.kvwrites.push(write(key_hash.clone(), update));
            }
            if let Some(entry) = all.kvwrites.get_mut(first_of_collection) {
                entry.collection.clone_from(collection);
            }
        }
        if let Some(entry) = all.kvwrites.get_mut(first) {
            entry.namespace.clone_from(name);
        }
    }
    all.encode_to_vec()
}

fn write(key: Bytes, update: &Update) -> txmgr::KvWrite {
    txmgr::KvWrite {
        namespace: String::new(),
        collection: String::new(),
        key,
        is_delete: update.value.is_none(),
        value: update.value.clone().unwrap_or_default(),
        version_bytes: update.version.ord_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;

    fn update(tx: u64, value: Option<&'static [u8]>) -> Update {
        Update {
            version: Version::new(5, tx),
            value: value.map(Bytes::from_static),
            metadata: Bytes::from_static(b"not hashed"),
        }
    }

    fn entry(
        ns: &str,
        coll: &str,
        key: &'static [u8],
        value: Option<&'static [u8]>,
        tx: u8,
    ) -> txmgr::KvWrite {
        txmgr::KvWrite {
            namespace: ns.into(),
            collection: coll.into(),
            key: Bytes::from_static(key),
            is_delete: value.is_none(),
            value: Bytes::from_static(value.unwrap_or_default()),
            version_bytes: if tx == 0 {
                vec![1, 5, 0].into()
            } else {
                vec![1, 5, 1, tx].into()
            },
        }
    }

    #[test]
    fn names_stand_on_first_entries_only() {
        let mut batch = UpdateBatch::new();
        batch.set_public("", crate::CONFIG_KEY, update(0, Some(b"config")));
        batch.set_public("b", "k2", update(2, None));
        batch.set_public("b", "k1", update(0, Some(b"v")));
        batch.set_hashed("b", "y", Bytes::from_static(&[9]), update(1, Some(b"h9")));
        batch.set_hashed("b", "y", Bytes::from_static(&[3]), update(1, Some(b"h3")));
        batch.set_hashed("b", "x", Bytes::from_static(&[5]), update(1, None));
        batch.set_hashed("a", "z", Bytes::from_static(&[1]), update(1, Some(b"h")));
        let wanted = txmgr::Updates {
            kvwrites: vec![
                entry("a", "z", &[1], Some(b"h"), 1),
                entry("b", "", b"k1", Some(b"v"), 0),
                entry("", "", b"k2", None, 2),
                entry("", "x", &[5], None, 1),
                entry("", "y", &[3], Some(b"h3"), 1),
                entry("", "", &[9], Some(b"h9"), 1),
            ],
        };
        assert_eq!(update_bytes(&batch), wanted.encode_to_vec());
        let by_hand = Sha256::new()
            .chain_update([3, 0, 11, 0])
            .chain_update(wanted.encode_to_vec())
            .chain_update(b"before")
            .finalize();
        assert_eq!(next(b"before", &[0, 11, 0], &batch).as_ref(), by_hand.as_slice());
    }

    #[test]
    fn a_long_filter_has_a_varint_length() {
        let filter = vec![0; 300];
        let by_hand = Sha256::new()
            .chain_update([0xac, 0x02])
            .chain_update(&filter)
            .finalize();
        assert_eq!(
            next(b"", &filter, &UpdateBatch::new()).as_ref(),
            by_hand.as_slice()
        );
    }

    #[test]
    fn the_slot_is_read_back() {
        let mut block = selvedge_proto::new_block(1, Bytes::new(), vec![]);
        assert_eq!(stored(&block), None);
        let place = common::BlockMetadataIndex::CommitHash;
        selvedge_proto::put_metadata(&mut block, place, slot(Bytes::from_static(b"hash")));
        assert_eq!(stored(&block).unwrap().as_ref(), b"hash");
    }
}
