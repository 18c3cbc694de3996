//! The checks that a proposal passes before anything runs (spec 08 §1, 02 §11).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use selvedge_msp::policy::Signers;
use selvedge_msp::{Certificate, Identity, SignedData};
use selvedge_proto::{common, msp};

use super::unpack::Unpacked;
use crate::channel::PeerChannel;
use crate::context::PeerContext;
use crate::scc;

fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn text(seconds: i64) -> String {
    prost_types::Timestamp { seconds, nanos: 0 }.to_string()
}

/// The filters in front of the endorser: an expired client certificate, and a clock that is off.
pub(super) fn filter(
    context: &dyn PeerContext,
    channel_header: &common::ChannelHeader,
    signature_header: &common::SignatureHeader,
    now: SystemTime,
    window: Duration,
) -> Result<(), String> {
    let now = unix_seconds(now);
    if let Some(certificate) = certificate_of(context, &channel_header.channel_id, signature_header)
        && now > certificate.not_after()
    {
        return Err(format!(
            "proposal client identity expired: certificate of {} was valid until {}, it is {}; enroll again",
            certificate.subject(),
            text(certificate.not_after()),
            text(now)
        ));
    }
    let timestamp = channel_header.timestamp.unwrap_or_default();
    if timestamp.seconds.abs_diff(now) > window.as_secs() {
        return Err(format!(
            "request unauthorized due to incorrect timestamp {}, peer time {}, peer.authentication.timewindow {window:?}: \
             set the clock of the client",
            text(timestamp.seconds),
            text(now)
        ));
    }
    Ok(())
}

/// The creator's certificate: members of the channel are known already, that of anybody else is read.
fn certificate_of(
    context: &dyn PeerContext,
    channel: &str,
    header: &common::SignatureHeader,
) -> Option<Certificate> {
    let known = context.channel(channel).and_then(|channel| {
        let identity = channel.bundle().msps().deserialize(&header.creator);
        identity.ok()
    });
    if let Some(identity) = known {
        return Some(identity.certificate().clone());
    }
    let identity = msp::SerializedIdentity::decode(header.creator.clone()).ok()?;
    Certificate::from_pem(&identity.id_bytes).ok()
}

/// Checks headers and transaction id, which are right or wrong whatever the channel.
pub(super) fn validate(proposal: &Unpacked) -> Result<(), String> {
    validate_parts(proposal).map_err(|why| format!("error validating proposal: {why}"))
}

fn validate_parts(proposal: &Unpacked) -> Result<(), String> {
    let header = &proposal.channel_header;
    let endorser = common::HeaderType::EndorserTransaction as i32;
    let config = common::HeaderType::Config as i32;
    if header.r#type != endorser && header.r#type != config {
        let name = common::HeaderType::try_from(header.r#type)
            .map_or_else(|_| header.r#type.to_string(), |t| t.as_str_name().to_owned());
        return Err(format!("invalid header type {name}"));
    }
    if header.epoch != 0 {
        return Err("epoch is non-zero".to_owned());
    }
    let signature_header = &proposal.signature_header;
    if signature_header.nonce.is_empty() {
        return Err("nonce is empty".to_owned());
    }
    if signature_header.creator.is_empty() {
        return Err("creator is empty".to_owned());
    }
    let expected = selvedge_proto::compute_tx_id(&signature_header.nonce, &signature_header.creator);
    if header.tx_id != expected {
        return Err(format!(
            "incorrectly computed txid '{}' -- expected '{expected}'",
            header.tx_id
        ));
    }
    Ok(())
}

/// The proposal as policies look at it.
pub(super) fn signed_data(proposal: &Unpacked) -> SignedData {
    SignedData {
        data: vec![proposal.proposal_bytes.clone()],
        identity: proposal.signature_header.creator.clone(),
        signature: proposal.signature.clone(),
    }
}

/// No transaction of this id stands on the chain yet.
pub(super) fn is_new(proposal: &Unpacked, channel: &PeerChannel) -> Result<(), String> {
    let tx_id = &proposal.channel_header.tx_id;
    let known = channel
        .ledger()
        .contains_tx(tx_id)
        .map_err(|e| format!("cannot look up transaction {tx_id}: {e}"))?;
    if known {
        return Err(format!(
            "duplicate transaction found [{tx_id}]. Creator [{}]",
            hex::encode(&proposal.signature_header.creator)
        ));
    }
    Ok(())
}

/// The creator may propose on the channel. System chaincodes judge their callers themselves.
pub(super) fn may_propose(
    proposal: &Unpacked,
    bundle: &selvedge_channel::Bundle,
    creator: &Arc<Identity>,
) -> Result<(), String> {
    const RESOURCE: &str = "peer/Propose";
    if scc::is_system(&proposal.chaincode) {
        return Ok(());
    }
    let policy = bundle
        .acl_policy(RESOURCE)
        .ok_or_else(|| format!("Unmapped policy for resource name: {RESOURCE}"))?;
    bundle
        .evaluate(&policy, &Signers::from_verified(vec![creator.clone()]))
        .map_err(|e| format!("failed evaluating policy on signed data during check policy [{policy}]: [{e}]"))
}
