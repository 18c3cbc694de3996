//! Reading: one tender with the answers, its history, and lists.

use selvedge_chaincode::{Args, Context, Error, Paging, Response, Result, Timestamp, decode_state, msp_id};
use serde::Serialize;
use serde_json::Value;

use super::functions::{agreed_to_close, answers, load};
use super::model::{Answer, AnswerState, Tender, TenderState, TenderStep};
use crate::keys;

const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 200;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Supplier<'a> {
    #[serde(flatten)]
    answer: &'a Answer,
    agreed_to_close: bool,
}

/// What is worked out from the answers; `suppliers` takes the place of the bare list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    suppliers: Vec<Supplier<'a>>,
    buyer_agreed_to_close: bool,
    ready_to_award: bool,
}

fn json(why: serde_json::Error) -> Error {
    Error::internal(format!("the tender has no JSON form: {why}"))
}

/// The tender with its answers. `agreeing` has agreed to close in this very transaction, which reading does not show.
fn whole(ctx: &Context<'_>, tender: &Tender, answers: &[Answer], agreeing: Option<&str>) -> Result<Value> {
    let agrees = |msp_id: &str| -> Result<bool> {
        Ok(agreeing == Some(msp_id) || agreed_to_close(ctx, tender, msp_id)?)
    };
    let any = |state| answers.iter().any(|answer| answer.state == state);
    let over = match tender.state {
        TenderState::Revealing => !any(AnswerState::Sealed),
        TenderState::Revealed => true,
        _ => false,
    };
    let mut suppliers = Vec::with_capacity(answers.len());
    for answer in answers {
        suppliers.push(Supplier {
            answer,
            agreed_to_close: agrees(&answer.msp_id)?,
        });
    }
    let details = Details {
        suppliers,
        buyer_agreed_to_close: agrees(&tender.buyer)?,
        ready_to_award: over && any(AnswerState::Revealed),
    };
    let mut value = serde_json::to_value(tender).map_err(json)?;
    if let (Some(fields), Value::Object(more)) = (
        value.as_object_mut(),
        serde_json::to_value(details).map_err(json)?,
    ) {
        fields.extend(more);
    }
    Ok(value)
}

/// What the public view has of a tender: that it exists, whose it is, and how far it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicTender<'a> {
    id: &'a str,
    state: TenderState,
    buyer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    view: &'static str,
}

/// The tender as the caller may see it.
fn seen(ctx: &Context<'_>, tender: &Tender, public: bool) -> Result<Value> {
    if !public {
        return whole(ctx, tender, &answers(ctx, tender)?, None);
    }
    serde_json::to_value(PublicTender {
        id: &tender.id,
        state: tender.state,
        buyer: &tender.buyer,
        deadline: tender.deadline,
        created_at: tender.created_at,
        updated_at: tender.updated_at,
        view: "public",
    })
    .map_err(json)
}

/// Answers with the tender as it stands after this transaction.
pub(super) fn respond(
    ctx: &Context<'_>,
    tender: &Tender,
    answers: &[Answer],
    agreeing: Option<&str>,
) -> Result<Response> {
    Response::json(&whole(ctx, tender, answers, agreeing)?)
}

pub(crate) fn tender(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let tender = load(ctx, &args.id(0, "tender")?)?;
    Response::json(&seen(ctx, &tender, ctx.caller().has_public_view()?)?)
}

#[derive(Serialize)]
struct History<'a> {
    id: &'a str,
    state: TenderState,
    history: Vec<TenderStep>,
}

/// Entries are kept under their transactions; they are told in the order of those transactions' times.
pub(crate) fn history(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let tender = load(ctx, &args.id(0, "tender")?)?;
    let steps = ctx.composite_range(keys::TENDER_STEP, &[&tender.id])?;
    let mut history = steps
        .map(|entry| {
            let (key, value) = entry?;
            decode_state::<TenderStep>(&key, &value)
        })
        .collect::<Result<Vec<_>>>()?;
    history.sort_by(|one, other| (one.at, &one.tx_id).cmp(&(other.at, &other.tx_id)));
    Response::json(&History {
        id: &tender.id,
        state: tender.state,
        history,
    })
}

#[derive(Serialize)]
struct Tenders {
    tenders: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bookmark: Option<String>,
}

pub(crate) fn list(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "party")?;
    let mut object = text.object()?;
    let party = object.optional("party").map(|field| msp_id(&field)).transpose()?;
    let state = object.optional("state").map(|field| field.text(16)).transpose()?;
    let paging = Paging::read(&mut object, DEFAULT_LIMIT, MAX_LIMIT)?;
    object.finish()?;
    let known = TenderState::ALL.map(TenderState::as_str);
    if let Some(state) = state.as_deref().filter(|state| !known.contains(state)) {
        return Err(Error::bad_request(format!(
            "filter.state must be one of {}, not {state}",
            known.join(", ")
        )));
    }
    let wanted = |found: &str| state.as_deref().is_none_or(|state| state == found);
    let public = ctx.caller().has_public_view()?;
    let show = |tender: &Tender| seen(ctx, tender, public).map(Some);
    let page = match &party {
        Some(party) => paging.collect(ctx, keys::TENDER_PARTY, &[party], |entry| {
            if !wanted(&String::from_utf8_lossy(entry.value)) {
                return Ok(None);
            }
            show(&load(ctx, entry.rest.first().copied().unwrap_or_default())?)
        })?,
        None => paging.collect(ctx, keys::TENDER, &[], |entry| {
            let tender: Tender = decode_state(entry.key, entry.value)?;
            if wanted(tender.state.as_str()) {
                show(&tender)
            } else {
                Ok(None)
            }
        })?,
    };
    Response::json(&Tenders {
        tenders: page.items,
        bookmark: page.bookmark,
    })
}
