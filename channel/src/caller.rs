//! Who stands behind a request, before any policy is asked.

use std::borrow::Cow;
use std::sync::Arc;

use selvedge_msp::{Identity, MspManager, SignedData};
use selvedge_proto::msp::SerializedIdentity;
use selvedge_proto::{Bytes, Message};

/// Why a request proves no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthenticated {
    /// The creator does not decode, or names an MSP that is not among these.
    #[error("creator org unknown, creator is malformed")]
    Unknown,
    /// The creator names a known MSP, and is no valid member of it or did not sign.
    #[error("creator org [{msp_id}]: {why}")]
    Invalid {
        /// The MSP that the creator names.
        msp_id: String,
        /// The first rule that was broken.
        why: String,
    },
}

/// The identity that signed a request: a valid member of one of these MSPs (spec 02 §13). A node that serves several
/// channels asks this of each, to tell a member of one from a stranger.
///
/// # Errors
/// Says what is wrong with the identity or the signature.
pub fn authenticate(msps: &MspManager, signed: &SignedData) -> Result<Arc<Identity>, NotAuthenticated> {
    let named = SerializedIdentity::decode(signed.identity.clone())
        .ok()
        .filter(|identity| msps.get(&identity.mspid).is_some());
    let msp_id = named.ok_or(NotAuthenticated::Unknown)?.mspid;
    let invalid = |why: String| NotAuthenticated::Invalid {
        msp_id: msp_id.clone(),
        why,
    };
    let identity = msps
        .deserialize(&signed.identity)
        .map_err(|e| invalid(e.to_string()))?;
    msps.validate(&identity).map_err(|e| invalid(e.to_string()))?;
    let message: Cow<'_, [u8]> = match signed.data.as_slice() {
        [one] => Cow::Borrowed(one),
        parts => Cow::Owned(parts.iter().map(Bytes::as_ref).collect::<Vec<_>>().concat()),
    };
    identity
        .verify(&message, &signed.signature)
        .map_err(|e| invalid(e.to_string()))?;
    Ok(identity)
}

/// As [`authenticate`] over several sets of MSPs: an identity that one of them knows, or else the most telling failure.
///
/// # Errors
/// None of them knows the signer.
pub fn authenticate_in_any<'m>(
    sets: impl IntoIterator<Item = &'m MspManager>,
    signed: &SignedData,
) -> Result<Arc<Identity>, NotAuthenticated> {
    let mut failure = NotAuthenticated::Unknown;
    for msps in sets {
        match authenticate(msps, signed) {
            Ok(identity) => return Ok(identity),
            Err(invalid @ NotAuthenticated::Invalid { .. }) => failure = invalid,
            Err(NotAuthenticated::Unknown) => {}
        }
    }
    Err(failure)
}
