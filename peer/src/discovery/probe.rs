//! Asking another peer who it is and how far it has come.
//!
//! `qscc.GetChainInfo`, signed by this peer, is a question that every peer of a channel answers to every other, Fabric's
//! included, and the answer is an endorsement: the other peer's certificate, its height, and a signature over both and over
//! our question with its nonce. So nothing has to be believed and no protocol of our own is needed.

use bytes::Bytes;
use prost::Message;
use selvedge_channel::Bundle;
use selvedge_msp::SigningIdentity;
use selvedge_proto::{NONCE_LEN, chaincode_action, common, protos};

const QSCC: &str = "qscc";

/// What a peer said about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// Its pb(SerializedIdentity).
    pub(super) identity: Bytes,
    pub(super) height: u64,
}

/// The question about one channel, and what an answer must contain to be one to it.
pub(super) struct Question {
    pub(super) proposal: protos::SignedProposal,
    hash: Bytes,
}

impl Question {
    /// # Errors
    /// This peer cannot sign.
    pub(super) fn new(identity: &SigningIdentity, channel: &str) -> Result<Self, String> {
        let nonce = Bytes::from(rand::random::<[u8; NONCE_LEN]>().to_vec());
        let now = std::time::SystemTime::now();
        let chaincode_id = Some(protos::ChaincodeId {
            name: QSCC.to_owned(),
            ..Default::default()
        });
        let channel_header = common::ChannelHeader {
            r#type: common::HeaderType::EndorserTransaction as i32,
            timestamp: Some(now.into()),
            channel_id: channel.to_owned(),
            tx_id: selvedge_proto::compute_tx_id(&nonce, identity.creator()),
            extension: protos::ChaincodeHeaderExtension {
                chaincode_id: chaincode_id.clone(),
            }
            .encode_to_vec()
            .into(),
            ..Default::default()
        };
        let signature_header = common::SignatureHeader {
            creator: identity.creator().clone(),
            nonce,
        };
        let header = common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        };
        let input = protos::ChaincodeInvocationSpec {
            chaincode_spec: Some(protos::ChaincodeSpec {
                r#type: protos::chaincode_spec::Type::Golang as i32,
                chaincode_id,
                input: Some(protos::ChaincodeInput {
                    args: vec![
                        Bytes::from_static(b"GetChainInfo"),
                        Bytes::copy_from_slice(channel.as_bytes()),
                    ],
                    ..Default::default()
                }),
                timeout: 0,
            }),
        };
        let payload = protos::ChaincodeProposalPayload {
            input: input.encode_to_vec().into(),
            transient_map: Default::default(),
        };
        let proposal = protos::Proposal {
            header: header.encode_to_vec().into(),
            payload: payload.encode_to_vec().into(),
            ..Default::default()
        };
        // Without transient data there is nothing to strip.
        let hash = selvedge_proto::proposal_hash(
            &header.channel_header,
            &header.signature_header,
            &proposal.payload,
        );
        let proposal_bytes = Bytes::from(proposal.encode_to_vec());
        let signature = identity.sign(&proposal_bytes).map_err(|e| e.to_string())?;
        Ok(Self {
            proposal: protos::SignedProposal {
                proposal_bytes,
                signature,
            },
            hash,
        })
    }

    /// Reads an answer, which must come from a peer of `msp_id`.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub(super) fn read(
        &self,
        bundle: &Bundle,
        msp_id: &str,
        answer: protos::ProposalResponse,
    ) -> Result<Said, String> {
        let endorsement = answer.endorsement.ok_or("the answer is not endorsed")?;
        check_identity(bundle, msp_id, &endorsement.endorser)?
            .verify(
                &[answer.payload.as_ref(), &endorsement.endorser].concat(),
                &endorsement.signature,
            )
            .map_err(|e| e.to_string())?;
        let payload =
            protos::ProposalResponsePayload::decode(answer.payload.clone()).map_err(|e| e.to_string())?;
        if payload.proposal_hash != self.hash {
            return Err("the answer is to another question".to_owned());
        }
        let action = chaincode_action(answer.payload).map_err(|e| e.to_string())?;
        let response = action.response.ok_or("the answer holds no response")?;
        let info = common::BlockchainInfo::decode(response.payload).map_err(|e| e.to_string())?;
        Ok(Said {
            identity: endorsement.endorser,
            height: info.height,
        })
    }
}

/// A valid identity of an organisation of the channel.
pub(super) fn check_identity(
    bundle: &Bundle,
    msp_id: &str,
    identity: &[u8],
) -> Result<std::sync::Arc<selvedge_msp::Identity>, String> {
    let identity = bundle.msps().deserialize(identity).map_err(|e| e.to_string())?;
    if identity.msp_id() != msp_id {
        return Err(format!("it belongs to {} instead of {msp_id}", identity.msp_id()));
    }
    bundle.msps().validate(&identity).map_err(|e| e.to_string())?;
    Ok(identity)
}
