//! Identities: a certificate in an MSP, with or without the private key.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use selvedge_proto::msp::SerializedIdentity;

use crate::certificate::{Certificate, CertificateError, shortened};
use crate::dir::{self, DirError};
use crate::keys::{KeyError, PrivateKey, SignatureError};

/// A certificate that claims to belong to an MSP. That it really does is what `validate` of the MSP says.
#[derive(Debug, Clone)]
pub struct Identity {
    msp_id: Arc<str>,
    certificate: Certificate,
}

impl Identity {
    /// Puts the two together without any check.
    #[must_use]
    pub fn new(msp_id: impl Into<Arc<str>>, certificate: Certificate) -> Self {
        Self {
            msp_id: msp_id.into(),
            certificate,
        }
    }

    /// The MSP that the identity claims.
    #[must_use]
    pub fn msp_id(&self) -> &str {
        &self.msp_id
    }

    pub(crate) fn msp_id_shared(&self) -> Arc<str> {
        Arc::clone(&self.msp_id)
    }

    /// The certificate, with its own signature in low-S form.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What makes two identities the same: MSP id and SHA-256 of the certificate (spec 02 §13.3).
    #[must_use]
    pub fn key(&self) -> (&str, &[u8; 32]) {
        (&self.msp_id, self.certificate.sha256_ref())
    }

    /// Checks a signature of this identity.
    ///
    /// # Errors
    /// The reason why the signature does not count.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        self.certificate
            .public_key()
            .ok_or(SignatureError::UnsupportedKey)?
            .verify(message, signature)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.certificate.common_name() {
            Some(name) => write!(f, "'{}' of {}", shortened(name), self.msp_id),
            None => write!(f, "'{}' of {}", self.certificate.label(), self.msp_id),
        }
    }
}

/// Why a signing identity cannot be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningIdentityError {
    /// The certificate cannot be read.
    #[error("the signing certificate of {msp_id}: {source}")]
    Certificate {
        /// The MSP.
        msp_id: String,
        /// Why.
        source: CertificateError,
    },
    /// Certificate and key are not a pair.
    #[error("the private key does not belong to the certificate '{subject}' of {msp_id}")]
    KeyMismatch {
        /// The MSP.
        msp_id: String,
        /// The certificate's subject.
        subject: String,
    },
    /// The MSP folder cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
}

/// An identity with its private key. Clones share it.
#[derive(Clone)]
pub struct SigningIdentity {
    inner: Arc<SigningInner>,
}

struct SigningInner {
    identity: Identity,
    key: PrivateKey,
    creator: Bytes,
}

impl fmt::Debug for SigningIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningIdentity({})", self.inner.identity)
    }
}

impl SigningIdentity {
    /// From an MSP id, the certificate's PEM text (kept as it is in every message, spec 02 §1) and its key.
    ///
    /// # Errors
    /// When the certificate cannot be read or does not fit the key.
    pub fn new(msp_id: &str, certificate_pem: &[u8], key: PrivateKey) -> Result<Self, SigningIdentityError> {
        let certificate =
            Certificate::from_pem(certificate_pem).map_err(|source| SigningIdentityError::Certificate {
                msp_id: msp_id.to_owned(),
                source,
            })?;
        if certificate.public_key() != Some(key.public_key()) {
            return Err(SigningIdentityError::KeyMismatch {
                msp_id: msp_id.to_owned(),
                subject: certificate.subject(),
            });
        }
        let creator = SerializedIdentity {
            mspid: msp_id.to_owned(),
            id_bytes: Bytes::copy_from_slice(certificate_pem),
        };
        Ok(Self {
            inner: Arc::new(SigningInner {
                identity: Identity::new(msp_id, certificate),
                key,
                creator: creator.encode_to_vec().into(),
            }),
        })
    }

    /// From an MSP folder: the first certificate of `signcerts` and the key of `keystore` that fits it (spec 02 §13.6).
    ///
    /// # Errors
    /// When one of the two is missing or cannot be read.
    pub fn from_msp_dir(msp_id: &str, path: &Path) -> Result<Self, SigningIdentityError> {
        let (certificate_pem, key) = dir::read_signer(path)?;
        Self::new(msp_id, &certificate_pem, key)
    }

    /// The MSP id.
    #[must_use]
    pub fn msp_id(&self) -> &str {
        self.inner.identity.msp_id()
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        self.inner.identity.certificate()
    }

    /// The key, for those who keep an identity for later (the edge gateway).
    #[must_use]
    pub fn private_key(&self) -> &PrivateKey {
        &self.inner.key
    }

    /// The identity without the key.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.inner.key
    }

    /// pb(SerializedIdentity): the `creator` of everything that this identity signs.
    #[must_use]
    pub fn creator(&self) -> &Bytes {
        &self.inner.creator
    }

    /// Signs `message` (spec 02 §3).
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Bytes, KeyError> {
        self.inner.key.sign(message).map(Bytes::from)
    }
}
