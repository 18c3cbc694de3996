//! Who may use a resource of a channel (spec 08 §4).

use std::sync::Arc;

use bytes::Bytes;
use selvedge_channel::{Bundle, PolicyRefusal};
use selvedge_msp::policy::Signers;
use selvedge_msp::{Identity, SignedData};

/// Checks that `identity` signed `data` and satisfies the policy of `resource`.
///
/// # Errors
/// Says which policy was not met and why the signer did not count.
pub(crate) fn check(
    bundle: &Bundle,
    resource: &str,
    data: Bytes,
    identity: Bytes,
    signature: Bytes,
) -> Result<(), String> {
    let signed = SignedData {
        data: vec![data],
        identity,
        signature,
    };
    evaluate(bundle, resource, |policy| {
        bundle.evaluate_signed(policy, &[signed])
    })
}

/// As [`check`] for a caller whose signature has been verified: `caller` is what [`selvedge_channel::authenticate`] gave
/// under this configuration.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_authenticated(
    bundle: &Bundle,
    resource: &str,
    caller: Arc<Identity>,
) -> Result<(), String> {
    let signers = Signers::from_verified(vec![caller]);
    evaluate(bundle, resource, |policy| bundle.evaluate(policy, &signers))
}

fn evaluate(
    bundle: &Bundle,
    resource: &str,
    ask: impl FnOnce(&str) -> Result<(), PolicyRefusal>,
) -> Result<(), String> {
    let policy = bundle
        .acl_policy(resource)
        .ok_or_else(|| format!("Unmapped policy for resource name: {resource}"))?;
    ask(&policy).map_err(|refusal| {
        format!(
            "failed evaluating policy on signed data during check policy on channel [{}] with policy [{policy}]: [{refusal}]",
            bundle.channel_id()
        )
    })
}
