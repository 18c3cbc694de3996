//! REST for readings: who calls, what they hand over, and the answers that all ways of refusing become.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use selvedge_comm::{PeerTls, RemoteAddress};
use selvedge_msp::Certificate;
use serde_json::{Value, json};

use crate::api::{Api, MAX_BATCH};
use crate::guard::Guard;
use crate::intake::sources::Sender;
use crate::intake::{Intake, Refusal, Taken, reading};

/// The description of the interface for programs.
const OPENAPI: &str = include_str!("openapi.json");

/// Who may call.
pub(crate) struct Callers {
    pub(crate) intake: Arc<Intake>,
    /// Whether callers must log in.
    pub(crate) login: bool,
    pub(crate) guard: Guard,
}

fn refusal(status: StatusCode, message: impl Into<String>) -> Response {
    let message: String = message.into();
    (status, Json(json!({ "error": message }))).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Invalid(_) | Self::UnknownTopic(_) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooFast { .. } | Self::Full { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Storage(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let pause = self.retry_after();
        let mut response = refusal(status, self.to_string());
        if let Some(pause) = pause {
            // Whole seconds, rounded up: earlier would be refused again.
            let seconds = pause.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        response
    }
}

fn not_logged_in(why: &str) -> Response {
    let mut response = refusal(StatusCode::UNAUTHORIZED, why);
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"selvedge edge gateway\""),
    );
    response
}

/// User and password of HTTP Basic.
fn basic(headers: &HeaderMap) -> Option<Result<(String, String), ()>> {
    let value = headers.get(header::AUTHORIZATION)?;
    let read = || {
        let encoded = value.to_str().ok()?.strip_prefix("Basic ")?;
        let text = base64::engine::general_purpose::STANDARD
            .decode(encoded.trim())
            .ok()?;
        let text = String::from_utf8(text).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    };
    Some(read().ok_or(()))
}

impl Callers {
    async fn who(&self, headers: &HeaderMap, address: IpAddr, tls: &PeerTls) -> Result<Sender, Response> {
        let certificate = tls.leaf().and_then(|leaf| Certificate::from_der(leaf).ok());
        if let Some(name) = certificate.as_ref().and_then(Certificate::common_name)
            && let Some(source) = self.intake.sources.by_certificate(name)
        {
            return Ok(Sender::Source(source.id.clone()));
        }
        match basic(headers) {
            Some(Ok((user, password))) => {
                if self.intake.sources.log_in(&user, password.as_bytes()).await {
                    self.guard.succeeded(address);
                    Ok(Sender::Source(user))
                } else {
                    self.guard.failed(address, Instant::now());
                    Err(not_logged_in("no source has this name and password"))
                }
            }
            Some(Err(())) => Err(not_logged_in("log in with HTTP Basic")),
            None if self.login => Err(not_logged_in("log in with the name and password of a source")),
            None => Ok(Sender::Anyone(address.to_string())),
        }
    }
}

/// Finds out who calls, for the handlers; those who may not are turned away.
pub(crate) async fn admit(Shared(api): Shared<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let address = extensions
        .get::<RemoteAddress>()
        .map_or(IpAddr::from([0, 0, 0, 0]), |remote| remote.0.ip().to_canonical());
    let tls = extensions.get::<PeerTls>().cloned().unwrap_or_default();
    if !api.callers.intake.sources.admits(address) {
        return refusal(
            StatusCode::FORBIDDEN,
            format!("{address} is not among 'devices.addresses' of this gateway"),
        );
    }
    if !api.callers.guard.admits(address, Instant::now()) {
        return Refusal::TooFast {
            source_name: address.to_string(),
            wait: std::time::Duration::from_secs(60),
        }
        .into_response();
    }
    match api.callers.who(request.headers(), address, &tls).await {
        Ok(sender) => {
            request.extensions_mut().insert(sender);
            next.run(request).await
        }
        Err(response) => response,
    }
}

fn told(taken: Taken) -> Value {
    match taken.id {
        Some(id) => json!({ "id": id }),
        None => json!({ "kept": true }),
    }
}

/// `POST /v1/readings`.
pub(crate) async fn readings(
    Shared(api): Shared<Arc<Api>>,
    Extension(sender): Extension<Sender>,
    body: Bytes,
) -> Response {
    let (readings, is_list) = match reading::parse(&body, MAX_BATCH) {
        Ok(parsed) => parsed,
        Err(why) => return Refusal::Invalid(why).into_response(),
    };
    let intake = &api.callers.intake;
    let results = match intake.readings(sender, readings, intake.arrival()).await {
        Ok(results) => results,
        Err(refusal) => return refusal.into_response(),
    };
    let all_refused = results.iter().all(Result::is_err);
    let refused = results.iter().find_map(|r| r.as_ref().err()).cloned();
    if !is_list || all_refused {
        return match (results.into_iter().next(), refused) {
            (_, Some(refusal)) => refusal.into_response(),
            (Some(Ok(taken)), None) => (StatusCode::ACCEPTED, Json(told(taken))).into_response(),
            _ => Refusal::Invalid("the body is empty".to_owned()).into_response(),
        };
    }
    let status = if refused.is_some() {
        StatusCode::MULTI_STATUS
    } else {
        StatusCode::ACCEPTED
    };
    let answers: Vec<Value> = results
        .into_iter()
        .map(|result| match result {
            Ok(taken) => told(taken),
            Err(refusal) => json!({ "error": refusal.to_string() }),
        })
        .collect();
    (status, Json(json!({ "readings": answers }))).into_response()
}

/// `GET /v1/openapi.json`.
pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_read_from_their_header() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            basic(&headers).unwrap()
        };
        assert_eq!(
            read("Basic Ym94LTE6cGE6c3M="),
            Ok(("box-1".into(), "pa:ss".into()))
        );
        for bad in ["Bearer x", "Basic ???", "Basic Ym94"] {
            assert_eq!(read(bad), Err(()), "{bad}");
        }
        assert!(basic(&HeaderMap::new()).is_none());
    }

    #[test]
    fn pauses_are_told_in_whole_seconds() {
        let refusal = Refusal::TooFast {
            source_name: "s".into(),
            wait: std::time::Duration::from_millis(1200),
        };
        let response = refusal.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        let wrong = Refusal::Invalid("w".into()).into_response();
        assert!(wrong.headers().get(header::RETRY_AFTER).is_none());
    }
}
