//! Where things lie in the world state.

use selvedge_chaincode::{Result, composite_key};

/// Object type of an RFQ as it stands: (id).
pub(crate) const RFQ: &str = "rfq";
/// Object type of one step of a negotiation: (id, step).
pub(crate) const STEP: &str = "rfq-step";
/// Object type of the entries that list a party's RFQs: (MSP id, RFQ id); the value is the state.
pub(crate) const PARTY: &str = "rfq-party";

/// Object type of a tender: (id).
pub(crate) const TENDER: &str = "tender";
/// Object type of a supplier's answer: (tender, MSP id).
const ANSWER: &str = "tender-answer";
/// Object type of a party's word that a phase is over: (tender, phase, MSP id).
const CLOSING: &str = "tender-closing";
/// Object type of an entry of a tender's history: (tender, transaction id).
pub(crate) const TENDER_STEP: &str = "tender-step";
/// Object type of the entries that list a party's tenders: (MSP id, tender); the value is the state.
pub(crate) const TENDER_PARTY: &str = "tender-party";
/// Object type of a deal's agreed and proposed milestones: (RFQ id).
const DEAL: &str = "deal";
/// Object type of how far a milestone is: (RFQ id, milestone).
const MILESTONE: &str = "deal-milestone";
/// Object type of a party's word that a deal is finished: (RFQ id, MSP id).
const DEAL_FINISH: &str = "deal-finish";
/// Object type of an entry of a deal's history: (RFQ id, transaction id).
pub(crate) const DEAL_STEP: &str = "deal-step";

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

pub(crate) fn tender(id: &str) -> Result<String> {
    composite_key(TENDER, &[id])
}

pub(crate) fn answer(tender: &str, msp_id: &str) -> Result<String> {
    composite_key(ANSWER, &[tender, msp_id])
}

pub(crate) fn closing(tender: &str, phase: &str, msp_id: &str) -> Result<String> {
    composite_key(CLOSING, &[tender, phase, msp_id])
}

pub(crate) fn tender_step(tender: &str, tx_id: &str) -> Result<String> {
    composite_key(TENDER_STEP, &[tender, tx_id])
}

pub(crate) fn tender_party(msp_id: &str, tender: &str) -> Result<String> {
    composite_key(TENDER_PARTY, &[msp_id, tender])
}

pub(crate) fn deal(rfq: &str) -> Result<String> {
    composite_key(DEAL, &[rfq])
}

pub(crate) fn milestone(rfq: &str, milestone: &str) -> Result<String> {
    composite_key(MILESTONE, &[rfq, milestone])
}

pub(crate) fn deal_finish(rfq: &str, msp_id: &str) -> Result<String> {
    composite_key(DEAL_FINISH, &[rfq, msp_id])
}

pub(crate) fn deal_step(rfq: &str, tx_id: &str) -> Result<String> {
    composite_key(DEAL_STEP, &[rfq, tx_id])
}
