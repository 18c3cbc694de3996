//! Why an identity is not accepted.

use crate::certificate::{Certificate, CertificateError, shortened};

/// Why bytes are not an identity, or an identity is not a valid member of its MSP. Each names the certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Not pb(SerializedIdentity).
    #[error("the creator is not a serialized identity (MSP id and PEM certificate): {0}")]
    Malformed(String),
    /// The MSP id is not one of those configured.
    #[error("MSP '{msp_id}' is unknown here; known are {known}")]
    UnknownMsp {
        /// The MSP id of the identity.
        msp_id: String,
        /// Those that are configured.
        known: String,
    },
    /// The identity was given to another MSP.
    #[error("the identity is a member of a different MSP (expected {expected}, got {got})")]
    OtherMsp {
        /// The MSP that was asked.
        expected: String,
        /// The MSP of the identity.
        got: String,
    },
    /// The certificate cannot be read.
    #[error("the certificate of an identity of {msp_id}: {source}")]
    Certificate {
        /// The MSP.
        msp_id: String,
        /// Why.
        source: CertificateError,
    },
    /// Neither ECDSA nor, where allowed, Ed25519.
    #[error(
        "could not validate the public key algorithm of '{subject}': only ECDSA P-256 and P-384 (and Ed25519 where the \
         channel has capability V3_0) are accepted"
    )]
    KeyAlgorithm {
        /// The certificate's subject.
        subject: String,
    },
    /// A CA certificate.
    #[error(
        "'{subject}': an X509 certificate with Basic Constraint: Certificate Authority equals true cannot be used as an \
         identity"
    )]
    IsCa {
        /// The certificate's subject.
        subject: String,
    },
    /// There is not exactly one valid path to a root.
    #[error("the certificate '{subject}' cannot be traced to a root of its MSP: {reason}")]
    Chain {
        /// The certificate's subject.
        subject: String,
        /// What is wrong.
        reason: String,
    },
    /// The issuer is a CA that issues CAs.
    #[error(
        "the certificate '{subject}' was issued by '{issuer}', which issues other CAs of this MSP; identities must come \
         from the last CA of a chain"
    )]
    InternalNode {
        /// The certificate's subject.
        subject: String,
        /// Its issuer.
        issuer: String,
    },
    /// Listed in a CRL of the MSP.
    #[error("the certificate '{subject}' (serial {serial}) has been revoked")]
    Revoked {
        /// The certificate's subject.
        subject: String,
        /// Its serial number, hex.
        serial: String,
    },
    /// The organizational units break the MSP's rules.
    #[error("the organizational units of '{subject}' are {units}: {reason}")]
    OrganizationalUnits {
        /// The certificate's subject.
        subject: String,
        /// The values, quoted.
        units: String,
        /// The rule.
        reason: String,
    },
}

impl IdentityError {
    pub(crate) fn chain(certificate: &Certificate, reason: String) -> Self {
        Self::Chain {
            subject: certificate.label(),
            reason,
        }
    }

    pub(crate) fn units(certificate: &Certificate, reason: String) -> Self {
        let units: Vec<String> = certificate
            .organizational_units()
            .iter()
            .map(|u| format!("'{u}'"))
            .collect();
        let units = if units.is_empty() {
            "none".to_owned()
        } else {
            shortened(&units.join(", "))
        };
        Self::OrganizationalUnits {
            subject: certificate.label(),
            units,
            reason,
        }
    }
}
