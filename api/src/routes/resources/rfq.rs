//! Requests for quotation, tenders, and the deals that they become.

use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use serde::Deserialize;

use super::{Contract, Public, Read, Write, act_with, number, text};
use crate::auth::SignedIn;
use crate::error::Problem;
use crate::routes::extract::{At, Body};
use crate::routes::{Route, Shared};

/// What the public view shows of an RFQ: that it exists, between whom, and how far it is.
const RFQ: &[&str] = &[
    "id",
    "state",
    "offeror",
    "target",
    "steps",
    "createdAt",
    "updatedAt",
    "view",
];
/// And of a tender.
const TENDER: &[&str] = &[
    "id",
    "state",
    "buyer",
    "deadline",
    "createdAt",
    "updatedAt",
    "view",
];

pub(super) const READS: &[Read] = &[
    Read {
        path: "/v1/channels/{channel}/rfqs",
        contract: Contract::Rfq,
        function: "list",
        address: &[],
        parameters: &[text("party"), text("state"), number("limit"), text("bookmark")],
        public: Public::Each("rfqs", RFQ),
    },
    Read {
        path: "/v1/channels/{channel}/rfqs/{id}",
        contract: Contract::Rfq,
        function: "get",
        address: &[("id", "id")],
        parameters: &[],
        public: Public::Members(RFQ),
    },
    Read {
        path: "/v1/channels/{channel}/rfqs/{id}/history",
        contract: Contract::Rfq,
        function: "history",
        address: &[("id", "id")],
        parameters: &[],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/rfqs/{id}/deal",
        contract: Contract::Rfq,
        function: "deal",
        address: &[("id", "id")],
        parameters: &[],
        public: Public::Nothing,
    },
    Read {
        path: "/v1/channels/{channel}/tenders",
        contract: Contract::Rfq,
        function: "tenders",
        address: &[],
        parameters: &[text("party"), text("state"), number("limit"), text("bookmark")],
        public: Public::Each("tenders", TENDER),
    },
    Read {
        path: "/v1/channels/{channel}/tenders/{id}",
        contract: Contract::Rfq,
        function: "tender",
        address: &[("id", "tender")],
        parameters: &[],
        public: Public::Members(TENDER),
    },
    Read {
        path: "/v1/channels/{channel}/tenders/{id}/history",
        contract: Contract::Rfq,
        function: "tenderHistory",
        address: &[("id", "tender")],
        parameters: &[],
        public: Public::Nothing,
    },
];

pub(super) const WRITES: &[Write] = &[
    Write {
        path: "/v1/channels/{channel}/rfqs",
        contract: Contract::Rfq,
        function: "offer",
        address: &[],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/rfqs/{id}/counter-offers",
        contract: Contract::Rfq,
        function: "counterOffer",
        address: &[("id", "id")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/rfqs/{id}/acceptance",
        contract: Contract::Rfq,
        function: "accept",
        address: &[("id", "id")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/rfqs/{id}/rejection",
        contract: Contract::Rfq,
        function: "reject",
        address: &[("id", "id")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/rfqs/{id}/deal/milestones",
        contract: Contract::Rfq,
        function: "proposeMilestones",
        address: &[("id", "id")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/rfqs/{id}/deal/agreement",
        contract: Contract::Rfq,
        function: "agreeMilestones",
        address: &[("id", "id")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/rfqs/{id}/deal/milestones/{milestone}/reached",
        contract: Contract::Rfq,
        function: "reachMilestone",
        address: &[("id", "id"), ("milestone", "milestone")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/rfqs/{id}/deal/milestones/{milestone}/confirmation",
        contract: Contract::Rfq,
        function: "confirmMilestone",
        address: &[("id", "id"), ("milestone", "milestone")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/rfqs/{id}/deal/milestones/{milestone}/refusal",
        contract: Contract::Rfq,
        function: "refuseMilestone",
        address: &[("id", "id"), ("milestone", "milestone")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/rfqs/{id}/deal/finish",
        contract: Contract::Rfq,
        function: "finishDeal",
        address: &[("id", "id")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/tenders",
        contract: Contract::Rfq,
        function: "openTender",
        address: &[],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/tenders/{id}/seals",
        contract: Contract::Rfq,
        function: "sealOffer",
        address: &[("id", "tender")],
        retry_conflicts: true,
    },
    Write {
        path: "/v1/channels/{channel}/tenders/{id}/declination",
        contract: Contract::Rfq,
        function: "declineTender",
        address: &[("id", "tender")],
        retry_conflicts: true,
    },
    Write {
        path: "/v1/channels/{channel}/tenders/{id}/closure",
        contract: Contract::Rfq,
        function: "closeTender",
        address: &[("id", "tender")],
        retry_conflicts: true,
    },
    Write {
        path: "/v1/channels/{channel}/tenders/{id}/award",
        contract: Contract::Rfq,
        function: "award",
        address: &[("id", "tender")],
        retry_conflicts: false,
    },
    Write {
        path: "/v1/channels/{channel}/tenders/{id}/cancellation",
        contract: Contract::Rfq,
        function: "cancelTender",
        address: &[("id", "tender")],
        retry_conflicts: false,
    },
];

/// What opens a sealed offer. The offer is text: its seal is over exactly these characters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reveal {
    offer: String,
    salt: String,
}

async fn reveal(
    State(app): Shared,
    caller: SignedIn,
    headers: HeaderMap,
    At((channel, id)): At<(String, String)>,
    Body(reveal): Body<Reveal>,
) -> Result<Response, Problem> {
    let args = [id, reveal.offer, reveal.salt].map(Bytes::from).to_vec();
    act_with(
        &app,
        &caller,
        &headers,
        (Contract::Rfq, &channel, "revealOffer"),
        args,
    )
    .await
}

pub(super) fn more() -> Vec<Route> {
    vec![Route {
        method: Method::POST,
        path: "/v1/channels/{channel}/tenders/{id}/reveals",
        handler: post(reveal),
    }]
}
