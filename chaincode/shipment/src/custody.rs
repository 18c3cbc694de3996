//! The line of custody: who has the goods.

use selvedge_chaincode::{Args, Context, Error, Response, Result};

use crate::access::{Actor, actor, load, load_custody, require_party};
use crate::input::{msp_id, note};
use crate::model::{Custody, CustodyStep, PendingHandover, Shipment, Status};
use crate::{events, keys};

/// Steps that one line of custody may have; it is read as a whole.
const MAX_LINE: usize = 1000;

/// What every function here starts with.
struct Request {
    actor: Actor,
    shipment: Shipment,
    custody: Custody,
    to: Option<String>,
    note: Option<String>,
}

/// Reads `{"shipment","to"?,"note"?}` and loads the shipment, which must be on its way and the caller a party of it.
fn request(ctx: &Context<'_>, args: &Args, with_target: bool) -> Result<Request> {
    let actor = actor(ctx)?;
    let text = args.object_or(0, "shipment")?;
    let mut object = text.object()?;
    let id = object.require("shipment")?.id()?;
    let to = if with_target {
        Some(msp_id(&object.require("to")?)?)
    } else {
        None
    };
    let note = note(&mut object)?;
    object.finish()?;
    let shipment = load(ctx, &id)?;
    require_party(&shipment, &actor)?;
    let custody = load_custody(ctx, &id)?;
    if custody.status == Status::Delivered {
        return Err(Error::conflict(format!(
            "shipment {id} has been delivered; its custody does not change any more"
        )));
    }
    if custody.line.len() >= MAX_LINE {
        return Err(Error::conflict(format!(
            "the line of custody of shipment {id} has {MAX_LINE} steps and is full"
        )));
    }
    Ok(Request {
        actor,
        shipment,
        custody,
        to,
        note,
    })
}

impl Request {
    fn require_holder(&self) -> Result<()> {
        if self.actor.msp_id == self.custody.holder {
            return Ok(());
        }
        Err(Error::forbidden(format!(
            "shipment {} is held by {}, not by {}",
            self.shipment.id, self.custody.holder, self.actor.msp_id
        )))
    }

    /// The organisation to hand over to, checked.
    fn target(&mut self) -> Result<String> {
        let to = self.to.take().unwrap_or_default();
        if to == self.custody.holder {
            return Err(Error::bad_request(format!(
                "handover.to: {to} already holds shipment {}",
                self.shipment.id
            )));
        }
        if !self.shipment.is_party(&to) {
            return Err(Error::bad_request(format!(
                "handover.to: {to} is not a party of shipment {}; add it as a carrier with amend first",
                self.shipment.id
            )));
        }
        Ok(to)
    }

    fn take_pending(&mut self) -> Result<PendingHandover> {
        self.custody.pending.take().ok_or_else(|| {
            Error::conflict(format!(
                "no hand-over of shipment {} is waiting for an answer",
                self.shipment.id
            ))
        })
    }

    /// Passes custody and hands back who had it before.
    fn pass(&mut self, ctx: &Context<'_>, to: String, note: Option<String>) -> Result<String> {
        self.custody.line.push(CustodyStep {
            holder: to.clone(),
            by: self.actor.msp_id.clone(),
            user: self.actor.user.clone(),
            at: ctx.timestamp()?,
            tx_id: ctx.tx_id()?,
            note,
        });
        self.custody.pending = None;
        self.custody.status = if to == self.shipment.shipper {
            Status::Created
        } else {
            Status::InTransit
        };
        Ok(std::mem::replace(&mut self.custody.holder, to))
    }

    /// Writes the custody record, sets the event and answers with the record.
    fn save(&self, ctx: &Context<'_>, action: &str, from: &str, to: &str) -> Result<Response> {
        let id = &self.shipment.id;
        ctx.put_json(&keys::custody(id)?, &self.custody)?;
        events::custody(ctx, id, &self.custody, action, (from, to), &self.actor.msp_id)?;
        Response::json(&self.custody)
    }
}

/// First of two steps: the holder offers.
pub(crate) fn offer_handover(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut request = request(ctx, args, true)?;
    request.require_holder()?;
    let to = request.target()?;
    if let Some(pending) = &request.custody.pending {
        return Err(Error::conflict(format!(
            "a hand-over of shipment {} to {} is waiting; withdraw it with refuseHandover first",
            request.shipment.id, pending.to
        )));
    }
    let note = request.note.take();
    request.custody.pending = Some(PendingHandover {
        to: to.clone(),
        at: ctx.timestamp()?,
        note,
    });
    let from = request.custody.holder.clone();
    request.save(ctx, "offered", &from, &to)
}

/// Second of two steps: the new holder has the goods.
pub(crate) fn accept_handover(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut request = request(ctx, args, false)?;
    let pending = request.take_pending()?;
    if pending.to != request.actor.msp_id {
        return Err(Error::forbidden(format!(
            "the hand-over of shipment {} was offered to {}, not to {}",
            request.shipment.id, pending.to, request.actor.msp_id
        )));
    }
    let note = request.note.take().or(pending.note);
    let from = request.pass(ctx, pending.to.clone(), note)?;
    request.save(ctx, "accepted", &from, &pending.to)
}

/// The new holder does not take the goods, or the holder withdraws the offer.
pub(crate) fn refuse_handover(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut request = request(ctx, args, false)?;
    let pending = request.take_pending()?;
    let by_target = pending.to == request.actor.msp_id;
    if !by_target {
        request.require_holder()?;
    }
    let action = if by_target { "refused" } else { "withdrawn" };
    let from = request.custody.holder.clone();
    request.save(ctx, action, &from, &pending.to)
}

/// In one step, where the parties agreed to that when the shipment was created.
pub(crate) fn hand_over(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut request = request(ctx, args, true)?;
    request.require_holder()?;
    if !request.shipment.direct_handover {
        return Err(Error::conflict(format!(
            "shipment {} was not created with directHandover; use offerHandover, which the new holder accepts",
            request.shipment.id
        )));
    }
    let to = request.target()?;
    let note = request.note.take();
    let from = request.pass(ctx, to.clone(), note)?;
    request.save(ctx, "handedOver", &from, &to)
}

/// The goods are with the consignee: said by the consignee, or by the holder who brought them.
pub(crate) fn deliver(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut request = request(ctx, args, false)?;
    let consignee = request.shipment.consignee.clone();
    if request.actor.msp_id != consignee && request.actor.msp_id != request.custody.holder {
        return Err(Error::forbidden(format!(
            "only the holder {} and the consignee {consignee} may deliver shipment {}",
            request.custody.holder, request.shipment.id
        )));
    }
    let note = request.note.take();
    let from = request.pass(ctx, consignee.clone(), note)?;
    request.custody.status = Status::Delivered;
    request.custody.delivered_at = Some(ctx.timestamp()?);
    request.save(ctx, "delivered", &from, &consignee)
}
