//! `cainfo`, `enroll` and `reenroll`.

use base64::prelude::{BASE64_STANDARD, Engine};
use selvedge_msp::{Certificate, SubjectExtra};
use serde_json::{Value, json};

use super::body::Fields;
use super::{Answer, Call};
use crate::auth::{self, Expiry};
use crate::authority::{AttributeRequest, Authority, EnrollmentRequest};
use crate::error::Refusal;
use crate::registry::Identity;

fn info(authority: &Authority) -> Value {
    json!({
        "CAName": authority.name,
        "CAChain": BASE64_STANDARD.encode(authority.chain_pem()),
        "IssuerPublicKey": "",
        "IssuerRevocationPublicKey": "",
        "Version": env!("CARGO_PKG_VERSION"),
    })
}

pub(super) fn ca_info(call: &Call) -> Result<Answer, Refusal> {
    let authority = call.authority(&Fields::parse(&call.body)?)?;
    Ok(Answer::ok(info(&authority)))
}

/// The subject that a request names beside its CSR: `{"names":[{"C","ST","L","O"}],"SerialNumber"}`. CN and OU are not
/// the caller's to choose.
fn subject(fields: &Fields) -> Result<SubjectExtra, Refusal> {
    let Some(subject) = fields.object("subject")? else {
        return Ok(SubjectExtra::default());
    };
    let names = subject.objects("names")?.unwrap_or_default();
    let first = |key: &str| -> Result<Option<String>, Refusal> {
        let values = names.iter().map(|n| n.text(key)).collect::<Result<Vec<_>, _>>()?;
        Ok(values.into_iter().find(|v| !v.is_empty()))
    };
    let own = |key: &str| subject.text(key).map(|text| Some(text).filter(|t| !t.is_empty()));
    Ok(SubjectExtra {
        country: first("c")?,
        province: first("st")?,
        locality: first("l")?,
        organization: first("o")?,
        serial_number: own("serialnumber")?.or(first("serialnumber")?),
    })
}

fn enrollment(fields: &Fields) -> Result<EnrollmentRequest, Refusal> {
    let attributes = fields
        .objects("attr_reqs")?
        .map(|requests| {
            requests
                .iter()
                .map(|r| {
                    Ok(AttributeRequest {
                        name: r.text("name")?,
                        optional: r.flag("optional")?,
                    })
                })
                .collect::<Result<Vec<_>, Refusal>>()
        })
        .transpose()?;
    Ok(EnrollmentRequest {
        csr_pem: fields.text("certificate_request")?,
        profile: fields.text("profile")?,
        attributes,
        hosts: fields.texts("hosts")?,
        subject: subject(fields)?,
    })
}

fn enrolled(authority: &Authority, identity: &Identity, certificate: &Certificate) -> Answer {
    tracing::info!(authority = %authority.name, id = %identity.id, "certificate issued");
    Answer::created(json!({
        "Cert": BASE64_STANDARD.encode(certificate.to_pem()),
        "ServerInfo": info(authority),
    }))
}

pub(super) fn enroll(call: &Call) -> Result<Answer, Refusal> {
    let fields = call.fields()?;
    let authority = call.authority(&fields)?;
    let identity = auth::basic(&authority, &call.headers)?;
    let request = authority.prepare(&identity, &enrollment(&fields)?)?;
    let certificate = authority.enroll(&identity, &request)?;
    Ok(enrolled(&authority, &identity, &certificate))
}

pub(super) fn reenroll(call: &Call) -> Result<Answer, Refusal> {
    let fields = call.fields()?;
    let authority = call.authority(&fields)?;
    let identity = call.caller(&authority, Expiry::Grace)?.identity;
    let request = authority.prepare(&identity, &enrollment(&fields)?)?;
    Ok(enrolled(&authority, &identity, &authority.issue(&request)?))
}
