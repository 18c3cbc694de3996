//! Proposals: what a client asks a contract, as it is signed and sent (spec 04 §1.1).

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use prost::Message;
use rand::TryRngCore;
use selvedge_msp::SigningIdentity;
use selvedge_proto::{common, compute_tx_id, gateway, protos};

use crate::error::Error;
use crate::sha256;

/// What is asked of a contract. Built step by step; the same invocation can be proposed many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    pub(crate) channel: String,
    pub(crate) chaincode: String,
    pub(crate) args: Vec<Bytes>,
    pub(crate) transient: BTreeMap<String, Bytes>,
    pub(crate) endorsing_orgs: Vec<String>,
    pub(crate) is_init: bool,
    pub(crate) header_type: common::HeaderType,
}

impl Invocation {
    /// Calls `function` of `chaincode` on `channel`. `Contract:function` names one of several contracts in a chaincode.
    pub fn new(
        channel: impl Into<String>,
        chaincode: impl Into<String>,
        function: impl Into<String>,
    ) -> Self {
        Self {
            channel: channel.into(),
            chaincode: chaincode.into(),
            args: vec![Bytes::from(function.into())],
            transient: BTreeMap::new(),
            endorsing_orgs: Vec::new(),
            is_init: false,
            header_type: common::HeaderType::EndorserTransaction,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<Vec<u8>>) -> Self {
        self.args.push(Bytes::from(arg.into()));
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<Vec<u8>>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|a| Bytes::from(a.into())));
        self
    }

    /// Adds transient data: the contract sees it, the ledger does not.
    #[must_use]
    pub fn transient(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.transient.insert(key.into(), Bytes::from(value.into()));
        self
    }

    /// Asks for endorsements of these organisations (MSP ids) instead of those the gateway chooses.
    #[must_use]
    pub fn endorsing_orgs<O: Into<String>>(mut self, orgs: impl IntoIterator<Item = O>) -> Self {
        self.endorsing_orgs.extend(orgs.into_iter().map(Into::into));
        self
    }

    /// Marks the call as the initialisation that the chaincode's definition requires.
    #[must_use]
    pub fn init(mut self) -> Self {
        self.is_init = true;
        self
    }

    /// Header type CONFIG, which `cscc` calls without a channel carry (spec 07 §4).
    #[must_use]
    pub(crate) fn config_type(mut self) -> Self {
        self.header_type = common::HeaderType::Config;
        self
    }

    /// Channel that is called.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Chaincode that is called.
    pub fn chaincode(&self) -> &str {
        &self.chaincode
    }
}

/// The random number that, with the creator, makes the transaction id. Whoever stores it can send the same transaction
/// again after any failure, with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; selvedge_proto::NONCE_LEN]);

impl Nonce {
    /// Draws a nonce from the system's generator.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0; selvedge_proto::NONCE_LEN];
        rand::rngs::OsRng
            .try_fill_bytes(&mut bytes)
            .map_err(|e| Error::Request(format!("the system gives no random numbers: {e}")))?;
        Ok(Self(bytes))
    }

    /// Takes a stored nonce.
    pub fn from_bytes(bytes: [u8; selvedge_proto::NONCE_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored.
    pub fn as_bytes(&self) -> &[u8; selvedge_proto::NONCE_LEN] {
        &self.0
    }

    /// Id of every transaction that `identity` proposes with this nonce.
    pub fn transaction_id(&self, identity: &SigningIdentity) -> String {
        compute_tx_id(&self.0, identity.creator())
    }
}

/// A proposal with its bytes fixed; signed or about to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    transaction_id: String,
    channel: String,
    has_transient: bool,
    creator: Bytes,
    bytes: Bytes,
    signature: Bytes,
    endorsing_orgs: Vec<String>,
}

impl Proposal {
    /// Builds an unsigned proposal of `creator` (the bytes of a `SerializedIdentity`) with this time stamp.
    pub fn new(invocation: &Invocation, creator: &Bytes, nonce: &Nonce, time: SystemTime) -> Self {
        let transaction_id = compute_tx_id(nonce.as_bytes(), creator);
        let chaincode_id = protos::ChaincodeId {
            name: invocation.chaincode.clone(),
            ..Default::default()
        };
        let extension = protos::ChaincodeHeaderExtension {
            chaincode_id: Some(chaincode_id.clone()),
        };
        let channel_header = common::ChannelHeader {
            r#type: invocation.header_type as i32,
            timestamp: Some(prost_types::Timestamp::from(time)),
            channel_id: invocation.channel.clone(),
            tx_id: transaction_id.clone(),
            extension: extension.encode_to_vec().into(),
            ..Default::default()
        };
        let signature_header = common::SignatureHeader {
            creator: creator.clone(),
            nonce: Bytes::copy_from_slice(nonce.as_bytes()),
        };
        let header = common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        };
        let spec = protos::ChaincodeInvocationSpec {
            chaincode_spec: Some(protos::ChaincodeSpec {
                r#type: protos::chaincode_spec::Type::Node as i32,
                chaincode_id: Some(chaincode_id),
                input: Some(protos::ChaincodeInput {
                    args: invocation.args.clone(),
                    is_init: invocation.is_init,
                    ..Default::default()
                }),
                ..Default::default()
            }),
        };
        let payload = protos::ChaincodeProposalPayload {
            input: spec.encode_to_vec().into(),
            transient_map: invocation.transient.clone().into_iter().collect(),
        };
        let proposal = protos::Proposal {
            header: header.encode_to_vec().into(),
            payload: payload.encode_to_vec().into(),
            extension: Bytes::new(),
        };
        Self {
            transaction_id,
            channel: invocation.channel.clone(),
            has_transient: !invocation.transient.is_empty(),
            creator: creator.clone(),
            bytes: proposal.encode_to_vec().into(),
            signature: Bytes::new(),
            endorsing_orgs: invocation.endorsing_orgs.clone(),
        }
    }

    /// Builds and signs a proposal.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn signed_by(
        identity: &SigningIdentity,
        invocation: &Invocation,
        nonce: &Nonce,
        time: SystemTime,
    ) -> Result<Self, Error> {
        let mut proposal = Self::new(invocation, identity.creator(), nonce, time);
        proposal.sign(identity)?;
        Ok(proposal)
    }

    /// Id of the transaction this proposes.
    pub fn transaction_id(&self) -> &str {
        &self.transaction_id
    }

    /// Its channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Whether it carries transient data.
    pub fn has_transient(&self) -> bool {
        self.has_transient
    }

    /// The identity in its header, as bytes.
    pub fn creator(&self) -> &Bytes {
        &self.creator
    }

    /// Organisations asked for by the caller; empty leaves the choice to the gateway.
    pub fn endorsing_orgs(&self) -> &[String] {
        &self.endorsing_orgs
    }

    /// The bytes that the signature is over.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// SHA-256 of [`Self::bytes`], for signers that take a digest.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.bytes)
    }

    /// Signs with the creator's key.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&mut self, identity: &SigningIdentity) -> Result<(), Error> {
        self.signature = identity.sign(&self.bytes)?;
        Ok(())
    }

    /// Sets a signature made elsewhere: DER with low S (spec 02 §3).
    pub fn set_signature(&mut self, signature: impl Into<Bytes>) {
        self.signature = signature.into();
    }

    /// Bytes and signature as endorsers take them.
    ///
    /// # Errors
    /// It is not signed.
    pub fn signed(&self) -> Result<protos::SignedProposal, Error> {
        if self.signature.is_empty() {
            return Err(Error::Request(format!(
                "proposal of transaction {} is not signed; sign it first",
                self.transaction_id
            )));
        }
        Ok(protos::SignedProposal {
            proposal_bytes: self.bytes.clone(),
            signature: self.signature.clone(),
        })
    }

    pub(crate) fn decoded(&self) -> Result<protos::Proposal, Error> {
        protos::Proposal::decode(self.bytes.clone()).map_err(|e| Error::malformed("Proposal", e))
    }

    /// The whole as `gateway.ProposedTransaction`, to be stored or carried to a signer (spec 04 §5).
    pub fn to_bytes(&self) -> Bytes {
        gateway::ProposedTransaction {
            transaction_id: self.transaction_id.clone(),
            proposal: Some(protos::SignedProposal {
                proposal_bytes: self.bytes.clone(),
                signature: self.signature.clone(),
            }),
            endorsing_organizations: self.endorsing_orgs.clone(),
        }
        .encode_to_vec()
        .into()
    }

    /// Reads what [`Self::to_bytes`] wrote, ours or another client's.
    ///
    /// # Errors
    /// Says which part does not decode.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Error> {
        let wrong = |why: String| Error::malformed("ProposedTransaction", why);
        let proposed = gateway::ProposedTransaction::decode(bytes).map_err(|e| wrong(e.to_string()))?;
        let signed = proposed
            .proposal
            .ok_or_else(|| wrong("it holds no proposal".into()))?;
        let proposal = protos::Proposal::decode(signed.proposal_bytes.clone())
            .map_err(|e| wrong(format!("Proposal: {e}")))?;
        let header = common::Header::decode(proposal.header).map_err(|e| wrong(format!("Header: {e}")))?;
        let channel_header = common::ChannelHeader::decode(header.channel_header)
            .map_err(|e| wrong(format!("ChannelHeader: {e}")))?;
        let signature_header = common::SignatureHeader::decode(header.signature_header)
            .map_err(|e| wrong(format!("SignatureHeader: {e}")))?;
        let payload = protos::ChaincodeProposalPayload::decode(proposal.payload)
            .map_err(|e| wrong(format!("ChaincodeProposalPayload: {e}")))?;
        Ok(Self {
            transaction_id: proposed.transaction_id,
            channel: channel_header.channel_id,
            has_transient: !payload.transient_map.is_empty(),
            creator: signature_header.creator,
            bytes: signed.proposal_bytes,
            signature: signed.signature,
            endorsing_orgs: proposed.endorsing_organizations,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn creator() -> Bytes {
        Bytes::from_static(b"creator bytes")
    }

    fn open(
        proposal: &Proposal,
    ) -> (
        common::ChannelHeader,
        common::SignatureHeader,
        protos::ChaincodeProposalPayload,
    ) {
        let decoded = proposal.decoded().unwrap();
        let header = common::Header::decode(decoded.header).unwrap();
        (
            common::ChannelHeader::decode(header.channel_header).unwrap(),
            common::SignatureHeader::decode(header.signature_header).unwrap(),
            protos::ChaincodeProposalPayload::decode(decoded.payload).unwrap(),
        )
    }

    #[test]
    fn headers_are_what_the_official_client_sends() {
        let invocation = Invocation::new("trade", "shipment", "create")
            .arg("S-1")
            .args(["a", "b"])
            .transient("key", "secret");
        let nonce = Nonce::from_bytes([7; 24]);
        let time = SystemTime::UNIX_EPOCH + Duration::new(100, 5);
        let proposal = Proposal::new(&invocation, &creator(), &nonce, time);
        let (channel, signature, payload) = open(&proposal);
        assert_eq!((channel.r#type, channel.version, channel.epoch), (3, 0, 0));
        assert_eq!(channel.channel_id, "trade");
        assert_eq!(channel.tx_id, compute_tx_id(&[7; 24], b"creator bytes"));
        assert_eq!(channel.tx_id, proposal.transaction_id());
        assert_eq!(
            channel.timestamp.unwrap(),
            prost_types::Timestamp {
                seconds: 100,
                nanos: 5
            }
        );
        let extension = protos::ChaincodeHeaderExtension::decode(channel.extension).unwrap();
        assert_eq!(extension.chaincode_id.unwrap().name, "shipment");
        assert_eq!(
            (signature.creator, signature.nonce.as_ref()),
            (creator(), &[7u8; 24][..])
        );
        let spec = protos::ChaincodeInvocationSpec::decode(payload.input).unwrap();
        let spec = spec.chaincode_spec.unwrap();
        assert_eq!(spec.r#type, 2);
        assert_eq!(spec.input.unwrap().args, ["create", "S-1", "a", "b"]);
        assert_eq!(payload.transient_map["key"], "secret");
    }

    #[test]
    fn same_nonce_gives_the_same_id_at_any_time() {
        let invocation = Invocation::new("c", "cc", "f");
        let nonce = Nonce::random().unwrap();
        let early = Proposal::new(&invocation, &creator(), &nonce, SystemTime::UNIX_EPOCH);
        let late = Proposal::new(
            &invocation,
            &creator(),
            &nonce,
            SystemTime::UNIX_EPOCH + Duration::from_secs(9999),
        );
        assert_eq!(early.transaction_id(), late.transaction_id());
        assert_ne!(early.bytes(), late.bytes());
        assert_ne!(Nonce::random().unwrap(), nonce);
    }

    #[test]
    fn an_unsigned_proposal_is_not_sent() {
        let mut proposal = Proposal::new(
            &Invocation::new("c", "cc", "f"),
            &creator(),
            &Nonce::from_bytes([1; 24]),
            SystemTime::UNIX_EPOCH,
        );
        assert!(proposal.signed().is_err());
        proposal.set_signature(vec![1, 2, 3]);
        assert_eq!(proposal.signed().unwrap().signature.as_ref(), [1, 2, 3]);
    }

    #[test]
    fn survives_the_way_to_an_offline_signer() {
        let mut proposal = Proposal::new(
            &Invocation::new("c", "cc", "f")
                .endorsing_orgs(["Org1MSP"])
                .transient("a", "b"),
            &creator(),
            &Nonce::from_bytes([1; 24]),
            SystemTime::UNIX_EPOCH,
        );
        let mut back = Proposal::from_bytes(proposal.to_bytes()).unwrap();
        assert_eq!(back, proposal);
        assert_eq!(back.digest(), proposal.digest());
        back.set_signature(vec![9]);
        proposal.set_signature(vec![9]);
        assert_eq!(back.signed().unwrap(), proposal.signed().unwrap());
        assert!(Proposal::from_bytes(Bytes::from_static(&[0xff])).is_err());
    }
}
