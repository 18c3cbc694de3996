//! The tree of policies: signature policies and implicit-meta policies by path (spec 02 §14).

use std::collections::BTreeMap;
use std::fmt;

use selvedge_msp::MspManager;
use selvedge_msp::policy::{self as msp_policy, SignaturePolicy, Signers};
use selvedge_proto::{common, go_compat};

use crate::error::ConfigError;
use crate::path::{ROOT, child};

/// One policy of the channel.
#[derive(Debug)]
pub enum Policy {
    /// Principals must have signed.
    Signature(SignaturePolicy),
    /// So many of the sub-groups' policies of one name must be satisfied.
    ImplicitMeta(ImplicitMeta),
}

/// An implicit-meta policy, resolved against the group it is attached to (spec 02 §14.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImplicitMeta {
    /// Name of the policy that is asked of each sub-group.
    pub sub_policy: String,
    /// ANY, ALL or MAJORITY; `None` for a number that stands for no rule.
    pub rule: Option<common::implicit_meta_policy::Rule>,
    /// How many sub-policies must be satisfied.
    pub threshold: usize,
    /// Absolute paths of the sub-policies, one for each direct sub-group, in order. One that does not exist rejects.
    pub sub_paths: Vec<String>,
}

/// Why a policy was not satisfied. Its text says what was asked for, and why each signer did not count.
#[derive(Debug, Clone)]
pub struct PolicyRefusal {
    /// Absolute path of the policy, or what else it is (an inline signature policy).
    pub policy: String,
    /// What it missed.
    pub reason: RefusalReason,
}

/// What a refused policy missed.
#[derive(Debug, Clone)]
pub enum RefusalReason {
    /// There is no policy at the path, which means deny.
    Missing,
    /// The application policy names neither a signature policy nor a reference.
    Empty,
    /// An inline signature policy that does not compile.
    Unusable(String),
    /// A signature policy's own explanation.
    Signature(Box<msp_policy::PolicyRefusal>),
    /// An implicit-meta policy found too few satisfied sub-policies.
    ImplicitMeta {
        /// Name of the sub-policies.
        sub_policy: String,
        /// How many were satisfied.
        satisfied: usize,
        /// How many had to be.
        threshold: usize,
        /// The refusals of the others.
        refusals: Vec<PolicyRefusal>,
    },
}

impl PolicyRefusal {
    fn reason_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            RefusalReason::Missing => {
                f.write_str("the channel configuration has no such policy, so it denies")
            }
            RefusalReason::Empty => f.write_str("it names neither a signature policy nor a channel policy"),
            RefusalReason::Unusable(why) => write!(f, "it cannot be used: {why}"),
            RefusalReason::Signature(refusal) => write!(f, "{refusal}"),
            RefusalReason::ImplicitMeta {
                sub_policy,
                satisfied,
                threshold,
                refusals,
            } => {
                write!(
                    f,
                    "implicit policy evaluation failed - {satisfied} sub-policies were satisfied, but this policy \
                     requires {threshold} of the '{sub_policy}' sub-policies to be satisfied"
                )?;
                for (i, refusal) in refusals.iter().enumerate() {
                    f.write_str(if i == 0 { " [" } else { "; " })?;
                    write!(f, "{}: ", refusal.policy)?;
                    refusal.reason_text(f)?;
                }
                if refusals.is_empty() {
                    Ok(())
                } else {
                    f.write_str("]")
                }
            }
        }
    }
}

impl fmt::Display for PolicyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason_text(f)?;
        write!(f, " (policy {})", self.policy)
    }
}

impl std::error::Error for PolicyRefusal {}

/// All policies of a channel by absolute path.
#[derive(Debug, Default)]
pub(crate) struct PolicyTree {
    policies: BTreeMap<String, Policy>,
}

impl PolicyTree {
    /// Compiles every policy of the tree.
    pub(crate) fn build(root: &common::ConfigGroup) -> Result<Self, ConfigError> {
        let mut tree = Self::default();
        tree.add_group(&format!("/{ROOT}"), root)?;
        Ok(tree)
    }

    fn add_group(&mut self, path: &str, group: &common::ConfigGroup) -> Result<(), ConfigError> {
        let mut sub_groups: Vec<&String> = group.groups.keys().collect();
        sub_groups.sort_unstable();
        for (name, config_policy) in &group.policies {
            let policy_path = child(path, name);
            let message = config_policy
                .policy
                .as_ref()
                .ok_or_else(|| ConfigError::PolicyForm {
                    path: policy_path.clone(),
                    why: "it is empty".to_owned(),
                })?;
            let policy = compile(message, &policy_path, path, &sub_groups)?;
            self.policies.insert(policy_path, policy);
        }
        for (name, sub) in &group.groups {
            self.add_group(&child(path, name), sub)?;
        }
        Ok(())
    }

    /// A policy by absolute path; a relative path starts at the root group.
    pub(crate) fn get(&self, path: &str) -> Option<&Policy> {
        if path.starts_with('/') {
            self.policies.get(path)
        } else {
            self.policies.get(&child(&format!("/{ROOT}"), path))
        }
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }

    /// Whether a policy is satisfied; a missing one is not. Sub-policies are asked until enough are satisfied.
    pub(crate) fn is_satisfied(&self, path: &str, msps: &MspManager, signers: &Signers) -> bool {
        match self.get(path) {
            None => false,
            Some(Policy::Signature(policy)) => policy.is_satisfied(msps, signers),
            Some(Policy::ImplicitMeta(meta)) => {
                let mut satisfied = meta
                    .sub_paths
                    .iter()
                    .filter(|sub| self.is_satisfied(sub, msps, signers));
                if meta.rule.is_none() {
                    // Fabric counts down from a threshold of 0 and asks whether the count stands at 0 in the end.
                    return satisfied.next().is_none();
                }
                satisfied.take(meta.threshold).count() >= meta.threshold
            }
        }
    }

    /// As [`Self::is_satisfied`], explaining a refusal. The explanation costs, and is worked out for a refusal alone.
    pub(crate) fn evaluate(
        &self,
        path: &str,
        msps: &MspManager,
        signers: &Signers,
    ) -> Result<(), PolicyRefusal> {
        if self.is_satisfied(path, msps, signers) {
            Ok(())
        } else {
            Err(self.explain(path, msps, signers))
        }
    }

    fn explain(&self, path: &str, msps: &MspManager, signers: &Signers) -> PolicyRefusal {
        let reason = match self.get(path) {
            None => RefusalReason::Missing,
            Some(Policy::Signature(policy)) => policy
                .evaluate(msps, signers)
                .err()
                .map_or(RefusalReason::Missing, |refusal| {
                    RefusalReason::Signature(Box::new(refusal))
                }),
            Some(Policy::ImplicitMeta(meta)) => {
                let refused: Vec<PolicyRefusal> = meta
                    .sub_paths
                    .iter()
                    .filter(|sub| !self.is_satisfied(sub, msps, signers))
                    .map(|sub| self.explain(sub, msps, signers))
                    .collect();
                RefusalReason::ImplicitMeta {
                    sub_policy: meta.sub_policy.clone(),
                    satisfied: meta.sub_paths.len() - refused.len(),
                    threshold: meta.threshold,
                    refusals: refused,
                }
            }
        };
        PolicyRefusal {
            policy: path.to_owned(),
            reason,
        }
    }
}

fn compile(
    message: &common::Policy,
    path: &str,
    group: &str,
    sub_groups: &[&String],
) -> Result<Policy, ConfigError> {
    let form = |why: String| ConfigError::PolicyForm {
        path: path.to_owned(),
        why,
    };
    match common::policy::PolicyType::try_from(message.r#type) {
        Ok(common::policy::PolicyType::Signature) => {
            let envelope: common::SignaturePolicyEnvelope = go_compat::decode(message.value.clone())
                .map_err(|e| form(format!("its SignaturePolicyEnvelope does not decode: {e}")))?;
            let compiled =
                SignaturePolicy::compile_config(&envelope).map_err(|source| ConfigError::Policy {
                    path: path.to_owned(),
                    source,
                })?;
            Ok(Policy::Signature(compiled))
        }
        Ok(common::policy::PolicyType::ImplicitMeta) => {
            let meta: common::ImplicitMetaPolicy = go_compat::decode(message.value.clone())
                .map_err(|e| form(format!("its ImplicitMetaPolicy does not decode: {e}")))?;
            let rule = common::implicit_meta_policy::Rule::try_from(meta.rule).ok();
            let sub_paths: Vec<String> = sub_groups
                .iter()
                .map(|name| format!("{group}/{name}/{}", meta.sub_policy))
                .collect();
            Ok(Policy::ImplicitMeta(ImplicitMeta {
                threshold: threshold(rule, sub_paths.len()),
                sub_policy: meta.sub_policy,
                rule,
                sub_paths,
            }))
        }
        _ => Err(form(format!(
            "policy type {} is unknown; use 1 (SIGNATURE) or 3 (IMPLICIT_META)",
            message.r#type
        ))),
    }
}

/// How many of `count` sub-policies a rule asks for; none where there are none (spec 02 §14.2), or where the rule is
/// unknown: a configuration may hold such a policy.
fn threshold(rule: Option<common::implicit_meta_policy::Rule>, count: usize) -> usize {
    use common::implicit_meta_policy::Rule;
    if count == 0 {
        return 0;
    }
    match rule {
        Some(Rule::Any) => 1,
        Some(Rule::All) => count,
        Some(Rule::Majority) => count / 2 + 1,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use common::implicit_meta_policy::Rule;

    use super::*;

    #[test]
    fn thresholds() {
        let table = [
            (0, 0, 0, 0),
            (1, 1, 1, 1),
            (2, 1, 2, 2),
            (3, 1, 3, 2),
            (4, 1, 4, 3),
            (5, 1, 5, 3),
        ];
        for (count, any, all, majority) in table {
            assert_eq!(threshold(Some(Rule::Any), count), any);
            assert_eq!(threshold(Some(Rule::All), count), all);
            assert_eq!(threshold(Some(Rule::Majority), count), majority);
            assert_eq!(threshold(None, count), 0);
        }
    }
}
