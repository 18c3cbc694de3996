//! Recording readings, one key each.

use std::collections::BTreeMap;

use selvedge_chaincode::{Args, Context, Error, Response, Result};
use serde::Serialize;

use crate::access::{Writer, load, writer};
use crate::events::{Violation, violated, violations};
use crate::input::{Common, SentReading};
use crate::keys;
use crate::model::{Reading, Shipment};

/// Readings that one transaction may carry.
const MAX_BATCH: usize = 500;
/// Violations that one event lists; it tells how many there were in all by its count.
const MAX_EVENT: usize = 1000;

/// What became of the readings of a transaction.
#[derive(Serialize)]
struct Outcome {
    /// Readings that are new.
    recorded: usize,
    /// Readings that were on the ledger already, or twice in the batch.
    known: usize,
    /// What the new ones violate.
    violations: Vec<Violation>,
}

pub(crate) fn record_reading(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    record(ctx, vec![SentReading::read(&args.field(0)?, &Common::default())?])
}

/// Takes `[reading, ...]`, or `{"shipment"?,"device"?,"stream"?,"readings":[...]}` with the common parts said once.
pub(crate) fn record_readings(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let field = args.field(0)?;
    let (common, list) = if field.is_object() {
        let mut object = field.object()?;
        let common = Common::read(&mut object)?;
        let list = object.require("readings")?.list(MAX_BATCH)?;
        object.finish()?;
        (common, list)
    } else {
        (Common::default(), field.list(MAX_BATCH)?)
    };
    if list.is_empty() {
        return Err(Error::bad_request(format!("{} has no readings", field.path())));
    }
    record(
        ctx,
        list.iter()
            .map(|field| SentReading::read(field, &common))
            .collect::<Result<_>>()?,
    )
}

fn accept(ctx: &Context<'_>, writer: &Writer, shipment: &Shipment, sent: SentReading) -> Result<Reading> {
    let device = sent.device.unwrap_or_else(|| writer.id.clone());
    writer.check(shipment, &device)?;
    let gateway = (device != writer.id).then(|| writer.id.clone());
    Ok(Reading {
        shipment: sent.shipment,
        msp_id: writer.msp_id.clone(),
        device,
        stream: sent.stream,
        sequence: sent.sequence,
        time: sent.time,
        position: sent.position,
        values: sent.values,
        gateway,
        recorded_at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
    })
}

/// Writes what is new. The only keys read are the shipment's terms and the reading's own key, so that no two readings
/// conflict unless they are the same one.
fn record(ctx: &Context<'_>, batch: Vec<SentReading>) -> Result<Response> {
    let writer = writer(ctx)?;
    let mut shipments: BTreeMap<String, Shipment> = BTreeMap::new();
    let mut written: BTreeMap<String, Reading> = BTreeMap::new();
    let mut outcome = Outcome {
        recorded: 0,
        known: 0,
        violations: Vec::new(),
    };
    for sent in batch {
        if !shipments.contains_key(&sent.shipment) {
            shipments.insert(sent.shipment.clone(), load(ctx, &sent.shipment)?);
        }
        let shipment = shipments
            .get(&sent.shipment)
            .ok_or_else(|| Error::internal(format!("shipment {} was not kept", sent.shipment)))?;
        let reading = accept(ctx, &writer, shipment, sent)?;
        let key = keys::reading(
            &reading.shipment,
            &reading.msp_id,
            &reading.device,
            &reading.stream,
            reading.sequence,
        )?;
        let committed;
        let earlier = match written.get(&key) {
            Some(earlier) => Some(earlier),
            None => {
                committed = ctx.get_json::<Reading>(&key)?;
                committed.as_ref()
            }
        };
        match earlier {
            Some(earlier) if earlier.same_content(&reading) => outcome.known += 1,
            Some(earlier) => {
                return Err(Error::conflict(format!(
                    "reading {} of stream {} of device {} for shipment {} is already recorded with other content (measured at {}, transaction {}); readings do not change",
                    reading.sequence,
                    reading.stream,
                    reading.device,
                    reading.shipment,
                    earlier.time,
                    earlier.tx_id
                )));
            }
            None => {
                ctx.put_json(&key, &reading)?;
                outcome.recorded += 1;
                outcome
                    .violations
                    .extend(violations(&shipment.conditions, &reading));
                written.insert(key, reading);
            }
        }
    }
    if !outcome.violations.is_empty() {
        let listed = outcome.violations.len().min(MAX_EVENT);
        violated(
            ctx,
            outcome.violations.len(),
            outcome.violations.get(..listed).unwrap_or_default(),
        )?;
    }
    Response::json(&outcome)
}
