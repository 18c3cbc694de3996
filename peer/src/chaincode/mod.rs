//! Chaincode: packages, the wasm runtime, and the simulator that turns an execution into a read/write set.
//!
//! ```text
//! package (tar.gz) ─► PackageStore ─► compiled module (cached) ─► InstancePre
//!                                                                    │ fresh instance a call
//! definition (state) + approval (hash) ─► ChaincodeRuntime ──────────┤
//!                                                                    ▼
//!                                     Simulator (snapshot) ◄── host functions ─► read/write set, event, response
//! ```

pub(crate) mod collections;
mod error;
mod invocation;
pub mod package;
mod runtime;
pub mod simulator;
pub(crate) mod state;
pub mod store;
mod transaction;
pub(crate) mod wasm;

pub use error::{ExecuteError, Place, RuntimeError};
pub use invocation::{Executed, Invocation};
pub use package::PackageError;
pub use runtime::{ChaincodeRuntime, NotAvailable, Resolved};
pub use simulator::{SimulationResults, SimulationState, Simulator};
pub use store::{InstalledPackage, PackageStore, approval_hash};
pub use transaction::TxContext;
pub use wasm::{MAX_CALL_DEPTH, RuntimeConfig};
