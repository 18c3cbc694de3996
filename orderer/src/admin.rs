//! The channel participation interface (spec 05 §7), which `osnadmin` speaks.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use prost::Message;
use selvedge_proto::common;
use serde::Serialize;

use crate::broadcast;
use crate::channel::ChannelInfo;
use crate::error::{JoinError, RemoveError};
use crate::registrar::Registrar;

const BASE: &str = "/participation/v1/channels";
/// Largest request body.
const MAX_BODY: usize = 1 << 20;

#[derive(Serialize)]
struct Short<'a> {
    name: &'a str,
    url: String,
}

#[derive(Serialize)]
struct List<'a> {
    #[serde(rename = "systemChannel")]
    system_channel: Option<Short<'a>>,
    channels: Option<Vec<Short<'a>>>,
}

#[derive(Serialize)]
struct Full<'a> {
    name: &'a str,
    url: String,
    #[serde(rename = "consensusRelation")]
    consensus_relation: &'a str,
    status: &'a str,
    height: u64,
}

#[derive(Serialize)]
struct Failure {
    error: String,
}

/// The routes of the interface.
pub(crate) fn router(registrar: Arc<Registrar>) -> Router {
    Router::new()
        .route("/participation/v1/", any(root))
        .route("/participation/v1/channels", any(channels))
        .route("/participation/v1/channels/{id}", any(one))
        .route("/participation/v1/channels/{id}/blocks/{which}", any(block))
        .fallback(|| async {
            failure(
                StatusCode::NOT_FOUND,
                "no such page; see /participation/v1/channels",
            )
        })
        .layer(DefaultBodyLimit::disable())
        .with_state(registrar)
}

fn url(id: &str) -> String {
    format!("{BASE}/{id}")
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // The types above hold strings and numbers alone; they always serialise.
    let text = serde_json::to_string(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn failure(status: StatusCode, why: impl Into<String>) -> Response {
    json(status, &Failure { error: why.into() })
}

fn full(status: StatusCode, info: &ChannelInfo) -> Response {
    json(
        status,
        &Full {
            name: &info.name,
            url: url(&info.name),
            consensus_relation: info.consensus_relation,
            status: info.status,
            height: info.height,
        },
    )
}

fn with_header(mut response: Response, name: header::HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

fn not_allowed(allow: &str) -> Response {
    let refused = failure(StatusCode::METHOD_NOT_ALLOWED, "invalid request method");
    with_header(refused, header::ALLOW, allow)
}

fn uncached(response: Response) -> Response {
    with_header(response, header::CACHE_CONTROL, "no-store")
}

/// The answer 406 unless the caller takes one of `accepted`; weights are not looked at.
fn refuse_accept(headers: &HeaderMap, accepted: &[&str]) -> Option<Response> {
    let text = headers.get(header::ACCEPT)?.to_str().unwrap_or_default();
    let fits = text.split(',').any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.is_empty() || kind == "*/*" || accepted.contains(&kind)
    });
    let only = accepted.last().unwrap_or(&"application/json");
    (!fits).then(|| {
        failure(
            StatusCode::NOT_ACCEPTABLE,
            format!("response Content-Type is {only} only"),
        )
    })
}

const JSON: &[&str] = &["application/*", "application/json"];
const OCTETS: &[&str] = &["application/*", "application/octet-stream"];

async fn root(method: Method) -> Response {
    if method != Method::GET {
        return not_allowed("GET");
    }
    with_header(StatusCode::FOUND.into_response(), header::LOCATION, BASE)
}

async fn channels(State(registrar): State<Arc<Registrar>>, request: Request) -> Response {
    match *request.method() {
        Method::GET => refuse_accept(request.headers(), JSON).unwrap_or_else(|| uncached(list(&registrar))),
        Method::POST => join(&registrar, request).await,
        Method::PUT => update(&registrar, request).await,
        _ => not_allowed("GET, POST, PUT"),
    }
}

fn list(registrar: &Registrar) -> Response {
    let infos = registrar.infos();
    let short: Vec<Short<'_>> = infos
        .iter()
        .map(|info| Short {
            name: &info.name,
            url: url(&info.name),
        })
        .collect();
    let body = List {
        system_channel: None,
        channels: (!short.is_empty()).then_some(short),
    };
    json(StatusCode::OK, &body)
}

async fn join(registrar: &Registrar, request: Request) -> Response {
    let bytes = match only_part(request, "config-block").await {
        Ok(bytes) => bytes,
        Err(why) => return failure(StatusCode::BAD_REQUEST, why),
    };
    let block = match common::Block::decode(bytes) {
        Ok(block) => block,
        Err(e) => {
            return failure(
                StatusCode::BAD_REQUEST,
                format!("cannot unmarshal file part config-block into a block: {e}"),
            );
        }
    };
    match registrar.join(block).await {
        Ok(info) => with_header(
            full(StatusCode::CREATED, &info),
            header::LOCATION,
            &url(&info.name),
        ),
        Err(why @ JoinError::Invalid(_)) => failure(StatusCode::BAD_REQUEST, why.to_string()),
        Err(why @ JoinError::Exists(_)) => with_header(
            failure(StatusCode::METHOD_NOT_ALLOWED, why.to_string()),
            header::ALLOW,
            "GET, DELETE",
        ),
        Err(why @ JoinError::Storage { .. }) => failure(StatusCode::BAD_REQUEST, why.to_string()),
    }
}

/// Submits a config update, as Broadcast does.
async fn update(registrar: &Registrar, request: Request) -> Response {
    let bytes = match only_part(request, "config-update-envelope").await {
        Ok(bytes) => bytes,
        Err(why) => return failure(StatusCode::BAD_REQUEST, why),
    };
    let bad = |why: String| failure(StatusCode::BAD_REQUEST, format!("invalid update envelope: {why}"));
    let envelope = match common::Envelope::decode(bytes) {
        Ok(envelope) => envelope,
        Err(e) => return bad(e.to_string()),
    };
    let header = match selvedge_proto::channel_header(&envelope) {
        Ok(header) => header,
        Err(e) => return bad(e.to_string()),
    };
    if header.r#type != common::HeaderType::ConfigUpdate as i32 {
        return bad("it is not of type CONFIG_UPDATE".into());
    }
    let Some(channel) = registrar.get(&header.channel_id) else {
        let why = format!("cannot update: channel does not exist: {}", header.channel_id);
        return with_header(
            failure(StatusCode::METHOD_NOT_ALLOWED, why),
            header::ALLOW,
            "GET, POST",
        );
    };
    match broadcast::order(registrar, envelope).await {
        Ok(()) => full(StatusCode::CREATED, &channel.info()),
        Err(refusal) => {
            let code = match refusal.status {
                common::Status::ServiceUnavailable | common::Status::Forbidden => StatusCode::FORBIDDEN,
                common::Status::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::BAD_REQUEST,
            };
            failure(code, refusal.info)
        }
    }
}

/// The content of a multipart body that has exactly one part, of this name.
async fn only_part(request: Request, name: &str) -> Result<Bytes, String> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if !kind.is_some_and(|k| k.as_bytes().starts_with(b"multipart/form-data")) {
        return Err("unsupported Content-Type: expected multipart/form-data".into());
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY)
        .await
        .map_err(|_| format!("cannot read form from request body: it is larger than {MAX_BODY} bytes"))?;
    let request = Request::from_parts(parts, Body::from(body));
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|e| format!("cannot read form from request body: {}", e.body_text()))?;
    let mut found = None;
    while let Some(part) = form.next_field().await.map_err(|e| e.body_text())? {
        if part.name() != Some(name) {
            return Err(format!("form contains an unexpected part; only {name} is taken"));
        }
        if found.is_some() {
            return Err(format!(
                "form contains several parts; exactly one {name} is taken"
            ));
        }
        found = Some(part.bytes().await.map_err(|e| e.body_text())?);
    }
    found.ok_or_else(|| format!("form does not contain part {name}"))
}

async fn one(State(registrar): State<Arc<Registrar>>, Path(id): Path<String>, request: Request) -> Response {
    if let Err(why) = selvedge_channel::check_channel_id(&id) {
        return failure(StatusCode::BAD_REQUEST, format!("invalid channel ID: {why}"));
    }
    match *request.method() {
        Method::GET => {
            if let Some(refused) = refuse_accept(request.headers(), JSON) {
                return refused;
            }
            match registrar.get(&id) {
                Some(channel) => uncached(full(StatusCode::OK, &channel.info())),
                None => failure(StatusCode::NOT_FOUND, format!("channel does not exist: {id}")),
            }
        }
        Method::DELETE => match registrar.remove(&id).await {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(why @ RemoveError::Unknown(_)) => failure(StatusCode::NOT_FOUND, why.to_string()),
            Err(why @ RemoveError::Storage { .. }) => {
                failure(StatusCode::INTERNAL_SERVER_ERROR, why.to_string())
            }
        },
        _ => not_allowed("GET, DELETE"),
    }
}

async fn block(
    State(registrar): State<Arc<Registrar>>,
    Path((id, which)): Path<(String, String)>,
    request: Request,
) -> Response {
    if request.method() != Method::GET {
        return not_allowed("GET");
    }
    if let Some(refused) = refuse_accept(request.headers(), OCTETS) {
        return refused;
    }
    if let Err(why) = selvedge_channel::check_channel_id(&id) {
        return failure(StatusCode::BAD_REQUEST, format!("invalid channel ID: {why}"));
    }
    let Some(chain) = registrar.get(&id).and_then(|c| c.chain()) else {
        return failure(StatusCode::NOT_FOUND, format!("channel does not exist: {id}"));
    };
    let number = match which.as_str() {
        "newest" => chain.height().saturating_sub(1),
        "oldest" => 0,
        "config" => chain.head().last_config,
        other => match other.parse() {
            Ok(number) => number,
            Err(_) => {
                return failure(
                    StatusCode::BAD_REQUEST,
                    format!("invalid block {other:?}: expected newest, oldest, config or a number"),
                );
            }
        },
    };
    let read = tokio::task::spawn_blocking(move || chain.store().get(number)).await;
    match read {
        Ok(Ok(Some(bytes))) => {
            let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
            uncached((StatusCode::OK, kind, bytes).into_response())
        }
        Ok(Ok(None)) => failure(StatusCode::NOT_FOUND, format!("block {number} does not exist")),
        Ok(Err(why)) => failure(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
        Err(why) => failure(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
    }
}
