//! Where things lie in the world state.

use selvedge_chaincode::{Result, composite_key};

use crate::model::{Part, Place};

/// Object type of the newest version of a route: (id).
pub(crate) const ROUTE: &str = "route";
/// Object type of every version of a route: (id, version). Products read this one, which never changes.
const ROUTE_VERSION: &str = "route-version";
/// Object type of an order: (id).
pub(crate) const ORDER: &str = "order";
/// Object type of a product as it stands: (id).
pub(crate) const PRODUCT: &str = "product";
/// Object type of the entries that list an order's products: (order, product).
pub(crate) const ORDER_PRODUCT: &str = "order-product";
/// Object type of one entry of a product's history: (product, step).
pub(crate) const ENTRY: &str = "entry";
/// Object type of the entries of waiting lists: (station, task, product).
pub(crate) const WAITING: &str = "waiting";
/// Object type of what a product holds: (product, kind, part, step); the value is the link.
pub(crate) const HOLDS: &str = "holds";
/// Object type of the entries that find the product around a part: (kind, part, product, step).
pub(crate) const HELD_BY: &str = "held-by";

/// Numbers have a fixed width, so that keys sort as they count.
pub(crate) fn digits(number: u32) -> String {
    format!("{number:010}")
}

pub(crate) fn route(id: &str) -> Result<String> {
    composite_key(ROUTE, &[id])
}

pub(crate) fn route_version(id: &str, version: u32) -> Result<String> {
    composite_key(ROUTE_VERSION, &[id, &digits(version)])
}

pub(crate) fn order(id: &str) -> Result<String> {
    composite_key(ORDER, &[id])
}

pub(crate) fn product(id: &str) -> Result<String> {
    composite_key(PRODUCT, &[id])
}

pub(crate) fn order_product(order: &str, product: &str) -> Result<String> {
    composite_key(ORDER_PRODUCT, &[order, product])
}

pub(crate) fn entry(product: &str, step: u32) -> Result<String> {
    composite_key(ENTRY, &[product, &digits(step)])
}

pub(crate) fn waiting(place: &Place, product: &str) -> Result<String> {
    composite_key(WAITING, &[&place.station, &place.task, product])
}

pub(crate) fn holds(product: &str, part: &Part, step: u32) -> Result<String> {
    composite_key(HOLDS, &[product, part.kind(), part.id(), &digits(step)])
}

pub(crate) fn held_by(part: &Part, product: &str, step: u32) -> Result<String> {
    composite_key(HELD_BY, &[part.kind(), part.id(), product, &digits(step)])
}
