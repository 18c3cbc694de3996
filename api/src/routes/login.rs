//! Signing in and out.
//!
//! A browser cannot use an MSP folder. So the person's own machine signs in for it (`selvedge api login`): by its
//! client certificate, or by signing a challenge with its key; gets a link that counts once and for two minutes; and
//! the browser that opens it gets a cookie.

use std::time::{Instant, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use selvedge_msp::dir::read_msp_config;
use selvedge_msp::{Identity, Msp, MspVersion};
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::Body;
use super::{App, Shared};
use crate::auth::{COOKIE, Caller, Issued, User, View};
use crate::error::Problem;
use crate::now_seconds;

/// Longest certificate taken, in bytes of PEM.
const MAX_CERTIFICATE: usize = 32 * 1024;

fn until(issued: &Issued) -> String {
    humantime::format_rfc3339_seconds(SystemTime::now() + issued.life).to_string()
}

/// Who a user is, as the page and programs need it.
fn describe(app: &App, user: &User, signed_in: bool, view: View) -> Value {
    json!({
        "signedIn": signed_in,
        "user": signed_in.then_some(&user.name),
        "view": view,
        "organization": app.config.organization,
        "mspId": app.config.msp_id,
        "channels": app.network.channels(),
        "contracts": app.config.contracts,
        "certificateUntil": signed_in.then(|| crate::read::rfc3339(user.identity.certificate().not_after() * 1000)),
    })
}

/// `GET /v1/me`
pub(super) async fn me(State(app): Shared, caller: Caller) -> Json<Value> {
    match &caller.user {
        Some(user) => Json(describe(&app, user, caller.signed_in, caller.view())),
        // Nobody, and no visitors either: the page needs to know whose it is all the same.
        None => Json(json!({
            "signedIn": false, "user": null, "view": null, "organization": app.config.organization,
            "mspId": app.config.msp_id, "channels": [], "contracts": app.config.contracts,
        })),
    }
}

/// Text to be signed: for this server and this challenge only.
fn signed_text(audience: &str, challenge: &str) -> String {
    format!("selvedge-api login\n{audience}\n{challenge}")
}

/// `POST /v1/login/challenge`
pub(super) async fn challenge(State(app): Shared, caller: Caller) -> Result<Json<Value>, Problem> {
    may_try(&app, &caller)?;
    let issued = app.challenges.issue("")?;
    Ok(Json(json!({
        "challenge": issued.secret,
        "audience": app.url,
        "sign": signed_text(&app.url, &issued.secret),
        "expiresAt": until(&issued),
    })))
}

/// A signed challenge. Without one, the client certificate of the connection counts.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Proof {
    /// The certificate in PEM.
    certificate: Option<String>,
    /// The challenge that was signed.
    challenge: Option<String>,
    /// ECDSA over SHA-256 of the text, DER with low S, in base64.
    signature: Option<String>,
}

fn may_try(app: &App, caller: &Caller) -> Result<(), Problem> {
    app.gate
        .attempts
        .may_try(caller.address, Instant::now())
        .map_err(|wait| crate::auth::too_many_failures(wait.as_secs()))
}

fn failed(app: &App, caller: &Caller, why: impl Into<String>) -> Problem {
    app.gate.attempts.failed(caller.address, Instant::now());
    Problem::unauthorized(why)
}

/// `POST /v1/login/token`
pub(super) async fn token(
    State(app): Shared,
    caller: Caller,
    Body(proof): Body<Proof>,
) -> Result<Json<Value>, Problem> {
    may_try(&app, &caller)?;
    let user = match (&proof.certificate, &proof.challenge, &proof.signature) {
        (None, None, None) => {
            if !caller.signed_in {
                return Err(failed(
                    &app,
                    &caller,
                    "no client certificate of a user of this server was shown; sign a challenge instead",
                ));
            }
            // A token is not renewed by itself: the certificate or the key has to be there again.
            if caller.token.is_some() {
                return Err(Problem::forbidden(
                    "a token is got with a certificate or a signed challenge, not with another token",
                ));
            }
            caller.reader()?.clone()
        }
        (Some(certificate), Some(challenge), Some(signature)) => {
            if app.challenges.take(challenge).is_none() {
                return Err(failed(
                    &app,
                    &caller,
                    "the challenge is unknown, used, or too old",
                ));
            }
            let name = match proved(&app, certificate, challenge, signature).await {
                Ok(name) => name,
                Err(why) => return Err(failed(&app, &caller, why)),
            };
            match app.users.get(&name) {
                Some(user) => user,
                None => {
                    let why = format!("{name} is not a user of this server");
                    return Err(failed(&app, &caller, why));
                }
            }
        }
        _ => {
            return Err(Problem::bad_request(
                "certificate, challenge and signature belong together; or send none of them, with a client certificate",
            ));
        }
    };
    app.gate.attempts.succeeded(caller.address);
    let issued = app.gate.tokens.issue(&user.name)?;
    let mut answer = describe(&app, &user, true, user.view);
    answer["token"] = json!(issued.secret);
    answer["expiresAt"] = json!(until(&issued));
    Ok(Json(answer))
}

/// The common name of a certificate that is valid on a channel now and whose key has signed the challenge.
async fn proved(app: &App, certificate: &str, challenge: &str, signature: &str) -> Result<String, String> {
    if certificate.len() > MAX_CERTIFICATE {
        return Err("the certificate is too long".to_owned());
    }
    let signature = STANDARD
        .decode(signature)
        .map_err(|_| "the signature is not base64".to_owned())?;
    let msp_id = app.config.msp_id.as_str();
    let identity = valid_identity(app, msp_id, certificate.as_bytes()).await?;
    if identity.certificate().not_after() < now_seconds() {
        return Err("the certificate has expired".to_owned());
    }
    identity
        .verify(signed_text(&app.url, challenge).as_bytes(), &signature)
        .map_err(|e| format!("the signature is not that of the certificate: {e}"))?;
    identity
        .certificate()
        .common_name()
        .map(str::to_owned)
        .ok_or_else(|| "the certificate has no common name".to_owned())
}

/// Judges a certificate by the organisation's MSP as a channel has it, revocations included; by the server's own MSP
/// folder while there is no channel.
async fn valid_identity(app: &App, msp_id: &str, pem: &[u8]) -> Result<Identity, String> {
    if let Some(channel) = app.network.channels().first() {
        let info = app
            .network
            .channel_info(channel)
            .await
            .map_err(|e| format!("the channel's members cannot be looked up: {e}"))?;
        let msp = info
            .msps
            .get(msp_id)
            .ok_or_else(|| format!("{msp_id} is not a member of channel {channel}"))?;
        return check(msp, pem);
    }
    let config = read_msp_config(&app.config.msp_dir, msp_id).map_err(|e| e.to_string())?;
    let msp = Msp::new(&config, MspVersion::LATEST).map_err(|e| e.to_string())?;
    check(&msp, pem)
}

fn check(msp: &Msp, pem: &[u8]) -> Result<Identity, String> {
    let identity = msp.deserialize(pem).map_err(|e| e.to_string())?;
    msp.validate(&identity).map_err(|e| e.to_string())?;
    Ok(identity)
}

/// `POST /v1/login/link`
pub(super) async fn link(State(app): Shared, caller: Caller) -> Result<Json<Value>, Problem> {
    let user = caller.reader()?;
    if !caller.signed_in {
        return Err(Problem::unauthorized(
            "sign in first; `selvedge api login` does both",
        ));
    }
    let issued = app.codes.issue(&user.name)?;
    // Behind the #: a browser keeps it to itself, so that no log on the way has it.
    Ok(Json(json!({
        "url": format!("{}/#login={}", app.url, issued.secret),
        "code": issued.secret,
        "expiresAt": until(&issued),
    })))
}

/// A code out of a link.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    code: String,
}

fn cookie(app: &App, value: &str, seconds: u64) -> Result<HeaderValue, Problem> {
    let secure = if app.url.starts_with("https:") {
        "; Secure"
    } else {
        ""
    };
    HeaderValue::from_str(&format!(
        "{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    ))
    .map_err(|e| Problem::internal(&e))
}

/// `POST /v1/login/redeem`
pub(super) async fn redeem(
    State(app): Shared,
    caller: Caller,
    Body(code): Body<Code>,
) -> Result<Response, Problem> {
    may_try(&app, &caller)?;
    let user = app.codes.take(&code.code).and_then(|name| app.users.get(&name));
    let Some(user) = user else {
        return Err(failed(
            &app,
            &caller,
            "the link was used already or is too old; get a new one with `selvedge api login`",
        ));
    };
    app.gate.attempts.succeeded(caller.address);
    let issued = app.gate.tokens.issue(&user.name)?;
    let mut answer = describe(&app, &user, true, user.view);
    answer["expiresAt"] = json!(until(&issued));
    let mut response = Json(answer).into_response();
    let cookie = cookie(&app, &issued.secret, issued.life.as_secs())?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// `POST /v1/logout`
pub(super) async fn logout(
    State(app): Shared,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(token) = caller.token.as_deref().or(crate::auth::cookie(&headers)) {
        app.gate.tokens.take(token);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    response
        .headers_mut()
        .insert(header::SET_COOKIE, cookie(&app, "", 0)?);
    Ok(response)
}
