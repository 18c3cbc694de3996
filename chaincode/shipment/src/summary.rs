//! What the readings of a shipment say, worked out anew each time in one pass over them.
//!
//! Readings come in key order, which has nothing to do with the order of their arrival; ties are settled by device time,
//! then by key. So every order, batching and repetition of the same readings gives the same summary.

use std::collections::BTreeMap;

use selvedge_chaincode::json::Object;
use selvedge_chaincode::{
    Args, Condition, Context, Decimal, Error, Response, Result, Timestamp, decode_state,
};
use serde::Serialize;

use crate::access::{load, load_custody};
use crate::events::{Violation, violations};
use crate::keys;
use crate::model::{Custody, CustodyStep, PendingHandover, Position, Reading, Shipment, Status};
use crate::queries::require_in_house;

const DEFAULT_VIOLATIONS: u64 = 1000;
const MAX_VIOLATIONS: u64 = 10_000;
const DEFAULT_ROUTE: u64 = 10_000;
const MAX_ROUTE: u64 = 50_000;

/// A minimum or maximum and the reading that has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Extreme {
    value: Decimal,
    time: Timestamp,
    msp_id: String,
    device: String,
    stream: String,
    sequence: u64,
}

#[derive(Serialize)]
struct Sensor {
    count: u64,
    min: Extreme,
    max: Extreme,
}

/// One stream of one device, with what is missing between its first and last number.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stream {
    msp_id: String,
    device: String,
    stream: String,
    count: u64,
    first_sequence: u64,
    last_sequence: u64,
    missing: u64,
    first_time: Timestamp,
    last_time: Timestamp,
}

/// A place on the route and how long readings named it.
#[derive(Serialize)]
struct Point {
    time: Timestamp,
    until: Timestamp,
    #[serde(flatten)]
    position: Position,
    device: String,
    readings: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    shipment: &'a str,
    status: Status,
    goods: &'a str,
    quantity: Option<&'a Decimal>,
    shipper: &'a str,
    consignee: &'a str,
    holder: &'a str,
    pending: Option<&'a PendingHandover>,
    custody: &'a [CustodyStep],
    conditions: &'a [Condition],
    deliver_by: Option<Timestamp>,
    delivered_at: Option<Timestamp>,
    on_time: Option<bool>,
    /// Number of readings.
    readings: u64,
    /// Of these, how many were recorded after the delivery, however old they are.
    late_readings: u64,
    /// Of these, how many were measured after the delivery.
    readings_after_delivery: u64,
    first_time: Option<Timestamp>,
    last_time: Option<Timestamp>,
    streams: Vec<Stream>,
    sensors: BTreeMap<String, Sensor>,
    /// No violation up to the delivery.
    conditions_held: bool,
    violation_count: u64,
    violations_by_field: BTreeMap<String, u64>,
    violations: Vec<Violation>,
    route_points: usize,
    route: Vec<Point>,
}

/// What grows while readings pass by.
#[derive(Default)]
struct Tally {
    count: u64,
    late: u64,
    after_delivery: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    streams: Vec<Stream>,
    sensors: BTreeMap<String, Sensor>,
    broken: bool,
    by_field: BTreeMap<String, u64>,
    violations: Vec<Violation>,
    positions: Vec<(Timestamp, Position, String)>,
}

fn extreme(reading: &Reading, value: &Decimal) -> Extreme {
    Extreme {
        value: value.clone(),
        time: reading.time,
        msp_id: reading.msp_id.clone(),
        device: reading.device.clone(),
        stream: reading.stream.clone(),
        sequence: reading.sequence,
    }
}

impl Tally {
    fn add(&mut self, shipment: &Shipment, custody: &Custody, reading: Reading) {
        let after = custody
            .delivered_at
            .is_some_and(|delivered| reading.time > delivered);
        self.count += 1;
        self.late += u64::from(
            custody
                .delivered_at
                .is_some_and(|delivered| reading.recorded_at > delivered),
        );
        self.after_delivery += u64::from(after);
        self.first = Some(self.first.map_or(reading.time, |first| first.min(reading.time)));
        self.last = Some(self.last.map_or(reading.time, |last| last.max(reading.time)));
        self.add_to_stream(&reading);
        self.add_to_sensors(&reading);
        for mut violation in violations(&shipment.conditions, &reading) {
            violation.after_delivery = after;
            self.broken |= !after;
            *self
                .by_field
                .entry(violation.condition.field.clone())
                .or_default() += 1;
            self.violations.push(violation);
        }
        if let Some(position) = reading.position {
            self.positions.push((reading.time, position, reading.device));
        }
    }

    /// Keys sort by organisation, device and stream, so a stream's readings follow each other.
    fn add_to_stream(&mut self, reading: &Reading) {
        let same = |stream: &&mut Stream| {
            stream.msp_id == reading.msp_id
                && stream.device == reading.device
                && stream.stream == reading.stream
        };
        match self.streams.last_mut().filter(same) {
            Some(stream) => {
                stream.missing += reading
                    .sequence
                    .saturating_sub(stream.last_sequence)
                    .saturating_sub(1);
                stream.count += 1;
                stream.last_sequence = reading.sequence;
                stream.first_time = stream.first_time.min(reading.time);
                stream.last_time = stream.last_time.max(reading.time);
            }
            None => self.streams.push(Stream {
                msp_id: reading.msp_id.clone(),
                device: reading.device.clone(),
                stream: reading.stream.clone(),
                count: 1,
                first_sequence: reading.sequence,
                last_sequence: reading.sequence,
                missing: 0,
                first_time: reading.time,
                last_time: reading.time,
            }),
        }
    }

    fn add_to_sensors(&mut self, reading: &Reading) {
        for (name, value) in &reading.values {
            let Some(sensor) = self.sensors.get_mut(name) else {
                let (min, max) = (extreme(reading, value), extreme(reading, value));
                self.sensors.insert(name.clone(), Sensor { count: 1, min, max });
                continue;
            };
            sensor.count += 1;
            // Of equal values the earliest counts; of equal times the first by key, which came first.
            if (value, reading.time) < (&sensor.min.value, sensor.min.time) {
                sensor.min = extreme(reading, value);
            }
            if *value > sensor.max.value || *value == sensor.max.value && reading.time < sensor.max.time {
                sensor.max = extreme(reading, value);
            }
        }
    }
}

/// The positions in the order of device time, places that repeat made one.
fn route(mut positions: Vec<(Timestamp, Position, String)>) -> Vec<Point> {
    // Stable: readings of the same time stay in key order.
    positions.sort_by_key(|(time, ..)| *time);
    let mut route: Vec<Point> = Vec::new();
    for (time, position, device) in positions {
        match route.last_mut().filter(|point| point.position == position) {
            Some(point) => {
                point.until = time;
                point.readings += 1;
            }
            None => route.push(Point {
                time,
                until: time,
                position,
                device,
                readings: 1,
            }),
        }
    }
    route
}

fn limit(object: &mut Object<'_>, name: &'static str, default: u64, max: u64) -> Result<usize> {
    let limit = object
        .optional(name)
        .map(|limit| limit.integer())
        .transpose()?
        .unwrap_or(default);
    if limit > max {
        return Err(Error::bad_request(format!(
            "{name} must be at most {max}, not {limit}"
        )));
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Takes the shipment's id, or `{"shipment","maxViolations"?,"maxRoute"?}` to bound the two lists.
pub(crate) fn summary(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "shipment")?;
    let mut object = text.object()?;
    let id = object.require("shipment")?.id()?;
    let max_violations = limit(&mut object, "maxViolations", DEFAULT_VIOLATIONS, MAX_VIOLATIONS)?;
    let max_route = limit(&mut object, "maxRoute", DEFAULT_ROUTE, MAX_ROUTE)?;
    object.finish()?;
    let shipment = load(ctx, &id)?;
    require_in_house(ctx, &id)?;
    let custody = load_custody(ctx, &id)?;
    let mut tally = Tally::default();
    for entry in ctx.composite_range(keys::READING, &[&id])? {
        let (key, value) = entry?;
        tally.add(&shipment, &custody, decode_state(&key, &value)?);
    }
    let mut violations = tally.violations;
    violations.sort_by_key(|violation| violation.time);
    let violation_count = tally.by_field.values().sum();
    violations.truncate(max_violations);
    let mut route = route(tally.positions);
    let route_points = route.len();
    route.truncate(max_route);
    Response::json(&Summary {
        shipment: &id,
        status: custody.status,
        goods: &shipment.goods,
        quantity: shipment.quantity.as_ref(),
        shipper: &shipment.shipper,
        consignee: &shipment.consignee,
        holder: &custody.holder,
        pending: custody.pending.as_ref(),
        custody: &custody.line,
        conditions: &shipment.conditions,
        deliver_by: shipment.deliver_by,
        delivered_at: custody.delivered_at,
        on_time: shipment
            .deliver_by
            .zip(custody.delivered_at)
            .map(|(due, delivered)| delivered <= due),
        readings: tally.count,
        late_readings: tally.late,
        readings_after_delivery: tally.after_delivery,
        first_time: tally.first,
        last_time: tally.last,
        streams: tally.streams,
        sensors: tally.sensors,
        conditions_held: !tally.broken,
        violation_count,
        violations_by_field: tally.by_field,
        violations,
        route_points,
        route,
    })
}
