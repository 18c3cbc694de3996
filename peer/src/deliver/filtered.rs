//! Filtered blocks: who, what became of it, and the names of events (spec 04 §4).

use bytes::Bytes;
use selvedge_proto::common::HeaderType;
use selvedge_proto::protos::{
    ChaincodeEvent, FilteredBlock, FilteredChaincodeAction, FilteredTransaction, FilteredTransactionActions,
    filtered_transaction,
};

use crate::committed::{CommittedBlock, CommittedTx};

/// A block with nothing in it that only readers of whole blocks may see.
pub(crate) fn filtered_block(channel: &str, block: &CommittedBlock) -> FilteredBlock {
    FilteredBlock {
        channel_id: channel.to_owned(),
        number: block.number,
        filtered_transactions: block.txs.iter().map(filtered_transaction).collect(),
    }
}

fn filtered_transaction(tx: &CommittedTx) -> FilteredTransaction {
    let is_endorsed = tx.opened && tx.header_type == HeaderType::EndorserTransaction as i32;
    FilteredTransaction {
        txid: tx.tx_id.clone(),
        r#type: tx.header_type,
        tx_validation_code: tx.code as i32,
        data: is_endorsed.then(|| {
            filtered_transaction::Data::TransactionActions(FilteredTransactionActions {
                chaincode_actions: tx.event.as_ref().and_then(action).into_iter().collect(),
            })
        }),
    }
}

fn action(event: &ChaincodeEvent) -> Option<FilteredChaincodeAction> {
    (!event.chaincode_id.is_empty()).then(|| FilteredChaincodeAction {
        chaincode_event: Some(ChaincodeEvent {
            payload: Bytes::new(),
            ..event.clone()
        }),
    })
}

#[cfg(test)]
mod tests {
    use selvedge_proto::common;
    use selvedge_proto::protos::TxValidationCode;

    use super::*;

    #[test]
    fn events_lose_their_payload_and_keep_their_name_even_when_refused() {
        let event = ChaincodeEvent {
            chaincode_id: "cc".into(),
            tx_id: "t".into(),
            event_name: "violation".into(),
            payload: Bytes::from_static(b"secret"),
        };
        let tx = |index, header_type, event| CommittedTx {
            index,
            tx_id: format!("t{index}"),
            opened: true,
            header_type,
            code: TxValidationCode::MvccReadConflict,
            event,
        };
        let block = CommittedBlock {
            number: 3,
            block: common::Block::default(),
            txs: vec![tx(0, 3, Some(event)), tx(1, 3, None), tx(2, 1, None)],
        };
        let filtered = filtered_block("trade", &block);
        assert_eq!((filtered.channel_id.as_str(), filtered.number), ("trade", 3));
        let actions: Vec<Option<usize>> = filtered
            .filtered_transactions
            .iter()
            .map(|t| {
                t.data.as_ref().map(|d| {
                    let filtered_transaction::Data::TransactionActions(actions) = d;
                    actions.chaincode_actions.len()
                })
            })
            .collect();
        assert_eq!(actions, [Some(1), Some(0), None]);
        let first = &filtered.filtered_transactions[0];
        assert_eq!((first.txid.as_str(), first.tx_validation_code), ("t0", 11));
        let Some(filtered_transaction::Data::TransactionActions(actions)) = &first.data else {
            panic!("an endorsed transaction has actions");
        };
        let event = actions.chaincode_actions[0].chaincode_event.as_ref().unwrap();
        assert_eq!(event.event_name, "violation");
        assert!(event.payload.is_empty());
    }
}
