//! Identities: keys, certificates, signing and verifying, membership, policies.
//!
//! ```text
//!  creator bytes ── MspManager::deserialize ──► Identity ── verify ──► "who signed?"        bytes only, parallel
//!                                                  │
//!                                                  └── validate, satisfies ──► "is it enough?"   needs the configuration
//!                                                          ▲
//!  SignaturePolicy::evaluate(manager, Signers) ────────────┘
//! ```
//!
//! Nothing here looks at a clock: an expired certificate is still valid for the ledger (spec 02 §13.4), and callers that
//! care compare [`Certificate::not_after`] themselves.

mod cache;
mod certificate;
mod chain;
pub mod crl;
pub mod csr;
mod current;
mod curve;
mod der;
pub mod dir;
mod files;
mod held;
mod identity;
mod identity_error;
pub mod issue;
mod keys;
mod manager;
mod msp;
pub mod pem;
pub mod pkcs7;
pub mod policy;
mod principal;
pub mod seal;
mod setup;
#[cfg(test)]
mod testing;

pub use certificate::{Certificate, CertificateError};
pub use current::CurrentIdentity;
pub use files::write_public;
pub use held::{Signer, open_references_with};
pub use identity::{Identity, SigningIdentity, SigningIdentityError};
pub use identity_error::IdentityError;
pub use issue::{
    CaSubject, CertificateAuthority, IssueError, IssueRequest, RevokedCertificate, SubjectExtra, Usage,
    Validity,
};
pub use keys::{KeyError, PrivateKey, PublicKey, SignatureError};
pub use manager::MspManager;
pub use msp::{Msp, MspVersion};
pub use policy::{
    PolicyError, PolicyRefusal, RejectedSigner, SignaturePolicy, SignedData, Signers, verify_signatures,
};
pub use principal::{Principal, PrincipalError};
pub use setup::MspError;
