//! What a committed block says about its transactions: ids, codes and writes.

use bytes::Bytes;
use selvedge_proto::go_compat;
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::{common, compute_tx_id, protos};

use crate::error::LedgerError;
use crate::rwset::ParsedRwset;

/// Number of a block; an error where it has no header.
pub(crate) fn number_of(block: &common::Block) -> Result<u64, LedgerError> {
    block
        .header
        .as_ref()
        .map(|h| h.number)
        .ok_or_else(|| LedgerError::BadBlock {
            number: 0,
            why: "it has no header".into(),
        })
}

/// The serialised envelopes of a block.
pub(crate) fn envelopes(block: &common::Block) -> &[Bytes] {
    block.data.as_ref().map_or(&[], |d| &d.data)
}

/// The stored validation codes, one for each transaction, none of them NOT_VALIDATED (spec 03 §1).
pub(crate) fn codes(block: &common::Block) -> Result<Vec<TxValidationCode>, LedgerError> {
    let number = number_of(block)?;
    let bad = |why: String| LedgerError::BadBlock { number, why };
    let slot = common::BlockMetadataIndex::TransactionsFilter as usize;
    let filter = block
        .metadata
        .as_ref()
        .and_then(|m| m.metadata.get(slot))
        .cloned()
        .unwrap_or_default();
    let count = envelopes(block).len();
    if filter.len() != count {
        return Err(bad(format!(
            "its filter holds {} codes for {count} transactions",
            filter.len()
        )));
    }
    let decode = |(index, code): (usize, &u8)| match TxValidationCode::try_from(i32::from(*code)) {
        Ok(code) if code != TxValidationCode::NotValidated => Ok(code),
        _ => Err(bad(format!(
            "transaction {index} has the validation code {code}, which no block may store"
        ))),
    };
    filter.iter().enumerate().map(decode).collect()
}

/// The id that a transaction is indexed by (spec 03 §3, end): the one in the channel header be it wrong, else the one
/// computed from the signature header; `None` where what it is taken from does not decode.
pub fn indexed_tx_id(envelope: &Bytes) -> Option<String> {
    let (_, header, channel_header) = open(envelope)?;
    // The signature header is asked only where it is needed: one that does not decode keeps no id from being taken.
    if !channel_header.tx_id.is_empty() {
        return Some(channel_header.tx_id);
    }
    let signature_header: common::SignatureHeader = go_compat::decode(header.signature_header).ok()?;
    Some(compute_tx_id(&signature_header.nonce, &signature_header.creator))
}

/// Payload data, header and channel header of a serialised envelope.
fn open(envelope: &Bytes) -> Option<(Bytes, common::Header, common::ChannelHeader)> {
    let envelope: common::Envelope = go_compat::decode(envelope.clone()).ok()?;
    let payload: common::Payload = go_compat::decode(envelope.payload).ok()?;
    let header = payload.header?;
    let channel_header = go_compat::decode(header.channel_header.clone()).ok()?;
    Some((payload.data, header, channel_header))
}

/// The channel that a block's first transaction names.
pub(crate) fn channel_of(block: &common::Block) -> Result<String, LedgerError> {
    let found = envelopes(block).first().and_then(open);
    let (_, _, channel_header) = found.ok_or_else(|| LedgerError::BadBlock {
        number: block.header.as_ref().map_or(0, |h| h.number),
        why: "its first transaction names no channel".into(),
    })?;
    Ok(channel_header.channel_id)
}

/// What a valid transaction writes.
#[derive(Debug)]
pub(crate) enum Body {
    /// An endorsed transaction.
    Endorser(ParsedRwset),
    /// A configuration: the `ConfigEnvelope` verbatim.
    Config(Bytes),
}

/// The writes of a transaction that is marked valid.
pub(crate) fn body(block: u64, index: usize, envelope: &Bytes) -> Result<Body, LedgerError> {
    let bad = |what: &str| LedgerError::BadBlock {
        number: block,
        why: format!("transaction {index} is marked valid but {what} does not decode"),
    };
    let (data, _, channel_header) = open(envelope).ok_or_else(|| bad("its envelope"))?;
    if channel_header.r#type == common::HeaderType::Config as i32 {
        return Ok(Body::Config(data));
    }
    let results = results(data).ok_or_else(|| bad("its action"))?;
    let rwset = ParsedRwset::parse(results).map_err(|e| bad(&e.to_string()))?;
    Ok(Body::Endorser(rwset))
}

/// `ChaincodeAction.results` of an endorser transaction's payload data.
fn results(data: Bytes) -> Option<Bytes> {
    let transaction: protos::Transaction = go_compat::decode(data).ok()?;
    let action = transaction.actions.into_iter().next()?;
    let payload: protos::ChaincodeActionPayload = go_compat::decode(action.payload).ok()?;
    let response: protos::ProposalResponsePayload =
        go_compat::decode(payload.action?.proposal_response_payload).ok()?;
    let action: protos::ChaincodeAction = go_compat::decode(response.extension).ok()?;
    Some(action.results)
}

/// What a transaction recorded about one key, for the history.
pub(crate) struct Written {
    pub(crate) tx_id: String,
    pub(crate) timestamp: Option<prost_types::Timestamp>,
    /// The first write of the key, as Fabric's history takes it; `None` where the transaction does not write it.
    pub(crate) write: Option<selvedge_proto::kvrwset::KvWrite>,
}

/// What transaction `index` of `block` wrote to a public key.
pub(crate) fn written(
    block: &common::Block,
    index: u64,
    ns: &str,
    key: &str,
) -> Result<Written, LedgerError> {
    let number = number_of(block)?;
    let bad = |why: &str| LedgerError::BadBlock {
        number,
        why: format!("the history names transaction {index}, {why}"),
    };
    let place = usize::try_from(index).unwrap_or(usize::MAX);
    let envelope = envelopes(block)
        .get(place)
        .ok_or_else(|| bad("which it does not have"))?;
    let (_, _, channel_header) = open(envelope).ok_or_else(|| bad("which does not decode"))?;
    let Body::Endorser(rwset) = body(number, place, envelope)? else {
        return Err(bad("which is a configuration"));
    };
    let in_ns = rwset.namespaces.into_iter().filter(|n| n.namespace == ns);
    let write = in_ns.flat_map(|n| n.public.writes).find(|w| w.key == key);
    Ok(Written {
        tx_id: channel_header.tx_id,
        timestamp: channel_header.timestamp,
        write,
    })
}
