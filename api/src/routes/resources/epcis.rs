//! A shipment as an EPCIS 2.0 document.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use selvedge_chaincode::Timestamp;
use selvedge_epcis::{Exporter, Names, Vocabulary};
use selvedge_sdk::Invocation;
use serde::Deserialize;
use serde_json::json;

use super::Contract;
use crate::auth::SignedIn;
use crate::error::Problem;
use crate::routes::Shared;
use crate::routes::extract::{At, Params};

/// Readings that are asked for at once.
const PAGE: usize = 1000;
/// Pages that a document is made of at most: it is put together in memory.
const MAX_PAGES: usize = 100;

/// How things are named in the document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Base of identifiers; `urn:selvedge:<channel>:` if absent.
    base: Option<String>,
}

/// `GET /v1/channels/{channel}/shipments/{id}/epcis`
pub(super) async fn export(
    State(app): Shared,
    caller: SignedIn,
    At((channel, id)): At<(String, String)>,
    Params(query): Params<Query>,
) -> Result<Response, Problem> {
    app.network.channel(&channel)?;
    let names = match &query.base {
        Some(base) => Names::under(base).map_err(|e| Problem::bad_request(e.to_string()))?,
        None => Names::of_channel(&channel),
    };
    let chaincode = Contract::Shipment.chaincode(&app.config.contracts);
    let ask = async |function: &str, argument: String| {
        let invocation = Invocation::new(&channel, chaincode, function).arg(argument);
        app.network.evaluate(&caller.user.identity, &invocation).await
    };
    // What the contract answers is what the exporter reads; anything else is a fault of this server.
    let failed = |e: selvedge_epcis::EpcisError| Problem::internal(&e);
    let shipment = ask("get", id.clone()).await?;
    let mut exporter = Exporter::new(names, Vocabulary::default(), &shipment).map_err(failed)?;
    let mut from = None;
    for page in 0.. {
        if page == MAX_PAGES {
            return Err(Problem::bad_request(format!(
                "shipment {id} has more than {} readings; `selvedge shipment export` writes as many as there are",
                PAGE * MAX_PAGES
            )));
        }
        let question = json!({ "shipment": id, "from": from, "limit": PAGE });
        let answer = ask("readings", question.to_string()).await?;
        from = exporter.readings(&answer).map_err(failed)?;
        if from.is_none() {
            break;
        }
    }
    let now = Timestamp::from_unix(crate::now_seconds(), 0).map_err(|e| Problem::internal(&e))?;
    let document = exporter.finish(now).map_err(failed)?;
    Ok(([(header::CONTENT_TYPE, "application/ld+json")], document).into_response())
}
