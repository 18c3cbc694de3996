//! What callers and configuration files say.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{CallbackError, EventFilter, EventId, NamePattern};

/// Limits and pauses of a [`crate::Hub`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallbackSettings {
    /// Subscriptions at most, over all owners.
    pub max_subscriptions: usize,
    /// Readers of server-sent events at a time, over all owners.
    pub max_streams: usize,
    /// Pause after the first failure, at the peer or at a receiver; doubled at each further one.
    #[serde(with = "humantime_text")]
    pub first_pause: Duration,
    /// Longest pause.
    #[serde(with = "humantime_text")]
    pub longest_pause: Duration,
    /// A receiver has this long to answer.
    #[serde(with = "humantime_text")]
    pub answer_within: Duration,
    /// After so long of nothing but failures a subscription is suspended.
    #[serde(with = "humantime_text")]
    pub give_up_after: Duration,
    /// PEM file with the roots that receivers' certificates chain to; the system's where absent.
    pub tls_roots: Option<PathBuf>,
    /// Hosts that web hooks may go to: names, or `*.` and a suffix. Any host if empty. Set it where those who subscribe
    /// must not reach every machine that this one can.
    pub allowed_hosts: Vec<String>,
    /// Whether web hooks may go over plain http.
    pub allow_http: bool,
}

impl Default for CallbackSettings {
    fn default() -> Self {
        Self {
            max_subscriptions: 1000,
            max_streams: 64,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(300),
            answer_within: Duration::from_secs(15),
            give_up_after: Duration::from_secs(3 * 24 * 3600),
            tls_roots: None,
            allowed_hosts: Vec::new(),
            allow_http: false,
        }
    }
}

impl CallbackSettings {
    /// The pause before attempt number `failures` + 1, with jitter.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let doubled = self
            .first_pause
            .saturating_mul(1 << failures.saturating_sub(1).min(20));
        let longest = doubled.min(self.longest_pause);
        longest.mul_f64(rand::Rng::random_range(&mut rand::rng(), 0.5..=1.0))
    }
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

/// Where a subscription begins: `now`, `oldest`, a block number, or an event id to go on after.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "StartText", into = "String")]
pub enum StartAt {
    /// With what commits from now on.
    #[default]
    Now,
    /// With block 0.
    Oldest,
    /// After an event, or with a block.
    Place(EventId),
}

/// Numbers are taken for block numbers, so that `from: 12` in YAML is right too.
#[derive(Deserialize)]
#[serde(untagged)]
enum StartText {
    Number(u64),
    Text(String),
}

impl TryFrom<StartText> for StartAt {
    type Error = CallbackError;

    fn try_from(text: StartText) -> Result<Self, CallbackError> {
        match text {
            StartText::Number(block) => Ok(Self::Place(EventId::before_block(block))),
            StartText::Text(text) => text.parse(),
        }
    }
}

impl std::str::FromStr for StartAt {
    type Err = CallbackError;

    fn from_str(text: &str) -> Result<Self, CallbackError> {
        match text {
            "now" | "" => Ok(Self::Now),
            "oldest" => Ok(Self::Oldest),
            place => place.parse().map(Self::Place).map_err(|_| {
                CallbackError::Invalid("a start is 'now', 'oldest', a block number or an event id".to_owned())
            }),
        }
    }
}

impl From<StartAt> for String {
    fn from(start: StartAt) -> Self {
        match start {
            StartAt::Now => "now".to_owned(),
            StartAt::Oldest => "oldest".to_owned(),
            StartAt::Place(place) => place.to_string(),
        }
    }
}

/// Where a web hook goes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookTarget {
    /// `https://…`
    pub url: String,
    /// `whsec_` and base64 of 24 to 64 bytes; made at random and told once if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl std::fmt::Debug for WebhookTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookTarget")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// A subscription to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSubscription {
    /// Its name: 1 to 64 letters, digits, `-` and `_`. Made at random if absent. Creating the same subscription under the
    /// same name again changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The channel.
    pub channel: String,
    /// The chaincode.
    pub chaincode: String,
    /// Names of events; all if absent.
    #[serde(default)]
    pub name: NamePattern,
    /// Where to begin.
    #[serde(default)]
    pub from: StartAt,
    /// Where the events go.
    pub webhook: WebhookTarget,
}

impl NewSubscription {
    /// The events that it is about.
    pub fn filter(&self) -> EventFilter {
        EventFilter {
            channel: self.channel.clone(),
            chaincode: self.chaincode.clone(),
            name: self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_in_every_spelling() {
        let read = |json: &str| serde_json::from_str::<StartAt>(json);
        assert_eq!(read("\"now\"").unwrap(), StartAt::Now);
        assert_eq!(read("\"oldest\"").unwrap(), StartAt::Oldest);
        assert_eq!(read("12").unwrap(), read("\"12\"").unwrap());
        assert_eq!(
            read("\"12.ab\"").unwrap(),
            StartAt::Place("12.ab".parse().unwrap())
        );
        assert!(read("\"tomorrow\"").unwrap_err().to_string().contains("oldest"));
    }

    #[test]
    fn pauses_grow_to_the_longest() {
        let settings = CallbackSettings::default();
        assert!(settings.pause(1) <= Duration::from_secs(1));
        assert!(settings.pause(4) >= Duration::from_secs(4));
        let long = settings.pause(u32::MAX);
        assert!(long <= settings.longest_pause && long >= settings.longest_pause / 2);
    }

    #[test]
    fn secrets_do_not_show() {
        let target = WebhookTarget {
            url: "https://h".into(),
            secret: Some("whsec_hidden".into()),
        };
        assert!(!format!("{target:?}").contains("hidden"));
    }
}
