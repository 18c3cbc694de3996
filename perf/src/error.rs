//! What goes wrong in a benchmark.

use std::path::PathBuf;

/// Failures, as sentences for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PerfError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A matrix or report file makes no sense.
    #[error("{}: {why}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The network of a run does not come up.
    #[error("{0}")]
    Network(String),
    /// A client call failed outside of the measured load.
    #[error("{what}: {source}")]
    Client {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: Box<selvedge_sdk::Error>,
    },
}

impl PerfError {
    /// For `map_err` on file operations.
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// For `map_err` on client calls.
    pub(crate) fn client(what: impl Into<String>) -> impl FnOnce(selvedge_sdk::Error) -> Self {
        let what = what.into();
        move |source| Self::Client {
            what,
            source: Box::new(source),
        }
    }
}
