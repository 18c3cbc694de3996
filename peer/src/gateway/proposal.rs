//! What a gateway must know of a proposal to route it.

use bytes::Bytes;
use prost::Message;
use selvedge_msp::SignedData;
use selvedge_proto::{common, protos};
use tonic::{Code, Status};

/// A signed proposal, opened.
#[derive(Debug, Clone)]
pub(crate) struct Proposed {
    pub(crate) signed: protos::SignedProposal,
    pub(crate) proposal: protos::Proposal,
    pub(crate) channel: String,
    pub(crate) chaincode: String,
    pub(crate) has_transient: bool,
    creator: Bytes,
}

fn decode<M: Message + Default>(part: &str, bytes: Bytes) -> Result<M, String> {
    M::decode(bytes).map_err(|e| format!("{part}: {e}"))
}

impl Proposed {
    /// Opens a proposal. `missing` is the text for none at all.
    ///
    /// # Errors
    /// INVALID_ARGUMENT as spec 04 §2.2, §2.3.
    pub(crate) fn open(signed: Option<protos::SignedProposal>, missing: &str) -> Result<Self, Box<Status>> {
        let signed = signed
            .filter(|s| !s.proposal_bytes.is_empty())
            .ok_or_else(|| Box::new(Status::new(Code::InvalidArgument, missing)))?;
        Self::unpack(signed).map_err(|why| {
            Box::new(Status::new(
                Code::InvalidArgument,
                format!("failed to unpack transaction proposal: {why}"),
            ))
        })
    }

    fn unpack(signed: protos::SignedProposal) -> Result<Self, String> {
        let proposal: protos::Proposal = decode("Proposal", signed.proposal_bytes.clone())?;
        let header: common::Header = decode("Header", proposal.header.clone())?;
        let channel_header: common::ChannelHeader = decode("ChannelHeader", header.channel_header)?;
        let signature_header: common::SignatureHeader = decode("SignatureHeader", header.signature_header)?;
        let extension: protos::ChaincodeHeaderExtension =
            decode("ChaincodeHeaderExtension", channel_header.extension)?;
        let chaincode = extension
            .chaincode_id
            .map(|id| id.name)
            .filter(|name| !name.is_empty())
            .ok_or("no chaincode id is given, neither in the header extension nor elsewhere")?;
        if channel_header.channel_id.is_empty() {
            return Err("no channel id provided".to_owned());
        }
        let payload: protos::ChaincodeProposalPayload =
            decode("ChaincodeProposalPayload", proposal.payload.clone())?;
        Ok(Self {
            signed,
            proposal,
            channel: channel_header.channel_id,
            chaincode,
            has_transient: !payload.transient_map.is_empty(),
            creator: signature_header.creator,
        })
    }

    /// The proposal as policies look at it.
    pub(crate) fn signed_data(&self) -> SignedData {
        SignedData {
            data: vec![self.signed.proposal_bytes.clone()],
            identity: self.creator.clone(),
            signature: self.signed.signature.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_routed_is_an_invalid_argument() {
        let text = |bytes: &'static [u8]| {
            let signed = protos::SignedProposal {
                proposal_bytes: Bytes::from_static(bytes),
                signature: Bytes::new(),
            };
            let status = Proposed::open(Some(signed), "missing").unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            status.message().to_owned()
        };
        assert_eq!(text(b""), "missing");
        assert!(text(&[0xff]).starts_with("failed to unpack transaction proposal: Proposal: "));
        assert!(text(&[0x0a, 0]).contains("chaincode id"));
    }
}
