//! Work steps: accepted only where the product waits, and from who may work there.

use selvedge_chaincode::{Actor, Args, Context, Error, Response, Result};

use crate::access::{load_product, require_work, route_of};
use crate::input::SentStep;
use crate::model::{Action, Entry, Operation, Outcome, Place, Product, State};
use crate::{assembly, events, keys};

/// What changes a product, apart from the parts.
pub(crate) struct Change {
    pub(crate) action: Action,
    pub(crate) result: Option<Outcome>,
    pub(crate) state: State,
    /// Where it waits afterwards.
    pub(crate) next: Option<Place>,
    pub(crate) note: Option<String>,
}

/// Says where a product is, for those who thought that it is elsewhere.
pub(crate) fn whereabouts(product: &Product) -> String {
    let id = &product.id;
    match product.state {
        State::Waiting => match &product.place {
            Some(place) => format!(
                "product {id} waits at station {} for task {}",
                place.station, place.task
            ),
            None => format!("product {id} waits"),
        },
        State::SetAside => format!(
            "product {id} is set aside ({}); quality has to release it",
            product.reason.as_deref().unwrap_or("no reason given")
        ),
        State::Finished => format!("product {id} is finished"),
        State::BuiltIn => match &product.built_into {
            Some(into) => format!("product {id} is built into {}", into.product),
            None => format!("product {id} is built in"),
        },
        State::Scrapped => format!("product {id} is scrapped"),
    }
}

/// Applies a change to a product and makes the entry of its history; writes neither.
pub(crate) fn apply(
    ctx: &Context<'_>,
    product: &mut Product,
    actor: &Actor,
    change: Change,
) -> Result<Entry> {
    let before = product.place.clone();
    product.steps = product.steps.saturating_add(1);
    product.updated_at = ctx.timestamp()?;
    product.state = change.state;
    product.last_result = change.result.or(product.last_result);
    match change.state {
        State::Waiting => product.place.clone_from(&change.next),
        State::Finished | State::BuiltIn => product.place = None,
        State::SetAside | State::Scrapped => {}
    }
    Ok(Entry {
        step: product.steps,
        action: change.action,
        place: before,
        result: change.result,
        state: change.state,
        next: change.next,
        parts: Vec::new(),
        removed: Vec::new(),
        product: None,
        quality: None,
        by: actor.msp_id.clone(),
        user: Some(actor.user.clone()),
        device: actor.device,
        at: product.updated_at,
        tx_id: ctx.tx_id()?,
        note: change.note,
    })
}

/// Writes a product, the entry of its history, and its place in the waiting lists.
pub(crate) fn save(
    ctx: &Context<'_>,
    was_waiting_at: Option<&Place>,
    product: &Product,
    entry: &Entry,
) -> Result<()> {
    ctx.put_json(&keys::product(&product.id)?, product)?;
    ctx.put_json(&keys::entry(&product.id, entry.step)?, entry)?;
    let waits_at = product.place.as_ref().filter(|_| product.state == State::Waiting);
    if let Some(before) = was_waiting_at.filter(|before| Some(*before) != waits_at) {
        ctx.delete_state(&keys::waiting(before, &product.id)?)?;
    }
    match waits_at {
        Some(place) => ctx.put_state(&keys::waiting(place, &product.id)?, b"1"),
        None => Ok(()),
    }
}

/// Where the product goes after this step: a place, or a state in which it goes nowhere.
fn destination(operation: &Operation, sent: &SentStep) -> Result<(State, Option<Place>)> {
    let passed = sent.result == Outcome::Passed;
    let choices = if passed {
        &operation.next
    } else {
        &operation.rework
    };
    if sent.set_aside || choices.is_empty() {
        let state = if passed { State::Finished } else { State::SetAside };
        return match &sent.next {
            None => Ok((state, None)),
            Some(next) if passed => Err(Error::bad_request(format!(
                "step.next: {} ends the route, so the product cannot go on to {next}",
                operation.place
            ))),
            Some(next) => Err(Error::bad_request(format!(
                "step.next: the route has no rework after {}, so the product is set aside and cannot go to {next}",
                operation.place
            ))),
        };
    }
    let all = || {
        let all: Vec<String> = choices.iter().map(Place::to_string).collect();
        all.join(" or ")
    };
    match (&sent.next, choices.as_slice()) {
        (Some(next), _) if choices.contains(next) => Ok((State::Waiting, Some(next.clone()))),
        (Some(next), _) => Err(Error::bad_request(format!(
            "step.next: after {} a product that {} goes to {}, not to {next}",
            operation.place,
            if passed { "passed" } else { "failed" },
            all()
        ))),
        (None, [only]) => Ok((State::Waiting, Some(only.clone()))),
        (None, _) => Err(Error::bad_request(format!(
            "step.next is missing: after {} the product may go to {}",
            operation.place,
            all()
        ))),
    }
}

pub(crate) fn step(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = Actor::of(ctx)?;
    let sent = SentStep::read(args.object(0)?)?;
    let mut product = load_product(ctx, &sent.product)?;
    if product.state != State::Waiting || product.place.as_ref() != Some(&sent.place) {
        return Err(Error::conflict(format!(
            "{}, not at station {} for task {}",
            whereabouts(&product),
            sent.place.station,
            sent.place.task
        )));
    }
    let route = route_of(ctx, &product)?;
    let operation = route
        .operation(&sent.place)
        .ok_or_else(|| Error::internal(format!("route {} has no {}", route.id, sent.place)))?;
    require_work(&route, operation, &actor)?;
    let (state, next) = destination(operation, &sent)?;
    let change = Change {
        action: Action::Step,
        result: Some(sent.result),
        state,
        next,
        note: sent.note,
    };
    let mut entry = apply(ctx, &mut product, &actor, change)?;
    if state == State::SetAside {
        product.reason = entry.note.clone();
    }
    assembly::remove(ctx, &product, &entry, &actor, &sent.remove)?;
    assembly::build_in(ctx, &product, &entry, &actor, &sent.parts)?;
    entry.parts = sent.parts;
    entry.removed = sent.remove;
    entry.quality = sent.quality;
    save(ctx, Some(&sent.place), &product, &entry)?;
    events::changed(ctx, &product, &entry)?;
    Response::json(&crate::view::product(&product, crate::view::View::InHouse))
}
