//! The ledger as its users see it: a recorded Fabric chain, and a process that is killed.

mod golden;
mod kill;
