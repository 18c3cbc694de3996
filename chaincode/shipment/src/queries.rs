//! Reading: one shipment, lists of shipments, and the readings themselves page by page.

use selvedge_chaincode::{
    Args, Condition, Context, Error, Response, Result, Timestamp, composite_key, decode_state,
    split_composite_key,
};
use serde::Serialize;

use crate::access::{load, load_custody};
use crate::events::violations;
use crate::keys;
use crate::model::{Custody, Reading, Shipment, Status};

const DEFAULT_LIST: u64 = 50;
const MAX_LIST: u64 = 200;
const DEFAULT_READINGS: u64 = 100;
const MAX_READINGS: u64 = 1000;
/// Entries that one page looks at when a filter drops most of them; the bookmark leads on.
const MAX_SCAN: usize = 2000;

#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    shipment: Shipment,
    status: Status,
    holder: String,
    custody: Custody,
}

/// What the public view shows of a shipment: that it exists, between whom, and how far it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Public {
    id: String,
    shipper: String,
    consignee: String,
    status: Status,
    created_at: Timestamp,
    view: &'static str,
}

/// A shipment as the caller may see it.
#[derive(Serialize)]
#[serde(untagged)]
enum Seen {
    Whole(Box<Whole>),
    Public(Public),
}

impl Seen {
    fn by(public: bool, whole: Whole) -> Self {
        if !public {
            return Self::Whole(Box::new(whole));
        }
        Self::Public(Public {
            id: whole.shipment.id,
            shipper: whole.shipment.shipper,
            consignee: whole.shipment.consignee,
            status: whole.status,
            created_at: whole.shipment.created_at,
            view: "public",
        })
    }
}

/// Refuses callers who are confined to the public view.
pub(crate) fn require_in_house(ctx: &Context<'_>, id: &str) -> Result<()> {
    if !ctx.caller().has_public_view()? {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "what was measured of shipment {id} belongs to the in-house view, and the caller's certificate says \
         selvedge.view=public"
    )))
}

#[derive(Serialize)]
struct Page {
    shipments: Vec<Seen>,
    /// Hand it in again to read on; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    bookmark: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(flatten)]
    reading: Reading,
    /// Recorded after the delivery.
    late: bool,
    /// Measured after the delivery.
    after_delivery: bool,
    /// The conditions that it breaks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violates: Vec<Condition>,
}

#[derive(Serialize)]
struct Readings {
    readings: Vec<Listed>,
    /// Hand it in as `from` to read on; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    bookmark: Option<String>,
}

fn whole(ctx: &Context<'_>, id: &str) -> Result<Whole> {
    let shipment = load(ctx, id)?;
    let custody = load_custody(ctx, id)?;
    Ok(Whole {
        shipment,
        status: custody.status,
        holder: custody.holder.clone(),
        custody,
    })
}

fn bounded(name: &str, given: Option<u64>, default: u64, max: u64) -> Result<usize> {
    let limit = given.unwrap_or(default);
    if !(1..=max).contains(&limit) {
        return Err(Error::bad_request(format!(
            "{name} must be 1 to {max}, not {limit}"
        )));
    }
    Ok(usize::try_from(limit).unwrap_or(1))
}

pub(crate) fn get(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "shipment")?;
    let mut object = text.object()?;
    let id = object.require("shipment")?.id()?;
    object.finish()?;
    Response::json(&Seen::by(ctx.caller().has_public_view()?, whole(ctx, &id)?))
}

pub(crate) fn list(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "party")?;
    let mut object = text.object()?;
    let party = object
        .optional("party")
        .map(|party| party.text(128))
        .transpose()?;
    let status = object
        .optional("status")
        .map(|status| status.text(16))
        .transpose()?;
    let given = object
        .optional("limit")
        .map(|limit| limit.integer())
        .transpose()?;
    let limit = bounded("filter.limit", given, DEFAULT_LIST, MAX_LIST)?;
    let bookmark = object
        .optional("bookmark")
        .map(|bookmark| bookmark.id())
        .transpose()?;
    object.finish()?;
    let known = [Status::Created, Status::InTransit, Status::Delivered];
    if let Some(status) = status
        .as_deref()
        .filter(|status| known.iter().all(|known| known.as_str() != *status))
    {
        return Err(Error::bad_request(format!(
            "filter.status must be created, inTransit or delivered, not {status}"
        )));
    }
    let (object_type, attributes) = match &party {
        Some(party) => (keys::PARTY, vec![party.as_str()]),
        None => (keys::SHIPMENT, Vec::new()),
    };
    let entries = match &bookmark {
        Some(id) => {
            let mut all = attributes.clone();
            all.push(id);
            ctx.composite_range_from(object_type, &attributes, &composite_key(object_type, &all)?)?
        }
        None => ctx.composite_range(object_type, &attributes)?,
    };
    let public = ctx.caller().has_public_view()?;
    let mut page = Page {
        shipments: Vec::new(),
        bookmark: None,
    };
    for (count, entry) in entries.enumerate() {
        let (key, _) = entry?;
        let id = split_composite_key(&key)
            .and_then(|(_, parts)| parts.last().copied())
            .ok_or_else(|| Error::internal("a list entry has a broken key"))?;
        if page.shipments.len() == limit || count == MAX_SCAN {
            page.bookmark = Some(id.to_owned());
            break;
        }
        let entry = whole(ctx, id)?;
        if status
            .as_ref()
            .is_none_or(|wanted| wanted == entry.status.as_str())
        {
            page.shipments.push(Seen::by(public, entry));
        }
    }
    Response::json(&page)
}

/// A bookmark names a reading without control characters: its key's parts after the shipment, joined by `/`.
fn bookmark_key(id: &str, bookmark: &str) -> Result<String> {
    let wrong = || {
        Error::bad_request(format!(
            "from: {bookmark} is not a bookmark of the readings of shipment {id}"
        ))
    };
    // From the right, because only the MSP id in front may contain a slash.
    let mut parts: Vec<&str> = bookmark.rsplitn(4, '/').collect();
    parts.push(id);
    parts.reverse();
    if parts.len() != 5 {
        return Err(wrong());
    }
    composite_key(keys::READING, &parts).map_err(|_| wrong())
}

/// Takes the shipment's id, where to start, and how many; or one object with these fields.
pub(crate) fn readings(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "shipment")?;
    let mut object = text.object()?;
    let id = object.require("shipment")?.id()?;
    let from = object.optional("from").map(|from| from.text(512)).transpose()?;
    let given = object
        .optional("limit")
        .map(|limit| limit.integer())
        .transpose()?;
    object.finish()?;
    let from = from.or(args.optional_text(1)?.map(str::to_owned));
    let limit = bounded(
        "limit",
        given.or(args.optional_integer(2)?),
        DEFAULT_READINGS,
        MAX_READINGS,
    )?;
    let shipment = load(ctx, &id)?;
    require_in_house(ctx, &id)?;
    let delivered = load_custody(ctx, &id)?.delivered_at;
    let entries = match from {
        Some(from) => ctx.composite_range_from(keys::READING, &[&id], &bookmark_key(&id, &from)?)?,
        None => ctx.composite_range(keys::READING, &[&id])?,
    };
    let mut page = Readings {
        readings: Vec::new(),
        bookmark: None,
    };
    for entry in entries {
        let (key, value) = entry?;
        if page.readings.len() == limit {
            let parts = split_composite_key(&key)
                .map(|(_, parts)| parts)
                .unwrap_or_default();
            page.bookmark = parts.get(1..).map(|parts| parts.join("/"));
            break;
        }
        let reading: Reading = decode_state(&key, &value)?;
        page.readings.push(Listed {
            late: delivered.is_some_and(|delivered| reading.recorded_at > delivered),
            after_delivery: delivered.is_some_and(|delivered| reading.time > delivered),
            violates: violations(&shipment.conditions, &reading)
                .map(|violation| violation.condition)
                .collect(),
            reading,
        });
    }
    Response::json(&page)
}
