//! Opening envelopes, and the hash that ties an endorsement to its proposal (spec 02 §4, §5).

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::{common, protos};

/// Why an envelope could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A part does not decode.
    #[error("{part} does not decode: {why}")]
    Decode {
        /// Which message.
        part: &'static str,
        /// What the decoder said.
        why: String,
    },
    /// A part is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
}

pub(crate) fn decode<M: Message + Default>(part: &'static str, bytes: Bytes) -> Result<M, EnvelopeError> {
    M::decode(bytes).map_err(|e| EnvelopeError::Decode {
        part,
        why: e.to_string(),
    })
}

/// An envelope with its headers decoded. `payload_bytes` is what the signature is over.
#[derive(Debug, Clone)]
pub struct OpenEnvelope {
    /// The raw payload: the signed bytes.
    pub payload_bytes: Bytes,
    /// Signature of the creator over `payload_bytes`.
    pub signature: Bytes,
    /// The decoded payload.
    pub payload: common::Payload,
    /// The decoded channel header.
    pub channel_header: common::ChannelHeader,
    /// The decoded signature header.
    pub signature_header: common::SignatureHeader,
}

/// Decodes payload, channel header and signature header of an envelope.
///
/// # Errors
/// Names the part that is missing or does not decode.
pub fn open_envelope(envelope: &common::Envelope) -> Result<OpenEnvelope, EnvelopeError> {
    let (payload, channel_header, signature_header) = open_payload(envelope.payload.clone())?;
    Ok(OpenEnvelope {
        payload_bytes: envelope.payload.clone(),
        signature: envelope.signature.clone(),
        payload,
        channel_header,
        signature_header,
    })
}

/// Decodes a payload and its two headers.
///
/// # Errors
/// Names the part that is missing or does not decode.
pub fn open_payload(
    payload: Bytes,
) -> Result<(common::Payload, common::ChannelHeader, common::SignatureHeader), EnvelopeError> {
    let payload: common::Payload = decode("Payload", payload)?;
    let header = payload.header.as_ref().ok_or(EnvelopeError::Missing("Header"))?;
    let channel_header = decode("ChannelHeader", header.channel_header.clone())?;
    let signature_header = decode("SignatureHeader", header.signature_header.clone())?;
    Ok((payload, channel_header, signature_header))
}

/// The channel header of an envelope alone.
///
/// # Errors
/// Names the part that is missing or does not decode.
pub fn channel_header(envelope: &common::Envelope) -> Result<common::ChannelHeader, EnvelopeError> {
    let payload: common::Payload = decode("Payload", envelope.payload.clone())?;
    let header = payload.header.ok_or(EnvelopeError::Missing("Header"))?;
    decode("ChannelHeader", header.channel_header)
}

/// The proposal payload as a transaction carries it: `input` alone, without the transient map (spec 02 §4).
pub fn stripped_proposal_payload(input: Bytes) -> Bytes {
    protos::ChaincodeProposalPayload {
        input,
        ..Default::default()
    }
    .encode_to_vec()
    .into()
}

/// `proposal_hash` of a `ProposalResponsePayload`: SHA-256 over the raw channel header, the raw signature header and the
/// stripped proposal payload (spec 02 §4).
pub fn proposal_hash(channel_header: &[u8], signature_header: &[u8], stripped_payload: &[u8]) -> Bytes {
    let digest = Sha256::new()
        .chain_update(channel_header)
        .chain_update(signature_header)
        .chain_update(stripped_payload)
        .finalize();
    Bytes::copy_from_slice(&digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_part_that_is_wrong() {
        let junk = common::Envelope {
            payload: Bytes::from_static(&[0xff]),
            ..Default::default()
        };
        assert!(matches!(
            open_envelope(&junk),
            Err(EnvelopeError::Decode { part: "Payload", .. })
        ));
        let empty = common::Envelope::default();
        assert_eq!(channel_header(&empty), Err(EnvelopeError::Missing("Header")));
    }
}
