//! The two views: in-house for those who work along a route, public for all others.
//!
//! A contract decides what it answers, not what lies in the database of a peer. `docs/contracts.md` says what that means.

use selvedge_chaincode::{Actor, Context, Result, Timestamp};
use serde::Serialize;

use crate::model::{Action, Entry, Order, Outcome, Part, Place, Product, Route, State, UsedPart};

/// Certificate attribute that takes the in-house view away from its holder: `public`.
const VIEW_ATTRIBUTE: &str = "selvedge.view";

/// How much the caller sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum View {
    /// Everything.
    InHouse,
    /// That it exists and how far it is.
    Public,
}

/// Who asks.
pub(crate) struct Viewer(Actor);

impl Viewer {
    pub(crate) fn of(ctx: &Context<'_>) -> Result<Self> {
        Actor::of(ctx).map(Self)
    }

    /// The view on things of a route. An attribute can only take away: any organisation could give it to its people.
    pub(crate) fn view(&self, route: &Route) -> View {
        let restricted = self
            .0
            .attributes
            .get(VIEW_ATTRIBUTE)
            .is_some_and(|view| view == "public");
        if route.organizations.contains(&self.0.msp_id) && !restricted {
            View::InHouse
        } else {
            View::Public
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProductView<'a> {
    id: &'a str,
    order: &'a str,
    item: &'a str,
    route: Option<&'a str>,
    route_version: Option<u32>,
    customer: Option<&'a str>,
    state: State,
    station: Option<&'a str>,
    task: Option<&'a str>,
    steps: u32,
    last_result: Option<Outcome>,
    built_into: Option<&'a str>,
    reason: Option<&'a str>,
    started_at: Timestamp,
    updated_at: Timestamp,
    view: View,
}

pub(crate) fn product(product: &Product, view: View) -> ProductView<'_> {
    let inside = view == View::InHouse;
    let place = product.place.as_ref().filter(|_| inside);
    ProductView {
        id: &product.id,
        order: &product.order,
        item: &product.item,
        route: inside.then_some(&product.route),
        route_version: inside.then_some(product.route_version),
        customer: product.customer.as_deref(),
        state: product.state,
        station: place.map(|place| place.station.as_str()),
        task: place.map(|place| place.task.as_str()),
        steps: product.steps,
        last_result: product.last_result,
        built_into: product.built_into.as_ref().map(|into| into.product.as_str()),
        reason: product.reason.as_deref().filter(|_| inside),
        started_at: product.started_at,
        updated_at: product.updated_at,
        view,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicEntry<'a> {
    step: u32,
    action: Action,
    result: Option<Outcome>,
    state: State,
    #[serde(skip_serializing_if = "<[UsedPart]>::is_empty")]
    parts: &'a [UsedPart],
    #[serde(skip_serializing_if = "<[Part]>::is_empty")]
    removed: &'a [Part],
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<&'a str>,
    by: &'a str,
    at: Timestamp,
    tx_id: &'a str,
}

/// An entry of a history, as much as the view shows.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct EntryView(serde_json::Value);

pub(crate) fn entry(entry: &Entry, view: View) -> Result<EntryView> {
    let shown = match view {
        View::InHouse => serde_json::to_value(entry),
        View::Public => serde_json::to_value(PublicEntry {
            step: entry.step,
            action: entry.action,
            result: entry.result,
            state: entry.state,
            parts: &entry.parts,
            removed: &entry.removed,
            product: entry.product.as_deref(),
            by: &entry.by,
            at: entry.at,
            tx_id: &entry.tx_id,
        }),
    };
    shown
        .map(EntryView)
        .map_err(|why| selvedge_chaincode::Error::internal(why.to_string()))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RouteView<'a> {
    id: &'a str,
    version: u32,
    owner: &'a str,
    organizations: &'a [String],
    #[serde(flatten)]
    inside: Option<RouteInside<'a>>,
    defined_at: Timestamp,
    tx_id: &'a str,
    view: View,
}

#[derive(Serialize)]
struct RouteInside<'a> {
    operations: &'a [crate::model::Operation],
    quality: &'a [crate::model::Rule],
    user: &'a str,
    note: Option<&'a str>,
}

pub(crate) fn route(route: &Route, view: View) -> RouteView<'_> {
    RouteView {
        id: &route.id,
        version: route.version,
        owner: &route.owner,
        organizations: &route.organizations,
        inside: (view == View::InHouse).then(|| RouteInside {
            operations: &route.operations,
            quality: &route.quality,
            user: &route.user,
            note: route.note.as_deref(),
        }),
        defined_at: route.defined_at,
        tx_id: &route.tx_id,
        view,
    }
}

#[derive(Serialize)]
pub(crate) struct OrderView {
    #[serde(flatten)]
    order: Order,
    view: View,
}

/// The public view has neither names nor notes of an order.
pub(crate) fn order(mut order: Order, view: View) -> OrderView {
    if view == View::Public {
        order.user = String::new();
        order.note = None;
    }
    OrderView { order, view }
}

/// Where a product waits, for lists.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WaitingView {
    pub(crate) product: String,
    pub(crate) order: String,
    pub(crate) item: String,
    #[serde(flatten)]
    pub(crate) place: Place,
    pub(crate) steps: u32,
    pub(crate) last_result: Option<Outcome>,
    pub(crate) since: Timestamp,
}
