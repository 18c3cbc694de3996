//! How entries are named and laid out in the state database: one column family, the first byte tells the kind.
//!
//! ```text
//! s ns 00 key                       state; hashed entries under `ns$$h<coll>`, private ones under `ns$$p<coll>`
//! h ns 00 len32 key block64 tx64    history: nothing in it, the block has the rest
//! t id                              transaction id: where it stands and its code
//! b hash                            block hash: the block's number
//! k ns 00 coll 00 key hash          plain key of a private entry that this peer holds
//! e block64 ns 00 coll 00 key hash  expires at this block: the version that expires
//! m name                            height, channel, format
//! ```
//! Names of namespaces and collections hold no byte 0; keys may. So namespaces are apart, and keys of one are sorted by their
//! bytes. Integers in keys are big endian.

use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use crate::state::{KeyRef, VersionedValue};
use crate::version::Version;

pub(crate) const META_HEIGHT: &[u8] = b"mheight";
pub(crate) const META_CHANNEL: &[u8] = b"mchannel";
pub(crate) const META_FORMAT: &[u8] = b"mformat";
/// Changes whenever this layout does; a database of another format is rebuilt from the block files.
pub(crate) const FORMAT: u32 = 1;

const STATE: u8 = b's';
const END_OF_NAME: u8 = 0;
const AFTER_NAME: u8 = 1;

pub(crate) fn state_key(key: &KeyRef<'_>) -> Vec<u8> {
    match key {
        KeyRef::Public { ns, key } => join(STATE, &[ns.as_bytes(), &[END_OF_NAME], key.as_bytes()]),
        KeyRef::Hashed {
            ns,
            collection,
            key_hash,
        } => join(
            STATE,
            &[
                ns.as_bytes(),
                b"$$h",
                collection.as_bytes(),
                &[END_OF_NAME],
                key_hash,
            ],
        ),
        KeyRef::Private { ns, collection, key } => join(
            STATE,
            &[
                ns.as_bytes(),
                b"$$p",
                collection.as_bytes(),
                &[END_OF_NAME],
                key.as_bytes(),
            ],
        ),
    }
}

/// Bounds of the public keys `start <= key < end` of a namespace, the upper one exclusive; an empty `end` is unbounded.
pub(crate) fn state_range(ns: &str, start: &str, end: &str) -> (Vec<u8>, Vec<u8>) {
    let bound = |key: &str| join(STATE, &[ns.as_bytes(), &[END_OF_NAME], key.as_bytes()]);
    let upper = if end.is_empty() {
        join(STATE, &[ns.as_bytes(), &[AFTER_NAME]])
    } else {
        bound(end)
    };
    (bound(start), upper)
}

/// Bounds of the whole state.
pub(crate) fn whole_state() -> (Vec<u8>, Vec<u8>) {
    (vec![STATE], vec![STATE + 1])
}

/// Namespace and key of a state entry's name.
pub(crate) fn split_state_key(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let name = name.strip_prefix(&[STATE])?;
    let end = name.iter().position(|b| *b == END_OF_NAME)?;
    Some((&name[..end], &name[end + 1..]))
}

pub(crate) fn history_prefix(ns: &str, key: &str) -> Vec<u8> {
    // A key is bounded by the size of its block, far below 4 GiB.
    let len = u32::try_from(key.len()).unwrap_or(u32::MAX);
    join(
        b'h',
        &[ns.as_bytes(), &[END_OF_NAME], &len.to_be_bytes(), key.as_bytes()],
    )
}

pub(crate) fn history_key(ns: &str, key: &str, version: Version) -> Vec<u8> {
    let mut name = history_prefix(ns, key);
    name.extend_from_slice(&version.block.to_be_bytes());
    name.extend_from_slice(&version.tx.to_be_bytes());
    name
}

/// The version at the end of a history entry's name.
pub(crate) fn history_version(name: &[u8]) -> Option<Version> {
    let (rest, tx) = name.split_last_chunk::<8>()?;
    let (_, block) = rest.split_last_chunk::<8>()?;
    Some(Version::new(u64::from_be_bytes(*block), u64::from_be_bytes(*tx)))
}

/// Ids are 64 hex digits unless someone made them otherwise.
pub(crate) fn tx_key(id: &str) -> Vec<u8> {
    let is_hex = id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match hex::decode(id) {
        Ok(raw) if is_hex => join(b't', &[&[1], &raw]),
        _ => join(b't', &[&[2], id.as_bytes()]),
    }
}

pub(crate) fn block_hash_key(hash: &[u8]) -> Vec<u8> {
    join(b'b', &[hash])
}

pub(crate) fn plain_key(ns: &str, collection: &str, key_hash: &[u8]) -> Vec<u8> {
    let mut name = vec![b'k'];
    put_collection_key(&mut name, ns, collection, key_hash);
    name
}

/// What the names of all expiry entries begin with.
pub(crate) const EXPIRY: &[u8] = b"e";

pub(crate) fn expiry_prefix(block: u64) -> Vec<u8> {
    [EXPIRY, &block.to_be_bytes()].concat()
}

pub(crate) fn expiry_key(block: u64, ns: &str, collection: &str, key_hash: &[u8]) -> Vec<u8> {
    let mut name = expiry_prefix(block);
    put_collection_key(&mut name, ns, collection, key_hash);
    name
}

/// Namespace, collection and key hash of an expiry entry's name.
pub(crate) fn split_expiry_key(name: &[u8]) -> Option<(&str, &str, &[u8])> {
    split_collection_key(name.get(9..)?)
}

pub(crate) fn put_collection_key(out: &mut Vec<u8>, ns: &str, collection: &str, rest: &[u8]) {
    out.extend_from_slice(ns.as_bytes());
    out.push(END_OF_NAME);
    out.extend_from_slice(collection.as_bytes());
    out.push(END_OF_NAME);
    out.extend_from_slice(rest);
}

pub(crate) fn split_collection_key(name: &[u8]) -> Option<(&str, &str, &[u8])> {
    let mut parts = name.splitn(3, |b| *b == END_OF_NAME);
    let ns = std::str::from_utf8(parts.next()?).ok()?;
    let collection = std::str::from_utf8(parts.next()?).ok()?;
    Some((ns, collection, parts.next()?))
}

fn join(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut name = Vec::with_capacity(1 + parts.iter().map(|p| p.len()).sum::<usize>());
    name.push(kind);
    for part in parts {
        name.extend_from_slice(part);
    }
    name
}

/// A state entry: block, transaction and metadata length as varints, metadata, value.
pub(crate) fn encode_entry(version: Version, metadata: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(30 + metadata.len() + value.len());
    encode_varint(version.block, &mut out);
    encode_varint(version.tx, &mut out);
    encode_varint(metadata.len() as u64, &mut out);
    out.extend_from_slice(metadata);
    out.extend_from_slice(value);
    out
}

/// `None` where the bytes are not an entry.
pub(crate) fn decode_entry(bytes: &[u8]) -> Option<VersionedValue> {
    let mut rest = Bytes::copy_from_slice(bytes);
    let version = Version::new(decode_varint(&mut rest).ok()?, decode_varint(&mut rest).ok()?);
    let metadata_len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
    if metadata_len > rest.remaining() {
        return None;
    }
    let metadata = rest.split_to(metadata_len);
    Some(VersionedValue {
        value: rest,
        metadata,
        version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn public<'a>(ns: &'a str, key: &'a str) -> KeyRef<'a> {
        KeyRef::Public { ns, key }
    }

    #[test]
    fn names_are_as_in_fabric() {
        let hashed = KeyRef::Hashed {
            ns: "cc",
            collection: "c",
            key_hash: &[0, 255],
        };
        assert_eq!(state_key(&hashed), b"scc$$hc\0\0\xff");
        let private = KeyRef::Private {
            ns: "cc",
            collection: "c",
            key: "k\0x",
        };
        assert_eq!(state_key(&private), b"scc$$pc\0k\0x");
        assert_eq!(
            split_state_key(b"scc$$pc\0k\0x"),
            Some((b"cc$$pc".as_slice(), b"k\0x".as_slice()))
        );
        assert_eq!(split_state_key(b"s\0k"), Some((b"".as_slice(), b"k".as_slice())));
    }

    #[test]
    fn odd_transaction_ids_do_not_collide_with_hashes() {
        let hash = "ab".repeat(32);
        assert_eq!(tx_key(&hash).len(), 34);
        assert_ne!(tx_key(&hash), tx_key(&hash.to_uppercase()));
        assert_ne!(tx_key(&hash), tx_key("x"));
    }

    proptest! {
        #[test]
        fn order_inside_of_a_namespace_is_that_of_the_keys(ns in "[a-c]{0,3}", a in "\\PC{0,5}|[\0\u{1}a]{0,4}", b in "[\0\u{1}ab]{0,4}") {
            prop_assert_eq!(state_key(&public(&ns, &a)).cmp(&state_key(&public(&ns, &b))), a.as_bytes().cmp(b.as_bytes()));
        }

        #[test]
        fn a_range_holds_exactly_its_keys(
            ns in "[ab\u{1}$]{0,3}", other in "[ab\u{1}$]{0,3}", start in "[\0\u{1}ab]{0,3}", end in "[\0\u{1}ab]{0,3}", key in "[\0\u{1}ab]{0,4}",
        ) {
            let (from, to) = state_range(&ns, &start, &end);
            let name = state_key(&public(&other, &key));
            let within = from <= name && name < to;
            let wanted = ns == other && start <= key && (end.is_empty() || key < end);
            prop_assert_eq!(within, wanted);
        }

        #[test]
        fn history_of_one_key_is_its_own(a in "[\0\u{1}ab]{0,4}", b in "[\0\u{1}ab]{0,4}", block: u64, tx: u64) {
            let version = Version::new(block, tx);
            let name = history_key("ns", &a, version);
            prop_assert_eq!(name.starts_with(&history_prefix("ns", &b)), a == b);
            prop_assert_eq!(history_version(&name), Some(version));
        }

        #[test]
        fn entries_come_back(block: u64, tx: u64, metadata: Vec<u8>, value: Vec<u8>) {
            let version = Version::new(block, tx);
            let entry = decode_entry(&encode_entry(version, &metadata, &value)).unwrap();
            prop_assert_eq!(entry, VersionedValue { value: value.into(), metadata: metadata.into(), version });
        }

        #[test]
        fn junk_does_not_panic(bytes: Vec<u8>) {
            let _ = (decode_entry(&bytes), split_state_key(&bytes), split_expiry_key(&bytes), history_version(&bytes));
        }
    }
}
