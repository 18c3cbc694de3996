//! Reading tenders and offers.

use std::collections::BTreeMap;

use selvedge_chaincode::json::Object;
use selvedge_chaincode::{Condition, Decimal, Error, Result, Timestamp, msp_id};

use super::model::{Tender, TenderOffer};
use crate::input::{currency, item, note, price, quantity, set_condition, terms};

const MAX_SUPPLIERS: usize = 64;
const MAX_CRITERIA: usize = 4096;

/// A tender as it was sent.
pub(crate) struct SentTender {
    pub(crate) id: Option<String>,
    pub(crate) item: String,
    pub(crate) quantity: Decimal,
    pub(crate) currency: String,
    pub(crate) suppliers: Vec<String>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) criteria: Option<String>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) reveal_by: Option<Timestamp>,
    pub(crate) quorum: usize,
    pub(crate) terms: BTreeMap<String, String>,
    pub(crate) note: Option<String>,
}

impl SentTender {
    /// Reads a tender of the organisation `buyer`; fields that are not known become terms.
    pub(crate) fn read(mut object: Object<'_>, buyer: &str) -> Result<Self> {
        let id = object.optional("id").map(|id| id.id()).transpose()?;
        let item = item(&object.require("item")?)?;
        let quantity = quantity(&object.require("quantity")?)?;
        let currency = currency(&object.require("currency")?)?;
        let suppliers = suppliers(&mut object, buyer)?;
        let conditions = Condition::read_list(&mut object, "conditions")?;
        let criteria = object
            .optional("criteria")
            .map(|field| field.text(MAX_CRITERIA))
            .transpose()?;
        let deadline = object
            .optional("deadline")
            .map(|field| field.time())
            .transpose()?;
        let reveal_by = object
            .optional("revealBy")
            .map(|field| field.time())
            .transpose()?;
        if let (Some(deadline), Some(reveal_by)) = (deadline, reveal_by)
            && reveal_by < deadline
        {
            return Err(Error::bad_request(format!(
                "tender.revealBy {reveal_by} is before the deadline {deadline}"
            )));
        }
        let quorum = match object.optional("quorum") {
            Some(field) => {
                let quorum = usize::try_from(field.integer()?).unwrap_or(usize::MAX);
                if quorum == 0 || quorum > suppliers.len() {
                    return Err(Error::bad_request(format!(
                        "{} must be 1 to {}, the number of suppliers, not {quorum}",
                        field.path(),
                        suppliers.len()
                    )));
                }
                quorum
            }
            None => half(suppliers.len()),
        };
        let note = note(&mut object)?;
        let terms = terms(object)?;
        Ok(Self {
            id,
            item,
            quantity,
            currency,
            suppliers,
            conditions,
            criteria,
            deadline,
            reveal_by,
            quorum,
            terms,
            note,
        })
    }
}

/// At least half of so many, and at least one.
pub(crate) fn half(count: usize) -> usize {
    count.div_ceil(2).max(1)
}

fn suppliers(object: &mut Object<'_>, buyer: &str) -> Result<Vec<String>> {
    let mut suppliers: Vec<String> = Vec::new();
    for field in object.require("suppliers")?.list(MAX_SUPPLIERS)? {
        let supplier = msp_id(&field)?;
        if supplier == buyer {
            return Err(Error::bad_request(format!(
                "{}: you cannot invite your own organization",
                field.path()
            )));
        }
        if !suppliers.contains(&supplier) {
            suppliers.push(supplier);
        }
    }
    if suppliers.is_empty() {
        return Err(Error::bad_request("tender.suppliers must not be empty"));
    }
    Ok(suppliers)
}

/// Reads a revealed offer: `{"price","conditions"?,"note"?, further terms}`, on top of what the tender says.
pub(crate) fn offer(text: &str, tender: &Tender) -> Result<TenderOffer> {
    let mut object = Object::parse(text, "offer")?;
    let price = price(&object.require("price")?)?;
    let own = Condition::read_list(&mut object, "conditions")?;
    let note = note(&mut object)?;
    let own_terms = terms(object)?;
    let mut conditions = tender.conditions.clone();
    for condition in &own {
        set_condition(&mut conditions, condition);
    }
    let mut terms = tender.terms.clone();
    terms.extend(own_terms);
    Ok(TenderOffer {
        price,
        conditions,
        terms,
        note,
    })
}
