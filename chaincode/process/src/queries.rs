//! Reading: products, their history, waiting lists, routes and orders.

use std::collections::BTreeMap;

use selvedge_chaincode::{Args, Context, Error, Paging, Response, Result, decode_state};
use serde::Serialize;

use crate::access::{load_order, load_product, load_route, load_route_version, route_of};
use crate::input::{filter_place, product_id};
use crate::keys;
use crate::model::{Entry, Order, Place, Product, Route, State};
use crate::view::{self, EntryView, View, Viewer, WaitingView};

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 500;

/// Knows the view on each route, reading each version once.
struct Views<'c, 'h> {
    ctx: &'c Context<'h>,
    viewer: Viewer,
    seen: BTreeMap<(String, u32), View>,
}

impl<'c, 'h> Views<'c, 'h> {
    fn new(ctx: &'c Context<'h>) -> Result<Self> {
        Ok(Self {
            ctx,
            viewer: Viewer::of(ctx)?,
            seen: BTreeMap::new(),
        })
    }

    fn on(&mut self, route: &str, version: u32) -> Result<View> {
        let key = (route.to_owned(), version);
        if let Some(view) = self.seen.get(&key) {
            return Ok(*view);
        }
        let view = self.viewer.view(&load_route_version(self.ctx, route, version)?);
        self.seen.insert(key, view);
        Ok(view)
    }
}

fn product_argument(ctx: &Context<'_>, args: &Args) -> Result<(Product, View)> {
    let text = args.object_or(0, "product")?;
    let mut object = text.object()?;
    let id = product_id(&object.require("product")?)?;
    object.finish()?;
    let product = load_product(ctx, &id)?;
    let view = Viewer::of(ctx)?.view(&route_of(ctx, &product)?);
    Ok((product, view))
}

pub(crate) fn product(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let (product, view) = product_argument(ctx, args)?;
    Response::json(&view::product(&product, view))
}

#[derive(Serialize)]
struct History<'a> {
    product: &'a str,
    state: State,
    view: View,
    history: Vec<EntryView>,
}

pub(crate) fn history(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let (product, view) = product_argument(ctx, args)?;
    let entries = ctx.composite_range(keys::ENTRY, &[&product.id])?;
    let history = entries
        .map(|entry| {
            let (key, value) = entry?;
            view::entry(&decode_state::<Entry>(&key, &value)?, view)
        })
        .collect::<Result<_>>()?;
    Response::json(&History {
        product: &product.id,
        state: product.state,
        view,
        history,
    })
}

/// A page under the name that callers know its items by.
fn page<T: Serialize>(name: &str, page: selvedge_chaincode::Page<T>) -> Result<Response> {
    let json = |why: serde_json::Error| Error::internal(why.to_string());
    let mut answer = serde_json::Map::new();
    answer.insert(name.to_owned(), serde_json::to_value(page.items).map_err(json)?);
    if let Some(bookmark) = page.bookmark {
        answer.insert("bookmark".to_owned(), bookmark.into());
    }
    Response::json(&answer)
}

pub(crate) fn products(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "order")?;
    let mut object = text.object()?;
    let order = object.optional("order").map(|field| field.id()).transpose()?;
    let state = object.optional("state").map(|field| field.text(16)).transpose()?;
    let paging = Paging::read(&mut object, DEFAULT_LIMIT, MAX_LIMIT)?;
    object.finish()?;
    let known = || State::ALL.map(State::as_str);
    if let Some(state) = state.as_deref().filter(|state| !known().contains(state)) {
        return Err(Error::bad_request(format!(
            "filter.state must be one of {}, not {state}",
            known().join(", ")
        )));
    }
    let mut views = Views::new(ctx)?;
    let mut show = |product: Product| -> Result<Option<serde_json::Value>> {
        if state
            .as_ref()
            .is_some_and(|state| state != product.state.as_str())
        {
            return Ok(None);
        }
        let view = views.on(&product.route, product.route_version)?;
        serde_json::to_value(view::product(&product, view))
            .map(Some)
            .map_err(|why| Error::internal(why.to_string()))
    };
    let found = match &order {
        Some(order) => {
            load_order(ctx, order)?;
            paging.collect(ctx, keys::ORDER_PRODUCT, &[order], |entry| {
                show(load_product(
                    ctx,
                    entry.rest.first().copied().unwrap_or_default(),
                )?)
            })?
        }
        None => paging.collect(ctx, keys::PRODUCT, &[], |entry| {
            show(decode_state(entry.key, entry.value)?)
        })?,
    };
    page("products", found)
}

/// What waits where, of the routes that the caller works along.
pub(crate) fn waiting(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "station")?;
    let mut object = text.object()?;
    let station = filter_place(&mut object, "station")?;
    let task = filter_place(&mut object, "task")?;
    let paging = Paging::read(&mut object, DEFAULT_LIMIT, MAX_LIMIT)?;
    object.finish()?;
    let mut views = Views::new(ctx)?;
    let attributes: Vec<&str> = match (&station, &task) {
        (Some(station), Some(task)) => vec![station, task],
        (Some(station), None) => vec![station],
        (None, _) => Vec::new(),
    };
    let found = paging.collect(ctx, keys::WAITING, &attributes, |entry| {
        let product = load_product(ctx, entry.rest.last().copied().unwrap_or_default())?;
        let Some(place) = product.place else {
            return Ok(None);
        };
        let wanted = task.as_ref().is_none_or(|task| *task == place.task);
        if !wanted || views.on(&product.route, product.route_version)? == View::Public {
            return Ok(None);
        }
        Ok(Some(WaitingView {
            product: product.id,
            order: product.order,
            item: product.item,
            place: Place { ..place },
            steps: product.steps,
            last_result: product.last_result,
            since: product.updated_at,
        }))
    })?;
    page("waiting", found)
}

pub(crate) fn route(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let text = args.object_or(0, "route")?;
    let mut object = text.object()?;
    let id = object.require("route")?.id()?;
    let version = object
        .optional("version")
        .map(|field| field.integer())
        .transpose()?;
    object.finish()?;
    let route = match version {
        Some(version) => load_route_version(ctx, &id, u32::try_from(version).unwrap_or(u32::MAX))?,
        None => load_route(ctx, &id)?,
    };
    let view = Viewer::of(ctx)?.view(&route);
    Response::json(&view::route(&route, view))
}

fn only_paging(args: &Args) -> Result<Paging> {
    let text = args.object_or(0, "bookmark")?;
    let mut object = text.object()?;
    let paging = Paging::read(&mut object, DEFAULT_LIMIT, MAX_LIMIT)?;
    object.finish()?;
    Ok(paging)
}

pub(crate) fn routes(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let viewer = Viewer::of(ctx)?;
    let found = only_paging(args)?.collect(ctx, keys::ROUTE, &[], |entry| {
        let route: Route = decode_state(entry.key, entry.value)?;
        serde_json::to_value(view::route(&route, viewer.view(&route)))
            .map(Some)
            .map_err(|why| Error::internal(why.to_string()))
    })?;
    page("routes", found)
}

pub(crate) fn order(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let order = load_order(ctx, &args.id(0, "order")?)?;
    let view = Views::new(ctx)?.on(&order.route, order.route_version)?;
    Response::json(&view::order(order, view))
}

pub(crate) fn orders(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let mut views = Views::new(ctx)?;
    let found = only_paging(args)?.collect(ctx, keys::ORDER, &[], |entry| {
        let order: Order = decode_state(entry.key, entry.value)?;
        let view = views.on(&order.route, order.route_version)?;
        Ok(Some(view::order(order, view)))
    })?;
    page("orders", found)
}
