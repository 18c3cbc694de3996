//! Orders, and the products that start in them.

use selvedge_chaincode::{Actor, Args, Context, Error, Response, Result, msp_id, note};
use serde::Serialize;

use crate::access::{load_order, load_route, load_route_version, may_work};
use crate::input::product_id;
use crate::model::{Action, Entry, Order, Product, State};
use crate::{events, keys};

const MAX_ITEM: usize = 1024;
/// Products that one transaction may start.
const MAX_STARTED: usize = 200;

pub(crate) fn open(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = Actor::person(ctx, "open orders")?;
    let mut object = args.object(0)?;
    let id = match object.optional("id") {
        Some(id) => id.id()?,
        None => format!("ord-{}", ctx.tx_id()?.get(..20).unwrap_or_default()),
    };
    let route_id = object.require("route")?.id()?;
    let item = object.require("item")?.scalar(MAX_ITEM)?;
    let quantity = object
        .optional("quantity")
        .map(|field| field.decimal())
        .transpose()?;
    let customer = object
        .optional("customer")
        .map(|field| msp_id(&field))
        .transpose()?;
    let note = note(&mut object)?;
    object.finish()?;
    let route = load_route(ctx, &route_id)?;
    if !route.organizations.contains(&actor.msp_id) {
        return Err(Error::forbidden(format!(
            "{} does not work along route {route_id}; its organizations are {}",
            actor.msp_id,
            route.organizations.join(", ")
        )));
    }
    let key = keys::order(&id)?;
    if ctx.get_state(&key)?.is_some() {
        return Err(Error::conflict(format!(
            "there is already an order {id}; choose another id"
        )));
    }
    let order = Order {
        id,
        item,
        quantity,
        route: route_id,
        route_version: route.version,
        organization: actor.msp_id.clone(),
        customer,
        open: true,
        user: actor.user.clone(),
        opened_at: ctx.timestamp()?,
        tx_id: ctx.tx_id()?,
        note,
    };
    ctx.put_json(&key, &order)?;
    events::order(ctx, &order.id, "opened", &actor)?;
    Response::json(&order)
}

pub(crate) fn close(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = Actor::person(ctx, "close orders")?;
    let text = args.object_or(0, "order")?;
    let mut object = text.object()?;
    let id = object.require("order")?.id()?;
    let note = note(&mut object)?;
    object.finish()?;
    let mut order = load_order(ctx, &id)?;
    if order.organization != actor.msp_id {
        return Err(Error::forbidden(format!(
            "order {id} was opened by {}; only its people may close it",
            order.organization
        )));
    }
    if !order.open {
        return Err(Error::conflict(format!("order {id} is closed already")));
    }
    order.open = false;
    order.note = note.or(order.note);
    ctx.put_json(&keys::order(&id)?, &order)?;
    events::order(ctx, &id, "closed", &actor)?;
    Response::json(&order)
}

#[derive(Serialize)]
struct Started<'a> {
    order: &'a str,
    started: usize,
    station: &'a str,
    task: &'a str,
}

pub(crate) fn start(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let actor = Actor::of(ctx)?;
    let mut object = args.object(0)?;
    let id = object.require("order")?.id()?;
    let fields = object.require("products")?.list(MAX_STARTED)?;
    let note = note(&mut object)?;
    object.finish()?;
    let mut products: Vec<String> = Vec::with_capacity(fields.len());
    for field in &fields {
        let product = product_id(field)?;
        if products.contains(&product) {
            return Err(Error::bad_request(format!(
                "{}: {product} is named twice",
                field.path()
            )));
        }
        products.push(product);
    }
    if products.is_empty() {
        return Err(Error::bad_request("products.products must not be empty"));
    }
    let order = load_order(ctx, &id)?;
    let route = load_route_version(ctx, &order.route, order.route_version)?;
    let first = route
        .operations
        .first()
        .ok_or_else(|| Error::internal(format!("route {} has no operation", route.id)))?;
    if !may_work(&route, first, &actor) && (actor.device || actor.msp_id != order.organization) {
        return Err(Error::forbidden(format!(
            "{} of {} may not start products of order {id}: it takes people of {}, or who may do {}",
            actor.user, actor.msp_id, order.organization, first.place
        )));
    }
    if !order.open {
        return Err(Error::conflict(format!(
            "order {id} is closed; nothing starts in it"
        )));
    }
    for product in &products {
        begin(ctx, &order, product, &first.place, &actor, note.clone())?;
    }
    events::started(ctx, &id, &products, &first.place, &actor)?;
    Response::json(&Started {
        order: &id,
        started: products.len(),
        station: &first.place.station,
        task: &first.place.task,
    })
}

fn begin(
    ctx: &Context<'_>,
    order: &Order,
    id: &str,
    place: &crate::model::Place,
    actor: &Actor,
    note: Option<String>,
) -> Result<()> {
    let key = keys::product(id)?;
    if let Some(other) = ctx.get_json::<Product>(&key)? {
        return Err(Error::conflict(format!(
            "there is already a product {id}, of order {}",
            other.order
        )));
    }
    let now = ctx.timestamp()?;
    let product = Product {
        id: id.to_owned(),
        order: order.id.clone(),
        item: order.item.clone(),
        route: order.route.clone(),
        route_version: order.route_version,
        customer: order.customer.clone(),
        state: State::Waiting,
        place: Some(place.clone()),
        steps: 1,
        last_result: None,
        built_into: None,
        reason: None,
        started_at: now,
        updated_at: now,
    };
    let entry = Entry {
        step: 1,
        action: Action::Start,
        place: None,
        result: None,
        state: State::Waiting,
        next: Some(place.clone()),
        parts: Vec::new(),
        removed: Vec::new(),
        product: None,
        quality: None,
        by: actor.msp_id.clone(),
        user: Some(actor.user.clone()),
        device: actor.device,
        at: now,
        tx_id: ctx.tx_id()?,
        note,
    };
    ctx.put_json(&key, &product)?;
    ctx.put_json(&keys::entry(id, 1)?, &entry)?;
    ctx.put_state(&keys::order_product(&order.id, id)?, b"1")?;
    ctx.put_state(&keys::waiting(place, id)?, b"1")
}
