//! What handlers take from a request, with refusals in the interface's own form.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Problem;

/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 200;

/// Parts of the path.
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(inner) = Path::from_request_parts(parts, state)
            .await
            .map_err(|e: PathRejection| {
                Problem::bad_request(format!("the address is wrong: {}", e.body_text()))
            })?;
        Ok(Self(inner))
    }
}

/// Parameters behind the question mark.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(inner) = Query::from_request_parts(parts, state)
            .await
            .map_err(|e: QueryRejection| Problem::bad_request(e.body_text()))?;
        Ok(Self(inner))
    }
}

/// A body in JSON. An empty one counts as `{}`, so that calls without arguments need none.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|e: BytesRejection| Problem::new(e.status(), e.body_text()))?;
        let text: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) {
            b"{}"
        } else {
            &bytes
        };
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|e| Problem::bad_request(format!("the body is not what is expected: {e}")))
    }
}

/// A JSON object whose content is the contract's business.
pub(super) type Object = Map<String, Value>;

/// Puts a member into an object that a contract gets; the address says what it is, so the body may only repeat it.
pub(super) fn set(object: &mut Object, name: &str, value: &str) -> Result<(), Problem> {
    match object.insert(name.to_owned(), Value::from(value)) {
        Some(said) if said != value => Err(Problem::bad_request(format!(
            "'{name}' in the body is {said}, and the address says {value}"
        ))),
        _ => Ok(()),
    }
}

/// The name that a request gives itself.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| Problem::bad_request("the Idempotency-Key header is not readable text"))?;
    check_key(text).map(Some)
}

pub(super) fn check_key(text: &str) -> Result<String, Problem> {
    if text.is_empty() || text.len() > MAX_KEY {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("an idempotency key has 1 to {MAX_KEY} bytes"),
        ));
    }
    Ok(text.to_owned())
}

/// A page size within its bounds.
pub(super) fn limit(wanted: Option<u32>, usual: u32, most: u32) -> Result<u32, Problem> {
    match wanted {
        None => Ok(usual),
        Some(n) if (1..=most).contains(&n) => Ok(n),
        Some(n) => Err(Problem::bad_request(format!(
            "limit must be 1 to {most}, not {n}"
        ))),
    }
}
