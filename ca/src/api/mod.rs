//! The REST interface: routes, bodies and the answer's envelope (spec 06 §1).

mod affiliations;
mod body;
mod certificates;
mod enroll;
mod est;
mod identities;
mod pages;
mod query;
mod revocation;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, OriginalUri, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use selvedge_comm::PeerTls;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::auth::{self, Caller, Expiry};
use crate::authority::Authority;
use crate::error::Refusal;

use body::Fields;
use pages::Pages;
use query::Query;

/// Largest request body in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// A request is small: a client on the slowest line sends it in this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The authorities of a server; the first is the default.
pub(crate) struct Authorities {
    list: Vec<Arc<Authority>>,
    /// Time for a client to send its request's body.
    body_timeout: Duration,
    /// Requests under work at a time. Hashing secrets keeps a core busy, and one that waits costs little.
    slots: Semaphore,
}

impl Authorities {
    pub(crate) fn new(list: Vec<Arc<Authority>>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            list,
            body_timeout: BODY_TIMEOUT,
            slots: Semaphore::new(4 * cores),
        }
    }

    /// An authority by name; npm's client sends `undefined` where it was given none.
    fn find(&self, name: &str) -> Result<Arc<Authority>, Refusal> {
        let found = match name {
            "" | "undefined" => self.list.first(),
            name => self.list.iter().find(|a| a.name == name),
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
    /// The certificate that the caller showed in the TLS handshake.
    tls: PeerTls,
    body: Bytes,
}

impl Call {
    /// The body of a request that must have one.
    fn fields(&self) -> Result<Fields, Refusal> {
        if self.body.is_empty() {
            return Err(Refusal::new(400, 4, "Empty request body"));
        }
        Fields::parse(&self.body)
    }

    fn query(&self) -> Result<Query, Refusal> {
        Query::parse(self.uri.query().unwrap_or_default())
    }

    /// The authority that the body or the query names, the default one if neither does.
    fn authority(&self, fields: &Fields) -> Result<Arc<Authority>, Refusal> {
        let named = fields.text("caname")?;
        if named.is_empty() {
            self.authorities.find(self.query()?.text("ca"))
        } else {
            self.authorities.find(&named)
        }
    }

    /// The caller of everything but enroll and cainfo.
    fn caller(&self, authority: &Authority, expiry: Expiry) -> Result<Caller, Refusal> {
        // What the token signs: path and query as on the request line.
        let uri = self.uri.path_and_query().map_or("/", |p| p.as_str());
        auth::token(authority, &self.headers, &self.method, uri, &self.body, expiry)
    }

    /// The last part of the path: whom or what a request is about.
    fn named(&self) -> Result<String, Refusal> {
        let last = self.uri.path().rsplit('/').next().unwrap_or_default();
        query::decode(last, false)
            .filter(|name| !name.is_empty())
            .ok_or_else(|| {
                Refusal::new(
                    400,
                    50,
                    "the path ends in no name, or not in percent-encoded UTF-8",
                )
            })
    }
}

enum Content {
    Whole(Value),
    Pages(Pages),
    /// EST: base64 of something in DER, with its media type.
    Base64(&'static str, String),
}

/// A successful answer.
struct Answer {
    status: StatusCode,
    content: Content,
    location: Option<String>,
}

impl Answer {
    fn new(status: StatusCode, content: Content) -> Self {
        Self {
            status,
            content,
            location: None,
        }
    }

    fn ok(result: Value) -> Self {
        Self::new(StatusCode::OK, Content::Whole(result))
    }

    fn created(result: Value) -> Self {
        Self::new(StatusCode::CREATED, Content::Whole(result))
    }

    fn pages(pages: Pages) -> Self {
        Self::new(StatusCode::OK, Content::Pages(pages))
    }

    /// Names the place of what was made.
    fn at(mut self, location: String) -> Self {
        self.location = Some(location);
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = match self.content {
            Content::Whole(result) => envelope(self.status, true, &result, &json!([])),
            Content::Pages(pages) => {
                let json = [(header::CONTENT_TYPE, "application/json")];
                (self.status, json, pages.into_body()).into_response()
            }
            Content::Base64(kind, text) => {
                let headers = [
                    (header::CONTENT_TYPE.as_str(), kind),
                    ("content-transfer-encoding", "base64"),
                ];
                (self.status, headers, text).into_response()
            }
        };
        if let Some(location) = self.location.and_then(|l| l.parse().ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

type Handler = fn(&Call) -> Result<Answer, Refusal>;

fn envelope(status: StatusCode, success: bool, result: &Value, errors: &Value) -> Response {
    let body = json!({ "success": success, "result": result, "errors": errors, "messages": [] });
    (status, axum::Json(body)).into_response()
}

/// How a refusal is told: in the envelope of Fabric CA's interface, or as EST's plain text.
type Refuse = fn(&Refusal) -> Response;

fn status(refusal: &Refusal) -> StatusCode {
    StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn refused(refusal: &Refusal) -> Response {
    envelope(
        status(refusal),
        false,
        &Value::String(String::new()),
        &json!([{ "code": refusal.code, "message": refusal.message }]),
    )
}

/// Reads a body of bounded length in bounded time.
async fn read_body(body: Body, limit: Duration) -> Result<Bytes, Refusal> {
    let read = Limited::new(body, MAX_BODY_BYTES).collect();
    match tokio::time::timeout(limit, read).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::new(
            413,
            3,
            format!("the body is longer than {MAX_BODY_BYTES} bytes"),
        )),
        Ok(Err(error)) => Err(Refusal::new(400, 3, format!("the body cannot be read: {error}"))),
        Err(_) => Err(Refusal::new(
            408,
            3,
            format!("the body did not arrive within {limit:?}"),
        )),
    }
}

async fn answer(mut call: Call, body: Body, handler: Handler) -> Result<Answer, Refusal> {
    let authorities = Arc::clone(&call.authorities);
    call.body = read_body(body, authorities.body_timeout).await?;
    let slot = authorities.slots.acquire().await;
    let _slot = slot.map_err(|e| Refusal::internal(0, e))?;
    // Hashing secrets and the database would hold up the reactor.
    tokio::task::spawn_blocking(move || handler(&call))
        .await
        .unwrap_or_else(|e| Err(Refusal::internal(0, e)))
}

/// What each method of a path does; a method that is not listed is refused.
type Methods = &'static [(Method, Handler)];

fn route(methods: Methods, refuse: Refuse) -> MethodRouter<Arc<Authorities>> {
    any(
        move |State(authorities): State<Arc<Authorities>>,
              OriginalUri(uri): OriginalUri,
              method: Method,
              headers: HeaderMap,
              tls: Option<Extension<PeerTls>>,
              body: Body| async move {
            let name = format!("{method} {}", uri.path());
            let handler = methods.iter().find(|(m, _)| *m == method).map(|(_, h)| *h);
            if handler.is_none() && method == Method::HEAD && methods.iter().any(|(m, _)| *m == Method::GET) {
                return StatusCode::OK.into_response();
            }
            let done = match handler {
                None => {
                    let text = format!("Method {method} is not allowed for this path");
                    Err(Refusal::new(405, 1, text))
                }
                Some(handler) => {
                    let call = Call {
                        authorities,
                        method,
                        uri,
                        headers,
                        tls: tls.map(|Extension(tls)| tls).unwrap_or_default(),
                        body: Bytes::new(),
                    };
                    answer(call, body, handler).await
                }
            };
            match done {
                Ok(answer) => answer.into_response(),
                Err(refusal) => {
                    tracing::warn!(call = %name, %refusal, "request refused");
                    refuse(&refusal)
                }
            }
        },
    )
}

/// Every endpoint, at `/api/v1/<name>` and `/<name>`.
pub(crate) fn router(authorities: Arc<Authorities>) -> Router {
    const NAMED: [(&str, Methods); 9] = [
        (
            "/cainfo",
            &[(Method::GET, enroll::ca_info), (Method::POST, enroll::ca_info)],
        ),
        ("/enroll", &[(Method::POST, enroll::enroll)]),
        ("/reenroll", &[(Method::POST, enroll::reenroll)]),
        ("/register", &[(Method::POST, identities::register)]),
        ("/revoke", &[(Method::POST, revocation::revoke)]),
        ("/gencrl", &[(Method::POST, revocation::gen_crl)]),
        (
            "/identities",
            &[
                (Method::GET, identities::list),
                (Method::POST, identities::create),
            ],
        ),
        (
            "/affiliations",
            &[
                (Method::GET, affiliations::list),
                (Method::POST, affiliations::create),
            ],
        ),
        ("/certificates", &[(Method::GET, certificates::list)]),
    ];
    const ONE: [(&str, Methods); 2] = [
        (
            "/identities/{id}",
            &[
                (Method::GET, identities::one),
                (Method::PUT, identities::modify),
                (Method::DELETE, identities::remove),
            ],
        ),
        (
            "/affiliations/{name}",
            &[
                (Method::GET, affiliations::one),
                (Method::PUT, affiliations::modify),
                (Method::DELETE, affiliations::remove),
            ],
        ),
    ];
    let endpoints = NAMED.iter().chain(&ONE);
    let endpoints = endpoints.fold(Router::new(), |router, (path, methods)| {
        router.route(path, route(methods, refused))
    });
    Router::new()
        .nest("/api/v1", endpoints.clone())
        .merge(endpoints)
        .merge(est::router())
        .fallback(|OriginalUri(uri): OriginalUri| async move {
            tracing::warn!(path = uri.path(), "request refused: there is nothing");
            refused(&Refusal::new(
                404,
                0,
                format!("there is nothing at {}", uri.path()),
            ))
        })
        .with_state(authorities)
}

#[cfg(test)]
mod tests;
