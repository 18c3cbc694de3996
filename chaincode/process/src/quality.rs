//! What quality decides: taking a product out, letting it go on, throwing it away.

use selvedge_chaincode::{Actor, Args, Context, Error, Response, Result, note};

use crate::access::{load_product, may_work, require_quality, route_of};
use crate::input::{optional_place, product_id, reason};
use crate::model::{Action, Place, Product, State};
use crate::steps::{Change, apply, save, whereabouts};
use crate::{events, view};

/// Applies a decision, writes it and answers with the product.
fn decide(
    ctx: &Context<'_>,
    mut product: Product,
    actor: &Actor,
    change: Change,
    reason: Option<String>,
) -> Result<Response> {
    let waited_at: Option<Place> = product.place.clone().filter(|_| product.state == State::Waiting);
    let entry = apply(ctx, &mut product, actor, change)?;
    product.reason = reason;
    save(ctx, waited_at.as_ref(), &product, &entry)?;
    events::changed(ctx, &product, &entry)?;
    Response::json(&view::product(&product, view::View::InHouse))
}

/// A product that waits is set aside by who works there or by quality; one that is finished, by quality alone.
pub(crate) fn set_aside(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = Actor::of(ctx)?;
    let (id, reason) = reason(args.object(0)?)?;
    let product = load_product(ctx, &id)?;
    let route = route_of(ctx, &product)?;
    let works_there = product.state == State::Waiting
        && product
            .place
            .as_ref()
            .and_then(|place| route.operation(place))
            .is_some_and(|operation| may_work(&route, operation, &actor));
    if !works_there {
        require_quality(&route, &actor, "set aside")?;
    }
    if !matches!(product.state, State::Waiting | State::Finished) {
        return Err(Error::conflict(format!(
            "{}; it cannot be set aside",
            whereabouts(&product)
        )));
    }
    let change = Change {
        action: Action::SetAside,
        result: None,
        state: State::SetAside,
        next: None,
        note: Some(reason.clone()),
    };
    decide(ctx, product, &actor, change, Some(reason))
}

/// A product goes on at the place that quality names; without one, where it was, or back to the finished ones.
pub(crate) fn release(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = Actor::of(ctx)?;
    let mut object = args.object(0)?;
    let id = product_id(&object.require("product")?)?;
    let place = optional_place(&mut object)?;
    let note = note(&mut object)?;
    object.finish()?;
    let product = load_product(ctx, &id)?;
    let route = route_of(ctx, &product)?;
    require_quality(&route, &actor, "release")?;
    if product.state != State::SetAside {
        return Err(Error::conflict(format!(
            "{}; only a product that is set aside can be released",
            whereabouts(&product)
        )));
    }
    if let Some(place) = place.as_ref().filter(|place| route.operation(place).is_none()) {
        return Err(Error::bad_request(format!(
            "request.station: route {} has no {place}",
            route.id
        )));
    }
    let next = place.or_else(|| product.place.clone());
    let state = if next.is_some() {
        State::Waiting
    } else {
        State::Finished
    };
    let change = Change {
        action: Action::Release,
        result: None,
        state,
        next,
        note,
    };
    decide(ctx, product, &actor, change, None)
}

pub(crate) fn scrap(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = Actor::of(ctx)?;
    let (id, reason) = reason(args.object(0)?)?;
    let product = load_product(ctx, &id)?;
    let route = route_of(ctx, &product)?;
    require_quality(&route, &actor, "scrap")?;
    if matches!(product.state, State::BuiltIn | State::Scrapped) {
        return Err(Error::conflict(format!(
            "{}; it cannot be scrapped",
            whereabouts(&product)
        )));
    }
    let change = Change {
        action: Action::Scrap,
        result: None,
        state: State::Scrapped,
        next: None,
        note: Some(reason.clone()),
    };
    decide(ctx, product, &actor, change, Some(reason))
}
