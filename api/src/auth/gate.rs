//! What every request passes: the limiter, the question who calls, and the access log.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use selvedge_comm::{PeerTls, RemoteAddress};

use super::access_log::Access;
use super::{AccessLog, Attempts, COOKIE, Caller, Limiter, PAGE_HEADER, Tokens, Users};
use crate::error::Problem;

/// What the gate works with.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) limiter: Limiter,
    pub(crate) attempts: Attempts,
    pub(crate) users: Arc<Users>,
    pub(crate) tokens: Tokens,
    pub(crate) log: AccessLog,
    /// Certificates shown in the handshake were checked against the organisation's roots.
    pub(crate) certificates: bool,
    pub(crate) behind_proxy: bool,
    pub(crate) counter: selvedge_operations::Counter,
}

fn address(gate: &Gate, request: &Request) -> IpAddr {
    let remote = request
        .extensions()
        .get::<RemoteAddress>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |remote| remote.0.ip());
    if !gate.behind_proxy || !remote.is_loopback() {
        return remote;
    }
    // The proxy adds to the end; what stands before may be anybody's invention.
    request
        .headers()
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.rsplit(',').next()?.trim().parse().ok())
        .unwrap_or(remote)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value
        .strip_prefix("Bearer ")
        .or_else(|| value.strip_prefix("bearer "))
        .map(str::trim)
}

/// The token in the cookie.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn who(gate: &Gate, request: &Request, address: IpAddr) -> Result<Caller, Problem> {
    let headers = request.headers();
    let mut caller = Caller {
        user: gate.users.visitor(),
        signed_in: false,
        address,
        token: None,
    };
    if let Some(token) = bearer(headers) {
        let now = Instant::now();
        gate.attempts
            .may_try(address, now)
            .map_err(|wait| too_many_failures(wait.as_secs()))?;
        let Some(user) = gate.tokens.user(token).and_then(|name| gate.users.get(&name)) else {
            gate.attempts.failed(address, now);
            return Err(Problem::unauthorized(
                "the token is unknown or has expired; get a new one with `selvedge api login`",
            ));
        };
        caller.user = Some(user);
        caller.signed_in = true;
        caller.token = Some(token.to_owned());
        return Ok(caller);
    }
    if let Some(token) = cookie(headers)
        && let Some(user) = gate.tokens.user(token).and_then(|name| gate.users.get(&name))
    {
        let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if !safe && !headers.contains_key(PAGE_HEADER) {
            return Err(Problem::forbidden(format!(
                "a request that comes with the page's cookie needs the header {PAGE_HEADER}"
            )));
        }
        caller.user = Some(user);
        caller.signed_in = true;
        caller.token = Some(token.to_owned());
        return Ok(caller);
    }
    let leaf = request.extensions().get::<PeerTls>().and_then(PeerTls::leaf);
    if let (true, Some(leaf)) = (gate.certificates, leaf)
        && let Some(user) = gate.users.by_certificate(leaf)
    {
        // A browser sends the certificate by itself, also with what another site's page makes it ask.
        let from_a_browser = headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN);
        let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if from_a_browser && !safe && !headers.contains_key(PAGE_HEADER) {
            return Err(Problem::forbidden(format!(
                "a request of a browser needs the header {PAGE_HEADER}"
            )));
        }
        caller.user = Some(user);
        caller.signed_in = true;
    }
    Ok(caller)
}

/// The refusal for an address that has failed to sign in too often.
pub(crate) fn too_many_failures(seconds: u64) -> Problem {
    Problem::too_many(
        format!(
            "too many failed log-ins from this address; try again in {} s",
            seconds.max(1)
        ),
        seconds,
    )
}

/// The middleware in front of every route.
pub(crate) async fn gate(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let address = address(&gate, &request);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut user = None;
    let response = match gate.limiter.take(address, started) {
        Err(wait) => Problem::too_many("too many requests from this address", wait.as_secs()).into_response(),
        Ok(()) => match who(&gate, &request, address) {
            Err(problem) => problem.into_response(),
            Ok(caller) => {
                user = caller
                    .user
                    .as_ref()
                    .filter(|_| caller.signed_in)
                    .map(|user| user.name.clone());
                request.extensions_mut().insert(caller);
                next.run(request).await
            }
        },
    };
    let status = response.status().as_u16();
    gate.counter.count(&[method_name(&method), &status.to_string()]);
    gate.log.note(&Access {
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        address: address.to_string(),
        user: user.as_deref(),
        method: method.as_str(),
        path: &path,
        status,
        milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    response
}

/// A method as a metric's label: a caller may invent methods, and each would stay in memory.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; selvedge_token=xyz; c=d".parse().unwrap());
        assert_eq!(cookie(&headers), Some("xyz"));
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "selvedge_tokens=xyz".parse().unwrap());
        assert_eq!(cookie(&headers), None);
    }

    #[test]
    fn bearer_tokens() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer abc".parse().unwrap());
        assert_eq!(bearer(&headers), Some("abc"));
        headers.insert(header::AUTHORIZATION, "Basic abc".parse().unwrap());
        assert_eq!(bearer(&headers), None);
    }
}
