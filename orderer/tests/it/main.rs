//! The ordering service over real TLS connections on the loopback, several nodes in one process.

mod admin;
mod cluster;
mod deliver;
mod filters;
mod reconfigure;
mod support;
