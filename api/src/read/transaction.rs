//! A transaction, opened.

use bytes::Bytes;
use prost::Message;
use selvedge_msp::Certificate;
use selvedge_proto::{OpenEnvelope, common, kvrwset, msp, open_envelope, protos, rwset};
use serde::Serialize;
use serde_json::Value;

use super::value::{key, milliseconds, readable, rfc3339};
use super::{Signer, Verdict};

/// A transaction with everything in it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TransactionView {
    /// Its id; empty for transactions of the orderers.
    pub(crate) id: String,
    /// Its channel.
    pub(crate) channel: String,
    /// The block that holds it.
    pub(crate) block: u64,
    /// Its place there.
    pub(crate) position: usize,
    /// `ENDORSER_TRANSACTION`, `CONFIG`, or another of Fabric's header types.
    pub(crate) kind: String,
    /// When its creator says to have made it.
    pub(crate) time: Option<String>,
    #[serde(skip)]
    pub(crate) milliseconds: Option<i64>,
    /// Who made it.
    pub(crate) creator: Signer,
    /// What the peer decided.
    pub(crate) validation: Verdict,
    /// Calls of chaincodes.
    pub(crate) calls: Vec<CallView>,
    /// Sequence of the configuration, for configuration transactions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) configuration: Option<u64>,
    /// Who signed the change of the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) signers: Vec<Signer>,
    /// Its size in bytes.
    pub(crate) bytes: usize,
}

/// One call of a chaincode.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallView {
    pub(crate) chaincode: String,
    pub(crate) version: String,
    pub(crate) function: String,
    pub(crate) args: Vec<Value>,
    pub(crate) status: Option<i32>,
    pub(crate) message: String,
    pub(crate) result: Option<Value>,
    pub(crate) endorsers: Vec<Signer>,
    pub(crate) reads: Vec<ReadView>,
    pub(crate) ranges: Vec<RangeView>,
    pub(crate) writes: Vec<WriteView>,
    pub(crate) event: Option<EventView>,
}

/// A key that was read.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadView {
    pub(crate) namespace: String,
    /// The private collection, if it is one: then `key` is the hash of the key, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) collection: Option<String>,
    pub(crate) key: String,
    /// Block and position of the transaction that had written it; none when it was absent.
    pub(crate) version: Option<(u64, u64)>,
}

/// A range of keys that was read.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RangeView {
    pub(crate) namespace: String,
    pub(crate) start: String,
    pub(crate) end: String,
}

/// A key that was written.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WriteView {
    pub(crate) namespace: String,
    /// As in [`ReadView`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) collection: Option<String>,
    pub(crate) key: String,
    pub(crate) deleted: bool,
    /// What was written; none for private data, whose content is not in the block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Value>,
    /// The key as it is on the ledger.
    #[serde(skip)]
    pub(crate) raw_key: String,
}

/// The event that a call emitted.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventView {
    pub(crate) name: String,
    pub(crate) payload: Value,
    #[serde(skip)]
    pub(crate) raw: Bytes,
}

impl TransactionView {
    /// Opens the transaction at `position` of a block of `channel`. What does not decode is left out.
    pub(super) fn open(channel: &str, block: u64, position: usize, bytes: &Bytes, code: i32) -> Self {
        let mut view = Self {
            id: String::new(),
            channel: channel.to_owned(),
            block,
            position,
            kind: "unreadable".to_owned(),
            time: None,
            milliseconds: None,
            creator: Signer::default(),
            validation: Verdict::of(code),
            calls: Vec::new(),
            configuration: None,
            signers: Vec::new(),
            bytes: bytes.len(),
        };
        let envelope = common::Envelope::decode(bytes.clone())
            .ok()
            .and_then(|envelope| open_envelope(&envelope).ok());
        if let Some(envelope) = envelope {
            view.fill(&envelope);
        }
        view
    }

    fn fill(&mut self, envelope: &OpenEnvelope) {
        let header = &envelope.channel_header;
        self.id.clone_from(&header.tx_id);
        self.milliseconds = milliseconds(header.timestamp.as_ref());
        self.time = self.milliseconds.and_then(rfc3339);
        self.creator = Signer::of(&envelope.signature_header.creator);
        let kind = common::HeaderType::try_from(header.r#type);
        self.kind = kind.map_or_else(|_| header.r#type.to_string(), |k| k.as_str_name().to_owned());
        match kind {
            Ok(common::HeaderType::EndorserTransaction) => self.endorsed(envelope),
            Ok(common::HeaderType::Config) => self.configured(envelope),
            _ => {}
        }
    }

    fn endorsed(&mut self, envelope: &OpenEnvelope) {
        let Ok(transaction) = protos::Transaction::decode(envelope.payload.data.clone()) else {
            return;
        };
        for action in transaction.actions {
            if let Ok(payload) = protos::ChaincodeActionPayload::decode(action.payload) {
                self.calls.push(CallView::open(payload));
            }
        }
    }

    fn configured(&mut self, envelope: &OpenEnvelope) {
        let Ok(config) = common::ConfigEnvelope::decode(envelope.payload.data.clone()) else {
            return;
        };
        self.configuration = config.config.map(|c| c.sequence);
        let signatures = config.last_update.and_then(|update| {
            let update = open_envelope(&update).ok()?;
            let message = common::ConfigUpdateEnvelope::decode(update.payload.data).ok()?;
            Some(message.signatures)
        });
        for signature in signatures.unwrap_or_default() {
            if let Ok(header) = common::SignatureHeader::decode(signature.signature_header) {
                self.signers.push(Signer::of(&header.creator));
            }
        }
    }

    /// The call, for the usual transaction with one.
    pub(crate) fn call(&self) -> Option<&CallView> {
        self.calls.first()
    }
}

impl CallView {
    fn open(payload: protos::ChaincodeActionPayload) -> Self {
        let mut call = Self::default();
        call.called(&payload);
        if let Some(endorsed) = payload.action {
            call.endorsers = endorsed
                .endorsements
                .iter()
                .map(|e| Signer::of(&e.endorser))
                .collect();
            if let Ok(action) = selvedge_proto::chaincode_action(endorsed.proposal_response_payload) {
                call.became(action);
            }
        }
        call
    }

    fn called(&mut self, payload: &protos::ChaincodeActionPayload) {
        let spec = protos::ChaincodeProposalPayload::decode(payload.chaincode_proposal_payload.clone())
            .ok()
            .and_then(|p| protos::ChaincodeInvocationSpec::decode(p.input).ok())
            .and_then(|s| s.chaincode_spec);
        let Some(spec) = spec else {
            return;
        };
        self.chaincode = spec.chaincode_id.map(|id| id.name).unwrap_or_default();
        let args = spec.input.map(|i| i.args).unwrap_or_default();
        let mut args = args.iter();
        if let Some(function) = args.next() {
            self.function = String::from_utf8_lossy(function).into_owned();
        }
        self.args = args.map(|a| readable(a)).collect();
    }

    fn became(&mut self, action: protos::ChaincodeAction) {
        if let Some(id) = action.chaincode_id {
            self.chaincode = id.name;
            self.version = id.version;
        }
        if let Some(response) = action.response {
            self.status = Some(response.status);
            self.message = response.message;
            self.result = (!response.payload.is_empty()).then(|| readable(&response.payload));
        }
        self.event = protos::ChaincodeEvent::decode(action.events)
            .ok()
            .filter(|event| !event.event_name.is_empty())
            .map(|event| EventView {
                name: event.event_name,
                payload: readable(&event.payload),
                raw: event.payload,
            });
        let Ok(set) = rwset::TxReadWriteSet::decode(action.results) else {
            return;
        };
        for namespace in set.ns_rwset {
            if let Ok(public) = kvrwset::KvrwSet::decode(namespace.rwset) {
                self.public(&namespace.namespace, public);
            }
            for collection in namespace.collection_hashed_rwset {
                if let Ok(hashed) = kvrwset::HashedRwSet::decode(collection.hashed_rwset) {
                    self.hashed(&namespace.namespace, &collection.collection_name, hashed);
                }
            }
        }
    }

    fn public(&mut self, namespace: &str, set: kvrwset::KvrwSet) {
        for read in set.reads {
            self.reads.push(ReadView {
                namespace: namespace.to_owned(),
                collection: None,
                key: key(&read.key),
                version: read.version.map(|v| (v.block_num, v.tx_num)),
            });
        }
        for range in set.range_queries_info {
            self.ranges.push(RangeView {
                namespace: namespace.to_owned(),
                start: key(&range.start_key),
                end: key(&range.end_key),
            });
        }
        for write in set.writes {
            let deleted = write.is_delete || write.value.is_empty();
            self.writes.push(WriteView {
                namespace: namespace.to_owned(),
                collection: None,
                key: key(&write.key),
                deleted,
                value: (!deleted).then(|| readable(&write.value)),
                raw_key: write.key,
            });
        }
    }

    fn hashed(&mut self, namespace: &str, collection: &str, set: kvrwset::HashedRwSet) {
        for read in set.hashed_reads {
            self.reads.push(ReadView {
                namespace: namespace.to_owned(),
                collection: Some(collection.to_owned()),
                key: hex::encode(&read.key_hash),
                version: read.version.map(|v| (v.block_num, v.tx_num)),
            });
        }
        for write in set.hashed_writes {
            let hash = hex::encode(&write.key_hash);
            self.writes.push(WriteView {
                namespace: namespace.to_owned(),
                collection: Some(collection.to_owned()),
                key: hash.clone(),
                deleted: write.is_delete,
                value: None,
                raw_key: hash,
            });
        }
    }
}

impl Signer {
    /// Reads a serialised identity.
    pub(crate) fn of(creator: &Bytes) -> Self {
        let Ok(identity) = msp::SerializedIdentity::decode(creator.clone()) else {
            return Self::default();
        };
        let name = Certificate::from_pem(&identity.id_bytes)
            .ok()
            .and_then(|c| c.common_name().map(str::to_owned))
            .unwrap_or_default();
        Self {
            msp_id: identity.mspid,
            name,
        }
    }
}
