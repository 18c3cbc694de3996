//! Who is calling: basic authentication for enrolling, a signed token for everything else (spec 06 §2).

use axum::http::{HeaderMap, Method, header::AUTHORIZATION};
use base64::prelude::{BASE64_STANDARD, Engine};
use selvedge_msp::Certificate;

use crate::authority::{Authority, unix_now};
use crate::error::Refusal;
use crate::registry::{Identity, PASSWORD_ATTEMPTS};

/// A hash that no secret has: checked for unknown callers, so that they take as long as known ones.
const NO_SECRET: &str = "$2b$10$C6UzMDM.H6dfI/f/IKcEeO7ZJ8Yh1rHqJ1y7mF0YxQbqk4vN1Qv1e";

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

/// Checks `Basic id:secret` and uses up one of the identity's enrolments.
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

    let found = authority.registry.identity(id).map_err(internal)?;
    if found
        .as_ref()
        .is_some_and(|i| i.wrong_attempts >= PASSWORD_ATTEMPTS)
    {
        return Err(Refusal::new(
            401,
            73,
            format!("{id} is locked after {PASSWORD_ATTEMPTS} wrong secrets; a registrar can unlock it"),
        ));
    }
    let hash = found.as_ref().map_or(NO_SECRET, |i| i.secret_hash.as_str());
    let right = bcrypt::verify(secret, hash).unwrap_or(false);
    let identity = usable(found, id)?;
    if !right {
        authority.registry.count_wrong_attempt(id).map_err(internal)?;
        return Err(Refusal::authentication(format!("wrong secret for {id}")));
    }
    if !authority.registry.use_enrollment(id).map_err(internal)? {
        return Err(Refusal::authentication(format!(
            "{id} has used all its {} enrolments",
            identity.max_enrollments
        )));
    }
    Ok(identity)
}

/// Checks a token: `base64(certificate PEM).base64(signature)` over method, URI, body and certificate.
pub(crate) fn token(
    authority: &Authority,
    headers: &HeaderMap,
    method: &Method,
    request_uri: &str,
    body: &[u8],
) -> Result<Identity, Refusal> {
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
    if !certificate.is_signed_by(authority.root()) || certificate.is_ca() {
        return Err(refuse(format!(
            "the token's certificate is not one of {}'s",
            authority.name
        )));
    }
    let now = unix_now();
    if now > certificate.not_after() || now < certificate.not_before() {
        return Err(refuse("the token's certificate is not valid at this time".into()));
    }
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

    let serial = hex::encode(certificate.serial());
    let aki = certificate
        .authority_key_id()
        .map(hex::encode)
        .unwrap_or_default();
    let internal = |e| Refusal::internal(29, e);
    if authority.registry.is_revoked(&serial, &aki).map_err(internal)? {
        return Err(refuse(format!("certificate {serial} is revoked")));
    }
    let id = certificate.common_name().unwrap_or_default();
    usable(authority.registry.identity(id).map_err(internal)?, id)
}
