//! A committed block as listeners see it.

use selvedge_proto::common;
use selvedge_proto::protos::{ChaincodeEvent, TxValidationCode};

use crate::validation::{OpenTx, open};

/// A block that is durable, with its verdicts.
#[derive(Debug, Clone)]
pub struct CommittedBlock {
    /// Its number.
    pub number: u64,
    /// The block, with TRANSACTIONS_FILTER and COMMIT_HASH set.
    pub block: common::Block,
    /// Its transactions, in order.
    pub txs: Vec<CommittedTx>,
}

/// One transaction of a committed block.
#[derive(Debug, Clone)]
pub struct CommittedTx {
    /// Its place in the block.
    pub index: usize,
    /// `ChannelHeader.tx_id` as it stands; empty in config transactions and where the envelope cannot be opened.
    pub tx_id: String,
    /// Whether its headers parse.
    pub opened: bool,
    /// `ChannelHeader.type`; 0 where the envelope cannot be opened.
    pub header_type: i32,
    /// The verdict.
    pub code: TxValidationCode,
    /// Its chaincode event, also of a transaction that is not VALID.
    pub event: Option<ChaincodeEvent>,
}

impl CommittedTx {
    pub(crate) fn new(index: usize, open: &OpenTx, code: TxValidationCode) -> Self {
        Self {
            index,
            tx_id: open.tx_id.clone(),
            opened: open.opened,
            header_type: open.header_type,
            code,
            event: open.event.clone(),
        }
    }
}

impl CommittedBlock {
    /// The view of a block read back from disk; a transaction without a verdict in the filter is NOT_VALIDATED.
    pub fn from_block(block: common::Block) -> Self {
        let filter = transactions_filter(&block);
        let data = block.data.as_ref().map(|d| d.data.as_slice()).unwrap_or_default();
        let txs = data
            .iter()
            .enumerate()
            .map(|(index, data)| {
                let byte = filter.get(index).copied().map(i32::from);
                let code = byte.and_then(|b| TxValidationCode::try_from(b).ok());
                CommittedTx::new(index, &open(data), code.unwrap_or(TxValidationCode::NotValidated))
            })
            .collect();
        let number = block.header.as_ref().map_or(0, |h| h.number);
        Self { number, block, txs }
    }
}

fn transactions_filter(block: &common::Block) -> &[u8] {
    let slots = block
        .metadata
        .as_ref()
        .map(|m| m.metadata.as_slice())
        .unwrap_or_default();
    slots
        .get(common::BlockMetadataIndex::TransactionsFilter as usize)
        .map(AsRef::as_ref)
        .unwrap_or_default()
}
