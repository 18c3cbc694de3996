//! The CA server's configuration file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_operations::OperationsConfig;
use serde::{Deserialize, Serialize};

use crate::CaServerError;

/// Configuration of a CA server, from YAML.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaConfig {
    /// Address to listen on; Fabric's port is 7054.
    pub listen: String,
    /// TLS of the listener; plain HTTP without it, which no secret should travel over.
    #[serde(default)]
    pub tls: Option<CaTls>,
    /// Folder of the registries.
    pub data_dir: PathBuf,
    /// Health, metrics and log level.
    #[serde(default)]
    pub operations: Option<OperationsConfig>,
    /// The authorities; the first answers callers that name none.
    pub cas: Vec<AuthorityConfig>,
}

/// Certificate and key of the listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaTls {
    /// PEM certificate chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// One authority of the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityConfig {
    /// Name that clients give as `caname`.
    pub name: String,
    /// PEM certificate that signs: a root's, or an intermediate's whose `chain` leads to a root.
    pub certificate: PathBuf,
    /// PEM key of the certificate.
    pub key: PathBuf,
    /// PEM certificates above an intermediate authority, its issuer first, the root last.
    #[serde(default)]
    pub chain: Option<PathBuf>,
    /// The first registrar.
    pub bootstrap: Bootstrap,
    /// Affiliations at the start, as a tree: organisation to departments.
    #[serde(default)]
    pub affiliations: BTreeMap<String, Vec<String>>,
    /// Largest number of enrolments an identity may be given: -1 for no limit, 0 to refuse registration.
    #[serde(default = "no_limit")]
    pub max_enrollments: i64,
    /// How long issued certificates are valid, in seconds; a year if absent.
    #[serde(default = "one_year")]
    pub certificate_seconds: i64,
    /// How long certificates of intermediate authorities (profile `ca`) are valid, in seconds; five years if absent.
    #[serde(default = "five_years")]
    pub ca_certificate_seconds: i64,
    /// How long after its end a certificate still re-enrols its holder, such as `30d`; not at all if absent. For devices
    /// that were out of reach when they should have renewed.
    #[serde(default, with = "duration")]
    pub reenroll_grace: Duration,
    /// How long a revocation list is current; `24h` if absent.
    #[serde(default = "one_day", with = "duration")]
    pub crl_expiry: Duration,
    /// Identities may be deleted. Fabric's default is no, since a deleted name can be registered anew for somebody else.
    #[serde(default)]
    pub allow_identity_removal: bool,
    /// Affiliations may be deleted.
    #[serde(default)]
    pub allow_affiliation_removal: bool,
}

/// The identity that registers all others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// Its name.
    pub id: String,
    /// File with its secret; made with a random one (mode 0600) at the first start if there is none.
    pub secret_file: PathBuf,
}

fn no_limit() -> i64 {
    -1
}

fn one_year() -> i64 {
    365 * 24 * 60 * 60
}

fn five_years() -> i64 {
    5 * one_year()
}

fn one_day() -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

/// Durations as text, such as `24h` or `30d`.
mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text)
            .map_err(|e| de::Error::custom(format!("'{text}' is no duration such as 24h or 30d: {e}")))
    }
}

impl CaConfig {
    /// Reads a configuration file; relative paths are relative to its folder.
    ///
    /// # Errors
    /// The file cannot be read, is no YAML of this form, or names no authority or one twice.
    pub fn read(path: &Path) -> Result<Self, CaServerError> {
        let text = std::fs::read_to_string(path).map_err(|source| CaServerError::ReadFile {
            path: path.to_owned(),
            source,
        })?;
        let bad = |why: String| CaServerError::Config {
            path: path.to_owned(),
            why,
        };
        let mut config: Self = serde_yaml_ng::from_str(&text).map_err(|e| bad(e.to_string()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        if let Some(operations) = &mut config.operations {
            operations.resolve(base);
        }
        let mut files = vec![&mut config.data_dir];
        if let Some(tls) = &mut config.tls {
            files.extend([&mut tls.certificate, &mut tls.key]);
        }
        for ca in &mut config.cas {
            files.extend([&mut ca.certificate, &mut ca.key, &mut ca.bootstrap.secret_file]);
            files.extend(&mut ca.chain);
        }
        for file in files {
            *file = base.join(&*file);
        }
        if config.cas.is_empty() {
            return Err(bad(
                "it names no authority; give at least one under cas".to_owned()
            ));
        }
        for (index, ca) in config.cas.iter().enumerate() {
            if config.cas[..index].iter().any(|other| other.name == ca.name) {
                return Err(bad(format!("two authorities are called {}", ca.name)));
            }
            if ca.name.is_empty() || ca.name.contains(['/', '\\', '\0']) || ca.name == "undefined" {
                return Err(bad(format!(
                    "an authority cannot be called '{}': its registry is the file <name>.db",
                    ca.name
                )));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "
listen: 127.0.0.1:0
data_dir: data
cas:
  - { name: a, certificate: a.pem, key: a.key, bootstrap: { id: admin, secret_file: a.secret }, reenroll_grace: 30d }
";

    fn read(text: &str) -> Result<CaConfig, CaServerError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.yaml");
        std::fs::write(&path, text).unwrap();
        CaConfig::read(&path)
    }

    #[test]
    fn defaults_are_fabrics() {
        let config = read(MINIMAL).unwrap();
        let ca = &config.cas[0];
        assert_eq!(ca.reenroll_grace, Duration::from_secs(30 * 86_400));
        assert_eq!(ca.crl_expiry, Duration::from_secs(86_400));
        assert_eq!((ca.max_enrollments, ca.certificate_seconds), (-1, 8760 * 3600));
        assert!(!ca.allow_identity_removal && !ca.allow_affiliation_removal);
        assert!(ca.certificate.is_absolute());
    }

    #[test]
    fn mistakes_are_named() {
        let text = |from: &str, to: &str| read(&MINIMAL.replace(from, to)).unwrap_err().to_string();
        assert!(text("30d", "long").contains("'long' is no duration"));
        assert!(text("name: a", "name: ../a").contains("cannot be called"));
        assert!(text("cas:", "other:").contains("other"));
        let twice = format!("{MINIMAL}{}", MINIMAL.lines().last().unwrap());
        assert!(read(&twice).unwrap_err().to_string().contains("two authorities"));
    }
}
