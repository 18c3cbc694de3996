//! The four steps of a negotiation.

use selvedge_chaincode::{Actor, Args, Context, Error, Response, Result};

pub(crate) use crate::input::first_changes;
use crate::input::{CounterOffer, Offer, note};
use crate::model::{Action, Change, Rfq, State, Step};
use crate::{events, keys};

/// Measuring is what devices are enrolled for; a stolen device key must not be able to agree to a price.
fn actor(ctx: &Context<'_>) -> Result<Actor> {
    Actor::person(ctx, "negotiate")
}

pub(crate) fn load(ctx: &Context<'_>, id: &str) -> Result<Rfq> {
    let unknown = || Error::not_found(format!("RFQ {id} is unknown"));
    if !selvedge_chaincode::json::is_id(id) {
        return Err(unknown());
    }
    ctx.get_json(&keys::rfq(id)?)?.ok_or_else(unknown)
}

/// Loads an RFQ that this caller may answer now.
fn load_for_answer(ctx: &Context<'_>, id: &str, actor: &Actor) -> Result<Rfq> {
    let rfq = load(ctx, id)?;
    if actor.msp_id != rfq.offeror && actor.msp_id != rfq.target {
        return Err(Error::forbidden(format!(
            "{} is not a party of RFQ {id}; only {} and {} may act on it",
            actor.msp_id, rfq.offeror, rfq.target
        )));
    }
    match &rfq.turn {
        None => Err(Error::conflict(format!(
            "RFQ {id} is already {}; nobody can answer it",
            rfq.state.as_str()
        ))),
        Some(turn) if *turn != actor.msp_id => Err(Error::conflict(format!(
            "it is not the turn of {} in RFQ {id}, but of {turn}",
            actor.msp_id
        ))),
        Some(_) => Ok(rfq),
    }
}

/// Writes the RFQ, its new step, and its entries in the parties' lists.
pub(crate) fn write_step(
    ctx: &Context<'_>,
    mut rfq: Rfq,
    actor: &Actor,
    action: Action,
    changes: Vec<Change>,
    note: Option<String>,
) -> Result<(Rfq, Step)> {
    rfq.steps += 1;
    rfq.updated_at = ctx.timestamp()?;
    let step = Step {
        step: rfq.steps,
        action,
        by: actor.msp_id.clone(),
        user: actor.user.clone(),
        at: rfq.updated_at,
        tx_id: ctx.tx_id()?,
        changes,
        note,
    };
    ctx.put_json(&keys::rfq(&rfq.id)?, &rfq)?;
    ctx.put_json(&keys::step(&rfq.id, step.step)?, &step)?;
    if action != Action::CounterOffer {
        for party in [&rfq.offeror, &rfq.target] {
            ctx.put_state(&keys::party(party, &rfq.id)?, rfq.state.as_str().as_bytes())?;
        }
    }
    Ok((rfq, step))
}

/// Writes a step, sets the event, and answers with the RFQ.
fn save(
    ctx: &Context<'_>,
    rfq: Rfq,
    actor: &Actor,
    action: Action,
    changes: Vec<Change>,
    note: Option<String>,
) -> Result<Response> {
    let (rfq, step) = write_step(ctx, rfq, actor, action, changes, note)?;
    events::emit(ctx, &rfq, &step)?;
    Response::json(&rfq)
}

pub(crate) fn offer(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = actor(ctx)?;
    let offer = Offer::read(args.object(0)?)?;
    if offer.target == actor.msp_id {
        return Err(Error::bad_request(
            "offer.target must be the other party's MSP id, not your own",
        ));
    }
    let id = match &offer.id {
        Some(id) => id.clone(),
        None => format!("rfq-{}", ctx.tx_id()?.get(..20).unwrap_or_default()),
    };
    if ctx.get_state(&keys::rfq(&id)?)?.is_some() {
        return Err(Error::conflict(format!(
            "there is already an RFQ {id}; choose another id"
        )));
    }
    let now = ctx.timestamp()?;
    let rfq = Rfq {
        id,
        state: State::Open,
        offeror: actor.msp_id.clone(),
        turn: Some(offer.target.clone()),
        target: offer.target,
        item: offer.subjects.item,
        price: offer.subjects.price,
        quantity: offer.subjects.quantity,
        currency: offer.subjects.currency,
        conditions: offer.conditions,
        terms: offer.subjects.terms,
        tender: None,
        steps: 0,
        created_at: now,
        updated_at: now,
    };
    let changes = first_changes(&rfq);
    save(ctx, rfq, &actor, Action::Offer, changes, offer.note)
}

pub(crate) fn counter_offer(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = actor(ctx)?;
    let counter = CounterOffer::read(args.object(0)?)?;
    let mut rfq = load_for_answer(ctx, &counter.id, &actor)?;
    let changes = counter.apply(&mut rfq)?;
    rfq.turn = Some(rfq.other(&actor.msp_id).to_owned());
    save(ctx, rfq, &actor, Action::CounterOffer, changes, counter.note)
}

fn close(ctx: &Context<'_>, args: &Args, action: Action, state: State) -> Result<Response> {
    let actor = actor(ctx)?;
    let text = args.object_or(0, "id")?;
    let mut object = text.object()?;
    let id = object.require("id")?.id()?;
    let note = note(&mut object)?;
    object.finish()?;
    let mut rfq = load_for_answer(ctx, &id, &actor)?;
    rfq.state = state;
    rfq.turn = None;
    save(ctx, rfq, &actor, action, Vec::new(), note)
}

pub(crate) fn accept(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    close(ctx, args, Action::Accept, State::Accepted)
}

pub(crate) fn reject(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    close(ctx, args, Action::Reject, State::Rejected)
}
