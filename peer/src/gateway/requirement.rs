//! What a set of endorsers must satisfy, before anyone has signed anything.
//!
//! A policy speaks of signers; a plan speaks of peers that have not signed yet. Which principals a peer will satisfy is
//! known beforehand: its organisation from the configuration, and that it is a peer. The rules are those of spec 02 §14,
//! the greedy assignment included, so that what a plan promises holds at validation.

use selvedge_channel::{Bundle, names};
use selvedge_msp::Principal;
use selvedge_proto::common::{
    self, ImplicitMetaPolicy, SignaturePolicyEnvelope, implicit_meta_policy, msp_role::MspRoleType,
    signature_policy,
};
use selvedge_proto::{go_compat, protos};

/// Levels of policies below policies that are followed.
const MAX_DEPTH: usize = 64;

/// A policy, ready to be tried on organisations' peers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Requirement {
    /// A signature policy.
    Signatures {
        rule: common::SignaturePolicy,
        principals: Vec<Principal>,
    },
    /// So many of these.
    Some { threshold: usize, of: Vec<Requirement> },
    /// Cannot be met; why.
    Never(String),
}

/// One endorser in a plan, by its organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signer<'a> {
    pub(crate) msp_id: &'a str,
    /// Name of the peer OU in its MSP; empty when NodeOUs are off.
    pub(crate) peer_unit: &'a str,
}

impl Signer<'_> {
    /// Whether a peer of this organisation satisfies a principal (spec 02 §13.5). Principals that name one certificate are
    /// not counted on: nobody knows yet which certificate will sign.
    pub(crate) fn satisfies(&self, principal: &Principal) -> bool {
        match principal {
            Principal::Role { msp_id, role } => {
                msp_id == self.msp_id
                    && match role {
                        MspRoleType::Member => true,
                        MspRoleType::Peer => !self.peer_unit.is_empty(),
                        _ => false,
                    }
            }
            Principal::OrganizationUnit(unit) => {
                unit.msp_identifier == self.msp_id
                    && !self.peer_unit.is_empty()
                    && unit.organizational_unit_identifier == self.peer_unit
            }
            Principal::Anonymity { nominal } => *nominal,
            Principal::Combined(parts) => parts.iter().all(|part| self.satisfies(part)),
            _ => false,
        }
    }
}

impl Requirement {
    /// A signature policy; one that does not compile can never be met.
    pub(crate) fn of_signature_policy(envelope: &SignaturePolicyEnvelope) -> Self {
        if let Err(why) = selvedge_msp::SignaturePolicy::compile(envelope) {
            return Self::Never(why.to_string());
        }
        match &envelope.rule {
            Some(rule) => Self::Signatures {
                rule: rule.clone(),
                principals: envelope.identities.iter().map(Principal::decode).collect(),
            },
            None => Self::Never("the signature policy has no rule".into()),
        }
    }

    /// A policy of the channel configuration by its path; a relative one starts at the root group, as in
    /// [`Bundle::policy`].
    pub(crate) fn of_channel_policy(bundle: &Bundle, path: &str) -> Self {
        if path.starts_with('/') {
            Self::at(bundle, path, MAX_DEPTH)
        } else {
            Self::at(bundle, &format!("/{}/{path}", selvedge_channel::ROOT), MAX_DEPTH)
        }
    }

    fn at(bundle: &Bundle, path: &str, depth: usize) -> Self {
        let missing = || Self::Never(format!("policy {path} not found"));
        let Some(depth) = depth.checked_sub(1) else {
            return Self::Never(format!("policy {path} is nested too deeply"));
        };
        let Some((group_path, name)) = path.rsplit_once('/') else {
            return missing();
        };
        let Some(group) = group_at(bundle, group_path) else {
            return missing();
        };
        let Some(policy) = group.policies.get(name).and_then(|p| p.policy.as_ref()) else {
            return missing();
        };
        match common::policy::PolicyType::try_from(policy.r#type) {
            Ok(common::policy::PolicyType::Signature) => {
                match go_compat::decode::<SignaturePolicyEnvelope>(policy.value.clone()) {
                    Ok(envelope) => Self::of_signature_policy(&envelope),
                    Err(why) => Self::Never(format!("policy {path} does not decode: {why}")),
                }
            }
            Ok(common::policy::PolicyType::ImplicitMeta) => {
                match go_compat::decode::<ImplicitMetaPolicy>(policy.value.clone()) {
                    Ok(meta) => Self::of_implicit_meta(bundle, group_path, group, &meta, depth),
                    Err(why) => Self::Never(format!("policy {path} does not decode: {why}")),
                }
            }
            _ => Self::Never(format!("policy {path} is of a type that nobody can satisfy")),
        }
    }

    fn of_implicit_meta(
        bundle: &Bundle,
        group_path: &str,
        group: &common::ConfigGroup,
        meta: &ImplicitMetaPolicy,
        depth: usize,
    ) -> Self {
        let mut children: Vec<&String> = group.groups.keys().collect();
        children.sort();
        let of: Vec<Self> = children
            .into_iter()
            .map(|child| {
                Self::at(
                    bundle,
                    &format!("{group_path}/{child}/{}", meta.sub_policy),
                    depth,
                )
            })
            .collect();
        let threshold = if of.is_empty() {
            0
        } else {
            match implicit_meta_policy::Rule::try_from(meta.rule) {
                Ok(implicit_meta_policy::Rule::Any) => 1,
                Ok(implicit_meta_policy::Rule::All) => of.len(),
                Ok(implicit_meta_policy::Rule::Majority) => of.len() / 2 + 1,
                Err(_) => return Self::Never(format!("the rule of policy {} is unknown", meta.sub_policy)),
            }
        };
        Self::Some { threshold, of }
    }

    /// The endorsement policy in a chaincode definition or collection (spec 03 §4).
    pub(crate) fn of_application_policy(bundle: &Bundle, policy: &protos::ApplicationPolicy) -> Self {
        use protos::application_policy::Type;
        match &policy.r#type {
            Some(Type::SignaturePolicy(envelope)) => Self::of_signature_policy(envelope),
            Some(Type::ChannelConfigPolicyReference(path)) => Self::of_channel_policy(bundle, path),
            None => Self::Never("the endorsement policy is empty".into()),
        }
    }

    /// The policy of the `_lifecycle` namespace (spec 03 §4).
    pub(crate) fn of_lifecycle(bundle: &Bundle) -> Self {
        let path = format!("/Channel/{}/{}", names::APPLICATION, names::LIFECYCLE_ENDORSEMENT);
        if bundle.policy(&path).is_some() {
            return Self::of_channel_policy(bundle, &path);
        }
        let msp_ids = bundle.application().map(|a| a.msp_ids()).unwrap_or_default();
        Self::Some {
            threshold: msp_ids.len() / 2 + 1,
            of: msp_ids.into_iter().map(Self::of_member).collect(),
        }
    }

    /// Any member of an organisation.
    pub(crate) fn of_member(msp_id: &str) -> Self {
        Self::Signatures {
            rule: selvedge_msp::policy::dsl::signed_by(0),
            principals: vec![Principal::role(msp_id, MspRoleType::Member)],
        }
    }

    /// Whether endorsements of these, in this order, meet it.
    pub(crate) fn is_met_by(&self, signers: &[Signer<'_>]) -> bool {
        match self {
            Self::Never(_) => false,
            Self::Some { threshold, of } => {
                of.iter().filter(|part| part.is_met_by(signers)).count() >= *threshold
            }
            Self::Signatures { rule, principals } => {
                let mut used = vec![false; signers.len()];
                met(rule, principals, signers, &mut used, MAX_DEPTH)
            }
        }
    }

    /// In how many ways a signer counts; used to put those first that leave the more able ones to the choosier rules.
    pub(crate) fn uses_of(&self, signer: &Signer<'_>) -> usize {
        match self {
            Self::Never(_) => 0,
            Self::Some { of, .. } => of.iter().map(|part| part.uses_of(signer)).sum(),
            Self::Signatures { principals, .. } => principals.iter().filter(|p| signer.satisfies(p)).count(),
        }
    }

    /// Why it can never be met, if so.
    pub(crate) fn impossible(&self) -> Option<&str> {
        match self {
            Self::Never(why) => Some(why),
            Self::Some { .. } | Self::Signatures { .. } => None,
        }
    }
}

/// One node of a signature policy, with greedy use of signers and no way back (spec 02 §14.1).
fn met(
    rule: &common::SignaturePolicy,
    principals: &[Principal],
    signers: &[Signer<'_>],
    used: &mut Vec<bool>,
    depth: usize,
) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    match &rule.r#type {
        Some(signature_policy::Type::SignedBy(index)) => {
            let principal = usize::try_from(*index).ok().and_then(|i| principals.get(i));
            let Some(principal) = principal else {
                return false;
            };
            for (signer, used) in signers.iter().zip(used.iter_mut()) {
                if !*used && signer.satisfies(principal) {
                    *used = true;
                    return true;
                }
            }
            false
        }
        Some(signature_policy::Type::NOutOf(gate)) => {
            let mut count: i32 = 0;
            for rule in &gate.rules {
                let mut attempt = used.clone();
                if met(rule, principals, signers, &mut attempt, depth) {
                    *used = attempt;
                    count = count.saturating_add(1);
                }
            }
            count >= gate.n
        }
        None => false,
    }
}

/// The group at a path such as `/Channel/Application/Org1`.
fn group_at<'b>(bundle: &'b Bundle, path: &str) -> Option<&'b common::ConfigGroup> {
    let mut parts = path.strip_prefix('/')?.split('/');
    if parts.next() != Some(selvedge_channel::ROOT) {
        return None;
    }
    let root = bundle.config().channel_group.as_ref()?;
    parts.try_fold(root, |group, name| group.groups.get(name))
}
