//! The event of each action.

use selvedge_chaincode::{Context, Result, Timestamp};
use serde::Serialize;

use super::model::{DealAction, DealStep};
use crate::model::Rfq;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    id: &'a str,
    action: DealAction,
    offeror: &'a str,
    target: &'a str,
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    milestone: Option<&'a str>,
    /// Whether the deal is finished with this transaction.
    finished: bool,
    at: Timestamp,
    tx_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

/// Sets the transaction's event; the one that finishes a deal is called so.
pub(crate) fn emit(ctx: &Context<'_>, rfq: &Rfq, step: &DealStep, finished: bool) -> Result<()> {
    let name = if finished {
        DealAction::Finished
    } else {
        step.action
    };
    ctx.set_json_event(
        name.event(),
        &Payload {
            id: &rfq.id,
            action: step.action,
            offeror: &rfq.offeror,
            target: &rfq.target,
            by: &step.by,
            milestone: step.milestone.as_deref(),
            finished,
            at: step.at,
            tx_id: &step.tx_id,
            note: step.note.as_deref(),
        },
    )
}
