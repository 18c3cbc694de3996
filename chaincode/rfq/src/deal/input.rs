//! Reading milestones and what is said about them.

use selvedge_chaincode::json::{Field, Object};
use selvedge_chaincode::{DocumentHash, Error, Result, msp_id};

use super::model::{Evidence, Milestone};
use crate::model::Rfq;

const MAX_MILESTONES: usize = 64;
const MAX_TITLE: usize = 1024;
const MAX_RECORD: usize = 128;

/// Reads the milestones of a proposal; the supplier has to do what is not said to be another's.
pub(crate) fn milestones(object: &mut Object<'_>, rfq: &Rfq) -> Result<Vec<Milestone>> {
    let mut milestones: Vec<Milestone> = Vec::new();
    for field in object.require("milestones")?.list(MAX_MILESTONES)? {
        let milestone = milestone(&field, rfq)?;
        if milestones.iter().any(|other| other.id == milestone.id) {
            return Err(Error::bad_request(format!(
                "{}: there is already a milestone {}",
                field.path(),
                milestone.id
            )));
        }
        milestones.push(milestone);
    }
    if milestones.is_empty() {
        return Err(Error::bad_request("proposal.milestones must not be empty"));
    }
    Ok(milestones)
}

fn milestone(field: &Field<'_>, rfq: &Rfq) -> Result<Milestone> {
    let mut object = field.object()?;
    let id = object.require("id")?.id()?;
    let title = object.require("title")?.text(MAX_TITLE)?;
    let due = object.optional("due").map(|field| field.time()).transpose()?;
    let amount = match object.optional("amount") {
        Some(field) => {
            let amount = field.decimal()?;
            if amount.is_negative() {
                return Err(Error::bad_request(format!(
                    "{} must not be negative, but is {amount}",
                    field.path()
                )));
            }
            Some(amount)
        }
        None => None,
    };
    let by = match object.optional("by") {
        Some(field) => {
            let by = msp_id(&field)?;
            if by != rfq.offeror && by != rfq.target {
                return Err(Error::bad_request(format!(
                    "{} must be a party of RFQ {}, {} or {}, not {by}",
                    field.path(),
                    rfq.id,
                    rfq.offeror,
                    rfq.target
                )));
            }
            by
        }
        None => rfq.target.clone(),
    };
    object.finish()?;
    Ok(Milestone {
        id,
        title,
        due,
        amount,
        by,
    })
}

/// Reads the optional field `evidence`: `{"hash","algorithm"?,"record"?}`.
pub(crate) fn evidence(object: &mut Object<'_>) -> Result<Option<Evidence>> {
    let Some(field) = object.optional("evidence") else {
        return Ok(None);
    };
    let mut object = field.object()?;
    let hash = DocumentHash::read(&mut object)?
        .ok_or_else(|| Error::bad_request(format!("{}.hash is missing", field.path())))?;
    let record = object
        .optional("record")
        .map(|field| field.label(MAX_RECORD))
        .transpose()?;
    object.finish()?;
    Ok(Some(Evidence { hash, record }))
}
