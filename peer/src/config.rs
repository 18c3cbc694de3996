//! Settings of a peer process, read from YAML.
//!
//! ```yaml
//! id: peer0
//! msp_id: Org1MSP
//! msp_dir: msp
//! listen: 127.0.0.1:7051
//! external_address: peer0.org1.example.com:7051
//! tls: {certificate: tls/server.crt, key: tls/server.key, client_roots: [tls/ca.crt], client_auth: request}
//! data_dir: data
//! operations: {listen: 127.0.0.1:9443}
//! gateway: {endorsement_timeout: 30s, broadcast_timeout: 30s, peers: [{address: "peer1.org1.example.com:8051", msp_id: Org1MSP}]}
//! chaincode: {timeout: 30s}
//! validator_pool_size: 4
//! address_overrides: {"orderer0.example.com:7050": "127.0.0.1:7050"}
//! renewal: {ca_url: "https://localhost:7054", tls_roots: [tls/ca.crt], identity_ca: ca-org1, tls_ca: tlsca-org1}
//! ```
//! Paths are relative to the file.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_comm::{ClientAuth, CommError, ServerTls, TlsIdentity};
use selvedge_operations::OperationsConfig;
use selvedge_renewal::RenewalConfig;
use serde::Deserialize;

use crate::chaincode::RuntimeConfig;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no peer configuration.
    #[error("{} is not a usable peer configuration: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        why: String,
    },
}

/// Settings of one peer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// Name of the node in logs.
    pub id: String,
    /// MSP that the peer's identity belongs to.
    pub msp_id: String,
    /// MSP folder with `signcerts` and `keystore` (spec 02 §13.6).
    pub msp_dir: PathBuf,
    /// Address that all services listen on.
    pub listen: String,
    /// `host:port` under which others reach the peer; also how it recognises itself among a channel's peers.
    pub external_address: String,
    /// TLS of the listener, and the certificate shown to others. Without it the peer speaks plain text.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Folder for everything that the peer stores.
    pub data_dir: PathBuf,
    /// Health and metrics.
    #[serde(default)]
    pub operations: Option<OperationsConfig>,
    /// The gateway service.
    #[serde(default)]
    pub gateway: GatewayConfig,
    /// The discovery service.
    #[serde(default)]
    pub discovery: DiscoveryConfig,
    /// Limits of contracts.
    #[serde(default)]
    pub chaincode: ChaincodeConfig,
    /// On how many threads a block is validated, all but one of them shared by all channels; absent: one for each core.
    #[serde(default)]
    pub validator_pool_size: Option<NonZeroUsize>,
    /// Where to dial instead of a `host:port` that the channel configuration names; the certificate is still checked for
    /// the configured host.
    #[serde(default)]
    pub address_overrides: BTreeMap<String, String>,
    /// Where and when the peer renews its certificates; absent: it does not, but takes up what others put into its files.
    #[serde(default)]
    pub renewal: Option<RenewalConfig>,
}

/// TLS of the listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Server certificate, PEM; also shown to other nodes.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Not used by the peer, which trusts what the channel configuration says; allowed so that all roles can share files.
    #[serde(default)]
    pub roots: Vec<PathBuf>,
    /// Roots for client certificates.
    #[serde(default)]
    pub client_roots: Vec<PathBuf>,
    /// Whether clients must show a certificate.
    #[serde(default)]
    pub client_auth: ClientAuthConfig,
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuthConfig {
    /// One is asked for, any or none is taken (spec 01 A.3).
    #[default]
    Request,
    /// One that chains to `client_roots` is demanded.
    Require,
}

/// Another peer that the gateway may ask.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayPeerConfig {
    /// `host:port`.
    pub address: String,
    /// Its organisation, whose TLS authorities its certificate must chain to.
    pub msp_id: String,
}

/// The gateway service (spec 04 §3).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// How long one endorser may take.
    #[serde(deserialize_with = "duration")]
    pub endorsement_timeout: Duration,
    /// How long submitting to the orderers may take.
    #[serde(deserialize_with = "duration")]
    pub broadcast_timeout: Duration,
    /// Calls that are worked on at a time; further ones are refused.
    pub concurrency: usize,
    /// Clients that may wait for commits or events, or read blocks, at a time.
    pub listeners: usize,
    /// Peers to ask besides the anchor peers of the channel.
    pub peers: Vec<GatewayPeerConfig>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            endorsement_timeout: Duration::from_secs(30),
            broadcast_timeout: Duration::from_secs(30),
            concurrency: 500,
            listeners: 10_000,
            peers: Vec::new(),
        }
    }
}

/// The discovery service (spec 08 §7).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoveryConfig {
    /// Queries that name no channel are answered to every member of the peer's organisation, not to its admins alone.
    pub org_members_allowed_access: bool,
}

/// Limits of contracts. Fuel and memory must be the same on all peers of a channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChaincodeConfig {
    /// Units of work of one transaction.
    pub fuel: u64,
    /// Memory of one instance, in bytes.
    pub memory_bytes: usize,
    /// Wall-clock time of one transaction.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Transactions that run at a time.
    pub concurrency: usize,
}

impl Default for ChaincodeConfig {
    fn default() -> Self {
        let runtime = RuntimeConfig::default();
        Self {
            fuel: runtime.fuel,
            memory_bytes: runtime.memory_bytes,
            timeout: runtime.timeout,
            concurrency: runtime.concurrency,
        }
    }
}

impl From<&ChaincodeConfig> for RuntimeConfig {
    fn from(config: &ChaincodeConfig) -> Self {
        Self {
            fuel: config.fuel,
            memory_bytes: config.memory_bytes,
            timeout: config.timeout,
            concurrency: config.concurrency,
        }
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text)
        .map_err(|e| serde::de::Error::custom(format!("{text:?} is no duration such as 30s: {e}")))
}

impl TlsConfig {
    /// The peer's certificate and key.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn identity(&self) -> Result<TlsIdentity, CommError> {
        TlsIdentity::from_files(&self.certificate, &self.key)
    }

    /// Settings of the listener, which shows `identity`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn server(&self, identity: TlsIdentity) -> Result<ServerTls, CommError> {
        let client_roots = self
            .client_roots
            .iter()
            .map(|path| {
                std::fs::read(path).map_err(|source| CommError::ReadFile {
                    path: path.clone(),
                    source,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(ServerTls {
            identity,
            client_roots: client_roots.into(),
            client_auth: match self.client_auth {
                ClientAuthConfig::Request => ClientAuth::Request,
                ClientAuthConfig::Require => ClientAuth::Require,
            },
        })
    }
}

impl PeerConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a setting is missing, unknown or wrong.
    pub fn from_file(path: &Path) -> Result<Self, ConfigFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_yaml(&text, path.parent().unwrap_or(Path::new("."))).map_err(|why| {
            ConfigFileError::Malformed {
                path: path.to_owned(),
                why,
            }
        })
    }

    /// Reads YAML text; relative paths are taken from `base`.
    ///
    /// # Errors
    /// A setting is missing, unknown or wrong; the text says which.
    pub fn from_yaml(text: &str, base: &Path) -> Result<Self, String> {
        let mut config: Self = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
        config.msp_dir = base.join(&config.msp_dir);
        config.data_dir = base.join(&config.data_dir);
        if let Some(tls) = &mut config.tls {
            tls.certificate = base.join(&tls.certificate);
            tls.key = base.join(&tls.key);
            for path in tls.roots.iter_mut().chain(&mut tls.client_roots) {
                *path = base.join(&*path);
            }
        }
        if let Some(operations) = &mut config.operations {
            operations.resolve(base);
        }
        if let Some(renewal) = &mut config.renewal {
            renewal.resolve(base);
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if let Some(renewal) = &self.renewal {
            renewal.check()?;
        }
        for (name, address) in [
            ("listen", &self.listen),
            ("external_address", &self.external_address),
        ] {
            if !address.contains(':') {
                return Err(format!("{name}: {address:?} is not host:port"));
            }
        }
        for (name, value) in [
            ("gateway.concurrency", self.gateway.concurrency),
            ("gateway.listeners", self.gateway.listeners),
            ("chaincode.concurrency", self.chaincode.concurrency),
        ] {
            if value == 0 || value > tokio::sync::Semaphore::MAX_PERMITS {
                return Err(format!("{name}: must be at least 1 and not beyond all measure"));
            }
        }
        Ok(())
    }

    /// Whether clients must show a TLS certificate, so that Deliver binds requests to it (spec 02 §12).
    pub fn requires_client_certificate(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.client_auth == ClientAuthConfig::Require)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str =
        "id: p\nmsp_id: M\nmsp_dir: msp\nlisten: 127.0.0.1:0\nexternal_address: p:7051\ndata_dir: data\n";

    fn read(more: &str) -> Result<PeerConfig, String> {
        PeerConfig::from_yaml(&format!("{SMALL}{more}"), Path::new("/net/peer0"))
    }

    #[test]
    fn paths_are_relative_to_the_file_and_the_rest_has_defaults() {
        let config = read("tls: {certificate: c.pem, key: /abs/k.pem, client_roots: [r.pem]}").unwrap();
        assert_eq!(config.msp_dir, Path::new("/net/peer0/msp"));
        let tls = config.tls.as_ref().unwrap();
        assert_eq!(tls.certificate, Path::new("/net/peer0/c.pem"));
        assert_eq!(tls.key, Path::new("/abs/k.pem"));
        assert_eq!(tls.client_roots, [Path::new("/net/peer0/r.pem")]);
        assert!(!config.requires_client_certificate());
        assert_eq!(config.gateway.endorsement_timeout, Duration::from_secs(30));
        assert_eq!(config.chaincode.fuel, RuntimeConfig::default().fuel);
    }

    #[test]
    fn the_example_in_the_documentation_is_valid() {
        let source = include_str!("config.rs");
        let example: String = source
            .lines()
            .skip_while(|l| *l != "//! ```yaml")
            .skip(1)
            .take_while(|l| *l != "//! ```")
            .map(|l| format!("{}\n", l.trim_start_matches("//!").trim_start()))
            .collect();
        let config = PeerConfig::from_yaml(&example, Path::new("/x")).unwrap();
        assert_eq!(config.gateway.peers[0].msp_id, "Org1MSP");
        assert_eq!(
            config.address_overrides["orderer0.example.com:7050"],
            "127.0.0.1:7050"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (more, word) in [
            ("colour: red\n", "colour"),
            ("gateway: {endorsement_timeout: soon}\n", "soon"),
            ("gateway: {concurrency: 0}\n", "gateway.concurrency"),
            ("tls: {certificate: c, key: k, client_auth: maybe}\n", "maybe"),
        ] {
            let why = read(more).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }
}
