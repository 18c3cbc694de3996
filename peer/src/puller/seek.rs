//! The request for blocks: a signed envelope with a SeekInfo (spec 02 §2, §12; 04 §4).

use std::time::SystemTime;

use bytes::Bytes;
use prost::Message;
use rand::RngCore;
use selvedge_msp::{KeyError, SigningIdentity};
use selvedge_proto::{NONCE_LEN, common, orderer};

fn position(number: u64) -> orderer::SeekPosition {
    orderer::SeekPosition {
        r#type: Some(orderer::seek_position::Type::Specified(orderer::SeekSpecified {
            number,
        })),
    }
}

/// Asks for all blocks from `start` on, without end. `tls_cert_hash` is the SHA-256 of the client's TLS certificate, empty
/// without TLS.
pub(super) fn envelope(
    channel_id: &str,
    start: u64,
    identity: &SigningIdentity,
    tls_cert_hash: Bytes,
) -> Result<common::Envelope, KeyError> {
    let mut nonce = vec![0; NONCE_LEN];
    rand::rng().fill_bytes(&mut nonce);
    let seek = orderer::SeekInfo {
        start: Some(position(start)),
        stop: Some(position(u64::MAX)),
        behavior: orderer::seek_info::SeekBehavior::BlockUntilReady.into(),
        error_response: orderer::seek_info::SeekErrorResponse::Strict.into(),
        ..Default::default()
    };
    let channel_header = common::ChannelHeader {
        r#type: common::HeaderType::DeliverSeekInfo.into(),
        timestamp: Some(SystemTime::now().into()),
        channel_id: channel_id.to_owned(),
        tls_cert_hash,
        ..Default::default()
    };
    let signature_header = common::SignatureHeader {
        creator: identity.creator().clone(),
        nonce: nonce.into(),
    };
    let payload: Bytes = common::Payload {
        header: Some(common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: seek.encode_to_vec().into(),
    }
    .encode_to_vec()
    .into();
    let signature = identity.sign(&payload)?;
    Ok(common::Envelope { payload, signature })
}
