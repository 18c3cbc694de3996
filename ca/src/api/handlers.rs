//! The endpoints (spec 06 §3).

use axum::http::StatusCode;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::api::body::Fields;
use crate::api::{Answer, Call};
use crate::auth;
use crate::authority::{AttributeRequest, Authority, EnrollmentRequest, RegistrationRequest};
use crate::error::Refusal;
use crate::registry::{Attribute, Identity};

fn query(call: &Call, name: &str) -> String {
    let pairs = call
        .uri
        .query()
        .unwrap_or("")
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    pairs
        .into_iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
        .unwrap_or_default()
}

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
    let named = Fields::parse(&call.body)?.text("caname")?;
    let name = if named.is_empty() {
        query(call, "ca")
    } else {
        named
    };
    let authority = call.authorities.find(&name)?;
    Ok(Answer {
        status: StatusCode::OK,
        result: info(&authority),
        location: None,
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
    })
}

fn enrolled(authority: &Authority, identity: &Identity, fields: &Fields) -> Result<Answer, Refusal> {
    let certificate = authority.issue(identity, &enrollment(fields)?)?;
    let result = json!({ "Cert": BASE64_STANDARD.encode(certificate), "ServerInfo": info(authority) });
    tracing::info!(authority = %authority.name, id = %identity.id, "certificate issued");
    Ok(Answer {
        status: StatusCode::CREATED,
        result,
        location: None,
    })
}

pub(super) fn enroll(call: &Call) -> Result<Answer, Refusal> {
    let fields = Fields::parse(&call.body)?;
    let authority = call.authorities.find(&fields.text("caname")?)?;
    let identity = auth::basic(&authority, &call.headers)?;
    enrolled(&authority, &identity, &fields)
}

/// The caller of everything but enroll and cainfo.
fn caller(call: &Call, authority: &Authority) -> Result<Identity, Refusal> {
    auth::token(
        authority,
        &call.headers,
        &call.method,
        call.request_uri(),
        &call.body,
    )
}

pub(super) fn reenroll(call: &Call) -> Result<Answer, Refusal> {
    let fields = Fields::parse(&call.body)?;
    let authority = call.authorities.find(&fields.text("caname")?)?;
    let identity = caller(call, &authority)?;
    enrolled(&authority, &identity, &fields)
}

pub(super) fn register(call: &Call) -> Result<Answer, Refusal> {
    let fields = Fields::parse(&call.body)?;
    let authority = call.authorities.find(&fields.text("caname")?)?;
    let registrar = caller(call, &authority)?;
    let attributes = fields
        .objects("attrs")?
        .unwrap_or_default()
        .iter()
        .map(|a| {
            Ok(Attribute {
                name: a.text("name")?,
                value: a.text("value")?,
                ecert: a.flag("ecert")?,
            })
        })
        .collect::<Result<Vec<_>, Refusal>>()?;
    let request = RegistrationRequest {
        id: fields.text("id")?,
        kind: fields.text("type")?,
        affiliation: fields.text("affiliation")?,
        attributes,
        secret: fields.text("secret")?,
        max_enrollments: fields.number("max_enrollments")?,
    };
    let id = request.id.clone();
    let secret = authority.register(&registrar, request)?;
    tracing::info!(authority = %authority.name, %id, by = %registrar.id, "identity registered");
    Ok(Answer {
        status: StatusCode::CREATED,
        result: json!({ "secret": secret }),
        location: Some(format!("/api/v1/identities/{id}")),
    })
}
