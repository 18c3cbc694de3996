//! The certificate that a process shows, which renewal replaces while connections come and go.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::CommError;
use crate::tls::{certificates, provider, read};

/// Certificate chain and key as they are at the moment.
struct Pair {
    certificate_pem: Vec<u8>,
    key_pem: Vec<u8>,
    /// Made when the pair is first needed: a wrong one is found then, or when it replaces another.
    certified: std::sync::OnceLock<Arc<CertifiedKey>>,
}

impl Pair {
    fn new(certificate_pem: &[u8], key_pem: &[u8]) -> Self {
        Self {
            certificate_pem: certificate_pem.to_vec(),
            key_pem: key_pem.to_vec(),
            certified: std::sync::OnceLock::new(),
        }
    }

    fn certified(&self) -> Result<Arc<CertifiedKey>, CommError> {
        if let Some(made) = self.certified.get() {
            return Ok(Arc::clone(made));
        }
        let chain = certificates("TLS certificate", &self.certificate_pem)?;
        if chain.is_empty() {
            return Err(no_certificate());
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key_pem).map_err(|e| CommError::Pem {
            what: "TLS private key".into(),
            why: e.to_string(),
        })?;
        let made = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|e| CommError::Tls(format!("certificate and key cannot be used together: {e}")))?;
        Ok(Arc::clone(self.certified.get_or_init(|| Arc::new(made))))
    }
}

fn no_certificate() -> CommError {
    CommError::Pem {
        what: "TLS certificate".into(),
        why: "no certificate in it".into(),
    }
}

/// A certificate chain with its private key, as PEM. Clones are the same identity: what replaces it in one place is shown by
/// every listener and in every new connection that was made with it.
#[derive(Clone)]
pub struct TlsIdentity {
    current: Arc<ArcSwap<Pair>>,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}

impl TlsIdentity {
    /// Takes a PEM certificate chain (leaf first) and the PEM key of the leaf.
    pub fn new(certificate_pem: &[u8], key_pem: &[u8]) -> Self {
        Self {
            current: Arc::new(ArcSwap::from_pointee(Pair::new(certificate_pem, key_pem))),
        }
    }

    /// Reads both from files.
    ///
    /// # Errors
    /// A file cannot be read; its content is checked when a server or channel is made.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, CommError> {
        Ok(Self::new(&read(certificate)?, &read(key)?))
    }

    /// Shows another certificate from the next handshake on. Connections that are open stay as they are.
    ///
    /// # Errors
    /// The texts are not PEM or not a pair; the former certificate stays.
    pub fn replace(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), CommError> {
        let pair = Pair::new(certificate_pem, key_pem);
        pair.certified()?;
        self.current.store(Arc::new(pair));
        Ok(())
    }

    /// The certificate chain as PEM, as it is at the moment.
    pub fn certificate_pem(&self) -> Vec<u8> {
        self.current.load().certificate_pem.clone()
    }

    /// The leaf certificate in DER, which others hash for TLS binding (spec 02 §12).
    ///
    /// # Errors
    /// The PEM holds no certificate.
    pub fn leaf_der(&self) -> Result<Vec<u8>, CommError> {
        let chain = certificates("TLS certificate", &self.current.load().certificate_pem)?;
        chain.first().map(|c| c.to_vec()).ok_or_else(no_certificate)
    }
}

/// An identity as rustls asks for it, at each handshake anew.
#[derive(Debug)]
pub(crate) struct Presented(TlsIdentity);

impl Presented {
    /// # Errors
    /// The identity is not usable.
    pub(crate) fn new(identity: &TlsIdentity) -> Result<Self, CommError> {
        identity.current.load().certified()?;
        Ok(Self(identity.clone()))
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        // Only what was found usable gets in.
        self.0.current.load().certified().ok()
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.current()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
