//! Where a deal stands, worked out from what the parties have said.

use std::collections::BTreeMap;

use selvedge_chaincode::{Args, Context, Decimal, Error, Response, Result, Timestamp, decode_state};
use serde::Serialize;

use super::model::{DealStep, Milestone, Plan, Progress, Proposal, Reached};
use crate::functions::load;
use crate::keys;
use crate::model::{Rfq, State};

/// Everything that decides where a deal stands, each read by its own key.
pub(super) struct Standing {
    pub(super) plan: Plan,
    progress: BTreeMap<String, Reached>,
    finished: BTreeMap<String, Timestamp>,
}

impl Standing {
    pub(super) fn read(ctx: &Context<'_>, rfq: &Rfq) -> Result<Self> {
        let plan: Plan = ctx.get_json(&keys::deal(&rfq.id)?)?.unwrap_or_default();
        let mut progress = BTreeMap::new();
        for milestone in &plan.milestones {
            if let Some(reached) = ctx.get_json(&keys::milestone(&rfq.id, &milestone.id)?)? {
                progress.insert(milestone.id.clone(), reached);
            }
        }
        let mut finished = BTreeMap::new();
        for party in [&rfq.offeror, &rfq.target] {
            if let Some(at) = ctx.get_json(&keys::deal_finish(&rfq.id, party)?)? {
                finished.insert(party.clone(), at);
            }
        }
        Ok(Self {
            plan,
            progress,
            finished,
        })
    }

    pub(super) fn progress_of(&self, milestone: &str) -> Reached {
        self.progress.get(milestone).cloned().unwrap_or_default()
    }

    pub(super) fn set_progress(&mut self, milestone: &str, reached: Reached) {
        self.progress.insert(milestone.to_owned(), reached);
    }

    pub(super) fn says_finished(&self, party: &str) -> bool {
        self.finished.contains_key(party)
    }

    pub(super) fn set_finished(&mut self, party: &str, at: Timestamp) {
        self.finished.insert(party.to_owned(), at);
    }

    /// When the deal was finished: by both parties' word, or by the last milestone's confirmation.
    pub(super) fn finished_at(&self, rfq: &Rfq) -> Option<Timestamp> {
        let said = self
            .finished
            .get(&rfq.offeror)
            .zip(self.finished.get(&rfq.target))
            .map(|(one, other)| *one.max(other));
        let mut last = None;
        for milestone in &self.plan.milestones {
            let reached = self
                .progress
                .get(&milestone.id)
                .filter(|reached| reached.state == Progress::Confirmed);
            match reached {
                Some(reached) => last = last.max(reached.confirmed_at),
                None => return said,
            }
        }
        match (said, last) {
            (Some(said), Some(last)) => Some(said.min(last)),
            (said, last) => said.or(last),
        }
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    milestone: &'a Milestone,
    #[serde(flatten)]
    reached: Reached,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Deal<'a> {
    id: &'a str,
    offeror: &'a str,
    target: &'a str,
    item: &'a str,
    price: &'a Decimal,
    quantity: &'a Decimal,
    currency: &'a str,
    accepted_at: Timestamp,
    milestones: Vec<Listed<'a>>,
    proposal: Option<&'a Proposal>,
    finish_agreed_by: Vec<&'a str>,
    finished: bool,
    finished_at: Option<Timestamp>,
    history: Vec<DealStep>,
}

/// Answers with the deal. `new` is the entry of this very transaction, which reading does not show.
pub(super) fn respond(
    ctx: &Context<'_>,
    rfq: &Rfq,
    standing: &Standing,
    new: Option<DealStep>,
) -> Result<Response> {
    let mut history = Vec::new();
    // Submitting functions answer without the history: reading the range would let any two of them conflict.
    if new.is_none() {
        for entry in ctx.composite_range(keys::DEAL_STEP, &[&rfq.id])? {
            let (key, value) = entry?;
            history.push(decode_state::<DealStep>(&key, &value)?);
        }
    }
    history.extend(new);
    history.sort_by(|one, other| (one.at, &one.tx_id).cmp(&(other.at, &other.tx_id)));
    let finished_at = standing.finished_at(rfq);
    let listed = |milestone| Listed {
        milestone,
        reached: standing.progress_of(&milestone.id),
    };
    Response::json(&Deal {
        id: &rfq.id,
        offeror: &rfq.offeror,
        target: &rfq.target,
        item: &rfq.item,
        price: &rfq.price,
        quantity: &rfq.quantity,
        currency: &rfq.currency,
        accepted_at: rfq.updated_at,
        milestones: standing.plan.milestones.iter().map(listed).collect(),
        proposal: standing.plan.proposal.as_ref(),
        finish_agreed_by: standing.finished.keys().map(String::as_str).collect(),
        finished: finished_at.is_some(),
        finished_at,
        history,
    })
}

pub(crate) fn deal(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let rfq = load(ctx, &args.id(0, "id")?)?;
    if rfq.state != State::Accepted {
        return Err(Error::conflict(format!(
            "RFQ {} is {}; only an accepted one is a deal",
            rfq.id,
            rfq.state.as_str()
        )));
    }
    respond(ctx, &rfq, &Standing::read(ctx, &rfq)?, None)
}
