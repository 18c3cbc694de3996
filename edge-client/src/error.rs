//! Why an edge gateway cannot start or go on.

use std::path::PathBuf;

use crate::buffer::BufferError;

/// Failures of the gateway as a whole; a single request's fate is in its [`crate::EntryView`].
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A running gateway does not answer.
    #[error("no gateway answers at {url}: {why}; is it running, and is this its 'listen' address?")]
    NoAnswer {
        /// Where it was looked for.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The doctor found something that does not work.
    #[error("{failed} of {checks} checks failed; what to do stands below each")]
    Unwell {
        /// How many failed.
        failed: usize,
        /// How many there were.
        checks: usize,
    },
    /// The configuration is not usable.
    #[error("{}: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The gateway's certificate or key is not usable, or cannot be kept beside the buffer.
    #[error("identity in {}: {why}", path.display())]
    Identity {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The buffer failed.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// A journal failed.
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
    /// The file of device keys is not usable.
    #[error(transparent)]
    Keys(#[from] crate::sealed::KeyFileError),
    /// The call-backs cannot start.
    #[error(transparent)]
    Callbacks(#[from] selvedge_callbacks::CallbackError),
    /// A connection setting is not usable, or the listener failed.
    #[error(transparent)]
    Comm(#[from] selvedge_comm::CommError),
    /// The operations endpoint cannot be opened.
    #[error(transparent)]
    Operations(#[from] selvedge_operations::OperationsError),
    /// The client could not be set up.
    #[error(transparent)]
    Sdk(#[from] selvedge_sdk::Error),
}
