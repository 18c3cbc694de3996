//! Names and payload of the events.

use selvedge_chaincode::{Context, Result, Timestamp};
use serde::Serialize;

use crate::model::Rating;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    id: &'a str,
    organization: &'a str,
    by: &'a str,
    score: u32,
    at: Timestamp,
    tx_id: String,
}

/// Sets the transaction's event.
pub(crate) fn emit(ctx: &Context<'_>, name: &str, rating: &Rating) -> Result<()> {
    ctx.set_json_event(
        name,
        &Payload {
            id: &rating.id,
            organization: &rating.organization,
            by: &rating.by,
            score: rating.score,
            at: ctx.timestamp()?,
            tx_id: ctx.tx_id()?,
        },
    )
}
