//! The platform's REST interface: what partners, plants and auditors use instead of peer commands, and the page on top.
//!
//! An organisation runs it for its own people. It holds their signing identities (MSP folders) and lets each of them
//! act under their own, after they have signed in.
//!
//! ```text
//!  browser, ERP ── limits ─► who calls? ─► view ─► handler ─┬─► Gateway (the caller's identity) ─► peer: contracts
//!                  (address)  certificate   in-house         ├─► PeerClient ─► peer: blocks, transactions
//!                             or token      or public        ├─► Index ◄── Follower ◄── peer: every block, as it commits
//!                                                            └─► Hub: web hooks, each under its owner's identity
//! ```
//!
//! The [`index`] is a cache of what the peer has: delete it, and it is built again. Everything that is asked of a
//! contract goes to the peer under the identity of who asks, so the contract's own rules hold too.

mod auth;
mod config;
mod error;
mod index;
mod network;
mod node;
mod openapi;
mod read;
mod routes;

pub use config::{ApiConfig, ContractNames, GatewayConfig, LimitsConfig, NodeConfig, TlsConfig, UserConfig};
pub use error::ApiError;
pub use node::{Api, run};

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}
