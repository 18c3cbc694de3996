//! Envelopes that the orderer itself makes.

use bytes::Bytes;
use prost::Message;
use rand::RngCore;
use selvedge_msp::{KeyError, SigningIdentity};
use selvedge_proto::{NONCE_LEN, common};

/// Wraps `data` in a payload with these headers and signs it.
pub(crate) fn signed(
    signer: &SigningIdentity,
    channel_header: &common::ChannelHeader,
    data: Bytes,
) -> Result<common::Envelope, KeyError> {
    let mut nonce = vec![0; NONCE_LEN];
    rand::rng().fill_bytes(&mut nonce);
    let signature_header = common::SignatureHeader {
        creator: signer.creator().clone(),
        nonce: nonce.into(),
    };
    let payload: Bytes = common::Payload {
        header: Some(common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data,
    }
    .encode_to_vec()
    .into();
    Ok(common::Envelope {
        signature: signer.sign(&payload)?,
        payload,
    })
}
