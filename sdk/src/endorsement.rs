//! Whose endorsements a chaincode's transactions need, and the fewest peers that can give them.
//!
//! The policy comes from the committed definition of the chaincode (spec 08 §5); where that refers to a policy of the
//! channel, from the channel's configuration. What key-level policies and collections ask on top shows only when the peers
//! judge the transaction.

use prost::Message;
use selvedge_msp::SigningIdentity;
use selvedge_proto::{common, protos};

use crate::channel_info::ChannelInfo;
use crate::error::Error;
use crate::lifecycle;
use crate::peer::PeerClient;

/// Peers among which the fewest are looked for at most; with more, all are asked.
const MAX_PEERS: usize = 12;
/// Nesting of a policy that is followed.
const MAX_DEPTH: usize = 16;

/// The endorsement policy of a chaincode on a channel, as its committed definition says.
///
/// # Errors
/// The peer refuses or cannot be reached, there is no such chaincode, or the policy is of no known kind.
pub async fn endorsement_policy(
    peer: &PeerClient,
    identity: &SigningIdentity,
    info: &ChannelInfo,
    chaincode: &str,
) -> Result<common::SignaturePolicyEnvelope, Error> {
    let definition = lifecycle::query_committed(peer, identity, &info.channel, chaincode)
        .await?
        .ok_or_else(|| {
            Error::Request(format!(
                "chaincode {chaincode} is not defined on channel {}",
                info.channel
            ))
        })?;
    policy_of(info, chaincode, definition.validation_parameter)
}

fn policy_of(
    info: &ChannelInfo,
    chaincode: &str,
    parameter: bytes::Bytes,
) -> Result<common::SignaturePolicyEnvelope, Error> {
    use protos::application_policy::Type;
    let wrong = |why: String| Error::ChannelConfig {
        channel: info.channel.clone(),
        why: format!("endorsement policy of chaincode {chaincode}: {why}"),
    };
    let policy = protos::ApplicationPolicy::decode(parameter).map_err(|e| wrong(e.to_string()))?;
    match policy.r#type {
        Some(Type::SignaturePolicy(envelope)) => Ok(envelope),
        Some(Type::ChannelConfigPolicyReference(path)) => info.application_policy(&path),
        None => Err(wrong("it is of no known kind".to_owned())),
    }
}

/// Puts the policies of organisations together as an implicit meta policy does (spec 03 §6): so many of them must be
/// satisfied.
pub(crate) fn combined(
    threshold: usize,
    parts: Vec<common::SignaturePolicyEnvelope>,
) -> common::SignaturePolicyEnvelope {
    let mut identities = Vec::new();
    let mut rules = Vec::new();
    for part in parts {
        let offset = i32::try_from(identities.len()).unwrap_or(i32::MAX);
        identities.extend(part.identities);
        rules.extend(part.rule.map(|rule| shifted(rule, offset, 0)));
    }
    common::SignaturePolicyEnvelope {
        version: 0,
        rule: Some(n_out_of(i32::try_from(threshold).unwrap_or(i32::MAX), rules)),
        identities,
    }
}

fn n_out_of(n: i32, rules: Vec<common::SignaturePolicy>) -> common::SignaturePolicy {
    selvedge_msp::policy::dsl::n_out_of(n, rules)
}

fn shifted(rule: common::SignaturePolicy, offset: i32, depth: usize) -> common::SignaturePolicy {
    use common::signature_policy::Type;
    let kind = rule.r#type.map(|kind| match kind {
        Type::SignedBy(index) => Type::SignedBy(index.saturating_add(offset)),
        Type::NOutOf(mut inner) if depth < MAX_DEPTH => {
            inner.rules = inner
                .rules
                .into_iter()
                .map(|rule| shifted(rule, offset, depth + 1))
                .collect();
            Type::NOutOf(inner)
        }
        other @ Type::NOutOf(_) => other,
    });
    common::SignaturePolicy { r#type: kind }
}

/// The fewest of `candidates` (organisations of peers, the preferred first) that satisfy the policy together with peers of
/// `given`; none if all of them do not, as far as that can be told from organisations.
pub(crate) fn fewest(
    policy: &common::SignaturePolicyEnvelope,
    given: &[&str],
    candidates: &[&str],
) -> Option<Vec<usize>> {
    let count = candidates.len();
    if count > MAX_PEERS {
        let all: Vec<usize> = (0..count).collect();
        return enough(policy, given, candidates, &all).then_some(all);
    }
    let mut choices: Vec<Vec<usize>> = (0_u32..1 << count)
        .map(|mask| (0..count).filter(|i| mask & (1 << i) != 0).collect())
        .collect();
    // Fewer first; among as many, those that are preferred.
    choices.sort_by(|a: &Vec<usize>, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    choices
        .into_iter()
        .find(|choice| enough(policy, given, candidates, choice))
}

fn enough(
    policy: &common::SignaturePolicyEnvelope,
    given: &[&str],
    candidates: &[&str],
    choice: &[usize],
) -> bool {
    let Some(rule) = &policy.rule else { return false };
    let signers: Vec<&str> = given
        .iter()
        .copied()
        .chain(choice.iter().filter_map(|i| candidates.get(*i).copied()))
        .collect();
    let mut used = vec![false; signers.len()];
    satisfied(rule, &policy.identities, &signers, &mut used, 0)
}

/// Fabric's rule (spec 03 §5): a signer counts once on a way through the policy.
fn satisfied(
    rule: &common::SignaturePolicy,
    principals: &[selvedge_proto::common::MspPrincipal],
    signers: &[&str],
    used: &mut Vec<bool>,
    depth: usize,
) -> bool {
    use common::signature_policy::Type;
    match &rule.r#type {
        Some(Type::SignedBy(index)) => {
            let principal = usize::try_from(*index).ok().and_then(|i| principals.get(i));
            let Some(org) = principal.and_then(org_of) else {
                return false;
            };
            for (signer, used) in signers.iter().zip(used.iter_mut()) {
                if !*used && *signer == org {
                    *used = true;
                    return true;
                }
            }
            false
        }
        Some(Type::NOutOf(inner)) if depth < MAX_DEPTH => {
            let mut count = 0;
            for rule in &inner.rules {
                let mut tried = used.clone();
                if satisfied(rule, principals, signers, &mut tried, depth + 1) {
                    count += 1;
                    *used = tried;
                }
            }
            count >= inner.n
        }
        _ => false,
    }
}

/// The organisation of whose peers one can be this principal.
fn org_of(principal: &common::MspPrincipal) -> Option<String> {
    use common::msp_principal::Classification;
    use common::msp_role::MspRoleType;
    match Classification::try_from(principal.principal_classification).ok()? {
        Classification::Role => {
            let role = common::MspRole::decode(principal.principal.clone()).ok()?;
            let kind = MspRoleType::try_from(role.role).ok()?;
            matches!(kind, MspRoleType::Member | MspRoleType::Peer).then_some(role.msp_identifier)
        }
        Classification::OrganizationUnit => common::OrganizationUnit::decode(principal.principal.clone())
            .ok()
            .map(|unit| unit.msp_identifier),
        Classification::Identity => {
            selvedge_proto::msp::SerializedIdentity::decode(principal.principal.clone())
                .ok()
                .map(|identity| identity.mspid)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use selvedge_msp::policy::dsl;

    use super::*;

    fn choose(policy: &str, given: &[&str], candidates: &[&str]) -> Option<Vec<usize>> {
        fewest(&dsl::parse(policy).unwrap(), given, candidates)
    }

    #[test]
    fn the_fewest_and_preferred_are_asked() {
        let peers = ["A", "B", "C"];
        assert_eq!(choose("OR('A.peer','B.peer')", &[], &peers), Some(vec![0]));
        assert_eq!(choose("AND('A.peer','B.peer')", &[], &peers), Some(vec![0, 1]));
        assert_eq!(
            choose("OutOf(2,'A.peer','B.member','C.peer')", &[], &["C", "B"]),
            Some(vec![0, 1])
        );
        assert_eq!(
            choose("AND('A.peer','B.peer')", &["A"], &["C", "B"]),
            Some(vec![1])
        );
        assert_eq!(choose("OR('A.peer','B.peer')", &["A"], &["B"]), Some(vec![]));
        assert_eq!(choose("AND('A.peer','D.peer')", &[], &peers), None);
        assert_eq!(choose("OR('A.admin')", &[], &peers), None, "no peer is an admin");
    }

    #[test]
    fn one_peer_does_not_sign_twice() {
        let twice = "OutOf(2,'A.peer','A.peer')";
        assert_eq!(choose(twice, &[], &["A"]), None);
        assert_eq!(choose(twice, &[], &["A", "B", "A"]), Some(vec![0, 2]));
    }

    #[test]
    fn policies_of_organisations_are_put_together() {
        let parts = ["OR('A.peer')", "OR('B.peer')", "AND('C.peer','A.member')"];
        let parts = parts.map(|text| dsl::parse(text).unwrap()).to_vec();
        let majority = combined(2, parts.clone());
        assert_eq!(fewest(&majority, &[], &["C", "A", "B"]), Some(vec![1, 2]));
        assert_eq!(fewest(&combined(1, parts), &[], &["C", "B"]), Some(vec![1]));
    }
}
