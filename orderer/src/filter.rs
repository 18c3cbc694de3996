//! Which envelopes are let in (spec 05 §1, §1.1), and what a refused submitter is told.

use bytes::Bytes;
use prost::Message;
use selvedge_channel::{Bundle, Level};
use selvedge_msp::Certificate;
use selvedge_msp::policy::SignedData;
use selvedge_proto::{OpenEnvelope, common, msp};

/// Answer to an envelope that is not ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: common::Status,
    pub(crate) info: String,
}

impl Refusal {
    pub(crate) fn new(status: common::Status, info: impl Into<String>) -> Self {
        Self {
            status,
            info: info.into(),
        }
    }

    pub(crate) fn bad(info: impl Into<String>) -> Self {
        Self::new(common::Status::BadRequest, info)
    }

    pub(crate) fn unavailable(info: impl Into<String>) -> Self {
        Self::new(common::Status::ServiceUnavailable, info)
    }
}

/// How an envelope is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Batched as it is.
    Normal,
    /// Turned into a CONFIG transaction by the leader.
    ConfigUpdate,
}

/// Decides by the channel header how an envelope is handled.
pub(crate) fn route(header: &common::ChannelHeader) -> Result<Kind, Refusal> {
    match common::HeaderType::try_from(header.r#type) {
        Ok(common::HeaderType::ConfigUpdate) => Ok(Kind::ConfigUpdate),
        Ok(common::HeaderType::Config) => Err(Refusal::bad(
            "message is of type that cannot be processed directly: CONFIG transactions are made by the orderer from a \
             CONFIG_UPDATE",
        )),
        Ok(common::HeaderType::OrdererTransaction) => {
            Err(Refusal::bad("message is of type that is no longer supported"))
        }
        _ => Ok(Kind::Normal),
    }
}

/// Size that the limits of a channel count.
pub(crate) fn size(envelope: &common::Envelope) -> usize {
    envelope.payload.len() + envelope.signature.len()
}

/// Unix time in seconds.
pub(crate) fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_secs()).ok())
        .unwrap_or(i64::MAX)
}

/// Second at which the creator's certificate expires, if there is a certificate to be read.
pub(crate) fn creator_expiry(bundle: &Bundle, creator: &Bytes) -> Option<i64> {
    // Members of the channel are known already; the certificate of anybody else is read.
    if let Ok(known) = bundle.msps().deserialize(creator) {
        return Some(known.certificate().not_after());
    }
    let identity = msp::SerializedIdentity::decode(creator.clone()).ok()?;
    let certificate = Certificate::from_pem(&identity.id_bytes).ok()?;
    Some(certificate.not_after())
}

/// What the policies judge of an opened envelope.
pub(crate) fn signed_data(open: &OpenEnvelope) -> SignedData {
    SignedData {
        data: vec![open.payload_bytes.clone()],
        identity: open.signature_header.creator.clone(),
        signature: open.signature.clone(),
    }
}

/// The size limit alone; a CONFIG transaction that the orderer made must keep it too.
pub(crate) fn check_size(bundle: &Bundle, envelope: &common::Envelope) -> Result<(), Refusal> {
    if envelope.payload.is_empty() {
        return Err(Refusal::bad("Message was empty"));
    }
    let orderer = bundle
        .orderer()
        .ok_or_else(|| Refusal::unavailable("the channel has no ordering configuration"))?;
    let limit = u64::from(orderer.batch_size.absolute_max_bytes);
    let size = size(envelope);
    if u64::try_from(size).map_or(true, |s| s > limit) {
        return Err(Refusal::bad(format!(
            "message payload is {size} bytes and exceeds maximum allowed {limit} bytes"
        )));
    }
    Ok(())
}

/// Runs the filters over an envelope, cheapest first: size, the creator's expiry, and the writers' policy.
pub(crate) fn check(
    bundle: &Bundle,
    envelope: &common::Envelope,
    open: &OpenEnvelope,
    kind: Kind,
    now: i64,
) -> Result<(), Refusal> {
    check_size(bundle, envelope)?;
    let expires = bundle
        .orderer()
        .is_some_and(|o| o.capabilities.at_least(Level::V1_1));
    if expires
        && let Some(expiry) = creator_expiry(bundle, &open.signature_header.creator)
        && expiry < now
    {
        return Err(Refusal::bad(
            "broadcast client identity expired: enrol again to get a new certificate",
        ));
    }
    let maintenance = bundle.orderer().is_some_and(|o| o.in_maintenance());
    let policy = if maintenance {
        "/Channel/Orderer/Writers"
    } else {
        "/Channel/Writers"
    };
    bundle
        .evaluate_signed(policy, &[signed_data(open)])
        .map_err(|refusal| {
            Refusal::new(common::Status::Forbidden, format!("{refusal}: permission denied"))
        })?;
    if envelope.signature.is_empty() {
        // Peers refuse whole blocks with such an envelope (spec 02 §6).
        return Err(Refusal::bad("the envelope carries no signature"));
    }
    if maintenance && kind == Kind::Normal {
        return Err(Refusal::unavailable(
            "the channel is in maintenance mode: normal transactions are not accepted",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_by_header_type() {
        let route_type = |r#type: i32| {
            route(&common::ChannelHeader {
                r#type,
                ..Default::default()
            })
        };
        assert_eq!(route_type(2), Ok(Kind::ConfigUpdate));
        for normal in [0, 3, 5, 77] {
            assert_eq!(route_type(normal), Ok(Kind::Normal), "type {normal}");
        }
        for refused in [1, 4] {
            let refusal = route_type(refused).unwrap_err();
            assert_eq!(refusal.status, common::Status::BadRequest, "type {refused}");
        }
    }
}
