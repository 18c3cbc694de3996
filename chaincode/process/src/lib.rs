//! Process contract: work in a plant, step by step.
//!
//! A route says which tasks are done at which stations, by whom, and what comes next. A product waits at one station for
//! one task; a step is accepted only there and only from an identity that the route allows. What is built into what is
//! kept as entries of its own, so that genealogy can be searched both ways. Each product, each step and each entry is a
//! key of its own: steps of different products never conflict. The functions, their JSON and their errors are
//! described in `docs/contracts.md`.

mod access;
mod assembly;
mod events;
mod genealogy;
mod input;
mod keys;
mod model;
mod orders;
mod quality;
mod queries;
mod routes;
mod steps;
mod view;

use selvedge_chaincode::prelude::*;

pub use model::{
    Action, BuiltInto, Entry, Operation, Order, Outcome, Part, Place, Product, Quality, Route, Rule, State,
    UsedPart,
};

/// The contract.
#[derive(Debug, Clone, Copy)]
pub struct ProcessContract;

impl Contract for ProcessContract {
    const NAME: &'static str = "process";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Work steps along routes: each is accepted only at the station and task that comes next, and from who may do it";
    const FUNCTIONS: &'static [Function] = &[
        Function::submit("defineRoute", &["route"], routes::define).in_house()
            .describe("Define a route or a new version of it: id, organizations?, operations, quality?"),
        Function::submit("openOrder", &["order"], orders::open).in_house()
            .describe("Open an order: route, item, id?, quantity?, customer?, note?"),
        Function::submit("closeOrder", &["order"], orders::close).in_house()
            .describe("Close an order: no more products start in it"),
        Function::submit("start", &["products"], orders::start).in_house()
            .describe("Start products of an order: order, products"),
        Function::submit("step", &["step"], steps::step).in_house()
            .describe("Record a work step: product, station, task, result?, next?, setAside?, parts?, remove?, quality?, note?"),
        Function::submit("setAside", &["request"], quality::set_aside).in_house()
            .describe("Set a product aside: product, reason"),
        Function::submit("release", &["request"], quality::release).in_house()
            .describe("Let a product that was set aside go on: product, station?, task?, note?"),
        Function::submit("scrap", &["request"], quality::scrap).in_house()
            .describe("Scrap a product: product, reason"),
        Function::evaluate("product", &["product"], queries::product).describe("A product as it stands"),
        Function::evaluate("history", &["product"], queries::history)
            .describe("Everything that happened to a product, oldest first"),
        Function::evaluate("products", &["filter?"], queries::products)
            .describe("Products by order and state, page by page"),
        Function::evaluate("waiting", &["filter?"], queries::waiting)
            .describe("Products that wait at a station for a task, page by page"),
        Function::evaluate("route", &["route"], queries::route)
            .describe("A route, its newest or a given version"),
        Function::evaluate("routes", &["filter?"], queries::routes).describe("All routes, page by page"),
        Function::evaluate("order", &["order"], queries::order).describe("An order"),
        Function::evaluate("orders", &["filter?"], queries::orders).describe("All orders, page by page"),
        Function::evaluate("genealogy", &["product"], genealogy::genealogy)
            .describe("What is in a product, all the way down"),
        Function::evaluate("whereUsed", &["part"], genealogy::where_used)
            .describe("Which products a product or batch is in, all the way up"),
    ];
}

selvedge_chaincode::export!(ProcessContract);
