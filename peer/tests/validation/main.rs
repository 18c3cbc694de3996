//! Rules of validation that the recorded chain does not exercise, on chains of our own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test says that it fails by panicking, also in its helpers"
)]

mod configs;
mod mutation;
mod network;
mod opened;
mod orders;
mod private;
mod pulling;
mod random;
mod reference;
mod rules;
mod transaction;
mod wire;
