//! Reading the values of a group.

use selvedge_proto::{Message, common, go_compat, prost};

use crate::error::ConfigError;
use crate::path::{ElementKind, ElementPath, child};

/// Names of groups and values of the configuration tree (spec 05 §6).
pub mod names {
    #![allow(missing_docs, reason = "each constant is its own name in the tree")]
    pub const APPLICATION: &str = "Application";
    pub const ORDERER: &str = "Orderer";
    pub const HASHING_ALGORITHM: &str = "HashingAlgorithm";
    pub const BLOCK_DATA_HASHING_STRUCTURE: &str = "BlockDataHashingStructure";
    pub const ORDERER_ADDRESSES: &str = "OrdererAddresses";
    pub const CONSORTIUM: &str = "Consortium";
    pub const CAPABILITIES: &str = "Capabilities";
    pub const CONSENSUS_TYPE: &str = "ConsensusType";
    pub const BATCH_SIZE: &str = "BatchSize";
    pub const BATCH_TIMEOUT: &str = "BatchTimeout";
    pub const KAFKA_BROKERS: &str = "KafkaBrokers";
    pub const CHANNEL_RESTRICTIONS: &str = "ChannelRestrictions";
    pub const ORDERERS: &str = "Orderers";
    pub const ENDPOINTS: &str = "Endpoints";
    pub const ACLS: &str = "ACLs";
    pub const ANCHOR_PEERS: &str = "AnchorPeers";
    pub const MSP: &str = "MSP";
    pub const READERS: &str = "Readers";
    pub const WRITERS: &str = "Writers";
    pub const ADMINS: &str = "Admins";
    pub const ENDORSEMENT: &str = "Endorsement";
    pub const LIFECYCLE_ENDORSEMENT: &str = "LifecycleEndorsement";
    pub const BLOCK_VALIDATION: &str = "BlockValidation";
}

/// A group with its path, for reading its values.
#[derive(Clone, Copy)]
pub(crate) struct GroupView<'a> {
    pub(crate) path: &'a str,
    pub(crate) group: &'a common::ConfigGroup,
}

impl GroupView<'_> {
    pub(crate) fn value_path(&self, name: &str) -> ElementPath {
        ElementPath::new(ElementKind::Value, child(self.path, name))
    }

    pub(crate) fn invalid(&self, name: &str, why: impl Into<String>) -> ConfigError {
        ConfigError::Invalid {
            element: self.value_path(name),
            why: why.into(),
        }
    }

    /// Decodes a value; `None` when the group has none of that name.
    pub(crate) fn read<M>(&self, name: &str) -> Result<Option<M>, ConfigError>
    where
        M: Message + prost::Name + Default,
    {
        let Some(value) = self.group.values.get(name) else {
            return Ok(None);
        };
        go_compat::decode(value.value.clone())
            .map(Some)
            .map_err(|e| ConfigError::Undecodable {
                element: self.value_path(name),
                why: e.to_string(),
            })
    }

    pub(crate) fn require<M>(&self, name: &str) -> Result<M, ConfigError>
    where
        M: Message + prost::Name + Default,
    {
        self.read(name)?
            .ok_or_else(|| ConfigError::Missing(self.value_path(name)))
    }

    /// Refuses values whose name is not one of `known`.
    pub(crate) fn only_values(&self, known: &[&str], why: &'static str) -> Result<(), ConfigError> {
        let mut unknown: Vec<&String> = self
            .group
            .values
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
            .collect();
        unknown.sort_unstable();
        match unknown.first() {
            None => Ok(()),
            Some(name) => Err(ConfigError::Misplaced {
                element: self.value_path(name),
                why,
            }),
        }
    }

    pub(crate) fn no_groups(&self, why: &'static str) -> Result<(), ConfigError> {
        match self.group.groups.keys().min() {
            None => Ok(()),
            Some(name) => Err(ConfigError::Misplaced {
                element: ElementPath::new(ElementKind::Group, child(self.path, name)),
                why,
            }),
        }
    }
}
