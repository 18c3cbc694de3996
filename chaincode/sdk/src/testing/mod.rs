//! A ledger in memory for unit tests of contracts.
//!
//! It has the semantics that matter to a contract and that simple stand-ins get wrong: reads return committed values,
//! writes appear when the transaction commits, a refused transaction writes nothing, concurrent transactions are
//! judged by the versions and ranges they read ([`MockLedger::commit`]), history is kept, and calls between
//! chaincodes share one transaction.

mod host;
mod ledger;

pub use ledger::{MockLedger, Simulated, TestCaller, Verdict};
