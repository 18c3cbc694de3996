//! Reading offers and counter-offers, and working out what they change.

use std::collections::BTreeMap;

use selvedge_chaincode::json::{Field, Object, is_id};
pub(crate) use selvedge_chaincode::note;
use selvedge_chaincode::{Condition, Decimal, Error, MAX_CONDITIONS, MAX_MSP_ID, Result};

use crate::model::{Change, Rfq, Subject, Value};

const MAX_ITEM: usize = 1024;
const MAX_CURRENCY: usize = 16;
const MAX_TERMS: usize = 32;
const MAX_TERM: usize = 1024;

/// Names that are not free terms, because the RFQ or its requests use them otherwise.
const RESERVED: &[&str] = &[
    "id",
    "state",
    "offeror",
    "target",
    "turn",
    "conditions",
    "terms",
    "steps",
    "createdAt",
    "updatedAt",
    "changes",
    "removedConditions",
    "fields",
    "note",
];

/// What the parties negotiate about, apart from the conditions.
pub(crate) struct Subjects {
    pub(crate) item: String,
    pub(crate) price: Decimal,
    pub(crate) quantity: Decimal,
    pub(crate) currency: String,
    pub(crate) terms: BTreeMap<String, String>,
}

/// A first offer.
pub(crate) struct Offer {
    pub(crate) id: Option<String>,
    pub(crate) target: String,
    pub(crate) subjects: Subjects,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) note: Option<String>,
}

pub(crate) fn item(field: &Field<'_>) -> Result<String> {
    field.scalar(MAX_ITEM)
}

pub(crate) fn price(field: &Field<'_>) -> Result<Decimal> {
    let price = field.decimal()?;
    if price.is_negative() {
        return Err(Error::bad_request(format!(
            "{} must not be negative, but is {price}",
            field.path()
        )));
    }
    Ok(price)
}

pub(crate) fn quantity(field: &Field<'_>) -> Result<Decimal> {
    let quantity = field.decimal()?;
    if quantity.is_negative() || quantity.is_zero() {
        return Err(Error::bad_request(format!(
            "{} must be greater than 0, but is {quantity}",
            field.path()
        )));
    }
    Ok(quantity)
}

pub(crate) fn currency(field: &Field<'_>) -> Result<String> {
    field.text(MAX_CURRENCY)
}

fn check_term(name: &str, place: &str) -> Result<()> {
    if RESERVED.contains(&name) {
        return Err(Error::bad_request(format!(
            "{place}: {name} cannot be negotiated"
        )));
    }
    if !is_id(name) {
        return Err(Error::bad_request(format!(
            "{place}: the name of a term consists of 1 to 64 letters, digits and . _ : -"
        )));
    }
    Ok(())
}

impl Offer {
    /// Reads `{"item","price","quantity","currency","conditions":[...],"target","id"?,"note"?}` and any further scalar
    /// field as a term.
    pub(crate) fn read(mut object: Object<'_>) -> Result<Self> {
        let id = object.optional("id").map(|id| id.id()).transpose()?;
        let target = object.require("target")?.name(MAX_MSP_ID)?;
        let conditions = Condition::read_list(&mut object, "conditions")?;
        let note = note(&mut object)?;
        let item = item(&object.require("item")?)?;
        let price = price(&object.require("price")?)?;
        let quantity = quantity(&object.require("quantity")?)?;
        let currency = currency(&object.require("currency")?)?;
        let terms = terms(object)?;
        let subjects = Subjects {
            item,
            price,
            quantity,
            currency,
            terms,
        };
        Ok(Self {
            id,
            target,
            subjects,
            conditions,
            note,
        })
    }
}

/// Whatever a request has besides its known fields: the further terms.
pub(crate) fn terms(object: Object<'_>) -> Result<BTreeMap<String, String>> {
    let mut terms = BTreeMap::new();
    for (name, field) in object.rest() {
        check_term(&name, field.path())?;
        if !field.is_blank() {
            terms.insert(name, field.scalar(MAX_TERM)?);
        }
    }
    check_terms(&terms)?;
    Ok(terms)
}

/// The first step changes everything from nothing.
pub(crate) fn first_changes(rfq: &Rfq) -> Vec<Change> {
    let set = |name: &str, to| Change {
        subject: Subject::Field(name.to_owned()),
        from: None,
        to: Some(to),
    };
    let mut changes = vec![
        set("item", Value::Text(rfq.item.clone())),
        set("price", Value::Number(rfq.price.clone())),
        set("quantity", Value::Number(rfq.quantity.clone())),
        set("currency", Value::Text(rfq.currency.clone())),
    ];
    let terms = rfq.terms.iter();
    changes.extend(terms.map(|(name, value)| set(name, Value::Text(value.clone()))));
    changes.extend(rfq.conditions.iter().map(|condition| Change {
        subject: Subject::Condition(condition.field.clone()),
        from: None,
        to: Some(Value::Limits(condition.clone())),
    }));
    changes
}

fn check_terms(terms: &BTreeMap<String, String>) -> Result<()> {
    if terms.len() > MAX_TERMS {
        return Err(Error::bad_request(format!(
            "an RFQ has at most {MAX_TERMS} further terms, not {}",
            terms.len()
        )));
    }
    Ok(())
}

/// A counter-offer that has been read but not applied.
pub(crate) struct CounterOffer<'a> {
    pub(crate) id: String,
    pub(crate) note: Option<String>,
    fields: Vec<Field<'a>>,
    conditions: Vec<Condition>,
    removed: Vec<(String, String)>,
}

impl<'a> CounterOffer<'a> {
    /// Reads `{"id","changes":{"fields":[{"field","newValue"}],"conditions":[...],"removedConditions":[...]},"note"}`.
    pub(crate) fn read(mut object: Object<'a>) -> Result<Self> {
        let id = object.require("id")?.id()?;
        let note = note(&mut object)?;
        let mut counter = Self {
            id,
            note,
            fields: Vec::new(),
            conditions: Vec::new(),
            removed: Vec::new(),
        };
        if let Some(changes) = object.take("changes") {
            let mut changes = changes.object()?;
            counter.fields = changes.list("fields", MAX_TERMS + 4)?;
            counter.conditions = Condition::read_list(&mut changes, "conditions")?;
            for field in changes.list("removedConditions", MAX_CONDITIONS)? {
                // A condition is named by its field, bare or as the object that added it.
                let name = if field.is_object() {
                    field.object()?.require("field")?.text(64)?
                } else {
                    field.text(64)?
                };
                counter.removed.push((name, field.path().to_owned()));
            }
            changes.finish()?;
        }
        object.finish()?;
        Ok(counter)
    }

    /// Applies it to the RFQ and tells what has changed.
    pub(crate) fn apply(&self, rfq: &mut Rfq) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for field in &self.fields {
            let mut object = field.object()?;
            let name = object.require("field")?.text(64)?;
            if seen.contains(&name) {
                return Err(Error::bad_request(format!(
                    "{}: {name} is changed twice",
                    field.path()
                )));
            }
            let value = object.take("newValue");
            object.finish()?;
            let change = change_field(rfq, &name, value.as_ref(), field.path())?;
            if change.from != change.to {
                changes.push(change);
            }
            seen.push(name);
        }
        check_terms(&rfq.terms)?;
        for (name, place) in &self.removed {
            let at = rfq
                .conditions
                .iter()
                .position(|condition| condition.field == *name)
                .ok_or_else(|| {
                    Error::bad_request(format!("{place}: RFQ {} has no condition for {name}", rfq.id))
                })?;
            let from = rfq.conditions.remove(at);
            changes.push(Change {
                subject: Subject::Condition(name.clone()),
                from: Some(Value::Limits(from)),
                to: None,
            });
        }
        for condition in &self.conditions {
            if self.removed.iter().any(|(name, _)| *name == condition.field) {
                return Err(Error::bad_request(format!(
                    "the condition for {} is both set and removed",
                    condition.field
                )));
            }
            let from = set_condition(&mut rfq.conditions, condition);
            if from.as_ref() != Some(condition) {
                changes.push(Change {
                    subject: Subject::Condition(condition.field.clone()),
                    from: from.map(Value::Limits),
                    to: Some(Value::Limits(condition.clone())),
                });
            }
        }
        if rfq.conditions.len() > MAX_CONDITIONS {
            return Err(Error::bad_request(format!(
                "an RFQ has at most {MAX_CONDITIONS} conditions"
            )));
        }
        if changes.is_empty() && self.note.is_none() {
            return Err(Error::bad_request(format!(
                "the counter-offer changes nothing in RFQ {} and has no note; accept it instead",
                rfq.id
            )));
        }
        Ok(changes)
    }
}

/// Adds or replaces; hands back what was replaced.
pub(crate) fn set_condition(conditions: &mut Vec<Condition>, new: &Condition) -> Option<Condition> {
    match conditions
        .iter_mut()
        .find(|condition| condition.field == new.field)
    {
        Some(old) => Some(std::mem::replace(old, new.clone())),
        None => {
            conditions.push(new.clone());
            None
        }
    }
}

fn change_field(rfq: &mut Rfq, name: &str, value: Option<&Field<'_>>, place: &str) -> Result<Change> {
    let given = || value.ok_or_else(|| Error::bad_request(format!("{place}.newValue is missing")));
    let swap_text =
        |old: &mut String, new: String| (Value::Text(std::mem::replace(old, new.clone())), Value::Text(new));
    let swap_number = |old: &mut Decimal, new: Decimal| {
        (
            Value::Number(std::mem::replace(old, new.clone())),
            Value::Number(new),
        )
    };
    let (from, to) = match name {
        "item" => swap_text(&mut rfq.item, item(given()?)?),
        "currency" => swap_text(&mut rfq.currency, currency(given()?)?),
        "price" => swap_number(&mut rfq.price, price(given()?)?),
        "quantity" => swap_number(&mut rfq.quantity, quantity(given()?)?),
        _ => return change_term(rfq, name, value, place),
    };
    Ok(Change {
        subject: Subject::Field(name.to_owned()),
        from: Some(from),
        to: Some(to),
    })
}

/// A term is set to a scalar, or removed by an empty new value.
fn change_term(rfq: &mut Rfq, name: &str, value: Option<&Field<'_>>, place: &str) -> Result<Change> {
    check_term(name, &format!("{place}.field"))?;
    let to = value
        .filter(|value| !value.is_blank())
        .map(|value| value.scalar(MAX_TERM))
        .transpose()?;
    let from = match &to {
        Some(to) => rfq.terms.insert(name.to_owned(), to.clone()),
        None => rfq.terms.remove(name),
    };
    if from.is_none() && to.is_none() {
        return Err(Error::bad_request(format!(
            "{place}: RFQ {} has no field {name} to remove",
            rfq.id
        )));
    }
    Ok(Change {
        subject: Subject::Field(name.to_owned()),
        from: from.map(Value::Text),
        to: to.map(Value::Text),
    })
}
