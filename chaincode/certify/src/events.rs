//! The event of a transaction that certified something new.

use selvedge_chaincode::{Context, Result, Timestamp};
use serde::Serialize;

use crate::model::Certificate;

/// Records that one event lists; it tells by its count how many there were in all.
const MAX_EVENT: usize = 100;

#[derive(Serialize)]
struct Listed<'a> {
    part: &'a str,
    record: &'a str,
    hash: &'a str,
    revision: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    count: usize,
    msp_id: &'a str,
    user: &'a str,
    at: Timestamp,
    tx_id: &'a str,
    records: Vec<Listed<'a>>,
}

impl<'a> From<&'a Certificate> for Listed<'a> {
    fn from(certificate: &'a Certificate) -> Self {
        Self {
            part: &certificate.part,
            record: &certificate.record,
            hash: &certificate.hash.hash,
            revision: certificate.revision,
        }
    }
}

/// Sets the transaction's event, if there is anything to tell.
pub(crate) fn certified(ctx: &Context<'_>, new: &[Certificate]) -> Result<()> {
    let Some(first) = new.first() else {
        return Ok(());
    };
    ctx.set_json_event(
        "certify.certified",
        &Payload {
            count: new.len(),
            msp_id: &first.msp_id,
            user: &first.user,
            at: first.certified_at,
            tx_id: &first.tx_id,
            records: new.iter().take(MAX_EVENT).map(Listed::from).collect(),
        },
    )
}
