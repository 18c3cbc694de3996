//! Changing a configuration in the ways administrators need; the result goes to [`compute`](super::compute).

use std::time::Duration;

use selvedge_proto::{Bytes, Message, common, etcdraft, go_compat, msp, orderer, protos};

use crate::acl;
use crate::build::{self, OrgProfile};
use crate::error::NameError;
use crate::orderer::{BatchSize, ETCDRAFT};
use crate::path::{ElementKind, ElementPath, ROOT, check_element_name, child};
use crate::values::names;

/// Why an edit is not possible.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The element that should change is not there.
    #[error("the configuration has no {0}")]
    Missing(ElementPath),
    /// The element that should be added is there already.
    #[error("the configuration has {0} already")]
    Exists(ElementPath),
    /// The value that should change does not decode.
    #[error("{element} does not decode: {why}")]
    Undecodable {
        /// Which one.
        element: ElementPath,
        /// What the decoder said.
        why: String,
    },
    /// The new element's name is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The consenters can be replaced for Raft only.
    #[error(
        "the channel's consensus type is '{0}', only 'etcdraft' has a set of consenters that can be edited"
    )]
    NotRaft(String),
}

/// A configuration that is being edited. Versions are not touched: the update that is computed from it sets them.
#[derive(Debug, Clone)]
pub struct ConfigTree {
    config: common::Config,
}

impl ConfigTree {
    /// Starts from a configuration.
    pub fn from_config(config: &common::Config) -> Self {
        Self {
            config: config.clone(),
        }
    }

    /// The edited configuration, with versions and sequence as they were.
    pub fn into_config(self) -> common::Config {
        self.config
    }

    /// A group by its absolute path.
    ///
    /// # Errors
    /// There is none.
    pub fn group_mut(&mut self, path: &str) -> Result<&mut common::ConfigGroup, EditError> {
        let missing = || EditError::Missing(ElementPath::new(ElementKind::Group, path));
        let mut group = self.config.channel_group.as_mut().ok_or_else(missing)?;
        let mut parts = path.split('/').skip(1);
        if parts.next() != Some(ROOT) {
            return Err(missing());
        }
        for part in parts {
            group = group.groups.get_mut(part).ok_or_else(missing)?;
        }
        Ok(group)
    }

    /// Puts a value's content in, keeping who may change it; a new one is guarded by its group's administrators.
    fn put(&mut self, group_path: &str, name: &str, new: common::ConfigValue) -> Result<(), EditError> {
        let values = &mut self.group_mut(group_path)?.values;
        match values.get_mut(name) {
            Some(existing) => existing.value = new.value,
            None => {
                values.insert(name.to_owned(), new);
            }
        }
        Ok(())
    }

    fn read<M>(&mut self, group_path: &str, name: &str) -> Result<M, EditError>
    where
        M: Message + selvedge_proto::prost::Name + Default,
    {
        let element = ElementPath::new(ElementKind::Value, child(group_path, name));
        let value = self.group_mut(group_path)?.values.get(name);
        let value = value
            .ok_or_else(|| EditError::Missing(element.clone()))?
            .value
            .clone();
        go_compat::decode(value).map_err(|e| EditError::Undecodable {
            element,
            why: e.to_string(),
        })
    }

    /// Sets the limits of a batch.
    ///
    /// # Errors
    /// The configuration has no orderer group.
    pub fn set_batch_size(&mut self, size: &BatchSize) -> Result<(), EditError> {
        self.put(ORDERER_PATH, names::BATCH_SIZE, build::batch_size(size))
    }

    /// Sets how long a message may wait for its batch.
    ///
    /// # Errors
    /// The configuration has no orderer group.
    pub fn set_batch_timeout(&mut self, timeout: Duration) -> Result<(), EditError> {
        self.put(ORDERER_PATH, names::BATCH_TIMEOUT, build::batch_timeout(timeout))
    }

    /// Adds an organisation to the application group.
    ///
    /// # Errors
    /// There is no application group, the name is not allowed or taken.
    pub fn add_application_org(&mut self, org: &OrgProfile) -> Result<(), EditError> {
        self.add_org(APPLICATION_PATH, &org.name, build::application_org(org))
    }

    /// Adds an organisation to the orderer group.
    ///
    /// # Errors
    /// There is no orderer group, the name is not allowed or taken.
    pub fn add_orderer_org(&mut self, org: &OrgProfile) -> Result<(), EditError> {
        self.add_org(ORDERER_PATH, &org.name, build::orderer_org(org))
    }

    fn add_org(&mut self, path: &str, name: &str, org: common::ConfigGroup) -> Result<(), EditError> {
        check_element_name(name, path)?;
        let groups = &mut self.group_mut(path)?.groups;
        if groups.contains_key(name) {
            return Err(EditError::Exists(ElementPath::new(
                ElementKind::Group,
                child(path, name),
            )));
        }
        groups.insert(name.to_owned(), org);
        Ok(())
    }

    /// Removes an organisation, by the name of its group, from the application group.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn remove_application_org(&mut self, name: &str) -> Result<(), EditError> {
        self.remove_org(APPLICATION_PATH, name)
    }

    /// Removes an organisation, by the name of its group, from the orderer group.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn remove_orderer_org(&mut self, name: &str) -> Result<(), EditError> {
        self.remove_org(ORDERER_PATH, name)
    }

    fn remove_org(&mut self, path: &str, name: &str) -> Result<(), EditError> {
        match self.group_mut(path)?.groups.remove(name) {
            Some(_) => Ok(()),
            None => Err(EditError::Missing(ElementPath::new(
                ElementKind::Group,
                child(path, name),
            ))),
        }
    }

    /// Sets the anchor peers of an organisation of the application; none removes the value.
    ///
    /// # Errors
    /// There is no such organisation.
    pub fn set_anchor_peers(&mut self, org: &str, anchors: &[(String, u16)]) -> Result<(), EditError> {
        let path = child(APPLICATION_PATH, org);
        if anchors.is_empty() {
            self.group_mut(&path)?.values.remove(names::ANCHOR_PEERS);
            return Ok(());
        }
        self.put(&path, names::ANCHOR_PEERS, build::anchor_peers(anchors))
    }

    /// Sets the addresses of an ordering organisation's nodes.
    ///
    /// # Errors
    /// There is no such organisation.
    pub fn set_orderer_endpoints(&mut self, org: &str, addresses: &[String]) -> Result<(), EditError> {
        let endpoints = common::OrdererAddresses {
            addresses: addresses.to_vec(),
        };
        self.put(
            &child(ORDERER_PATH, org),
            names::ENDPOINTS,
            build::value(&endpoints),
        )
    }

    /// Replaces Raft's nodes, keeping its options and state. An ordering service takes one that joins and one that leaves
    /// with an update.
    ///
    /// # Errors
    /// The configuration has no consensus type, or another one than Raft.
    pub fn set_consenters(&mut self, consenters: &[etcdraft::Consenter]) -> Result<(), EditError> {
        self.edit_consensus(|_, raft| raft.consenters = consenters.to_vec())
    }

    /// Puts the channel into maintenance state, or back to normal.
    ///
    /// # Errors
    /// The configuration has no consensus type, or another one than Raft.
    pub fn set_consensus_state(&mut self, state: orderer::consensus_type::State) -> Result<(), EditError> {
        self.edit_consensus(|consensus, _| consensus.state = state as i32)
    }

    fn edit_consensus(
        &mut self,
        edit: impl FnOnce(&mut orderer::ConsensusType, &mut etcdraft::ConfigMetadata),
    ) -> Result<(), EditError> {
        let mut consensus: orderer::ConsensusType = self.read(ORDERER_PATH, names::CONSENSUS_TYPE)?;
        if consensus.r#type != ETCDRAFT {
            return Err(EditError::NotRaft(consensus.r#type));
        }
        let mut raft: etcdraft::ConfigMetadata =
            go_compat::decode(consensus.metadata.clone()).map_err(|e| EditError::Undecodable {
                element: ElementPath::new(ElementKind::Value, child(ORDERER_PATH, names::CONSENSUS_TYPE)),
                why: format!("its metadata: {e}"),
            })?;
        edit(&mut consensus, &mut raft);
        consensus.metadata = raft.encode_to_vec().into();
        self.put(ORDERER_PATH, names::CONSENSUS_TYPE, build::value(&consensus))
    }

    /// Sets the certificate revocation lists of an organisation's MSP. `org_path` is the path of its group, such as
    /// `/Channel/Application/Org1`; an organisation that is in both groups needs the same lists in both.
    ///
    /// # Errors
    /// There is no such organisation, or its MSP does not decode.
    pub fn set_msp_crls(&mut self, org_path: &str, crls: &[Bytes]) -> Result<(), EditError> {
        self.edit_msp(org_path, |msp| msp.revocation_list = crls.to_vec())
    }

    /// Changes an organisation's MSP in place.
    ///
    /// # Errors
    /// There is no such organisation, or its MSP does not decode.
    pub fn edit_msp(
        &mut self,
        org_path: &str,
        edit: impl FnOnce(&mut msp::FabricMspConfig),
    ) -> Result<(), EditError> {
        let mut config: msp::MspConfig = self.read(org_path, names::MSP)?;
        let mut fabric: msp::FabricMspConfig =
            go_compat::decode(config.config.clone()).map_err(|e| EditError::Undecodable {
                element: ElementPath::new(ElementKind::Value, child(org_path, names::MSP)),
                why: e.to_string(),
            })?;
        edit(&mut fabric);
        config.config = fabric.encode_to_vec().into();
        self.put(org_path, names::MSP, build::value(&config))
    }

    /// Sets the policy that guards a resource of the peers; `None` goes back to the default.
    ///
    /// # Errors
    /// There is no application group, or its ACLs do not decode.
    pub fn set_acl(&mut self, resource: &str, policy: Option<&str>) -> Result<(), EditError> {
        let mut acls: protos::AcLs = match self.read(APPLICATION_PATH, names::ACLS) {
            Ok(acls) => acls,
            Err(EditError::Missing(path)) if path.kind == ElementKind::Value => protos::AcLs::default(),
            Err(e) => return Err(e),
        };
        match policy {
            Some(policy) => {
                let resource_policy = protos::ApiResource {
                    policy_ref: acl::absolute(policy),
                };
                acls.acls.insert(resource.to_owned(), resource_policy);
            }
            None => {
                acls.acls.remove(resource);
            }
        }
        self.put(APPLICATION_PATH, names::ACLS, build::value(&acls))
    }

    /// Sets a policy of a group. A new one is guarded by the group's administrators.
    ///
    /// # Errors
    /// There is no such group, or the name is not allowed.
    pub fn set_policy(
        &mut self,
        group_path: &str,
        name: &str,
        policy: common::Policy,
    ) -> Result<(), EditError> {
        check_element_name(name, group_path)?;
        let entry = self.group_mut(group_path)?.policies.entry(name.to_owned());
        let place = entry.or_insert_with(|| common::ConfigPolicy {
            mod_policy: build::ADMINS.to_owned(),
            ..Default::default()
        });
        place.policy = Some(policy);
        Ok(())
    }

    /// Sets the capabilities of `/Channel`, `/Channel/Orderer` or `/Channel/Application`.
    ///
    /// # Errors
    /// There is no such group.
    pub fn set_capabilities(&mut self, group_path: &str, capabilities: &[String]) -> Result<(), EditError> {
        self.put(group_path, names::CAPABILITIES, build::capabilities(capabilities))
    }
}

const ORDERER_PATH: &str = "/Channel/Orderer";
const APPLICATION_PATH: &str = "/Channel/Application";
