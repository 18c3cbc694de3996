//! Defining routes.

use selvedge_chaincode::{Actor, Args, Context, Error, Response, Result};

use crate::input::SentRoute;
use crate::model::Route;
use crate::{events, keys};

pub(crate) fn define(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = Actor::person(ctx, "define routes")?;
    let sent = SentRoute::read(args.object(0)?, &actor.msp_id)?;
    let before: Option<Route> = ctx.get_json(&keys::route(&sent.id)?)?;
    if let Some(before) = before.as_ref().filter(|before| before.owner != actor.msp_id) {
        return Err(Error::forbidden(format!(
            "route {} belongs to {}; only its people may change it",
            sent.id, before.owner
        )));
    }
    let version = before
        .as_ref()
        .map_or(0, |before| before.version)
        .saturating_add(1);
    let same = before.filter(|before| {
        before.organizations == sent.organizations
            && before.operations == sent.operations
            && before.quality == sent.quality
            && before.note == sent.note
    });
    // Sent again by a client that lost the answer.
    if let Some(same) = same {
        return Response::json(&same);
    }
    let route = Route {
        id: sent.id,
        version,
        owner: actor.msp_id.clone(),
        organizations: sent.organizations,
        operations: sent.operations,
        quality: sent.quality,
        user: actor.user.clone(),
        defined_at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
        note: sent.note,
    };
    ctx.put_json(&keys::route(&route.id)?, &route)?;
    ctx.put_json(&keys::route_version(&route.id, version)?, &route)?;
    events::route(ctx, &route.id, &actor)?;
    Response::json(&route)
}
