//! TLS settings, from PEM to rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::CommError;

/// A certificate chain with its private key, as PEM.
#[derive(Clone)]
pub struct TlsIdentity {
    certificate_pem: Arc<[u8]>,
    key_pem: Arc<[u8]>,
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
            certificate_pem: certificate_pem.into(),
            key_pem: key_pem.into(),
        }
    }

    /// Reads both from files.
    ///
    /// # Errors
    /// A file cannot be read; its content is checked when a server or channel is made.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, CommError> {
        Ok(Self::new(&read(certificate)?, &read(key)?))
    }

    /// The leaf certificate in DER, which others hash for TLS binding (spec 02 §12).
    ///
    /// # Errors
    /// The PEM holds no certificate.
    pub fn leaf_der(&self) -> Result<Vec<u8>, CommError> {
        let chain = certificates("TLS certificate", &self.certificate_pem)?;
        chain.first().map(|c| c.to_vec()).ok_or_else(|| CommError::Pem {
            what: "TLS certificate".into(),
            why: "no certificate in it".into(),
        })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CommError> {
        certificates("TLS certificate", &self.certificate_pem)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, CommError> {
        PrivateKeyDer::from_pem_slice(&self.key_pem).map_err(|e| CommError::Pem {
            what: "TLS private key".into(),
            why: e.to_string(),
        })
    }
}

/// What a server asks of its callers' certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Ask for one, and take any or none: Fabric's non-mutual mode (spec 01 A.3). Handlers that need a certain
    /// caller compare [`crate::PeerTls`] themselves.
    Request,
    /// Ask for one, and take none or one that chains to the client roots.
    Verify,
    /// Demand one that chains to the client roots.
    Require,
}

/// TLS of a server.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// The server's own certificate and key.
    pub identity: TlsIdentity,
    /// PEM roots for client certificates; each entry may hold several.
    pub client_roots: Vec<Vec<u8>>,
    /// Whether client certificates are demanded.
    pub client_auth: ClientAuth,
}

/// TLS of a client.
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    /// PEM roots that the server's certificate must chain to; each entry may hold several.
    pub roots: Vec<Vec<u8>>,
    /// Name expected in the server's certificate where it differs from the host that is dialled.
    pub server_name: Option<String>,
    /// Certificate to present.
    pub identity: Option<TlsIdentity>,
    /// Refuse TLS 1.2; set between nodes.
    pub only_tls13: bool,
}

fn read(path: &Path) -> Result<Vec<u8>, CommError> {
    std::fs::read(path).map_err(|source| CommError::ReadFile {
        path: path.to_owned(),
        source,
    })
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CommError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| CommError::Pem {
            what: what.to_owned(),
            why: e.to_string(),
        })
}

fn root_store(roots: &[Vec<u8>]) -> Result<RootCertStore, CommError> {
    let mut store = RootCertStore::empty();
    for pem in roots {
        for certificate in certificates("TLS root certificate", pem)? {
            store
                .add(certificate)
                .map_err(|e| CommError::Tls(format!("a root certificate is refused: {e}")))?;
        }
    }
    Ok(store)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn tls_error(error: impl std::fmt::Display) -> CommError {
    CommError::Tls(error.to_string())
}

impl ServerTls {
    pub(crate) fn rustls(&self, alpn: &[&[u8]]) -> Result<rustls::ServerConfig, CommError> {
        let provider = provider();
        let verifier: Arc<dyn ClientCertVerifier> = match self.client_auth {
            ClientAuth::Request => Arc::new(AnyClient(Arc::clone(&provider))),
            ClientAuth::Verify | ClientAuth::Require => {
                let roots = Arc::new(root_store(&self.client_roots)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let verifier = match self.client_auth {
                    ClientAuth::Verify => verifier.allow_unauthenticated(),
                    ClientAuth::Request | ClientAuth::Require => verifier,
                };
                verifier
                    .build()
                    .map_err(|e| CommError::Tls(format!("client certificates cannot be verified: {e}")))?
            }
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls_error)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.identity.chain()?, self.identity.key()?)
            .map_err(tls_error)?;
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Ok(config)
    }
}

impl ClientTls {
    /// The settings as rustls takes them, for protocols that do not pass through this crate. `alpn` may be empty.
    ///
    /// # Errors
    /// A certificate or key is not usable.
    pub fn rustls(&self, alpn: &[&[u8]]) -> Result<rustls::ClientConfig, CommError> {
        let builder = rustls::ClientConfig::builder_with_provider(provider());
        let builder = if self.only_tls13 {
            builder.with_protocol_versions(&[&rustls::version::TLS13])
        } else {
            builder.with_safe_default_protocol_versions()
        };
        let builder = builder
            .map_err(tls_error)?
            .with_root_certificates(root_store(&self.roots)?);
        let mut config = match &self.identity {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain()?, identity.key()?)
                .map_err(tls_error)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Ok(config)
    }
}

/// Takes whatever certificate a client volunteers. The handshake still proves that the client holds its key, so
/// comparing the certificate afterwards is safe.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
