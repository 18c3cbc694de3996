//! The event of each action.

use selvedge_chaincode::{Context, Result, Timestamp};
use serde::Serialize;

use crate::model::{Contribution, Person, State};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    id: &'a str,
    action: &'a str,
    title: &'a str,
    state: State,
    by: &'a str,
    user: &'a str,
    at: Timestamp,
    tx_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reward: Option<&'a str>,
}

/// Sets the transaction's event `ideas.<action>`.
pub(crate) fn emit(
    ctx: &Context<'_>,
    idea: &Contribution,
    state: State,
    action: &str,
    by: &Person,
    reward: Option<&str>,
) -> Result<()> {
    ctx.set_json_event(
        &format!("ideas.{action}"),
        &Payload {
            id: &idea.id,
            action,
            title: &idea.title,
            state,
            by: &by.msp_id,
            user: &by.user,
            at: ctx.timestamp()?,
            tx_id: ctx.tx_id()?,
            reward,
        },
    )
}
