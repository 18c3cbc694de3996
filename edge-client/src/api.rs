//! The REST interface for the devices behind the gateway.
//!
//! | call | does |
//! |---|---|
//! | `POST /v1/transactions` | takes one request, or a list of them; 202 when durable |
//! | `POST /v1/readings` | takes one reading, or a list of them; 202 when durable (see [`crate::rest`]) |
//! | `GET /v1/transactions/{id}` | where it stands |
//! | `GET /v1/status` | what the buffer holds, and how the uplink does |
//! | `GET /` | the same as a page for people |
//! | `GET /v1/openapi.json` | this interface, for programs |
//! | `/v1/events`, `/v1/subscriptions` | contract events (see `selvedge_callbacks`) |
//!
//! `/healthz`, `/metrics` and `/version` of the operations endpoint are served beside them.
//!
//! A request is `{"channel","chaincode","function","args":[...],"source"?,"idempotencyKey"?,"ordered"?,"retryConflicts"?,
//! "priority"?,"maxAgeSeconds"?}`;
//! arguments are strings, or JSON that is passed on as text. For a single request the key may also come in the header
//! `Idempotency-Key`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::buffer::{Buffer, Priority, TransactionRequest};
use crate::intake::Refusal;
use crate::intake::sources::Sender;
use crate::page::page;
use crate::rest::{self, Callers};
use crate::status::SelfKnowledge;
use crate::uplink::Uplink;

/// Largest body in bytes.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// Requests in one list at most.
pub(crate) const MAX_BATCH: usize = 1000;

/// What the handlers work on.
pub(crate) struct Api {
    pub(crate) about: SelfKnowledge,
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) uplink: Arc<Uplink>,
    pub(crate) callers: Callers,
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
    #[serde(default)]
    priority: Priority,
    #[serde(default)]
    max_age_seconds: Option<u64>,
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
            priority: self.priority,
            max_age: self.max_age_seconds.map(Duration::from_secs),
        })
    }
}

fn refusal(status: StatusCode, message: impl Into<String>) -> Response {
    let message: String = message.into();
    (status, Json(json!({ "error": message }))).into_response()
}

/// Reads one transaction request or a list of them.
pub(crate) fn transaction_requests(body: &[u8]) -> Result<(Vec<TransactionRequest>, bool), String> {
    parse(body, &HeaderMap::new())
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

async fn accept(
    Shared(api): Shared<Arc<Api>>,
    Extension(sender): Extension<Sender>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (requests, is_list) = match parse(&body, &headers) {
        Ok(parsed) => parsed,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, why),
    };
    let results = match api.callers.intake.transactions(&sender, requests).await {
        Ok(results) => results,
        Err(refusal) => return refusal.into_response(),
    };
    if !is_list {
        return match results.into_iter().next() {
            Some(Ok(id)) => (StatusCode::ACCEPTED, Json(json!(api.buffer.view(id)))).into_response(),
            Some(Err(refusal)) => refusal.into_response(),
            None => refusal(StatusCode::BAD_REQUEST, "the body is empty"),
        };
    }
    let refused: Option<&Refusal> = results.iter().find_map(|r| r.as_ref().err());
    if let (Some(refusal), true) = (refused, results.iter().all(Result::is_err)) {
        return refusal.clone().into_response();
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
            Err(refusal) => json!({ "error": refusal.to_string() }),
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

/// The routes; `events` are those of the call-backs. Whoever hands over or listens is asked who it is; the gateway's state
/// is open to all who reach it, as its health is.
pub(crate) fn router(api: Arc<Api>, events: Router) -> Router {
    let admitted = axum::middleware::from_fn_with_state(Arc::clone(&api), rest::admit);
    let devices = Router::new()
        .route("/v1/readings", post(rest::readings))
        .route("/v1/transactions", post(accept))
        .route("/v1/transactions/{id}", get(show))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::clone(&api))
        .merge(events)
        .layer(admitted);
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/openapi.json", get(rest::openapi))
        .route("/", get(page))
        .with_state(api)
        .merge(devices)
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
