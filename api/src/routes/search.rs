//! One search for block, transaction, hash, and whatever the contracts keep by an id.

use axum::Json;
use axum::extract::State;
use selvedge_sdk::Invocation;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::Params;
use super::{App, Shared};
use crate::auth::{Caller, View};
use crate::error::Problem;

/// Hits of one kind at most.
const HITS: usize = 10;
/// Shortest beginning of a hash that is looked for.
const SHORTEST_HASH: usize = 4;
/// Longest text that can be a name of something.
const LONGEST: usize = 128;

/// What is looked for.
#[derive(Debug, Deserialize)]
pub(super) struct Query {
    q: String,
    channel: Option<String>,
}

/// A contract's things that can be found by their id: kind, chaincode, function.
fn by_id(app: &App) -> [(&'static str, &str, &'static str); 2] {
    let names = &app.config.contracts;
    [
        ("rfq", names.rfq.as_str(), "get"),
        ("shipment", names.shipment.as_str(), "get"),
    ]
}

/// `GET /v1/search`
pub(super) async fn search(
    State(app): Shared,
    caller: Caller,
    Params(query): Params<Query>,
) -> Result<Json<Value>, Problem> {
    let user = caller.reader()?.clone();
    let text = query.q.trim().to_owned();
    if text.is_empty() || text.len() > LONGEST {
        return Err(Problem::bad_request(format!("q has 1 to {LONGEST} characters")));
    }
    let channels = match query.channel {
        None => app.network.channels(),
        Some(name) => {
            app.network.channel(&name)?;
            vec![name]
        }
    };
    let mut hits = Vec::new();
    if let Ok(number) = text.trim_start_matches('#').parse::<u64>() {
        for channel in &channels {
            if number < *app.network.channel(channel)?.height.borrow() {
                hits.push(json!({ "kind": "block", "channel": channel, "id": number.to_string() }));
            }
        }
    }
    hits.extend(hashes(&app, &channels, &text).await?);
    for channel in &channels {
        for (kind, chaincode, function) in by_id(&app) {
            let invocation = Invocation::new(channel, chaincode, function).arg(text.clone());
            // A contract that is not deployed here has nothing to find, like one that does not know the id.
            if let Ok(found) = app.network.evaluate(&user.identity, &invocation).await {
                let found: Value = serde_json::from_slice(&found).unwrap_or_default();
                hits.push(hit(kind, channel, &text, &found, caller.view()));
            }
        }
    }
    Ok(Json(json!({ "query": text, "hits": hits })))
}

fn hit(kind: &str, channel: &str, id: &str, found: &Value, view: View) -> Value {
    let title = match view {
        View::Public => Value::Null,
        View::InHouse => ["item", "goods", "name", "title"]
            .iter()
            .map(|name| &found[name])
            .find(|value| value.is_string())
            .cloned()
            .unwrap_or_default(),
    };
    json!({ "kind": kind, "channel": channel, "id": id, "title": title })
}

/// Transactions and blocks by the beginning of their id or hash.
async fn hashes(app: &std::sync::Arc<App>, channels: &[String], text: &str) -> Result<Vec<Value>, Problem> {
    let text = text.to_ascii_lowercase();
    if text.len() < SHORTEST_HASH || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    let channels = channels.to_vec();
    let (transactions, blocks) = app
        .indexed(move |index| {
            Ok((
                index.transactions_like(&channels, &text, HITS)?,
                index.blocks_like(&channels, &text, HITS)?,
            ))
        })
        .await?;
    let transactions = transactions
        .iter()
        .map(|t| json!({ "kind": "transaction", "channel": t.channel, "id": t.id }));
    let blocks = blocks.iter().map(
        |b| json!({ "kind": "block", "channel": b.channel, "id": b.number.to_string(), "title": b.hash }),
    );
    Ok(transactions.chain(blocks).collect())
}
