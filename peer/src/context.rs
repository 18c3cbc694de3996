//! What the endorser and the system chaincodes need to know about the peer they run in.

use std::sync::Arc;

use selvedge_msp::{MspManager, SigningIdentity};
use selvedge_proto::common;

use crate::channel::PeerChannel;

/// The peer as its endorser sees it.
pub trait PeerContext: Send + Sync + 'static {
    /// The identity that this peer endorses with, as it is at the moment: renewal replaces it.
    fn identity(&self) -> SigningIdentity;
    /// Holds this peer's own MSP and no other: it judges proposals that name no channel (spec 08 §1.2, §2).
    fn local_msp(&self) -> Arc<MspManager>;
    /// A channel that this peer has joined.
    fn channel(&self, id: &str) -> Option<Arc<PeerChannel>>;
    /// Ids of the channels that this peer has joined, sorted.
    fn channels(&self) -> Vec<String>;
    /// Creates the channel's ledger from its configuration block and starts the channel. Blocks while it writes.
    ///
    /// # Errors
    /// The channel exists already, or the block is refused or cannot be stored.
    fn join_channel(&self, block: common::Block) -> Result<(), JoinError>;
}

/// Why a peer could not join a channel.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is a ledger of that channel already.
    #[error("ledger [{channel}] already exists with state [ACTIVE]")]
    AlreadyExists {
        /// Id of the channel.
        channel: String,
    },
    /// The block is no usable configuration block, or the ledger could not be made.
    #[error("{0}")]
    Refused(String),
}
