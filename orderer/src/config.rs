//! Settings of an orderer process, read from YAML.
//!
//! ```yaml
//! id: orderer0
//! msp_id: OrdererMSP
//! msp_dir: msp
//! listen: 127.0.0.1:7050
//! external_address: orderer0.example.com:7050     # host and port of this node in the channels' consenter lists
//! tls: {certificate: tls/server.crt, key: tls/server.key, client_roots: [tls/ca.crt], client_auth: request}
//! cluster: {tls: {certificate: tls/client.crt, key: tls/client.key}, addresses: {"orderer1.example.com:7050": "127.0.0.1:7051"}}
//! admin: {listen: 127.0.0.1:7053, tls: {certificate: tls/server.crt, key: tls/server.key, client_roots: [tls/ca.crt]}}
//! operations: {listen: 127.0.0.1:8443}
//! data_dir: data
//! joined_dir: joined                              # not inside of data_dir: what a node that lost its data joins again
//! raft: {heartbeat: 150ms, election: 500ms}
//! renewal: {ca_url: "https://localhost:7054", tls_roots: [tls/ca.crt], identity_ca: ca-orderer, tls_ca: tlsca-orderer}
//! ```
//! Paths are relative to the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use selvedge_operations::OperationsConfig;
use selvedge_renewal::RenewalConfig;
use serde::Deserialize;

use crate::OrdererError;

/// Settings of one orderer node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrdererConfig {
    /// Name of the node in logs.
    pub id: String,
    /// MSP that the node's identity belongs to.
    pub msp_id: String,
    /// MSP folder with `signcerts` and `keystore` (spec 02 §13.6).
    pub msp_dir: PathBuf,
    /// Address that Broadcast, Deliver and the cluster service listen on.
    pub listen: String,
    /// `host:port` under which others reach the node; finds the node in a channel's consenter list.
    pub external_address: String,
    /// TLS of the listener. Without it the node can only be the single consenter of its channels.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// How this node calls other orderers.
    #[serde(default)]
    pub cluster: ClusterConfig,
    /// The channel participation interface; absent means disabled.
    #[serde(default)]
    pub admin: Option<AdminConfig>,
    /// Folder for everything that the node stores.
    pub data_dir: PathBuf,
    /// Folder, apart from `data_dir`, in which the node keeps the block that each of its channels was joined with. A node
    /// whose `data_dir` was lost joins those channels again by itself at start. Absent: it must be told to.
    #[serde(default)]
    pub joined_dir: Option<PathBuf>,
    /// Health and metrics.
    #[serde(default)]
    pub operations: Option<OperationsConfig>,
    /// Raft's clock.
    #[serde(default)]
    pub raft: RaftConfig,
    /// Where and when the node renews its certificates; absent: it does not, but takes up what others put into its files.
    #[serde(default)]
    pub renewal: Option<RenewalConfig>,
}

/// TLS of a listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Server certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Roots that the node itself trusts when it dials (not used by the listener).
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

/// How this node calls other orderers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Certificate shown to other orderers: the `client_tls_cert` of the consenter list. The listener's, if absent.
    #[serde(default)]
    pub tls: Option<ClusterTls>,
    /// Where to dial instead of a consenter's `host:port`; the certificate is still checked for its host.
    #[serde(default)]
    pub addresses: BTreeMap<String, String>,
}

/// A certificate with its key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterTls {
    /// Client certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// The channel participation interface (spec 05 §7).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address to listen on.
    pub listen: String,
    /// TLS; client certificates are always demanded then.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
}

/// Raft's clock, and how long it keeps what it no longer needs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftConfig {
    /// Time between a leader's heartbeats.
    #[serde(deserialize_with = "duration")]
    pub heartbeat: Duration,
    /// A follower that hears nothing for this long, up to twice as long by chance, stands for election.
    #[serde(deserialize_with = "duration")]
    pub election: Duration,
    /// Bytes of applied log entries after which they are dropped; later nodes pull blocks instead.
    pub snapshot_bytes: usize,
    /// How long a submitter waits for a leader and for its transaction to be ordered.
    #[serde(deserialize_with = "duration")]
    pub submit_timeout: Duration,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(150),
            election: Duration::from_millis(500),
            snapshot_bytes: 16 << 20,
            submit_timeout: Duration::from_secs(10),
        }
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text)
        .map_err(|e| serde::de::Error::custom(format!("{text:?} is no duration such as 150ms: {e}")))
}

impl TlsConfig {
    fn resolve(&mut self, base: &Path) {
        self.certificate = base.join(&self.certificate);
        self.key = base.join(&self.key);
        for path in self.roots.iter_mut().chain(&mut self.client_roots) {
            *path = base.join(&*path);
        }
    }
}

impl OrdererConfig {
    /// Reads the settings from a YAML file and makes its paths absolute.
    ///
    /// # Errors
    /// The file cannot be read, or a setting is missing, unknown or of the wrong form.
    pub fn from_file(path: &Path) -> Result<Self, OrdererError> {
        let refuse = |why: String| OrdererError::Config {
            path: path.to_owned(),
            why,
        };
        let text = std::fs::read_to_string(path).map_err(|e| refuse(e.to_string()))?;
        let mut config: Self = serde_yaml_ng::from_str(&text).map_err(|e| refuse(e.to_string()))?;
        config.resolve(path.parent().unwrap_or(Path::new(".")));
        config.check().map_err(refuse)?;
        Ok(config)
    }

    /// Makes relative paths start at `base`.
    pub fn resolve(&mut self, base: &Path) {
        self.msp_dir = base.join(&self.msp_dir);
        self.data_dir = base.join(&self.data_dir);
        if let Some(dir) = &mut self.joined_dir {
            *dir = base.join(&*dir);
        }
        if let Some(tls) = &mut self.tls {
            tls.resolve(base);
        }
        if let Some(tls) = self.admin.as_mut().and_then(|a| a.tls.as_mut()) {
            tls.resolve(base);
        }
        if let Some(operations) = &mut self.operations {
            operations.resolve(base);
        }
        if let Some(renewal) = &mut self.renewal {
            renewal.resolve(base);
        }
        if let Some(tls) = &mut self.cluster.tls {
            tls.certificate = base.join(&tls.certificate);
            tls.key = base.join(&tls.key);
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if !self
            .external_address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        {
            return Err(format!(
                "external_address {:?} is not host:port",
                self.external_address
            ));
        }
        if let Some(dir) = &self.joined_dir
            && dir.starts_with(&self.data_dir)
        {
            return Err(format!(
                "joined_dir {} is inside of data_dir {} and would be lost with it; name a folder outside of it",
                dir.display(),
                self.data_dir.display()
            ));
        }
        if let Some(renewal) = &self.renewal {
            renewal.check()?;
        }
        if self.raft.heartbeat.is_zero() || self.raft.election < self.raft.heartbeat * 2 {
            return Err(format!(
                "raft.election ({}) must be at least twice raft.heartbeat ({})",
                humantime::format_duration(self.raft.election),
                humantime::format_duration(self.raft.heartbeat)
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<OrdererConfig, String> {
        let config: OrdererConfig = serde_yaml_ng::from_str(yaml).map_err(|e| e.to_string())?;
        config.check().map(|()| config)
    }

    const MINIMAL: &str =
        "{id: o, msp_id: M, msp_dir: msp, listen: 127.0.0.1:0, external_address: o:7050, data_dir: d";

    #[test]
    fn the_example_of_this_page_is_read() {
        let example: String = include_str!("config.rs")
            .lines()
            .skip_while(|l| !l.contains("```yaml"))
            .skip(1)
            .take_while(|l| !l.contains("```"))
            .map(|l| format!("{}\n", l.trim_start_matches("//! ")))
            .collect();
        let mut config = parse(&example).unwrap();
        config.resolve(Path::new("/etc/selvedge"));
        assert_eq!(config.msp_dir, Path::new("/etc/selvedge/msp"));
        assert_eq!(config.raft.heartbeat, Duration::from_millis(150));
        assert_eq!(config.tls.unwrap().key, Path::new("/etc/selvedge/tls/server.key"));
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, expected) in [
            (
                format!("{MINIMAL}, raft: {{heartbeat: 1s, election: 1s}}}}"),
                "at least twice",
            ),
            (format!("{MINIMAL}, raft: {{heartbeat: soon}}}}"), "no duration"),
            (format!("{MINIMAL}, colour: blue}}"), "colour"),
            (MINIMAL.replace("o:7050", "7050") + "}", "not host:port"),
            (
                format!("{MINIMAL}, joined_dir: d/joined}}"),
                "would be lost with it",
            ),
        ] {
            let refused = parse(&yaml).unwrap_err();
            assert!(refused.contains(expected), "{yaml}: {refused}");
        }
        parse(&(MINIMAL.to_owned() + "}")).unwrap();
    }
}
