//! Enrolment over Secure Transport (RFC 7030), for industrial devices: `cacerts`, `simpleenroll`, `simplereenroll` and
//! `csrattrs` under `/.well-known/est/`, and under `/.well-known/est/<label>/` for one authority of several.
//!
//! A label is an authority's name, with `+tls` behind it for TLS certificates instead of signing ones. Whoever is new shows
//! name and secret (HTTP basic); whoever has a certificate of the authority shows it in the TLS handshake. Keys made by
//! the server (`serverkeygen`), full CMC and the binding of secrets to a TLS session (§3.5) are not offered.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_STANDARD, Engine};
use selvedge_msp::{Certificate, pem, pkcs7};

use super::{Answer, Authorities, Call, Content, Methods, query, route, status};
use crate::auth::{self, Expiry};
use crate::authority::{Authority, EnrollmentRequest};
use crate::error::Refusal;
use crate::registry::Identity;

/// §4.5.2: requests are to have an EC key on P-256 and to be signed with ECDSA and SHA-256. DER of
/// `SEQUENCE { SEQUENCE { ecPublicKey, SET { prime256v1 } }, ecdsa-with-SHA256 }`.
const CSR_ATTRIBUTES: [u8; 35] = [
    0x30, 0x21, 0x30, 0x15, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x31, 0x0a, 0x06, 0x08,
    0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03,
    0x02,
];
const TLS_PROFILE: &str = "+tls";

/// Which authority issues, with which profile.
struct Target {
    authority: Arc<Authority>,
    profile: &'static str,
}

/// The label is the part of the path between `est` and the last one.
fn target(call: &Call) -> Result<Target, Refusal> {
    let path = call.uri.path();
    let inner = path.strip_prefix("/.well-known/est/").unwrap_or_default();
    let label = inner.rsplit_once('/').map_or("", |(label, _)| label);
    let label = query::decode(label, false)
        .ok_or_else(|| Refusal::new(400, 50, "the label is not percent-encoded UTF-8"))?;
    let (name, profile) = match label.strip_suffix(TLS_PROFILE) {
        Some(name) => (name, "tls"),
        None => (label.as_str(), ""),
    };
    Ok(Target {
        authority: call.authorities.find(name)?,
        profile,
    })
}

fn base64(kind: &'static str, der: &[u8]) -> Answer {
    let encoded = BASE64_STANDARD.encode(der);
    let mut text = String::with_capacity(encoded.len() + encoded.len() / 64 + 1);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push_str("\r\n");
        rest = after;
    }
    Answer::new(StatusCode::OK, Content::Base64(kind, text))
}

fn bag<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Answer {
    base64(
        "application/pkcs7-mime; smime-type=certs-only",
        &pkcs7::encode(certificates),
    )
}

fn ca_certificates(call: &Call) -> Result<Answer, Refusal> {
    Ok(bag(target(call)?.authority.chain()))
}

fn csr_attributes(call: &Call) -> Result<Answer, Refusal> {
    target(call)?;
    Ok(base64("application/csrattrs", &CSR_ATTRIBUTES))
}

/// The request as PEM, which the authority reads. §4.2.1: base64 of DER, with or without line breaks.
fn csr(call: &Call) -> Result<String, Refusal> {
    let kind = call.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|k| k.to_str().ok()).unwrap_or("application/pkcs10");
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/pkcs10") {
        return Err(Refusal::new(
            415,
            5,
            format!("a certificate request has the content type application/pkcs10, not {kind}"),
        ));
    }
    let compact: Vec<u8> = call
        .body
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    if compact.is_empty() {
        return Err(Refusal::new(400, 4, "Empty request body"));
    }
    let der = BASE64_STANDARD.decode(&compact).map_err(|e| {
        Refusal::new(
            400,
            31,
            format!("the certificate request is not base64 of DER: {e}"),
        )
    })?;
    Ok(pem::encode("CERTIFICATE REQUEST", &der))
}

fn issued(call: &Call, target: &Target, identity: &Identity, by_secret: bool) -> Result<Answer, Refusal> {
    let request = EnrollmentRequest {
        csr_pem: csr(call)?,
        profile: target.profile.to_owned(),
        ..EnrollmentRequest::default()
    };
    let authority = &target.authority;
    let request = authority.prepare(identity, &request)?;
    let certificate = if by_secret {
        authority.enroll(identity, &request)?
    } else {
        authority.issue(&request)?
    };
    tracing::info!(authority = %authority.name, id = %identity.id, "certificate issued by EST");
    Ok(bag([&certificate]))
}

/// §4.2.1. Name and secret go before a certificate: a device may still hold an old one.
fn enroll(call: &Call) -> Result<Answer, Refusal> {
    let target = target(call)?;
    let shown = call
        .tls
        .leaf()
        .filter(|_| !call.headers.contains_key(header::AUTHORIZATION));
    if let Some(certificate) = shown {
        let caller = auth::tls(&target.authority, certificate, Expiry::Strict)?;
        return issued(call, &target, &caller.identity, false);
    }
    let identity = auth::basic(&target.authority, &call.headers)?;
    issued(call, &target, &identity, true)
}

/// §4.2.2. The certificate to renew proves who asks; without one, name and secret do, if an enrolment is left.
fn reenroll(call: &Call) -> Result<Answer, Refusal> {
    let target = target(call)?;
    if let Some(certificate) = call.tls.leaf() {
        let caller = auth::tls(&target.authority, certificate, Expiry::Grace)?;
        return issued(call, &target, &caller.identity, false);
    }
    let identity = auth::basic(&target.authority, &call.headers)?;
    issued(call, &target, &identity, true)
}

fn unsupported(call: &Call) -> Result<Answer, Refusal> {
    Err(Refusal::new(
        501,
        0,
        format!(
            "{} is not offered: a device makes its key itself and uses simpleenroll",
            call.uri.path()
        ),
    ))
}

/// §4.2.3: plain text, for people.
fn refused(refusal: &Refusal) -> Response {
    let mut response = (status(refusal), format!("{}\n", refusal.message)).into_response();
    if refusal.status == 401 {
        let basic = HeaderValue::from_static("Basic realm=\"est\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    }
    response
}

/// The endpoints, with and without a label.
pub(super) fn router() -> Router<Arc<Authorities>> {
    const PATHS: [(&str, Methods); 6] = [
        ("cacerts", &[(Method::GET, ca_certificates)]),
        ("csrattrs", &[(Method::GET, csr_attributes)]),
        ("simpleenroll", &[(Method::POST, enroll)]),
        ("simplereenroll", &[(Method::POST, reenroll)]),
        ("serverkeygen", &[(Method::POST, unsupported)]),
        ("fullcmc", &[(Method::POST, unsupported)]),
    ];
    PATHS.iter().fold(Router::new(), |router, (name, methods)| {
        router
            .route(&format!("/.well-known/est/{name}"), route(methods, refused))
            .route(
                &format!("/.well-known/est/{{label}}/{name}"),
                route(methods, refused),
            )
    })
}
