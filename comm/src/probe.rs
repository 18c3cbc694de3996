//! What certificate a server shows, trusted or not: for those who look after a network.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use crate::CommError;
use crate::grpc::{causes, dial, split_address};
use crate::tls::provider;

/// Dials `address` (`host:port`) and gives the certificates that the server shows, leaf first, in DER. Nothing is trusted and
/// nothing is sent: the connection is closed after the handshake.
///
/// # Errors
/// The address is not one, nobody answers, or the server speaks no TLS.
pub async fn served_certificates(address: &str) -> Result<Vec<Vec<u8>>, CommError> {
    let (host, port) = split_address(address)?;
    let seen = Arc::new(Seen {
        provider: provider(),
        chain: Mutex::default(),
    });
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| CommError::Tls(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.to_owned()).map_err(|e| CommError::Address {
        address: address.to_owned(),
        why: e.to_string(),
    })?;
    let dialled = dial(host, port, Some((TlsConnector::from(Arc::new(config)), name))).await;
    let chain = seen.chain.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match dialled {
        // A server that demands a client certificate breaks off after it has shown its own.
        Err(error) if chain.is_empty() => Err(CommError::Connect {
            address: address.to_owned(),
            why: causes(&error),
        }),
        _ => Ok(chain),
    }
}

/// Notes the certificates and takes any.
#[derive(Debug)]
struct Seen {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<Vec<u8>>>,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain.map(|c| c.to_vec()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
