//! Reading ratings.

use selvedge_chaincode::{Args, Context, Error, Paging, Response, Result, decode_state, msp_id};
use serde::Serialize;

use crate::keys;
use crate::model::{Rating, RatingId, Reply};

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 500;

/// A rating with the reply to it.
#[derive(Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    pub(crate) rating: Rating,
    pub(crate) reply: Option<Reply>,
}

#[derive(Serialize)]
struct Ratings {
    ratings: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bookmark: Option<String>,
}

pub(crate) fn load(ctx: &Context<'_>, id: &str) -> Result<Rating> {
    ctx.get_json(&keys::rating(&RatingId::parse(id)?)?)?
        .ok_or_else(|| Error::not_found(format!("rating {id} is unknown")))
}

fn show(ctx: &Context<'_>, rating: Rating) -> Result<Shown> {
    Ok(Shown {
        reply: ctx.get_json(&keys::reply(&rating.id)?)?,
        rating,
    })
}

pub(crate) fn rating(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "rating")?;
    let mut object = text.object()?;
    let id = object.require("rating")?.name(1024)?;
    object.finish()?;
    Response::json(&show(ctx, load(ctx, &id)?)?)
}

pub(crate) fn ratings(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "organization")?;
    let mut object = text.object()?;
    let organization = msp_id(&object.require("organization")?)?;
    let until = object.optional("until").map(|field| field.time()).transpose()?;
    let paging = Paging::read(&mut object, DEFAULT_LIMIT, MAX_LIMIT)?;
    object.finish()?;
    let page = paging.collect(ctx, keys::RATING, &[&organization], |entry| {
        let rating: Rating = decode_state(entry.key, entry.value)?;
        if until.is_some_and(|until| rating.at > until) {
            return Ok(None);
        }
        let mut shown = show(ctx, rating)?;
        // A reply that came later is not part of how it was then.
        shown.reply = shown
            .reply
            .filter(|reply| until.is_none_or(|until| reply.at <= until));
        Ok(Some(shown))
    })?;
    Response::json(&Ratings {
        ratings: page.items,
        bookmark: page.bookmark,
    })
}

pub(crate) fn given(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "organization")?;
    let mut object = text.object()?;
    let organization = msp_id(&object.require("organization")?)?;
    let paging = Paging::read(&mut object, DEFAULT_LIMIT, MAX_LIMIT)?;
    object.finish()?;
    let page = paging.collect(ctx, keys::GIVEN, &[&organization], |entry| {
        let id = entry.rest.first().copied().unwrap_or_default();
        show(ctx, load(ctx, id)?).map(Some)
    })?;
    Response::json(&Ratings {
        ratings: page.items,
        bookmark: page.bookmark,
    })
}
