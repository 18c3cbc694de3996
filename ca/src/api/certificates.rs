//! `certificates`.

use serde_json::json;

use super::body::Fields;
use super::pages::Pages;
use super::query::{Query, point_in_time};
use super::{Answer, Call};
use crate::attributes::is_registrar;
use crate::auth::Expiry;
use crate::authority::unix_now;
use crate::error::Refusal;
use crate::registry::{CertificateFilter, Period, normal_hex};

/// Certificates read from the registry at a time.
const PAGE: u32 = 100;
/// Getting certificates.
const CODE: u16 = 67;

fn period(query: &Query, name: &str, now: i64) -> Result<Period, Refusal> {
    let end = |suffix: &str| -> Result<Option<i64>, Refusal> {
        let name = format!("{name}_{suffix}");
        match query.text(&name) {
            "" => Ok(None),
            text => point_in_time(text, now).map(Some).ok_or_else(|| {
                Refusal::new(
                    400,
                    CODE,
                    format!(
                        "'{name}' is a time such as 2026-01-31T12:00:00Z, now, +30d or -12h, not '{text}'"
                    ),
                )
            }),
        }
    };
    let period = Period {
        start: end("start")?,
        end: end("end")?,
    };
    match (period.start, period.end) {
        (Some(start), Some(end)) if start > end => Err(Refusal::new(
            400,
            CODE,
            format!("{name}_start is later than {name}_end"),
        )),
        _ => Ok(period),
    }
}

fn filter(query: &Query, scope: String) -> Result<CertificateFilter, Refusal> {
    let now = unix_now();
    let mut filter = CertificateFilter {
        scope,
        id: query.text("id").to_owned(),
        serial: normal_hex(query.text("serial")),
        aki: normal_hex(query.text("aki")),
        revoked: period(query, "revoked", now)?,
        expires: period(query, "expired", now)?,
        not_revoked: query.flag("notrevoked")?,
    };
    let contradiction = |name: &str| {
        Refusal::new(
            400,
            CODE,
            format!("not{name} and {name}_start or {name}_end contradict each other"),
        )
    };
    if filter.not_revoked && filter.revoked != Period::default() {
        return Err(contradiction("revoked"));
    }
    if query.flag("notexpired")? {
        if filter.expires != Period::default() {
            return Err(contradiction("expired"));
        }
        filter.expires.start = Some(now);
    }
    Ok(filter)
}

pub(super) fn list(call: &Call) -> Result<Answer, Refusal> {
    let authority = call.authority(&Fields::default())?;
    let caller = call.caller(&authority, Expiry::Strict)?.identity;
    let mut filter = filter(&call.query()?, caller.affiliation.clone())?;
    if !is_registrar(&caller) && !caller.has("hf.Revoker") {
        // Everybody may see what is their own.
        if !filter.id.is_empty() && filter.id != caller.id {
            return Err(Refusal::authorization(format!(
                "{} is neither a registrar nor a revoker",
                caller.id
            )));
        }
        filter.id.clone_from(&caller.id);
    }
    let name = authority.name.clone();
    let mut last = 0;
    Ok(Answer::pages(Pages::new("certs", name, move || {
        let found = authority
            .registry
            .certificates_after(last, &filter, PAGE)
            .map_err(|e| Refusal::internal(CODE, e))?;
        let Some((row, _)) = found.last() else {
            return Ok(None);
        };
        last = *row;
        Ok(Some(
            found.into_iter().map(|(_, pem)| json!({ "PEM": pem })).collect(),
        ))
    })))
}
