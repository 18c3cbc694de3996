//! Rating a counterparty, and replying.

use std::collections::BTreeMap;

use selvedge_chaincode::json::{Field, Object, is_id};
use selvedge_chaincode::{Actor, Args, Context, Error, Response, Result, msp_id};

use crate::model::{Rating, RatingId, Reply, Source};
use crate::queries::{Shown, load};
use crate::{deals, events, keys};

const SCORES: std::ops::RangeInclusive<u64> = 1..=5;
const MAX_CRITERIA: usize = 16;
const MAX_COMMENT: usize = 4096;

fn score(field: &Field<'_>) -> Result<u32> {
    let score = field.integer()?;
    if !SCORES.contains(&score) {
        return Err(Error::bad_request(format!(
            "{} must be 1 to 5, not {score}",
            field.path()
        )));
    }
    Ok(u32::try_from(score).unwrap_or(0))
}

fn criteria(object: &mut Object<'_>) -> Result<BTreeMap<String, u32>> {
    let mut criteria = BTreeMap::new();
    let Some(field) = object.take("criteria") else {
        return Ok(criteria);
    };
    for (name, field) in field.object()?.rest() {
        if !is_id(&name) {
            return Err(Error::bad_request(format!(
                "{}: the name of a criterion consists of 1 to 64 letters, digits and . _ : -",
                field.path()
            )));
        }
        criteria.insert(name, score(&field)?);
    }
    if criteria.len() > MAX_CRITERIA {
        return Err(Error::bad_request(format!(
            "{} has {} criteria, at most {MAX_CRITERIA} are allowed",
            field.path(),
            criteria.len()
        )));
    }
    Ok(criteria)
}

/// The deal that is named, as source and id.
fn deal(object: &mut Object<'_>) -> Result<(Source, String)> {
    match (object.optional("rfq"), object.optional("shipment")) {
        (Some(rfq), None) => Ok((Source::Rfq, rfq.id()?)),
        (None, Some(shipment)) => Ok((Source::Shipment, shipment.id()?)),
        _ => Err(Error::bad_request("rating must name either an rfq or a shipment")),
    }
}

pub(crate) fn rate(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = Actor::person(ctx, "rate organizations")?;
    let mut object = args.object(0)?;
    let (source, id) = deal(&mut object)?;
    let chaincode = object.optional("chaincode").map(|field| field.id()).transpose()?;
    let chaincode = chaincode.unwrap_or_else(|| source.as_str().to_owned());
    let named = object
        .optional("organization")
        .map(|field| msp_id(&field))
        .transpose()?;
    let score = score(&object.require("score")?)?;
    let criteria = criteria(&mut object)?;
    let comment = object
        .optional("comment")
        .map(|field| field.text(MAX_COMMENT))
        .transpose()?;
    object.finish()?;
    let deal = deals::finished(ctx, source, &chaincode, &id)?;
    let title = deals::title(source, &id);
    let organization = counterparty(&deal.parties, &actor.msp_id, named, &title)?;
    let at = ctx.timestamp()?;
    if at < deal.finished_at {
        return Err(Error::conflict(format!(
            "{title} was finished at {}, and this transaction is dated {at}",
            deal.finished_at
        )));
    }
    let rating_id = RatingId {
        source,
        chaincode,
        deal: id,
        by: actor.msp_id,
        organization,
    };
    let key = keys::rating(&rating_id)?;
    if ctx.get_state(&key)?.is_some() {
        return Err(Error::conflict(format!(
            "{} has already rated {} for {title}",
            rating_id.by, rating_id.organization
        )));
    }
    let rating = Rating {
        id: rating_id.text(),
        source,
        chaincode: rating_id.chaincode,
        deal: rating_id.deal,
        organization: rating_id.organization,
        by: rating_id.by,
        user: actor.user,
        score,
        criteria,
        comment,
        at,
        tx_id: ctx.tx_id()?,
    };
    ctx.put_json(&key, &rating)?;
    ctx.put_state(&keys::given(&rating.by, &rating.id)?, b"1")?;
    events::emit(ctx, "reputation.rated", &rating)?;
    Response::json(&Shown { rating, reply: None })
}

/// The organisation that is rated: another party of the deal than the rater's own.
fn counterparty(parties: &[String], own: &str, named: Option<String>, title: &str) -> Result<String> {
    if !parties.iter().any(|party| party == own) {
        return Err(Error::forbidden(format!(
            "{own} is not a party of {title}; only {} may rate each other for it",
            parties.join(", ")
        )));
    }
    let others: Vec<&String> = parties.iter().filter(|party| *party != own).collect();
    match named {
        Some(named) if named == own => Err(Error::forbidden(format!(
            "an organisation cannot rate itself, whichever of its identities acts: you are of {own}"
        ))),
        Some(named) if others.contains(&&named) => Ok(named),
        Some(named) => Err(Error::forbidden(format!(
            "{named} is not a party of {title}; you can rate {}",
            join(&others)
        ))),
        None => match others.as_slice() {
            [only] => Ok((*only).clone()),
            [] => Err(Error::conflict(format!("{title} has no party besides {own}"))),
            _ => Err(Error::bad_request(format!(
                "rating.organization is missing: {title} has several counterparties, {}",
                join(&others)
            ))),
        },
    }
}

fn join(names: &[&String]) -> String {
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    names.join(", ")
}

pub(crate) fn reply(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = Actor::person(ctx, "reply to ratings")?;
    let mut object = args.object(0)?;
    let id = object.require("rating")?.name(1024)?;
    let text = object.require("text")?.text(MAX_COMMENT)?;
    object.finish()?;
    let rating = load(ctx, &id)?;
    if rating.organization != actor.msp_id {
        return Err(Error::forbidden(format!(
            "rating {id} is about {}; only its people may reply",
            rating.organization
        )));
    }
    let key = keys::reply(&rating.id)?;
    if ctx.get_state(&key)?.is_some() {
        return Err(Error::conflict(format!(
            "{} has already replied to rating {id}",
            actor.msp_id
        )));
    }
    let reply = Reply {
        text,
        user: actor.user,
        at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
    };
    ctx.put_json(&key, &reply)?;
    events::emit(ctx, "reputation.replied", &rating)?;
    Response::json(&Shown {
        rating,
        reply: Some(reply),
    })
}
