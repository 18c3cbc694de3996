//! Who may use a resource of a channel (spec 08 §4).

use bytes::Bytes;
use selvedge_channel::Bundle;
use selvedge_msp::SignedData;

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
    let policy = bundle
        .acl_policy(resource)
        .ok_or_else(|| format!("Unmapped policy for resource name: {resource}"))?;
    let signed = SignedData {
        data: vec![data],
        identity,
        signature,
    };
    bundle
        .evaluate_signed(&policy, &[signed])
        .map_err(|refusal| format!("failed evaluating policy on signed data during check policy on channel [{}] with policy [{policy}]: [{refusal}]", bundle.channel_id()))
}
