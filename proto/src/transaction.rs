//! From endorsed proposal to transaction, and back to what the contract answered (spec 02 §5).

use bytes::Bytes;
use prost::Message;

use crate::envelope::{EnvelopeError, decode, open_payload, stripped_proposal_payload};
use crate::{common, protos};

/// The payload of the envelope of an endorsed transaction: header of the proposal byte for byte, one action, the proposal
/// payload without its transient map (spec 02 §5). It is the bytes that the creator signs.
///
/// # Errors
/// The proposal has no header, or its header or payload does not decode.
pub fn transaction_payload(
    proposal: &protos::Proposal,
    response_payload: Bytes,
    endorsements: Vec<protos::Endorsement>,
) -> Result<Bytes, EnvelopeError> {
    if proposal.header.is_empty() {
        return Err(EnvelopeError::Missing("Header"));
    }
    let header: common::Header = decode("Header", proposal.header.clone())?;
    let proposed: protos::ChaincodeProposalPayload =
        decode("ChaincodeProposalPayload", proposal.payload.clone())?;
    let action = protos::ChaincodeActionPayload {
        chaincode_proposal_payload: stripped_proposal_payload(proposed.input),
        action: Some(protos::ChaincodeEndorsedAction {
            proposal_response_payload: response_payload,
            endorsements,
        }),
    };
    let transaction = protos::Transaction {
        actions: vec![protos::TransactionAction {
            header: header.signature_header.clone(),
            payload: action.encode_to_vec().into(),
        }],
    };
    let payload = common::Payload {
        header: Some(header),
        data: transaction.encode_to_vec().into(),
    };
    Ok(payload.encode_to_vec().into())
}

/// The chaincode action inside the bytes of a `ProposalResponsePayload`.
///
/// # Errors
/// Names the part that does not decode.
pub fn chaincode_action(response_payload: Bytes) -> Result<protos::ChaincodeAction, EnvelopeError> {
    let payload: protos::ProposalResponsePayload = decode("ProposalResponsePayload", response_payload)?;
    decode("ChaincodeAction", payload.extension)
}

/// The chaincode action of the (first) action of a transaction, given the payload of its envelope.
///
/// # Errors
/// Names the part that is missing or does not decode.
pub fn transaction_action(payload: Bytes) -> Result<protos::ChaincodeAction, EnvelopeError> {
    let (payload, _, _) = open_payload(payload)?;
    let transaction: protos::Transaction = decode("Transaction", payload.data)?;
    let action = transaction
        .actions
        .into_iter()
        .next()
        .ok_or(EnvelopeError::Missing("TransactionAction"))?;
    let action: protos::ChaincodeActionPayload = decode("ChaincodeActionPayload", action.payload)?;
    let endorsed = action
        .action
        .ok_or(EnvelopeError::Missing("ChaincodeEndorsedAction"))?;
    chaincode_action(endorsed.proposal_response_payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal() -> protos::Proposal {
        let header = common::Header {
            channel_header: Bytes::from_static(&[0x08, 0x03]),
            signature_header: Bytes::from_static(&[0x0a, 0x01, 0x41]),
        };
        let payload = protos::ChaincodeProposalPayload {
            input: Bytes::from_static(b"input"),
            transient_map: [("secret".to_owned(), Bytes::from_static(b"s3"))].into(),
        };
        protos::Proposal {
            header: header.encode_to_vec().into(),
            payload: payload.encode_to_vec().into(),
            extension: Bytes::new(),
        }
    }

    #[test]
    fn the_envelope_is_what_the_specification_lists() {
        let endorsement = protos::Endorsement {
            endorser: Bytes::from_static(b"e"),
            signature: Bytes::from_static(b"g"),
        };
        let bytes = transaction_payload(&proposal(), Bytes::from_static(b"prp"), vec![endorsement]).unwrap();
        // Written out by hand: Payload{header{..}, data{actions[{header, payload{cpp{input}, action{prp, endorsement}}}]}}
        let cpp = [&[0x0a, 0x05][..], b"input"].concat();
        let endorsed = [
            &[0x0a, 3][..],
            b"prp",
            &[0x12, 6, 0x0a, 1],
            b"e",
            &[0x12, 1],
            b"g",
        ]
        .concat();
        let action = [&[0x0a, 7][..], &cpp, &[0x12, 13], &endorsed].concat();
        let tx_action = [&[0x0a, 3, 0x0a, 1, 0x41, 0x12, 24][..], &action].concat();
        let tx = [&[0x0a, 31][..], &tx_action].concat();
        let header = [0x0a, 2, 0x08, 0x03, 0x12, 3, 0x0a, 1, 0x41];
        let expected = [&[0x0a, 9][..], &header, &[0x12, 33], &tx].concat();
        assert_eq!(hex::encode(bytes), hex::encode(expected));
    }

    #[test]
    fn a_proposal_without_header_is_refused() {
        let refused = transaction_payload(&protos::Proposal::default(), Bytes::new(), Vec::new());
        assert_eq!(refused, Err(EnvelopeError::Missing("Header")));
    }

    #[test]
    fn the_answer_is_found_again() {
        let action = protos::ChaincodeAction {
            response: Some(protos::Response {
                status: 200,
                message: String::new(),
                payload: Bytes::from_static(b"done"),
            }),
            ..Default::default()
        };
        let prp = protos::ProposalResponsePayload {
            proposal_hash: Bytes::from_static(b"hash"),
            extension: action.encode_to_vec().into(),
        };
        let payload = transaction_payload(&proposal(), prp.encode_to_vec().into(), Vec::new()).unwrap();
        assert_eq!(transaction_action(payload).unwrap(), action);
    }
}
