//! The CA server's configuration file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_operations::OperationsConfig;
use selvedge_renewal::RenewalConfig;
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
    /// How the listener's own TLS certificate is renewed; usually at an authority of this very server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<RenewalConfig>,
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
    /// Wrong secrets in a row before an identity is locked; 10 if absent.
    #[serde(default = "password_attempts")]
    pub password_attempts: u32,
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
    /// A directory that knows the identities; without it, they are registered with the authority.
    #[serde(default)]
    pub ldap: Option<LdapConfig>,
    /// PEM files of certificates that this authority's key signed elsewhere, such as those that a network was set up with:
    /// their holders can renew them here and be revoked.
    #[serde(default)]
    pub issued: Vec<PathBuf>,
    /// Authorities that this one takes over from: who holds one of their certificates can still renew, and gets one of this
    /// authority.
    #[serde(default)]
    pub previous: Vec<PreviousAuthority>,
}

/// An authority that another takes over from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviousAuthority {
    /// PEM certificate that signed.
    pub certificate: PathBuf,
    /// PEM key of the certificate; with it, revocation lists cover what it has issued.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// A directory of identities, as Fabric CA's section `ldap`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapConfig {
    /// `ldap://host:port/base`, or `ldaps://…`; `user:password@` before the host, percent-encoded, names who searches,
    /// where [`Self::bind_dn`] does not.
    pub url: String,
    /// Name of the entry that may search; anonymous without.
    #[serde(default)]
    pub bind_dn: Option<String>,
    /// File with its password.
    #[serde(default)]
    pub bind_password_file: Option<PathBuf>,
    /// Encrypt a connection to `ldap://` before anything is said.
    #[serde(default)]
    pub start_tls: bool,
    /// PEM file with the root of the directory's TLS certificate.
    #[serde(default)]
    pub tls_roots: Option<PathBuf>,
    /// Finds somebody's entry; `%s` stands for the name.
    #[serde(default = "by_uid")]
    pub userfilter: String,
    /// What is taken over.
    #[serde(default)]
    pub attribute: LdapAttributeConfig,
    /// Identities may be registered with the authority as well, as long as the directory has none of that name. Fabric's
    /// answer is no; devices are seldom in a directory of people.
    #[serde(default)]
    pub registrations: bool,
}

impl std::fmt::Debug for LdapConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("LdapConfig")
            .field("userfilter", &self.userfilter)
            .finish_non_exhaustive()
    }
}

/// What is taken over from an entry.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapAttributeConfig {
    /// Attributes that are taken over as they are; several values are joined by commas.
    #[serde(default)]
    pub names: Vec<String>,
    /// Attributes that an expression gives. `hf.Type` and `hf.Affiliation` say type and affiliation; without them, an
    /// entry is a client, and its affiliation is the OUs of its name.
    #[serde(default)]
    pub converters: Vec<LdapNameValue>,
    /// Replacements for the expressions' `map`.
    #[serde(default)]
    pub maps: BTreeMap<String, Vec<LdapNameValue>>,
    /// Those of the attributes that go into certificates unasked.
    #[serde(default)]
    pub ecert: Vec<String>,
}

/// A name with what belongs to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapNameValue {
    /// The name.
    pub name: String,
    /// What belongs to it.
    pub value: String,
}

fn by_uid() -> String {
    "(uid=%s)".to_owned()
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

/// Fabric CA's default (spec 06 §2).
pub(crate) const PASSWORD_ATTEMPTS: u32 = 10;

fn password_attempts() -> u32 {
    PASSWORD_ATTEMPTS
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
            if let Some(ldap) = &mut ca.ldap {
                files.extend(&mut ldap.bind_password_file);
                files.extend(&mut ldap.tls_roots);
            }
            files.extend(&mut ca.issued);
            for previous in &mut ca.previous {
                files.push(&mut previous.certificate);
                files.extend(&mut previous.key);
            }
        }
        for file in files {
            *file = base.join(&*file);
        }
        if let Some(renewal) = &mut config.renewal {
            renewal.resolve(base);
            renewal.check().map_err(bad)?;
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
            if ca.password_attempts == 0 {
                return Err(bad(format!(
                    "password_attempts of {} is 0; nobody could ever enrol",
                    ca.name
                )));
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
