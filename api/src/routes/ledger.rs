//! Channels, blocks, transactions, and who wrote a key.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::extract::{At, Params, limit};
use super::{App, Shared};
use crate::auth::{Caller, SignedIn, View};
use crate::error::Problem;
use crate::index::{Place, TransactionRow};
use crate::network::shown;
use crate::read::{BlockView, TransactionView};

/// Transactions of a block that come with it; the rest page by page.
const BLOCK_TRANSACTIONS: u32 = 500;

/// A page of a list that goes from the newest to the oldest.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    before: Option<u64>,
    limit: Option<u32>,
    chaincode: Option<String>,
}

/// What a visitor sees of a transaction in a list: not who made it, nor what it calls.
fn narrowed(row: &TransactionRow, view: View) -> Value {
    match view {
        View::InHouse => json!(row),
        View::Public => json!({
            "channel": row.channel, "block": row.block, "position": row.position, "id": row.id, "kind": row.kind,
            "validation": row.validation, "time": row.time,
        }),
    }
}

/// `GET /v1/channels`
pub(super) async fn channels(State(app): Shared, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.reader()?;
    let channels: Vec<Value> = app
        .network
        .channels()
        .into_iter()
        .filter_map(|name| {
            let height = *app.network.channel(&name).ok()?.height.borrow();
            Some(json!({ "name": name, "height": height }))
        })
        .collect();
    Ok(Json(json!({ "channels": channels })))
}

/// `GET /v1/channels/{channel}`
pub(super) async fn channel(
    State(app): Shared,
    caller: Caller,
    At(channel): At<String>,
) -> Result<Json<Value>, Problem> {
    caller.reader()?;
    let height = *app.network.channel(&channel)?.height.borrow();
    let mut chaincodes = app.network.chaincodes(&channel).await?;
    if caller.view() < View::InHouse {
        // The names that everybody is told anyway: which of them are there.
        chaincodes.retain(|name| app.config.contracts.names().contains(&name.as_str()));
    }
    let mut answer = json!({ "name": channel, "height": height, "chaincodes": chaincodes });
    // Who belongs to it is the members' business.
    if caller.view() == View::InHouse {
        let info = app.network.channel_info(&channel).await?;
        answer["organizations"] = json!(info.application_orgs);
        answer["configuration"] = json!(info.sequence);
    }
    Ok(Json(answer))
}

/// `GET /v1/channels/{channel}/blocks`
pub(super) async fn blocks(
    State(app): Shared,
    caller: Caller,
    At(channel): At<String>,
    Params(page): Params<Page>,
) -> Result<Json<Value>, Problem> {
    caller.reader()?;
    let height = *app.network.channel(&channel)?.height.borrow();
    let limit = limit(page.limit, 20, 200)?;
    let before = page.before.unwrap_or(u64::MAX);
    let blocks = app
        .indexed(move |index| index.blocks(&channel, before, limit))
        .await?;
    let next = blocks.last().map(|b| b.number).filter(|n| *n > 0);
    Ok(Json(
        json!({ "height": height, "blocks": blocks, "before": next }),
    ))
}

/// A block of the peer; `latest` is the newest that is indexed.
async fn fetch(app: &App, caller: &Caller, channel: &str, number: &str) -> Result<BlockView, Problem> {
    let height = *app.network.channel(channel)?.height.borrow();
    let number = match number {
        "latest" => height.saturating_sub(1),
        text => text.parse().map_err(|_| {
            Problem::bad_request(format!(
                "{} is no block number; write a number, or latest",
                shown(text)
            ))
        })?,
    };
    if number >= height {
        return Err(Problem::not_found(format!(
            "channel {channel} has no block {number} yet; its height is {height}"
        )));
    }
    let identity = &caller.reader()?.identity;
    let block = app
        .network
        .at_peer(|peer| peer.block(identity, channel, number))
        .await?;
    Ok(BlockView::open(channel, &block))
}

/// `GET /v1/channels/{channel}/blocks/{number}`
pub(super) async fn block(
    State(app): Shared,
    caller: Caller,
    At((channel, number)): At<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let view = fetch(&app, &caller, &channel, &number).await?;
    let number = view.number;
    let rows = app
        .indexed(move |index| index.transactions_of(&channel, number, 0, BLOCK_TRANSACTIONS))
        .await?;
    let seen = caller.view();
    let transactions: Vec<Value> = rows.iter().map(|row| narrowed(row, seen)).collect();
    let total = view.transactions.len();
    let valid = view.valid();
    let mut json = json!(view);
    json["transactions"] = Value::Array(transactions);
    json["transactionCount"] = json!(total);
    json["validCount"] = json!(valid);
    Ok(Json(json))
}

/// `GET /v1/channels/{channel}/transactions`
pub(super) async fn transactions(
    State(app): Shared,
    caller: Caller,
    At(channel): At<String>,
    Params(page): Params<Page>,
) -> Result<Json<Value>, Problem> {
    caller.reader()?;
    app.network.channel(&channel)?;
    let limit = limit(page.limit, 20, 200)?;
    let (before, chaincode, seen) = (page.before.unwrap_or(u64::MAX), page.chaincode, caller.view());
    if seen == View::Public && chaincode.is_some() {
        return Err(Problem::forbidden(
            "which contract is called belongs to the in-house view",
        ));
    }
    let rows = app
        .indexed(move |index| index.transactions(&channel, chaincode.as_deref(), before, limit))
        .await?;
    let transactions: Vec<Value> = rows.iter().map(|row| narrowed(row, seen)).collect();
    Ok(Json(json!({ "transactions": transactions })))
}

/// `GET /v1/channels/{channel}/transactions/{id}`
pub(super) async fn transaction(
    State(app): Shared,
    caller: Caller,
    At((channel, id)): At<(String, String)>,
) -> Result<Json<Value>, Problem> {
    caller.reader()?;
    app.network.channel(&channel)?;
    let (name, wanted) = (channel.clone(), id.clone());
    let places = app.indexed(move |index| index.places(&name, &wanted)).await?;
    let Some(place) = places.first() else {
        return Err(Problem::not_found(format!(
            "no block of channel {channel} holds transaction {}: it was never ordered, is still on its way, or is on \
             another channel",
            shown(&id)
        )));
    };
    if caller.view() == View::Public {
        return Ok(Json(narrowed(place, View::Public)));
    }
    let block = fetch(&app, &caller, &channel, &place.block.to_string()).await?;
    let view = opened(block, place)?;
    let mut json = json!(view);
    if !view.validation.valid {
        json["reason"] = json!(reason(&app, &caller, &channel, &id).await?);
    }
    if places.len() > 1 {
        json["duplicates"] = json!(places[1..]);
    }
    Ok(Json(json))
}

fn opened(block: BlockView, place: &TransactionRow) -> Result<TransactionView, Problem> {
    block
        .transactions
        .into_iter()
        .find(|t| u64::try_from(t.position).is_ok_and(|p| p == place.position))
        .ok_or_else(|| Problem::internal(&"the index and the peer disagree about a block"))
}

/// Why the peer refused a transaction, in its own words, if it remembers.
async fn reason(app: &App, caller: &Caller, channel: &str, id: &str) -> Result<Option<String>, Problem> {
    let identity = &caller.reader()?.identity;
    let reason = app
        .network
        .at_peer(|peer| peer.refusal(identity, channel, id))
        .await?;
    Ok(reason)
}

/// Which key to look at.
#[derive(Debug, Deserialize)]
pub(super) struct KeyQuery {
    chaincode: String,
    /// The key; parts of a composite key are joined by slashes, with `composite=true`.
    key: String,
    #[serde(default)]
    composite: bool,
    /// `BLOCK.POSITION`: only what was written before.
    before: Option<String>,
    limit: Option<u32>,
}

fn composite(key: &str) -> String {
    let mut text = String::from("\0");
    for part in key.split('/') {
        text.push_str(part);
        text.push('\0');
    }
    text
}

/// `GET /v1/channels/{channel}/history`
pub(super) async fn history(
    State(app): Shared,
    caller: SignedIn,
    At(channel): At<String>,
    Params(query): Params<KeyQuery>,
) -> Result<Json<Value>, Problem> {
    app.network.channel(&channel)?;
    let limit = limit(query.limit, 20, 100)?;
    let before = match &query.before {
        None => Place {
            block: u64::MAX,
            position: 0,
        },
        Some(text) => text
            .parse()
            .map_err(|()| Problem::bad_request("before is BLOCK.POSITION, for example 12.0"))?,
    };
    let key = if query.composite {
        composite(&query.key)
    } else {
        query.key.clone()
    };
    let (name, namespace, raw) = (channel.clone(), query.chaincode.clone(), key.clone());
    let writers = app
        .indexed(move |index| index.writers(&name, &namespace, &raw, before, limit))
        .await?;
    let next = (writers.len() == usize::try_from(limit).unwrap_or(usize::MAX))
        .then(|| {
            writers
                .last()
                .map(|(row, _)| format!("{}.{}", row.block, row.position))
        })
        .flatten();
    let versions = values(&app, &caller, &channel, &query.chaincode, &key, writers).await?;
    Ok(Json(json!({
        "chaincode": query.chaincode, "key": query.key, "versions": versions, "before": next,
    })))
}

/// The values that transactions wrote, from their blocks.
async fn values(
    app: &Arc<App>,
    caller: &SignedIn,
    channel: &str,
    namespace: &str,
    key: &str,
    writers: Vec<(TransactionRow, bool)>,
) -> Result<Vec<Value>, Problem> {
    let mut versions = Vec::with_capacity(writers.len());
    let mut open: Option<BlockView> = None;
    for (row, deleted) in writers {
        if open.as_ref().is_none_or(|block| block.number != row.block) {
            let block = app
                .network
                .at_peer(|peer| peer.block(&caller.user.identity, channel, row.block))
                .await?;
            open = Some(BlockView::open(channel, &block));
        }
        let value = open
            .iter()
            .flat_map(|block| &block.transactions)
            .filter(|t| u64::try_from(t.position).is_ok_and(|p| p == row.position))
            .flat_map(|t| &t.calls)
            .flat_map(|call| &call.writes)
            .find(|w| w.namespace == namespace && w.collection.is_none() && w.raw_key == key)
            .and_then(|w| w.value.clone());
        versions.push(json!({
            "transaction": row.id, "block": row.block, "position": row.position, "time": row.time,
            "by": row.creator, "function": row.function, "deleted": deleted, "value": value,
        }));
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composite_keys_are_written_with_slashes() {
        assert_eq!(composite("rfq/rfq-1"), "\0rfq\0rfq-1\0");
    }
}
