//! The event of each action: never more than every member of the channel may know at that time.

use selvedge_chaincode::{Context, Result, Timestamp};
use serde::Serialize;

use super::model::{Tender, TenderAction, TenderState, TenderStep};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    id: &'a str,
    action: TenderAction,
    state: TenderState,
    buyer: &'a str,
    suppliers: &'a [String],
    by: &'a str,
    at: Timestamp,
    tx_id: &'a str,
    item: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rfq: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

/// Sets the transaction's event.
pub(crate) fn emit(ctx: &Context<'_>, tender: &Tender, step: &TenderStep) -> Result<()> {
    ctx.set_json_event(
        step.action.event(),
        &Payload {
            id: &tender.id,
            action: step.action,
            state: tender.state,
            buyer: &tender.buyer,
            suppliers: &tender.suppliers,
            by: &step.by,
            at: step.at,
            tx_id: &step.tx_id,
            item: &tender.item,
            supplier: step.supplier.as_deref(),
            rfq: tender.rfq.as_deref(),
            note: step.note.as_deref(),
        },
    )
}
