//! Why a request is refused (Fabric CA's codes, spec 06 §6) or a server cannot run.

use std::path::PathBuf;

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum CaServerError {
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
    /// The configuration is not usable.
    #[error("{}: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An authority's certificate and key are not usable.
    #[error("authority {name}: {why}")]
    Authority {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The registry's database failed.
    #[error("registry {}: {source}", path.display())]
    Registry {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The listener failed.
    #[error(transparent)]
    Comm(#[from] selvedge_comm::CommError),
    /// The operations endpoint cannot be opened.
    #[error(transparent)]
    Operations(#[from] selvedge_operations::OperationsError),
}

/// A refused request: HTTP status, Fabric CA's code, and the text for the caller. The cause that a caller must not
/// learn goes to the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (code {code}, HTTP {status}){}", cause.as_ref().map(|c| format!(": {c}")).unwrap_or_default())]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: u16,
    pub(crate) message: String,
    pub(crate) cause: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            cause: None,
        }
    }

    /// 401/20: the caller is not told what was wrong.
    pub(crate) fn authentication(cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(401, 20, "Authentication failure")
        }
    }

    /// 403/71: the caller is known but may not do this.
    pub(crate) fn authorization(cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(403, 71, "Authorization failure")
        }
    }

    /// 500: the server's own fault.
    pub(crate) fn internal(code: u16, cause: impl std::fmt::Display) -> Self {
        Self {
            cause: Some(cause.to_string()),
            ..Self::new(
                500,
                code,
                "The authority has an internal problem; its log says more",
            )
        }
    }
}
