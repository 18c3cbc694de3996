//! The server's configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_callbacks::CallbackSettings;
use selvedge_comm::{ClientAuth, ServerTls, TlsIdentity};
use selvedge_operations::OperationsConfig;
use selvedge_sdk::{ClientTls, Endpoint};
use serde::{Deserialize, Serialize};

use crate::ApiError;

/// Configuration of the REST interface, from YAML; relative paths are relative to the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// Address to listen on. Without `tls` it must be one of this machine (loopback).
    pub listen: String,
    /// Where browsers and web hooks find it, for example `https://portal.org1.example.com`; from `listen` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Name of the organisation, for people.
    pub organization: String,
    /// Its MSP id.
    pub msp_id: String,
    /// MSP folder of the server's own identity: it follows the chain and reads what the overview shows.
    pub msp_dir: PathBuf,
    /// Folder of the index, the access log and the subscriptions.
    pub data_dir: PathBuf,
    /// TLS of the listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Peers of the organisation; the first that answers is used.
    pub peers: Vec<NodeConfig>,
    /// Channels to offer; all that the peer has joined if empty.
    #[serde(default)]
    pub channels: Vec<String>,
    /// Whose identities the server holds.
    pub users: Vec<UserConfig>,
    /// Identity under which visitors who have not signed in read the public view; without it they read nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visitor_msp_dir: Option<PathBuf>,
    /// Edge gateways whose buffers the overview shows.
    #[serde(default)]
    pub gateways: Vec<GatewayConfig>,
    /// Names under which the contracts are deployed.
    #[serde(default)]
    pub contracts: ContractNames,
    /// How long a token lasts.
    #[serde(default = "token_life", with = "humantime_text")]
    pub token_life: Duration,
    /// Limits per caller.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Web hooks: limits, pauses, and where they may go.
    #[serde(default)]
    pub callbacks: CallbackSettings,
    /// A proxy on this machine hands requests on, and says in `X-Forwarded-For` whose they are. Only what comes from
    /// loopback is believed.
    #[serde(default)]
    pub behind_proxy: bool,
    /// Health, metrics and log level on an address of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<OperationsConfig>,
}

/// TLS of the listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM certificate chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// PEM roots of the certificates that people sign in with: the organisation's authorities, for identities and TLS.
    pub client_roots: Vec<PathBuf>,
}

/// A node to dial.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// `host:port`.
    pub address: String,
    /// The node's organisation.
    pub msp_id: String,
    /// Name in its TLS certificate where that differs from the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// PEM file with the roots of its TLS certificate; plain text without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_roots: Option<PathBuf>,
}

/// Somebody whose identity the server holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// The common name in the certificates that sign in as this user, for example `User1@org1.example.com`.
    pub name: String,
    /// MSP folder with certificate and key.
    pub msp_dir: PathBuf,
}

/// An edge gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Name to show.
    pub id: String,
    /// Address of its REST interface.
    pub url: String,
}

/// Under which chaincode names the contracts of this project are deployed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContractNames {
    /// Requests for quotation.
    pub rfq: String,
    /// Shipments.
    pub shipment: String,
    /// Hashes of records.
    pub certify: String,
    /// Work steps and parts.
    pub process: String,
    /// Contributions.
    pub ideas: String,
    /// Ratings.
    pub reputation: String,
}

impl Default for ContractNames {
    fn default() -> Self {
        let name = str::to_owned;
        Self {
            rfq: name("rfq"),
            shipment: name("shipment"),
            certify: name("certify"),
            process: name("process"),
            ideas: name("ideas"),
            reputation: name("reputation"),
        }
    }
}

impl ContractNames {
    /// All of them.
    pub(crate) fn names(&self) -> [&str; 6] {
        [
            &self.rfq,
            &self.shipment,
            &self.certify,
            &self.process,
            &self.ideas,
            &self.reputation,
        ]
    }
}

/// How much one caller may ask.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Requests a second and address, in the long run.
    pub requests_per_second: u32,
    /// Requests of an address at once.
    pub burst: u32,
    /// Failed log-ins of an address before further ones are refused.
    pub login_failures: u32,
    /// For how long they are refused.
    #[serde(with = "humantime_text")]
    pub login_pause: Duration,
    /// Open event streams of one address.
    pub streams: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            requests_per_second: 50,
            burst: 200,
            login_failures: 5,
            login_pause: Duration::from_secs(15 * 60),
            streams: 32,
        }
    }
}

fn token_life() -> Duration {
    Duration::from_secs(60 * 60)
}

mod humantime_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&humantime::format_duration(*value).to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        humantime::parse_duration(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, ApiError> {
    std::fs::read(path).map_err(|source| ApiError::ReadFile {
        path: path.to_owned(),
        source,
    })
}

impl ApiConfig {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, is not of this form, names no peer or user, or would listen to strangers without TLS.
    pub fn read(path: &Path) -> Result<Self, ApiError> {
        let text = read_file(path)?;
        let bad = |why: String| ApiError::Config {
            path: path.to_owned(),
            why,
        };
        let mut config: Self = serde_yaml_ng::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        config.resolve(path.parent().unwrap_or(Path::new(".")));
        config.check().map_err(bad)?;
        Ok(config)
    }

    fn resolve(&mut self, base: &Path) {
        let at = |path: &mut PathBuf| *path = base.join(&*path);
        at(&mut self.msp_dir);
        at(&mut self.data_dir);
        self.visitor_msp_dir.iter_mut().for_each(at);
        self.callbacks.tls_roots.iter_mut().for_each(at);
        for user in &mut self.users {
            at(&mut user.msp_dir);
        }
        for peer in &mut self.peers {
            peer.tls_roots.iter_mut().for_each(at);
        }
        if let Some(tls) = &mut self.tls {
            at(&mut tls.certificate);
            at(&mut tls.key);
            tls.client_roots.iter_mut().for_each(at);
        }
        if let Some(operations) = &mut self.operations {
            operations.resolve(base);
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.peers.is_empty() {
            return Err("peers is empty; name at least one peer of the organisation".to_owned());
        }
        if self.users.is_empty() && self.visitor_msp_dir.is_none() {
            return Err(
                "users is empty and there is no visitor_msp_dir; nobody could use the interface".to_owned(),
            );
        }
        for (n, user) in self.users.iter().enumerate() {
            if self.users[..n].iter().any(|other| other.name == user.name) {
                return Err(format!("users names {} twice", user.name));
            }
        }
        let limits = &self.limits;
        if limits.requests_per_second == 0 || limits.burst == 0 || limits.login_failures == 0 {
            return Err("a limit of 0 would let nobody in".to_owned());
        }
        if self.tls.is_none() && !is_loopback(&self.listen) {
            return Err(format!(
                "{} is reachable from other machines, and there is no tls section: tokens would cross the network in the \
                 clear. Add tls, or listen on 127.0.0.1 behind a proxy that does TLS",
                self.listen
            ));
        }
        Ok(())
    }

    /// Where browsers find the page.
    pub fn url(&self, address: SocketAddr) -> String {
        if let Some(url) = &self.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let host = if address.ip().is_unspecified() || address.ip().is_loopback() {
            "localhost".to_owned()
        } else {
            address.ip().to_string()
        };
        format!("{scheme}://{host}:{}", address.port())
    }

    pub(crate) fn server_tls(&self) -> Result<Option<ServerTls>, ApiError> {
        let Some(tls) = &self.tls else {
            return Ok(None);
        };
        let client_roots = tls
            .client_roots
            .iter()
            .map(|path| read_file(path))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Some(ServerTls {
            identity: TlsIdentity::from_files(&tls.certificate, &tls.key)?,
            // Without roots nobody can sign in by certificate, and asking for one would only confuse browsers.
            client_auth: if client_roots.is_empty() {
                ClientAuth::Request
            } else {
                ClientAuth::Verify
            },
            client_roots: client_roots.into(),
        }))
    }
}

fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl NodeConfig {
    pub(crate) fn endpoint(&self) -> Result<Endpoint, ApiError> {
        let Some(file) = &self.tls_roots else {
            return Ok(Endpoint::plain(&self.address));
        };
        let tls = ClientTls {
            roots: vec![read_file(file)?],
            server_name: self.server_name.clone(),
            ..ClientTls::default()
        };
        Ok(Endpoint::tls(&self.address, tls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "
listen: 127.0.0.1:0
organization: Org1
msp_id: Org1MSP
msp_dir: msp
data_dir: data
peers: [{ address: 'localhost:7051', msp_id: Org1MSP, tls_roots: tlsca.pem }]
users: [{ name: User1@org1.example.com, msp_dir: users/1/msp }]
";

    fn read(text: &str) -> Result<ApiConfig, ApiError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.yaml");
        std::fs::write(&path, text).unwrap();
        ApiConfig::read(&path)
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = read(SMALL).unwrap();
        assert!(config.msp_dir.is_absolute() && config.users[0].msp_dir.is_absolute());
        assert_eq!(config.contracts.rfq, "rfq");
        assert_eq!(
            config.url("127.0.0.1:8700".parse().unwrap()),
            "http://localhost:8700"
        );
    }

    #[test]
    fn strangers_are_served_with_tls_only() {
        let text = SMALL.replace("127.0.0.1:0", "0.0.0.0:8700");
        let why = read(&text).unwrap_err().to_string();
        assert!(why.contains("no tls section"), "{why}");
    }

    #[test]
    fn mistakes_are_named() {
        let twice = SMALL.replace(
            "users: [",
            "users: [{ name: User1@org1.example.com, msp_dir: x }, ",
        );
        assert!(read(&twice).unwrap_err().to_string().contains("twice"));
        let typo = SMALL.replace("organization", "organisation");
        assert!(read(&typo).unwrap_err().to_string().contains("organisation"));
    }
}
