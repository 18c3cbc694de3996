//! Transactions whose bytes are changed somewhere between the read/write set and the envelope. What is changed below a
//! signature is signed as it then is, so that the change itself is judged and not the signature.

use proptest::prelude::*;
use proptest::sample::Index;
use selvedge_proto::{Bytes, Message, common, proposal_hash, protos, rwset};

use crate::network::CHANNEL;
use crate::transaction::{Tx, Writes};

/// The messages that a transaction is nested of, from the inside to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Public,
    Hashed,
    Results,
    Action,
    ResponsePayload,
    ActionPayload,
    HeaderExtension,
    ChannelHeader,
    SignatureHeader,
    ActionHeader,
    Transaction,
    Payload,
    Envelope,
}

const LAYERS: [Layer; 13] = [
    Layer::Public,
    Layer::Hashed,
    Layer::Results,
    Layer::Action,
    Layer::ResponsePayload,
    Layer::ActionPayload,
    Layer::HeaderExtension,
    Layer::ChannelHeader,
    Layer::SignatureHeader,
    Layer::ActionHeader,
    Layer::Transaction,
    Layer::Payload,
    Layer::Envelope,
];

/// What is done to the bytes of a message.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    /// The whole message stands twice: repeated fields double, singular messages are merged with themselves.
    Twice,
    /// A field of this tag is put behind it.
    Field(u8, Vec<u8>),
}

impl Change {
    fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Insert(place, byte) => bytes.insert(place.index(bytes.len() + 1), *byte),
            Self::Field(tag, content) => {
                bytes.push(*tag);
                bytes.extend(content);
            }
            Self::Twice => bytes.extend(bytes.clone()),
            _ if bytes.is_empty() => {}
            Self::Flip(place, by) => {
                let at = place.index(bytes.len());
                bytes[at] ^= by;
            }
            Self::Remove(place) => {
                bytes.remove(place.index(bytes.len()));
            }
            Self::Cut(place) => bytes.truncate(place.index(bytes.len())),
        }
        bytes
    }
}

/// One change of one message.
#[derive(Debug, Clone)]
pub(crate) struct Mutation {
    layer: Layer,
    /// Which of the messages of that kind.
    occurrence: usize,
    change: Change,
}

pub(crate) fn mutation() -> impl Strategy<Value = Mutation> {
    let bits = (0..8u32).prop_map(|bit| 1u8 << bit);
    let change = prop_oneof![
        4 => (any::<Index>(), prop_oneof![bits, 1u8..]).prop_map(|(place, by)| Change::Flip(place, by)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(place, byte)| Change::Insert(place, byte)),
        2 => any::<Index>().prop_map(Change::Remove),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => Just(Change::Twice),
        2 => (0u8..64, proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(tag, content)| Change::Field(tag, content)),
    ];
    (proptest::sample::select(&LAYERS[..]), 0..3usize, change).prop_map(|(layer, occurrence, change)| {
        Mutation {
            layer,
            occurrence,
            change,
        }
    })
}

/// Puts the mutation into its place.
struct Hook<'a> {
    mutation: Option<&'a Mutation>,
    passed: usize,
}

impl Hook<'_> {
    fn pass(&mut self, layer: Layer, message: Vec<u8>) -> Bytes {
        let Some(mutation) = self.mutation.filter(|mutation| mutation.layer == layer) else {
            return message.into();
        };
        let here = self.passed == mutation.occurrence || !matches!(layer, Layer::Public | Layer::Hashed);
        self.passed += 1;
        if here {
            mutation.change.apply(message).into()
        } else {
            message.into()
        }
    }
}

fn results(writes: &Writes, hook: &mut Hook<'_>) -> Bytes {
    let mut set = rwset::TxReadWriteSet::default();
    for mut ns in writes.rwset().ns_rwset {
        ns.rwset = hook.pass(Layer::Public, ns.rwset.into());
        for collection in &mut ns.collection_hashed_rwset {
            collection.hashed_rwset =
                hook.pass(Layer::Hashed, std::mem::take(&mut collection.hashed_rwset).into());
        }
        set.ns_rwset.push(ns);
    }
    hook.pass(Layer::Results, set.encode_to_vec())
}

/// The envelope of `tx` with these writes instead of its own results. Without `creator_good`, its creator has signed something
/// else.
pub(crate) fn envelope(
    tx: &Tx<'_>,
    writes: &Writes,
    creator_good: bool,
    mutation: Option<&Mutation>,
) -> Bytes {
    let mut hook = Hook { mutation, passed: 0 };
    let chaincode_id = protos::ChaincodeId {
        name: tx.chaincode.clone(),
        ..Default::default()
    };
    let extension = protos::ChaincodeHeaderExtension {
        chaincode_id: Some(chaincode_id.clone()),
    };
    let channel_header = common::ChannelHeader {
        r#type: common::HeaderType::EndorserTransaction.into(),
        channel_id: CHANNEL.into(),
        tx_id: tx.id(),
        extension: hook.pass(Layer::HeaderExtension, extension.encode_to_vec()),
        ..Default::default()
    };
    let channel_header = hook.pass(Layer::ChannelHeader, channel_header.encode_to_vec());
    let signature_header = common::SignatureHeader {
        creator: tx.creator.creator().clone(),
        nonce: tx.nonce.clone(),
    };
    let signature_header = hook.pass(Layer::SignatureHeader, signature_header.encode_to_vec());
    let action_header = hook.pass(Layer::ActionHeader, signature_header.to_vec());

    let action = protos::ChaincodeAction {
        results: results(writes, &mut hook),
        response: Some(protos::Response {
            status: 200,
            ..Default::default()
        }),
        chaincode_id: Some(protos::ChaincodeId {
            version: "1".into(),
            ..chaincode_id
        }),
        ..Default::default()
    };
    let payload = protos::ProposalResponsePayload {
        proposal_hash: proposal_hash(&channel_header, &action_header, b"in"),
        extension: hook.pass(Layer::Action, action.encode_to_vec()),
    };
    let payload = hook.pass(Layer::ResponsePayload, payload.encode_to_vec());
    let endorsements = tx.endorsers.iter().map(|endorser| protos::Endorsement {
        endorser: endorser.creator().clone(),
        signature: endorser
            .sign(&[payload.as_ref(), endorser.creator()].concat())
            .unwrap(),
    });
    let action_payload = protos::ChaincodeActionPayload {
        chaincode_proposal_payload: Bytes::from_static(b"in"),
        action: Some(protos::ChaincodeEndorsedAction {
            endorsements: endorsements.collect(),
            proposal_response_payload: payload,
        }),
    };
    let transaction = protos::Transaction {
        actions: vec![protos::TransactionAction {
            header: action_header,
            payload: hook.pass(Layer::ActionPayload, action_payload.encode_to_vec()),
        }],
    };
    let payload = common::Payload {
        header: Some(common::Header {
            channel_header,
            signature_header,
        }),
        data: hook.pass(Layer::Transaction, transaction.encode_to_vec()),
    };
    let payload = hook.pass(Layer::Payload, payload.encode_to_vec());
    let signed: &[u8] = if creator_good { &payload } else { b"something else" };
    let envelope = common::Envelope {
        signature: tx.creator.sign(signed).unwrap(),
        payload,
    };
    hook.pass(Layer::Envelope, envelope.encode_to_vec())
}
