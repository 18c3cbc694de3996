//! The ordering service over real TLS connections on the loopback, several nodes in one process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise; helpers are not marked as tests"
)]

mod admin;
mod cluster;
mod deliver;
mod filters;
mod operations;
mod reconfigure;
mod support;
