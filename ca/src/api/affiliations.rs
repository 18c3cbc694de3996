//! `affiliations`.

use serde_json::{Value, json};

use super::body::Fields;
use super::identities::shown;
use super::{Answer, Call};
use crate::auth::Expiry;
use crate::authority::{AffiliationTree, Authority};
use crate::error::Refusal;
use crate::registry::Identity;

/// A tree with the identities that belong to each of its affiliations.
fn tree_value(tree: &AffiliationTree, identities: &[Identity]) -> Value {
    let own = identities.iter().filter(|i| i.affiliation == tree.name);
    json!({
        "name": tree.name,
        "affiliations": tree.children.iter().map(|c| tree_value(c, identities)).collect::<Vec<_>>(),
        "identities": own.map(shown).collect::<Vec<_>>(),
    })
}

fn answered(authority: &Authority, tree: &AffiliationTree, identities: &[Identity]) -> Value {
    let mut value = tree_value(tree, identities);
    value["caname"] = Value::from(authority.name.as_str());
    value
}

pub(super) fn list(call: &Call) -> Result<Answer, Refusal> {
    let authority = call.authority(&Fields::default())?;
    let caller = call.caller(&authority, Expiry::Strict)?.identity;
    let tree = authority.affiliations(&caller)?;
    Ok(Answer::ok(answered(&authority, &tree, &[])))
}

pub(super) fn one(call: &Call) -> Result<Answer, Refusal> {
    let authority = call.authority(&Fields::default())?;
    let caller = call.caller(&authority, Expiry::Strict)?.identity;
    let tree = authority.affiliation(&caller, &call.named()?)?;
    Ok(Answer::ok(answered(&authority, &tree, &[])))
}

pub(super) fn create(call: &Call) -> Result<Answer, Refusal> {
    let fields = call.fields()?;
    let authority = call.authority(&fields)?;
    let caller = call.caller(&authority, Expiry::Strict)?.identity;
    let name = fields.text("name")?;
    authority.create_affiliation(&caller, &name, call.query()?.flag("force")?)?;
    tracing::info!(authority = %authority.name, affiliation = %name, by = %caller.id, "affiliation added");
    let tree = AffiliationTree {
        name,
        children: Vec::new(),
    };
    Ok(Answer::created(answered(&authority, &tree, &[])))
}

pub(super) fn modify(call: &Call) -> Result<Answer, Refusal> {
    let fields = call.fields()?;
    let authority = call.authority(&fields)?;
    let caller = call.caller(&authority, Expiry::Strict)?.identity;
    let (old, new) = (call.named()?, fields.text("name")?);
    let force = call.query()?.flag("force")?;
    let (tree, moved) = authority.rename_affiliation(&caller, &old, &new, force)?;
    tracing::info!(authority = %authority.name, %old, %new, by = %caller.id, "affiliation renamed");
    Ok(Answer::ok(answered(&authority, &tree, &moved)))
}

pub(super) fn remove(call: &Call) -> Result<Answer, Refusal> {
    let authority = call.authority(&Fields::parse(&call.body)?)?;
    let caller = call.caller(&authority, Expiry::Strict)?.identity;
    let name = call.named()?;
    let (tree, gone) = authority.remove_affiliation(&caller, &name, call.query()?.flag("force")?)?;
    tracing::info!(authority = %authority.name, affiliation = %name, by = %caller.id, "affiliation removed");
    Ok(Answer::ok(answered(&authority, &tree, &gone)))
}
