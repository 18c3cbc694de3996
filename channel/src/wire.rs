//! Opening envelopes as Fabric does where only their channel header and data count: the creator's header is not looked at.

use selvedge_proto::{Bytes, EnvelopeError, Message, common, go_compat, prost};

fn decode<M>(part: &'static str, bytes: Bytes) -> Result<M, EnvelopeError>
where
    M: Message + prost::Name + Default,
{
    go_compat::decode(bytes).map_err(|e| EnvelopeError::Decode {
        part,
        why: e.to_string(),
    })
}

/// Channel header and data of an envelope.
pub(crate) fn open(envelope: &common::Envelope) -> Result<(common::ChannelHeader, Bytes), EnvelopeError> {
    let payload: common::Payload = decode("Payload", envelope.payload.clone())?;
    let header = payload.header.ok_or(EnvelopeError::Missing("Header"))?;
    Ok((decode("ChannelHeader", header.channel_header)?, payload.data))
}
