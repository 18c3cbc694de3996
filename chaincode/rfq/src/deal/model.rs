//! What is kept of a deal.

use selvedge_chaincode::{Decimal, DocumentHash, Timestamp};
use serde::{Deserialize, Serialize};

/// One thing that has to be done, as agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Milestone {
    pub(crate) id: String,
    pub(crate) title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) due: Option<Timestamp>,
    /// What it is worth, in the deal's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<Decimal>,
    /// MSP id of the party that has to do it.
    pub(crate) by: String,
}

/// Milestones that wait for the other party's agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Proposal {
    pub(crate) by: String,
    pub(crate) milestones: Vec<Milestone>,
    pub(crate) at: Timestamp,
    /// The transaction: names exactly this proposal.
    pub(crate) tx_id: String,
}

/// The agreed milestones and a proposal for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) struct Plan {
    pub(crate) milestones: Vec<Milestone>,
    pub(crate) proposal: Option<Proposal>,
}

/// How far a milestone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Progress {
    /// To be done.
    #[default]
    Planned,
    /// Reported as done.
    Reached,
    /// The other party agrees that it is done.
    Confirmed,
}

/// A document that stays at home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    #[serde(flatten)]
    pub(crate) hash: DocumentHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<String>,
}

/// How far a milestone is; a key of its own, absent while it is planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reached {
    pub(crate) state: Progress,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reached_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) confirmed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) evidence: Option<Evidence>,
}

/// What a party did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DealAction {
    Proposed,
    Agreed,
    Reached,
    Confirmed,
    Refused,
    /// Said that the deal is finished; the other party has to say so too.
    Finishing,
    Finished,
}

impl DealAction {
    /// Name of the event.
    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::Proposed => "deal.proposed",
            Self::Agreed => "deal.agreed",
            Self::Reached => "deal.reached",
            Self::Confirmed => "deal.confirmed",
            Self::Refused => "deal.refused",
            Self::Finishing => "deal.finishing",
            Self::Finished => "deal.finished",
        }
    }
}

/// One entry of a deal's history, written once under its transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DealStep {
    pub(crate) action: DealAction,
    pub(crate) by: String,
    pub(crate) user: String,
    pub(crate) at: Timestamp,
    pub(crate) tx_id: String,
    pub(crate) milestone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}
