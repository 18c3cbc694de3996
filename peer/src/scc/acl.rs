//! Who may use a resource of the peer (spec 08 §4).

use selvedge_channel::Bundle;
use selvedge_channel::acl::{LocalPolicy, local_policy};
use selvedge_msp::Principal;
use selvedge_proto::common::msp_role::MspRoleType;

use super::Call;

/// Judges the creator by the channel's policy for a resource.
pub(super) fn check_channel(call: &Call<'_>, bundle: &Bundle, resource: &str) -> Result<(), String> {
    let policy = bundle
        .acl_policy(resource)
        .ok_or_else(|| format!("Unmapped policy for resource name: {resource}"))?;
    bundle
        .evaluate_signed(&policy, &[call.signed()])
        .map_err(|e| format!("failed evaluating policy on signed data during check policy [{policy}]: [{e}]"))
}

/// Judges the creator by the peer's own MSP.
pub(super) fn check_local(call: &Call<'_>, resource: &str) -> Result<(), String> {
    let (role, name) = match local_policy(resource) {
        Some(LocalPolicy::Admins) => (MspRoleType::Admin, "Admins"),
        Some(LocalPolicy::Members) => (MspRoleType::Member, "Members"),
        None => return Err(format!("Unmapped policy for resource name: {resource}")),
    };
    let own = call.context.identity();
    let msps = call.context.local_msp();
    let satisfied = msps
        .deserialize(&call.tx.creator)
        .map_err(|e| e.to_string())
        .and_then(|creator| {
            msps.satisfies(&creator, &Principal::role(own.msp_id(), role))
                .map_err(|e| e.to_string())
        });
    satisfied.map_err(|why| {
        format!(
            "Failed verifying that proposal's creator satisfies local MSP principal during channelless check policy with \
             policy [{name}]: [{why}]"
        )
    })
}
