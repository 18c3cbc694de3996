//! Names and payloads of the events.

use selvedge_chaincode::{Condition, Context, Decimal, Result, Timestamp};
use serde::Serialize;

use crate::model::{Custody, Position, Reading, Shipment, Status};

/// A shipment was created.
pub(crate) fn created(ctx: &Context<'_>, shipment: &Shipment) -> Result<()> {
    ctx.set_json_event("shipment.created", shipment)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CustodyChange<'a> {
    id: &'a str,
    action: &'a str,
    from: &'a str,
    to: &'a str,
    holder: &'a str,
    status: Status,
    by: &'a str,
    at: Timestamp,
}

/// A hand-over was offered, accepted, refused or done at once; `from` and `to` are its two sides.
pub(crate) fn custody(
    ctx: &Context<'_>,
    id: &str,
    custody: &Custody,
    action: &str,
    sides: (&str, &str),
    by: &str,
) -> Result<()> {
    let name = if custody.status == Status::Delivered {
        "shipment.delivered"
    } else {
        "shipment.custody"
    };
    let (from, to) = sides;
    let (holder, status, at) = (&custody.holder, custody.status, ctx.timestamp()?);
    ctx.set_json_event(
        name,
        &CustodyChange {
            id,
            action,
            from,
            to,
            holder,
            status,
            by,
            at,
        },
    )
}

/// A value outside an agreed range, and the reading that it stood in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Violation {
    pub(crate) shipment: String,
    #[serde(flatten)]
    pub(crate) condition: Condition,
    pub(crate) value: Decimal,
    pub(crate) time: Timestamp,
    pub(crate) msp_id: String,
    pub(crate) device: String,
    pub(crate) stream: String,
    pub(crate) sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<Position>,
    pub(crate) tx_id: String,
    /// Measured after the goods were delivered; only known in the summary.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) after_delivery: bool,
}

/// Every condition that the reading breaks, in the order of the conditions.
pub(crate) fn violations<'a>(
    conditions: &'a [Condition],
    reading: &'a Reading,
) -> impl Iterator<Item = Violation> + 'a {
    conditions.iter().filter_map(move |condition| {
        let value = reading.values.get(&condition.field)?;
        (!condition.holds(value)).then(|| Violation {
            shipment: reading.shipment.clone(),
            condition: condition.clone(),
            value: value.clone(),
            time: reading.time,
            msp_id: reading.msp_id.clone(),
            device: reading.device.clone(),
            stream: reading.stream.clone(),
            sequence: reading.sequence,
            position: reading.position.clone(),
            tx_id: reading.tx_id.clone(),
            after_delivery: false,
        })
    })
}

#[derive(Serialize)]
struct Violations<'a> {
    count: usize,
    violations: &'a [Violation],
}

/// Readings of this transaction break conditions, `count` times in all.
pub(crate) fn violated(ctx: &Context<'_>, count: usize, violations: &[Violation]) -> Result<()> {
    ctx.set_json_event("shipment.violation", &Violations { count, violations })
}
