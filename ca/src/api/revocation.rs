//! `revoke` and `gencrl`.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::body::Fields;
use super::query::rfc3339;
use super::{Answer, Call};
use crate::attributes::check_has;
use crate::auth::Expiry;
use crate::authority::{CrlRequest, RevocationRequest, reason_code};
use crate::error::Refusal;
use crate::registry::Period;

pub(super) fn revoke(call: &Call) -> Result<Answer, Refusal> {
    let fields = call.fields()?;
    let authority = call.authority(&fields)?;
    let caller = call.caller(&authority, Expiry::Strict)?;
    let request = RevocationRequest {
        id: fields.text("id")?,
        serial: fields.text("serial")?,
        aki: fields.text("aki")?,
        reason: reason_code(&fields.text("reason")?)?,
        with_crl: fields.flag("gencrl")?,
    };
    let revoked = authority.revoke(&caller, &request)?;
    tracing::info!(
        authority = %authority.name, id = %request.id, certificates = revoked.certificates.len(),
        by = %caller.identity.id, "revoked"
    );
    let certificates: Vec<Value> = revoked
        .certificates
        .iter()
        .map(|(serial, aki)| json!({ "Serial": serial, "AKI": aki }))
        .collect();
    Ok(Answer::ok(json!({
        "RevokedCerts": certificates,
        "CRL": revoked.crl.map(|pem| BASE64_STANDARD.encode(pem)).unwrap_or_default(),
    })))
}

fn time(fields: &Fields, name: &str, code: u16) -> Result<Option<i64>, Refusal> {
    let text = fields.text(name)?;
    // What Go's clients send for no time at all.
    if text.is_empty() || text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    match rfc3339(&text) {
        Some(at) => Ok(Some(at)),
        None => Err(Refusal::new(
            400,
            code,
            format!("'{name}' is a time such as 2026-01-31T12:00:00Z, not '{text}'"),
        )),
    }
}

pub(super) fn gen_crl(call: &Call) -> Result<Answer, Refusal> {
    let fields = call.fields()?;
    let authority = call.authority(&fields)?;
    let caller = call.caller(&authority, Expiry::Strict)?.identity;
    check_has(&caller, "hf.GenCRL")?;
    let request = CrlRequest {
        revoked: Period {
            start: time(&fields, "revokedafter", 36)?,
            end: time(&fields, "revokedbefore", 36)?,
        },
        expires: Period {
            start: time(&fields, "expireafter", 37)?,
            end: time(&fields, "expirebefore", 37)?,
        },
    };
    let crl = authority.crl(request)?;
    tracing::info!(authority = %authority.name, by = %caller.id, "revocation list made");
    Ok(Answer::ok(json!({ "CRL": BASE64_STANDARD.encode(crl) })))
}
