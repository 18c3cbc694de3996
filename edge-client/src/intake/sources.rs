//! Who may hand over readings and requests.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pattern::Pattern;
use super::rate::RateLimit;

/// A device, or a program, that is known by name.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name: the user of MQTT and of REST, the device id inside sealed messages, the source of its readings.
    pub id: String,
    /// bcrypt hash of its password, as `selvedge-edge hash-password` prints it; it cannot log in by password without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Common name of its TLS client certificate, if it is another than `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Other sources that it may name in readings: it is a gateway itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_send_for: Vec<Pattern>,
    /// Whether it may hand over whole transactions, not only readings.
    #[serde(default)]
    pub transactions: bool,
    /// Its own limit instead of the common one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
}

impl std::fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceConfig")
            .field("id", &self.id)
            .field("may_send_for", &self.may_send_for)
            .finish_non_exhaustive()
    }
}

/// Addresses that devices may have: `10.0.0.0/8`, `2001:db8::/32`, `127.0.0.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: u128,
    bits: u8,
    v4: bool,
}

fn as_number(address: IpAddr) -> (u128, bool) {
    match address.to_canonical() {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, true),
        IpAddr::V6(address) => (u128::from(address), false),
    }
}

impl AddressRange {
    fn mask(self) -> u128 {
        match self.bits {
            0 => 0,
            bits => u128::MAX << (128 - u32::from(bits)),
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        let (number, v4) = as_number(address);
        v4 == self.v4 && number & self.mask() == self.first & self.mask()
    }
}

impl TryFrom<String> for AddressRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not an address or a range such as 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text.as_str(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(wrong());
        }
        let (first, v4) = as_number(address);
        Ok(Self { first, bits, v4 })
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        let address = if range.v4 {
            IpAddr::V4(u32::try_from(range.first >> 96).unwrap_or_default().into())
        } else {
            IpAddr::V6(range.first.into())
        };
        format!("{address}/{}", range.bits)
    }
}

/// Who sent something, as far as it was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A known source.
    Source(String),
    /// Somebody who reaches the listener, where that is enough; known by address.
    Anyone(String),
    /// The gateway itself: folders and sensors of its configuration.
    Own(String),
}

impl Sender {
    /// The name that its readings have when they name none, and that its rate is limited under.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Source(name) | Self::Anyone(name) | Self::Own(name) => name,
        }
    }
}

/// The known sources and the addresses that may reach the gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    all: Vec<SourceConfig>,
    addresses: Vec<AddressRange>,
    /// Hashes of names with passwords that were right, since bcrypt at each call would be all that a small machine does.
    right: Arc<Mutex<HashSet<[u8; 32]>>>,
}

/// Longest password looked at, in bytes: bcrypt uses no more.
const MAX_PASSWORD: usize = 72;

impl Sources {
    pub(crate) fn new(all: Vec<SourceConfig>, addresses: Vec<AddressRange>) -> Result<Self, String> {
        for (index, source) in all.iter().enumerate() {
            if source.id.is_empty() || source.id.len() > 64 || source.id.contains(['/', '+', '#']) {
                return Err(format!(
                    "source '{}' must have 1 to 64 bytes without / + #",
                    source.id
                ));
            }
            if all.iter().take(index).any(|other| other.id == source.id) {
                return Err(format!("source '{}' is named twice", source.id));
            }
            if let Some(rate) = source.rate {
                rate.check()
                    .map_err(|why| format!("source '{}': {why}", source.id))?;
            }
            if let Some(hash) = &source.password
                && hash.parse::<bcrypt::HashParts>().is_err()
            {
                return Err(format!(
                    "source '{}': 'password' is not a bcrypt hash; `selvedge-edge hash-password` makes one",
                    source.id
                ));
            }
        }
        Ok(Self {
            all,
            addresses,
            right: Arc::default(),
        })
    }

    /// Whether an address may reach the gateway.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        self.addresses.is_empty() || self.addresses.iter().any(|range| range.contains(address))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&SourceConfig> {
        self.all.iter().find(|source| source.id == id)
    }

    /// The source whose certificate has this common name.
    pub(crate) fn by_certificate(&self, common_name: &str) -> Option<&SourceConfig> {
        self.all
            .iter()
            .find(|s| s.certificate.as_deref().unwrap_or(&s.id) == common_name)
    }

    /// Checks a password, off the async threads, since that takes its time on purpose. An unknown user takes as long as a
    /// wrong password.
    pub(crate) async fn log_in(&self, id: &str, password: &[u8]) -> bool {
        /// A hash that no password is known for.
        const NOBODY: &str = "$2b$08$abcdefghijklmnopqrstuuQ0xUq9cXHFZkZ8hVQ9m4oW7mX0kqH1e";
        let hash = self.get(id).and_then(|source| source.password.clone());
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        if password.len() > MAX_PASSWORD {
            return false;
        }
        let digest: [u8; 32] = Sha256::new()
            .chain_update((id.len() as u64).to_le_bytes())
            .chain_update(id)
            .chain_update(password)
            .finalize()
            .into();
        if known && self.right.lock().contains(&digest) {
            return true;
        }
        let password = password.to_vec();
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash)).await;
        let right = known && matches!(checked, Ok(Ok(true)));
        if right {
            self.right.lock().insert(digest);
        }
        right
    }

    /// Whether a sender may hand over readings of a source.
    pub(crate) fn may_send(&self, sender: &Sender, source: &str) -> bool {
        match sender {
            Sender::Own(_) | Sender::Anyone(_) => true,
            Sender::Source(id) => {
                id == source
                    || self
                        .get(id)
                        .is_some_and(|s| s.may_send_for.iter().any(|pattern| pattern.matches(source)))
            }
        }
    }

    /// Whether a sender may hand over whole transactions.
    pub(crate) fn may_transact(&self, sender: &Sender) -> bool {
        match sender {
            Sender::Own(_) | Sender::Anyone(_) => true,
            Sender::Source(id) => self.get(id).is_some_and(|s| s.transactions),
        }
    }

    /// The limit of a sender.
    pub(crate) fn rate(&self, sender: &Sender, common: Option<RateLimit>) -> Option<RateLimit> {
        match sender {
            Sender::Own(_) => None,
            Sender::Anyone(_) => common,
            Sender::Source(id) => self.get(id).and_then(|s| s.rate).or(common),
        }
    }
}

/// The hash that stands in the configuration for a password.
///
/// # Errors
/// The password is empty or longer than bcrypt looks, or the system gives no random numbers.
pub fn hash_password(password: &str) -> Result<String, String> {
    // Eight doublings less than the usual cost: a small gateway checks one at each connection.
    const COST: u32 = 8;
    if password.is_empty() || password.len() > MAX_PASSWORD {
        return Err(format!("a password has 1 to {MAX_PASSWORD} bytes"));
    }
    bcrypt::hash(password, COST).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(id: &str) -> SourceConfig {
        SourceConfig {
            id: id.into(),
            password: None,
            certificate: None,
            may_send_for: Vec::new(),
            transactions: false,
            rate: None,
        }
    }

    #[test]
    fn addresses_are_held_against_ranges() {
        let ranges = ["10.1.0.0/16", "127.0.0.1", "2001:db8::/32"]
            .map(|text| AddressRange::try_from(text.to_owned()).unwrap());
        let sources = Sources::new(Vec::new(), ranges.to_vec()).unwrap();
        for (address, expected) in [
            ("10.1.200.3", true),
            ("10.2.0.1", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("::ffff:10.1.0.1", true),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(sources.admits(address.parse().unwrap()), expected, "{address}");
        }
        assert!(Sources::default().admits("8.8.8.8".parse().unwrap()));
        for text in ["10.0.0.0/33", "10.0.0/8", "x", "::/129"] {
            assert!(AddressRange::try_from(text.to_owned()).is_err(), "{text}");
        }
        let all = AddressRange::try_from("0.0.0.0/0".to_owned()).unwrap();
        assert!(all.contains("9.9.9.9".parse().unwrap()));
        assert_eq!(String::from(ranges[0]), "10.1.0.0/16");
    }

    #[test]
    fn sources_speak_for_themselves_and_those_they_were_given() {
        let mut gateway = source("box-1");
        gateway.may_send_for = vec!["probe-*".into()];
        let sources = Sources::new(vec![gateway, source("truck")], Vec::new()).unwrap();
        let from = Sender::Source("box-1".into());
        assert!(sources.may_send(&from, "box-1"));
        assert!(sources.may_send(&from, "probe-7"));
        assert!(!sources.may_send(&from, "truck"));
        assert!(!sources.may_transact(&from));
        assert!(sources.may_send(&Sender::Own("folder".into()), "truck"));
        assert!(Sources::new(vec![source("a"), source("a")], Vec::new()).is_err());
        assert!(Sources::new(vec![source("a/b")], Vec::new()).is_err());
    }

    #[tokio::test]
    async fn passwords_are_checked_against_their_hashes() {
        let mut known = source("box-1");
        known.password = Some(hash_password("secret").unwrap());
        let sources = Sources::new(vec![known, source("no-password")], Vec::new()).unwrap();
        assert!(sources.log_in("box-1", b"secret").await);
        assert!(!sources.log_in("box-1", b"Secret").await);
        assert!(!sources.log_in("box-1", b"").await);
        assert!(!sources.log_in("no-password", b"").await);
        assert!(!sources.log_in("stranger", b"secret").await);
        assert!(hash_password("").is_err());
    }
}
