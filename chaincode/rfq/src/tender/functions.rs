//! The steps of a tender.

use selvedge_chaincode::json::is_id;
use selvedge_chaincode::{Actor, Args, Context, Error, Response, Result};

use super::events;
use super::input::{SentTender, half, offer};
use super::model::{Answer, AnswerState, Tender, TenderAction, TenderState, TenderStep};
use super::queries::respond;
use super::seal::{check_commitment, check_salt, commitment};
use crate::input::note;
use crate::model::{Action, Rfq, State};
use crate::{functions, keys};

fn person(ctx: &Context<'_>) -> Result<Actor> {
    Actor::person(ctx, "negotiate")
}

pub(super) fn load(ctx: &Context<'_>, id: &str) -> Result<Tender> {
    let unknown = || Error::not_found(format!("tender {id} is unknown"));
    if !is_id(id) {
        return Err(unknown());
    }
    ctx.get_json(&keys::tender(id)?)?.ok_or_else(unknown)
}

pub(super) fn answer(ctx: &Context<'_>, tender: &str, supplier: &str) -> Result<Answer> {
    let stored = ctx.get_json(&keys::answer(tender, supplier)?)?;
    Ok(stored.unwrap_or_else(|| Answer::none(supplier)))
}

pub(super) fn answers(ctx: &Context<'_>, tender: &Tender) -> Result<Vec<Answer>> {
    tender
        .suppliers
        .iter()
        .map(|supplier| answer(ctx, &tender.id, supplier))
        .collect()
}

/// True when a party has said that the phase which is under way is over.
pub(super) fn agreed_to_close(ctx: &Context<'_>, tender: &Tender, msp_id: &str) -> Result<bool> {
    let key = keys::closing(&tender.id, tender.state.as_str(), msp_id)?;
    Ok(ctx.get_state(&key)?.is_some())
}

fn require_supplier(tender: &Tender, actor: &Actor) -> Result<()> {
    if tender.suppliers.contains(&actor.msp_id) {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "{} is not invited to tender {}; only {} may offer",
        actor.msp_id,
        tender.id,
        tender.suppliers.join(", ")
    )))
}

fn require_buyer(tender: &Tender, actor: &Actor, what: &str) -> Result<()> {
    if tender.buyer == actor.msp_id {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "{} is not the buyer of tender {}; only {} may {what} it",
        actor.msp_id, tender.id, tender.buyer
    )))
}

fn require_open(tender: &Tender) -> Result<()> {
    match tender.state {
        TenderState::Open => Ok(()),
        TenderState::Cancelled => Err(Error::conflict(format!("tender {} is cancelled", tender.id))),
        _ => Err(Error::conflict(format!(
            "bidding of tender {} is closed",
            tender.id
        ))),
    }
}

/// Writes the entry of the history and the event.
fn record(
    ctx: &Context<'_>,
    tender: &Tender,
    actor: &Actor,
    action: TenderAction,
    details: (Option<String>, Option<String>, Option<String>),
) -> Result<()> {
    let (supplier, commitment, note) = details;
    let step = TenderStep {
        action,
        by: actor.msp_id.clone(),
        user: actor.user.clone(),
        at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
        supplier,
        commitment,
        note,
    };
    ctx.put_json(&keys::tender_step(&tender.id, &step.tx_id)?, &step)?;
    events::emit(ctx, tender, &step)
}

/// Writes the tender, and its state into the lists of its parties.
fn save(ctx: &Context<'_>, tender: &mut Tender) -> Result<()> {
    tender.updated_at = ctx.timestamp()?;
    ctx.put_json(&keys::tender(&tender.id)?, tender)?;
    let parties = std::iter::once(&tender.buyer).chain(&tender.suppliers);
    for party in parties {
        ctx.put_state(
            &keys::tender_party(party, &tender.id)?,
            tender.state.as_str().as_bytes(),
        )?;
    }
    Ok(())
}

/// Reads a tender's id, or `{"tender","note"?}`.
fn id_and_note(args: &Args) -> Result<(String, Option<String>)> {
    let text = args.object_or(0, "tender")?;
    let mut object = text.object()?;
    let id = object.require("tender")?.id()?;
    let note = note(&mut object)?;
    object.finish()?;
    Ok((id, note))
}

pub(crate) fn open(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = person(ctx)?;
    let sent = SentTender::read(args.object(0)?, &actor.msp_id)?;
    let id = match sent.id {
        Some(id) => id,
        None => format!("tnd-{}", ctx.tx_id()?.get(..20).unwrap_or_default()),
    };
    if ctx.get_state(&keys::tender(&id)?)?.is_some() {
        return Err(Error::conflict(format!(
            "there is already a tender {id}; choose another id"
        )));
    }
    let now = ctx.timestamp()?;
    let mut tender = Tender {
        id,
        state: TenderState::Open,
        buyer: actor.msp_id.clone(),
        item: sent.item,
        quantity: sent.quantity,
        currency: sent.currency,
        conditions: sent.conditions,
        terms: sent.terms,
        criteria: sent.criteria,
        deadline: sent.deadline,
        reveal_by: sent.reveal_by,
        quorum: sent.quorum,
        suppliers: sent.suppliers,
        awarded: None,
        rfq: None,
        created_at: now,
        updated_at: now,
    };
    save(ctx, &mut tender)?;
    record(
        ctx,
        &tender,
        &actor,
        TenderAction::Opened,
        (None, None, sent.note),
    )?;
    let unanswered: Vec<Answer> = tender.suppliers.iter().map(|id| Answer::none(id)).collect();
    respond(ctx, &tender, &unanswered, None)
}

/// A supplier who has said that bidding is over cannot go on bidding.
fn require_still_bidding(ctx: &Context<'_>, tender: &Tender, actor: &Actor) -> Result<()> {
    if agreed_to_close(ctx, tender, &actor.msp_id)? {
        return Err(Error::conflict(format!(
            "{} has agreed that bidding of tender {} is over",
            actor.msp_id, tender.id
        )));
    }
    Ok(())
}

pub(crate) fn seal_offer(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = person(ctx)?;
    let mut object = args.object(0)?;
    let id = object.require("tender")?.id()?;
    let field = object.require("commitment")?;
    let seal = field.name(64)?;
    check_commitment(&seal, field.path())?;
    object.finish()?;
    let tender = load(ctx, &id)?;
    require_supplier(&tender, &actor)?;
    require_open(&tender)?;
    require_still_bidding(ctx, &tender, &actor)?;
    let mut answer = answer(ctx, &id, &actor.msp_id)?;
    answer.state = AnswerState::Sealed;
    answer.commitment = Some(seal.clone());
    answer.sealed_at = Some(ctx.timestamp()?);
    ctx.put_json(&keys::answer(&id, &actor.msp_id)?, &answer)?;
    let supplier = Some(actor.msp_id.clone());
    record(
        ctx,
        &tender,
        &actor,
        TenderAction::Sealed,
        (supplier, Some(seal), None),
    )?;
    Response::json(&answer)
}

pub(crate) fn decline(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = person(ctx)?;
    let (id, note) = id_and_note(args)?;
    let tender = load(ctx, &id)?;
    require_supplier(&tender, &actor)?;
    require_open(&tender)?;
    require_still_bidding(ctx, &tender, &actor)?;
    let mut answer = answer(ctx, &id, &actor.msp_id)?;
    if answer.state == AnswerState::Declined {
        return Err(Error::conflict(format!(
            "{} has already declined tender {id}",
            actor.msp_id
        )));
    }
    answer.state = AnswerState::Declined;
    answer.commitment = None;
    answer.sealed_at = None;
    ctx.put_json(&keys::answer(&id, &actor.msp_id)?, &answer)?;
    let supplier = Some(actor.msp_id.clone());
    record(
        ctx,
        &tender,
        &actor,
        TenderAction::Declined,
        (supplier, None, note),
    )?;
    Response::json(&answer)
}

/// Whether the phase is over, when `actor` agrees on top of those who have.
fn is_over(ctx: &Context<'_>, tender: &Tender, answers: &[Answer], actor: &Actor) -> Result<bool> {
    let agrees = |msp_id: &str| -> Result<bool> {
        Ok(actor.msp_id == msp_id || agreed_to_close(ctx, tender, msp_id)?)
    };
    let bidding = tender.state == TenderState::Open;
    let (mut asked, mut agreeing, mut silent) = (0, 0, 0);
    for answer in answers {
        let counts = match answer.state {
            // Who has declined does not mind when bidding closes, and has no part in revealing.
            AnswerState::Declined => bidding,
            AnswerState::Invited => bidding,
            AnswerState::Sealed | AnswerState::Revealed => true,
        };
        if !counts {
            continue;
        }
        asked += 1;
        silent += usize::from(answer.state == AnswerState::Invited);
        agreeing += usize::from(answer.state == AnswerState::Declined || agrees(&answer.msp_id)?);
    }
    let enough = if bidding {
        silent == 0 || agreeing >= tender.quorum
    } else {
        agreeing >= half(asked)
    };
    Ok(agrees(&tender.buyer)? && enough)
}

/// A party says that the time for bidding, or for revealing, is over.
pub(crate) fn close(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = person(ctx)?;
    let (id, note) = id_and_note(args)?;
    let mut tender = load(ctx, &id)?;
    if tender.buyer != actor.msp_id && !tender.suppliers.contains(&actor.msp_id) {
        return Err(Error::forbidden(format!(
            "{} is not a party of tender {id}; only {} and {} may close it",
            actor.msp_id,
            tender.buyer,
            tender.suppliers.join(", ")
        )));
    }
    let (due, what) = match tender.state {
        TenderState::Open => (tender.deadline, "deadline"),
        TenderState::Revealing => (tender.reveal_by, "time for revealing"),
        other => {
            return Err(Error::conflict(format!(
                "tender {id} is {}; there is nothing to close",
                other.as_str()
            )));
        }
    };
    let now = ctx.timestamp()?;
    if let Some(due) = due.filter(|due| now < *due) {
        return Err(Error::conflict(format!(
            "the {what} of tender {id} is {due}, and this transaction is dated {now}"
        )));
    }
    let answers = answers(ctx, &tender)?;
    let over = is_over(ctx, &tender, &answers, &actor)?;
    if !over && agreed_to_close(ctx, &tender, &actor.msp_id)? {
        return Err(Error::conflict(format!(
            "{} has already agreed to close tender {id}; the others are still asked",
            actor.msp_id
        )));
    }
    ctx.put_state(&keys::closing(&id, tender.state.as_str(), &actor.msp_id)?, b"1")?;
    let action = match (over, tender.state) {
        (false, _) => TenderAction::Closing,
        (true, TenderState::Open) => TenderAction::Closed,
        (true, _) => TenderAction::RevealClosed,
    };
    if over {
        tender.state = if tender.state == TenderState::Open {
            TenderState::Revealing
        } else {
            TenderState::Revealed
        };
        save(ctx, &mut tender)?;
    }
    record(ctx, &tender, &actor, action, (None, None, note))?;
    respond(ctx, &tender, &answers, (!over).then_some(actor.msp_id.as_str()))
}

pub(crate) fn reveal(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = person(ctx)?;
    let (id, text, salt) = (args.text(0)?, args.text(1)?, args.text(2)?);
    check_salt(salt)?;
    let tender = load(ctx, id)?;
    require_supplier(&tender, &actor)?;
    match tender.state {
        TenderState::Revealing => {}
        TenderState::Open => {
            return Err(Error::conflict(format!(
                "bidding of tender {id} is still open; nothing is revealed before it is closed"
            )));
        }
        _ => return Err(Error::conflict(format!("revealing of tender {id} is over"))),
    }
    let mut answer = answer(ctx, id, &actor.msp_id)?;
    let sealed = match answer.state {
        AnswerState::Sealed => answer.commitment.clone(),
        AnswerState::Revealed => {
            return Err(Error::conflict(format!(
                "{} has already revealed its offer for tender {id}",
                actor.msp_id
            )));
        }
        AnswerState::Invited | AnswerState::Declined => None,
    };
    let Some(sealed) = sealed else {
        return Err(Error::conflict(format!(
            "{} has sealed no offer for tender {id}",
            actor.msp_id
        )));
    };
    if commitment(id, &actor.msp_id, salt, text) != sealed {
        return Err(Error::bad_request(format!(
            "the offer and salt do not give the commitment that {} has sealed for tender {id}; the offer must be the same to the byte",
            actor.msp_id
        )));
    }
    answer.offer = Some(offer(text, &tender)?);
    answer.state = AnswerState::Revealed;
    ctx.put_json(&keys::answer(id, &actor.msp_id)?, &answer)?;
    let supplier = Some(actor.msp_id.clone());
    record(
        ctx,
        &tender,
        &actor,
        TenderAction::Revealed,
        (supplier, None, None),
    )?;
    Response::json(&answer)
}

pub(crate) fn award(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = person(ctx)?;
    let mut object = args.object(0)?;
    let id = object.require("tender")?.id()?;
    let supplier = selvedge_chaincode::msp_id(&object.require("supplier")?)?;
    let rfq_id = object.optional("rfq").map(|field| field.id()).transpose()?;
    let note = note(&mut object)?;
    object.finish()?;
    let mut tender = load(ctx, &id)?;
    require_buyer(&tender, &actor, "award")?;
    match tender.state {
        TenderState::Revealing | TenderState::Revealed => {}
        TenderState::Open => {
            return Err(Error::conflict(format!(
                "bidding of tender {id} is still open; close it first"
            )));
        }
        other => {
            return Err(Error::conflict(format!(
                "tender {id} is already {}",
                other.as_str()
            )));
        }
    }
    let answers = answers(ctx, &tender)?;
    let still = answers.iter().find(|answer| answer.state == AnswerState::Sealed);
    if let Some(still) = still.filter(|_| tender.state == TenderState::Revealing) {
        return Err(Error::conflict(format!(
            "{} has sealed an offer for tender {id} and not revealed it; wait for it, or close revealing with the others",
            still.msp_id
        )));
    }
    let offer = answers
        .iter()
        .find(|answer| answer.msp_id == supplier)
        .and_then(|answer| answer.offer.clone())
        .ok_or_else(|| Error::conflict(format!("{supplier} has not revealed an offer for tender {id}")))?;
    let rfq_id = rfq_id.unwrap_or_else(|| id.clone());
    if ctx.get_state(&keys::rfq(&rfq_id)?)?.is_some() {
        return Err(Error::conflict(format!(
            "there is already an RFQ {rfq_id}; name another id as rfq"
        )));
    }
    let now = ctx.timestamp()?;
    let rfq = Rfq {
        id: rfq_id.clone(),
        state: State::Accepted,
        offeror: tender.buyer.clone(),
        target: supplier.clone(),
        turn: None,
        item: tender.item.clone(),
        price: offer.price,
        quantity: tender.quantity.clone(),
        currency: tender.currency.clone(),
        conditions: offer.conditions,
        terms: offer.terms,
        tender: Some(id.clone()),
        steps: 0,
        created_at: now,
        updated_at: now,
    };
    let changes = functions::first_changes(&rfq);
    functions::write_step(ctx, rfq, &actor, Action::Award, changes, note.clone())?;
    tender.state = TenderState::Awarded;
    tender.awarded = Some(supplier.clone());
    tender.rfq = Some(rfq_id);
    save(ctx, &mut tender)?;
    record(
        ctx,
        &tender,
        &actor,
        TenderAction::Awarded,
        (Some(supplier), None, note),
    )?;
    respond(ctx, &tender, &answers, None)
}

pub(crate) fn cancel(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = person(ctx)?;
    let (id, note) = id_and_note(args)?;
    let mut tender = load(ctx, &id)?;
    require_buyer(&tender, &actor, "cancel")?;
    if matches!(tender.state, TenderState::Awarded | TenderState::Cancelled) {
        return Err(Error::conflict(format!(
            "tender {id} is already {}",
            tender.state.as_str()
        )));
    }
    let answers = answers(ctx, &tender)?;
    tender.state = TenderState::Cancelled;
    save(ctx, &mut tender)?;
    record(ctx, &tender, &actor, TenderAction::Cancelled, (None, None, note))?;
    respond(ctx, &tender, &answers, None)
}
