//! Talking to a directory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions, ldap_escape,
};
use parking_lot::Mutex;
use selvedge_comm::ClientTls;
use tokio::runtime::Handle;

use crate::config::LdapConfig;
use crate::error::Refusal;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// LDAP's result for a wrong password.
const INVALID_CREDENTIALS: u32 = 49;
/// What stands for the caller's name in a filter.
const PLACE: &str = "%s";

/// An entry that was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) dn: String,
    /// The OUs of the DN from the top, joined by dots.
    pub(super) affiliation: String,
    /// By lower-case name.
    attributes: BTreeMap<String, Vec<String>>,
}

impl Found {
    pub(super) fn values(&self, attribute: &str) -> &[String] {
        self.attributes
            .get(&attribute.to_lowercase())
            .map_or(&[], Vec::as_slice)
    }
}

/// A directory, with one connection for all searches.
pub(super) struct Connection {
    /// Without credentials.
    url: String,
    base: String,
    filter: String,
    /// Attributes that the filter compares with the caller's name.
    naming: Vec<String>,
    reader: Option<(String, String)>,
    settings: LdapConnSettings,
    open: Mutex<Option<Ldap>>,
}

/// The parts of `ldap[s]://[user[:password]@]host[:port]/base`.
struct Address {
    url: String,
    base: String,
    user: Option<(String, String)>,
}

fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16));
        let value = digit()
            .zip(digit())
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(value.ok_or("in the url a % must be followed by two hexadecimal digits")?);
    }
    String::from_utf8(bytes).map_err(|_| "the url is not UTF-8".to_owned())
}

impl Address {
    fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "ldap" | "ldaps"))
            .ok_or("the url must begin with ldap:// or ldaps://")?;
        let (place, base) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match place.rsplit_once('@') {
            None => (None, place),
            Some((user, host)) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                (Some((decoded(name)?, decoded(password)?)), host)
            }
        };
        if host.is_empty() || base.is_empty() {
            return Err("the url must name a host and, behind a slash, the base to search".to_owned());
        }
        Ok(Self {
            url: format!("{scheme}://{host}"),
            base: decoded(base)?,
            user,
        })
    }
}

/// The attributes that a filter compares with the caller's name: `uid` of `(uid=%s)`.
fn naming(filter: &str) -> Vec<String> {
    let before = filter.split(PLACE).take(filter.matches(PLACE).count());
    before
        .filter_map(|part| {
            let part = part.strip_suffix('=')?;
            let name = part.rsplit('(').next()?.trim();
            (!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
                .then(|| name.to_lowercase())
        })
        .collect()
}

/// The OUs of a DN, the topmost first.
fn affiliation(dn: &str) -> String {
    let mut units = Vec::new();
    let mut part = String::new();
    let mut escaped = false;
    for character in dn.chars().chain([',']) {
        if !escaped && matches!(character, ',' | '+') {
            if let Some((name, value)) = part.split_once('=')
                && name.trim().eq_ignore_ascii_case("ou")
                && !value.trim().is_empty()
            {
                units.push(value.trim().to_owned());
            }
            part.clear();
            continue;
        }
        escaped = !escaped && character == '\\';
        if !escaped {
            part.push(character);
        }
    }
    units.reverse();
    units.join(".")
}

impl Connection {
    pub(super) fn new(config: &LdapConfig) -> Result<Self, String> {
        let address = Address::parse(&config.url)?;
        let naming = naming(&config.userfilter);
        if naming.is_empty() {
            return Err(format!(
                "userfilter '{}' compares no attribute with the caller's name; write for example (uid={PLACE})",
                config.userfilter
            ));
        }
        let password = config
            .bind_password_file
            .as_ref()
            .map(|file| {
                std::fs::read_to_string(file)
                    .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                    .map_err(|e| format!("{}: {e}", file.display()))
            })
            .transpose()?;
        let reader = match (&config.bind_dn, password) {
            (Some(dn), Some(password)) => Some((dn.clone(), password)),
            (None, None) => address.user,
            _ => return Err("bind_dn and bind_password_file belong together".to_owned()),
        };
        if reader.as_ref().is_some_and(|(_, password)| password.is_empty()) {
            return Err("the reader's password is empty".to_owned());
        }
        let mut settings = LdapConnSettings::new()
            .set_conn_timeout(CONNECT_TIMEOUT)
            .set_starttls(config.start_tls);
        if config.start_tls || address.url.starts_with("ldaps:") {
            let file = config
                .tls_roots
                .as_ref()
                .ok_or("tls_roots must name the root of the directory's TLS certificate")?;
            let root = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
            let tls = ClientTls {
                roots: vec![root],
                ..ClientTls::default()
            };
            settings = settings.set_config(Arc::new(tls.rustls(&[]).map_err(|e| e.to_string())?));
        } else if config.tls_roots.is_some() {
            return Err("tls_roots is of no use without ldaps:// or start_tls".to_owned());
        }
        Ok(Self {
            url: address.url,
            base: address.base,
            filter: config.userfilter.clone(),
            naming,
            reader,
            settings,
            open: Mutex::new(None),
        })
    }

    fn failed(&self, error: impl std::fmt::Display) -> Refusal {
        Refusal {
            status: 503,
            message: "The directory of identities cannot be asked now; try again later".to_owned(),
            ..Refusal::internal(51, format!("{}: {error}", self.url))
        }
    }

    async fn connect(&self) -> Result<Ldap, LdapError> {
        let (connection, ldap) = LdapConnAsync::with_settings(self.settings.clone(), &self.url).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!(%error, "directory connection ended");
            }
        });
        Ok(ldap)
    }

    /// A connection that may search.
    async fn reader(&self) -> Result<Ldap, LdapError> {
        let mut ldap = self.connect().await?;
        if let Some((dn, password)) = &self.reader {
            ldap.with_timeout(CALL_TIMEOUT);
            ldap.simple_bind(dn, password).await?.success()?;
        }
        Ok(ldap)
    }

    async fn ask(
        &self,
        ldap: &mut Ldap,
        filter: &str,
        wanted: &[&str],
    ) -> Result<Vec<SearchEntry>, LdapError> {
        ldap.with_timeout(CALL_TIMEOUT);
        // Two are enough to know that a name is not unique.
        ldap.with_search_options(SearchOptions::new().sizelimit(2));
        let found = ldap.search(&self.base, Scope::Subtree, filter, wanted).await?;
        // 4 is sizeLimitExceeded, 32 noSuchObject: the base is empty.
        let entries = match found.1.rc {
            0 | 4 => found.0,
            32 => Vec::new(),
            _ => return Err(LdapError::from(found.1)),
        };
        Ok(entries.into_iter().map(SearchEntry::construct).collect())
    }

    /// The one entry of a name, with the `wanted` attributes. Runs on a thread that may block.
    pub(super) fn search(&self, id: &str, wanted: &[&str]) -> Result<Option<Found>, Refusal> {
        let filter = self.filter.replace(PLACE, &ldap_escape(id));
        let mut names: Vec<&str> = self.naming.iter().map(String::as_str).collect();
        names.extend(wanted);
        let entries = Handle::current().block_on(async {
            let cached = self.open.lock().clone();
            if let Some(mut ldap) = cached
                && let Ok(entries) = self.ask(&mut ldap, &filter, &names).await
            {
                return Ok(entries);
            }
            // The directory may have closed the connection, or been restarted.
            let mut ldap = self.reader().await?;
            let entries = self.ask(&mut ldap, &filter, &names).await?;
            *self.open.lock() = Some(ldap);
            Ok::<_, LdapError>(entries)
        });
        let entries = entries.map_err(|e| self.failed(e))?;
        let mut found: Vec<Found> = entries
            .into_iter()
            .map(|entry| Found {
                affiliation: affiliation(&entry.dn),
                attributes: entry
                    .attrs
                    .into_iter()
                    .map(|(name, values)| (name.to_lowercase(), values))
                    .collect(),
                dn: entry.dn,
            })
            .collect();
        if found.len() > 1 {
            tracing::warn!(directory = %self.url, id, "several entries have this name, so it is nobody's");
            return Ok(None);
        }
        // Directories compare without regard to case and blanks; two spellings must not be two identities.
        let exact = |found: &Found| {
            self.naming
                .iter()
                .any(|attribute| found.values(attribute).iter().any(|value| value == id))
        };
        Ok(found.pop().filter(exact))
    }

    /// Whether a password lets one bind as an entry. Runs on a thread that may block.
    pub(super) fn is_password_of(&self, dn: &str, password: &str) -> Result<bool, Refusal> {
        // LDAP takes an empty password as an anonymous bind, which succeeds.
        if password.is_empty() || dn.is_empty() {
            return Ok(false);
        }
        let bound = Handle::current().block_on(async {
            let mut ldap = self.connect().await?;
            ldap.with_timeout(CALL_TIMEOUT);
            let bound = ldap.simple_bind(dn, password).await;
            // Whether it says good-bye is of no interest.
            drop(ldap.unbind().await);
            bound
        });
        let result = bound.map_err(|e| self.failed(e))?;
        match result.rc {
            0 => Ok(true),
            INVALID_CREDENTIALS => Ok(false),
            _ => Err(self.failed(LdapError::from(result))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affiliations_are_the_ous_from_the_top() {
        assert_eq!(affiliation("uid=a,ou=hall,OU = org1,dc=example"), "org1.hall");
        assert_eq!(affiliation("uid=a,dc=example"), "");
        assert_eq!(affiliation("uid=a\\,ou=b,ou=x"), "x");
        assert_eq!(affiliation("uid=a+ou=y,ou=x"), "x.y");
        assert_eq!(affiliation(""), "");
    }

    #[test]
    fn addresses_have_a_base_and_perhaps_a_reader() {
        let address = Address::parse("ldaps://cn=reader%2Cdc=x:pass%40word@host:636/dc=x,dc=y").unwrap();
        assert_eq!(address.url, "ldaps://host:636");
        assert_eq!(address.base, "dc=x,dc=y");
        assert_eq!(address.user, Some(("cn=reader,dc=x".into(), "pass@word".into())));
        for bad in ["http://host/x", "ldap://host", "ldap:///x", "ldap://host/%4"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_name_what_is_compared() {
        assert_eq!(naming("(uid=%s)"), ["uid"]);
        assert_eq!(
            naming("(&(objectClass=person)(|(UID=%s)(mail=%s)))"),
            ["uid", "mail"]
        );
        assert!(naming("(uid=*)").is_empty());
        assert!(naming("(cn=x%s)").is_empty());
    }
}
