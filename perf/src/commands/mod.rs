//! The subcommands, one file each: its arguments, and what it does with them.

pub(crate) mod ca;
pub(crate) mod caliper;
pub(crate) mod client;
pub(crate) mod edge;
pub(crate) mod run;
