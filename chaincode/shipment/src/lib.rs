//! Shipment tracking contract: goods with conditions, custody that passes between organisations, and readings that
//! enrolled devices write on the way.
//!
//! A reading is one key of its own and recording it reads nothing that other readings write, so devices never get in
//! each other's way. Everything that is derived from readings (minimum, maximum, route, violations) is computed when
//! it is asked for; so it cannot depend on the order in which readings arrived, nor on how often they were sent. The
//! functions, their JSON and their errors are described in `docs/contracts.md`.

mod access;
mod create;
mod custody;
mod events;
mod gaps;
mod input;
mod keys;
mod model;
mod queries;
mod readings;
mod summary;

use selvedge_chaincode::prelude::*;

pub use model::{Custody, CustodyStep, PendingHandover, Position, Reading, RfqReference, Shipment, Status};

/// The contract.
#[derive(Debug, Clone, Copy)]
pub struct ShipmentContract;

impl Contract for ShipmentContract {
    const NAME: &'static str = "shipment";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const FUNCTIONS: &'static [Function] = &[
        Function::submit("create", &["shipment"], create::create),
        Function::submit("createFromRfq", &["shipment"], create::create_from_rfq),
        Function::submit("amend", &["changes"], create::amend),
        Function::submit("offerHandover", &["handover"], custody::offer_handover),
        Function::submit("acceptHandover", &["shipment"], custody::accept_handover),
        Function::submit("refuseHandover", &["shipment"], custody::refuse_handover),
        Function::submit("handOver", &["handover"], custody::hand_over),
        Function::submit("deliver", &["shipment"], custody::deliver),
        Function::submit("recordReading", &["reading"], readings::record_reading),
        Function::submit("recordReadings", &["readings"], readings::record_readings),
        Function::submit("recordGaps", &["gaps"], gaps::record_gaps),
        Function::evaluate("gaps", &["mspId?", "writer?"], gaps::gaps),
        Function::evaluate("get", &["shipment"], queries::get),
        Function::evaluate("list", &["filter?"], queries::list),
        Function::evaluate("readings", &["shipment", "from?", "limit?"], queries::readings),
        Function::evaluate("summary", &["shipment"], summary::summary),
    ];
}

selvedge_chaincode::export!(ShipmentContract);
