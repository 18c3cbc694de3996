//! The parts of an EPCIS 2.0 document that are written here: names and nesting as in GS1's JSON schema.

use selvedge_chaincode::{Decimal, Timestamp};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// GS1's context for EPCIS 2.0.
pub(crate) const CONTEXT: &str = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld";
/// What the prefix of our extensions stands for.
pub(crate) const EXTENSION: &str = "urn:selvedge:epcis:";

/// A decimal as a JSON number, every digit kept.
fn number<S: Serializer>(value: &Option<Decimal>, serializer: S) -> Result<S::Ok, S::Error> {
    let raw = value
        .as_ref()
        .map(|value| RawValue::from_string(value.to_string()))
        .transpose()
        .map_err(serde::ser::Error::custom)?;
    raw.serialize(serializer)
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Prefixes {
    pub(crate) selvedge: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ContextPart {
    Uri(&'static str),
    Prefixes(Prefixes),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document<'a> {
    #[serde(rename = "@context")]
    pub(crate) context: [ContextPart; 2],
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) schema_version: &'static str,
    pub(crate) creation_date: Timestamp,
    pub(crate) epcis_body: Body<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body<'a> {
    pub(crate) event_list: &'a [Event],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Identified {
    pub(crate) id: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BizTransaction {
    pub(crate) biz_transaction: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Source {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) source: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Destination {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) destination: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct PersistentDisposition {
    pub(crate) set: [&'static str; 1],
}

/// An agreed range, as an extension.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Limit {
    #[serde(rename = "selvedge:field")]
    pub(crate) field: String,
    #[serde(
        rename = "selvedge:min",
        skip_serializing_if = "Option::is_none",
        serialize_with = "number"
    )]
    pub(crate) min: Option<Decimal>,
    #[serde(
        rename = "selvedge:max",
        skip_serializing_if = "Option::is_none",
        serialize_with = "number"
    )]
    pub(crate) max: Option<Decimal>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(rename = "eventID")]
    pub(crate) event_id: String,
    pub(crate) event_time: Timestamp,
    pub(crate) event_time_zone_offset: &'static str,
    pub(crate) epc_list: Vec<String>,
    pub(crate) action: &'static str,
    pub(crate) biz_step: &'static str,
    pub(crate) disposition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) persistent_disposition: Option<PersistentDisposition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read_point: Option<Identified>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) biz_transaction_list: Vec<BizTransaction>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) source_list: Vec<Source>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) destination_list: Vec<Destination>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sensor_element_list: Vec<SensorElement>,
    #[serde(rename = "selvedge:goods", skip_serializing_if = "Option::is_none")]
    pub(crate) goods: Option<String>,
    #[serde(
        rename = "selvedge:quantity",
        skip_serializing_if = "Option::is_none",
        serialize_with = "number"
    )]
    pub(crate) quantity: Option<Decimal>,
    #[serde(rename = "selvedge:conditions", skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditions: Vec<Limit>,
    #[serde(rename = "selvedge:note", skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    #[serde(rename = "selvedge:txId", skip_serializing_if = "Option::is_none")]
    pub(crate) tx_id: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SensorElement {
    pub(crate) sensor_metadata: SensorMetadata,
    pub(crate) sensor_report: Vec<SensorReport>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct SensorMetadata {
    pub(crate) time: Timestamp,
    #[serde(rename = "deviceID")]
    pub(crate) device_id: String,
    #[serde(rename = "selvedge:stream")]
    pub(crate) stream: String,
    #[serde(rename = "selvedge:sequence")]
    pub(crate) sequence: u64,
    #[serde(rename = "selvedge:txId")]
    pub(crate) tx_id: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SensorReport {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number")]
    pub(crate) value: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uri_value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uom: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exception: Option<&'static str>,
    #[serde(rename = "selvedge:field", skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
}
