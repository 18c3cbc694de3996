//! Hashes of records that stay at home.

use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use serde_json::Value;

use super::{Contract, Public, Read, Write, act_with, number, text};
use crate::auth::SignedIn;
use crate::error::Problem;
use crate::routes::extract::{At, Body};
use crate::routes::{Route, Shared};

/// Whether a record is certified is for everybody who has it; by whom and when is for the house.
const CHECK: &[&str] = &["verdict", "view"];

pub(super) const READS: &[Read] = &[
    Read {
        path: "/v1/channels/{channel}/parts",
        contract: Contract::Certify,
        function: "parts",
        address: &[],
        parameters: &[text("prefix"), number("limit"), text("bookmark")],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/parts/{part}/certificates",
        contract: Contract::Certify,
        function: "byPart",
        address: &[("part", "part")],
        parameters: &[text("mspId"), number("limit"), text("bookmark")],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/parts/{part}/records/{record}",
        contract: Contract::Certify,
        function: "byRecord",
        address: &[("part", "part"), ("record", "record")],
        parameters: &[text("mspId")],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/certificates/check",
        contract: Contract::Certify,
        function: "check",
        address: &[],
        parameters: &[
            text("hash"),
            text("algorithm"),
            text("part"),
            text("record"),
            text("mspId"),
        ],
        public: Public::Members(CHECK),
    },
    Read {
        path: "/v1/channels/{channel}/certificates/by-hash/{hash}",
        contract: Contract::Certify,
        function: "byHash",
        address: &[("hash", "hash")],
        parameters: &[],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/certificates/by-transaction/{transaction}",
        contract: Contract::Certify,
        function: "byTransaction",
        address: &[("transaction", "transaction")],
        parameters: &[],
        public: Public::Nothing,
    },
];

/// Both go through [`more`]: a list is another function than a single record.
pub(super) const WRITES: &[Write] = &[];

async fn certify(
    State(app): Shared,
    caller: SignedIn,
    headers: HeaderMap,
    At(channel): At<String>,
    Body(records): Body<Value>,
) -> Result<Response, Problem> {
    let function = match &records {
        Value::Array(_) => "certifyMany",
        Value::Object(object) if object.contains_key("records") => "certifyMany",
        _ => "certify",
    };
    let args = vec![Bytes::from(records.to_string())];
    act_with(
        &app,
        &caller,
        &headers,
        (Contract::Certify, &channel, function),
        args,
    )
    .await
}

pub(super) fn more() -> Vec<Route> {
    vec![Route {
        method: Method::POST,
        path: "/v1/channels/{channel}/certificates",
        handler: post(certify),
    }]
}
