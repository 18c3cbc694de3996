//! What callers hear of a channel that they are not members of: what they would hear if this peer had not joined it.
//!
//! Fabric tells the two apart in most of its services. Here the answer depends on the caller alone: one who proves to be a
//! member of any organisation that this peer knows is told that there is no such channel; one who proves nothing is denied
//! access; whether the channel exists or not.

use selvedge_channel::{Bundle, NotAuthenticated, authenticate, authenticate_in_any};
use selvedge_msp::SignedData;

use crate::context::PeerContext;

/// A caller who is no member of the channel that it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// A member of some organisation that this peer knows, so: there is no such channel.
    Known,
    /// Nobody that this peer knows; why, in words that say nothing of any channel.
    Nobody(String),
}

/// Whether a request was signed by a valid member of one of the channel's organisations.
pub(crate) fn is_member(bundle: &Bundle, signed: &SignedData) -> bool {
    authenticate(bundle.msps(), signed).is_ok()
}

/// Judges a caller who asked for `channel` and is no member of it, or of a channel that is not there.
pub(crate) fn judge(context: &dyn PeerContext, channel: &str, signed: &SignedData) -> Stranger {
    let bundles: Vec<_> = context
        .channels()
        .iter()
        .filter_map(|id| context.channel(id))
        .map(|channel| channel.bundle())
        .collect();
    let local = context.local_msp();
    let sets = std::iter::once(&*local).chain(bundles.iter().map(|b| b.msps()));
    // One whose own organisation is a member, but who is not valid there (revoked, say), is told so: the organisation may
    // know of the channel, and other channels' word for the caller does not count in this one.
    let there = context
        .channel(channel)
        .map(|asked| authenticate(asked.bundle().msps(), signed));
    let failure = match (there, authenticate_in_any(sets, signed)) {
        (Some(Err(invalid @ NotAuthenticated::Invalid { .. })), _) | (_, Err(invalid)) => invalid,
        (_, Ok(_)) => {
            tracing::info!(channel, "a caller who is no member asks for a channel");
            return Stranger::Known;
        }
    };
    tracing::info!(channel, why = %failure, "an unknown caller asks for a channel");
    Stranger::Nobody(match failure {
        NotAuthenticated::Invalid { msp_id, .. } if msp_id != context.identity().msp_id() => {
            format!("access denied: channel [{channel}] creator org [{msp_id}]")
        }
        // The own organisation may know what is wrong with its identities.
        other => format!("access denied: channel [{channel}] {other}"),
    })
}

#[cfg(test)]
#[path = "stranger_tests.rs"]
mod tests;
