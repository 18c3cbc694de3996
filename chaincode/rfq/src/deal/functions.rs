//! What the parties of a deal do.

use selvedge_chaincode::{Actor, Args, Context, Error, Response, Result};

use super::model::{DealAction, DealStep, Milestone, Plan, Progress, Proposal, Reached};
use super::queries::{Standing, respond};
use super::{events, input};
use crate::functions::load;
use crate::input::note;
use crate::keys;
use crate::model::{Rfq, State};

/// A party of an accepted RFQ that is not finished.
struct Party {
    actor: Actor,
    rfq: Rfq,
    standing: Standing,
}

impl Party {
    fn of(ctx: &Context<'_>, id: &str) -> Result<Self> {
        let actor = Actor::person(ctx, "act on a deal")?;
        let rfq = load(ctx, id)?;
        if actor.msp_id != rfq.offeror && actor.msp_id != rfq.target {
            return Err(Error::forbidden(format!(
                "{} is not a party of RFQ {id}; only {} and {} may act on it",
                actor.msp_id, rfq.offeror, rfq.target
            )));
        }
        if rfq.state != State::Accepted {
            return Err(Error::conflict(format!(
                "RFQ {id} is {}; only an accepted one is a deal",
                rfq.state.as_str()
            )));
        }
        let standing = Standing::read(ctx, &rfq)?;
        if let Some(at) = standing.finished_at(&rfq) {
            return Err(Error::conflict(format!("RFQ {id} is finished since {at}")));
        }
        Ok(Self { actor, rfq, standing })
    }

    fn milestone(&self, id: &str) -> Result<(&Milestone, Reached)> {
        let found = self.standing.plan.milestones.iter().find(|m| m.id == id);
        let milestone = found.ok_or_else(|| {
            Error::not_found(format!(
                "the agreed plan of RFQ {} has no milestone {id}",
                self.rfq.id
            ))
        })?;
        Ok((milestone, self.standing.progress_of(id)))
    }

    /// Writes the entry of the history and the event; answers with the deal as it stands then.
    fn record(
        self,
        ctx: &Context<'_>,
        action: DealAction,
        milestone: Option<String>,
        note: Option<String>,
    ) -> Result<Response> {
        let step = DealStep {
            action,
            by: self.actor.msp_id,
            user: self.actor.user,
            at: ctx.timestamp()?,
            tx_id: ctx.tx_id()?,
            milestone,
            note,
        };
        ctx.put_json(&keys::deal_step(&self.rfq.id, &step.tx_id)?, &step)?;
        let finished = self.standing.finished_at(&self.rfq).is_some();
        events::emit(ctx, &self.rfq, &step, finished)?;
        respond(ctx, &self.rfq, &self.standing, Some(step))
    }
}

pub(crate) fn propose(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut object = args.object(0)?;
    let mut party = Party::of(ctx, &object.require("id")?.id()?)?;
    let milestones = input::milestones(&mut object, &party.rfq)?;
    let note = note(&mut object)?;
    object.finish()?;
    for old in &party.standing.plan.milestones {
        let begun = party.standing.progress_of(&old.id).state != Progress::Planned;
        if begun && !milestones.contains(old) {
            return Err(Error::conflict(format!(
                "milestone {} of RFQ {} has been reached already; a new plan has to keep it as it is",
                old.id, party.rfq.id
            )));
        }
    }
    party.standing.plan.proposal = Some(Proposal {
        by: party.actor.msp_id.clone(),
        milestones,
        at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
    });
    ctx.put_json(&keys::deal(&party.rfq.id)?, &party.standing.plan)?;
    party.record(ctx, DealAction::Proposed, None, note)
}

/// Agrees to the proposal that waits. With `proposal`, the transaction id of what was proposed, only to that one: the
/// other party could have sent another in the meantime.
pub(crate) fn agree(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "id")?;
    let mut object = text.object()?;
    let id = object.require("id")?.id()?;
    let meant = object.optional("proposal").map(|field| field.id()).transpose()?;
    let note = note(&mut object)?;
    object.finish()?;
    let mut party = Party::of(ctx, &id)?;
    let proposal = party
        .standing
        .plan
        .proposal
        .take()
        .ok_or_else(|| Error::conflict(format!("no milestones are proposed for RFQ {id}")))?;
    if proposal.by == party.actor.msp_id {
        return Err(Error::forbidden(format!(
            "{} has proposed these milestones itself; {} has to agree",
            proposal.by,
            party.rfq.other(&proposal.by)
        )));
    }
    if let Some(meant) = meant.filter(|meant| *meant != proposal.tx_id) {
        return Err(Error::conflict(format!(
            "the proposal of transaction {meant} has been replaced by that of transaction {}",
            proposal.tx_id
        )));
    }
    // A milestone may have been reached since the proposal was made.
    for old in &party.standing.plan.milestones {
        let begun = party.standing.progress_of(&old.id).state != Progress::Planned;
        if begun && !proposal.milestones.contains(old) {
            return Err(Error::conflict(format!(
                "milestone {} of RFQ {id} has been reached since; propose a plan that keeps it",
                old.id
            )));
        }
    }
    party.standing.plan = Plan {
        milestones: proposal.milestones,
        proposal: None,
    };
    ctx.put_json(&keys::deal(&id)?, &party.standing.plan)?;
    party.record(ctx, DealAction::Agreed, None, note)
}

pub(crate) fn reach(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut object = args.object(0)?;
    let id = object.require("id")?.id()?;
    let name = object.require("milestone")?.id()?;
    let evidence = input::evidence(&mut object)?;
    let note = note(&mut object)?;
    object.finish()?;
    let mut party = Party::of(ctx, &id)?;
    let (milestone, reached) = party.milestone(&name)?;
    if milestone.by != party.actor.msp_id {
        return Err(Error::forbidden(format!(
            "milestone {name} is {}'s to report",
            milestone.by
        )));
    }
    if reached.state != Progress::Planned {
        return Err(Error::conflict(format!(
            "milestone {name} of RFQ {id} has been reported already"
        )));
    }
    let reached = Reached {
        state: Progress::Reached,
        reached_at: Some(ctx.timestamp()?),
        confirmed_at: None,
        evidence,
    };
    ctx.put_json(&keys::milestone(&id, &name)?, &reached)?;
    party.standing.set_progress(&name, reached);
    party.record(ctx, DealAction::Reached, Some(name), note)
}

/// What confirming and refusing have in common: the other party judges what was reported.
fn judge(ctx: &Context<'_>, id: &str, name: &str) -> Result<(Party, Reached)> {
    let party = Party::of(ctx, id)?;
    let (milestone, reached) = party.milestone(name)?;
    if milestone.by == party.actor.msp_id {
        return Err(Error::forbidden(format!(
            "{} has reported milestone {name} itself or has to; {} has to confirm it",
            milestone.by,
            party.rfq.other(&milestone.by)
        )));
    }
    let wrong = match reached.state {
        Progress::Reached => return Ok((party, reached)),
        Progress::Planned => "has not been reported yet",
        Progress::Confirmed => "is confirmed already",
    };
    Err(Error::conflict(format!("milestone {name} of RFQ {id} {wrong}")))
}

pub(crate) fn confirm(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut object = args.object(0)?;
    let id = object.require("id")?.id()?;
    let name = object.require("milestone")?.id()?;
    let note = note(&mut object)?;
    object.finish()?;
    let (mut party, mut reached) = judge(ctx, &id, &name)?;
    reached.state = Progress::Confirmed;
    reached.confirmed_at = Some(ctx.timestamp()?);
    ctx.put_json(&keys::milestone(&id, &name)?, &reached)?;
    party.standing.set_progress(&name, reached);
    party.record(ctx, DealAction::Confirmed, Some(name), note)
}

pub(crate) fn refuse(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut object = args.object(0)?;
    let id = object.require("id")?.id()?;
    let name = object.require("milestone")?.id()?;
    let note = note(&mut object)?;
    object.finish()?;
    if note.is_none() {
        return Err(Error::bad_request(
            "request.note is missing: say what is not as agreed",
        ));
    }
    let (mut party, _) = judge(ctx, &id, &name)?;
    ctx.put_json(&keys::milestone(&id, &name)?, &Reached::default())?;
    party.standing.set_progress(&name, Reached::default());
    party.record(ctx, DealAction::Refused, Some(name), note)
}

pub(crate) fn finish(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "id")?;
    let mut object = text.object()?;
    let id = object.require("id")?.id()?;
    let note = note(&mut object)?;
    object.finish()?;
    let mut party = Party::of(ctx, &id)?;
    let own = party.actor.msp_id.clone();
    if party.standing.says_finished(&own) {
        return Err(Error::conflict(format!(
            "{own} has already said that RFQ {id} is finished; {} has not",
            party.rfq.other(&own)
        )));
    }
    let at = ctx.timestamp()?;
    ctx.put_json(&keys::deal_finish(&id, &own)?, &at)?;
    party.standing.set_finished(&own, at);
    party.record(ctx, DealAction::Finishing, None, note)
}
