//! TLS settings, from PEM to rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::CommError;
use crate::tls_identity::{Presented, TlsIdentity};
use crate::tls_roots::{KnownClient, Roots};

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
    /// Roots for client certificates.
    pub client_roots: Roots,
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

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CommError> {
    std::fs::read(path).map_err(|source| CommError::ReadFile {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CommError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| CommError::Pem {
            what: what.to_owned(),
            why: e.to_string(),
        })
}

pub(crate) fn root_store(roots: &[Vec<u8>]) -> Result<RootCertStore, CommError> {
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

pub(crate) fn provider() -> Arc<CryptoProvider> {
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
                let required = self.client_auth == ClientAuth::Require;
                Arc::new(KnownClient::new(self.client_roots.clone(), required)?)
            }
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls_error)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Presented::new(&self.identity)?));
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
            Some(identity) => builder.with_client_cert_resolver(Arc::new(Presented::new(identity)?)),
            None => builder.with_no_client_auth(),
        };
        // A resumed session goes on with the certificates of an earlier one, also with those that were renewed since.
        config.resumption = Resumption::disabled();
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
