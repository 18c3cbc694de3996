//! The authorities that a listener takes client certificates from, which change while it serves when a root is rotated.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::CommError;
use crate::tls::{provider, root_store};

/// PEM roots; each entry may hold several. Clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Roots(Arc<ArcSwap<Vec<Vec<u8>>>>);

impl From<Vec<Vec<u8>>> for Roots {
    fn from(pem: Vec<Vec<u8>>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(pem)))
    }
}

impl Roots {
    /// Trusts these from the next handshake on.
    ///
    /// # Errors
    /// One of them is no certificate of an authority; the former ones stay.
    pub fn replace(&self, pem: Vec<Vec<u8>>) -> Result<(), CommError> {
        root_store(&pem)?;
        self.0.store(Arc::new(pem));
        Ok(())
    }

    /// What is trusted at the moment.
    pub fn current(&self) -> Arc<Vec<Vec<u8>>> {
        self.0.load_full()
    }
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// Takes clients whose certificate chains to the roots of the moment.
#[derive(Debug)]
pub(crate) struct KnownClient {
    roots: Roots,
    required: bool,
    /// The verifier with the roots that it was made of.
    made: Mutex<(Arc<Vec<Vec<u8>>>, Verifier)>,
    /// Answers what does not depend on the roots.
    any: Verifier,
}

fn verifier(roots: &[Vec<u8>], required: bool) -> Result<Verifier, CommError> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(root_store(roots)?), provider());
    let builder = if required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    let made = builder
        .build()
        .map_err(|e| CommError::Tls(format!("client certificates cannot be verified: {e}")))?;
    Ok(made)
}

impl KnownClient {
    /// # Errors
    /// The roots are not usable.
    pub(crate) fn new(roots: Roots, required: bool) -> Result<Self, CommError> {
        let current = roots.current();
        let any = verifier(&current, required)?;
        Ok(Self {
            roots,
            required,
            made: Mutex::new((current, Arc::clone(&any))),
            any,
        })
    }

    fn current(&self) -> Result<Verifier, rustls::Error> {
        let roots = self.roots.current();
        // The pair is replaced in one step, so a panic elsewhere leaves it whole.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&made.0, &roots) {
            let new = verifier(&roots, self.required).map_err(|e| rustls::Error::General(e.to_string()))?;
            *made = (roots, new);
        }
        Ok(Arc::clone(&made.1))
    }
}

impl ClientCertVerifier for KnownClient {
    // Names of roots would only be hints, and clients here have one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.current()?.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any.supported_verify_schemes()
    }
}
