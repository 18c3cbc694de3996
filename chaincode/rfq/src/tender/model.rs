//! What is kept of a tender.

use std::collections::BTreeMap;

use selvedge_chaincode::{Condition, Decimal, Timestamp};
use serde::{Deserialize, Serialize};

/// How far a tender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenderState {
    /// Suppliers seal their offers.
    Open,
    /// Bidding is closed; suppliers reveal what they sealed.
    Revealing,
    /// Revealing is closed; what is still sealed is out.
    Revealed,
    /// A supplier has it; there is an accepted RFQ.
    Awarded,
    /// Ended without an award.
    Cancelled,
}

impl TenderState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Open,
        Self::Revealing,
        Self::Revealed,
        Self::Awarded,
        Self::Cancelled,
    ];

    /// The state as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Revealing => "revealing",
            Self::Revealed => "revealed",
            Self::Awarded => "awarded",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What was asked, and how far it is. Suppliers' answers are kept apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tender {
    pub(crate) id: String,
    pub(crate) state: TenderState,
    pub(crate) buyer: String,
    pub(crate) item: String,
    pub(crate) quantity: Decimal,
    pub(crate) currency: String,
    pub(crate) conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) terms: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) criteria: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reveal_by: Option<Timestamp>,
    /// Suppliers who have to agree, besides the buyer, that bidding is closed.
    pub(crate) quorum: usize,
    pub(crate) suppliers: Vec<String>,
    pub(crate) awarded: Option<String>,
    pub(crate) rfq: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// How far an invited supplier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerState {
    /// No answer yet.
    Invited,
    /// Has sealed an offer.
    Sealed,
    /// Will not offer.
    Declined,
    /// Has revealed the sealed offer.
    Revealed,
}

/// What a supplier offers; item, quantity and currency are the tender's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TenderOffer {
    pub(crate) price: Decimal,
    /// The tender's, with the supplier's own in their place.
    pub(crate) conditions: Vec<Condition>,
    /// The tender's, with the supplier's own in their place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) terms: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

/// A supplier's answer as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    pub(crate) msp_id: String,
    pub(crate) state: AnswerState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commitment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sealed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offer: Option<TenderOffer>,
}

impl Answer {
    /// The answer of a supplier who has not given one.
    pub(crate) fn none(msp_id: &str) -> Self {
        Self {
            msp_id: msp_id.to_owned(),
            state: AnswerState::Invited,
            commitment: None,
            sealed_at: None,
            offer: None,
        }
    }
}

/// What a party did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TenderAction {
    Opened,
    Sealed,
    Declined,
    /// Agreed that the time is over; more have to.
    Closing,
    Closed,
    Revealed,
    RevealClosed,
    Awarded,
    Cancelled,
}

impl TenderAction {
    /// Name of the event.
    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::Opened => "tender.opened",
            Self::Sealed => "tender.sealed",
            Self::Declined => "tender.declined",
            Self::Closing => "tender.closing",
            Self::Closed => "tender.closed",
            Self::Revealed => "tender.revealed",
            Self::RevealClosed => "tender.revealClosed",
            Self::Awarded => "tender.awarded",
            Self::Cancelled => "tender.cancelled",
        }
    }
}

/// One entry of a tender's history, written once under its transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TenderStep {
    pub(crate) action: TenderAction,
    pub(crate) by: String,
    pub(crate) user: String,
    pub(crate) at: Timestamp,
    pub(crate) tx_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) supplier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commitment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}
