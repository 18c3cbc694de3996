//! Serving gRPC and HTTP with or without TLS on one listener each.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::{CommError, ServerTls};

/// A handshake that takes longer than this is dropped, so that silent callers do not hold sockets.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one listener at a time; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 10_000;
/// Time for a client to send its request headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections are pinged as Fabric's servers do (spec 01 A.3).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(7200);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const HTTP2_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The certificate that the caller showed in the TLS handshake, in the extensions of every request.
#[derive(Debug, Clone, Default)]
pub struct PeerTls(Option<Arc<[u8]>>);

impl PeerTls {
    /// A caller with this leaf certificate (DER), for those who serve requests that do not come from a socket.
    pub fn showing(leaf: &[u8]) -> Self {
        Self(Some(leaf.into()))
    }

    /// The leaf certificate in DER; none without TLS or when the caller showed none.
    pub fn leaf(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

/// Address of the caller, in the extensions of every HTTP request.
#[derive(Debug, Clone, Copy)]
pub struct RemoteAddress(pub SocketAddr);

/// The TLS leaf certificate (DER) of the caller of a gRPC method.
pub fn client_certificate<T>(request: &tonic::Request<T>) -> Option<Arc<[u8]>> {
    request
        .extensions()
        .get::<PeerTls>()
        .and_then(|tls| tls.0.clone())
}

/// Opens a listening socket; port 0 takes a free one.
///
/// # Errors
/// The address does not parse or is in use.
pub async fn bind(address: &str) -> Result<TcpListener, CommError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| CommError::Bind {
            address: address.to_owned(),
            source,
        })
}

fn local_address(listener: &TcpListener) -> String {
    listener
        .local_addr()
        .map_or_else(|_| "unknown address".to_owned(), |a| a.to_string())
}

/// A plain or TLS connection with what is known of the other side.
pub struct Connection {
    stream: Stream,
    tls: PeerTls,
    remote: SocketAddr,
    _slot: tokio::sync::OwnedSemaphorePermit,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The certificate that the caller showed, if any.
    pub fn peer_tls(&self) -> &PeerTls {
        &self.tls
    }

    /// The caller's address.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }
}

/// Accepted connections whose handshake succeeded, for servers of protocols that are neither gRPC nor HTTP.
#[derive(Debug)]
pub struct Connections(mpsc::Receiver<Connection>);

impl Connections {
    /// Accepts connections of a listener until this is dropped.
    ///
    /// # Errors
    /// The TLS settings are not usable.
    pub fn accept(listener: TcpListener, tls: Option<ServerTls>, alpn: &[&[u8]]) -> Result<Self, CommError> {
        let acceptor = tls
            .map(|t| t.rustls(alpn))
            .transpose()?
            .map(|c| TlsAcceptor::from(Arc::new(c)));
        let (ready, connections) = mpsc::channel(64);
        tokio::spawn(accept_loop(listener, acceptor, ready));
        Ok(Self(connections))
    }

    /// The next one.
    pub async fn next(&mut self) -> Option<Connection> {
        self.0.recv().await
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = PeerTls;

    fn connect_info(&self) -> PeerTls {
        self.tls.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_write(cx, data),
            Stream::Tls(s) => Pin::new(s.as_mut()).poll_write(cx, data),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
        }
    }
}

async fn handshake(
    socket: TcpStream,
    remote: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    slot: tokio::sync::OwnedSemaphorePermit,
) -> Result<Connection, String> {
    socket.set_nodelay(true).map_err(|e| e.to_string())?;
    let Some(acceptor) = acceptor else {
        return Ok(Connection {
            stream: Stream::Plain(socket),
            tls: PeerTls(None),
            remote,
            _slot: slot,
        });
    };
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket))
        .await
        .map_err(|_| "TLS handshake timed out".to_owned())?
        .map_err(|e| format!("TLS handshake failed: {e}"))?;
    let leaf = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|c| Arc::from(c.as_ref()));
    Ok(Connection {
        stream: Stream::Tls(Box::new(stream)),
        tls: PeerTls(leaf),
        remote,
        _slot: slot,
    })
}

/// Accepts connections and hands over those whose handshake succeeded; ends when the receiver is gone.
async fn accept_loop(listener: TcpListener, acceptor: Option<TlsAcceptor>, ready: mpsc::Sender<Connection>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let address = local_address(&listener);
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        match accepted {
            Ok((socket, remote)) => {
                let (acceptor, ready, address) = (acceptor.clone(), ready.clone(), address.clone());
                tokio::spawn(async move {
                    match handshake(socket, remote, acceptor, slot).await {
                        // A closed receiver means that the server is stopping.
                        Ok(connection) => drop(ready.send(connection).await),
                        Err(why) => tracing::debug!(listener = %address, %remote, %why, "connection refused"),
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: waiting lets connections end, spinning would not.
                tracing::warn!(listener = %address, %error, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves gRPC until `shutdown` resolves. Handlers find [`PeerTls`] in the request's extensions.
///
/// # Errors
/// The TLS settings are not usable, or the server fails.
pub async fn serve_grpc(
    listener: TcpListener,
    tls: Option<ServerTls>,
    routes: tonic::service::Routes,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), CommError> {
    let address = local_address(&listener);
    let acceptor = tls
        .map(|t| t.rustls(&[b"h2"]))
        .transpose()?
        .map(|c| TlsAcceptor::from(Arc::new(c)));
    let (ready, connections) = mpsc::channel(64);
    tokio::spawn(accept_loop(listener, acceptor, ready));
    let incoming = tokio_stream::StreamExt::map(ReceiverStream::new(connections), Ok::<_, std::io::Error>);
    tonic::transport::Server::builder()
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
        .map_err(|e| CommError::Serve {
            address,
            why: e.to_string(),
        })
}

/// Serves HTTP/1.1 until `shutdown` resolves. Handlers find [`PeerTls`] and [`RemoteAddress`] in the request's
/// extensions.
///
/// # Errors
/// The TLS settings are not usable.
pub async fn serve_http(
    listener: TcpListener,
    tls: Option<ServerTls>,
    router: axum::Router,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), CommError> {
    let acceptor = tls
        .map(|t| t.rustls(&[b"http/1.1"]))
        .transpose()?
        .map(|c| TlsAcceptor::from(Arc::new(c)));
    let (ready, mut connections) = mpsc::channel(64);
    tokio::spawn(accept_loop(listener, acceptor, ready));
    let stopping = tokio_util::sync::CancellationToken::new();
    tokio::pin!(shutdown);
    loop {
        let connection = tokio::select! {
            () = &mut shutdown => break,
            connection = connections.recv() => match connection { Some(c) => c, None => break },
        };
        let (router, stopping) = (router.clone(), stopping.clone());
        tokio::spawn(serve_http_connection(connection, router, stopping));
    }
    stopping.cancel();
    Ok(())
}

async fn serve_http_connection(
    connection: Connection,
    router: axum::Router,
    stopping: tokio_util::sync::CancellationToken,
) {
    let (tls, remote) = (connection.tls.clone(), connection.remote);
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(tls.clone());
        request.extensions_mut().insert(RemoteAddress(remote));
        tower::ServiceExt::oneshot(router.clone(), request)
    });
    // Finding out the version has no time limit of its own, so a client that says nothing would stay for ever.
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    tokio::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%remote, %error, "HTTP connection ended early");
    }
}
