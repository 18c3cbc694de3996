//! A transaction out of its block, decoded as far as it goes: refused ones may hold anything.

use prost::Message;
use selvedge_ledger::rwset::ParsedRwset;
use selvedge_msp::Certificate;
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::{OpenEnvelope, common, kvrwset, msp, open_envelope, protos};
use serde::Serialize;

use crate::error::CliError;

/// Longest part of an argument or result that is shown.
const LONGEST: usize = 300;

/// What is known of a transaction.
#[derive(Debug, Default, Serialize)]
pub(super) struct Story {
    pub(super) transaction: String,
    pub(super) channel: String,
    pub(super) block: u64,
    pub(super) index: usize,
    pub(super) block_size: usize,
    pub(super) time: String,
    pub(super) creator: String,
    pub(super) kind: String,
    pub(super) calls: Vec<ChaincodeCall>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) config_signers: Vec<String>,
    pub(super) verdict: String,
    pub(super) code: i32,
    pub(super) reason: Option<String>,
    pub(super) conflicts: Vec<String>,
    #[serde(skip)]
    pub(super) sets: Vec<ParsedRwset>,
}

/// One call of a chaincode, with what became of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct ChaincodeCall {
    pub(super) chaincode: String,
    pub(super) arguments: Vec<String>,
    pub(super) result: Option<String>,
    pub(super) endorsers: Vec<String>,
    pub(super) reads: Vec<String>,
    pub(super) writes: Vec<String>,
    pub(super) event: Option<String>,
}

/// A key that was read or written; of private ones the hash, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) collection: Option<String>,
    pub(super) key: String,
}

/// Block and position of the transaction that wrote a key.
pub(super) type Version = (u64, u64);

pub(super) fn version(version: Option<&kvrwset::Version>) -> Option<Version> {
    version.map(|v| (v.block_num, v.tx_num))
}

/// Id and place of a transaction in its block.
pub(super) fn transactions(block: &common::Block) -> impl Iterator<Item = Option<OpenEnvelope>> {
    let data = block.data.as_ref().map(|d| d.data.as_slice()).unwrap_or_default();
    data.iter().map(|bytes| {
        let envelope = common::Envelope::decode(bytes.clone()).ok()?;
        open_envelope(&envelope).ok()
    })
}

/// The peer's verdict on a transaction of a block.
pub(super) fn verdict(block: &common::Block, index: usize) -> i32 {
    let slot = common::BlockMetadataIndex::TransactionsFilter as usize;
    block
        .metadata
        .as_ref()
        .and_then(|m| m.metadata.get(slot)?.get(index).copied())
        .map_or(TxValidationCode::NotValidated as i32, i32::from)
}

/// The read/write set of an endorsed transaction; none for others, and for what does not decode.
pub(super) fn read_write_set(transaction: &OpenEnvelope) -> Option<ParsedRwset> {
    let action = selvedge_proto::transaction_action(transaction.payload_bytes.clone()).ok()?;
    ParsedRwset::parse(action.results).ok()
}

impl Story {
    pub(super) fn read(channel: &str, id: &str, block: &common::Block) -> Result<Self, CliError> {
        let (index, envelope) = transactions(block)
            .enumerate()
            .find_map(|(i, t)| t.filter(|t| t.channel_header.tx_id == id).map(|t| (i, t)))
            .ok_or_else(|| CliError::said(format!("the peer's block does not hold transaction {id}")))?;
        let code = verdict(block, index);
        let header = &envelope.channel_header;
        let mut story = Self {
            transaction: id.to_owned(),
            channel: channel.to_owned(),
            block: block.header.as_ref().map_or(0, |h| h.number),
            index,
            block_size: block.data.as_ref().map_or(0, |d| d.data.len()),
            time: header
                .timestamp
                .as_ref()
                .map_or_else(|| "at no time".to_owned(), time),
            creator: identity(&envelope.signature_header.creator),
            kind: kind(header.r#type),
            verdict: TxValidationCode::try_from(code)
                .map_or_else(|_| "UNKNOWN".to_owned(), |c| c.as_str_name().to_owned()),
            code,
            ..Self::default()
        };
        if header.r#type == common::HeaderType::EndorserTransaction as i32 {
            story.endorsed(&envelope);
        } else if header.r#type == common::HeaderType::Config as i32 {
            story.configured(&envelope);
        }
        Ok(story)
    }

    pub(super) fn validation_code(&self) -> TxValidationCode {
        TxValidationCode::try_from(self.code).unwrap_or(TxValidationCode::InvalidOtherReason)
    }

    pub(super) fn is_valid(&self) -> bool {
        self.code == TxValidationCode::Valid as i32
    }

    fn endorsed(&mut self, envelope: &OpenEnvelope) {
        let Ok(transaction) = protos::Transaction::decode(envelope.payload.data.clone()) else {
            return;
        };
        for action in transaction.actions {
            let Ok(payload) = protos::ChaincodeActionPayload::decode(action.payload) else {
                continue;
            };
            let mut call = ChaincodeCall::default();
            called(&mut call, &payload);
            if let Some(endorsed) = payload.action {
                call.endorsers = endorsed
                    .endorsements
                    .iter()
                    .map(|e| identity(&e.endorser))
                    .collect();
                if let Ok(action) = selvedge_proto::chaincode_action(endorsed.proposal_response_payload)
                    && let Some(set) = became(&mut call, action)
                {
                    self.sets.push(set);
                }
            }
            self.calls.push(call);
        }
    }

    fn configured(&mut self, envelope: &OpenEnvelope) {
        let Ok(config) = common::ConfigEnvelope::decode(envelope.payload.data.clone()) else {
            return;
        };
        let sequence = config.config.map_or(0, |c| c.sequence);
        self.kind = format!("configuration {sequence} of the channel");
        let signers = config.last_update.and_then(|update| {
            let update = open_envelope(&update).ok()?;
            let message = common::ConfigUpdateEnvelope::decode(update.payload.data).ok()?;
            Some(message.signatures)
        });
        for signature in signers.unwrap_or_default() {
            if let Ok(header) = common::SignatureHeader::decode(signature.signature_header) {
                self.config_signers.push(identity(&header.creator));
            }
        }
    }
}

fn kind(header_type: i32) -> String {
    match common::HeaderType::try_from(header_type) {
        Ok(common::HeaderType::EndorserTransaction) => "call of a chaincode".to_owned(),
        Ok(other) => other.as_str_name().to_owned(),
        Err(_) => format!("unknown type {header_type}"),
    }
}

fn time(stamp: &prost_types::Timestamp) -> String {
    let seconds = u64::try_from(stamp.seconds).unwrap_or(0);
    let nanos = u32::try_from(stamp.nanos).unwrap_or(0);
    std::time::UNIX_EPOCH
        .checked_add(std::time::Duration::new(seconds, nanos))
        .map_or_else(
            || "at no time".to_owned(),
            |t| humantime::format_rfc3339_millis(t).to_string(),
        )
}

/// Common name and organisation of a serialised identity.
fn identity(creator: &bytes::Bytes) -> String {
    let Ok(identity) = msp::SerializedIdentity::decode(creator.clone()) else {
        return "an unreadable identity".to_owned();
    };
    let certificate = Certificate::from_pem(&identity.id_bytes).ok();
    let name = certificate
        .as_ref()
        .and_then(|c| c.common_name())
        .unwrap_or("an unreadable certificate");
    format!("{name} ({})", identity.mspid)
}

fn called(call: &mut ChaincodeCall, payload: &protos::ChaincodeActionPayload) {
    let spec = protos::ChaincodeProposalPayload::decode(payload.chaincode_proposal_payload.clone())
        .ok()
        .and_then(|p| protos::ChaincodeInvocationSpec::decode(p.input).ok())
        .and_then(|s| s.chaincode_spec);
    let Some(spec) = spec else {
        return;
    };
    call.chaincode = spec.chaincode_id.map(|id| id.name).unwrap_or_default();
    call.arguments = spec
        .input
        .map(|i| i.args)
        .unwrap_or_default()
        .iter()
        .map(|a| short(a))
        .collect();
}

/// Bytes as text, cut; as hex where they are none.
fn short(bytes: &[u8]) -> String {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !c.is_whitespace()) => text.to_owned(),
        _ => format!("0x{}", hex::encode(&bytes[..bytes.len().min(LONGEST)])),
    };
    if text.chars().count() > LONGEST {
        let start: String = text.chars().take(LONGEST).collect();
        return format!("{start}… ({} bytes)", bytes.len());
    }
    text
}

fn became(call: &mut ChaincodeCall, action: protos::ChaincodeAction) -> Option<ParsedRwset> {
    if let Some(id) = &action.chaincode_id {
        call.chaincode = format!("{} {}", id.name, id.version);
    }
    if let Some(response) = &action.response {
        let detail = if response.payload.is_empty() {
            response.message.clone()
        } else {
            short(&response.payload)
        };
        call.result = Some(
            format!("status {} {detail}", response.status)
                .trim_end()
                .to_owned(),
        );
    }
    call.event = protos::ChaincodeEvent::decode(action.events)
        .ok()
        .filter(|e| !e.event_name.is_empty())
        .map(|e| format!("{} {}", e.event_name, short(&e.payload)));
    let set = ParsedRwset::parse(action.results).ok()?;
    for ns in &set.namespaces {
        let key = |collection: Option<&str>, key: String| Key {
            namespace: ns.namespace.clone(),
            collection: collection.map(str::to_owned),
            key,
        };
        for read in &ns.public.reads {
            call.reads.push(as_of(
                &key(None, read.key.clone()),
                version(read.version.as_ref()),
            ));
        }
        for query in &ns.public.range_queries_info {
            call.reads.push(format!(
                "{} range from {:?} to {:?}",
                ns.namespace,
                super::show_key(&query.start_key),
                super::show_key(&query.end_key)
            ));
        }
        for write in &ns.public.writes {
            let what = if write.is_delete || write.value.is_empty() {
                "deleted".to_owned()
            } else {
                short(&write.value)
            };
            call.writes
                .push(format!("{}: {what}", key(None, write.key.clone())));
        }
        for write in &ns.public.metadata_writes {
            call.writes
                .push(format!("{}: its metadata", key(None, write.key.clone())));
        }
        for collection in &ns.collections {
            let name = Some(collection.collection.as_str());
            for read in &collection.hashed.hashed_reads {
                let key = key(name, hex::encode(&read.key_hash));
                call.reads.push(as_of(&key, version(read.version.as_ref())));
            }
            for write in &collection.hashed.hashed_writes {
                call.writes
                    .push(key(name, hex::encode(&write.key_hash)).to_string());
            }
        }
    }
    Some(set)
}

fn as_of(key: &Key, version: Option<Version>) -> String {
    match version {
        Some((block, tx)) => format!("{key} as of block {block}, position {tx}"),
        None => format!("{key}, which was absent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_cut_and_binary_is_hex() {
        assert_eq!(short(b"{\"a\": 1}"), "{\"a\": 1}");
        assert_eq!(short(&[0, 1, 0xfe]), "0x0001fe");
        let long = "ü".repeat(LONGEST + 1);
        assert!(short(long.as_bytes()).ends_with(&format!("… ({} bytes)", long.len())));
    }

    #[test]
    fn a_block_without_the_transaction_or_a_filter() {
        let block = common::Block::default();
        assert!(Story::read("c", "id", &block).is_err());
        assert_eq!(verdict(&block, 0), TxValidationCode::NotValidated as i32);
    }
}
