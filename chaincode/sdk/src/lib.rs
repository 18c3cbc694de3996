//! The contract SDK: what a contract author sees.
//!
//! A contract is a type that implements [`Contract`] and is handed to [`export!`]. It is compiled to WebAssembly and run
//! by every endorsing peer, which compares the results: so it must depend on nothing but its arguments, the state and
//! the transaction ([`Context`]). There is no clock, no randomness and no network to reach for.
//!
//! ```
//! use selvedge_chaincode::prelude::*;
//!
//! struct Notes;
//!
//! impl Contract for Notes {
//!     const NAME: &'static str = "notes";
//!     const VERSION: &'static str = "1.0";
//!     const FUNCTIONS: &'static [Function] =
//!         &[Function::submit("write", &["name", "text"], write), Function::evaluate("read", &["name"], read)];
//! }
//!
//! fn write(ctx: &Context<'_>, args: &Args) -> Result<Response> {
//!     ctx.put_state(args.text(0)?, args.text(1)?.as_bytes())?;
//!     Ok(Response::empty())
//! }
//!
//! fn read(ctx: &Context<'_>, args: &Args) -> Result<Response> {
//!     let name = args.text(0)?;
//!     ctx.get_state(name)?.map(Response::bytes).ok_or_else(|| Error::not_found(format!("there is no note {name}")))
//! }
//!
//! selvedge_chaincode::export!(Notes);
//!
//! // A unit test runs natively, against real ledger semantics:
//! use selvedge_chaincode::testing::{MockLedger, TestCaller};
//! let mut ledger = MockLedger::new();
//! ledger.install::<Notes>("notes");
//! let alice = TestCaller::new("Org1MSP", "alice");
//! ledger.submit(&alice, "notes", "write", &["todo", "weave"]).unwrap();
//! assert_eq!(ledger.evaluate(&alice, "notes", "read", &["todo"]).unwrap(), b"weave");
//! assert_eq!(ledger.evaluate(&alice, "notes", "read", &["other"]).unwrap_err().status(), 404);
//! ```

mod abi;
mod actor;
mod args;
mod condition;
mod context;
mod contract;
mod decimal;
mod digest;
mod error;
#[cfg(target_arch = "wasm32")]
mod heap;
pub mod host;
#[cfg(target_arch = "wasm32")]
mod imports;
pub mod json;
mod keys;
mod paging;
mod response;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod time;

pub use actor::{Actor, DEVICE_ATTRIBUTE, GATEWAY_ATTRIBUTE, MAX_MSP_ID, MAX_NOTE, msp_id, note};
pub use args::{Args, ObjectText};
pub use condition::{Condition, MAX_CONDITIONS};
pub use context::{Caller, Context, HistoryIterator, Level, StateIterator, decode_state};
pub use contract::{Contract, Function, Handler, Kind, run};
pub use decimal::{Decimal, DecimalError};
pub use digest::{DocumentHash, HashAlgorithm, sha256_hex};
pub use error::{Error, Result};
pub use host::HistoryEntry;
pub use keys::{composite_key, composite_range, split_composite_key};
pub use paging::{Entry, Page, Paging};
pub use response::Response;
pub use time::{Timestamp, TimestampError};

/// Everything that most contracts need.
pub mod prelude {
    pub use crate::{
        Args, Condition, Context, Contract, Decimal, Error, Function, Level, Response, Result, Timestamp,
        composite_key,
    };
}

/// Runs one invocation on the peer. Called by what [`export!`] makes.
#[cfg(target_arch = "wasm32")]
pub fn run_on_peer<C: Contract>() {
    use host::Host;

    std::panic::set_hook(Box::new(|panic| {
        imports::Peer.log(Level::Error, &panic.to_string())
    }));
    contract::run::<C>(&imports::Peer);
}
