//! What is refused before it gets into a block, although Fabric's nodes would take it.
//!
//! A node judges the configuration of a block just as Fabric does, since it halts over one that it refuses. Some of what
//! Fabric takes is a mistake for certain, though: an anchor peer without a port, a policy whose rule does not exist. The
//! ordering service and the tools refuse to bring such a thing in; where a channel has it already, it may stay.

use selvedge_proto::{common, go_compat, orderer, protos};

use crate::application::anchor_address;
use crate::error::ConfigError;
use crate::path::{ElementKind, ElementPath, ROOT, child};
use crate::values::{GroupView, names};

/// Checks that `after` has no mistake that `before` does not have already.
///
/// # Errors
/// The first mistake, by path.
pub(crate) fn check(before: Option<&common::Config>, after: &common::Config) -> Result<(), ConfigError> {
    let old: Vec<String> = before
        .map(mistakes)
        .unwrap_or_default()
        .iter()
        .map(ConfigError::to_string)
        .collect();
    let new = mistakes(after)
        .into_iter()
        .find(|mistake| !old.contains(&mistake.to_string()));
    new.map_or(Ok(()), Err)
}

/// Everything that is a mistake but no error to Fabric. The configuration has been read before, so what does not decode
/// here has been refused there.
fn mistakes(config: &common::Config) -> Vec<ConfigError> {
    let mut found = Vec::new();
    if let Some(root) = &config.channel_group {
        group(&format!("/{ROOT}"), root, &mut found);
    }
    found
}

fn group(path: &str, group: &common::ConfigGroup, found: &mut Vec<ConfigError>) {
    let view = GroupView { path, group };
    found.extend(hashing(view));
    if path == format!("/{ROOT}/{}", names::ORDERER) {
        found.extend(consensus(view));
    }
    anchors(view, found);
    let mut policies: Vec<_> = group.policies.iter().collect();
    policies.sort_unstable_by_key(|(name, _)| *name);
    for (name, policy) in policies {
        found.extend(rule(&child(path, name), policy));
    }
    let mut groups: Vec<_> = group.groups.iter().collect();
    groups.sort_unstable_by_key(|(name, _)| *name);
    for (name, sub) in groups {
        self::group(&child(path, name), sub, found);
    }
}

fn hashing(view: GroupView<'_>) -> Option<ConfigError> {
    let algorithm: common::HashingAlgorithm = view.read(names::HASHING_ALGORITHM).ok()??;
    (algorithm.name != "SHA256").then(|| {
        view.invalid(
            names::HASHING_ALGORITHM,
            format!("'{}' is not supported, use 'SHA256'", algorithm.name),
        )
    })
}

fn consensus(view: GroupView<'_>) -> Option<ConfigError> {
    let Some(consensus) = view.read::<orderer::ConsensusType>(names::CONSENSUS_TYPE).ok()? else {
        return Some(ConfigError::Missing(view.value_path(names::CONSENSUS_TYPE)));
    };
    let state = orderer::consensus_type::State::try_from(consensus.state);
    state.is_err().then(|| {
        view.invalid(
            names::CONSENSUS_TYPE,
            format!("state {} is unknown", consensus.state),
        )
    })
}

fn anchors(view: GroupView<'_>, found: &mut Vec<ConfigError>) {
    let Ok(Some(anchors)) = view.read::<protos::AnchorPeers>(names::ANCHOR_PEERS) else {
        return;
    };
    let bad = anchors
        .anchor_peers
        .iter()
        .filter(|anchor| anchor_address(anchor).is_none());
    found.extend(bad.map(|anchor| {
        view.invalid(
            names::ANCHOR_PEERS,
            format!("'{}:{}' is no host and port", anchor.host, anchor.port),
        )
    }));
}

fn rule(path: &str, policy: &common::ConfigPolicy) -> Option<ConfigError> {
    let policy = policy.policy.as_ref()?;
    if policy.r#type != common::policy::PolicyType::ImplicitMeta as i32 {
        return None;
    }
    let meta: common::ImplicitMetaPolicy = go_compat::decode(policy.value.clone()).ok()?;
    let known = common::implicit_meta_policy::Rule::try_from(meta.rule).is_ok();
    (!known).then(|| ConfigError::Invalid {
        element: ElementPath::new(ElementKind::Policy, path),
        why: format!("implicit-meta rule {} is unknown", meta.rule),
    })
}
