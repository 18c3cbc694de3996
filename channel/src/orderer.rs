//! The ordering service's part of the configuration (spec 05 §2, §5, §6).

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge_proto::{Bytes, common, etcdraft, go_compat, msp, orderer};

use crate::capabilities::{Capabilities, CapabilityGroup};
use crate::duration;
use crate::error::ConfigError;
use crate::path::child;
use crate::values::{GroupView, names};

/// The consensus type whose metadata this crate reads.
pub const ETCDRAFT: &str = "etcdraft";
/// The Byzantine fault tolerant type of Fabric 3; readable for peers that follow such a channel.
pub const BFT: &str = "BFT";

/// Limits of a batch of messages (spec 05 §2). All are greater than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    /// Most messages in a block.
    pub max_message_count: u32,
    /// Largest message, in bytes of payload and signature.
    pub absolute_max_bytes: u32,
    /// Size in bytes at which a batch is cut; never above `absolute_max_bytes`.
    pub preferred_max_bytes: u32,
}

/// `/Channel/Orderer`, read.
#[derive(Debug, Clone)]
pub struct OrdererConfig {
    /// Limits of a batch.
    pub batch_size: BatchSize,
    /// How long a message may wait for its batch.
    pub batch_timeout: Duration,
    /// `etcdraft` or `BFT`; empty where the configuration names none.
    pub consensus_type: String,
    /// Normal, or maintenance while the consensus type is being changed. A state that does not exist is normal.
    pub consensus_state: orderer::consensus_type::State,
    /// The consensus type's own metadata, as it stands in the configuration.
    pub consensus_metadata: Bytes,
    /// Raft's nodes in the order of the configuration; empty when the type is another one.
    pub consenters: Vec<etcdraft::Consenter>,
    /// Raft's options, if the type is `etcdraft`.
    pub raft_options: Option<etcdraft::Options>,
    /// The nodes of a BFT service with their identities (value `Orderers`).
    pub bft_consenters: Vec<common::Consenter>,
    /// MSP id to the addresses (`host:port`) of that organisation's ordering nodes.
    pub org_endpoints: BTreeMap<String, Vec<String>>,
    /// Group name to MSP id of the ordering organisations.
    pub orgs: BTreeMap<String, String>,
    /// Most channels the service takes, 0 for no limit.
    pub max_channels: u64,
    /// Capabilities of the group.
    pub capabilities: Capabilities,
}

const VALUES: &[&str] = &[
    names::CONSENSUS_TYPE,
    names::BATCH_SIZE,
    names::BATCH_TIMEOUT,
    names::KAFKA_BROKERS,
    names::CHANNEL_RESTRICTIONS,
    names::CAPABILITIES,
    names::ORDERERS,
];

impl OrdererConfig {
    /// Reads the group; `orgs` are its organisations' MSP ids by group name.
    pub(crate) fn read(view: GroupView<'_>, orgs: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        view.only_values(VALUES, "it is no value of the orderer group")?;
        // Fabric goes on with neither type nor state; `strict` is where a proposed change is refused for it.
        let consensus: orderer::ConsensusType = view.read(names::CONSENSUS_TYPE)?.unwrap_or_default();
        let consensus_state = orderer::consensus_type::State::try_from(consensus.state).unwrap_or_default();
        // Peers treat the metadata as opaque, so what does not decode here is judged only where it matters: in
        // `consensus::check`.
        let raft = (consensus.r#type == ETCDRAFT)
            .then(|| go_compat::decode::<etcdraft::ConfigMetadata>(consensus.metadata.clone()).ok())
            .flatten()
            .unwrap_or_default();
        let orderers: Option<common::Orderers> = view.read(names::ORDERERS)?;
        let restrictions: Option<orderer::ChannelRestrictions> = view.read(names::CHANNEL_RESTRICTIONS)?;
        let capabilities: common::Capabilities = view.read(names::CAPABILITIES)?.unwrap_or_default();

        let mut org_endpoints: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (group_name, msp_id) in &orgs {
            let Some(group) = view.group.groups.get(group_name) else {
                continue;
            };
            let path = child(view.path, group_name);
            let org = GroupView { path: &path, group };
            org.only_values(
                &[names::MSP, names::ENDPOINTS],
                "an ordering organisation has MSP and Endpoints",
            )?;
            let endpoints: common::OrdererAddresses = org.read(names::ENDPOINTS)?.unwrap_or_default();
            if !endpoints.addresses.is_empty() {
                org_endpoints
                    .entry(msp_id.clone())
                    .or_default()
                    .extend(endpoints.addresses);
            }
        }
        Ok(Self {
            batch_size: batch_size(view)?,
            batch_timeout: batch_timeout(view)?,
            consensus_type: consensus.r#type,
            consensus_state,
            consensus_metadata: consensus.metadata,
            consenters: raft.consenters,
            raft_options: raft.options,
            bft_consenters: orderers.unwrap_or_default().consenter_mapping,
            org_endpoints,
            orgs,
            max_channels: restrictions.unwrap_or_default().max_count,
            capabilities: Capabilities::new(CapabilityGroup::Orderer, &capabilities),
        })
    }

    /// Whether normal messages are refused because the channel is in maintenance state.
    pub fn in_maintenance(&self) -> bool {
        self.consensus_state == orderer::consensus_type::State::Maintenance
    }
}

fn batch_size(view: GroupView<'_>) -> Result<BatchSize, ConfigError> {
    let size: orderer::BatchSize = view.require(names::BATCH_SIZE)?;
    for (field, value) in [
        ("max_message_count", size.max_message_count),
        ("absolute_max_bytes", size.absolute_max_bytes),
        ("preferred_max_bytes", size.preferred_max_bytes),
    ] {
        if value == 0 {
            return Err(view.invalid(names::BATCH_SIZE, format!("{field} is 0, it must be at least 1")));
        }
    }
    if size.preferred_max_bytes > size.absolute_max_bytes {
        return Err(view.invalid(
            names::BATCH_SIZE,
            format!(
                "preferred_max_bytes ({}) is above absolute_max_bytes ({})",
                size.preferred_max_bytes, size.absolute_max_bytes
            ),
        ));
    }
    Ok(BatchSize {
        max_message_count: size.max_message_count,
        absolute_max_bytes: size.absolute_max_bytes,
        preferred_max_bytes: size.preferred_max_bytes,
    })
}

fn batch_timeout(view: GroupView<'_>) -> Result<Duration, ConfigError> {
    let text = view
        .require::<orderer::BatchTimeout>(names::BATCH_TIMEOUT)?
        .timeout;
    match duration::parse(&text) {
        Some(timeout) if !timeout.is_zero() => Ok(timeout),
        Some(_) => Err(view.invalid(names::BATCH_TIMEOUT, "it is 0, it must be longer")),
        None => Err(view.invalid(
            names::BATCH_TIMEOUT,
            format!("'{text}' is no duration such as '2s' or '400ms'"),
        )),
    }
}

/// The MSP definition of an organisation's group.
pub(crate) fn org_msp(view: GroupView<'_>) -> Result<msp::MspConfig, ConfigError> {
    view.no_groups("organisations have no sub-groups")?;
    view.require(names::MSP)
}
