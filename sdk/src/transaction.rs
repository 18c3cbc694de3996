//! Endorsed transactions on their way to the orderer, and commit results.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use selvedge_msp::SigningIdentity;
use selvedge_proto::{common, gateway, open_payload, protos, transaction_action};

use crate::error::{CommitError, Error};
use crate::sha256;

/// An endorsed transaction: the envelope for the orderer, with what the contract answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    transaction_id: String,
    channel: String,
    result: Bytes,
    creator: Bytes,
    envelope: common::Envelope,
}

impl Transaction {
    /// Reads id, channel and the contract's answer out of an envelope (spec 04 §1.3).
    ///
    /// # Errors
    /// The envelope is not one of an endorsed transaction.
    pub fn from_envelope(envelope: common::Envelope) -> Result<Self, Error> {
        let wrong = |why: String| Error::malformed("prepared transaction", why);
        let (_, channel_header, signature_header) =
            open_payload(envelope.payload.clone()).map_err(|e| wrong(e.to_string()))?;
        let response = transaction_action(envelope.payload.clone())
            .map_err(|e| wrong(e.to_string()))?
            .response
            .ok_or_else(|| wrong("it holds no chaincode response".into()))?;
        Ok(Self {
            transaction_id: channel_header.tx_id,
            channel: channel_header.channel_id,
            result: response.payload,
            creator: signature_header.creator,
            envelope,
        })
    }

    /// Its id.
    pub fn transaction_id(&self) -> &str {
        &self.transaction_id
    }

    /// Its channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// What the contract answered. It counts once the transaction has committed as valid.
    pub fn result(&self) -> &Bytes {
        &self.result
    }

    /// The identity in its header, as bytes.
    pub fn creator(&self) -> &Bytes {
        &self.creator
    }

    /// The envelope as it goes to the orderer.
    pub fn envelope(&self) -> &common::Envelope {
        &self.envelope
    }

    /// SHA-256 of the envelope's payload, for signers that take a digest.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.envelope.payload)
    }

    /// Signs with the creator's key.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&mut self, identity: &SigningIdentity) -> Result<(), Error> {
        self.envelope.signature = identity.sign(&self.envelope.payload)?;
        Ok(())
    }

    /// Sets a signature made elsewhere: DER with low S (spec 02 §3).
    pub fn set_signature(&mut self, signature: impl Into<Bytes>) {
        self.envelope.signature = signature.into();
    }

    /// Whether a signature is set.
    pub fn is_signed(&self) -> bool {
        !self.envelope.signature.is_empty()
    }

    /// The whole as `gateway.PreparedTransaction`, to be stored or carried to a signer (spec 04 §5).
    pub fn to_bytes(&self) -> Bytes {
        gateway::PreparedTransaction {
            transaction_id: self.transaction_id.clone(),
            envelope: Some(self.envelope.clone()),
        }
        .encode_to_vec()
        .into()
    }

    /// Reads what [`Self::to_bytes`] wrote, ours or another client's.
    ///
    /// # Errors
    /// Says which part does not decode.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Error> {
        let wrong = |why: String| Error::malformed("PreparedTransaction", why);
        let prepared = gateway::PreparedTransaction::decode(bytes).map_err(|e| wrong(e.to_string()))?;
        let envelope = prepared
            .envelope
            .ok_or_else(|| wrong("it holds no envelope".into()))?;
        Self::from_envelope(envelope)
    }
}

/// A request for the fate of a transaction, signed or about to be.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitRequest {
    transaction_id: String,
    request: Bytes,
    signature: Bytes,
}

impl CommitRequest {
    /// Builds an unsigned request of `creator`.
    pub fn new(channel: &str, transaction_id: &str, creator: &Bytes) -> Self {
        let request = gateway::CommitStatusRequest {
            transaction_id: transaction_id.to_owned(),
            channel_id: channel.to_owned(),
            identity: creator.clone(),
        };
        Self {
            transaction_id: transaction_id.to_owned(),
            request: request.encode_to_vec().into(),
            signature: Bytes::new(),
        }
    }

    /// The transaction asked for.
    pub fn transaction_id(&self) -> &str {
        &self.transaction_id
    }

    /// The bytes that the signature is over.
    pub fn bytes(&self) -> &Bytes {
        &self.request
    }

    /// SHA-256 of [`Self::bytes`].
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.request)
    }

    /// Signs with the creator's key.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&mut self, identity: &SigningIdentity) -> Result<(), Error> {
        self.signature = identity.sign(&self.request)?;
        Ok(())
    }

    /// Sets a signature made elsewhere.
    pub fn set_signature(&mut self, signature: impl Into<Bytes>) {
        self.signature = signature.into();
    }

    pub(crate) fn signed(&self) -> gateway::SignedCommitStatusRequest {
        gateway::SignedCommitStatusRequest {
            request: self.request.clone(),
            signature: self.signature.clone(),
        }
    }
}

/// The verdict on a transaction that is on the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitStatus {
    /// Which one.
    pub transaction_id: String,
    /// Valid, or why not.
    pub code: protos::TxValidationCode,
    /// The block that holds it.
    pub block_number: u64,
}

impl CommitStatus {
    /// Whether it counts.
    pub fn is_valid(&self) -> bool {
        self.code == protos::TxValidationCode::Valid
    }

    /// Whether it was endorsed on a state that others had changed by then.
    pub fn is_stale(&self) -> bool {
        use protos::TxValidationCode::{MvccReadConflict, PhantomReadConflict};
        matches!(self.code, MvccReadConflict | PhantomReadConflict)
    }

    /// The number of the block, or the reason as an error.
    ///
    /// # Errors
    /// The transaction is invalid.
    pub fn ok(self) -> Result<u64, Error> {
        if self.is_valid() {
            return Ok(self.block_number);
        }
        Err(Error::Commit(CommitError {
            transaction_id: self.transaction_id,
            code: self.code,
            block_number: self.block_number,
        }))
    }
}

/// How long after the start of a call each stage was reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// All endorsements had arrived.
    pub endorsed: Duration,
    /// They were checked and the envelope was signed.
    pub checked: Duration,
    /// An orderer had taken it.
    pub ordered: Duration,
    /// The commit event had arrived.
    pub committed: Duration,
}

/// A transaction that is on the ledger and valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its id.
    pub transaction_id: String,
    /// What the contract answered.
    pub result: Bytes,
    /// The block that holds it.
    pub block_number: u64,
    /// Where the time went.
    pub stages: Stages,
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use selvedge_proto::transaction_payload;

    use super::*;
    use crate::proposal::{Invocation, Nonce, Proposal};

    pub(crate) fn endorsed(result: &'static [u8]) -> common::Envelope {
        let proposal = Proposal::new(
            &Invocation::new("trade", "cc", "f").transient("t", "v"),
            &Bytes::from_static(b"me"),
            &Nonce::from_bytes([3; 24]),
            SystemTime::UNIX_EPOCH,
        );
        let action = protos::ChaincodeAction {
            response: Some(protos::Response {
                status: 200,
                message: String::new(),
                payload: Bytes::from_static(result),
            }),
            ..Default::default()
        };
        let response = protos::ProposalResponsePayload {
            proposal_hash: Bytes::new(),
            extension: action.encode_to_vec().into(),
        };
        let payload = transaction_payload(
            &proposal.decoded().unwrap(),
            response.encode_to_vec().into(),
            Vec::new(),
        );
        common::Envelope {
            payload: payload.unwrap(),
            signature: Bytes::new(),
        }
    }

    #[test]
    fn id_channel_and_result_are_read_from_the_envelope() {
        let transaction = Transaction::from_envelope(endorsed(b"answer")).unwrap();
        assert_eq!(transaction.channel(), "trade");
        assert_eq!(
            transaction.transaction_id(),
            selvedge_proto::compute_tx_id(&[3; 24], b"me")
        );
        assert_eq!(transaction.result().as_ref(), b"answer");
        assert!(!transaction.is_signed());
    }

    #[test]
    fn transient_data_do_not_reach_the_orderer() {
        let envelope = endorsed(b"x");
        let (payload, _, _) = open_payload(envelope.payload).unwrap();
        let transaction = protos::Transaction::decode(payload.data).unwrap();
        let action = protos::ChaincodeActionPayload::decode(transaction.actions[0].payload.clone()).unwrap();
        let proposed = protos::ChaincodeProposalPayload::decode(action.chaincode_proposal_payload).unwrap();
        assert!(proposed.transient_map.is_empty());
    }

    #[test]
    fn offline_signature_changes_nothing_but_the_signature() {
        let transaction = Transaction::from_envelope(endorsed(b"x")).unwrap();
        let mut back = Transaction::from_bytes(transaction.to_bytes()).unwrap();
        back.set_signature(vec![5; 70]);
        assert!(back.is_signed());
        assert_eq!(back.envelope().payload, transaction.envelope().payload);
        assert!(Transaction::from_envelope(common::Envelope::default()).is_err());
    }

    #[test]
    fn an_invalid_status_is_an_error_with_its_name() {
        let status = CommitStatus {
            transaction_id: "ab".into(),
            code: protos::TxValidationCode::PhantomReadConflict,
            block_number: 4,
        };
        assert!(
            status
                .ok()
                .unwrap_err()
                .to_string()
                .contains("12 (PHANTOM_READ_CONFLICT)")
        );
    }
}
