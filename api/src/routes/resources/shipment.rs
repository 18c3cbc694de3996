//! Shipments.

use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{Contract, Public, Read, Write, act_with, number, text};
use crate::auth::SignedIn;
use crate::error::Problem;
use crate::routes::extract::{At, Body, Object};
use crate::routes::{Route, Shared};

/// What the public view shows of a shipment: that it exists, between whom, and how far it is.
const SHIPMENT: &[&str] = &["id", "shipper", "consignee", "status", "createdAt", "view"];

pub(super) const READS: &[Read] = &[
    Read {
        path: "/v1/channels/{channel}/shipments",
        contract: Contract::Shipment,
        function: "list",
        address: &[],
        parameters: &[text("party"), text("status"), number("limit"), text("bookmark")],
        public: Public::Each("shipments", SHIPMENT),
    },
    Read {
        path: "/v1/channels/{channel}/shipments/{id}",
        contract: Contract::Shipment,
        function: "get",
        address: &[("id", "shipment")],
        parameters: &[],
        public: Public::Members(SHIPMENT),
    },
    Read {
        path: "/v1/channels/{channel}/shipments/{id}/summary",
        contract: Contract::Shipment,
        function: "summary",
        address: &[("id", "shipment")],
        parameters: &[number("maxViolations"), number("maxRoute")],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/shipments/{id}/readings",
        contract: Contract::Shipment,
        function: "readings",
        address: &[("id", "shipment")],
        parameters: &[number("limit"), text("from")],
        public: Public::Nothing,
    },
];

pub(super) const WRITES: &[Write] = &[
    Write {
        path: "/v1/channels/{channel}/shipments/{id}/amendments",
        contract: Contract::Shipment,
        function: "amend",
        address: &[("id", "shipment")],
        retry_conflicts: true,
    },
    Write {
        path: "/v1/channels/{channel}/shipments/{id}/handover/acceptance",
        contract: Contract::Shipment,
        function: "acceptHandover",
        address: &[("id", "shipment")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/shipments/{id}/handover/refusal",
        contract: Contract::Shipment,
        function: "refuseHandover",
        address: &[("id", "shipment")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/shipments/{id}/delivery",
        contract: Contract::Shipment,
        function: "deliver",
        address: &[("id", "shipment")],
        retry_conflicts: false,
    },
];

fn one(argument: Object) -> Vec<Bytes> {
    vec![Bytes::from(Value::Object(argument).to_string())]
}

/// From an agreed RFQ when the body names one.
async fn create(
    State(app): Shared,
    caller: SignedIn,
    headers: HeaderMap,
    At(channel): At<String>,
    Body(shipment): Body<Object>,
) -> Result<Response, Problem> {
    let function = if shipment.contains_key("rfq") {
        "createFromRfq"
    } else {
        "create"
    };
    act_with(
        &app,
        &caller,
        &headers,
        (Contract::Shipment, &channel, function),
        one(shipment),
    )
    .await
}

/// To whom, and whether at once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handover {
    to: String,
    note: Option<String>,
    /// Without the other side's acceptance, where the shipment allows it.
    #[serde(default)]
    direct: bool,
}

async fn hand_over(
    State(app): Shared,
    caller: SignedIn,
    headers: HeaderMap,
    At((channel, id)): At<(String, String)>,
    Body(handover): Body<Handover>,
) -> Result<Response, Problem> {
    let function = if handover.direct {
        "handOver"
    } else {
        "offerHandover"
    };
    let mut argument = Object::new();
    argument.insert("shipment".to_owned(), id.into());
    argument.insert("to".to_owned(), handover.to.into());
    if let Some(note) = handover.note {
        argument.insert("note".to_owned(), note.into());
    }
    act_with(
        &app,
        &caller,
        &headers,
        (Contract::Shipment, &channel, function),
        one(argument),
    )
    .await
}

pub(super) fn more() -> Vec<Route> {
    vec![
        Route {
            method: Method::POST,
            path: "/v1/channels/{channel}/shipments",
            handler: post(create),
        },
        Route {
            method: Method::POST,
            path: "/v1/channels/{channel}/shipments/{id}/handover",
            handler: post(hand_over),
        },
        Route {
            method: Method::GET,
            path: "/v1/channels/{channel}/shipments/{id}/epcis",
            handler: get(super::epcis::export),
        },
    ]
}
