//! One search for block, transaction, hash, and whatever the contracts keep by an id.

use axum::Json;
use axum::extract::State;
use futures::future::join_all;
use selvedge_sdk::Invocation;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::Params;
use super::{App, Shared};
use crate::auth::{Caller, User, View};
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

/// Something that a contract finds by a text: what it is, the chaincode, the function, and the list in the answer that
/// must not be empty.
struct Finder<'a> {
    kind: &'static str,
    chaincode: &'a str,
    function: &'static str,
    list: Option<&'static str>,
    /// Whether it is there for the public view too.
    public: bool,
}

fn finders(app: &App) -> Vec<Finder<'_>> {
    let names = &app.config.contracts;
    let named = |kind, chaincode, function| Finder {
        kind,
        chaincode,
        function,
        list: None,
        public: true,
    };
    // Certificates of records are found by the public with the record's hash, at the address made for that.
    let listed = |kind, chaincode, function, list| Finder {
        kind,
        chaincode,
        function,
        list: Some(list),
        public: false,
    };
    vec![
        named("rfq", names.rfq.as_str(), "get"),
        named("tender", names.rfq.as_str(), "tender"),
        named("shipment", names.shipment.as_str(), "get"),
        named("product", names.process.as_str(), "product"),
        Finder {
            public: false,
            ..named("idea", names.ideas.as_str(), "get")
        },
        listed("part", names.certify.as_str(), "byPart", "certificates"),
        listed("certificate", names.certify.as_str(), "byHash", "certificates"),
    ]
}

impl Finder<'_> {
    /// What it finds on a channel. A contract that is not deployed has nothing to find, like one that does not know it.
    async fn find(&self, app: &App, user: &User, view: View, channel: &str, text: &str) -> Option<Value> {
        if !self.public && view == View::Public {
            return None;
        }
        let invocation = Invocation::new(channel, self.chaincode, self.function).arg(text);
        let answer = app.network.evaluate(&user.identity, &invocation).await.ok()?;
        let found: Value = serde_json::from_slice(&answer).ok()?;
        if let Some(list) = self.list
            && found[list].as_array().is_none_or(Vec::is_empty)
        {
            return None;
        }
        Some(hit(self.kind, channel, text, &found, view))
    }
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
    let finders = finders(&app);
    let view = caller.view();
    let asking = channels
        .iter()
        .flat_map(|channel| finders.iter().map(move |finder| (channel, finder)))
        .map(|(channel, finder)| finder.find(&app, &user, view, channel, &text));
    hits.extend(join_all(asking).await.into_iter().flatten());
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
