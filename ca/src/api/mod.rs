//! The REST interface: routes, bodies and the answer's envelope (spec 06 §1).

mod body;
mod handlers;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, OriginalUri, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use serde_json::{Value, json};

use crate::authority::Authority;
use crate::error::Refusal;

/// Largest request body in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The authorities of a server; the first is the default.
pub(crate) struct Authorities(pub(crate) Vec<Arc<Authority>>);

impl Authorities {
    /// An authority by name; npm's client sends `undefined` where it was given none.
    fn find(&self, name: &str) -> Result<Arc<Authority>, Refusal> {
        let found = match name {
            "" | "undefined" => self.0.first(),
            name => self.0.iter().find(|a| a.name == name),
        };
        found
            .cloned()
            .ok_or_else(|| Refusal::new(404, 19, format!("CA '{name}' does not exist")))
    }
}

/// A request as the handlers see it.
struct Call {
    authorities: Arc<Authorities>,
    method: Method,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    /// What the token signs: path and query as on the request line.
    fn request_uri(&self) -> &str {
        self.uri.path_and_query().map_or("/", |p| p.as_str())
    }
}

/// A successful answer.
struct Answer {
    status: StatusCode,
    result: Value,
    location: Option<String>,
}

type Handler = fn(&Call) -> Result<Answer, Refusal>;

fn envelope(status: StatusCode, success: bool, result: &Value, errors: &Value) -> Response {
    let body = json!({ "success": success, "result": result, "errors": errors, "messages": [] });
    (status, axum::Json(body)).into_response()
}

fn refused(refusal: &Refusal, call: &str) -> Response {
    tracing::warn!(%call, %refusal, "request refused");
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    envelope(
        status,
        false,
        &Value::String(String::new()),
        &json!([{ "code": refusal.code, "message": refusal.message }]),
    )
}

async fn answer(call: Call, handler: Handler) -> Response {
    let name = format!("{} {}", call.method, call.uri.path());
    // Hashing secrets and the database would hold up the reactor.
    let done = tokio::task::spawn_blocking(move || handler(&call)).await;
    match done {
        Ok(Ok(answer)) => {
            let mut response = envelope(answer.status, true, &answer.result, &json!([]));
            if let Some(location) = answer.location.and_then(|l| l.parse().ok()) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Ok(Err(refusal)) => refused(&refusal, &name),
        Err(error) => refused(&Refusal::internal(0, error), &name),
    }
}

fn route(methods: &'static [Method], handler: Handler) -> MethodRouter<Arc<Authorities>> {
    any(
        move |State(authorities): State<Arc<Authorities>>,
              OriginalUri(uri): OriginalUri,
              method: Method,
              headers: HeaderMap,
              body: Bytes| async move {
            if method == Method::HEAD && methods.contains(&Method::GET) {
                return StatusCode::OK.into_response();
            }
            if !methods.contains(&method) {
                let text = format!("Method {method} is not allowed for this path");
                return refused(&Refusal::new(405, 1, text), uri.path());
            }
            answer(
                Call {
                    authorities,
                    method,
                    uri,
                    headers,
                    body,
                },
                handler,
            )
            .await
        },
    )
}

const READ: &[Method] = &[Method::GET, Method::POST];
const WRITE: &[Method] = &[Method::POST];

/// Every endpoint, at `/api/v1/<name>` and `/<name>`.
pub(crate) fn router(authorities: Arc<Authorities>) -> Router {
    let endpoints = Router::new()
        .route("/cainfo", route(READ, handlers::ca_info))
        .route("/enroll", route(WRITE, handlers::enroll))
        .route("/reenroll", route(WRITE, handlers::reenroll))
        .route("/register", route(WRITE, handlers::register));
    Router::new()
        .nest("/api/v1", endpoints.clone())
        .merge(endpoints)
        .fallback(|OriginalUri(uri): OriginalUri| async move {
            refused(
                &Refusal::new(404, 0, format!("there is nothing at {}", uri.path())),
                uri.path(),
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(authorities)
}

#[cfg(test)]
mod tests;
