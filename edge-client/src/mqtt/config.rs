//! MQTT as it stands in the configuration file.

use std::path::{Path, PathBuf};

use selvedge_callbacks::{EventFilter, NamePattern};
use serde::{Deserialize, Serialize};

/// The MQTT listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// Address to listen on in the clear; none if absent.
    #[serde(default)]
    pub listen: Option<String>,
    /// The listener with TLS; none if absent.
    #[serde(default)]
    pub tls: Option<MqttTlsConfig>,
    /// Whether clients without password and certificate are taken.
    #[serde(default)]
    pub anonymous: bool,
    /// What is taken on which topics.
    #[serde(default = "default_topics")]
    pub topics: Vec<TopicConfig>,
    /// Contract events by topic.
    #[serde(default)]
    pub events: Vec<EventFeedConfig>,
}

/// MQTT over TLS.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttTlsConfig {
    /// Address to listen on.
    pub listen: String,
    /// PEM file with the listener's certificate and those between it and the root.
    pub certificate: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
    /// PEM file with the roots of clients' certificates. Without it clients show none, and log in by password.
    #[serde(default)]
    pub client_roots: Option<PathBuf>,
}

/// What the messages of a topic are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadKind {
    /// A reading or a list of them, as JSON.
    #[default]
    Readings,
    /// A bare value, such as `21.5`; its name is the topic's `{value}`.
    Value,
    /// A transaction request or a list of them, as JSON.
    Transactions,
}

/// A topic to publish on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicConfig {
    /// The topic; `{source}`, `{stream}` and `{value}` each stand for one level.
    pub topic: String,
    /// What its messages are.
    #[serde(default)]
    pub payload: PayloadKind,
}

/// Contract events on a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventFeedConfig {
    /// Events are published on this topic, followed by `/` and the event's name.
    pub topic: String,
    /// The channel.
    pub channel: String,
    /// The chaincode.
    pub chaincode: String,
    /// Names of events; all if absent.
    #[serde(default)]
    pub name: NamePattern,
}

fn default_topics() -> Vec<TopicConfig> {
    let topic = |topic: &str, payload| TopicConfig {
        topic: topic.to_owned(),
        payload,
    };
    vec![
        topic("readings", PayloadKind::Readings),
        topic("readings/{source}", PayloadKind::Readings),
        topic("readings/{source}/{stream}", PayloadKind::Readings),
        topic("values/{source}/{stream}/{value}", PayloadKind::Value),
        topic("transactions", PayloadKind::Transactions),
    ]
}

impl EventFeedConfig {
    pub(crate) fn filter(&self) -> EventFilter {
        EventFilter {
            channel: self.channel.clone(),
            chaincode: self.chaincode.clone(),
            name: self.name.clone(),
        }
    }
}

impl MqttConfig {
    /// Makes paths relative to the configuration file's folder, and checks what can be checked without files.
    pub(crate) fn resolve(&mut self, base: &Path) -> Result<(), String> {
        if self.listen.is_none() && self.tls.is_none() {
            return Err("mqtt: neither 'listen' nor 'tls' says where to listen".to_owned());
        }
        if let Some(tls) = &mut self.tls {
            tls.certificate = base.join(&tls.certificate);
            tls.key = base.join(&tls.key);
            if let Some(roots) = &mut tls.client_roots {
                *roots = base.join(&*roots);
            }
        }
        for feed in &self.events {
            if feed.topic.is_empty() || feed.topic.contains(['+', '#', '\0']) {
                return Err(format!("mqtt: '{}' is no topic to publish events on", feed.topic));
            }
            feed.filter()
                .check()
                .map_err(|e| format!("mqtt: events on {}: {e}", feed.topic))?;
        }
        for (index, feed) in self.events.iter().enumerate() {
            if self
                .events
                .iter()
                .take(index)
                .any(|other| other.topic == feed.topic)
            {
                return Err(format!("mqtt: events are twice on topic {}", feed.topic));
            }
        }
        Ok(())
    }
}
