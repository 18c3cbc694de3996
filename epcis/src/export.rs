//! From what the shipment contract answers to EPCIS events.

use selvedge_chaincode::{Condition, Timestamp};
use selvedge_chaincode_shipment::{Custody, CustodyStep, Position, Reading, Shipment, Status};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::document::{
    BizTransaction, Body, CONTEXT, ContextPart, Destination, Document, EXTENSION, Event, Identified, Limit,
    PersistentDisposition, Prefixes, SensorElement, SensorMetadata, SensorReport, Source,
};
use crate::{EpcisError, Names, Vocabulary};

/// Readings that one event holds at most.
pub const MAX_ELEMENTS: usize = 100;

/// Type of the report that stands for a reading without values: the place is all that it tells.
pub(crate) const POSITION_TYPE: &str = "selvedge:position";

/// Collects the events of one shipment.
#[derive(Debug)]
pub struct Exporter {
    names: Names,
    vocabulary: Vocabulary,
    shipment: Shipment,
    custody: Custody,
    events: Vec<Event>,
    /// Readings of one stream at one place that are not an event yet.
    open: Vec<(Reading, Vec<Condition>)>,
    violated: bool,
}

#[derive(Deserialize)]
struct Held {
    custody: Custody,
}

/// A page of readings; each is read twice, once as a reading and once for what stands beside it, because serde reads
/// exact decimals only from their own text.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    readings: Vec<&'a RawValue>,
    #[serde(default)]
    bookmark: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Judged {
    #[serde(default)]
    violates: Vec<Condition>,
    #[serde(default)]
    after_delivery: bool,
}

fn read<'a, T: Deserialize<'a>>(what: &'static str, json: &'a str) -> Result<T, EpcisError> {
    serde_json::from_str(json).map_err(|why| EpcisError::Answer {
        what,
        why: why.to_string(),
    })
}

impl Exporter {
    /// Starts with the answer of the contract's function `get`.
    ///
    /// # Errors
    /// [`EpcisError::Answer`] when it is something else.
    pub fn new(names: Names, vocabulary: Vocabulary, shipment: &[u8]) -> Result<Self, EpcisError> {
        let text = utf8("the answer of get", shipment)?;
        let held: Held = read("the answer of get", text)?;
        let mut exporter = Self {
            names,
            vocabulary,
            shipment: read("the answer of get", text)?,
            custody: held.custody,
            events: Vec::new(),
            open: Vec::new(),
            violated: false,
        };
        exporter.creation();
        Ok(exporter)
    }

    /// Adds a page of the contract's function `readings`; pages must come in their order. Hands back the bookmark of the
    /// next page, if there is one.
    ///
    /// # Errors
    /// [`EpcisError::Answer`] when it is something else.
    pub fn readings(&mut self, page: &[u8]) -> Result<Option<String>, EpcisError> {
        const WHAT: &str = "the answer of readings";
        let page: Page<'_> = read(WHAT, utf8(WHAT, page)?)?;
        for raw in page.readings {
            let reading: Reading = read(WHAT, raw.get())?;
            let judged: Judged = read(WHAT, raw.get())?;
            self.violated |= !judged.violates.is_empty() && !judged.after_delivery;
            let fits = self.open.len() < MAX_ELEMENTS
                && self
                    .open
                    .last()
                    .is_none_or(|(last, _)| belongs_together(last, &reading));
            if !fits {
                self.close_event();
            }
            self.open.push((reading, judged.violates));
        }
        Ok(page.bookmark)
    }

    /// Ends with the changes of custody, and hands back the whole document as JSON. `created` is the time that it says it
    /// was made at.
    ///
    /// # Errors
    /// [`EpcisError::Document`] when it cannot be written as JSON.
    pub fn finish(mut self, created: Timestamp) -> Result<String, EpcisError> {
        self.close_event();
        self.custody_events();
        // EPCIS gives no order to a list of events; readers like the one in which things happened.
        self.events
            .sort_by(|one, other| (one.event_time, &one.event_id).cmp(&(other.event_time, &other.event_id)));
        let document = Document {
            context: [
                ContextPart::Uri(CONTEXT),
                ContextPart::Prefixes(Prefixes { selvedge: EXTENSION }),
            ],
            kind: "EPCISDocument",
            schema_version: "2.0",
            creation_date: created,
            epcis_body: Body {
                event_list: &self.events,
            },
        };
        serde_json::to_string(&document).map_err(|why| EpcisError::Document(why.to_string()))
    }

    fn organization(&self, msp_id: &str) -> String {
        self.names.uri("organization", &[msp_id])
    }

    /// An event about the shipment with nothing in it yet.
    fn event(&self, at: Timestamp, id: &[&str], step: &'static str, disposition: &'static str) -> Event {
        let mut parts = vec![self.shipment.id.as_str()];
        parts.extend(id);
        let deal = self.shipment.rfq.as_ref().map(|rfq| BizTransaction {
            biz_transaction: self.names.uri("deal", &[&rfq.chaincode, &rfq.id]),
        });
        Event {
            kind: "ObjectEvent",
            event_id: self.names.uri("event", &parts),
            event_time: at,
            event_time_zone_offset: "+00:00",
            epc_list: vec![self.names.uri("shipment", &[&self.shipment.id])],
            action: "OBSERVE",
            biz_step: step,
            disposition,
            persistent_disposition: None,
            read_point: None,
            biz_transaction_list: deal.into_iter().collect(),
            source_list: Vec::new(),
            destination_list: Vec::new(),
            sensor_element_list: Vec::new(),
            goods: None,
            quantity: None,
            conditions: Vec::new(),
            note: None,
            tx_id: None,
        }
    }

    fn creation(&mut self) {
        let mut event = self.event(self.shipment.created_at, &["created"], "commissioning", "active");
        event.action = "ADD";
        event.source_list = vec![Source {
            kind: "owning_party",
            source: self.organization(&self.shipment.shipper),
        }];
        event.destination_list = vec![Destination {
            kind: "owning_party",
            destination: self.organization(&self.shipment.consignee),
        }];
        event.goods = Some(self.shipment.goods.clone());
        event.quantity = self.shipment.quantity.clone();
        event.conditions = self
            .shipment
            .conditions
            .iter()
            .map(|condition| Limit {
                field: condition.field.clone(),
                min: condition.min.clone(),
                max: condition.max.clone(),
            })
            .collect();
        event.tx_id = self.custody.line.first().map(|step| step.tx_id.clone());
        self.events.push(event);
    }

    /// One event for each holder after the first.
    fn custody_events(&mut self) {
        let line = std::mem::take(&mut self.custody.line);
        for pair in line.windows(2) {
            let [from, to] = pair else { continue };
            let delivered =
                self.custody.status == Status::Delivered && self.custody.delivered_at == Some(to.at);
            let event = self.custody_event(from, to, delivered);
            self.events.push(event);
        }
    }

    fn custody_event(&self, from: &CustodyStep, to: &CustodyStep, delivered: bool) -> Event {
        let (step, disposition) = if delivered {
            ("receiving", "in_progress")
        } else {
            ("accepting", "in_transit")
        };
        let mut event = self.event(to.at, &["custody", &to.tx_id], step, disposition);
        if delivered {
            let set = if self.violated {
                "non_conformant"
            } else {
                "conformant"
            };
            event.persistent_disposition = Some(PersistentDisposition { set: [set] });
        }
        event.source_list = vec![Source {
            kind: "possessing_party",
            source: self.organization(&from.holder),
        }];
        event.destination_list = vec![Destination {
            kind: "possessing_party",
            destination: self.organization(&to.holder),
        }];
        event.note = to.note.clone();
        event.tx_id = Some(to.tx_id.clone());
        event
    }

    /// Makes an event of the readings that belong together.
    fn close_event(&mut self) {
        let open = std::mem::take(&mut self.open);
        let (Some((first, _)), Some((last, _))) = (open.first(), open.last()) else {
            return;
        };
        let span = format!("{}-{}", first.sequence, last.sequence);
        let at = open
            .iter()
            .map(|(reading, _)| reading.time)
            .max()
            .unwrap_or(last.time);
        let id = ["readings", &first.msp_id, &first.device, &first.stream, &span];
        let mut event = self.event(at, &id, "sensor_reporting", "in_transit");
        event.read_point = first
            .position
            .as_ref()
            .map(|position| Identified { id: geo(position) });
        event.sensor_element_list = open
            .iter()
            .map(|(reading, violates)| self.element(reading, violates))
            .collect();
        self.events.push(event);
    }

    fn element(&self, reading: &Reading, violates: &[Condition]) -> SensorElement {
        let mut reports: Vec<SensorReport> = reading
            .values
            .iter()
            .map(|(name, value)| {
                let known = self.vocabulary.measurement(name);
                SensorReport {
                    kind: known.map_or_else(
                        || self.names.uri("measurement", &[name]),
                        |measurement| measurement.kind.clone(),
                    ),
                    value: Some(value.clone()),
                    uri_value: None,
                    uom: known.and_then(|measurement| measurement.uom.clone()),
                    exception: violates
                        .iter()
                        .any(|condition| condition.field == *name)
                        .then_some("ALARM_CONDITION"),
                    field: Some(name.clone()),
                }
            })
            .collect();
        // A sensor element needs a report (GS1's schema: minItems 1).
        if reports.is_empty() {
            reports.push(SensorReport {
                kind: POSITION_TYPE.to_owned(),
                value: None,
                uri_value: reading.position.as_ref().map(geo),
                uom: None,
                exception: None,
                field: None,
            });
        }
        SensorElement {
            sensor_metadata: SensorMetadata {
                time: reading.time,
                device_id: self.names.uri("device", &[&reading.msp_id, &reading.device]),
                stream: reading.stream.clone(),
                sequence: reading.sequence,
                tx_id: reading.tx_id.clone(),
            },
            sensor_report: reports,
        }
    }
}

fn belongs_together(one: &Reading, other: &Reading) -> bool {
    one.msp_id == other.msp_id
        && one.device == other.device
        && one.stream == other.stream
        && one.position == other.position
}

/// A place as a `geo` URI (RFC 5870); the accuracy as its uncertainty where it is metres, else as a parameter.
fn geo(position: &Position) -> String {
    let accuracy = position.accuracy.as_ref().map(|accuracy| {
        if accuracy
            .parse::<selvedge_chaincode::Decimal>()
            .is_ok_and(|u| !u.is_negative())
        {
            format!(";u={accuracy}")
        } else {
            format!(";accuracy={}", crate::names::escape(accuracy))
        }
    });
    format!(
        "geo:{},{}{}",
        position.lat,
        position.lon,
        accuracy.unwrap_or_default()
    )
}

fn utf8<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a str, EpcisError> {
    std::str::from_utf8(bytes).map_err(|why| EpcisError::Answer {
        what,
        why: why.to_string(),
    })
}
