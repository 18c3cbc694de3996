//! Tests of channel configuration: a recorded Fabric chain, and every rule of updates on channels made here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says that it fails by panicking, also in its helpers"
)]

mod blocks;
mod edits;
mod genesis;
mod golden;
mod network;
mod policies;
mod properties;
mod rules;
mod strict;
mod transitions;
