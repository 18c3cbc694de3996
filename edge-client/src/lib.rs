//! The edge gateway: a persistent buffer, an uplink, and a REST interface for the devices behind it.
//!
//! A request that was answered with 202 is on this machine's disk and will be on the ledger exactly once, however
//! often the machine or the network fails in between. That follows from one rule: the transaction id is SHA-256 over
//! nonce and creator certificate (spec 02 §1), and both are fixed *before* anything is sent. Whatever is sent again
//! has the same id, and the ledger admits an id once.
//!
//! ```text
//! REST ─► Buffer ── one durable record a request ─► 202
//!           │  engine (pure): which request is due, what a result means
//!           ▼
//!         Uplink ── endorse ─► order ─► commit status, with back-off and fail-over
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
mod diag;
mod doctor;
mod enroll;
mod enrolling;
mod enrollments;
mod error;
mod identities;
mod node;
mod operations;
mod page;
mod renewal;
mod status;
#[cfg(test)]
mod testing;
mod uplink;

pub use buffer::{Buffer, BufferError, BufferLimits, EntryView, State, Totals, TransactionRequest};
pub use commands::EdgeCommand;
pub use config::{CaConfig, EdgeConfig, EndpointConfig, EnrollmentConfig, UplinkConfig, UplinkMode};
pub use diag::{DiagOptions, Written, diag};
pub use doctor::{Area, Finding, Level, Report, examine};
pub use error::EdgeError;
pub use node::{Edge, run};
