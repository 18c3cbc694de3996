//! `qscc`: reading blocks and transactions (spec 08 §3), and why transactions were refused, which Fabric does not tell.

use bytes::Bytes;
use prost::Message;
use selvedge_ledger::TxLocation;
use selvedge_proto::{common, protos};

use super::acl::check_channel;
use super::{Call, failure, success};
use crate::channel::PeerChannel;

pub(super) fn invoke(call: &Call<'_>) -> protos::Response {
    let [function, channel, rest @ ..] = call.args else {
        return failure(500, format!("Incorrect number of arguments, {}", call.args.len()));
    };
    let function = String::from_utf8_lossy(function).into_owned();
    let id = String::from_utf8_lossy(channel).into_owned();
    // Who is no member must not learn that there is such a channel.
    let joined = call.context.channel(&id);
    let Some(channel) = joined.filter(|channel| call.is_member(&channel.bundle())) else {
        return failure(500, format!("Invalid chain ID, {id}"));
    };
    const FUNCTIONS: [&str; 6] = [
        "GetChainInfo",
        "GetBlockByNumber",
        "GetBlockByHash",
        "GetTransactionByID",
        "GetBlockByTxID",
        "GetTransactionRefusal",
    ];
    if !FUNCTIONS.contains(&function.as_str()) {
        return failure(500, format!("Requested function {function} not found."));
    }
    if let Err(why) = check_channel(call, &channel.bundle(), &format!("qscc/{function}")) {
        return failure(500, format!("access denied for [{function}][{id}]: [{why}]"));
    }
    if let ("GetTransactionRefusal", Some(id)) = (function.as_str(), rest.first()) {
        return refusal(&channel, &String::from_utf8_lossy(id));
    }
    let answer = match (function.as_str(), rest.first()) {
        ("GetChainInfo", _) => chain_info(&channel),
        (_, None) => Err(format!("missing 3rd argument for {function}")),
        ("GetBlockByNumber", Some(number)) => block_by_number(&channel, number),
        ("GetBlockByHash", Some(hash)) => block_by_hash(&channel, hash),
        ("GetTransactionByID", Some(id)) => transaction(&channel, &String::from_utf8_lossy(id)),
        (_, Some(id)) => block_by_tx_id(&channel, &String::from_utf8_lossy(id)),
    };
    match answer {
        Ok(payload) => success(payload),
        Err(why) => failure(500, why),
    }
}

fn chain_info(channel: &PeerChannel) -> Result<Bytes, String> {
    let failed = |e: &dyn std::fmt::Display| format!("Failed to get block info with error {e}");
    let blocks = channel.ledger().blocks();
    let height = channel.height();
    let last = match height.checked_sub(1) {
        Some(number) => blocks
            .block(number)
            .map_err(|e| failed(&e))?
            .and_then(|b| b.header),
        None => None,
    };
    let info = common::BlockchainInfo {
        height,
        current_block_hash: last.as_ref().map(selvedge_proto::block_hash).unwrap_or_default(),
        previous_block_hash: last.map(|h| h.previous_hash).unwrap_or_default(),
        ..Default::default()
    };
    Ok(info.encode_to_vec().into())
}

fn block_by_number(channel: &PeerChannel, number: &[u8]) -> Result<Bytes, String> {
    let text = String::from_utf8_lossy(number);
    let number: u64 = text
        .parse()
        .map_err(|_| format!("Failed to parse block number with error: {text:?} is no number"))?;
    // Fabric's clients ask for the last block by the largest number.
    let number = if number == u64::MAX {
        channel.height().saturating_sub(1)
    } else {
        number
    };
    stored_block(channel, number).map_err(|e| format!("Failed to get block number {number}, error {e}"))
}

fn stored_block(channel: &PeerChannel, number: u64) -> Result<Bytes, String> {
    let block = channel.ledger().blocks().get(number).map_err(|e| e.to_string())?;
    block.ok_or_else(|| {
        format!(
            "no such block number [{number}] in index: the ledger has {} blocks",
            channel.height()
        )
    })
}

fn block_by_hash(channel: &PeerChannel, hash: &[u8]) -> Result<Bytes, String> {
    let hex = hex::encode(hash);
    let failed = |why: String| format!("Failed to get block hash {hex}, error {why}");
    let number = channel
        .ledger()
        .block_by_hash(hash)
        .map_err(|e| failed(e.to_string()))?;
    let number = number.ok_or_else(|| failed(format!("no such block hash [{hex}] in index")))?;
    stored_block(channel, number).map_err(failed)
}

fn located(channel: &PeerChannel, id: &str) -> Result<TxLocation, String> {
    let found = channel.ledger().transaction(id).map_err(|e| e.to_string())?;
    found.ok_or_else(|| format!("no such transaction ID [{id}] in index"))
}

fn block_by_tx_id(channel: &PeerChannel, id: &str) -> Result<Bytes, String> {
    located(channel, id)
        .and_then(|tx| stored_block(channel, tx.block))
        .map_err(|e| format!("Failed to get block for txID {id}, error {e}"))
}

/// Why this peer refused a transaction, as JSON; 404 when it does not remember, or did not refuse.
fn refusal(channel: &PeerChannel, id: &str) -> protos::Response {
    let Some(refusal) = channel.refusal(id) else {
        return failure(
            404,
            format!(
                "this peer has no reason for a refusal of transaction {id}: it was not refused, or that is too long ago"
            ),
        );
    };
    let answer = serde_json::json!({
        "channel": refusal.channel,
        "block": refusal.block,
        "index": refusal.index,
        "tx_id": refusal.tx_id,
        "code": refusal.code.as_str_name(),
        "reason": refusal.reason,
    });
    success(answer.to_string().into_bytes())
}

fn transaction(channel: &PeerChannel, id: &str) -> Result<Bytes, String> {
    let read = || {
        let location = located(channel, id)?;
        let block = channel
            .ledger()
            .blocks()
            .block(location.block)
            .map_err(|e| e.to_string())?;
        let index = usize::try_from(location.index).map_err(|e| e.to_string())?;
        let envelope = block
            .and_then(|b| b.data)
            .and_then(|d| d.data.into_iter().nth(index))
            .ok_or_else(|| format!("block {} has no transaction {index}", location.block))?;
        let envelope = common::Envelope::decode(envelope).map_err(|e| e.to_string())?;
        let processed = protos::ProcessedTransaction {
            transaction_envelope: Some(envelope),
            validation_code: i32::from(location.code),
        };
        Ok(Bytes::from(processed.encode_to_vec()))
    };
    read().map_err(|e: String| format!("Failed to get transaction with id {id}, error {e}"))
}
