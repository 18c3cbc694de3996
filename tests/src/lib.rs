//! Whole-network tests on real processes.
//!
//! ```text
//! Network ── writes its own network file, runs `selvedge network up`, gives clients, kills and restarts nodes
//!   │
//!   ├─ Proxy      a connection that can be cut, stalled, slowed, half-closed
//!   ├─ Edge       an edge gateway process
//!   ├─ Portal     the REST interface of an organisation, as a process
//!   ├─ CaServer   a certificate authority process, root and intermediate
//!   ├─ npm        official clients from npm, in folders of their own
//!   ├─ python     real clients from PyPI, in an environment of their own
//!   ├─ softhsm    PKCS#11 tokens
//!   ├─ probe      a small contract with one function for every way to behave and misbehave
//!   ├─ crooked    certificates and signatures as they must not be
//!   ├─ page       commands of the documentation, to be run as they stand there
//!   ├─ load       transactions in numbers, with what was acknowledged written down
//!   └─ checker    proves what must hold of every chain (spec 02 §5 to §9, 05 §3)
//! ```
//!
//! The binary under test is `selvedge` beside the test executables, or `SELVEDGE_BIN`; the contracts' modules are in
//! cargo's target folder, or in `SELVEDGE_CONTRACTS`. `make test` builds both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this crate is the tests' own: a failure is reported by a panic with its story"
)]

mod authority;
pub mod checker;
mod clients;
mod commands;
pub mod config_update;
pub mod crooked;
mod edge;
mod edge_program;
mod growth;
pub mod load;
mod network;
pub mod npm;
pub mod page;
mod portal;
pub mod ports;
pub mod probe;
mod process;
mod proxy;
pub mod python;
pub mod raw;
mod receiver;
pub mod softhsm;
mod wait;

pub use authority::{CaServer, INTERMEDIATE, NetworkAuthority, ROOT};
pub use clients::json;
pub use commands::{refuses, says, says_all};
pub use edge::{Device, Edge, http};
pub use edge_program::EdgeProgram;
pub use network::{Network, ORG1_PEER, ORG2_PEER, Options};
pub use portal::Portal;
pub use process::binary;
pub use proxy::Proxy;
pub use receiver::{Delivery, Receiver};
pub use wait::{Cases, case, eventually, within};

/// The channel of every test network.
pub const CHANNEL: &str = "trade";
