//! Where things lie in the world state.
//!
//! What a reading has to look at (parties, devices, conditions) is kept apart from what changes while it travels
//! (custody): a hand-over must not invalidate the readings that are on their way in the same block.

use selvedge_chaincode::{Result, composite_key};

/// Object type of what was agreed: (id).
pub(crate) const SHIPMENT: &str = "shipment";
/// Object type of where the goods are: (id).
const CUSTODY: &str = "custody";
/// Object type of a reading: (shipment, MSP id, device, stream, sequence).
pub(crate) const READING: &str = "reading";
/// Object type of the entries that list a party's shipments: (MSP id, shipment id).
pub(crate) const PARTY: &str = "shipment-party";
/// Object type of the entry that keeps an RFQ from being shipped twice: (chaincode, RFQ id); the value is the shipment id.
const FROM_RFQ: &str = "shipment-rfq";

pub(crate) fn shipment(id: &str) -> Result<String> {
    composite_key(SHIPMENT, &[id])
}

pub(crate) fn custody(id: &str) -> Result<String> {
    composite_key(CUSTODY, &[id])
}

pub(crate) fn party(msp_id: &str, id: &str) -> Result<String> {
    composite_key(PARTY, &[msp_id, id])
}

pub(crate) fn from_rfq(chaincode: &str, rfq: &str) -> Result<String> {
    composite_key(FROM_RFQ, &[chaincode, rfq])
}

/// The sequence has the width of the greatest number, so that keys sort as it counts.
pub(crate) fn reading(
    shipment: &str,
    msp_id: &str,
    device: &str,
    stream: &str,
    sequence: u64,
) -> Result<String> {
    composite_key(
        READING,
        &[shipment, msp_id, device, stream, &format!("{sequence:020}")],
    )
}
