//! Is a block one with which a node can join a channel? (spec 05 §7)

use selvedge_proto::{block_data_hash, common};

use crate::bundle::{Bundle, NodeRole};
use crate::error::ConfigError;
use crate::values::names;

/// Why a node cannot join a channel with a block.
#[derive(Debug, thiserror::Error)]
pub enum JoinRefusal {
    /// The block lacks a part.
    #[error("the block has no {0}; give the config block as it was fetched or made")]
    Missing(&'static str),
    /// The block was damaged or made up.
    #[error("the block's data hashes to {found}, its header says {expected}")]
    DataHash {
        /// What the header says, in hex.
        expected: String,
        /// Hash of the data, in hex.
        found: String,
    },
    /// The block holds no configuration, or one that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration is not one of an application channel.
    #[error("the channel configuration has no group {0}, so it is none of an application channel")]
    NoGroup(&'static str),
}

/// Checks the block with which a node is told to join a channel: the genesis block, or a later config block. Such a block
/// is trusted because an administrator gives it; its signatures are not looked at.
///
/// # Errors
/// Says what the block lacks.
pub fn check_join_block(role: NodeRole, block: &common::Block) -> Result<Bundle, JoinRefusal> {
    let header = block.header.as_ref().ok_or(JoinRefusal::Missing("header"))?;
    let data = block.data.as_ref().ok_or(JoinRefusal::Missing("data"))?;
    if block.metadata.as_ref().is_none_or(|m| m.metadata.is_empty()) {
        return Err(JoinRefusal::Missing("metadata"));
    }
    let found = block_data_hash(&data.data);
    if found != header.data_hash {
        return Err(JoinRefusal::DataHash {
            expected: hex::encode(&header.data_hash),
            found: hex::encode(&found),
        });
    }
    let bundle = Bundle::from_config_block_as(role, block)?;
    if bundle.application().is_none() {
        return Err(JoinRefusal::NoGroup(names::APPLICATION));
    }
    if bundle.orderer().is_none() {
        return Err(JoinRefusal::NoGroup(names::ORDERER));
    }
    Ok(bundle)
}
