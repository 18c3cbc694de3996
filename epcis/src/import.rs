//! From sensor events to readings of a shipment.

use std::collections::BTreeMap;

use selvedge_chaincode::json::is_id;
use selvedge_chaincode::{Decimal, Timestamp, sha256_hex};
use serde::{Deserialize, Serialize};

use crate::{EpcisError, Names, Vocabulary};

/// Readings that one transaction of the shipment contract may carry.
const MAX_BATCH: usize = 500;
/// Longest document that is read, in bytes.
const MAX_DOCUMENT: usize = 64 << 20;
/// Readings that one document may hold.
const MAX_READINGS: usize = 200_000;

/// What to make of a document.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The shipment that the readings are for.
    pub shipment: String,
    /// Only events about this EPC; all events when absent.
    pub epc: Option<String>,
    /// The device that every reading is of; as the document says when absent.
    pub device: Option<String>,
    /// The stream of readings that do not name one. When absent it is made from the document's content, so that the
    /// same document gives the same readings again.
    pub stream: Option<String>,
    /// Which measurements have which names.
    pub vocabulary: Vocabulary,
}

/// What a document gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Arguments of the shipment contract's `recordReadings`, each a batch of one device and stream.
    pub batches: Vec<String>,
    /// Readings in all batches.
    pub readings: usize,
    /// What was left out, and why: one sentence each.
    pub skipped: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    epcis_body: Body,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    event_list: Vec<Event>,
    query_results: Option<QueryResults>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueryResults {
    results_body: ResultsBody,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ResultsBody {
    event_list: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    event_time: String,
    #[serde(default)]
    epc_list: Vec<String>,
    #[serde(default)]
    read_point: Option<Identified>,
    #[serde(default)]
    sensor_element_list: Vec<Element>,
}

#[derive(Deserialize)]
struct Identified {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Element {
    #[serde(default)]
    sensor_metadata: Metadata,
    sensor_report: Vec<Report>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    time: Option<String>,
    end_time: Option<String>,
    #[serde(rename = "deviceID")]
    device_id: Option<String>,
    #[serde(rename = "selvedge:stream")]
    stream: Option<String>,
    #[serde(rename = "selvedge:sequence")]
    sequence: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    time: Option<String>,
    #[serde(default, rename = "deviceID")]
    device_id: Option<String>,
    #[serde(default)]
    component: Option<String>,
    #[serde(default)]
    uom: Option<String>,
    #[serde(default)]
    value: Option<Decimal>,
    #[serde(default)]
    min_value: Option<Decimal>,
    #[serde(default)]
    max_value: Option<Decimal>,
    #[serde(default)]
    mean_value: Option<Decimal>,
    #[serde(default)]
    uri_value: Option<String>,
    #[serde(default, rename = "selvedge:field")]
    field: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Position {
    lat: Decimal,
    lon: Decimal,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<String>,
}

/// A reading on its way; the parts that name its stream are kept apart.
#[derive(Debug, Serialize)]
struct Reading {
    sequence: u64,
    time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    values: BTreeMap<String, Decimal>,
}

#[derive(Serialize)]
struct Batch<'a> {
    shipment: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    stream: &'a str,
    readings: &'a [Reading],
}

/// What reports of one device and time say together.
type Measured = (Option<Position>, BTreeMap<String, Decimal>);

/// What was collected of a document.
#[derive(Default)]
struct Collected {
    /// Readings that name their stream and number, by device and stream.
    numbered: BTreeMap<(Option<String>, String), Vec<Reading>>,
    /// The others, by device and time: several reports of one time are one reading.
    timed: BTreeMap<(Option<String>, Timestamp), Measured>,
    count: usize,
    skipped: Vec<String>,
}

/// Reads a document (`EPCISDocument` or `EPCISQueryDocument`, or a single event) and makes readings of its sensor data.
///
/// Readings that this crate has written keep their stream and number, so that importing them again, or from two
/// documents that overlap, changes nothing on the ledger. Those of others are numbered in the order of device and time
/// within a stream that is named after the document's content.
///
/// # Errors
/// [`EpcisError::Document`] when the text is no EPCIS document; [`EpcisError::Event`] naming the event and element that
/// cannot become a reading; [`EpcisError::Option`] for an option that the contract would not take.
pub fn import(document: &str, options: &ImportOptions) -> Result<Imported, EpcisError> {
    for (name, id) in [
        ("shipment", Some(&options.shipment)),
        ("device", options.device.as_ref()),
        ("stream", options.stream.as_ref()),
    ] {
        if let Some(id) = id.filter(|id| !is_id(id)) {
            return Err(EpcisError::Option(format!(
                "the {name} {id} must consist of 1 to 64 letters, digits and . _ : -"
            )));
        }
    }
    let mut collected = Collected::default();
    for (number, event) in events(document)?.iter().enumerate() {
        if options
            .epc
            .as_ref()
            .is_none_or(|epc| event.epc_list.contains(epc))
        {
            collected.event(number, event, options)?;
        }
    }
    collected.batches(options)
}

fn events(document: &str) -> Result<Vec<Event>, EpcisError> {
    let wrong = |why: serde_json::Error| EpcisError::Document(why.to_string());
    if document.len() > MAX_DOCUMENT {
        return Err(EpcisError::Document(format!(
            "it has more than {MAX_DOCUMENT} bytes; split it"
        )));
    }
    let whole: Document = serde_json::from_str(document).map_err(wrong)?;
    match whole.kind.as_str() {
        "EPCISDocument" => Ok(whole.epcis_body.event_list),
        "EPCISQueryDocument" => Ok(whole
            .epcis_body
            .query_results
            .map(|results| results.results_body.event_list)
            .unwrap_or_default()),
        "ObjectEvent"
        | "AggregationEvent"
        | "TransactionEvent"
        | "TransformationEvent"
        | "AssociationEvent" => Ok(vec![serde_json::from_str(document).map_err(wrong)?]),
        other => Err(EpcisError::Document(format!(
            "its type is {other}, and should be EPCISDocument, EPCISQueryDocument or an event"
        ))),
    }
}

fn time(text: &str, place: &str) -> Result<Timestamp, EpcisError> {
    text.parse().map_err(|why| EpcisError::Event {
        place: place.to_owned(),
        why: format!("{text} {why}"),
    })
}

/// The device that a URI names, as an id that the contract takes.
fn device(uri: &str) -> String {
    id_of(&Names::last_part(uri))
}

/// Makes an id of any text: what an id cannot have becomes `_`; what is too long or empty is named by its hash.
fn id_of(text: &str) -> String {
    let safe: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._:-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    if is_id(&safe) {
        return safe;
    }
    let hash = sha256_hex(text.as_bytes());
    format!("device-{}", hash.get(..20).unwrap_or_default())
}

/// A place from a `geo` URI (RFC 5870); none when it is another kind of URI.
fn position(uri: &str, place: &str) -> Result<Option<Position>, EpcisError> {
    let Some(rest) = uri.strip_prefix("geo:") else {
        return Ok(None);
    };
    let wrong = || EpcisError::Event {
        place: place.to_owned(),
        why: format!("{uri} is not a geo URI such as geo:51.37,12.46;u=20"),
    };
    let mut parts = rest.split(';');
    let mut coordinates = parts.next().unwrap_or_default().split(',');
    let mut coordinate = || -> Result<Decimal, EpcisError> {
        let text = coordinates.next().ok_or_else(wrong)?;
        text.parse().map_err(|_| wrong())
    };
    let (lat, lon) = (coordinate()?, coordinate()?);
    let within =
        |value: &Decimal, limit: i64| *value >= Decimal::from(-limit) && *value <= Decimal::from(limit);
    if !within(&lat, 90) || !within(&lon, 180) {
        return Err(wrong());
    }
    let accuracy = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        matches!(name, "u" | "accuracy").then(|| crate::names::unescape(value))
    });
    Ok(Some(Position { lat, lon, accuracy }))
}

impl Collected {
    fn event(&mut self, number: usize, event: &Event, options: &ImportOptions) -> Result<(), EpcisError> {
        let read_point = event
            .read_point
            .as_ref()
            .map(|point| position(&point.id, &format!("event {number}, readPoint")))
            .transpose()?
            .flatten();
        for (at, element) in event.sensor_element_list.iter().enumerate() {
            let place = format!("event {number}, sensor element {at}");
            if element.sensor_metadata.stream.is_some() && element.sensor_metadata.sequence.is_some() {
                self.numbered(&place, event, element, read_point.as_ref(), options)?;
            } else {
                self.timed(&place, event, element, read_point.as_ref(), options)?;
            }
            if self.count > MAX_READINGS {
                return Err(EpcisError::Document(format!(
                    "it has more than {MAX_READINGS} readings; split it"
                )));
            }
        }
        Ok(())
    }

    /// An element that this crate has written: one reading.
    fn numbered(
        &mut self,
        place: &str,
        event: &Event,
        element: &Element,
        read_point: Option<&Position>,
        options: &ImportOptions,
    ) -> Result<(), EpcisError> {
        let metadata = &element.sensor_metadata;
        let stream = metadata.stream.clone().unwrap_or_default();
        if !is_id(&stream) {
            return Err(EpcisError::Event {
                place: place.to_owned(),
                why: format!("the stream {stream} must consist of 1 to 64 letters, digits and . _ : -"),
            });
        }
        let mut reading = Reading {
            sequence: metadata.sequence.unwrap_or_default(),
            time: time(metadata.time.as_deref().unwrap_or(&event.event_time), place)?,
            position: read_point.cloned(),
            values: BTreeMap::new(),
        };
        for report in &element.sensor_report {
            self.values(place, report, options, &mut reading.values, &mut reading.position)?;
        }
        let device = options
            .device
            .clone()
            .or(metadata.device_id.as_deref().map(device));
        self.numbered.entry((device, stream)).or_default().push(reading);
        self.count += 1;
        Ok(())
    }

    /// An element of others: its reports may be of several devices and times.
    fn timed(
        &mut self,
        place: &str,
        event: &Event,
        element: &Element,
        read_point: Option<&Position>,
        options: &ImportOptions,
    ) -> Result<(), EpcisError> {
        let metadata = &element.sensor_metadata;
        for (at, report) in element.sensor_report.iter().enumerate() {
            let place = format!("{place}, report {at}");
            let when = report
                .time
                .as_ref()
                .or(metadata.time.as_ref())
                .or(metadata.end_time.as_ref())
                .unwrap_or(&event.event_time);
            let uri = report.device_id.as_ref().or(metadata.device_id.as_ref());
            let key = (
                options.device.clone().or(uri.map(|uri| device(uri))),
                time(when, &place)?,
            );
            let mut values = BTreeMap::new();
            let mut position = read_point.cloned();
            self.values(&place, report, options, &mut values, &mut position)?;
            if values.is_empty() && position.is_none() {
                continue;
            }
            let new = !self.timed.contains_key(&key);
            self.count += usize::from(new);
            let (known_position, known) = self.timed.entry(key).or_default();
            if known_position.is_none() {
                *known_position = position;
            }
            for (name, value) in values {
                if let Some(other) = known
                    .insert(name.clone(), value.clone())
                    .filter(|other| *other != value)
                {
                    return Err(EpcisError::Event {
                        place,
                        why: format!("{name} is {value} and {other} at the same time of the same device"),
                    });
                }
            }
        }
        Ok(())
    }

    /// Adds what a report says; what is not a number or a place is told as skipped.
    fn values(
        &mut self,
        place: &str,
        report: &Report,
        options: &ImportOptions,
        values: &mut BTreeMap<String, Decimal>,
        at: &mut Option<Position>,
    ) -> Result<(), EpcisError> {
        let name = report.field.clone().unwrap_or_else(|| {
            let name = options.vocabulary.name(&report.kind, report.uom.as_deref());
            match &report.component {
                Some(component) => format!("{name}.{}", Names::last_part(component)),
                None => name,
            }
        });
        let mut found = false;
        for (suffix, value) in [
            ("", &report.value),
            (".min", &report.min_value),
            (".max", &report.max_value),
            (".mean", &report.mean_value),
        ] {
            if let Some(value) = value {
                let name = format!("{name}{suffix}");
                if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
                    return Err(EpcisError::Event {
                        place: place.to_owned(),
                        why: format!("{name} is no name for a value; it needs 1 to 64 bytes"),
                    });
                }
                values.insert(name, value.clone());
                found = true;
            }
        }
        if let Some(uri) = &report.uri_value
            && let Some(position) = position(uri, place)?
        {
            *at = Some(position);
            found = true;
        }
        // A reading of ours that had neither values nor a place.
        if !found && report.kind != crate::export::POSITION_TYPE {
            self.skipped
                .push(format!("{place}: {} has no number", report.kind));
        }
        Ok(())
    }

    fn batches(mut self, options: &ImportOptions) -> Result<Imported, EpcisError> {
        let stream = match &options.stream {
            Some(stream) => stream.clone(),
            None => self.stream_of_content()?,
        };
        let mut numbers: BTreeMap<Option<String>, u64> = BTreeMap::new();
        for ((device, time), (position, values)) in std::mem::take(&mut self.timed) {
            let next = numbers.entry(device.clone()).or_default();
            let reading = Reading {
                sequence: *next,
                time,
                position,
                values,
            };
            *next += 1;
            self.numbered
                .entry((device, stream.clone()))
                .or_default()
                .push(reading);
        }
        let mut batches = Vec::new();
        for ((device, stream), readings) in &self.numbered {
            for readings in readings.chunks(MAX_BATCH) {
                let batch = Batch {
                    shipment: &options.shipment,
                    device: device.as_deref(),
                    stream,
                    readings,
                };
                batches.push(to_json(&batch)?);
            }
        }
        Ok(Imported {
            batches,
            readings: self.count,
            skipped: self.skipped,
        })
    }

    /// A stream named after the readings that have none, whatever the spelling of the document.
    fn stream_of_content(&self) -> Result<String, EpcisError> {
        let content: Vec<_> = self.timed.iter().collect();
        let hash = sha256_hex(to_json(&content)?.as_bytes());
        Ok(format!("epcis-{}", hash.get(..20).unwrap_or_default()))
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<String, EpcisError> {
    serde_json::to_string(value).map_err(|why| EpcisError::Document(why.to_string()))
}
