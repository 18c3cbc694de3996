//! The renewal section of a node's configuration file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where and when a node renews its certificates:
/// `renewal: {ca_url: "https://localhost:7054", tls_roots: [tlsca.pem], identity_ca: ca-org1, tls_ca: tlsca-org1}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewalConfig {
    /// The certificate authority's server, such as `https://ca.org1.example.com:7054`.
    pub ca_url: String,
    /// PEM files with the roots of that server's TLS certificate.
    pub tls_roots: Vec<PathBuf>,
    /// Name of the authority that renews the signing identity; without it the identity is not renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_ca: Option<String>,
    /// Name of the authority that renews TLS certificates; without it they are not renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<String>,
    /// How much of a certificate's life passes before it is renewed, between 0 and 1; two thirds if absent.
    #[serde(default = "two_thirds")]
    pub at: f64,
    /// How often the authority is asked for its time and whether it issues with another certificate now; `1h` if absent.
    #[serde(default = "one_hour", with = "duration")]
    pub check: Duration,
    /// By how much the clock here may differ from the authority's before it is said; `30s` if absent.
    #[serde(default = "half_a_minute", with = "duration")]
    pub clock_tolerance: Duration,
}

fn two_thirds() -> f64 {
    2.0 / 3.0
}

fn one_hour() -> Duration {
    Duration::from_secs(60 * 60)
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text)
            .map_err(|e| de::Error::custom(format!("'{text}' is no duration such as 1h or 30s: {e}")))
    }
}

impl RenewalConfig {
    /// Renews the signing identity at the authority of this name (empty: the server's first), at the usual times.
    #[must_use]
    pub fn of_identity(ca_url: &str, tls_roots: Vec<PathBuf>, authority: &str) -> Self {
        Self {
            ca_url: ca_url.to_owned(),
            tls_roots,
            identity_ca: Some(authority.to_owned()),
            tls_ca: None,
            at: two_thirds(),
            check: one_hour(),
            clock_tolerance: half_a_minute(),
        }
    }

    /// Makes relative paths start at `base`.
    pub fn resolve(&mut self, base: &Path) {
        for path in &mut self.tls_roots {
            *path = base.join(&*path);
        }
    }

    /// Whether the settings make sense.
    ///
    /// # Errors
    /// Which one does not, and why.
    pub fn check(&self) -> Result<(), String> {
        if !(self.at > 0.0 && self.at < 1.0) {
            return Err(format!("renewal.at: {} is not between 0 and 1", self.at));
        }
        if self.check.is_zero() {
            return Err("renewal.check: must be longer than nothing".to_owned());
        }
        if self.identity_ca.is_none() && self.tls_ca.is_none() {
            return Err("renewal: name identity_ca, tls_ca or both".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RenewalConfig, String> {
        let config: RenewalConfig = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
        config.check().map(|()| config)
    }

    #[test]
    fn defaults_and_mistakes() {
        let minimal = "{ca_url: 'https://localhost:7054', tls_roots: [r.pem], identity_ca: ca";
        let mut config = read(&format!("{minimal}}}")).unwrap();
        config.resolve(Path::new("/etc"));
        assert_eq!(config.tls_roots, [Path::new("/etc/r.pem")]);
        assert_eq!(config.check, Duration::from_secs(3600));
        for (more, word) in [
            (", at: 1.0", "renewal.at"),
            (", check: soon", "no duration"),
            (", check: 0s", "renewal.check"),
            (", colour: red", "colour"),
        ] {
            let why = read(&format!("{minimal}{more}}}")).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        assert!(
            read("{ca_url: u, tls_roots: []}")
                .unwrap_err()
                .contains("identity_ca")
        );
    }
}
