//! The certificate authority: Fabric CA's REST interface (spec 06).
//!
//! One server holds several authorities by name, each with its own root key, registry and certificates:
//!
//! ```text
//! HTTPS ─► api (JSON envelope, error codes; EST) ─► auth (basic | token | TLS) ─► Authority ─► msp::CertificateAuthority (signs)
//!                                                                                    ├──────► Identities (registered | LDAP)
//!                                                                                    └──────► Registry (SQLite: identities,
//!                                                                                             certificates, affiliations)
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
mod identities;
mod ldap;
mod operations;
mod registry;
mod secrets;
mod server;

pub use config::{
    AuthorityConfig, Bootstrap, CaConfig, CaTls, LdapAttributeConfig, LdapConfig, LdapNameValue,
    PreviousAuthority,
};
pub use error::CaServerError;
pub use selvedge_renewal::RenewalConfig;
pub use server::run;
