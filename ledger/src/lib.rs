//! The ledger of one channel: block files, world state, history and indexes.
//!
//! ```text
//!            judge (pure)            commit (one thread)
//! block ──► mvcc::judge ──► UpdateBatch ──► BlockStore   one record, one fdatasync: the truth
//!             │ reads                   └─► RocksDB      one WriteBatch, no fsync: derived from the block files
//!             ▼
//!          StateReader ◄── StateSnapshot (endorsing), CommittedState (validation)
//! ```
//!
//! A block counts as committed when it is in the block file. Everything in RocksDB can be computed again from the block
//! files: the database carries the height it has reached, and [`Ledger::open`] rolls it forward, redoing the writes of
//! every transaction that the stored `TRANSACTIONS_FILTER` calls valid. Private data in plain text is not in the blocks,
//! so it has a store of its own that is made durable before the block ([`private`]).
//!
//! [`BlockStore`] alone is what an orderer needs.

mod block_store;
pub mod commit_hash;
mod contents;
mod db;
mod error;
mod history;
mod keys;
mod ledger;
pub mod mvcc;
pub mod private;
pub mod range_hash;
pub mod rwset;
mod snapshot;
mod state;
mod updates;
mod version;

pub use block_store::{BlockFiles, BlockStore, BlockStoreError, MAX_BLOCK_BYTES};
pub use contents::indexed_tx_id;
pub use db::DatabaseOptions;
pub use error::LedgerError;
pub use history::HistoryEntry;
pub use ledger::{CommitTimes, Ledger, TxLocation};
pub use snapshot::{CommittedState, StateSnapshot};
pub use state::{KeyRef, RangeIter, StateReader, VersionedValue};
pub use updates::{HistoryWrite, NamespaceUpdates, Purge, Update, UpdateBatch};
pub use version::Version;

/// Namespace of the channel configuration in the state (spec 03 §3 I).
pub const CONFIG_NAMESPACE: &str = "";

/// Key of the channel configuration in [`CONFIG_NAMESPACE`]; its value is the serialised `ConfigEnvelope`.
pub const CONFIG_KEY: &str = "CHANNEL_CONFIG_ENV_BYTES";
