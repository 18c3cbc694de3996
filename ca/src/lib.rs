//! The certificate authority: Fabric CA's REST interface (spec 06).
//!
//! One server holds several authorities by name, each with its own root key, registry and certificates:
//!
//! ```text
//! HTTPS ─► api (JSON envelope, error codes) ─► auth (basic | token) ─► Authority ─► msp::CertificateAuthority (signs)
//!                                                                         └──────► Registry (SQLite: identities, certificates)
//! ```
//!
//! Secrets are stored as bcrypt hashes and wrong guesses are counted. Every answer has the shape
//! `{"success","result","errors":[{"code","message"}],"messages"}` that Fabric's clients expect.

mod api;
mod attributes;
mod auth;
mod authority;
mod config;
mod error;
mod operations;
mod registry;
mod server;

pub use config::{AuthorityConfig, Bootstrap, CaConfig, CaTls};
pub use error::CaServerError;
pub use server::run;
