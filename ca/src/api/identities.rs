//! `register` and `identities`.

use serde_json::{Value, json};

use super::body::Fields;
use super::pages::Pages;
use super::{Answer, Call};
use crate::attributes::{REGISTRAR_ROLES, allows_role, is_registrar};
use crate::auth::Expiry;
use crate::authority::{Authority, IdentityChange, RegistrationRequest};
use crate::error::Refusal;
use crate::registry::{Attribute, Identity};

/// Identities read from the registry at a time.
const PAGE: u32 = 200;

fn attributes(fields: &Fields) -> Result<Vec<Attribute>, Refusal> {
    fields
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
        .collect()
}

/// An identity as callers see it: without its secret's hash.
pub(super) fn shown(identity: &Identity) -> Value {
    json!({
        "id": identity.id,
        "type": identity.kind,
        "affiliation": identity.affiliation,
        "attrs": identity.attributes,
        "max_enrollments": identity.max_enrollments,
    })
}

fn answered(authority: &Authority, identity: &Identity, secret: Option<&str>) -> Value {
    let mut value = shown(identity);
    value["caname"] = Value::from(authority.name.as_str());
    if let Some(secret) = secret {
        value["secret"] = Value::from(secret);
    }
    value
}

fn registered(call: &Call) -> Result<(std::sync::Arc<Authority>, Identity, String), Refusal> {
    let fields = call.fields()?;
    let authority = call.authority(&fields)?;
    let registrar = call.caller(&authority, Expiry::Strict)?.identity;
    let request = RegistrationRequest {
        id: fields.text("id")?,
        kind: fields.text("type")?,
        affiliation: fields.text("affiliation")?,
        attributes: attributes(&fields)?,
        secret: fields.text("secret")?,
        max_enrollments: fields.number("max_enrollments")?,
    };
    let (identity, secret) = authority.register(&registrar, request)?;
    tracing::info!(authority = %authority.name, id = %identity.id, by = %registrar.id, "identity registered");
    Ok((authority, identity, secret))
}

pub(super) fn register(call: &Call) -> Result<Answer, Refusal> {
    let (_, identity, secret) = registered(call)?;
    let answer = Answer::created(json!({ "secret": secret }));
    Ok(answer.at(format!("/api/v1/identities/{}", identity.id)))
}

pub(super) fn create(call: &Call) -> Result<Answer, Refusal> {
    let (authority, identity, secret) = registered(call)?;
    Ok(Answer::created(answered(&authority, &identity, Some(&secret))))
}

pub(super) fn list(call: &Call) -> Result<Answer, Refusal> {
    let authority = call.authority(&Fields::default())?;
    let caller = call.caller(&authority, Expiry::Strict)?.identity;
    if !is_registrar(&caller) {
        return Err(Refusal::authorization(format!(
            "{} is not a registrar",
            caller.id
        )));
    }
    let name = authority.name.clone();
    let mut last: Option<Identity> = None;
    Ok(Answer::pages(Pages::new("identities", name, move || {
        let found = authority
            .registry
            .identities_after(last.as_ref(), &caller.affiliation, PAGE)
            .map_err(|e| Refusal::internal(49, e))?;
        if found.is_empty() {
            return Ok(None);
        }
        let roles = caller.attribute(REGISTRAR_ROLES);
        let visible = found.iter().filter(|i| allows_role(roles, &i.kind));
        let page = visible.map(shown).collect();
        last = found.into_iter().next_back();
        Ok(Some(page))
    })))
}

pub(super) fn one(call: &Call) -> Result<Answer, Refusal> {
    let authority = call.authority(&Fields::default())?;
    let caller = call.caller(&authority, Expiry::Strict)?.identity;
    let identity = authority.visible(&caller, &call.named()?)?;
    Ok(Answer::ok(answered(&authority, &identity, None)))
}

pub(super) fn modify(call: &Call) -> Result<Answer, Refusal> {
    let fields = call.fields()?;
    let authority = call.authority(&fields)?;
    let caller = call.caller(&authority, Expiry::Strict)?.identity;
    let change = IdentityChange {
        kind: fields.text("type")?,
        affiliation: fields.text("affiliation")?,
        attributes: attributes(&fields)?,
        secret: fields.text("secret")?,
        max_enrollments: fields.number("max_enrollments")?,
    };
    let secret = change.secret.clone();
    let identity = authority.modify(&caller, &call.named()?, change)?;
    tracing::info!(authority = %authority.name, id = %identity.id, by = %caller.id, "identity changed");
    Ok(Answer::ok(answered(&authority, &identity, Some(&secret))))
}

pub(super) fn remove(call: &Call) -> Result<Answer, Refusal> {
    let authority = call.authority(&Fields::parse(&call.body)?)?;
    let caller = call.caller(&authority, Expiry::Strict)?.identity;
    let identity = authority.remove(&caller, &call.named()?, call.query()?.flag("force")?)?;
    tracing::info!(authority = %authority.name, id = %identity.id, by = %caller.id, "identity removed");
    Ok(Answer::ok(answered(&authority, &identity, None)))
}
