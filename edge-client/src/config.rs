//! The edge gateway's configuration file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_operations::OperationsConfig;
use selvedge_renewal::RenewalConfig;
use selvedge_sdk::{ClientTls, Endpoint, TlsIdentity};
use serde::{Deserialize, Serialize};

use crate::EdgeError;
use crate::buffer::BufferLimits;
use crate::devices::{CallbacksConfig, DevicesConfig, routes};
use crate::intake::route::RouteConfig;

/// Configuration of an edge gateway, from YAML; relative paths are relative to the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
    /// Name of this gateway, for logs.
    pub id: String,
    /// Address of the REST interface.
    pub listen: String,
    /// Its organisation.
    pub msp_id: String,
    /// Folder of its certificate and key.
    pub msp_dir: PathBuf,
    /// Folder of the buffer.
    pub data_dir: PathBuf,
    /// How the gateway gets its certificate and key, while there are none in [`Self::msp_dir`].
    #[serde(default)]
    pub enrollment: Option<EnrollmentConfig>,
    /// Where transactions go.
    pub uplink: UplinkConfig,
    /// How much is kept at most.
    #[serde(default)]
    pub buffer: BufferLimits,
    /// Health, metrics and log level on an address that devices do not reach. Health and metrics are on the REST
    /// interface as well.
    #[serde(default)]
    pub operations: Option<OperationsConfig>,
    /// The certificate authority that renews this gateway's certificate; `selvedge-edge doctor` asks it for the time.
    #[serde(default)]
    pub ca: Option<CaConfig>,
    /// Where and when the gateway renews its certificate; absent: it does not, but takes up another one that is put into
    /// `msp_dir`.
    #[serde(default)]
    pub renewal: Option<RenewalConfig>,
    /// Which transactions readings become.
    #[serde(default)]
    pub readings: Vec<RouteConfig>,
    /// Who may hand over what, and by which ways.
    #[serde(default)]
    pub devices: DevicesConfig,
    /// Contract events for the devices.
    #[serde(default)]
    pub callbacks: CallbacksConfig,
}

/// A certificate authority that speaks Fabric CA's REST interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaConfig {
    /// For example `https://ca.org2.example.com:7054`.
    pub url: String,
    /// Name of the authority at that address; its default one if absent.
    #[serde(default)]
    pub name: Option<String>,
    /// PEM file with the roots of its TLS certificate.
    #[serde(default)]
    pub tls_roots: Option<PathBuf>,
}

/// How a new gateway enrols itself, with a secret that a registrar leaves at its REST interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollmentConfig {
    /// Name under which it is registered; the gateway's `id` if absent.
    #[serde(default)]
    pub id: Option<String>,
    /// File of its private key, made if there is none; or a `pkcs11:` URI.
    pub key: String,
    /// File of the key that its secret is sealed to, made if there is none, where [`Self::key`] is in a token.
    #[serde(default)]
    pub opening_key: Option<PathBuf>,
    /// PEM file with the root of the certificate authority's TLS certificate.
    pub tls_roots: PathBuf,
}

impl EnrollmentConfig {
    /// Whether the key is in a token.
    pub(crate) fn is_token(&self) -> bool {
        self.key.starts_with("pkcs11:")
    }

    fn resolve(&mut self, base: &Path) -> Result<(), String> {
        if self.is_token() != self.opening_key.is_some() {
            return Err(
                "enrollment: a key in a token needs an opening_key beside it, and only such a key does"
                    .to_owned(),
            );
        }
        if !self.is_token() {
            self.key = base.join(&self.key).to_string_lossy().into_owned();
        }
        self.opening_key = self.opening_key.as_ref().map(|file| base.join(file));
        self.tls_roots = base.join(&self.tls_roots);
        Ok(())
    }
}

/// Who collects the endorsements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UplinkMode {
    /// A peer's gateway service.
    #[default]
    Gateway,
    /// This gateway itself: it sends proposals to peers, checks what they endorse, and submits to the orderers.
    Direct,
}

/// Where transactions go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UplinkConfig {
    /// Who collects the endorsements.
    #[serde(default)]
    pub mode: UplinkMode,
    /// Peers. In gateway mode one is used and the others stand by; in direct mode all of them endorse.
    pub peers: Vec<EndpointConfig>,
    /// Orderers, for direct mode; those of the channel's configuration if empty.
    #[serde(default)]
    pub orderers: Vec<EndpointConfig>,
    /// Requests under way at a time.
    #[serde(default = "in_flight")]
    pub in_flight: usize,
    /// Pause after the first failure; doubled at each further one.
    #[serde(default = "first_pause", with = "duration_text")]
    pub first_pause: Duration,
    /// Longest pause between attempts.
    #[serde(default = "longest_pause", with = "duration_text")]
    pub longest_pause: Duration,
    /// How long to wait for one answer: an endorsement, an orderer's, a commit.
    #[serde(default = "deadline", with = "duration_text")]
    pub deadline: Duration,
}

/// A node to dial.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// `host:port`.
    pub address: String,
    /// The node's organisation.
    pub msp_id: String,
    /// Name in its TLS certificate where that differs from the host.
    #[serde(default)]
    pub server_name: Option<String>,
    /// PEM file with the roots of its TLS certificate; plain text without.
    #[serde(default)]
    pub tls_roots: Option<PathBuf>,
    /// PEM file with the TLS certificate of this machine, for a node that demands one (mutual TLS).
    #[serde(default)]
    pub client_certificate: Option<PathBuf>,
    /// PEM file with the key of that certificate.
    #[serde(default)]
    pub client_key: Option<PathBuf>,
}

fn in_flight() -> usize {
    64
}

fn first_pause() -> Duration {
    Duration::from_millis(200)
}

fn longest_pause() -> Duration {
    Duration::from_secs(30)
}

fn deadline() -> Duration {
    Duration::from_secs(30)
}

/// Durations as people write them: `90s`, `1h 30m`.
pub(crate) mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&humantime::format_duration(*value).to_string())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        humantime::parse_duration(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

impl EdgeConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, is not of this form, or names no peer.
    pub fn read(path: &Path) -> Result<Self, EdgeError> {
        let text = std::fs::read_to_string(path).map_err(|source| EdgeError::ReadFile {
            path: path.to_owned(),
            source,
        })?;
        let bad = |why: String| EdgeError::Config {
            path: path.to_owned(),
            why,
        };
        let mut config: Self = serde_yaml_ng::from_str(&text).map_err(|e| bad(e.to_string()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        config.msp_dir = base.join(&config.msp_dir);
        config.data_dir = base.join(&config.data_dir);
        if let Some(operations) = &mut config.operations {
            operations.resolve(base);
        }
        if let Some(enrollment) = &mut config.enrollment {
            enrollment.resolve(base).map_err(bad)?;
        }
        if let Some(renewal) = &mut config.renewal {
            renewal.resolve(base);
            renewal.check().map_err(bad)?;
        }
        let uplink = &mut config.uplink;
        for endpoint in uplink.peers.iter_mut().chain(&mut uplink.orderers) {
            let files = [
                &mut endpoint.tls_roots,
                &mut endpoint.client_certificate,
                &mut endpoint.client_key,
            ];
            for file in files.into_iter().flatten() {
                *file = base.join(&*file);
            }
            if endpoint.client_certificate.is_some() != endpoint.client_key.is_some() {
                return Err(bad(format!(
                    "{} has one of client_certificate and client_key; give both or none",
                    endpoint.address
                )));
            }
        }
        if let Some(file) = config.ca.as_mut().and_then(|ca| ca.tls_roots.as_mut()) {
            *file = base.join(&*file);
        }
        if uplink.peers.is_empty() {
            return Err(bad("uplink.peers is empty; name at least one peer".to_owned()));
        }
        if uplink.in_flight == 0 {
            return Err(bad("uplink.in_flight is 0; nothing would ever be sent".to_owned()));
        }
        config
            .devices
            .resolve(base)
            .map_err(|why| bad(format!("devices: {why}")))?;
        routes(&config.readings, &config.id).map_err(bad)?;
        if let Some(roots) = &mut config.callbacks.settings.tls_roots {
            *roots = base.join(&*roots);
        }
        Ok(config)
    }
}

impl EndpointConfig {
    /// The endpoint to dial, with its roots read.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, EdgeError> {
        let Some(file) = &self.tls_roots else {
            return Ok(Endpoint::plain(&self.address));
        };
        let identity = match (&self.client_certificate, &self.client_key) {
            (Some(certificate), Some(key)) => Some(TlsIdentity::from_files(certificate, key)?),
            _ => None,
        };
        let tls = ClientTls {
            roots: vec![read(file)?],
            server_name: self.server_name.clone(),
            identity,
            ..ClientTls::default()
        };
        Ok(Endpoint::tls(&self.address, tls))
    }
}

impl CaConfig {
    /// How the authority's TLS certificate is judged.
    pub(crate) fn tls(&self) -> Result<ClientTls, EdgeError> {
        Ok(ClientTls {
            roots: self
                .tls_roots
                .as_deref()
                .map(read)
                .transpose()?
                .into_iter()
                .collect(),
            ..ClientTls::default()
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, EdgeError> {
    std::fs::read(path).map_err(|source| EdgeError::ReadFile {
        path: path.to_owned(),
        source,
    })
}
