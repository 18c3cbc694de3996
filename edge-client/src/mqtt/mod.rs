//! MQTT for devices: a broker whose PUBACK means that the message is on this machine's disk.
//!
//! It takes messages on the topics of the configuration (readings, plain values, transactions) and gives contract events
//! on others. It is not a broker between devices: what one publishes, no other receives. Versions 3.1.1 and 5, with QoS 0,
//! 1 and 2 from devices and 0 and 1 to them.
//!
//! ```text
//! CONNECT ─► who is it (password, TLS certificate) ─► session
//! PUBLISH ─► topic says source, stream, kind ─► Intake ─► durable ─► PUBACK / PUBREC, in the order of the PUBLISHes
//! SUBSCRIBE events/… ─► Follower of the chain, from the session's place ─► PUBLISH ─► PUBACK moves the place on
//! ```
//!
//! A session that lasts keeps its subscriptions and, for each feed of events, the place up to which it has acknowledged.
//! What comes while it is away is not queued here: it is on the chain.
//!
//! Existing brokers to embed acknowledge when they have a message in memory, so only the packets' encoding is a library's.

mod config;
mod connection;
mod line;
mod server;
mod sessions;
mod topics;
mod wire;

pub use config::{EventFeedConfig, MqttConfig, MqttTlsConfig, PayloadKind, TopicConfig};
pub(crate) use server::MqttServer;
