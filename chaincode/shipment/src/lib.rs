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
        Function::submit("create", &["shipment"], create::create)
            .in_house()
            .describe("Create a shipment: goods, consignee, quantity?, conditions?, carriers?, devices?, deliverBy?, id?"),
        Function::submit("createFromRfq", &["shipment"], create::create_from_rfq)
            .in_house()
            .describe("Create a shipment of an accepted RFQ: rfq, shipper?, carriers?, devices?, id?"),
        Function::submit("amend", &["changes"], create::amend)
            .in_house()
            .describe("Add carriers or devices: shipment, carriers?, devices?"),
        Function::submit("offerHandover", &["handover"], custody::offer_handover)
            .in_house()
            .describe("Offer the goods to the next holder: shipment, to, note?"),
        Function::submit("acceptHandover", &["shipment"], custody::accept_handover)
            .in_house()
            .describe("Take over what was offered"),
        Function::submit("refuseHandover", &["shipment"], custody::refuse_handover)
            .in_house()
            .describe("Refuse what was offered, or withdraw the offer"),
        Function::submit("handOver", &["handover"], custody::hand_over)
            .in_house()
            .describe("Hand the goods over in one step, where the shipment allows it: shipment, to, note?"),
        Function::submit("deliver", &["shipment"], custody::deliver)
            .in_house()
            .describe("Say that the goods have arrived"),
        Function::submit("recordReading", &["reading"], readings::record_reading)
            .describe("Record what a device measured: shipment, device, stream?, sequence, time, values, position?"),
        Function::submit("recordReadings", &["readings"], readings::record_readings)
            .describe("Record up to 500 readings of one device and shipment"),
        Function::submit("recordGaps", &["gaps"], gaps::record_gaps)
            .describe("Record which requests an edge gateway had to give up: gateway, gaps"),
        Function::evaluate("gaps", &["mspId?", "writer?"], gaps::gaps)
            .in_house()
            .describe("What edge gateways had to give up"),
        Function::evaluate("get", &["shipment"], queries::get).describe("A shipment as it stands"),
        Function::evaluate("list", &["filter?"], queries::list)
            .describe("Shipments by party and status, page by page"),
        Function::evaluate("readings", &["shipment", "from?", "limit?"], queries::readings)
            .describe("Readings of a shipment, page by page"),
        Function::evaluate("summary", &["shipment"], summary::summary)
            .describe("Lowest and highest of each sensor, violations, gaps, and the route"),
    ];
}

selvedge_chaincode::export!(ShipmentContract);
