//! The event of each step: who did what, and who is to answer.

use selvedge_chaincode::{Context, Result, Timestamp};
use serde::Serialize;

use crate::model::{Action, Rfq, State, Step};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    id: &'a str,
    action: Action,
    offeror: &'a str,
    target: &'a str,
    by: &'a str,
    turn: Option<&'a str>,
    state: State,
    step: u32,
    at: Timestamp,
    tx_id: &'a str,
    item: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

fn name(action: Action) -> &'static str {
    match action {
        Action::Offer => "rfq.offered",
        Action::CounterOffer => "rfq.countered",
        Action::Accept | Action::Award => "rfq.accepted",
        Action::Reject => "rfq.rejected",
    }
}

/// Sets the transaction's event.
pub(crate) fn emit(ctx: &Context<'_>, rfq: &Rfq, step: &Step) -> Result<()> {
    let payload = Payload {
        id: &rfq.id,
        action: step.action,
        offeror: &rfq.offeror,
        target: &rfq.target,
        by: &step.by,
        turn: rfq.turn.as_deref(),
        state: rfq.state,
        step: step.step,
        at: step.at,
        tx_id: &step.tx_id,
        item: &rfq.item,
        note: step.note.as_deref(),
    };
    ctx.set_json_event(name(step.action), &payload)
}
