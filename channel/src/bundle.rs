//! One channel's configuration, read, checked and ready to use.

use std::collections::BTreeMap;

use selvedge_msp::policy::{SignaturePolicy, SignedData, Signers, verify_signatures};
use selvedge_msp::{Msp, MspManager, MspVersion};
use selvedge_proto::{common, msp, protos};

use crate::acl;
use crate::application::ApplicationConfig;
use crate::capabilities::{Capabilities, CapabilityGroup, Level};
use crate::error::ConfigError;
use crate::orderer::{OrdererConfig, org_msp};
use crate::path::{ElementKind, ElementPath, ROOT, check_channel_id, child, elements};
use crate::policy::{Policy, PolicyRefusal, PolicyTree, RefusalReason};
use crate::values::{GroupView, names};
use crate::verify::config_envelope_of;

/// Whose capabilities must be known (spec 03 §10.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// A peer: those of the channel and the application.
    Peer,
    /// An ordering node: those of the channel and the ordering service.
    Orderer,
    /// All of them: for tools, and for a process that is both.
    Any,
}

impl NodeRole {
    fn must_know(self, group: CapabilityGroup) -> bool {
        match group {
            CapabilityGroup::Channel => true,
            CapabilityGroup::Orderer => self != Self::Peer,
            CapabilityGroup::Application => self != Self::Orderer,
        }
    }
}

/// Where the ordering service is reached, and how its TLS certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdererEndpoint {
    /// The organisation that runs it; `None` for a global address (`/Channel/OrdererAddresses`).
    pub msp_id: Option<String>,
    /// `host:port`.
    pub address: String,
    /// PEM certificates of the TLS authorities to trust, one each.
    pub tls_roots: Vec<Vec<u8>>,
}

/// One channel's configuration at one sequence number. Immutable: a config transaction leads to a new one.
#[derive(Debug)]
pub struct Bundle {
    channel_id: String,
    role: NodeRole,
    config: common::Config,
    capabilities: Capabilities,
    msps: MspManager,
    policies: PolicyTree,
    orderer: Option<OrdererConfig>,
    application: Option<ApplicationConfig>,
    orderer_addresses: Vec<String>,
}

const CHANNEL_VALUES: &[&str] = &[
    names::HASHING_ALGORITHM,
    names::BLOCK_DATA_HASHING_STRUCTURE,
    names::ORDERER_ADDRESSES,
    names::CONSORTIUM,
    names::CAPABILITIES,
];

impl Bundle {
    /// Reads and checks a configuration; every capability in it must be known.
    ///
    /// # Errors
    /// Names the element that is missing, does not decode or breaks a rule.
    pub fn from_config(channel_id: &str, config: common::Config) -> Result<Self, ConfigError> {
        Self::from_config_as(NodeRole::Any, channel_id, config)
    }

    /// Reads and checks a configuration for a node of one role (spec 03 §10.2 step 7, §10.4): exactly as strictly as
    /// Fabric, since a node that refuses the configuration of a block halts. What is refused beyond that, before it gets
    /// into a block, is in the module `strict`.
    ///
    /// # Errors
    /// Names the element that is missing, does not decode or breaks a rule.
    pub fn from_config_as(
        role: NodeRole,
        channel_id: &str,
        config: common::Config,
    ) -> Result<Self, ConfigError> {
        check_channel_id(channel_id)?;
        let root = config
            .channel_group
            .as_ref()
            .ok_or_else(|| ConfigError::NoChannelGroup(channel_id.to_owned()))?;
        elements(root)?;
        let root_path = format!("/{ROOT}");
        let channel = GroupView {
            path: &root_path,
            group: root,
        };
        channel.only_values(CHANNEL_VALUES, "it is no value of the channel group")?;
        capabilities_in_order(root)?;
        let capabilities = gate(role, root)?;
        check_hashing(channel)?;
        let addresses: common::OrdererAddresses = channel.read(names::ORDERER_ADDRESSES)?.unwrap_or_default();
        if !addresses.addresses.is_empty() && capabilities.at_least(Level::V3_0) {
            return Err(channel.invalid(
                names::ORDERER_ADDRESSES,
                "global addresses are not allowed with capability V3_0; give each ordering organisation its Endpoints",
            ));
        }

        let mut msps = MspSet::new(msp_version(&capabilities));
        let mut orderer = None;
        let mut application = None;
        let mut group_names: Vec<&String> = root.groups.keys().collect();
        group_names.sort_unstable();
        for name in group_names {
            let path = child(&root_path, name);
            let Some(group) = root.groups.get(name) else {
                continue;
            };
            let view = GroupView { path: &path, group };
            match name.as_str() {
                names::ORDERER => orderer = Some(OrdererConfig::read(view, msps.add_orgs(view)?)?),
                names::APPLICATION => {
                    application = Some(ApplicationConfig::read(view, msps.add_orgs(view)?)?)
                }
                _ => {
                    return Err(ConfigError::Misplaced {
                        element: ElementPath::new(ElementKind::Group, path),
                        why: "a channel has the groups Application and Orderer",
                    });
                }
            }
        }
        let policies = PolicyTree::build(root)?;
        Ok(Self {
            channel_id: channel_id.to_owned(),
            role,
            capabilities,
            msps: msps.into_manager(),
            policies,
            orderer,
            application,
            orderer_addresses: addresses.addresses,
            config,
        })
    }

    /// Reads the configuration out of a config block; every capability in it must be known.
    ///
    /// # Errors
    /// The block is no config block, or its configuration cannot be used.
    pub fn from_config_block(block: &common::Block) -> Result<Self, ConfigError> {
        Self::from_config_block_as(NodeRole::Any, block)
    }

    /// Reads the configuration out of a config block for a node of one role.
    ///
    /// # Errors
    /// The block is no config block, or its configuration cannot be used.
    pub fn from_config_block_as(role: NodeRole, block: &common::Block) -> Result<Self, ConfigError> {
        let (channel_id, envelope) = config_envelope_of(block)?;
        let config = envelope.config.ok_or_else(|| ConfigError::NotAConfigBlock {
            number: block.header.as_ref().map_or(0, |h| h.number),
            why: "its ConfigEnvelope has no config".to_owned(),
        })?;
        Self::from_config_as(role, &channel_id, config)
    }

    /// Id of the channel.
    pub fn channel_id(&self) -> &str {
        &self.channel_id
    }

    /// Sequence number of the configuration: 0 for the genesis block, one more with each config transaction.
    pub fn sequence(&self) -> u64 {
        self.config.sequence
    }

    /// The configuration as it was given.
    pub fn config(&self) -> &common::Config {
        &self.config
    }

    /// The role whose capabilities were checked.
    pub fn role(&self) -> NodeRole {
        self.role
    }

    /// Capabilities of the channel group.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The members' MSPs.
    pub fn msps(&self) -> &MspManager {
        &self.msps
    }

    /// A policy by its path, such as `/Channel/Application/Writers`; a relative one starts at the root group.
    pub fn policy(&self, path: &str) -> Option<&Policy> {
        self.policies.get(path)
    }

    /// Paths of all policies, sorted.
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        self.policies.paths()
    }

    /// Asks a policy whether the signers are enough. A policy that does not exist denies (spec 02 §14.3).
    ///
    /// # Errors
    /// Explains what was missing and why each signer did not count.
    pub fn evaluate(&self, path: &str, signers: &Signers) -> Result<(), PolicyRefusal> {
        self.policies.evaluate(path, &self.msps, signers)
    }

    /// Verifies signatures and asks a policy about the signers.
    ///
    /// # Errors
    /// Explains what was missing and why each signer did not count.
    pub fn evaluate_signed(&self, path: &str, signed: &[SignedData]) -> Result<(), PolicyRefusal> {
        self.evaluate(path, &verify_signatures(&self.msps, signed))
    }

    /// Asks the policy of a chaincode or collection: a signature policy of its own, or a reference to one of the
    /// channel's (spec 03 §4).
    ///
    /// # Errors
    /// Explains what was missing; a policy that names nothing or does not compile is never satisfied.
    pub fn evaluate_application_policy(
        &self,
        policy: &protos::ApplicationPolicy,
        signers: &Signers,
    ) -> Result<(), PolicyRefusal> {
        use protos::application_policy::Type;
        let inline = |reason| PolicyRefusal {
            policy: "given with the definition".to_owned(),
            reason,
        };
        match &policy.r#type {
            None => Err(inline(RefusalReason::Empty)),
            Some(Type::ChannelConfigPolicyReference(path)) => self.evaluate(path, signers),
            Some(Type::SignaturePolicy(envelope)) => SignaturePolicy::compile(envelope)
                .map_err(|e| inline(RefusalReason::Unusable(e.to_string())))?
                .evaluate(&self.msps, signers)
                .map_err(|refusal| inline(RefusalReason::Signature(Box::new(refusal)))),
        }
    }

    /// The ordering service's settings.
    pub fn orderer(&self) -> Option<&OrdererConfig> {
        self.orderer.as_ref()
    }

    /// The application's settings.
    pub fn application(&self) -> Option<&ApplicationConfig> {
        self.application.as_ref()
    }

    /// Addresses of the ordering service, each with the TLS authorities of its organisation; the global addresses, with
    /// the authorities of all ordering organisations, where no organisation gives its own (spec 05 §8).
    pub fn orderer_endpoints(&self) -> Vec<OrdererEndpoint> {
        let Some(orderer) = &self.orderer else {
            return Vec::new();
        };
        let mut endpoints: Vec<OrdererEndpoint> = Vec::new();
        for (msp_id, addresses) in &orderer.org_endpoints {
            let tls_roots = self.tls_roots(msp_id);
            endpoints.extend(addresses.iter().map(|address| OrdererEndpoint {
                msp_id: Some(msp_id.clone()),
                address: address.clone(),
                tls_roots: tls_roots.clone(),
            }));
        }
        if endpoints.is_empty() {
            let tls_roots: Vec<Vec<u8>> = orderer.orgs.values().flat_map(|id| self.tls_roots(id)).collect();
            endpoints.extend(self.orderer_addresses.iter().map(|address| OrdererEndpoint {
                msp_id: None,
                address: address.clone(),
                tls_roots: tls_roots.clone(),
            }));
        }
        endpoints
    }

    /// PEM certificates of a member's TLS authorities, roots and intermediates; empty for an unknown MSP id.
    pub fn tls_roots(&self, msp_id: &str) -> Vec<Vec<u8>> {
        self.msps.get(msp_id).map(Msp::ca_tls_roots).unwrap_or_default()
    }

    /// Path of the policy that guards a resource of a peer: the channel's own choice, else the default; `None` denies.
    pub fn acl_policy(&self, resource: &str) -> Option<String> {
        self.application
            .as_ref()
            .and_then(|application| application.acls.get(resource).cloned())
            .or_else(|| acl::channel_default(resource).map(str::to_owned))
    }
}

/// Capabilities of the channel or application make no sense while the ordering service, which has to judge updates under
/// them, names none.
fn capabilities_in_order(root: &common::ConfigGroup) -> Result<(), ConfigError> {
    let Some(orderer) = root.groups.get(names::ORDERER) else {
        return Ok(());
    };
    if orderer.values.contains_key(names::CAPABILITIES) {
        return Ok(());
    }
    let application = root.groups.get(names::APPLICATION);
    if root.values.contains_key(names::CAPABILITIES)
        || application.is_some_and(|g| g.values.contains_key(names::CAPABILITIES))
    {
        return Err(ConfigError::Missing(ElementPath::new(
            ElementKind::Value,
            format!("{}/{}", CapabilityGroup::Orderer.path(), names::CAPABILITIES),
        )));
    }
    Ok(())
}

/// Checks the capabilities of every group the role must know; gives those of the channel group.
fn gate(role: NodeRole, root: &common::ConfigGroup) -> Result<Capabilities, ConfigError> {
    let mut of_channel = Capabilities::default();
    let groups = [
        (CapabilityGroup::Channel, Some(root)),
        (CapabilityGroup::Orderer, root.groups.get(names::ORDERER)),
        (CapabilityGroup::Application, root.groups.get(names::APPLICATION)),
    ];
    for (kind, group) in groups {
        let Some(group) = group else { continue };
        let view = GroupView {
            path: kind.path(),
            group,
        };
        let message: common::Capabilities = view.read(names::CAPABILITIES)?.unwrap_or_default();
        let capabilities = Capabilities::new(kind, &message);
        if role.must_know(kind) && !capabilities.unknown().is_empty() {
            return Err(ConfigError::UnsupportedCapability {
                group: kind.path(),
                names: capabilities.unknown().iter().cloned().collect(),
            });
        }
        if kind == CapabilityGroup::Channel {
            of_channel = capabilities;
        }
    }
    Ok(of_channel)
}

fn check_hashing(channel: GroupView<'_>) -> Result<(), ConfigError> {
    let algorithm: common::HashingAlgorithm = channel.require(names::HASHING_ALGORITHM)?;
    // Nothing is hashed by this choice, in Fabric neither: blocks and proposals are hashed with SHA-256 always.
    if !["SHA256", "SHA3_256"].contains(&algorithm.name.as_str()) {
        return Err(channel.invalid(
            names::HASHING_ALGORITHM,
            format!("'{}' is not supported, use 'SHA256'", algorithm.name),
        ));
    }
    let structure: common::BlockDataHashingStructure =
        channel.require(names::BLOCK_DATA_HASHING_STRUCTURE)?;
    if structure.width != u32::MAX {
        return Err(channel.invalid(
            names::BLOCK_DATA_HASHING_STRUCTURE,
            format!("width {} is not supported, use {}", structure.width, u32::MAX),
        ));
    }
    Ok(())
}

/// The MSP rules that a channel's capabilities put in force (spec 02 §13.2).
fn msp_version(capabilities: &Capabilities) -> MspVersion {
    match capabilities.level() {
        Some(level) if level >= Level::V3_0 => MspVersion::V3_0,
        Some(level) if level >= Level::V1_4_3 => MspVersion::V1_4_3,
        Some(level) if level >= Level::V1_3 => MspVersion::V1_3,
        Some(level) if level >= Level::V1_1 => MspVersion::V1_1,
        _ => MspVersion::V1_0,
    }
}

/// The MSPs of all organisations; one that is in both groups counts once.
struct MspSet {
    version: MspVersion,
    seen: BTreeMap<String, (String, msp::MspConfig)>,
    msps: Vec<Msp>,
}

impl MspSet {
    fn new(version: MspVersion) -> Self {
        Self {
            version,
            seen: BTreeMap::new(),
            msps: Vec::new(),
        }
    }

    /// Sets up the MSPs of a group's organisations; gives their ids by group name.
    fn add_orgs(&mut self, view: GroupView<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut ids = BTreeMap::new();
        let mut org_names: Vec<&String> = view.group.groups.keys().collect();
        org_names.sort_unstable();
        for name in org_names {
            let Some(group) = view.group.groups.get(name) else {
                continue;
            };
            let path = child(view.path, name);
            let config = org_msp(GroupView { path: &path, group })?;
            let msp = Msp::new(&config, self.version).map_err(|source| ConfigError::Msp {
                group: path.clone(),
                source: Box::new(source),
            })?;
            let id = msp.id().to_owned();
            ids.insert(name.clone(), id.clone());
            match self.seen.get(&id) {
                Some((_, same)) if *same == config => {}
                Some((first, _)) => {
                    return Err(ConfigError::MspConflict {
                        msp_id: id,
                        first: first.clone(),
                        second: path,
                    });
                }
                None => {
                    self.seen.insert(id, (path, config));
                    self.msps.push(msp);
                }
            }
        }
        Ok(ids)
    }

    fn into_manager(self) -> MspManager {
        MspManager::new(self.msps)
    }
}
