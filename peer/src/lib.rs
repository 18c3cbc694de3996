//! The peer: gateway, endorser, chaincode runtime, validation and commit, events.
//!
//! ```text
//! client ─► gateway ─► endorser ─► chaincode (wasm, on a snapshot of the state) ─► signed read/write set
//!              │          ▲
//!              │          └─ other peers' gateways
//!              └─► orderers ─► puller ─► validation ─► ledger ─► commits ─► deliver, events, commit status
//! ```
//!
//! [`Peer::start`] puts it together from a [`PeerConfig`].

mod access;
pub mod audit;
mod calls;
pub mod chaincode;
mod channel;
pub mod committed;
pub mod config;
pub mod context;
pub mod definition;
mod deliver;
mod discovery;
mod endorsements;
pub mod endorser;
pub mod follower;
mod gateway;
pub mod metrics;
mod node;
mod operations;
mod peer;
pub mod pipeline;
mod private_writes;
pub mod puller;
pub mod refusals;
pub mod replay;
pub mod scc;
mod stranger;
#[cfg(test)]
mod test_network;
pub mod transient;
pub mod validation;

pub use channel::{ChannelError, PeerChannel};
pub use committed::{CommittedBlock, CommittedTx};
pub use config::{ConfigFileError, PeerConfig};
pub use definition::{ChaincodeDefinition, DefinitionError};
pub use node::NodeError;
pub use peer::{Peer, PeerError, run};
pub use refusals::Refusal;
pub use validation::{ProcessError, ValidatorPool};
