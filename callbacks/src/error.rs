//! Why a call of this crate fails.

use std::path::PathBuf;

/// Failures that a caller is told of. What happens while a subscription runs is in its view instead.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// A part of a request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no such subscription, or it is another owner's.
    #[error("there is no subscription {0}")]
    Unknown(String),
    /// A subscription of this name exists with other content.
    #[error("there is already a subscription {0}; remove it first, or choose another id")]
    Exists(String),
    /// A limit is reached.
    #[error("{0}")]
    Busy(String),
    /// The peer does not let this identity read the channel's events.
    #[error("{0}")]
    Forbidden(String),
    /// No peer answers now.
    #[error("no peer gives events now: {0}")]
    Unavailable(String),
    /// A file cannot be read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// TLS settings are not usable.
    #[error(transparent)]
    Comm(#[from] selvedge_comm::CommError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers, so no secret can be made")]
    Random,
}
