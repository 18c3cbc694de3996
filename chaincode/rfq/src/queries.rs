//! Reading: one RFQ, its history, and lists.

use selvedge_chaincode::{
    Args, Context, Error, Response, Result, Timestamp, decode_state, split_composite_key,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::functions::load;
use crate::keys;
use crate::model::{Rfq, State};

const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 200;
/// Entries that one page looks at when a filter drops most of them; the bookmark leads on.
const MAX_SCAN: usize = 2000;

#[derive(Serialize)]
struct History<'a> {
    id: &'a str,
    state: State,
    turn: Option<&'a str>,
    history: Vec<Box<RawValue>>,
}

/// What the public view shows of an RFQ: that it exists, between whom, and how far it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicRfq {
    id: String,
    state: State,
    offeror: String,
    target: String,
    steps: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
    view: &'static str,
}

/// An RFQ as the caller may see it.
#[derive(Serialize)]
#[serde(untagged)]
enum Seen {
    Whole(Box<Rfq>),
    Public(PublicRfq),
}

impl Seen {
    fn by(public: bool, rfq: Rfq) -> Self {
        if !public {
            return Self::Whole(Box::new(rfq));
        }
        Self::Public(PublicRfq {
            id: rfq.id,
            state: rfq.state,
            offeror: rfq.offeror,
            target: rfq.target,
            steps: rfq.steps,
            created_at: rfq.created_at,
            updated_at: rfq.updated_at,
            view: "public",
        })
    }
}

#[derive(Serialize)]
struct Page {
    rfqs: Vec<Seen>,
    /// Hand it in again to read on; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    bookmark: Option<String>,
}

fn stored_json(bytes: Vec<u8>) -> Result<Box<RawValue>> {
    String::from_utf8(bytes)
        .ok()
        .and_then(|text| RawValue::from_string(text).ok())
        .ok_or_else(|| Error::internal("a stored step is not JSON"))
}

fn id_argument(args: &Args) -> Result<String> {
    let text = args.object_or(0, "id")?;
    let mut object = text.object()?;
    let id = object.require("id")?.id()?;
    object.finish()?;
    Ok(id)
}

pub(crate) fn get(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let rfq = load(ctx, &id_argument(args)?)?;
    Response::json(&Seen::by(ctx.caller().has_public_view()?, rfq))
}

pub(crate) fn history(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let rfq = load(ctx, &id_argument(args)?)?;
    if ctx.caller().has_public_view()? {
        return Err(Error::forbidden(format!(
            "the steps of RFQ {} belong to the in-house view, and the caller's certificate says selvedge.view=public",
            rfq.id
        )));
    }
    let steps = ctx.composite_range(keys::STEP, &[&rfq.id])?;
    let history = steps.map(|step| stored_json(step?.1)).collect::<Result<_>>()?;
    Response::json(&History {
        id: &rfq.id,
        state: rfq.state,
        turn: rfq.turn.as_deref(),
        history,
    })
}

/// Which RFQs to list, and how many.
struct Filter {
    party: Option<String>,
    state: Option<String>,
    limit: usize,
    bookmark: Option<String>,
}

impl Filter {
    fn read(args: &Args) -> Result<Self> {
        let text = args.object_or(0, "party")?;
        let mut object = text.object()?;
        let party = object
            .optional("party")
            .map(|party| party.text(128))
            .transpose()?;
        let state = object.optional("state").map(|state| state.text(16)).transpose()?;
        let limit = object
            .optional("limit")
            .map(|limit| limit.integer())
            .transpose()?
            .unwrap_or(DEFAULT_LIMIT);
        let bookmark = object
            .optional("bookmark")
            .map(|bookmark| bookmark.id())
            .transpose()?;
        object.finish()?;
        let known = [State::Open, State::Accepted, State::Rejected];
        if let Some(state) = state
            .as_deref()
            .filter(|state| known.iter().all(|known| known.as_str() != *state))
        {
            return Err(Error::bad_request(format!(
                "filter.state must be open, accepted or rejected, not {state}"
            )));
        }
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Error::bad_request(format!(
                "filter.limit must be 1 to {MAX_LIMIT}, not {limit}"
            )));
        }
        Ok(Self {
            party,
            state,
            limit: usize::try_from(limit).unwrap_or(1),
            bookmark,
        })
    }

    fn wants(&self, state: &str) -> bool {
        self.state.as_ref().is_none_or(|wanted| wanted == state)
    }
}

pub(crate) fn list(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let filter = Filter::read(args)?;
    let (object_type, attributes) = match &filter.party {
        Some(party) => (keys::PARTY, vec![party.as_str()]),
        None => (keys::RFQ, Vec::new()),
    };
    let entries = match &filter.bookmark {
        Some(id) => {
            let mut all = attributes.clone();
            all.push(id);
            let from = selvedge_chaincode::composite_key(object_type, &all)?;
            ctx.composite_range_from(object_type, &attributes, &from)?
        }
        None => ctx.composite_range(object_type, &attributes)?,
    };
    let public = ctx.caller().has_public_view()?;
    let mut page = Page {
        rfqs: Vec::new(),
        bookmark: None,
    };
    for (count, entry) in entries.enumerate() {
        let (key, value) = entry?;
        let id = split_composite_key(&key)
            .and_then(|(_, parts)| parts.last().copied())
            .ok_or_else(|| Error::internal("a list entry has a broken key"))?;
        if page.rfqs.len() == filter.limit || count == MAX_SCAN {
            page.bookmark = Some(id.to_owned());
            break;
        }
        let rfq = if filter.party.is_none() {
            let rfq: Rfq = decode_state(&key, &value)?;
            filter.wants(rfq.state.as_str()).then_some(rfq)
        } else if filter.wants(&String::from_utf8_lossy(&value)) {
            Some(load(ctx, id)?)
        } else {
            None
        };
        page.rfqs.extend(rfq.map(|rfq| Seen::by(public, rfq)));
    }
    Response::json(&page)
}
