//! The operations section of a node's configuration file.

use std::path::{Path, PathBuf};

use selvedge_comm::{ClientAuth, CommError, ServerTls, TlsIdentity};
use serde::{Deserialize, Serialize};

use crate::log_spec::LogControl;

/// Where a node tells of itself: `operations: {listen: 127.0.0.1:9443, tls: {certificate, key, client_roots}}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationsConfig {
    /// Address to listen on. Without TLS it should be one of this machine only: whoever reaches it can change the log.
    pub listen: String,
    /// TLS of the listener; plain HTTP if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<OperationsTls>,
    /// The log that `/logspec` shows and changes. Not from the file: whoever starts the node sets it.
    #[serde(skip)]
    pub log: LogControl,
}

/// TLS of the operations endpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationsTls {
    /// PEM certificate chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// PEM roots of client certificates. If there are any, `/metrics` and `/logspec` are for callers with such a
    /// certificate only; `/healthz` and `/version` are for all.
    #[serde(default)]
    pub client_roots: Vec<PathBuf>,
}

impl OperationsConfig {
    /// An endpoint without TLS.
    pub fn plain(listen: impl Into<String>) -> Self {
        Self {
            listen: listen.into(),
            tls: None,
            log: LogControl::default(),
        }
    }

    /// Makes relative paths start at `base`.
    pub fn resolve(&mut self, base: &Path) {
        if let Some(tls) = &mut self.tls {
            tls.certificate = base.join(&tls.certificate);
            tls.key = base.join(&tls.key);
            for path in &mut tls.client_roots {
                *path = base.join(&*path);
            }
        }
    }

    /// Whether `/metrics` and `/logspec` are for known callers only.
    pub(crate) fn knows_callers(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.client_roots.is_empty())
    }

    pub(crate) fn server_tls(&self) -> Result<Option<ServerTls>, CommError> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let mut client_roots = Vec::new();
        for path in &tls.client_roots {
            client_roots.push(std::fs::read(path).map_err(|source| CommError::ReadFile {
                path: path.clone(),
                source,
            })?);
        }
        Ok(Some(ServerTls {
            identity: TlsIdentity::from_files(&tls.certificate, &tls.key)?,
            client_auth: if client_roots.is_empty() {
                ClientAuth::Request
            } else {
                ClientAuth::Verify
            },
            client_roots: client_roots.into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file() {
        let text = r#"{"listen":"127.0.0.1:0","tls":{"certificate":"c.pem","key":"/k.pem","client_roots":["r.pem"]}}"#;
        let mut config: OperationsConfig = serde_json::from_str(text).unwrap();
        config.resolve(Path::new("/etc/selvedge"));
        assert!(config.knows_callers());
        let tls = config.tls.unwrap();
        assert_eq!(tls.certificate, Path::new("/etc/selvedge/c.pem"));
        assert_eq!(tls.key, Path::new("/k.pem"));
        assert_eq!(tls.client_roots, [Path::new("/etc/selvedge/r.pem")]);
        let unknown = r#"{"listen":"127.0.0.1:0","colour":"red"}"#;
        assert!(serde_json::from_str::<OperationsConfig>(unknown).is_err());
    }
}
