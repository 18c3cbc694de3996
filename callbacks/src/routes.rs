//! Call-backs as REST.
//!
//! | call | does |
//! |---|---|
//! | `GET /v1/events?channel&chaincode&name?&from?` | server-sent events; `Last-Event-ID` goes on after an event |
//! | `POST /v1/subscriptions` | makes a web hook; the answer has the secret |
//! | `GET /v1/subscriptions`, `GET /v1/subscriptions/{id}` | where they stand |
//! | `DELETE /v1/subscriptions/{id}` | ends one |
//! | `POST /v1/subscriptions/{id}/resume` | lets one go on, from its place or after `{"after": "BLOCK.TRANSACTION"}` |

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::settings::{NewSubscription, StartAt};
use crate::{CallbackError, EventFilter, EventId, Hub, NamePattern};

const MAX_BODY_BYTES: usize = 64 * 1024;
/// What a caller is told to wait when something is busy or away, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Whose subscriptions a request is about. A middleware that knows its callers puts it into the request's extensions;
/// without it the owner is the empty text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner(pub String);

impl IntoResponse for CallbackError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Exists(_) => StatusCode::CONFLICT,
            Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::File { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Self::Comm(_) | Self::Random => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = (status, Json(json!({ "error": self.to_string() }))).into_response();
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::INSUFFICIENT_STORAGE
        ) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

type Owned = Option<Extension<Owner>>;

fn name_of(owner: Owned) -> String {
    owner.map(|Extension(Owner(name))| name).unwrap_or_default()
}

fn body_of<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, CallbackError> {
    serde_json::from_slice(body).map_err(|e| CallbackError::Invalid(format!("the body is not right: {e}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    channel: String,
    chaincode: String,
    #[serde(default)]
    name: NamePattern,
    #[serde(default)]
    from: String,
}

async fn events(
    State(hub): State<Arc<Hub>>,
    owner: Owned,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, CallbackError> {
    let Query(query) = query.map_err(|e| CallbackError::Invalid(e.body_text()))?;
    let start: StartAt = match headers.get("last-event-id").map(HeaderValue::to_str) {
        Some(Ok(id)) if !id.is_empty() => StartAt::Place(id.parse()?),
        Some(Err(_)) => {
            return Err(CallbackError::Invalid(
                "Last-Event-ID is not readable text".to_owned(),
            ));
        }
        _ => query.from.parse()?,
    };
    let filter = EventFilter {
        channel: query.channel,
        chaincode: query.chaincode,
        name: query.name,
    };
    hub.stream(&name_of(owner), filter, &start).await
}

async fn create(State(hub): State<Arc<Hub>>, owner: Owned, body: Bytes) -> Result<Response, CallbackError> {
    let new: NewSubscription = body_of(&body)?;
    let created = hub.create(&name_of(owner), new).await?;
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

async fn list(State(hub): State<Arc<Hub>>, owner: Owned) -> Response {
    Json(json!({ "subscriptions": hub.list(&name_of(owner)) })).into_response()
}

async fn show(
    State(hub): State<Arc<Hub>>,
    owner: Owned,
    Path(id): Path<String>,
) -> Result<Response, CallbackError> {
    Ok(Json(hub.get(&name_of(owner), &id)?).into_response())
}

async fn remove(
    State(hub): State<Arc<Hub>>,
    owner: Owned,
    Path(id): Path<String>,
) -> Result<StatusCode, CallbackError> {
    hub.remove(&name_of(owner), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResumeBody {
    #[serde(default)]
    after: Option<String>,
}

async fn resume(
    State(hub): State<Arc<Hub>>,
    owner: Owned,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, CallbackError> {
    let request = if body.is_empty() {
        ResumeBody::default()
    } else {
        body_of(&body)?
    };
    let after = request.after.map(|text| text.parse::<EventId>()).transpose()?;
    let view = hub.resume(&name_of(owner), &id, after).await?;
    Ok(Json(view).into_response())
}

/// The routes, to be merged into a program's own.
pub fn routes(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/v1/events", get(events))
        .route("/v1/subscriptions", post(create).get(list))
        .route("/v1/subscriptions/{id}", get(show).delete(remove))
        .route("/v1/subscriptions/{id}/resume", post(resume))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(hub)
}
