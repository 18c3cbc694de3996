//! What is kept of a shipment.

use std::collections::BTreeMap;

use selvedge_chaincode::{Condition, Decimal, Timestamp};
use serde::{Deserialize, Serialize};

/// The agreement that a shipment was created from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RfqReference {
    /// Name of the RFQ chaincode on this channel.
    pub chaincode: String,
    /// Id of the RFQ there.
    pub id: String,
}

/// A device that may write readings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRef {
    /// MSP id of the organisation that enrolled it; none means any party of the shipment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msp_id: Option<String>,
    /// Its device id.
    pub id: String,
}

/// What was agreed when the shipment was created. Only `amend` changes it, and only by adding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shipment {
    /// Its id, unique in the channel.
    pub id: String,
    /// What is shipped.
    pub goods: String,
    /// How much of it, if told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<Decimal>,
    /// MSP id of the organisation that sends.
    pub shipper: String,
    /// MSP id of the organisation that receives.
    pub consignee: String,
    /// MSP ids of the organisations that may carry.
    pub carriers: Vec<String>,
    /// Conditions that the goods have to keep on the way.
    pub conditions: Vec<Condition>,
    /// Devices that may write readings; empty means every device of a party.
    pub devices: Vec<DeviceRef>,
    /// Whatever else was agreed, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, String>,
    /// When the goods are due, if agreed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_by: Option<Timestamp>,
    /// True when the holder can hand over without the other side's acceptance.
    pub direct_handover: bool,
    /// The agreement behind it, if it was created from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rfq: Option<RfqReference>,
    /// MSP id of the organisation that created the record.
    pub created_by: String,
    /// Timestamp of the creating transaction.
    pub created_at: Timestamp,
}

impl Shipment {
    /// Shipper, consignee and carriers.
    pub fn parties(&self) -> impl Iterator<Item = &str> {
        [self.shipper.as_str(), self.consignee.as_str()]
            .into_iter()
            .chain(self.carriers.iter().map(String::as_str))
    }

    /// True for shipper, consignee and carriers.
    pub fn is_party(&self, msp_id: &str) -> bool {
        self.parties().any(|party| party == msp_id)
    }
}

/// How far a shipment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// With the shipper.
    Created,
    /// With someone else than the shipper, on its way.
    InTransit,
    /// With the consignee; custody does not change any more.
    Delivered,
}

impl Status {
    /// The status as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::InTransit => "inTransit",
            Self::Delivered => "delivered",
        }
    }
}

/// One holder in the line of custody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustodyStep {
    /// MSP id of the organisation that has the goods from here on.
    pub holder: String,
    /// MSP id of the organisation that confirmed it.
    pub by: String,
    /// Common name in the confirming certificate.
    pub user: String,
    /// Timestamp of the transaction.
    pub at: Timestamp,
    /// The transaction.
    pub tx_id: String,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A hand-over that the other side has not accepted yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingHandover {
    /// MSP id of the organisation that is to take over.
    pub to: String,
    /// Timestamp of the offer.
    pub at: Timestamp,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Where the goods are and have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Custody {
    /// How far the shipment is.
    pub status: Status,
    /// MSP id of the organisation that has the goods.
    pub holder: String,
    /// A hand-over waiting for acceptance.
    pub pending: Option<PendingHandover>,
    /// The line of custody, first holder first.
    pub line: Vec<CustodyStep>,
    /// Timestamp of the delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
}

/// Where a reading was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Degrees north, WGS 84.
    pub lat: Decimal,
    /// Degrees east, WGS 84.
    pub lon: Decimal,
    /// How exact it is: metres, or the method when that is all that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<String>,
}

/// What a device measured at one time. `recorded_at` and `tx_id` tell how it came here and do not belong to its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// The shipment that it belongs to.
    pub shipment: String,
    /// MSP id of the organisation that enrolled the device.
    pub msp_id: String,
    /// Device id.
    pub device: String,
    /// Sequence of readings within the device.
    pub stream: String,
    /// Number within the stream.
    pub sequence: u64,
    /// When it was measured, by the device's clock.
    pub time: Timestamp,
    /// Where it was measured, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// What was measured, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Decimal>,
    /// The gateway that wrote it in the device's name, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Timestamp of the transaction that recorded it.
    pub recorded_at: Timestamp,
    /// The transaction that recorded it.
    pub tx_id: String,
}

impl Reading {
    /// True when the other one says the same, however it came here.
    pub fn same_content(&self, other: &Self) -> bool {
        self.time == other.time && self.position == other.position && self.values == other.values
    }
}
