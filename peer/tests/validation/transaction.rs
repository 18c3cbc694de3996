//! Hand-made transactions and their read/write sets.

use std::collections::BTreeMap;

use selvedge_msp::SigningIdentity;
use selvedge_msp::policy::dsl;
use selvedge_proto::{Bytes, Message, common, compute_tx_id, kvrwset, proposal_hash, protos, rwset};

use crate::network::CHANNEL;

pub(crate) fn rand_nonce() -> Bytes {
    use rand::RngCore;
    let mut nonce = vec![0; 24];
    rand::rng().fill_bytes(&mut nonce);
    nonce.into()
}

/// A hand-made transaction.
#[derive(Clone)]
pub(crate) struct Tx<'a> {
    pub(crate) creator: &'a SigningIdentity,
    pub(crate) endorsers: Vec<&'a SigningIdentity>,
    pub(crate) chaincode: String,
    pub(crate) results: Bytes,
    pub(crate) nonce: Bytes,
    pub(crate) events: Bytes,
}

impl<'a> Tx<'a> {
    pub(crate) fn endorsed_by(mut self, endorsers: Vec<&'a SigningIdentity>) -> Self {
        self.endorsers = endorsers;
        self
    }

    pub(crate) fn id(&self) -> String {
        compute_tx_id(&self.nonce, self.creator.creator())
    }

    fn headers(&self) -> (Bytes, Bytes) {
        let id = protos::ChaincodeId {
            name: self.chaincode.clone(),
            ..Default::default()
        };
        let extension = protos::ChaincodeHeaderExtension {
            chaincode_id: Some(id),
        };
        let channel_header = common::ChannelHeader {
            r#type: common::HeaderType::EndorserTransaction.into(),
            channel_id: CHANNEL.into(),
            tx_id: self.id(),
            extension: extension.encode_to_vec().into(),
            ..Default::default()
        };
        let signature_header = common::SignatureHeader {
            creator: self.creator.creator().clone(),
            nonce: self.nonce.clone(),
        };
        (
            channel_header.encode_to_vec().into(),
            signature_header.encode_to_vec().into(),
        )
    }

    /// What the endorsers sign.
    pub(crate) fn response_payload(&self) -> Bytes {
        self.response_payload_to(b"in")
    }

    fn response_payload_to(&self, proposal: &[u8]) -> Bytes {
        let (channel_header, signature_header) = self.headers();
        let action = protos::ChaincodeAction {
            results: self.results.clone(),
            events: self.events.clone(),
            response: Some(protos::Response {
                status: 200,
                ..Default::default()
            }),
            chaincode_id: Some(protos::ChaincodeId {
                name: self.chaincode.clone(),
                version: "1".into(),
                ..Default::default()
            }),
        };
        let payload = protos::ProposalResponsePayload {
            proposal_hash: proposal_hash(&channel_header, &signature_header, proposal),
            extension: action.encode_to_vec().into(),
        };
        payload.encode_to_vec().into()
    }

    pub(crate) fn endorsements(&self) -> Vec<protos::Endorsement> {
        self.endorsements_of(&self.response_payload())
    }

    fn endorsements_of(&self, payload: &Bytes) -> Vec<protos::Endorsement> {
        let sign = |endorser: &&SigningIdentity| protos::Endorsement {
            endorser: endorser.creator().clone(),
            signature: endorser
                .sign(&[payload.as_ref(), endorser.creator()].concat())
                .unwrap(),
        };
        self.endorsers.iter().map(sign).collect()
    }

    pub(crate) fn envelope(&self) -> Bytes {
        self.envelope_with(self.endorsements())
    }

    pub(crate) fn envelope_with(&self, endorsements: Vec<protos::Endorsement>) -> Bytes {
        self.envelope_with_action(protos::ChaincodeActionPayload {
            chaincode_proposal_payload: Bytes::from_static(b"in"),
            action: Some(protos::ChaincodeEndorsedAction {
                proposal_response_payload: self.response_payload(),
                endorsements,
            }),
        })
    }

    /// Without the proposal; the endorsers have agreed to that.
    pub(crate) fn envelope_without_proposal(&self) -> Bytes {
        let payload = self.response_payload_to(b"");
        self.envelope_with_action(protos::ChaincodeActionPayload {
            chaincode_proposal_payload: Bytes::new(),
            action: Some(protos::ChaincodeEndorsedAction {
                endorsements: self.endorsements_of(&payload),
                proposal_response_payload: payload,
            }),
        })
    }

    fn envelope_with_action(&self, action: protos::ChaincodeActionPayload) -> Bytes {
        let (_, signature_header) = self.headers();
        self.envelope_of(vec![protos::TransactionAction {
            header: signature_header,
            payload: action.encode_to_vec().into(),
        }])
    }

    pub(crate) fn envelope_of(&self, actions: Vec<protos::TransactionAction>) -> Bytes {
        self.envelope_of_data(protos::Transaction { actions }.encode_to_vec().into())
    }

    pub(crate) fn envelope_of_data(&self, data: Bytes) -> Bytes {
        let (channel_header, signature_header) = self.headers();
        let payload: Bytes = common::Payload {
            header: Some(common::Header {
                channel_header,
                signature_header,
            }),
            data,
        }
        .encode_to_vec()
        .into();
        let signature = self.creator.sign(&payload).unwrap();
        common::Envelope { payload, signature }.encode_to_vec().into()
    }
}

/// A read/write set in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writes {
    pub(crate) public: BTreeMap<String, kvrwset::KvrwSet>,
    pub(crate) hashed: BTreeMap<(String, String), (kvrwset::HashedRwSet, Bytes)>,
}

impl Writes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn ns(&mut self, ns: &str) -> &mut kvrwset::KvrwSet {
        self.public.entry(ns.to_owned()).or_default()
    }

    pub(crate) fn collection(&mut self, ns: &str, collection: &str) -> &mut kvrwset::HashedRwSet {
        self.ns(ns);
        &mut self
            .hashed
            .entry((ns.to_owned(), collection.to_owned()))
            .or_default()
            .0
    }

    pub(crate) fn put(mut self, ns: &str, key: &str, value: &[u8]) -> Self {
        self.ns(ns).writes.push(kvrwset::KvWrite {
            key: key.into(),
            is_delete: false,
            value: Bytes::copy_from_slice(value),
        });
        self
    }

    pub(crate) fn delete(mut self, ns: &str, key: &str) -> Self {
        self.ns(ns).writes.push(kvrwset::KvWrite {
            key: key.into(),
            is_delete: true,
            value: Bytes::new(),
        });
        self
    }

    pub(crate) fn read(mut self, ns: &str, key: &str, version: Option<(u64, u64)>) -> Self {
        let version = version.map(|(block_num, tx_num)| kvrwset::Version { block_num, tx_num });
        self.ns(ns).reads.push(kvrwset::KvRead {
            key: key.into(),
            version,
        });
        self
    }

    /// Sets the key-level endorsement policy.
    pub(crate) fn policy(mut self, ns: &str, key: &str, policy: &str) -> Self {
        self.ns(ns).metadata_writes.push(kvrwset::KvMetadataWrite {
            key: key.into(),
            entries: policy_entry(policy),
        });
        self
    }

    pub(crate) fn put_hashed(
        mut self,
        ns: &str,
        collection: &str,
        key_hash: &[u8],
        value_hash: &[u8],
    ) -> Self {
        self.collection(ns, collection)
            .hashed_writes
            .push(kvrwset::KvWriteHash {
                key_hash: Bytes::copy_from_slice(key_hash),
                is_delete: false,
                value_hash: Bytes::copy_from_slice(value_hash),
                is_purge: false,
            });
        self
    }

    pub(crate) fn hashed_policy(mut self, ns: &str, collection: &str, key_hash: &[u8], policy: &str) -> Self {
        self.collection(ns, collection)
            .metadata_writes
            .push(kvrwset::KvMetadataWriteHash {
                key_hash: Bytes::copy_from_slice(key_hash),
                entries: policy_entry(policy),
            });
        self
    }

    pub(crate) fn rwset(&self) -> rwset::TxReadWriteSet {
        let ns_rwset = self.public.iter().map(|(ns, set)| rwset::NsReadWriteSet {
            namespace: ns.clone(),
            rwset: set.encode_to_vec().into(),
            collection_hashed_rwset: self
                .hashed
                .iter()
                .filter(|((name, _), _)| name == ns)
                .map(
                    |((_, collection), (set, hash))| rwset::CollectionHashedReadWriteSet {
                        collection_name: collection.clone(),
                        hashed_rwset: set.encode_to_vec().into(),
                        pvt_rwset_hash: hash.clone(),
                    },
                )
                .collect(),
        });
        rwset::TxReadWriteSet {
            data_model: 0,
            ns_rwset: ns_rwset.collect(),
        }
    }

    pub(crate) fn results(&self) -> Bytes {
        self.rwset().encode_to_vec().into()
    }
}

fn policy_entry(policy: &str) -> Vec<kvrwset::KvMetadataEntry> {
    if policy.is_empty() {
        return Vec::new();
    }
    vec![kvrwset::KvMetadataEntry {
        name: "VALIDATION_PARAMETER".into(),
        value: dsl::parse(policy).unwrap().encode_to_vec().into(),
    }]
}
