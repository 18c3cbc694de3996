//! The routes: one table, from which the router and the check against the OpenAPI document are made.

mod contracts;
mod events;
mod extract;
mod ledger;
mod login;
mod overview;
mod page;
mod resources;
mod search;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use selvedge_callbacks::{Hub, Owner};
use selvedge_sdk::Invocation;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::auth::{Gate, SignedIn, Streams, Tokens, User, Users, gate};
use crate::config::ApiConfig;
use crate::error::Problem;
use crate::index::Index;
use crate::network::{Network, Outcome, Seed, Submission};

/// Largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// What the handlers work on.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: ApiConfig,
    /// Where browsers find the page.
    pub(crate) url: String,
    pub(crate) gate: Arc<Gate>,
    pub(crate) users: Arc<Users>,
    pub(crate) network: Arc<Network>,
    pub(crate) index: Arc<Index>,
    pub(crate) seed: Seed,
    pub(crate) codes: Tokens,
    pub(crate) challenges: Tokens,
    pub(crate) streams: Arc<Streams>,
    pub(crate) overview: overview::Cache,
    pub(crate) stop: CancellationToken,
}

type Shared = axum::extract::State<Arc<App>>;

/// One operation of the interface.
struct Route {
    method: Method,
    path: &'static str,
    handler: MethodRouter<Arc<App>>,
}

macro_rules! route {
    (GET $path:literal $handler:path) => {
        Route {
            method: Method::GET,
            path: $path,
            handler: get($handler),
        }
    };
    (POST $path:literal $handler:path) => {
        Route {
            method: Method::POST,
            path: $path,
            handler: post($handler),
        }
    };
}

fn routes() -> Vec<Route> {
    let mut routes = vec![
        route!(GET "/v1/openapi.json" crate::openapi::document),
        route!(GET "/v1/me" login::me),
        route!(POST "/v1/login/challenge" login::challenge),
        route!(POST "/v1/login/token" login::token),
        route!(POST "/v1/login/link" login::link),
        route!(POST "/v1/login/redeem" login::redeem),
        route!(POST "/v1/logout" login::logout),
        route!(GET "/v1/overview" overview::overview),
        route!(GET "/v1/search" search::search),
        route!(POST "/v1/transactions" contracts::submit),
        route!(POST "/v1/queries" contracts::evaluate),
        route!(GET "/v1/channels" ledger::channels),
        route!(GET "/v1/channels/{channel}" ledger::channel),
        route!(GET "/v1/channels/{channel}/blocks" ledger::blocks),
        route!(GET "/v1/channels/{channel}/blocks/{number}" ledger::block),
        route!(GET "/v1/channels/{channel}/transactions" ledger::transactions),
        route!(GET "/v1/channels/{channel}/transactions/{id}" ledger::transaction),
        route!(GET "/v1/channels/{channel}/history" ledger::history),
        route!(GET "/v1/channels/{channel}/events" events::events),
    ];
    routes.extend(resources::routes());
    routes
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this address does not take this method",
    )
}

/// Subscriptions belong to the user who made them.
async fn owned(caller: SignedIn, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Owner(caller.user.name.clone()));
    next.run(request).await
}

/// Everything that the server serves.
pub(crate) fn router(app: Arc<App>, hub: Arc<Hub>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        tracing::debug!(method = %route.method, path = route.path, "operation served");
        router = router.route(route.path, route.handler);
    }
    let gate_state = Arc::clone(&app.gate);
    router
        .route("/", get(page::index))
        .route("/app/{*path}", get(page::asset))
        .fallback(async || {
            Problem::not_found("there is nothing at this address; /v1/openapi.json lists what there is")
        })
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
        .merge(
            selvedge_callbacks::routes(hub)
                .method_not_allowed_fallback(wrong_method)
                .layer(middleware::from_fn(owned)),
        )
        .layer(middleware::from_fn_with_state(gate_state, gate))
        .layer(middleware::map_response(cautious))
}

/// Headers of every answer: no browser guesses types, embeds the page, or tells others where it came from; what is
/// answered about the ledger stays in nobody's cache.
async fn cautious(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The contract's answer as JSON; an empty one is null.
fn contract_json(bytes: &Bytes) -> Result<Value, Problem> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes).map_err(|e| {
        Problem::new(
            StatusCode::BAD_GATEWAY,
            format!("the contract did not answer in JSON: {e}"),
        )
    })
}

/// A contract's answer where it need not be JSON: then as text, or in base64.
fn any_json(bytes: &Bytes) -> Value {
    use base64::Engine as _;
    if bytes.is_empty() {
        return Value::Null;
    }
    match (serde_json::from_slice(bytes), std::str::from_utf8(bytes)) {
        (Ok(value), _) => value,
        (Err(_), Ok(text)) => Value::String(text.to_owned()),
        (Err(_), Err(_)) => json!({ "base64": base64::engine::general_purpose::STANDARD.encode(bytes) }),
    }
}

impl App {
    /// Asks a contract in a user's name.
    async fn ask(&self, user: &User, invocation: &Invocation) -> Result<Value, Problem> {
        self.network.channel(invocation.channel())?;
        let answer = self.network.evaluate(&user.identity, invocation).await?;
        contract_json(&answer)
    }

    /// Submits in a user's name, and answers when it is on the ledger: 201 with the contract's answer and the
    /// transaction. 202 when the commit was not seen in time.
    async fn act(&self, caller: &SignedIn, submission: &Submission) -> Result<Response, Problem> {
        let channel = submission.invocation.channel().to_owned();
        self.network.channel(&channel)?;
        let outcome = self
            .network
            .submit(&caller.user.identity, &self.seed, submission)
            .await?;
        let (status, id, body) = match outcome {
            Outcome::Committed { id, block, result } => {
                let transaction =
                    json!({ "id": id, "channel": channel, "state": "committed", "block": block });
                let body = json!({ "transaction": transaction, "result": any_json(&result) });
                (StatusCode::CREATED, id, body)
            }
            Outcome::Pending { id } => {
                let transaction = json!({ "id": id, "channel": channel, "state": "pending-commit" });
                (StatusCode::ACCEPTED, id, json!({ "transaction": transaction }))
            }
        };
        let mut response = (status, Json(body)).into_response();
        if let Ok(place) = HeaderValue::from_str(&format!("/v1/channels/{channel}/transactions/{id}")) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        Ok(response)
    }

    /// Runs work on the index away from the threads that serve.
    async fn indexed<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Index) -> Result<T, crate::ApiError> + Send + 'static,
    ) -> Result<T, Problem> {
        let app = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&app.index))
            .await
            .map_err(|e| Problem::internal(&e))?
            .map_err(|e| Problem::internal(&e))
    }
}

#[cfg(test)]
mod tests;
