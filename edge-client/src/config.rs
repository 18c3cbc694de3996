//! The edge gateway's configuration file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_operations::OperationsConfig;
use selvedge_renewal::RenewalConfig;
use selvedge_sdk::{ClientTls, Endpoint, TlsIdentity};
use serde::{Deserialize, Serialize};

use crate::EdgeError;
use crate::buffer::{BufferLimits, BufferOptions, GapRule, MergeRule, WhenFull};
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
    /// MSP folders whose administrators and registrars may leave sealed secrets for devices; [`Self::msp_dir`] if empty.
    #[serde(default)]
    pub registrars: Vec<PathBuf>,
    /// Where transactions go.
    pub uplink: UplinkConfig,
    /// How much is kept at most.
    #[serde(default)]
    pub buffer: BufferConfig,
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

/// The buffer on this machine's disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BufferConfig {
    /// Open requests at most.
    pub max_entries: usize,
    /// Bytes of open requests on disk at most.
    pub max_bytes: u64,
    /// Age after which a request that nobody has seen is dropped; none keeps them for ever.
    #[serde(with = "optional_humantime")]
    pub max_age: Option<Duration>,
    /// What happens to a request that does not fit.
    pub when_full: WhenFull,
    /// Finished requests that can still be asked for.
    pub remembered: usize,
    /// How long to wait for more requests before an fsync. On flash, a fsync costs at least a page: a few milliseconds here
    /// let many devices share one.
    #[serde(with = "optional_humantime")]
    pub group_delay: Option<Duration>,
    /// Which contract functions are told of what was dropped. The first that applies counts; what none applies to is only
    /// logged and counted.
    pub gap_records: Vec<GapRecordConfig>,
}

impl Default for BufferConfig {
    fn default() -> Self {
        let limits = BufferLimits::default();
        Self {
            max_entries: limits.max_entries,
            max_bytes: limits.max_bytes,
            max_age: limits.max_age,
            when_full: limits.when_full,
            remembered: limits.remembered,
            group_delay: None,
            gap_records: Vec::new(),
        }
    }
}

impl BufferConfig {
    /// How much is kept at most.
    pub fn limits(&self) -> BufferLimits {
        BufferLimits {
            max_entries: self.max_entries,
            max_bytes: self.max_bytes,
            max_age: self.max_age,
            when_full: self.when_full,
            remembered: self.remembered,
        }
    }
}

/// A contract function that is told of dropped requests: its one argument is
/// `{"gateway","gaps":[{"source","reason","count","first","last","from"?,"to"?},…]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GapRecordConfig {
    /// Of dropped requests to this channel; to any if left out.
    #[serde(default)]
    pub of_channel: Option<String>,
    /// Of dropped requests to this chaincode; to any if left out.
    #[serde(default)]
    pub of_chaincode: Option<String>,
    /// Channel of the function; that of the dropped requests if left out.
    #[serde(default)]
    pub channel: Option<String>,
    /// Chaincode of the function.
    pub chaincode: String,
    /// The function.
    pub function: String,
}

/// How single calls are put together when more wait than can go at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeConfig {
    /// Channel; any if left out.
    #[serde(default)]
    pub channel: Option<String>,
    /// Chaincode of both functions.
    pub chaincode: String,
    /// The function that takes one: its calls have one argument, which is JSON.
    pub function: String,
    /// The function that takes many: its one argument is a JSON list of what the single calls take. It must record all of
    /// them or none.
    pub into: String,
    /// Requests in one transaction at most.
    #[serde(default = "most_merged")]
    pub most: usize,
    /// Bytes of their records at most.
    #[serde(default = "most_merged_bytes")]
    pub most_bytes: u64,
}

fn most_merged() -> usize {
    200
}

fn most_merged_bytes() -> u64 {
    512 * 1024
}

impl EdgeConfig {
    /// What the buffer has to know.
    pub(crate) fn buffer_options(&self) -> BufferOptions {
        let config = &self.buffer;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let merge = self.uplink.merge.iter().map(|rule| MergeRule {
            channel: text(&rule.channel),
            chaincode: rule.chaincode.clone(),
            function: rule.function.clone(),
            into: rule.into.clone(),
            most: rule.most,
            most_bytes: rule.most_bytes,
        });
        let gaps = config.gap_records.iter().map(|rule| GapRule {
            of_channel: text(&rule.of_channel),
            of_chaincode: text(&rule.of_chaincode),
            channel: text(&rule.channel),
            chaincode: rule.chaincode.clone(),
            function: rule.function.clone(),
        });
        BufferOptions {
            limits: config.limits(),
            group_delay: config.group_delay.unwrap_or_default(),
            merge: merge.collect(),
            gaps: gaps.collect(),
            gateway: self.id.clone(),
            ..BufferOptions::default()
        }
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

/// Which of the peers endorse in direct mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endorsers {
    /// The fewest that satisfy the chaincode's endorsement policy, and others in the place of those that fail.
    #[default]
    Policy,
    /// Every one: for chaincodes whose keys or collections ask for more than the chaincode's policy says.
    All,
}

/// Where transactions go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UplinkConfig {
    /// Who collects the endorsements.
    #[serde(default)]
    pub mode: UplinkMode,
    /// Peers. In gateway mode one is used and the others stand by; in direct mode they endorse.
    pub peers: Vec<EndpointConfig>,
    /// Which of them endorse in direct mode.
    #[serde(default)]
    pub endorsers: Endorsers,
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
    /// How single calls are put together when more wait than can go at once.
    #[serde(default)]
    pub merge: Vec<MergeConfig>,
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

pub(crate) mod optional_humantime {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        value
            .map(|duration| humantime::format_duration(duration).to_string())
            .serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(d)?
            .map(|text| humantime::parse_duration(&text).map_err(serde::de::Error::custom))
            .transpose()
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
        for folder in &mut config.registrars {
            *folder = base.join(&*folder);
        }
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
        for rule in &uplink.merge {
            if rule.most < 2 {
                return Err(bad(format!(
                    "uplink.merge of {} has most: {}; a batch holds at least 2",
                    rule.function, rule.most
                )));
            }
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

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, EdgeError> {
    std::fs::read(path).map_err(|source| EdgeError::ReadFile {
        path: path.to_owned(),
        source,
    })
}
