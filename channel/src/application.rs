//! The application's part of the configuration: organisations, access control, capabilities (spec 05 §6, 08 §4).

use std::collections::BTreeMap;

use selvedge_proto::{common, protos};

use crate::acl;
use crate::capabilities::{Capabilities, CapabilityGroup, Level};
use crate::error::ConfigError;
use crate::path::child;
use crate::values::{GroupView, names};

/// An organisation of the application group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationOrg {
    /// Its MSP id, which need not be the name of its group.
    pub msp_id: String,
    /// Addresses (host, port) at which other organisations find its peers; without those that are no address, which a
    /// configuration may hold (Fabric does not look at them).
    pub anchor_peers: Vec<(String, u16)>,
    /// Names of the policies its group has, such as `Endorsement`.
    pub policies: Vec<String>,
}

/// `/Channel/Application`, read.
#[derive(Debug, Clone)]
pub struct ApplicationConfig {
    /// Organisations by the name of their group.
    pub orgs: BTreeMap<String, ApplicationOrg>,
    /// Overrides of the ACL defaults: resource to absolute policy path.
    pub acls: BTreeMap<String, String>,
    /// Capabilities of the group.
    pub capabilities: Capabilities,
}

impl ApplicationConfig {
    /// Reads the group; `orgs` are its organisations' MSP ids by group name.
    pub(crate) fn read(view: GroupView<'_>, orgs: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        view.only_values(
            &[names::CAPABILITIES, names::ACLS],
            "it is no value of the application group",
        )?;
        let capabilities: common::Capabilities = view.read(names::CAPABILITIES)?.unwrap_or_default();
        let capabilities = Capabilities::new(CapabilityGroup::Application, &capabilities);
        let acls: protos::AcLs = view.read(names::ACLS)?.unwrap_or_default();
        if !acls.acls.is_empty() && !capabilities.at_least(Level::V1_2) {
            return Err(view.invalid(names::ACLS, "ACLs need the application capability V1_2 or higher"));
        }
        let acls = acls
            .acls
            .into_iter()
            .filter(|(_, resource)| !resource.policy_ref.is_empty())
            .map(|(name, resource)| (name, acl::absolute(&resource.policy_ref)))
            .collect();
        let mut read = BTreeMap::new();
        for (group_name, msp_id) in orgs {
            let Some(group) = view.group.groups.get(&group_name) else {
                continue;
            };
            let path = child(view.path, &group_name);
            read.insert(
                group_name,
                ApplicationOrg::read(GroupView { path: &path, group }, msp_id)?,
            );
        }
        Ok(Self {
            orgs: read,
            acls,
            capabilities,
        })
    }

    /// The organisation of an MSP id, with the name of its group.
    pub fn org_by_msp(&self, msp_id: &str) -> Option<(&str, &ApplicationOrg)> {
        self.orgs
            .iter()
            .find(|(_, org)| org.msp_id == msp_id)
            .map(|(name, org)| (name.as_str(), org))
    }

    /// MSP ids of the organisations, sorted and distinct.
    pub fn msp_ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.orgs.values().map(|org| org.msp_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// Host and port of an anchor peer; `None` where they are no address.
pub(crate) fn anchor_address(anchor: &protos::AnchorPeer) -> Option<(String, u16)> {
    let port = u16::try_from(anchor.port).ok().filter(|port| *port != 0)?;
    (!anchor.host.is_empty()).then(|| (anchor.host.clone(), port))
}

impl ApplicationOrg {
    fn read(view: GroupView<'_>, msp_id: String) -> Result<Self, ConfigError> {
        view.only_values(
            &[names::MSP, names::ANCHOR_PEERS],
            "an organisation of the application has MSP and AnchorPeers",
        )?;
        let anchors: protos::AnchorPeers = view.read(names::ANCHOR_PEERS)?.unwrap_or_default();
        let anchor_peers = anchors.anchor_peers.iter().filter_map(anchor_address).collect();
        let mut policies: Vec<String> = view.group.policies.keys().cloned().collect();
        policies.sort_unstable();
        Ok(Self {
            msp_id,
            anchor_peers,
            policies,
        })
    }
}
