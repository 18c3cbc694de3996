//! What can go wrong with a node as a whole, and with joining and removing channels.

use std::path::PathBuf;

use selvedge_comm::CommError;

/// Why an orderer does not start or run.
#[derive(Debug, thiserror::Error)]
pub enum OrdererError {
    /// The settings are not usable.
    #[error("orderer settings {}: {why}", path.display())]
    Config {
        /// The settings file, or the setting's name.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The node's identity cannot be loaded.
    #[error("identity of the orderer in {}: {why}", path.display())]
    Identity {
        /// The MSP folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file or folder cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A listener or its TLS does not work.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// The operations endpoint cannot be opened.
    #[error(transparent)]
    Operations(#[from] selvedge_operations::OperationsError),
}

/// Why a channel was not joined (spec 05 §7).
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The block does not define a channel that this node can serve.
    #[error("invalid join block: {0}")]
    Invalid(String),
    /// The node is in the channel already.
    #[error("cannot join: channel already exists: {0}")]
    Exists(String),
    /// The disk refused.
    #[error("cannot join channel {channel}: {why}")]
    Storage {
        /// Channel id.
        channel: String,
        /// What failed.
        why: String,
    },
}

/// Why a channel was not removed (spec 05 §7).
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoveError {
    #[error("cannot remove: channel does not exist: {0}")]
    Unknown(String),
    #[error("cannot remove channel {channel}: {why}")]
    Storage { channel: String, why: String },
}
