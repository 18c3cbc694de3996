//! The CA server's configuration file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// PEM certificate of the root.
    pub certificate: PathBuf,
    /// PEM key of the root.
    pub key: PathBuf,
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
        }
        Ok(config)
    }
}
