//! Block hashing and the five metadata slots (spec 02 §7, §8).

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::common;

/// A block has exactly this many metadata entries, empty ones included (spec 01 A.4 item 7).
pub const METADATA_SLOTS: usize = 5;

/// Why a block's metadata could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The block has no header.
    #[error("block has no header")]
    NoHeader,
    /// The signatures slot is missing.
    #[error("block {0} has no SIGNATURES metadata")]
    NoMetadata(u64),
    /// A metadata slot does not decode.
    #[error("metadata of block {number}: {source}")]
    Decode {
        /// Number of the block.
        number: u64,
        /// What the decoder said.
        source: prost::DecodeError,
    },
}

fn der_length(out: &mut BytesMut, len: usize) {
    match u8::try_from(len) {
        Ok(short) if short < 0x80 => out.put_u8(short),
        _ => {
            let be = len.to_be_bytes();
            let skip = be.iter().take_while(|b| **b == 0).count();
            let used = &be[skip..];
            // A usize has at most 8 significant bytes.
            out.put_u8(0x80 | u8::try_from(used.len()).unwrap_or(8));
            out.put_slice(used);
        }
    }
}

fn der_octets(out: &mut BytesMut, octets: &[u8]) {
    out.put_u8(0x04);
    der_length(out, octets.len());
    out.put_slice(octets);
}

/// The bytes of a block header that are hashed and signed: DER `SEQUENCE { INTEGER number, OCTET STRING previous_hash,
/// OCTET STRING data_hash }` (spec 02 §7).
pub fn block_header_bytes(header: &common::BlockHeader) -> Bytes {
    let mut body = BytesMut::with_capacity(96);
    let be = header.number.to_be_bytes();
    let skip = be.iter().take_while(|b| **b == 0).count().min(7);
    let digits = &be[skip..];
    let pad = digits[0] & 0x80 != 0;
    body.put_u8(0x02);
    der_length(&mut body, digits.len() + usize::from(pad));
    if pad {
        body.put_u8(0);
    }
    body.put_slice(digits);
    der_octets(&mut body, &header.previous_hash);
    der_octets(&mut body, &header.data_hash);

    let mut out = BytesMut::with_capacity(body.len() + 4);
    out.put_u8(0x30);
    der_length(&mut out, body.len());
    out.put_slice(&body);
    out.freeze()
}

/// The hash of a block: SHA-256 over [`block_header_bytes`].
pub fn block_hash(header: &common::BlockHeader) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(block_header_bytes(header)))
}

/// `data_hash` of a block: SHA-256 over the plain concatenation of its entries.
pub fn block_data_hash<T: AsRef<[u8]>>(data: &[T]) -> Bytes {
    let mut hash = Sha256::new();
    for entry in data {
        hash.update(entry.as_ref());
    }
    Bytes::copy_from_slice(&hash.finalize())
}

/// A block over `data` with all hashes set and five empty metadata slots.
pub fn new_block(number: u64, previous_hash: Bytes, data: Vec<Bytes>) -> common::Block {
    common::Block {
        header: Some(common::BlockHeader {
            number,
            previous_hash,
            data_hash: block_data_hash(&data),
        }),
        data: Some(common::BlockData { data }),
        metadata: Some(common::BlockMetadata {
            metadata: vec![Bytes::new(); METADATA_SLOTS],
        }),
    }
}

/// Puts `value` into a metadata slot, adding empty slots up to five where the block has fewer.
pub fn put_metadata(block: &mut common::Block, slot: common::BlockMetadataIndex, value: Bytes) {
    let metadata = &mut block.metadata.get_or_insert_with(Default::default).metadata;
    if metadata.len() < METADATA_SLOTS {
        metadata.resize(METADATA_SLOTS, Bytes::new());
    }
    if let Some(place) = usize::try_from(slot as i32)
        .ok()
        .and_then(|i| metadata.get_mut(i))
    {
        *place = value;
    }
}

/// Number of the block that holds the channel configuration this block was made under, from `OrdererBlockMetadata` in
/// the SIGNATURES slot.
///
/// # Errors
/// The block has no header or no such slot, or the slot does not decode.
pub fn block_last_config_index(block: &common::Block) -> Result<u64, BlockError> {
    let number = block.header.as_ref().ok_or(BlockError::NoHeader)?.number;
    let slot = block
        .metadata
        .as_ref()
        .and_then(|m| m.metadata.first())
        .ok_or(BlockError::NoMetadata(number))?;
    let decode = |source| BlockError::Decode { number, source };
    let metadata = common::Metadata::decode(slot.clone()).map_err(decode)?;
    let orderer = common::OrdererBlockMetadata::decode(metadata.value).map_err(decode)?;
    Ok(orderer.last_config.unwrap_or_default().index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(number: u64, previous: &str, data: &str) -> common::BlockHeader {
        common::BlockHeader {
            number,
            previous_hash: hex::decode(previous).unwrap().into(),
            data_hash: hex::decode(data).unwrap().into(),
        }
    }

    /// Vectors from a real ledger (spec 02 §16).
    #[test]
    fn hashes_of_a_real_ledger() {
        let h0 = header(
            0,
            "",
            "2aaa2d6e91d8b6ca889004b975328e114f9169c30fe437284385095cd5584104",
        );
        assert_eq!(
            hex::encode(block_header_bytes(&h0)),
            "3027020100040004202aaa2d6e91d8b6ca889004b975328e114f9169c30fe437284385095cd5584104"
        );
        let hash0 = hex::encode(block_hash(&h0));
        assert_eq!(
            hash0,
            "c4a1491ab9a62e9125b3cbab3a782ea1f56e24c608620d85bb940585d059a2a1"
        );
        let h1 = header(
            1,
            &hash0,
            "f38eb85e2157d17b41a4220a356ec22111851951df646ab1b30c3c8ad1627575",
        );
        let hash1 = hex::encode(block_hash(&h1));
        assert_eq!(
            hash1,
            "e785e7c8a054685b73763ab79750bd7e4ffe4fe377992f96a3618e19ea6b29d9"
        );
        let h2 = header(
            2,
            &hash1,
            "dbb0455f14f0c504e3554487a2fd107d7ca4f9a144fd587b32df8021c7263c22",
        );
        assert_eq!(
            hex::encode(block_hash(&h2)),
            "0fe6b0856a5e8d74cea299466591035af24aafe455de11c2ef350d944b6c463e"
        );
    }

    #[test]
    fn number_is_a_minimal_non_negative_integer() {
        let number = |n| hex::encode(&block_header_bytes(&header(n, "", ""))[2..]);
        assert_eq!(number(0), "02010004000400");
        assert_eq!(number(127), "02017f04000400");
        assert_eq!(number(128), "0202008004000400");
        assert_eq!(number(256), "0202010004000400");
        assert_eq!(number(u64::MAX), "020900ffffffffffffffff04000400");
    }

    #[test]
    fn long_hashes_use_long_lengths() {
        let bytes = block_header_bytes(&common::BlockHeader {
            number: 1,
            previous_hash: vec![7; 300].into(),
            data_hash: Bytes::new(),
        });
        assert_eq!(
            hex::encode(&bytes[..11]),
            "30820135020101048201 2c".replace(' ', "")
        );
    }

    #[test]
    fn metadata_slots_are_filled_up_to_five() {
        let mut block = common::Block::default();
        put_metadata(
            &mut block,
            common::BlockMetadataIndex::TransactionsFilter,
            Bytes::from_static(&[0]),
        );
        let slots = block.metadata.unwrap().metadata;
        assert_eq!(slots.len(), METADATA_SLOTS);
        assert_eq!(slots[2].as_ref(), [0]);
    }
}
