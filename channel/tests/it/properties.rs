//! Computing an update and applying it leads to the intended configuration, with the right versions, for any two trees.

use std::collections::HashMap;
use std::sync::OnceLock;

use proptest::collection::hash_map;
use proptest::prelude::*;
use selvedge_channel::update::{apply, compute, diff::diff};
use selvedge_channel::verify::{check_block_content, check_join_block};
use selvedge_channel::{Bundle, NodeRole, UpdateError};
use selvedge_msp::Signers;
use selvedge_proto::{Bytes, Message, common, go_compat};

use crate::network::{CHANNEL, Network, update_envelope};

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")].prop_map(str::to_owned)
}

fn mod_policy() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just("Admins"), 1 => Just("/Channel/Admins")].prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = common::ConfigValue> {
    (0..4_u64, 0..3_u8, mod_policy()).prop_map(|(version, content, mod_policy)| common::ConfigValue {
        version,
        value: Bytes::copy_from_slice(&vec![content; usize::from(content)]),
        mod_policy,
    })
}

fn policy() -> impl Strategy<Value = common::ConfigPolicy> {
    (0..4_u64, 0..3_i32, mod_policy()).prop_map(|(version, r#type, mod_policy)| common::ConfigPolicy {
        version,
        policy: Some(common::Policy {
            r#type,
            value: Bytes::new(),
        }),
        mod_policy,
    })
}

fn tree() -> impl Strategy<Value = common::ConfigGroup> {
    let members = || {
        (
            0..4_u64,
            mod_policy(),
            hash_map(name(), value(), 0..3),
            hash_map(name(), policy(), 0..3),
        )
    };
    let group = |(version, mod_policy, values, policies), groups| common::ConfigGroup {
        version,
        groups,
        values,
        policies,
        mod_policy,
    };
    let leaf = members().prop_map(move |members| group(members, HashMap::new()));
    leaf.prop_recursive(3, 24, 3, move |inner| {
        (members(), hash_map(name(), inner, 0..3)).prop_map(move |(members, groups)| group(members, groups))
    })
}

fn config(channel_group: common::ConfigGroup) -> common::Config {
    common::Config {
        sequence: 4,
        channel_group: Some(channel_group),
    }
}

fn without_versions(group: &common::ConfigGroup) -> common::ConfigGroup {
    let mut plain = group.clone();
    plain.version = 0;
    plain.values.values_mut().for_each(|value| value.version = 0);
    plain.policies.values_mut().for_each(|policy| policy.version = 0);
    plain
        .groups
        .values_mut()
        .for_each(|sub| *sub = without_versions(sub));
    plain
}

fn member_names(group: &common::ConfigGroup) -> [Vec<&String>; 3] {
    let mut names = [
        group.groups.keys().collect::<Vec<_>>(),
        group.values.keys().collect(),
        group.policies.keys().collect(),
    ];
    names.iter_mut().for_each(|list| list.sort_unstable());
    names
}

/// An element keeps its version, or takes the next one if it changed, or starts at 0.
fn check_versions(old: Option<&common::ConfigGroup>, new: &common::ConfigGroup) {
    let expected = |before: Option<(u64, bool)>| match before {
        None => 0,
        Some((version, same)) => version + u64::from(!same),
    };
    let same_group =
        |o: &common::ConfigGroup| member_names(o) == member_names(new) && o.mod_policy == new.mod_policy;
    assert_eq!(new.version, expected(old.map(|o| (o.version, same_group(o)))));
    for (name, value) in &new.values {
        let before = old.and_then(|o| o.values.get(name));
        let same = |b: &common::ConfigValue| b.value == value.value && b.mod_policy == value.mod_policy;
        assert_eq!(value.version, expected(before.map(|b| (b.version, same(b)))));
    }
    for (name, policy) in &new.policies {
        let before = old.and_then(|o| o.policies.get(name));
        let same = |b: &common::ConfigPolicy| b.policy == policy.policy && b.mod_policy == policy.mod_policy;
        assert_eq!(policy.version, expected(before.map(|b| (b.version, same(b)))));
    }
    for (name, group) in &new.groups {
        check_versions(old.and_then(|o| o.groups.get(name)), group);
    }
}

proptest! {
    #[test]
    fn an_update_leads_where_it_should(original in tree(), updated in tree()) {
        let (original, updated) = (config(original), config(updated));
        let (old, wanted) = (original.channel_group.as_ref().unwrap(), updated.channel_group.as_ref().unwrap());
        match compute("trade", &original, &updated) {
            Err(UpdateError::NoEffect) => {
                prop_assert_eq!(without_versions(old), without_versions(wanted));
                prop_assert!(diff(&original, &updated).is_empty());
            }
            Err(other) => prop_assert!(false, "{}", other),
            Ok(update) => {
                prop_assert!(!diff(&original, &updated).is_empty());
                let applied = apply(&original, &update).unwrap();
                prop_assert_eq!(applied.sequence, 5);
                let new = applied.channel_group.as_ref().unwrap();
                prop_assert_eq!(without_versions(new), without_versions(wanted));
                check_versions(Some(old), new);
                // It is used up: applied again it does not fit any more.
                prop_assert!(apply(&applied, &update).is_err());
            }
        }
    }

    /// What is sent is what was computed, and an update of another configuration is refused or applies in full.
    #[test]
    fn an_update_never_half_applies(original in tree(), updated in tree(), other in tree()) {
        let (original, updated, other) = (config(original), config(updated), config(other));
        if let Ok(update) = compute("trade", &original, &updated) {
            let sent = common::ConfigUpdate::decode(Bytes::from(update.encode_to_vec())).unwrap();
            prop_assert_eq!(&sent, &update);
            if let Ok(applied) = apply(&other, &sent) {
                prop_assert!(applied != other);
            }
        }
    }
}

/// A network made once: keys and certificates cost more than the rest.
fn network() -> &'static Network {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    NETWORK.get_or_init(Network::new)
}

/// Bytes with some of them replaced, cut off or doubled.
fn damaged(bytes: &[u8], damage: &[(usize, u8)], cut: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    for (at, byte) in damage {
        let at = at % bytes.len();
        bytes[at] = *byte;
    }
    bytes.truncate(bytes.len().saturating_sub(cut % 40));
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever comes in, there is an answer.
    #[test]
    fn damaged_configurations_and_updates_are_judged(
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        cut in prop_oneof![3 => Just(0_usize), 1 => any::<usize>()],
    ) {
        let network = network();
        let config = damaged(&network.bundle.config().encode_to_vec(), &damage, cut);
        if let Ok(config) = go_compat::decode::<common::Config>(config) {
            let lines = diff(network.bundle.config(), &config);
            let _: Vec<String> = lines.iter().map(ToString::to_string).collect();
            if let Ok(bundle) = Bundle::from_config(CHANNEL, config.clone()) {
                let _ = bundle.orderer_endpoints();
                let _ = bundle.evaluate("/Channel/Writers", &Signers::default());
            }
            if let Ok(update) = compute(CHANNEL, network.bundle.config(), &config) {
                let envelope = Bytes::from(update_envelope(&update, &[]).encode_to_vec());
                let envelope = common::Envelope::decode(damaged(&envelope, &damage, 0));
                let _ = envelope.map(|e| network.bundle.propose_update(&e).map_err(|e| e.to_string()));
            }
        }
        let block = damaged(&network.block.encode_to_vec(), &damage, cut);
        if let Ok(block) = go_compat::decode::<common::Block>(block) {
            let _ = check_join_block(NodeRole::Any, &block).map_err(|e| e.to_string());
            let _ = check_block_content(&block).map_err(|e| e.to_string());
        }
    }
}
