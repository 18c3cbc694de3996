//! Reading what callers send.

use std::collections::BTreeMap;

use selvedge_chaincode::json::{Field, Object};
use selvedge_chaincode::{DocumentHash, Error, Result, msp_id, note};

use crate::model::{Operation, Outcome, Part, Place, Quality, Rule, UsedPart};

/// Longest id of a product or batch, in bytes.
const MAX_PRODUCT: usize = 128;
/// Longest name of a station or task, in bytes.
const MAX_PLACE: usize = 64;
const MAX_OPERATIONS: usize = 200;
const MAX_BRANCHES: usize = 32;
const MAX_RULES: usize = 32;
const MAX_ORGANIZATIONS: usize = 64;
const MAX_PARTS: usize = 100;
const MAX_VALUES: usize = 64;
const MAX_REASON: usize = 1024;

pub(crate) fn product_id(field: &Field<'_>) -> Result<String> {
    field.label(MAX_PRODUCT)
}

/// A place to wait at, in fields `station` and `task`.
pub(crate) fn place(object: &mut Object<'_>) -> Result<Place> {
    Ok(Place {
        station: object.require("station")?.label(MAX_PLACE)?,
        task: object.require("task")?.label(MAX_PLACE)?,
    })
}

/// As [`place`], where both may be missing together.
pub(crate) fn optional_place(object: &mut Object<'_>) -> Result<Option<Place>> {
    let station = filter_place(object, "station")?;
    let task = filter_place(object, "task")?;
    match (station, task) {
        (Some(station), Some(task)) => Ok(Some(Place { station, task })),
        (None, None) => Ok(None),
        _ => Err(Error::bad_request(
            "station and task belong together; one of them is missing",
        )),
    }
}

/// One half of a place.
pub(crate) fn filter_place(object: &mut Object<'_>, name: &'static str) -> Result<Option<String>> {
    let field = object.optional(name);
    field.map(|field| field.label(MAX_PLACE)).transpose()
}

fn place_of(field: &Field<'_>) -> Result<Place> {
    let mut object = field.object()?;
    let place = place(&mut object)?;
    object.finish()?;
    Ok(place)
}

fn places(object: &mut Object<'_>, name: &'static str) -> Result<Vec<Place>> {
    let fields = object.list(name, MAX_BRANCHES)?;
    fields.iter().map(place_of).collect()
}

/// Names with short texts, such as the attributes of a rule.
fn texts(field: &Field<'_>, max: usize) -> Result<BTreeMap<String, String>> {
    let entries = field.object()?.rest();
    if entries.len() > max {
        return Err(Error::bad_request(format!(
            "{} has {} entries, at most {max} are allowed",
            field.path(),
            entries.len()
        )));
    }
    let read = |(name, value): (String, Field<'_>)| Ok((name, value.label(256)?));
    entries.into_iter().map(read).collect()
}

fn rules(object: &mut Object<'_>, name: &'static str, organizations: &[String]) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for field in object.list(name, MAX_RULES)? {
        let mut object = field.object()?;
        let organization = object.optional("mspId").map(|field| msp_id(&field)).transpose()?;
        let attributes = object.optional("attributes");
        let rule = Rule {
            msp_id: organization,
            attributes: attributes
                .map(|field| texts(&field, MAX_RULES))
                .transpose()?
                .unwrap_or_default(),
        };
        object.finish()?;
        if let Some(stranger) = rule.msp_id.as_ref().filter(|id| !organizations.contains(id)) {
            return Err(Error::bad_request(format!(
                "{}: {stranger} is not among the route's organizations",
                field.path()
            )));
        }
        rules.push(rule);
    }
    Ok(rules)
}

/// A route as it was sent.
pub(crate) struct SentRoute {
    pub(crate) id: String,
    pub(crate) organizations: Vec<String>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) quality: Vec<Rule>,
    pub(crate) note: Option<String>,
}

impl SentRoute {
    /// Reads `{"id","organizations"?,"operations":[...],"quality"?,"note"?}`; the owner is always among the organisations.
    pub(crate) fn read(mut object: Object<'_>, owner: &str) -> Result<Self> {
        let id = object.require("id")?.id()?;
        let mut organizations = vec![owner.to_owned()];
        for field in object.list("organizations", MAX_ORGANIZATIONS)? {
            let organization = msp_id(&field)?;
            if !organizations.contains(&organization) {
                organizations.push(organization);
            }
        }
        let quality = rules(&mut object, "quality", &organizations)?;
        let fields = object.require("operations")?.list(MAX_OPERATIONS)?;
        let mut operations = Vec::with_capacity(fields.len());
        for field in &fields {
            let mut object = field.object()?;
            let place = place(&mut object)?;
            let operation = Operation {
                allowed: rules(&mut object, "allowed", &organizations)?,
                next: places(&mut object, "next")?,
                rework: places(&mut object, "rework")?,
                place,
            };
            object.finish()?;
            operations.push(operation);
        }
        let note = note(&mut object)?;
        object.finish()?;
        check(&operations)?;
        Ok(Self {
            id,
            organizations,
            operations,
            quality,
            note,
        })
    }
}

/// Every place occurs once, everything that is named exists, everything can be reached, and there is an end.
fn check(operations: &[Operation]) -> Result<()> {
    let at = |place: &Place| operations.iter().position(|other| other.place == *place);
    let wrong = |at: usize, what: String| Error::bad_request(format!("route.operations[{at}]{what}"));
    if operations.is_empty() {
        return Err(Error::bad_request("route.operations must not be empty"));
    }
    for (number, operation) in operations.iter().enumerate() {
        if at(&operation.place) != Some(number) {
            return Err(wrong(
                number,
                format!(": the route has {} twice", operation.place),
            ));
        }
        for (name, list) in [("next", &operation.next), ("rework", &operation.rework)] {
            for (branch, place) in list.iter().enumerate() {
                if at(place).is_none() {
                    return Err(wrong(
                        number,
                        format!(".{name}[{branch}]: the route has no {place}"),
                    ));
                }
            }
        }
    }
    let mut reached = vec![false; operations.len()];
    let mut open = vec![0];
    while let Some(number) = open.pop() {
        if reached
            .get_mut(number)
            .is_none_or(|reached| std::mem::replace(reached, true))
        {
            continue;
        }
        if let Some(operation) = operations.get(number) {
            open.extend(operation.next.iter().chain(&operation.rework).filter_map(at));
        }
    }
    if let Some((number, operation)) = operations
        .iter()
        .enumerate()
        .find(|(n, _)| reached.get(*n) != Some(&true))
    {
        return Err(wrong(number, format!(": nothing leads to {}", operation.place)));
    }
    if operations.iter().all(|operation| !operation.next.is_empty()) {
        return Err(Error::bad_request(
            "route.operations: no operation ends the route; leave out next where a product is finished",
        ));
    }
    Ok(())
}

fn part(object: &mut Object<'_>, path: &str) -> Result<Part> {
    match (object.optional("product"), object.optional("batch")) {
        (Some(product), None) => Ok(Part::Product(product_id(&product)?)),
        (None, Some(batch)) => Ok(Part::Batch(product_id(&batch)?)),
        _ => Err(Error::bad_request(format!(
            "{path} must name either a product or a batch"
        ))),
    }
}

/// A part that is named by itself, as in a search.
pub(crate) fn one_part(object: &mut Object<'_>, path: &str) -> Result<Part> {
    part(object, path)
}

fn quality(field: &Field<'_>) -> Result<Quality> {
    let mut object = field.object()?;
    let mut values = BTreeMap::new();
    if let Some(field) = object.take("values") {
        let entries = field.object()?.rest();
        if entries.len() > MAX_VALUES {
            return Err(Error::bad_request(format!(
                "{} has {} values, at most {MAX_VALUES} are allowed",
                field.path(),
                entries.len()
            )));
        }
        for (name, value) in entries {
            if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
                return Err(Error::bad_request(format!(
                    "{} needs a name of 1 to 64 bytes",
                    value.path()
                )));
            }
            values.insert(name, value.decimal()?);
        }
    }
    let record = object
        .optional("record")
        .map(|field| field.label(128))
        .transpose()?;
    let hash = DocumentHash::read(&mut object)?;
    object.finish()?;
    Ok(Quality { values, record, hash })
}

/// A work step as it was sent.
pub(crate) struct SentStep {
    pub(crate) product: String,
    pub(crate) place: Place,
    pub(crate) result: Outcome,
    pub(crate) next: Option<Place>,
    pub(crate) set_aside: bool,
    pub(crate) parts: Vec<UsedPart>,
    pub(crate) remove: Vec<Part>,
    pub(crate) quality: Option<Quality>,
    pub(crate) note: Option<String>,
}

impl SentStep {
    pub(crate) fn read(mut object: Object<'_>) -> Result<Self> {
        let product = product_id(&object.require("product")?)?;
        let place = place(&mut object)?;
        let result = match object.optional("result") {
            None => Outcome::Passed,
            Some(field) => match field.text(16)?.as_str() {
                "passed" => Outcome::Passed,
                "failed" => Outcome::Failed,
                other => {
                    return Err(Error::bad_request(format!(
                        "{} must be passed or failed, not {other}",
                        field.path()
                    )));
                }
            },
        };
        let next = object
            .optional("next")
            .map(|field| place_of(&field))
            .transpose()?;
        let set_aside = object.flag("setAside")?;
        let mut parts: Vec<UsedPart> = Vec::new();
        for field in object.list("parts", MAX_PARTS)? {
            let mut object = field.object()?;
            let part = part(&mut object, field.path())?;
            let quantity = object.optional("quantity").map(|q| q.decimal()).transpose()?;
            object.finish()?;
            if parts.iter().any(|other| other.part == part) {
                return Err(Error::bad_request(format!(
                    "{}: {} {} is named twice",
                    field.path(),
                    part.kind(),
                    part.id()
                )));
            }
            parts.push(UsedPart { part, quantity });
        }
        let mut remove = Vec::new();
        for field in object.list("remove", MAX_PARTS)? {
            let mut object = field.object()?;
            let part = part(&mut object, field.path())?;
            object.finish()?;
            if remove.contains(&part) || parts.iter().any(|other| other.part == part) {
                return Err(Error::bad_request(format!(
                    "{}: {} {} is named twice",
                    field.path(),
                    part.kind(),
                    part.id()
                )));
            }
            remove.push(part);
        }
        let quality = object
            .optional("quality")
            .map(|field| quality(&field))
            .transpose()?;
        let note = note(&mut object)?;
        object.finish()?;
        if set_aside && result == Outcome::Passed {
            return Err(Error::bad_request(
                "step.setAside goes with the result failed; a product that passed goes on",
            ));
        }
        if set_aside && next.is_some() {
            return Err(Error::bad_request(
                "step.next: a product that is set aside goes nowhere",
            ));
        }
        Ok(Self {
            product,
            place,
            result,
            next,
            set_aside,
            parts,
            remove,
            quality,
            note,
        })
    }
}

/// `{"product","reason"}`.
pub(crate) fn reason(mut object: Object<'_>) -> Result<(String, String)> {
    let product = product_id(&object.require("product")?)?;
    let reason = object.require("reason")?.text(MAX_REASON)?;
    object.finish()?;
    Ok((product, reason))
}
