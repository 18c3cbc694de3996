//! The endpoint: paths, answers and the listener.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use selvedge_comm::{CommError, PeerTls, ServerTls, bind, serve_http};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::config::OperationsConfig;
use crate::health::Health;
use crate::log_spec::{LogControl, LogControlError};
use crate::metrics::Metrics;

/// Largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// Set by the build where it knows.
const COMMIT: Option<&str> = option_env!("SELVEDGE_COMMIT");

/// Why the endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the operations endpoint cannot listen on {address}: {source}")]
pub struct OperationsError {
    /// The address of the configuration.
    pub address: String,
    /// The reason.
    pub source: CommError,
}

/// What one node tells of itself. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    /// Its metrics.
    pub metrics: Metrics,
    /// Its health.
    pub health: Health,
}

/// An open listener that does not answer yet, so that an address that is taken is found before anything else starts.
#[derive(Debug)]
pub struct OperationsListener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<ServerTls>,
    known_only: bool,
    log: LogControl,
}

impl OperationsListener {
    /// Opens the listener.
    ///
    /// # Errors
    /// The address is not usable, or a TLS file cannot be read.
    pub async fn open(config: &OperationsConfig) -> Result<Self, OperationsError> {
        let failed = |source| OperationsError {
            address: config.listen.clone(),
            source,
        };
        let tls = config.server_tls().map_err(failed)?;
        let listener = bind(&config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(|source| {
            failed(CommError::Bind {
                address: config.listen.clone(),
                source,
            })
        })?;
        Ok(Self {
            listener,
            address,
            tls,
            known_only: config.knows_callers(),
            log: config.log.clone(),
        })
    }

    /// The address, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` resolves.
    ///
    /// # Errors
    /// The TLS settings are not usable.
    pub async fn serve(
        self,
        operations: Operations,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), CommError> {
        let router = operations.router(self.log, self.known_only);
        serve_http(self.listener, self.tls, router, shutdown).await
    }
}

#[derive(Debug, Deserialize)]
struct SpecBody {
    spec: String,
}

fn refusal(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

async fn healthz(State(operations): State<Arc<Operations>>) -> Response {
    let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let health = operations.health.clone();
    // Checks may look at files.
    let failed = match tokio::task::spawn_blocking(move || health.failed()).await {
        Ok(failed) => failed,
        Err(why) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    };
    if failed.is_empty() {
        return Json(json!({ "status": "OK", "time": time })).into_response();
    }
    let body = json!({ "status": "Service Unavailable", "time": time, "failed_checks": failed });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn metrics(State(operations): State<Arc<Operations>>) -> Response {
    let metrics = operations.metrics.clone();
    match tokio::task::spawn_blocking(move || metrics.text()).await {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::content_type())], text).into_response(),
        Err(why) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    }
}

async fn version() -> Response {
    Json(json!({ "Version": env!("CARGO_PKG_VERSION"), "CommitSHA": COMMIT.unwrap_or("development build") }))
        .into_response()
}

async fn log_spec(State(log): State<LogControl>) -> Response {
    Json(json!({ "spec": log.current().to_string() })).into_response()
}

async fn set_log_spec(State(log): State<LogControl>, body: Bytes) -> Response {
    let spec = match serde_json::from_slice::<SpecBody>(&body) {
        Ok(body) => body.spec,
        Err(why) => {
            let why = format!("the body is not {{\"spec\":\"info:module=debug\"}}: {why}");
            return refusal(StatusCode::BAD_REQUEST, &why);
        }
    };
    match log.set(&spec) {
        Ok(spec) => {
            tracing::warn!(%spec, "log specification changed");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(why @ LogControlError::Spec(_)) => refusal(StatusCode::BAD_REQUEST, &why.to_string()),
        Err(why @ LogControlError::Fixed) => refusal(StatusCode::NOT_IMPLEMENTED, &why.to_string()),
        Err(why @ LogControlError::Failed(_)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    }
}

/// Lets in callers whose certificate the handshake has verified.
async fn known_only(caller: Option<Extension<PeerTls>>, request: Request, next: Next) -> Response {
    match caller {
        Some(Extension(tls)) if tls.leaf().is_some() => next.run(request).await,
        _ => refusal(
            StatusCode::UNAUTHORIZED,
            "show a client certificate that chains to operations.tls.client_roots",
        ),
    }
}

/// `/healthz`, `/metrics` and `/version`, which change nothing, for a listener that serves other things as well.
pub fn observing_router(operations: Operations) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(operations))
        .route("/version", get(version))
}

impl Operations {
    /// Everything that Fabric's endpoint answers.
    fn router(self, log: LogControl, only_known: bool) -> Router {
        let operations = Arc::new(self);
        let mut guarded = Router::new()
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(&operations))
            .merge(
                Router::new()
                    .route("/logspec", get(log_spec).put(set_log_spec))
                    .with_state(log),
            );
        if only_known {
            guarded = guarded.layer(middleware::from_fn(known_only));
        }
        Router::new()
            .route("/healthz", get(healthz))
            .with_state(operations)
            .route("/version", get(version))
            .merge(guarded)
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
    }
}

#[cfg(test)]
mod tests;
