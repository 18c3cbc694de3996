//! A block, opened.

use prost::Message;
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::{block_hash, common};
use serde::Serialize;

use super::TransactionView;
use super::value::rfc3339;

/// Organisation and common name of an identity; both are empty where it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Signer {
    pub(crate) msp_id: String,
    pub(crate) name: String,
}

/// A block with everything in it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlockView {
    pub(crate) channel: String,
    pub(crate) number: u64,
    pub(crate) hash: String,
    pub(crate) previous_hash: String,
    pub(crate) data_hash: String,
    /// The latest time that a transaction in it claims: blocks have no time of their own.
    pub(crate) time: Option<String>,
    #[serde(skip)]
    pub(crate) milliseconds: Option<i64>,
    /// The orderer whose copy of the block the peer took: it signed it.
    pub(crate) orderer: Signer,
    /// Number of the block with the configuration that it was made under.
    pub(crate) last_config: Option<u64>,
    pub(crate) bytes: usize,
    pub(crate) transactions: Vec<TransactionView>,
}

fn verdict(block: &common::Block, index: usize) -> i32 {
    let slot = common::BlockMetadataIndex::TransactionsFilter as usize;
    block
        .metadata
        .as_ref()
        .and_then(|m| m.metadata.get(slot)?.get(index).copied())
        .map_or(TxValidationCode::NotValidated as i32, i32::from)
}

fn signer(block: &common::Block) -> Signer {
    let slot = common::BlockMetadataIndex::Signatures as usize;
    let metadata = block.metadata.as_ref().and_then(|m| m.metadata.get(slot));
    let Some(signature) = metadata
        .and_then(|slot| common::Metadata::decode(slot.clone()).ok())
        .and_then(|m| m.signatures.into_iter().next())
    else {
        return Signer::default();
    };
    if let Ok(header) = common::SignatureHeader::decode(signature.signature_header)
        && !header.creator.is_empty()
    {
        return Signer::of(&header.creator);
    }
    // A block of a BFT ordering service names its signers by their numbers.
    common::IdentifierHeader::decode(signature.identifier_header).map_or_else(
        |_| Signer::default(),
        |header| Signer {
            msp_id: String::new(),
            name: format!("consenter {}", header.identifier),
        },
    )
}

impl BlockView {
    /// Opens a block of a channel.
    pub(crate) fn open(channel: &str, block: &common::Block) -> Self {
        let header = block.header.clone().unwrap_or_default();
        let data = block.data.as_ref().map(|d| d.data.as_slice()).unwrap_or_default();
        let transactions: Vec<TransactionView> = data
            .iter()
            .enumerate()
            .map(|(index, bytes)| {
                TransactionView::open(channel, header.number, index, bytes, verdict(block, index))
            })
            .collect();
        let milliseconds = transactions.iter().filter_map(|t| t.milliseconds).max();
        Self {
            channel: channel.to_owned(),
            number: header.number,
            hash: hex::encode(block_hash(&header)),
            previous_hash: hex::encode(&header.previous_hash),
            data_hash: hex::encode(&header.data_hash),
            time: milliseconds.and_then(rfc3339),
            milliseconds,
            orderer: signer(block),
            last_config: selvedge_proto::block_last_config_index(block).ok(),
            bytes: block.encoded_len(),
            transactions,
        }
    }

    /// Number of valid transactions.
    pub(crate) fn valid(&self) -> usize {
        self.transactions.iter().filter(|t| t.validation.valid).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_can_be_in_a_block() {
        let block = common::Block {
            header: Some(common::BlockHeader {
                number: 7,
                ..Default::default()
            }),
            data: Some(common::BlockData {
                data: vec![bytes::Bytes::from_static(b"\xffjunk"), bytes::Bytes::new()],
            }),
            metadata: None,
        };
        let view = BlockView::open("trade", &block);
        assert_eq!(view.number, 7);
        assert_eq!(view.transactions.len(), 2);
        assert_eq!(view.transactions[0].kind, "unreadable");
        assert_eq!(view.transactions[0].validation.name, "NOT_VALIDATED");
        assert_eq!(view.valid(), 0);
        assert_eq!(view.time, None);
        BlockView::open("trade", &common::Block::default());
    }
}
