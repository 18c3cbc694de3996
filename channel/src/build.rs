//! Pieces from which configurations are built: values, policies, the groups of organisations (spec 05 §6).

use std::collections::HashMap;
use std::time::Duration;

use selvedge_msp::policy::dsl;
use selvedge_proto::{Bytes, Message, common, etcdraft, msp, orderer, protos};

use crate::duration;
use crate::orderer::{BatchSize, ETCDRAFT};
use crate::values::names;

/// An organisation as a network's profile describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct OrgProfile {
    /// Name of its group in the tree.
    pub name: String,
    /// Its MSP id.
    pub msp_id: String,
    /// Its MSP: certificate authorities, NodeOUs and so on.
    pub msp: msp::MspConfig,
    /// Addresses (`host:port`) of its ordering nodes, for an ordering organisation.
    pub endpoints: Vec<String>,
    /// Host and port of its anchor peers, for an organisation of the application.
    pub anchor_peers: Vec<(String, u16)>,
}

/// Raft's options. Ticks are counted in `tick_interval`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftOptions {
    /// Length of a tick.
    pub tick_interval: Duration,
    /// Ticks without a leader before an election; more than `heartbeat_tick`.
    pub election_tick: u32,
    /// Ticks between heartbeats.
    pub heartbeat_tick: u32,
    /// Blocks that may be on their way to a follower at once.
    pub max_inflight_blocks: u32,
    /// Bytes of blocks after which a snapshot is taken.
    pub snapshot_interval_size: u32,
}

impl Default for RaftOptions {
    /// Fabric's defaults (spec 05 §5).
    fn default() -> Self {
        Self {
            tick_interval: Duration::from_millis(500),
            election_tick: 10,
            heartbeat_tick: 1,
            max_inflight_blocks: 5,
            snapshot_interval_size: 16 * 1024 * 1024,
        }
    }
}

impl From<&RaftOptions> for etcdraft::Options {
    fn from(options: &RaftOptions) -> Self {
        Self {
            tick_interval: duration::format(options.tick_interval),
            election_tick: options.election_tick,
            heartbeat_tick: options.heartbeat_tick,
            max_inflight_blocks: options.max_inflight_blocks,
            snapshot_interval_size: options.snapshot_interval_size,
        }
    }
}

/// `mod_policy` of everything that has no other.
pub(crate) const ADMINS: &str = names::ADMINS;

pub(crate) fn value(message: &impl Message) -> common::ConfigValue {
    value_guarded_by(message, ADMINS)
}

pub(crate) fn value_guarded_by(message: &impl Message, mod_policy: &str) -> common::ConfigValue {
    common::ConfigValue {
        version: 0,
        value: message.encode_to_vec().into(),
        mod_policy: mod_policy.to_owned(),
    }
}

pub(crate) fn implicit_meta(
    sub_policy: &str,
    rule: common::implicit_meta_policy::Rule,
) -> common::ConfigPolicy {
    let meta = common::ImplicitMetaPolicy {
        sub_policy: sub_policy.to_owned(),
        rule: rule as i32,
    };
    policy(
        common::policy::PolicyType::ImplicitMeta,
        meta.encode_to_vec().into(),
    )
}

fn signature(envelope: &common::SignaturePolicyEnvelope) -> common::ConfigPolicy {
    policy(
        common::policy::PolicyType::Signature,
        envelope.encode_to_vec().into(),
    )
}

fn policy(r#type: common::policy::PolicyType, value: Bytes) -> common::ConfigPolicy {
    common::ConfigPolicy {
        version: 0,
        policy: Some(common::Policy {
            r#type: r#type as i32,
            value,
        }),
        mod_policy: ADMINS.to_owned(),
    }
}

/// A policy that any one of the given roles of one MSP satisfies.
fn any_role(msp_id: &str, roles: &[common::msp_role::MspRoleType]) -> common::ConfigPolicy {
    let rules = (0_i32..).take(roles.len()).map(dsl::signed_by).collect();
    signature(&common::SignaturePolicyEnvelope {
        version: 0,
        rule: Some(dsl::n_out_of(1, rules)),
        identities: roles
            .iter()
            .map(|role| dsl::role_principal(msp_id, *role))
            .collect(),
    })
}

fn named<T, const N: usize>(members: [(&str, T); N]) -> HashMap<String, T> {
    members
        .into_iter()
        .map(|(name, member)| (name.to_owned(), member))
        .collect()
}

pub(crate) fn group(
    values: HashMap<String, common::ConfigValue>,
    policies: HashMap<String, common::ConfigPolicy>,
    groups: HashMap<String, common::ConfigGroup>,
) -> common::ConfigGroup {
    common::ConfigGroup {
        version: 0,
        groups,
        values,
        policies,
        mod_policy: ADMINS.to_owned(),
    }
}

/// The three policies every group has: any reader, any writer, a majority of administrators of its sub-groups.
pub(crate) fn usual_policies() -> HashMap<String, common::ConfigPolicy> {
    use common::implicit_meta_policy::Rule;
    named([
        (names::READERS, implicit_meta(names::READERS, Rule::Any)),
        (names::WRITERS, implicit_meta(names::WRITERS, Rule::Any)),
        (names::ADMINS, implicit_meta(names::ADMINS, Rule::Majority)),
    ])
}

pub(crate) fn anchor_peers(anchors: &[(String, u16)]) -> common::ConfigValue {
    value(&protos::AnchorPeers {
        anchor_peers: anchors
            .iter()
            .map(|(host, port)| protos::AnchorPeer {
                host: host.clone(),
                port: i32::from(*port),
            })
            .collect(),
    })
}

/// The group of an organisation that runs ordering nodes.
pub(crate) fn orderer_org(org: &OrgProfile) -> common::ConfigGroup {
    use common::msp_role::MspRoleType::{Admin, Member};
    let mut values = named([(names::MSP, value(&org.msp))]);
    if !org.endpoints.is_empty() {
        let endpoints = common::OrdererAddresses {
            addresses: org.endpoints.clone(),
        };
        values.insert(names::ENDPOINTS.to_owned(), value(&endpoints));
    }
    let policies = named([
        (names::READERS, any_role(&org.msp_id, &[Member])),
        (names::WRITERS, any_role(&org.msp_id, &[Member])),
        (names::ADMINS, any_role(&org.msp_id, &[Admin])),
    ]);
    group(values, policies, HashMap::new())
}

/// The group of an organisation that runs peers and clients.
pub(crate) fn application_org(org: &OrgProfile) -> common::ConfigGroup {
    use common::msp_role::MspRoleType::{Admin, Client, Peer};
    let mut values = named([(names::MSP, value(&org.msp))]);
    if !org.anchor_peers.is_empty() {
        values.insert(names::ANCHOR_PEERS.to_owned(), anchor_peers(&org.anchor_peers));
    }
    let policies = named([
        (names::READERS, any_role(&org.msp_id, &[Admin, Peer, Client])),
        (names::WRITERS, any_role(&org.msp_id, &[Admin, Client])),
        (names::ADMINS, any_role(&org.msp_id, &[Admin])),
        (names::ENDORSEMENT, any_role(&org.msp_id, &[Peer])),
    ]);
    group(values, policies, HashMap::new())
}

pub(crate) fn capabilities(names: &[String]) -> common::ConfigValue {
    let capabilities = names
        .iter()
        .map(|name| (name.clone(), common::Capability {}))
        .collect();
    value(&common::Capabilities { capabilities })
}

pub(crate) fn batch_size(size: &BatchSize) -> common::ConfigValue {
    value(&orderer::BatchSize {
        max_message_count: size.max_message_count,
        absolute_max_bytes: size.absolute_max_bytes,
        preferred_max_bytes: size.preferred_max_bytes,
    })
}

pub(crate) fn batch_timeout(timeout: Duration) -> common::ConfigValue {
    value(&orderer::BatchTimeout {
        timeout: duration::format(timeout),
    })
}

pub(crate) fn consensus_type(
    consenters: &[etcdraft::Consenter],
    options: etcdraft::Options,
    state: orderer::consensus_type::State,
) -> common::ConfigValue {
    let metadata = etcdraft::ConfigMetadata {
        consenters: consenters.to_vec(),
        options: Some(options),
    };
    value(&orderer::ConsensusType {
        r#type: ETCDRAFT.to_owned(),
        metadata: metadata.encode_to_vec().into(),
        state: state as i32,
    })
}

pub(crate) fn acls(overrides: &HashMap<String, String>) -> common::ConfigValue {
    let acls = overrides
        .iter()
        .map(|(resource, policy_ref)| {
            (
                resource.clone(),
                protos::ApiResource {
                    policy_ref: policy_ref.clone(),
                },
            )
        })
        .collect();
    value(&protos::AcLs { acls })
}
