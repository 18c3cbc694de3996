//! Connections: TLS settings, gRPC servers and channels, HTTPS servers and clients.
//!
//! Every role serves and dials through this crate, so that message limits, keepalive and TLS versions are the same
//! everywhere (spec 01 A.3).
//!
//! ```text
//! ServerTls ─► serve_grpc / serve_http ─► handlers see PeerTls (the caller's certificate) in the request extensions
//! ClientTls ─► Endpoint::connect ─► tonic Channel        ClientTls ─► HttpClient::request ─► bounded answer
//! ```

mod broadcast;
mod calls;
mod error;
mod grpc;
mod http_client;
mod probe;
mod serve;
mod tls;
mod tls_identity;
mod tls_roots;

pub use broadcast::{BroadcastError, Broadcaster};
pub use calls::{Calls, NoAnswer, StreamedCall, request_within};
pub use error::CommError;
pub use grpc::Endpoint;
pub use http_client::{HttpAnswer, HttpClient};
pub use hyper::{Method, StatusCode};
pub use probe::served_certificates;
pub use serve::{
    Connection, Connections, PeerTls, RemoteAddress, bind, client_certificate, serve_grpc, serve_http,
};
pub use tls::{ClientAuth, ClientTls, ServerTls};
pub use tls_identity::TlsIdentity;
pub use tls_roots::Roots;

/// Largest gRPC message sent or received, in bytes (spec 01 A.3: 100 MiB both ways).
pub const MAX_MESSAGE_BYTES: usize = 100 * 1024 * 1024;
