//! Loading what is on the ledger, and who may do what.

use selvedge_chaincode::{Actor, Context, Error, Result};

use crate::keys;
use crate::model::{Operation, Order, Product, Route, Rule};

pub(crate) fn load_route(ctx: &Context<'_>, id: &str) -> Result<Route> {
    ctx.get_json(&keys::route(id)?)?
        .ok_or_else(|| Error::not_found(format!("route {id} is unknown")))
}

pub(crate) fn load_route_version(ctx: &Context<'_>, id: &str, version: u32) -> Result<Route> {
    ctx.get_json(&keys::route_version(id, version)?)?
        .ok_or_else(|| Error::not_found(format!("route {id} has no version {version}")))
}

pub(crate) fn load_order(ctx: &Context<'_>, id: &str) -> Result<Order> {
    ctx.get_json(&keys::order(id)?)?
        .ok_or_else(|| Error::not_found(format!("order {id} is unknown")))
}

pub(crate) fn load_product(ctx: &Context<'_>, id: &str) -> Result<Product> {
    ctx.get_json(&keys::product(id)?)?
        .ok_or_else(|| Error::not_found(format!("product {id} is unknown")))
}

/// The route that a product follows.
pub(crate) fn route_of(ctx: &Context<'_>, product: &Product) -> Result<Route> {
    load_route_version(ctx, &product.route, product.route_version)
}

/// True when the actor may do an operation.
pub(crate) fn may_work(route: &Route, operation: &Operation, actor: &Actor) -> bool {
    if operation.allowed.is_empty() {
        return route.organizations.contains(&actor.msp_id);
    }
    operation
        .allowed
        .iter()
        .any(|rule| rule.fits(&route.organizations, actor))
}

/// True when the actor decides about products of this route.
pub(crate) fn is_quality(route: &Route, actor: &Actor) -> bool {
    if route.quality.is_empty() {
        return !actor.device && actor.msp_id == route.owner;
    }
    route
        .quality
        .iter()
        .any(|rule| rule.fits(&route.organizations, actor))
}

fn list(rules: &[Rule], otherwise: &str) -> String {
    if rules.is_empty() {
        return otherwise.to_owned();
    }
    let all: Vec<String> = rules.iter().map(Rule::to_string).collect();
    all.join("; ")
}

/// Refuses those who may not do an operation.
pub(crate) fn require_work(route: &Route, operation: &Operation, actor: &Actor) -> Result<()> {
    if may_work(route, operation, actor) {
        return Ok(());
    }
    let everybody = format!("members of {}", route.organizations.join(", "));
    Err(Error::forbidden(format!(
        "{} of {} may not do {}; allowed: {}",
        actor.user,
        actor.msp_id,
        operation.place,
        list(&operation.allowed, &everybody)
    )))
}

/// Refuses those who do not decide about products of this route.
pub(crate) fn require_quality(route: &Route, actor: &Actor, what: &str) -> Result<()> {
    if is_quality(route, actor) {
        return Ok(());
    }
    let owner = format!("people of {}", route.owner);
    Err(Error::forbidden(format!(
        "{} of {} may not {what} products of route {}; allowed: {}",
        actor.user,
        actor.msp_id,
        route.id,
        list(&route.quality, &owner)
    )))
}
