//! Who is calling: basic authentication for enrolling, a signed token for everything else (spec 06 §2).

use axum::http::{HeaderMap, Method, header::AUTHORIZATION};
use base64::prelude::{BASE64_STANDARD, Engine};
use selvedge_msp::Certificate;

use crate::authority::{Authority, unix_now};
use crate::error::Refusal;
use crate::registry::Identity;

fn header(headers: &HeaderMap) -> Result<&str, Refusal> {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| Refusal {
            cause: Some("no Authorization header".into()),
            ..Refusal::authentication("")
        })
}

fn usable(identity: Option<Identity>, id: &str) -> Result<Identity, Refusal> {
    let identity = identity.ok_or_else(|| Refusal::authentication(format!("{id} is not registered")))?;
    if identity.state < 0 {
        return Err(Refusal::authentication(format!("{id} is revoked")));
    }
    Ok(identity)
}

/// Who signed a token, and with which certificate.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    /// Hexadecimal serial number of the certificate.
    pub(crate) serial: String,
    /// Hexadecimal authority key of the certificate.
    pub(crate) aki: String,
}

/// How much of a certificate's end is overlooked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    Strict,
    /// The authority's grace time for re-enrolling counts.
    Grace,
}

/// Checks `Basic id:secret`. Using up an enrolment is a second step ([`Authority::enroll`]), so that a request that cannot
/// be granted costs none.
pub(crate) fn basic(authority: &Authority, headers: &HeaderMap) -> Result<Identity, Refusal> {
    let encoded = header(headers)?
        .strip_prefix("Basic ")
        .ok_or_else(|| Refusal::authentication("enrolling needs basic authentication"))?;
    let decoded = BASE64_STANDARD
        .decode(encoded.trim())
        .map_err(|e| Refusal::authentication(format!("Authorization header: {e}")))?;
    let text =
        String::from_utf8(decoded).map_err(|_| Refusal::authentication("credentials are not UTF-8"))?;
    let (id, secret) = text
        .split_once(':')
        .ok_or_else(|| Refusal::authentication("credentials without a colon"))?;
    let internal = |e| Refusal::internal(49, e);
    if authority.max_enrollments == 0 {
        return Err(Refusal::new(403, 22, "Enrollment is disabled"));
    }

    let found = authority.identities.find(id)?;
    if found
        .as_ref()
        .is_some_and(|i| i.wrong_attempts >= authority.password_attempts)
    {
        return Err(Refusal::new(
            401,
            73,
            format!(
                "{id} is locked after {} wrong secrets; a registrar can unlock it",
                authority.password_attempts
            ),
        ));
    }
    let right = authority.identities.is_secret_of(found.as_ref(), secret)?;
    let identity = usable(found, id)?;
    if !right {
        authority.registry.count_wrong_attempt(id).map_err(internal)?;
        return Err(Refusal::authentication(format!("wrong secret for {id}")));
    }
    Ok(identity)
}

fn check_validity(authority: &Authority, certificate: &Certificate, expiry: Expiry) -> Result<(), Refusal> {
    let now = unix_now();
    let grace = match expiry {
        Expiry::Strict => 0,
        Expiry::Grace => i64::try_from(authority.reenroll_grace.as_secs()).unwrap_or(i64::MAX),
    };
    if now < certificate.not_before() {
        return Err(Refusal::authentication(
            "the caller's certificate is not valid yet",
        ));
    }
    if now > certificate.not_after().saturating_add(grace) {
        return Err(Refusal::authentication(format!(
            "the caller's certificate has expired {} s ago",
            now.saturating_sub(certificate.not_after())
        )));
    }
    Ok(())
}

/// Checks a token: `base64(certificate PEM).base64(signature)` over method, URI, body and certificate.
pub(crate) fn token(
    authority: &Authority,
    headers: &HeaderMap,
    method: &Method,
    request_uri: &str,
    body: &[u8],
    expiry: Expiry,
) -> Result<Caller, Refusal> {
    let refuse = |why: String| Refusal::authentication(why);
    let (certificate_text, signature) = header(headers)?
        .split_once('.')
        .ok_or_else(|| refuse("the token has no signature part".into()))?;
    let pem = BASE64_STANDARD
        .decode(certificate_text)
        .map_err(|e| refuse(format!("token certificate: {e}")))?;
    let signature = BASE64_STANDARD
        .decode(signature)
        .map_err(|e| refuse(format!("token signature: {e}")))?;
    let certificate = Certificate::from_pem(&pem).map_err(|e| refuse(format!("token certificate: {e}")))?;
    check_issued(authority, &certificate, expiry)?;
    let key = certificate
        .public_key()
        .ok_or_else(|| refuse("the token's key is not ECDSA".into()))?;
    let message = format!(
        "{}.{}.{}.{certificate_text}",
        method.as_str(),
        BASE64_STANDARD.encode(request_uri),
        BASE64_STANDARD.encode(body)
    );
    key.verify(message.as_bytes(), &signature)
        .map_err(|e| refuse(format!("token signature: {e}")))?;
    holder(authority, &certificate)
}

/// The caller whom the TLS handshake has shown to own the key of `certificate` (DER).
pub(crate) fn tls(authority: &Authority, certificate: &[u8], expiry: Expiry) -> Result<Caller, Refusal> {
    let certificate = Certificate::from_der(certificate)
        .map_err(|e| Refusal::authentication(format!("TLS client certificate: {e}")))?;
    check_issued(authority, &certificate, expiry)?;
    holder(authority, &certificate)
}

/// Refuses certificates that this authority did not issue for signing, and those whose time is not now.
fn check_issued(authority: &Authority, certificate: &Certificate, expiry: Expiry) -> Result<(), Refusal> {
    if !authority.issued(certificate) || certificate.is_ca() {
        return Err(Refusal::authentication(format!(
            "the caller's certificate is not one of {}'s",
            authority.name
        )));
    }
    check_validity(authority, certificate, expiry)
}

/// Whom a certificate of this authority belongs to, unless it or they are revoked.
fn holder(authority: &Authority, certificate: &Certificate) -> Result<Caller, Refusal> {
    let serial = hex::encode(certificate.serial());
    let aki = certificate
        .authority_key_id()
        .map(hex::encode)
        .unwrap_or_default();
    let internal = |e| Refusal::internal(29, e);
    if authority.registry.is_revoked(&serial, &aki).map_err(internal)? {
        return Err(Refusal::authentication(format!(
            "certificate {serial} is revoked"
        )));
    }
    let id = certificate.common_name().unwrap_or_default();
    let identity = usable(authority.identities.find(id)?, id)?;
    Ok(Caller {
        identity,
        serial,
        aki,
    })
}
