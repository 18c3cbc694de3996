//! Where things lie in the world state.

use selvedge_chaincode::{Result, composite_key};

/// Object type of an RFQ as it stands: (id).
pub(crate) const RFQ: &str = "rfq";
/// Object type of one step of a negotiation: (id, step).
pub(crate) const STEP: &str = "rfq-step";
/// Object type of the entries that list a party's RFQs: (MSP id, RFQ id); the value is the state.
pub(crate) const PARTY: &str = "rfq-party";

pub(crate) fn rfq(id: &str) -> Result<String> {
    composite_key(RFQ, &[id])
}

/// Step numbers have a fixed width, so that keys sort as the steps happened.
pub(crate) fn step(id: &str, step: u32) -> Result<String> {
    composite_key(STEP, &[id, &format!("{step:010}")])
}

pub(crate) fn party(msp_id: &str, id: &str) -> Result<String> {
    composite_key(PARTY, &[msp_id, id])
}
