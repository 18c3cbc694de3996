//! Reading what callers send.

use std::collections::BTreeMap;

use selvedge_chaincode::json::{Field, Object};
use selvedge_chaincode::{Decimal, Error, Result, Timestamp};

use crate::model::{DeviceRef, Position};

pub(crate) const MAX_MSP_ID: usize = 128;
pub(crate) const MAX_GOODS: usize = 1024;
pub(crate) const MAX_CARRIERS: usize = 32;
pub(crate) const MAX_DEVICES: usize = 256;
const MAX_NOTE: usize = 4096;
const MAX_VALUES: usize = 64;
const MAX_ACCURACY: usize = 32;

pub(crate) fn msp_id(field: &Field<'_>) -> Result<String> {
    field.text(MAX_MSP_ID)
}

pub(crate) fn note(object: &mut Object<'_>) -> Result<Option<String>> {
    object
        .optional("note")
        .map(|note| note.text(MAX_NOTE))
        .transpose()
}

pub(crate) fn carriers(object: &mut Object<'_>) -> Result<Vec<String>> {
    let mut carriers = Vec::new();
    for field in object.list("carriers", MAX_CARRIERS)? {
        let carrier = msp_id(&field)?;
        if !carriers.contains(&carrier) {
            carriers.push(carrier);
        }
    }
    Ok(carriers)
}

/// A device is its id, or `{"mspId","id"}` when only that organisation's device of this name is meant.
pub(crate) fn devices(object: &mut Object<'_>) -> Result<Vec<DeviceRef>> {
    let mut devices = Vec::new();
    for field in object.list("devices", MAX_DEVICES)? {
        let device = if field.is_object() {
            let mut object = field.object()?;
            let id = object.require("id")?.id()?;
            let msp_id = object.optional("mspId").map(|field| msp_id(&field)).transpose()?;
            object.finish()?;
            DeviceRef { msp_id, id }
        } else {
            DeviceRef {
                msp_id: None,
                id: field.id()?,
            }
        };
        if !devices.contains(&device) {
            devices.push(device);
        }
    }
    Ok(devices)
}

/// A reading as it was sent; `shipment` and `stream` may come from the batch around it.
pub(crate) struct SentReading {
    pub(crate) shipment: String,
    pub(crate) device: Option<String>,
    pub(crate) stream: String,
    pub(crate) sequence: u64,
    pub(crate) time: Timestamp,
    pub(crate) position: Option<Position>,
    pub(crate) values: BTreeMap<String, Decimal>,
}

/// What all readings of a batch have in common.
#[derive(Default)]
pub(crate) struct Common {
    pub(crate) shipment: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) stream: Option<String>,
}

impl Common {
    pub(crate) fn read(object: &mut Object<'_>) -> Result<Self> {
        Ok(Self {
            shipment: object.optional("shipment").map(|field| field.id()).transpose()?,
            device: object.optional("device").map(|field| field.id()).transpose()?,
            stream: object.optional("stream").map(|field| field.id()).transpose()?,
        })
    }
}

fn degrees(object: &mut Object<'_>, name: &'static str, limit: i64) -> Result<Decimal> {
    let field = object.require(name)?;
    let value = field.decimal()?;
    if value < Decimal::from(-limit) || value > Decimal::from(limit) {
        return Err(Error::bad_request(format!(
            "{} must be -{limit} to {limit} degrees, not {value}",
            field.path()
        )));
    }
    Ok(value)
}

fn position(field: &Field<'_>) -> Result<Position> {
    let mut object = field.object()?;
    let lat = degrees(&mut object, "lat", 90)?;
    let lon = degrees(&mut object, "lon", 180)?;
    // Metres in one spelling, so that the same accuracy is the same content.
    let accuracy = object
        .optional("accuracy")
        .map(|field| field.scalar(MAX_ACCURACY))
        .transpose()?;
    let accuracy = accuracy.map(|text| text.parse::<Decimal>().map_or(text, |metres| metres.to_string()));
    object.finish()?;
    Ok(Position { lat, lon, accuracy })
}

fn values(field: &Field<'_>) -> Result<BTreeMap<String, Decimal>> {
    let entries = field.object()?.rest();
    if entries.len() > MAX_VALUES {
        return Err(Error::bad_request(format!(
            "{} has {} values, at most {MAX_VALUES} are allowed",
            field.path(),
            entries.len()
        )));
    }
    let mut values = BTreeMap::new();
    for (name, value) in entries {
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err(Error::bad_request(format!(
                "{} needs a name of 1 to 64 bytes",
                value.path()
            )));
        }
        if !value.is_blank() {
            values.insert(name, value.decimal()?);
        }
    }
    Ok(values)
}

/// A part that may stand in the reading or in the batch around it.
fn own_or_common(
    object: &mut Object<'_>,
    name: &'static str,
    common: Option<&String>,
) -> Result<Option<String>> {
    let own = object.optional(name).map(|field| field.id()).transpose()?;
    Ok(own.or_else(|| common.cloned()))
}

impl SentReading {
    /// Reads `{"shipment","device"?,"stream","sequence","time","position"?,"values"?}`.
    pub(crate) fn read(field: &Field<'_>, common: &Common) -> Result<Self> {
        let mut object = field.object()?;
        let missing = |name: &str| Error::bad_request(format!("{}.{name} is missing", field.path()));
        let shipment = own_or_common(&mut object, "shipment", common.shipment.as_ref())?;
        let device = own_or_common(&mut object, "device", common.device.as_ref())?;
        let stream = own_or_common(&mut object, "stream", common.stream.as_ref())?;
        let reading = Self {
            shipment: shipment.ok_or_else(|| missing("shipment"))?,
            device,
            stream: stream.ok_or_else(|| missing("stream"))?,
            sequence: object.require("sequence")?.integer()?,
            time: object.require("time")?.time()?,
            position: object
                .optional("position")
                .map(|field| position(&field))
                .transpose()?,
            values: object
                .optional("values")
                .map(|field| values(&field))
                .transpose()?
                .unwrap_or_default(),
        };
        object.finish()?;
        Ok(reading)
    }
}
