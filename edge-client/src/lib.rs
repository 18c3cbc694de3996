//! The edge gateway: a persistent buffer, an uplink, and a REST interface for the devices behind it.
//!
//! A request that was answered with 202 is on this machine's disk and will be on the ledger exactly once, however
//! often the machine or the network fails in between. That follows from one rule: the transaction id is SHA-256 over
//! nonce and creator certificate (spec 02 §1), and both are fixed *before* anything is sent. Whatever is sent again
//! has the same id, and the ledger admits an id once.
//!
//! ```text
//! REST, MQTT, folders, sealed TCP, sensors
//!   └─► Intake ── who, may it, which transaction, what do the edge rules say
//!         └─► Buffer ── one durable record a request ─► 202, PUBACK, "taken"
//!               │  engine (pure): which request is due, what a result means
//!               ▼
//!             Uplink ── endorse ─► order ─► commit status, with back-off and fail-over
//!
//! contract events ─► call-backs ─► server-sent events, web hooks, MQTT topics
//! ```
//!
//! States of a request (MISSION A):
//!
//! ```text
//! pending-endorsement ─► pending-ordering ─► pending-commit ─► committed
//!   │ ▲                    │                   │       └────► commit-error ─► (a new request, if conflicts are retried)
//!   ▼ │                    ▼                   ▼
//! endorsement-error      ordering-error      (asked again)        refused: the caller is told why
//! ```

mod api;
mod buffer;
mod commands;
mod config;
mod devices;
mod diag;
mod doctor;
mod enroll;
mod enrolling;
mod enrollments;
mod error;
mod folder;
mod guard;
mod identities;
mod intake;
mod journal;
mod key_commands;
mod mqtt;
mod node;
mod operations;
mod owner;
mod page;
mod registrars;
mod renewal;
mod rest;
mod rules;
mod sealed;
mod sensors;
mod state_log;
mod status;
#[cfg(test)]
mod testing;
mod uplink;

pub use buffer::{
    Buffer, BufferError, BufferLimits, DropReason, EntryView, Priority, Receipt, State, Totals,
    TransactionRequest, WhenFull,
};
pub use commands::EdgeCommand;
pub use config::{
    BufferConfig, CaConfig, EdgeConfig, Endorsers, EndpointConfig, EnrollmentConfig, GapRecordConfig,
    MergeConfig, UplinkConfig, UplinkMode,
};
pub use devices::{CallbacksConfig, DevicesConfig, RestConfig, RestTlsConfig};
pub use diag::{DiagOptions, Written, diag};
pub use doctor::{Area, Finding, Level, Report, examine};
pub use error::EdgeError;
pub use folder::FolderConfig;
pub use intake::pattern::Pattern;
pub use intake::rate::RateLimit;
pub use intake::reading::{Position, SentReading};
pub use intake::route::RouteConfig;
pub use intake::sources::{AddressRange, SourceConfig, hash_password};
pub use journal::JournalError;
pub use key_commands::{DeviceKeyCommand, KeyConfig, KeyOf, hash_password_command};
pub use mqtt::{EventFeedConfig, MqttConfig, MqttTlsConfig, PayloadKind, TopicConfig};
pub use node::{Edge, run};
pub use rules::{ChangeRule, OutsideRule, Rule, RuleSet, Statistic, WindowRule};
pub use sealed::{DeviceKeyView, IssuedKey, KeyFile, KeyFileError, SealedConfig};
pub use sensors::{SensorConfig, SensorValue};

#[cfg(test)]
mod ways_in_tests;
