//! Why a connection could not be served or made.

use std::path::PathBuf;

/// Failures of servers, channels and HTTP calls; each says which object failed.
#[derive(Debug, thiserror::Error)]
pub enum CommError {
    /// A certificate or key file cannot be read.
    #[error("cannot read {}: {source}; check the path and the permissions", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A PEM text holds no usable certificate or key.
    #[error("{what} is not usable as PEM: {why}")]
    Pem {
        /// What the text was meant to be.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// TLS settings do not fit together, for example a key that is not the certificate's.
    #[error("TLS settings are not usable: {0}")]
    Tls(String),
    /// The address to listen on is not free or not ours.
    #[error("cannot listen on {address}: {source}; is another process using this port?")]
    Bind {
        /// The address asked for.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A running server stopped for a reason other than shutdown.
    #[error("server on {address} stopped: {why}")]
    Serve {
        /// Its address.
        address: String,
        /// The reason.
        why: String,
    },
    /// An address is not `host:port`, or an URL is not one.
    #[error("'{address}' is not usable as an address: {why}")]
    Address {
        /// The text.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The other side could not be reached or the handshake failed.
    #[error("cannot connect to {address}: {why}")]
    Connect {
        /// Whom we called.
        address: String,
        /// The reason, TLS alerts included.
        why: String,
    },
    /// An HTTP call broke off, or its answer was too long or too slow.
    #[error("{method} {url} failed: {why}")]
    Http {
        /// The verb.
        method: String,
        /// The URL.
        url: String,
        /// The reason.
        why: String,
    },
}
