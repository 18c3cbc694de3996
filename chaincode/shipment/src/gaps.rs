//! Gap records: what a gateway had to give up before anybody saw it, told so that a silent stretch of readings is not taken
//! for a quiet one.

use selvedge_chaincode::json::{Field, Object};
use selvedge_chaincode::{Args, Context, Error, Response, Result, Timestamp, composite_key, decode_state};
use serde::{Deserialize, Serialize};

use crate::access::writer;

/// Object type of a gap: (MSP id, writer, gateway, source, reason, first, last, count).
const GAP: &str = "shipment-gap";
/// Gaps that one transaction may tell of.
const MAX_GAPS: usize = 2000;
const MAX_NAME: usize = 256;
const MAX_LIST: usize = 1000;

/// What is missing of one source for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Gap {
    msp_id: String,
    /// The device id of the gateway's certificate.
    writer: String,
    /// The gateway's own name.
    gateway: String,
    /// Empty where it is not known.
    source: String,
    /// `full`, `expired` or `damaged`.
    reason: String,
    /// How many requests.
    count: u64,
    /// Numbers of the first and the last of them at the gateway; 0 where they are not known.
    first: u64,
    last: u64,
    /// When they came in at the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Timestamp>,
    recorded_at: Timestamp,
    tx_id: String,
}

#[derive(Serialize)]
struct Outcome {
    recorded: usize,
    known: usize,
}

#[derive(Serialize)]
struct Page {
    gaps: Vec<Gap>,
    /// There are more than are listed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

fn sent(ctx: &Context<'_>, field: &Field<'_>, (msp_id, writer, gateway): (&str, &str, &str)) -> Result<Gap> {
    let mut object = field.object()?;
    let source = object.optional("source").map(|f| f.text(MAX_NAME)).transpose()?;
    let reason = object.require("reason")?.text(MAX_NAME)?;
    let count = object.require("count")?.integer()?;
    let number = |object: &mut Object<'_>, name| -> Result<u64> {
        object.optional(name).map_or(Ok(0), |f: Field<'_>| f.integer())
    };
    let first = number(&mut object, "first")?;
    let last = number(&mut object, "last")?;
    let from = object.optional("from").map(|f| f.time()).transpose()?;
    let to = object.optional("to").map(|f| f.time()).transpose()?;
    object.finish()?;
    if count == 0 {
        return Err(Error::bad_request(format!(
            "{}.count must not be 0",
            field.path()
        )));
    }
    Ok(Gap {
        msp_id: msp_id.to_owned(),
        writer: writer.to_owned(),
        gateway: gateway.to_owned(),
        source: source.unwrap_or_default(),
        reason,
        count,
        first,
        last,
        from,
        to,
        recorded_at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
    })
}

/// Takes `{"gateway","gaps":[{"source"?,"reason","count","first"?,"last"?,"from"?,"to"?},...]}` of an enrolled device. A gap
/// that is on the ledger already changes nothing.
pub(crate) fn record_gaps(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let writer = writer(ctx)?;
    let mut object = args.object(0)?;
    let gateway = object.require("gateway")?.text(MAX_NAME)?;
    let list = object.require("gaps")?.list(MAX_GAPS)?;
    object.finish()?;
    let mut outcome = Outcome {
        recorded: 0,
        known: 0,
    };
    for field in &list {
        let gap = sent(ctx, field, (&writer.msp_id, &writer.id, &gateway))?;
        let [first, last, count] = [gap.first, gap.last, gap.count].map(|n| format!("{n:020}"));
        let parts: [&str; 8] = [
            &gap.msp_id,
            &gap.writer,
            &gap.gateway,
            &gap.source,
            &gap.reason,
            &first,
            &last,
            &count,
        ];
        // Where the gateway does not know which requests are missing, only the transaction tells two gaps apart.
        let unnumbered = [&parts[..], &[gap.tx_id.as_str()]].concat();
        let key = composite_key(GAP, if gap.first == 0 { &unnumbered } else { &parts })?;
        if ctx.get_state(&key)?.is_some() {
            outcome.known += 1;
        } else {
            ctx.put_json(&key, &gap)?;
            outcome.recorded += 1;
        }
    }
    Response::json(&outcome)
}

/// Lists gaps: all of them, those of an organisation, or of one of its writers (`mspId`?, `writer`?).
pub(crate) fn gaps(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let msp_id = args.optional_text(0)?.filter(|text| !text.is_empty());
    let writer = args.optional_text(1)?.filter(|text| !text.is_empty());
    let attributes: Vec<&str> = match (msp_id, writer) {
        (Some(msp_id), Some(writer)) => vec![msp_id, writer],
        (Some(msp_id), None) => vec![msp_id],
        (None, Some(_)) => return Err(Error::bad_request("writer needs mspId before it")),
        (None, None) => Vec::new(),
    };
    let mut page = Page {
        gaps: Vec::new(),
        more: false,
    };
    for entry in ctx.composite_range(GAP, &attributes)? {
        let (key, value) = entry?;
        if page.gaps.len() == MAX_LIST {
            page.more = true;
            break;
        }
        page.gaps.push(decode_state(&key, &value)?);
    }
    Response::json(&page)
}
