//! Building the first block of a channel (spec 02 §9, 05 §6).

use std::collections::HashMap;
use std::time::Duration;

use prost_types::Timestamp;
use rand::RngCore;
use selvedge_proto::{
    Bytes, Message, NONCE_LEN, common, compute_tx_id, etcdraft, new_block, orderer, put_metadata,
};

use crate::build::{
    acls, application_org, batch_size, batch_timeout, capabilities, consensus_type, group, implicit_meta,
    orderer_org, usual_policies, value, value_guarded_by,
};
use crate::bundle::Bundle;
use crate::consensus;
use crate::error::{ConfigError, ConsensusError};
use crate::orderer::BatchSize;
use crate::path::{ElementKind, ElementPath};
use crate::strict;
use crate::update::now;
use crate::values::names;

pub use crate::build::{OrgProfile, RaftOptions};

/// Everything that a channel's first configuration says.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelProfile {
    /// Id of the channel.
    pub channel_id: String,
    /// Capabilities of the channel group, such as `V2_0`.
    pub channel_capabilities: Vec<String>,
    /// Capabilities of the ordering service, such as `V2_0`.
    pub orderer_capabilities: Vec<String>,
    /// Capabilities of the application, such as `V2_5`.
    pub application_capabilities: Vec<String>,
    /// Limits of a batch.
    pub batch_size: BatchSize,
    /// How long a message may wait for its batch.
    pub batch_timeout: Duration,
    /// Organisations that run ordering nodes; at least one.
    pub orderer_orgs: Vec<OrgProfile>,
    /// Organisations that run peers.
    pub application_orgs: Vec<OrgProfile>,
    /// Raft's nodes; at least one.
    pub consenters: Vec<etcdraft::Consenter>,
    /// Raft's options.
    pub raft: RaftOptions,
    /// Overrides of the ACL defaults: resource to policy, absolute or a name of the application group.
    pub acls: HashMap<String, String>,
}

impl ChannelProfile {
    /// A profile without members, with the settings a new channel usually has: capabilities V2_0, V2_0 and V2_5, blocks
    /// of at most 500 messages and 2 MB cut after 2 seconds at the latest, and Raft's defaults.
    pub fn new(channel_id: impl Into<String>) -> Self {
        let v2_0 = || vec!["V2_0".to_owned()];
        Self {
            channel_id: channel_id.into(),
            channel_capabilities: v2_0(),
            orderer_capabilities: v2_0(),
            application_capabilities: vec!["V2_5".to_owned()],
            batch_size: BatchSize {
                max_message_count: 500,
                absolute_max_bytes: 10 * 1024 * 1024,
                preferred_max_bytes: 2 * 1024 * 1024,
            },
            batch_timeout: Duration::from_secs(2),
            orderer_orgs: Vec::new(),
            application_orgs: Vec::new(),
            consenters: Vec::new(),
            raft: RaftOptions::default(),
            acls: HashMap::new(),
        }
    }
}

/// Why no genesis block could be made.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// The configuration would not be usable.
    #[error("the profile gives no usable channel configuration: {0}")]
    Config(#[from] ConfigError),
    /// The ordering service could not run.
    #[error("the profile gives no usable ordering service: {0}")]
    Consensus(#[from] ConsensusError),
    /// Two organisations of one kind share a group name.
    #[error("the profile has two organisations in {group} named '{name}'; names must differ")]
    DuplicateOrg {
        /// Path of the group.
        group: &'static str,
        /// The name.
        name: String,
    },
    /// The MSP id of a profile and of its MSP differ.
    #[error("organisation '{name}' has MSP id '{profile}' in the profile, but its MSP is named '{msp}'")]
    MspId {
        /// Name of the organisation's group.
        name: String,
        /// Id in the profile.
        profile: String,
        /// Id in the MSP.
        msp: String,
    },
}

fn org_groups(
    path: &'static str,
    orgs: &[OrgProfile],
    build: fn(&OrgProfile) -> common::ConfigGroup,
) -> Result<HashMap<String, common::ConfigGroup>, GenesisError> {
    let mut groups = HashMap::with_capacity(orgs.len());
    for org in orgs {
        if groups.insert(org.name.clone(), build(org)).is_some() {
            return Err(GenesisError::DuplicateOrg {
                group: path,
                name: org.name.clone(),
            });
        }
    }
    Ok(groups)
}

fn orderer_group(profile: &ChannelProfile) -> Result<common::ConfigGroup, GenesisError> {
    use common::implicit_meta_policy::Rule;
    let mut policies = usual_policies();
    policies.insert(
        names::BLOCK_VALIDATION.to_owned(),
        implicit_meta(names::WRITERS, Rule::Any),
    );
    let options = etcdraft::Options::from(&profile.raft);
    let consensus = consensus_type(
        &profile.consenters,
        options,
        orderer::consensus_type::State::Normal,
    );
    let values = HashMap::from([
        (names::CONSENSUS_TYPE.to_owned(), consensus),
        (names::BATCH_SIZE.to_owned(), batch_size(&profile.batch_size)),
        (
            names::BATCH_TIMEOUT.to_owned(),
            batch_timeout(profile.batch_timeout),
        ),
        (
            names::CHANNEL_RESTRICTIONS.to_owned(),
            value(&orderer::ChannelRestrictions { max_count: 0 }),
        ),
        (
            names::CAPABILITIES.to_owned(),
            capabilities(&profile.orderer_capabilities),
        ),
    ]);
    let orgs = org_groups("/Channel/Orderer", &profile.orderer_orgs, orderer_org)?;
    Ok(group(values, policies, orgs))
}

fn application_group(profile: &ChannelProfile) -> Result<common::ConfigGroup, GenesisError> {
    use common::implicit_meta_policy::Rule;
    let mut policies = usual_policies();
    for name in [names::ENDORSEMENT, names::LIFECYCLE_ENDORSEMENT] {
        policies.insert(name.to_owned(), implicit_meta(names::ENDORSEMENT, Rule::Majority));
    }
    let mut values = HashMap::from([(
        names::CAPABILITIES.to_owned(),
        capabilities(&profile.application_capabilities),
    )]);
    if !profile.acls.is_empty() {
        values.insert(names::ACLS.to_owned(), acls(&profile.acls));
    }
    let orgs = org_groups("/Channel/Application", &profile.application_orgs, application_org)?;
    Ok(group(values, policies, orgs))
}

/// The configuration of a profile, at sequence 0.
///
/// # Errors
/// The profile breaks a rule: names the element, organisation or consenter.
pub fn channel_config(profile: &ChannelProfile) -> Result<common::Config, GenesisError> {
    let mut values = HashMap::from([
        (
            names::HASHING_ALGORITHM.to_owned(),
            value(&common::HashingAlgorithm {
                name: "SHA256".to_owned(),
            }),
        ),
        (
            names::BLOCK_DATA_HASHING_STRUCTURE.to_owned(),
            value(&common::BlockDataHashingStructure { width: u32::MAX }),
        ),
        (
            names::CAPABILITIES.to_owned(),
            capabilities(&profile.channel_capabilities),
        ),
    ]);
    // Old clients look for the global addresses; V3_0 forbids them (spec 05 §6).
    let addresses: Vec<String> = profile
        .orderer_orgs
        .iter()
        .flat_map(|org| org.endpoints.iter().cloned())
        .collect();
    if !addresses.is_empty() && !profile.channel_capabilities.iter().any(|c| c == "V3_0") {
        values.insert(
            names::ORDERER_ADDRESSES.to_owned(),
            value_guarded_by(&common::OrdererAddresses { addresses }, "/Channel/Orderer/Admins"),
        );
    }
    let groups = HashMap::from([
        (names::ORDERER.to_owned(), orderer_group(profile)?),
        (names::APPLICATION.to_owned(), application_group(profile)?),
    ]);
    let config = common::Config {
        sequence: 0,
        channel_group: Some(group(values, usual_policies(), groups)),
    };
    check(profile, &config)?;
    Ok(config)
}

/// A block that its own nodes could not use must not come into being.
fn check(profile: &ChannelProfile, config: &common::Config) -> Result<(), GenesisError> {
    let bundle = Bundle::from_config(&profile.channel_id, config.clone())?;
    strict::check(None, config)?;
    let (Some(orderer), Some(application)) = (bundle.orderer(), bundle.application()) else {
        let missing = ElementPath::new(ElementKind::Group, "/Channel/Orderer");
        return Err(ConfigError::Missing(missing).into());
    };
    let orderer_ids = profile
        .orderer_orgs
        .iter()
        .map(|org| (org, orderer.orgs.get(&org.name)));
    let application_ids = profile
        .application_orgs
        .iter()
        .map(|org| (org, application.orgs.get(&org.name).map(|read| &read.msp_id)));
    for (org, msp_id) in orderer_ids.chain(application_ids) {
        match msp_id {
            Some(id) if *id == org.msp_id => {}
            other => {
                return Err(GenesisError::MspId {
                    name: org.name.clone(),
                    profile: org.msp_id.clone(),
                    msp: other.cloned().unwrap_or_default(),
                });
            }
        }
    }
    consensus::check(orderer, &bundle)?;
    Ok(())
}

/// The first block of a channel, made now.
///
/// # Errors
/// The profile breaks a rule: names the element, organisation or consenter.
pub fn genesis_block(profile: &ChannelProfile) -> Result<common::Block, GenesisError> {
    let mut nonce = [0_u8; NONCE_LEN];
    rand::rng().fill_bytes(&mut nonce);
    genesis_block_at(profile, now(), nonce)
}

/// The first block of a channel, with the given time and nonce.
///
/// # Errors
/// The profile breaks a rule: names the element, organisation or consenter.
pub fn genesis_block_at(
    profile: &ChannelProfile,
    timestamp: Timestamp,
    nonce: [u8; NONCE_LEN],
) -> Result<common::Block, GenesisError> {
    let config = channel_config(profile)?;
    let channel_header = common::ChannelHeader {
        r#type: common::HeaderType::Config as i32,
        version: 1,
        timestamp: Some(timestamp),
        channel_id: profile.channel_id.clone(),
        tx_id: compute_tx_id(&nonce, &[]),
        ..Default::default()
    };
    let signature_header = common::SignatureHeader {
        creator: Bytes::new(),
        nonce: Bytes::copy_from_slice(&nonce),
    };
    let payload = common::Payload {
        header: Some(common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: common::ConfigEnvelope {
            config: Some(config),
            last_update: None,
        }
        .encode_to_vec()
        .into(),
    };
    let envelope = common::Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::new(),
    };
    let mut block = new_block(0, Bytes::new(), vec![envelope.encode_to_vec().into()]);
    let signatures = common::OrdererBlockMetadata {
        last_config: Some(common::LastConfig { index: 0 }),
        consenter_metadata: Bytes::new(),
    };
    let slot = common::Metadata {
        value: signatures.encode_to_vec().into(),
        signatures: Vec::new(),
    };
    put_metadata(
        &mut block,
        common::BlockMetadataIndex::Signatures,
        slot.encode_to_vec().into(),
    );
    Ok(block)
}
