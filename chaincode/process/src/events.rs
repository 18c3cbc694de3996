//! Names and payloads of the events. Events reach every member of the channel, so they tell no more than the public
//! view does, apart from station and task, by which the next one knows that something waits for him.

use selvedge_chaincode::{Actor, Context, Result, Timestamp};
use serde::Serialize;

use crate::model::{Action, Entry, Outcome, Place, Product, State};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Defined<'a> {
    id: &'a str,
    action: &'a str,
    by: &'a str,
    at: Timestamp,
    tx_id: String,
}

fn defined(ctx: &Context<'_>, name: &str, id: &str, action: &str, actor: &Actor) -> Result<()> {
    ctx.set_json_event(
        name,
        &Defined {
            id,
            action,
            by: &actor.msp_id,
            at: ctx.timestamp()?,
            tx_id: ctx.tx_id()?,
        },
    )
}

/// A route has a new version.
pub(crate) fn route(ctx: &Context<'_>, id: &str, actor: &Actor) -> Result<()> {
    defined(ctx, "process.route", id, "defined", actor)
}

/// An order was opened or closed.
pub(crate) fn order(ctx: &Context<'_>, id: &str, action: &str, actor: &Actor) -> Result<()> {
    defined(ctx, "process.order", id, action, actor)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Started<'a> {
    order: &'a str,
    products: &'a [String],
    count: usize,
    next: &'a Place,
    by: &'a str,
    at: Timestamp,
    tx_id: String,
}

/// Products came into being.
pub(crate) fn started(
    ctx: &Context<'_>,
    order: &str,
    products: &[String],
    next: &Place,
    actor: &Actor,
) -> Result<()> {
    ctx.set_json_event(
        "process.started",
        &Started {
            order,
            products,
            count: products.len(),
            next,
            by: &actor.msp_id,
            at: ctx.timestamp()?,
            tx_id: ctx.tx_id()?,
        },
    )
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed<'a> {
    product: &'a str,
    order: &'a str,
    action: Action,
    step: u32,
    #[serde(flatten)]
    place: Option<&'a Place>,
    result: Option<Outcome>,
    state: State,
    next: Option<&'a Place>,
    by: &'a str,
    at: Timestamp,
    tx_id: &'a str,
}

/// Something happened to a product.
pub(crate) fn changed(ctx: &Context<'_>, product: &Product, entry: &Entry) -> Result<()> {
    let name = match entry.action {
        Action::Start => "process.started",
        Action::Step => "process.step",
        Action::SetAside => "process.setAside",
        Action::Release => "process.released",
        Action::Scrap => "process.scrapped",
        Action::BuiltIn => "process.builtIn",
        Action::Removed => "process.removed",
    };
    ctx.set_json_event(
        name,
        &Changed {
            product: &product.id,
            order: &product.order,
            action: entry.action,
            step: entry.step,
            place: entry.place.as_ref(),
            result: entry.result,
            state: entry.state,
            next: entry.next.as_ref(),
            by: &entry.by,
            at: entry.at,
            tx_id: &entry.tx_id,
        },
    )
}
