//! The ledger as its users see it: a recorded Fabric chain, and a process that is killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod golden;
mod kill;
