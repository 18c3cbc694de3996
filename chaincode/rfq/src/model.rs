//! What is kept of a negotiation.

use std::collections::BTreeMap;

use selvedge_chaincode::{Condition, Decimal, Timestamp};
use serde::{Deserialize, Serialize};

/// How far a negotiation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// One party's answer is awaited.
    Open,
    /// Agreed; the RFQ as it stands is the agreement.
    Accepted,
    /// Ended without an agreement.
    Rejected,
}

impl State {
    /// The state as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }
}

/// What a party did in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Opened the negotiation.
    Offer,
    /// Changed the offer and passed the turn.
    CounterOffer,
    /// Agreed.
    Accept,
    /// Ended it.
    Reject,
    /// Accepted an offer of a tender; the only step of such an RFQ.
    Award,
}

/// An RFQ as it stands after its last step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rfq {
    /// Its id, unique in the channel.
    pub id: String,
    /// How far the negotiation is.
    pub state: State,
    /// MSP id of the organisation that made the first offer.
    pub offeror: String,
    /// MSP id of the other organisation.
    pub target: String,
    /// MSP id of the organisation that may answer; none when the negotiation has ended.
    pub turn: Option<String>,
    /// What is negotiated about.
    pub item: String,
    /// Price in `currency`.
    pub price: Decimal,
    /// Quantity of the item.
    pub quantity: Decimal,
    /// Currency of the price, for example USD.
    pub currency: String,
    /// Conditions that the goods have to keep.
    pub conditions: Vec<Condition>,
    /// Whatever else the parties agree on, by name, for example `deliveryDate`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, String>,
    /// The tender that it was awarded in, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tender: Option<String>,
    /// Number of steps so far.
    pub steps: u32,
    /// Timestamp of the transaction that made the first offer.
    pub created_at: Timestamp,
    /// Timestamp of the transaction of the last step.
    pub updated_at: Timestamp,
}

impl Rfq {
    /// The party that is not `msp_id`.
    pub fn other(&self, msp_id: &str) -> &str {
        if self.offeror == msp_id {
            &self.target
        } else {
            &self.offeror
        }
    }
}

/// A value before or after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Text(String),
    Number(Decimal),
    Limits(Condition),
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Subject {
    /// A field of the offer.
    Field(String),
    /// The condition for a field.
    Condition(String),
}

/// One change from one step to the next; `None` means that there was, or is, nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    #[serde(flatten)]
    pub(crate) subject: Subject,
    pub(crate) from: Option<Value>,
    pub(crate) to: Option<Value>,
}

/// One step of a negotiation, written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    pub(crate) step: u32,
    pub(crate) action: Action,
    /// MSP id of the acting organisation.
    pub(crate) by: String,
    /// Common name in the acting certificate.
    pub(crate) user: String,
    pub(crate) at: Timestamp,
    pub(crate) tx_id: String,
    pub(crate) changes: Vec<Change>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}
