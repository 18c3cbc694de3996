//! Dialling gRPC servers.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Uri};

use crate::{ClientTls, CommError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Fabric's clients ping every 60 s and wait 20 s (spec 01 A.3).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const HTTP2_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// A gRPC server to dial.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// TLS settings; none means plain text.
    pub tls: Option<ClientTls>,
}

pub(crate) fn split_address(address: &str) -> Result<(&str, u16), CommError> {
    let refuse = |why: &str| CommError::Address {
        address: address.to_owned(),
        why: why.to_owned(),
    };
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| refuse("expected host:port"))?;
    let port = port
        .parse()
        .map_err(|_| refuse("the port is not a number from 1 to 65535"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(refuse("the host is empty"));
    }
    Ok((host, port))
}

pub(crate) fn server_name(host: &str, tls: &ClientTls) -> Result<ServerName<'static>, CommError> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|_| CommError::Address {
        address: name.to_owned(),
        why: "not a host name or IP address".to_owned(),
    })
}

impl Endpoint {
    /// An endpoint without TLS.
    pub fn plain(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: None,
        }
    }

    /// An endpoint with TLS.
    pub fn tls(address: impl Into<String>, tls: ClientTls) -> Self {
        Self {
            address: address.into(),
            tls: Some(tls),
        }
    }

    fn prepare(&self) -> Result<(tonic::transport::Endpoint, Dialler), CommError> {
        let (host, port) = split_address(&self.address)?;
        let refuse = |why: String| CommError::Address {
            address: self.address.clone(),
            why,
        };
        let connector = match &self.tls {
            None => None,
            Some(tls) => Some((
                TlsConnector::from(Arc::new(tls.rustls(&[b"h2"])?)),
                server_name(host, tls)?,
            )),
        };
        let uri: Uri = format!("http://{}", self.address)
            .parse()
            .map_err(|e| refuse(format!("{e}")))?;
        let mut endpoint = tonic::transport::Endpoint::from(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(HTTP2_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_WINDOW_BYTES);
        if let Some(tls) = &self.tls {
            let authority = tls.server_name.as_deref().unwrap_or(&self.address);
            endpoint = endpoint.origin(
                format!("https://{authority}")
                    .parse()
                    .map_err(|e| refuse(format!("{e}")))?,
            );
        }
        Ok((
            endpoint,
            Dialler {
                host: host.to_owned(),
                port,
                connector,
            },
        ))
    }

    /// A channel that connects on first use and again after a loss.
    ///
    /// # Errors
    /// The address or the TLS settings are not usable.
    pub fn connect_lazy(&self) -> Result<Channel, CommError> {
        let (endpoint, dialler) = self.prepare()?;
        Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| dialler.clone().dial())))
    }

    /// A channel that is connected now.
    ///
    /// # Errors
    /// The address or TLS settings are not usable, or the server does not answer or is not trusted.
    pub async fn connect(&self) -> Result<Channel, CommError> {
        let (endpoint, dialler) = self.prepare()?;
        endpoint
            .connect_with_connector(tower::service_fn(move |_: Uri| dialler.clone().dial()))
            .await
            .map_err(|e| CommError::Connect {
                address: self.address.clone(),
                why: causes(&e),
            })
    }
}

/// An error with all its causes in one line; tonic's own text is only "transport error".
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

#[derive(Clone)]
struct Dialler {
    host: String,
    port: u16,
    connector: Option<(TlsConnector, ServerName<'static>)>,
}

/// Plain and TLS sockets under one type, as hyper wants it.
pub(crate) type Socket =
    TokioIo<tokio_util::either::Either<TcpStream, tokio_rustls::client::TlsStream<TcpStream>>>;

impl Dialler {
    async fn dial(self) -> std::io::Result<Socket> {
        dial(&self.host, self.port, self.connector).await
    }
}

pub(crate) async fn dial(
    host: &str,
    port: u16,
    connector: Option<(TlsConnector, ServerName<'static>)>,
) -> std::io::Result<Socket> {
    let connecting = async {
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        Ok::<_, std::io::Error>(match connector {
            None => tokio_util::either::Either::Left(socket),
            Some((connector, name)) => {
                let secured = connector.connect(name, socket).await.map_err(doubt_the_clock)?;
                tokio_util::either::Either::Right(secured)
            }
        })
    };
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection within 5 s"))??;
    Ok(TokioIo::new(stream))
}

/// A certificate that is not valid now may be the server's fault or that of the clock here: both times are said.
fn doubt_the_clock(error: std::io::Error) -> std::io::Error {
    use rustls::{CertificateError, Error};
    let refusal = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>())
        .cloned();
    let said = match refusal {
        Some(Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before })) => {
            format!(
                "the server's TLS certificate is valid from {} on, and the clock here says {}: if the clock is behind, set it \
             (`timedatectl set-ntp true`); if it is right, the server's authority has a wrong clock",
                rfc3339(not_before),
                rfc3339(time)
            )
        }
        Some(Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after })) => format!(
            "the server's TLS certificate ended at {}, and the clock here says {}: if the clock is ahead, set it \
             (`timedatectl set-ntp true`); if it is right, the server must renew its certificate",
            rfc3339(not_after),
            rfc3339(time)
        ),
        _ => return error,
    };
    std::io::Error::new(error.kind(), said)
}

fn rfc3339(time: rustls_pki_types::UnixTime) -> String {
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_secs(time.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_out_of_time_names_both_times() {
        use rustls::{CertificateError, Error};
        let at = |seconds| rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let said = |why: CertificateError| {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, Error::InvalidCertificate(why));
            doubt_the_clock(error).to_string()
        };
        let early = said(CertificateError::NotValidYetContext {
            time: at(0),
            not_before: at(86_400),
        });
        assert!(
            early.contains("from 1970-01-02T00:00:00Z on") && early.contains("says 1970-01-01T00:00:00Z")
        );
        let late = said(CertificateError::ExpiredContext {
            time: at(86_400),
            not_after: at(0),
        });
        assert!(late.contains("ended at 1970-01-01T00:00:00Z") && late.contains("says 1970-01-02T00:00:00Z"));
        assert_eq!(
            said(CertificateError::Revoked),
            Error::InvalidCertificate(CertificateError::Revoked).to_string()
        );
    }

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(
            split_address("peer0.org1.example.com:7051").unwrap(),
            ("peer0.org1.example.com", 7051)
        );
        assert_eq!(split_address("[::1]:7051").unwrap(), ("::1", 7051));
        for bad in ["localhost", ":7051", "localhost:", "localhost:70000"] {
            assert!(split_address(bad).is_err(), "{bad}");
        }
    }
}
