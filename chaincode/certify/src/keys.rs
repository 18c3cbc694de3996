//! Where things lie in the world state.

use selvedge_chaincode::{Result, composite_key};

/// Object type of a certificate: (part, record, MSP id, revision).
pub(crate) const CERTIFICATE: &str = "certificate";
/// Object type of the end of a record's line of revisions: (part, record, MSP id).
const HEAD: &str = "head";
/// Object type of the entries that find certificates by hash: (hash, part, record, MSP id, revision).
pub(crate) const HASH: &str = "certificate-hash";
/// Object type of the list of a transaction's certificates: (transaction id).
const TRANSACTION: &str = "certificate-tx";
/// Object type of the entries that list parts: (part). Written without being read, so that certificates for the same
/// part do not conflict.
pub(crate) const PART: &str = "part";

/// Revisions have a fixed width, so that keys sort as they were made.
fn digits(revision: u32) -> String {
    format!("{revision:010}")
}

pub(crate) fn certificate(part: &str, record: &str, msp_id: &str, revision: u32) -> Result<String> {
    composite_key(CERTIFICATE, &[part, record, msp_id, &digits(revision)])
}

pub(crate) fn head(part: &str, record: &str, msp_id: &str) -> Result<String> {
    composite_key(HEAD, &[part, record, msp_id])
}

pub(crate) fn hash(hash: &str, part: &str, record: &str, msp_id: &str, revision: u32) -> Result<String> {
    composite_key(HASH, &[hash, part, record, msp_id, &digits(revision)])
}

pub(crate) fn transaction(tx_id: &str) -> Result<String> {
    composite_key(TRANSACTION, &[tx_id])
}

pub(crate) fn part(part: &str) -> Result<String> {
    composite_key(PART, &[part])
}
