//! A small HTTPS client for the CA, channel participation and web hooks: one connection a call, bounded answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use tokio_rustls::TlsConnector;

use crate::grpc::{causes, dial, server_name};
use crate::{ClientTls, CommError};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer taken, in bytes: a block of 100 MiB in JSON does not come this way.
const MAX_ANSWER_BYTES: usize = 100 * 1024 * 1024;

/// An HTTP client with fixed TLS settings.
#[derive(Debug, Clone, Default)]
pub struct HttpClient {
    tls: ClientTls,
    timeout: Option<Duration>,
    answer_limit: Option<usize>,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl HttpClient {
    /// A client that trusts `tls.roots` for https URLs; http URLs need no TLS settings.
    pub fn new(tls: ClientTls) -> Self {
        Self {
            tls,
            timeout: None,
            answer_limit: None,
        }
    }

    /// Gives up a call after this time instead of 30 s.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Takes answers of at most this many bytes instead of 100 MiB; for servers that are not ours.
    #[must_use]
    pub fn with_answer_limit(mut self, bytes: usize) -> Self {
        self.answer_limit = Some(bytes);
        self
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// The URL is not one, the server cannot be reached or trusted, or the answer is too long or late. An HTTP error
    /// status is not an error here.
    pub async fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<HttpAnswer, CommError> {
        let fail = |why: String| CommError::Http {
            method: method.to_string(),
            url: url.to_owned(),
            why,
        };
        let call = self.call(&method, url, headers, body.into());
        tokio::time::timeout(self.timeout.unwrap_or(DEFAULT_TIMEOUT), call)
            .await
            .map_err(|_| fail("no answer in time".to_owned()))?
    }

    async fn call(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<HttpAnswer, CommError> {
        let fail = |why: String| CommError::Http {
            method: method.to_string(),
            url: url.to_owned(),
            why,
        };
        let uri: Uri = url.parse().map_err(|e| CommError::Address {
            address: url.to_owned(),
            why: format!("not an URL: {e}"),
        })?;
        let no_host = || CommError::Address {
            address: url.to_owned(),
            why: "the URL names no host".to_owned(),
        };
        let host = uri
            .host()
            .ok_or_else(no_host)?
            .trim_start_matches('[')
            .trim_end_matches(']');
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => {
                let why = "an URL begins with http:// or https://".to_owned();
                return Err(CommError::Address {
                    address: url.to_owned(),
                    why,
                });
            }
        };
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let connector = if https {
            Some((
                TlsConnector::from(Arc::new(self.tls.rustls(&[b"http/1.1"])?)),
                server_name(host, &self.tls)?,
            ))
        } else {
            None
        };
        let socket = dial(host, port, connector)
            .await
            .map_err(|e| CommError::Connect {
                address: format!("{host}:{port}"),
                why: causes(&e),
            })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(socket)
            .await
            .map_err(|e| fail(causes(&e)))?;
        let driver = tokio::spawn(connection);

        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(HOST, uri.authority().map_or(host, |a| a.as_str()))
            .body(Full::new(body))
            .map_err(|e| fail(e.to_string()))?;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| fail(e.to_string()))?;
            let value = HeaderValue::from_str(value).map_err(|e| fail(e.to_string()))?;
            request.headers_mut().insert(name, value);
        }
        let response = sender.send_request(request).await.map_err(|e| fail(causes(&e)))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, self.answer_limit.unwrap_or(MAX_ANSWER_BYTES))
            .collect()
            .await
            .map_err(|e| fail(e.to_string()))?
            .to_bytes();
        driver.abort();
        Ok(HttpAnswer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}
