//! The REST interface for the devices behind the gateway.
//!
//! | call | does |
//! |---|---|
//! | `POST /v1/transactions` | takes one request, or a list of them; 202 when durable |
//! | `GET /v1/transactions/{id}` | where it stands |
//! | `GET /v1/status` | what the buffer holds, and how the uplink does |
//! | `GET /` | the same as a page for people |
//!
//! `/healthz`, `/metrics` and `/version` of the operations endpoint are served beside them.
//!
//! A request is `{"channel","chaincode","function","args":[...],"source"?,"idempotencyKey"?,"ordered"?,"retryConflicts"?}`;
//! arguments are strings, or JSON that is passed on as text. For a single request the key may also come in the header
//! `Idempotency-Key`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::buffer::{Buffer, BufferError, TransactionRequest};
use crate::page::page;
use crate::status::SelfKnowledge;
use crate::uplink::Uplink;

/// Largest body in bytes.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// Requests in one list at most.
const MAX_BATCH: usize = 1000;
/// What a refused caller is told to wait, in seconds.
const RETRY_AFTER_SECONDS: &str = "5";

/// What the handlers work on.
pub(crate) struct Api {
    pub(crate) about: SelfKnowledge,
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) uplink: Arc<Uplink>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestBody {
    channel: String,
    chaincode: String,
    function: String,
    #[serde(default)]
    args: Vec<Value>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    idempotency_key: String,
    #[serde(default)]
    ordered: bool,
    #[serde(default = "yes")]
    retry_conflicts: bool,
}

fn yes() -> bool {
    true
}

impl RequestBody {
    fn check(self) -> Result<TransactionRequest, String> {
        for (name, value) in [
            ("channel", &self.channel),
            ("chaincode", &self.chaincode),
            ("function", &self.function),
        ] {
            if value.is_empty() {
                return Err(format!("'{name}' is empty"));
            }
        }
        let args = self
            .args
            .into_iter()
            .map(|arg| match arg {
                Value::String(text) => text.into(),
                other => other.to_string().into(),
            })
            .collect();
        Ok(TransactionRequest {
            channel: self.channel,
            chaincode: self.chaincode,
            function: self.function,
            args,
            idempotency_key: self.idempotency_key,
            source: self.source,
            ordered: self.ordered,
            retry_conflicts: self.retry_conflicts,
        })
    }
}

fn refusal(status: StatusCode, message: impl Into<String>) -> Response {
    let message: String = message.into();
    (status, Json(json!({ "error": message }))).into_response()
}

fn buffer_refusal(error: &BufferError) -> Response {
    let status = match error {
        BufferError::Full(_) => StatusCode::TOO_MANY_REQUESTS,
        BufferError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BufferError::Write(_) | BufferError::Io { .. } => StatusCode::INSUFFICIENT_STORAGE,
        BufferError::Random(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = refusal(status, error.to_string());
    if status != StatusCode::PAYLOAD_TOO_LARGE {
        response.headers_mut().insert(
            header::RETRY_AFTER,
            header::HeaderValue::from_static(RETRY_AFTER_SECONDS),
        );
    }
    response
}

/// Either one request or a list of them.
fn parse(body: &[u8], headers: &HeaderMap) -> Result<(Vec<TransactionRequest>, bool), String> {
    let wrong = |e: serde_json::Error| format!("the body is not a transaction request: {e}");
    let is_list = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    if is_list {
        let list: Vec<RequestBody> = serde_json::from_slice(body).map_err(wrong)?;
        if list.is_empty() || list.len() > MAX_BATCH {
            return Err(format!(
                "a list holds 1 to {MAX_BATCH} requests; this one has {}",
                list.len()
            ));
        }
        let checked = list
            .into_iter()
            .enumerate()
            .map(|(index, r)| r.check().map_err(|e| format!("request {index}: {e}")))
            .collect::<Result<_, _>>()?;
        return Ok((checked, true));
    }
    let mut request: RequestBody = serde_json::from_slice(body).map_err(wrong)?;
    if let Some(key) = headers.get("idempotency-key") {
        key.to_str()
            .map_err(|_| "the Idempotency-Key header is not readable text".to_owned())?
            .clone_into(&mut request.idempotency_key);
    }
    Ok((vec![request.check()?], false))
}

async fn accept(Shared(api): Shared<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    let (requests, is_list) = match parse(&body, &headers) {
        Ok(parsed) => parsed,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, why),
    };
    let identity = api.uplink.current_identity();
    // All at once, so that they share the fsync.
    let accepting = requests
        .into_iter()
        .map(|request| api.buffer.accept(request, identity));
    let results = futures::future::join_all(accepting).await;
    if !is_list {
        return match results.into_iter().next() {
            Some(Ok(id)) => (StatusCode::ACCEPTED, Json(json!(api.buffer.view(id)))).into_response(),
            Some(Err(error)) => buffer_refusal(&error),
            None => refusal(StatusCode::BAD_REQUEST, "the body is empty"),
        };
    }
    let refused = results.iter().find_map(|r| r.as_ref().err());
    if let (Some(error), true) = (refused, results.iter().all(Result::is_err)) {
        return buffer_refusal(error);
    }
    let status = if refused.is_some() {
        StatusCode::MULTI_STATUS
    } else {
        StatusCode::ACCEPTED
    };
    let answers: Vec<Value> = results
        .iter()
        .map(|result| match result {
            Ok(id) => json!({ "id": id }),
            Err(error) => json!({ "error": error.to_string() }),
        })
        .collect();
    (status, Json(json!({ "transactions": answers }))).into_response()
}

async fn show(Shared(api): Shared<Arc<Api>>, Path(id): Path<u64>) -> Response {
    match api.buffer.view(id) {
        Some(view) => Json(json!(view)).into_response(),
        None => refusal(
            StatusCode::NOT_FOUND,
            format!("this gateway has no request {id}, or it ended so long ago that it is forgotten"),
        ),
    }
}

async fn status(Shared(api): Shared<Arc<Api>>) -> Response {
    Json(api.about.status(&api.buffer, &api.uplink)).into_response()
}

/// The routes.
pub(crate) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/transactions", post(accept))
        .route("/v1/transactions/{id}", get(show))
        .route("/v1/status", get(status))
        .route("/", get(page))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(api)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<(Vec<TransactionRequest>, bool), String> {
        parse(body.as_bytes(), &HeaderMap::new())
    }

    #[test]
    fn arguments_are_text_or_json() {
        let body = r#"{"channel":"c","chaincode":"s","function":"f","args":["a",{"b":1}]}"#;
        let (requests, is_list) = parsed(body).unwrap();
        assert!(!is_list);
        assert_eq!(requests[0].args, ["a".as_bytes(), br#"{"b":1}"#]);
        assert!(requests[0].retry_conflicts);
    }

    #[test]
    fn lists_are_bounded_and_mistakes_named() {
        assert!(parsed("[]").unwrap_err().contains("1 to 1000"));
        let one = r#"{"channel":"","chaincode":"s","function":"f"}"#;
        assert!(
            parsed(&format!("[{one}]"))
                .unwrap_err()
                .contains("request 0: 'channel' is empty")
        );
        assert!(parsed(r#"{"chaincode":"s"}"#).unwrap_err().contains("channel"));
        let unknown = r#"{"channel":"c","chaincode":"s","function":"f","argz":[]}"#;
        assert!(parsed(unknown).unwrap_err().contains("argz"));
    }

    #[test]
    fn the_header_names_a_single_request() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "k1".parse().unwrap());
        let body = br#"{"channel":"c","chaincode":"s","function":"f"}"#;
        assert_eq!(parse(body, &headers).unwrap().0[0].idempotency_key, "k1");
    }
}
