//! What is kept of routes, orders and products.

use std::collections::BTreeMap;
use std::fmt;

use selvedge_chaincode::{Actor, Decimal, DocumentHash, Timestamp};
use serde::{Deserialize, Serialize};

/// A station and a task done there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Where.
    pub station: String,
    /// What.
    pub task: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} at station {}", self.task, self.station)
    }
}

/// Describes identities: those of an organisation, with certain attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// MSP id of the organisation; none means any organisation of the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msp_id: Option<String>,
    /// Attributes that the certificate must have, with their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Rule {
    /// True when the actor is one of those described. Attributes count only from certificate authorities of the
    /// route's organisations: any other could give its own people whatever it likes.
    pub fn fits(&self, organizations: &[String], actor: &Actor) -> bool {
        let organization = match &self.msp_id {
            Some(msp_id) => *msp_id == actor.msp_id,
            None => organizations.contains(&actor.msp_id),
        };
        let has = |(name, value): (&String, &String)| actor.attributes.get(name) == Some(value);
        organization && self.attributes.iter().all(has)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.msp_id.as_deref().unwrap_or("any organization of the route"))?;
        for (at, (name, value)) in self.attributes.iter().enumerate() {
            let joint = if at == 0 { "with" } else { "and" };
            write!(f, " {joint} {name}={value}")?;
        }
        Ok(())
    }
}

/// One task at one station, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Station and task.
    #[serde(flatten)]
    pub place: Place,
    /// Who may do it; empty means every member of the route's organisations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<Rule>,
    /// Where a product may go that passed; empty means that it is finished.
    #[serde(default)]
    pub next: Vec<Place>,
    /// Where a product may go that failed; empty means that it is set aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rework: Vec<Place>,
}

/// One version of a route; it does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Its id, unique in the channel.
    pub id: String,
    /// Number of the version, from 1.
    pub version: u32,
    /// MSP id of the organisation that defined it.
    pub owner: String,
    /// MSP ids of the organisations that work along it and see everything.
    pub organizations: Vec<String>,
    /// The operations; products start at the first.
    pub operations: Vec<Operation>,
    /// Who releases and scraps; empty means people of the owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<Rule>,
    /// Common name in the defining certificate.
    pub user: String,
    /// Timestamp of the transaction.
    pub defined_at: Timestamp,
    /// The transaction.
    pub tx_id: String,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Route {
    /// The operation at a place.
    pub fn operation(&self, place: &Place) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.place == *place)
    }
}

/// An order: so many of an item, made along a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Its id, unique in the channel.
    pub id: String,
    /// What is made.
    pub item: String,
    /// How many, if told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<Decimal>,
    /// The route's id.
    pub route: String,
    /// The version of the route that its products keep.
    pub route_version: u32,
    /// MSP id of the organisation that opened it.
    pub organization: String,
    /// MSP id of another organisation that may build the products into its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// False once no more products start.
    pub open: bool,
    /// Common name in the opening certificate.
    pub user: String,
    /// Timestamp of the opening transaction.
    pub opened_at: Timestamp,
    /// The opening transaction.
    pub tx_id: String,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How far a product is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// At a station, for a task.
    Waiting,
    /// Taken out until quality decides.
    SetAside,
    /// Through its route.
    Finished,
    /// Part of another product.
    BuiltIn,
    /// Thrown away.
    Scrapped,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Waiting,
        Self::SetAside,
        Self::Finished,
        Self::BuiltIn,
        Self::Scrapped,
    ];

    /// The state as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::SetAside => "setAside",
            Self::Finished => "finished",
            Self::BuiltIn => "builtIn",
            Self::Scrapped => "scrapped",
        }
    }
}

/// What came out of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Not as it should be.
    Failed,
}

/// A product as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    /// Its id, unique in the channel.
    pub id: String,
    /// The order that it belongs to.
    pub order: String,
    /// What it is.
    pub item: String,
    /// The route's id.
    pub route: String,
    /// The version of the route that it follows.
    pub route_version: u32,
    /// MSP id of another organisation that may build it into its own products.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// How far it is.
    pub state: State,
    /// Where it waits, or waited when it was set aside or scrapped; none once it is finished.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// Number of entries in its history.
    pub steps: u32,
    /// What came out of the last work step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_result: Option<Outcome>,
    /// The product that it is built into, and that one's step which did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_into: Option<BuiltInto>,
    /// Why it was set aside or scrapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Timestamp of the transaction that started it.
    pub started_at: Timestamp,
    /// Timestamp of the transaction that changed it last.
    pub updated_at: Timestamp,
}

/// Where a product has been built in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltInto {
    /// The product around it.
    pub product: String,
    /// Step of that product's history.
    pub step: u32,
}

/// What happened to a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It came into being.
    Start,
    /// Work was done on it.
    Step,
    /// It was taken out.
    SetAside,
    /// It goes on.
    Release,
    /// It was thrown away.
    Scrap,
    /// It was built into another.
    BuiltIn,
    /// It was taken out of another.
    Removed,
}

/// What a product is built from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// Another product.
    Product(String),
    /// Some of a batch, as the enterprise names it.
    Batch(String),
}

impl Part {
    /// The word for what it is, in keys.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Product(_) => "product",
            Self::Batch(_) => "batch",
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Product(id) | Self::Batch(id) => id,
        }
    }
}

/// A part with how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedPart {
    /// What.
    #[serde(flatten)]
    pub part: Part,
    /// How much, if told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<Decimal>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quality {
    /// Measurements by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Decimal>,
    /// Id of a longer report that stays at home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// That report's hash.
    #[serde(flatten)]
    pub hash: Option<DocumentHash>,
}

/// One entry of a product's history, written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Number within the history, from 1.
    pub step: u32,
    /// What happened.
    pub action: Action,
    /// Where it happened, or where the product waited.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// What came out of a work step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Outcome>,
    /// State of the product afterwards.
    pub state: State,
    /// Where it goes on, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Place>,
    /// What was built in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<UsedPart>,
    /// What was taken out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Part>,
    /// The product around it, for `builtIn` and `removed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// What was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// MSP id of the acting organisation.
    pub by: String,
    /// Common name in the acting certificate; kept from the public view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// True when a machine acted.
    pub device: bool,
    /// Timestamp of the transaction.
    pub at: Timestamp,
    /// The transaction.
    pub tx_id: String,
    /// A remark or reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How a part came into a product, and out of it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Link {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quantity: Option<Decimal>,
    pub(crate) at: Timestamp,
    pub(crate) tx_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) removed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) removed_tx_id: Option<String>,
}
