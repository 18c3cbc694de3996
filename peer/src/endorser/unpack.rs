//! Taking a signed proposal apart (spec 08 §1.1).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use selvedge_proto::{common, protos};

/// The parts of a proposal that endorsing needs.
#[derive(Debug, Clone)]
pub(crate) struct Unpacked {
    pub(crate) proposal_bytes: Bytes,
    pub(crate) signature: Bytes,
    pub(crate) channel_header: common::ChannelHeader,
    pub(crate) signature_header: common::SignatureHeader,
    /// Name of the chaincode, from the header extension.
    pub(crate) chaincode: String,
    pub(crate) args: Vec<Bytes>,
    pub(crate) is_init: bool,
    pub(crate) transient: BTreeMap<String, Bytes>,
    /// What the proposal's hash is made of: the headers, and the input of the payload.
    hashed: [Bytes; 3],
}

impl Unpacked {
    /// The hash that ties an endorsement to the proposal.
    pub(crate) fn hash(&self) -> Bytes {
        let [channel_header, signature_header, input] = &self.hashed;
        let stripped = selvedge_proto::stripped_proposal_payload(input.clone());
        selvedge_proto::proposal_hash(channel_header, signature_header, &stripped)
    }
}

fn decode<M: Message + Default>(what: &str, bytes: Bytes) -> Result<M, String> {
    M::decode(bytes).map_err(|e| format!("error unmarshalling {what}: {e}"))
}

/// The headers of a proposal of which nothing else need be sound.
pub(crate) fn headers(
    signed: &protos::SignedProposal,
) -> Option<(common::ChannelHeader, common::SignatureHeader)> {
    let proposal = protos::Proposal::decode(signed.proposal_bytes.clone()).ok()?;
    let header = common::Header::decode(proposal.header).ok()?;
    let channel_header = common::ChannelHeader::decode(header.channel_header).ok()?;
    let signature_header = common::SignatureHeader::decode(header.signature_header).ok()?;
    Some((channel_header, signature_header))
}

/// Takes a proposal apart. The chaincode named in the header extension is the one that runs.
pub(crate) fn unpack(signed: &protos::SignedProposal) -> Result<Unpacked, String> {
    let proposal: protos::Proposal = decode("Proposal", signed.proposal_bytes.clone())?;
    let header: common::Header = decode("Header", proposal.header)?;
    let channel_header: common::ChannelHeader = decode("ChannelHeader", header.channel_header.clone())?;
    let signature_header: common::SignatureHeader =
        decode("SignatureHeader", header.signature_header.clone())?;
    let extension: protos::ChaincodeHeaderExtension =
        decode("ChaincodeHeaderExtension", channel_header.extension.clone())?;
    let chaincode = extension
        .chaincode_id
        .ok_or("ChaincodeHeaderExtension.ChaincodeId is nil")?
        .name;
    if chaincode.is_empty() {
        return Err("ChaincodeHeaderExtension.ChaincodeId.Name is empty".to_owned());
    }
    let payload: protos::ChaincodeProposalPayload = decode("ChaincodeProposalPayload", proposal.payload)?;
    let invocation: protos::ChaincodeInvocationSpec =
        decode("ChaincodeInvocationSpec", payload.input.clone())?;
    let spec = invocation
        .chaincode_spec
        .ok_or("chaincode invocation spec did not contain chaincode spec")?;
    let input = spec.input.ok_or("chaincode input did not contain any input")?;
    Ok(Unpacked {
        proposal_bytes: signed.proposal_bytes.clone(),
        signature: signed.signature.clone(),
        channel_header,
        signature_header,
        chaincode,
        args: input.args,
        is_init: input.is_init,
        transient: payload.transient_map.into_iter().collect(),
        hashed: [header.channel_header, header.signature_header, payload.input],
    })
}
