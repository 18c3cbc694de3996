//! The ordering service: takes envelopes, agrees on their order, cuts and serves blocks.
//!
//! ```text
//!            Broadcast                                             Deliver
//!                │ filter: size, expiry, writers' policy              ▲
//!                ▼                                                    │
//!  follower ── forward ──► leader: sequencer ── cutter ── batch       │ block store's height
//!                                                  │                  │
//!                          Raft log, on a majority's disks ──► chain: block, signed, on disk
//!                                                  │
//!                                                  └──► SUCCESS
//! ```
//! - A Raft entry is a batch; applying it makes a block. Every node makes the same header and signs its own copy.
//! - An envelope is answered with SUCCESS when a majority has it durably and it is in a block ([`broadcast`]).
//! - A node that fell behind, was wiped or is new gets the blocks from the others and votes only when it has caught up
//!   ([`consensus`], [`puller`]).
//!
//! [`run`] is the whole process; [`Orderer`] the same for networks in one process. There is no global state.

mod admin;
mod broadcast;
mod chain;
mod channel;
mod cluster;
mod config;
mod consensus;
mod cutter;
mod deliver;
mod envelope;
mod error;
mod filter;
mod forward;
mod joined;
mod metrics;
mod node;
mod operations;
mod pace;
mod peers;
mod puller;
mod raft;
mod registrar;
mod sequencer;

pub use channel::ChannelInfo;
pub use config::{
    AdminConfig, ClientAuthConfig, ClusterConfig, ClusterTls, OperationsConfig, OrdererConfig, RaftConfig,
    TlsConfig,
};
pub use error::{JoinError, OrdererError};
pub use node::{Orderer, run};
