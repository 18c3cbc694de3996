//! What is kept of a certified record.

use selvedge_chaincode::{DocumentHash, Timestamp};
use serde::{Deserialize, Serialize};

/// One revision of a record, written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The part that the record is about.
    pub part: String,
    /// MSP id of the organisation that keeps the record.
    pub msp_id: String,
    /// The record's id in its database.
    pub record: String,
    /// Number of the revision, from 1.
    pub revision: u32,
    /// The hash and how it was made.
    #[serde(flatten)]
    pub hash: DocumentHash,
    /// When the record was made, by the enterprise's clock, if told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Common name in the certifying certificate.
    pub user: String,
    /// True when a device or gateway certified it.
    pub device: bool,
    /// SHA-256 of the certifying certificate (DER), lower-case hex.
    pub certificate_hash: String,
    /// The hash of the revision before, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Timestamp of the transaction.
    pub certified_at: Timestamp,
    /// The transaction.
    pub tx_id: String,
}

/// Where the line of a record's revisions ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) revision: u32,
    #[serde(flatten)]
    pub(crate) hash: DocumentHash,
}

/// A certificate as entries of other lists name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reference {
    pub(crate) part: String,
    pub(crate) record: String,
    pub(crate) msp_id: String,
    pub(crate) revision: u32,
}

/// What a hash is to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The record has this hash now.
    Current,
    /// The record had it and has been changed since.
    Outdated,
    /// The record is certified with other hashes only.
    Differs,
    /// Nothing is certified under what was asked for.
    Unknown,
}
