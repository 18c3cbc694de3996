//! What happens on a channel, as server-sent events that can be resumed.
//!
//! | event | id | data |
//! |---|---|---|
//! | `block` | `BLOCK.end` | a block as lists show it |
//! | `chaincode` | `BLOCK.POSITION` | `{"channel","block","position","transaction","chaincode","name","payload"}` |
//!
//! They come from the index in the order of the chain, so a stream that begins behind an id misses and repeats nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::extract::{At, Params};
use super::{App, Shared};
use crate::auth::{Caller, View};
use crate::error::Problem;
use crate::index::{BlockRow, EventRow};

/// Blocks read at once.
const BATCH: u32 = 50;
/// Events of one block read at once.
const EVENTS: u32 = 500;
/// Silence after which a comment shows that the stream is alive, so that proxies and browsers keep it.
const ALIVE: Duration = Duration::from_secs(15);

/// Where to begin, and what to send.
#[derive(Debug, Deserialize)]
pub(super) struct Query {
    /// First block; new ones only if absent.
    from: Option<u64>,
    /// Events of this chaincode only.
    chaincode: Option<String>,
    /// Events of this name only.
    name: Option<String>,
    /// Whether to send blocks; they are sent unless a chaincode is named.
    blocks: Option<bool>,
    /// As the header `Last-Event-ID`, for who cannot set headers.
    after: Option<String>,
}

/// Up to which a stream has been sent: everything of the blocks below `block`, and of it what is at or before `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    block: u64,
    position: Option<u64>,
}

/// Reads `BLOCK.POSITION` or `BLOCK.end`.
fn cursor(id: &str) -> Result<Cursor, Problem> {
    let wrong =
        || Problem::bad_request("the id of the last event is BLOCK.POSITION or BLOCK.end, for example 12.0");
    let (block, position) = id.split_once('.').ok_or_else(wrong)?;
    let block: u64 = block.parse().map_err(|_| wrong())?;
    if position == "end" {
        return Ok(Cursor {
            block: block.saturating_add(1),
            position: None,
        });
    }
    Ok(Cursor {
        block,
        position: Some(position.parse().map_err(|_| wrong())?),
    })
}

struct Source {
    app: Arc<App>,
    channel: String,
    height: watch::Receiver<u64>,
    cursor: Cursor,
    view: View,
    query: Query,
    ready: VecDeque<Event>,
    _slot: crate::auth::StreamSlot,
}

impl Source {
    fn wants_blocks(&self) -> bool {
        self.query.blocks.unwrap_or(self.query.chaincode.is_none())
    }

    fn wants(&self, event: &EventRow) -> bool {
        self.view == View::InHouse
            && self
                .query
                .chaincode
                .as_ref()
                .is_none_or(|c| *c == event.chaincode)
            && self.query.name.as_ref().is_none_or(|n| *n == event.name)
    }

    fn chaincode_event(&self, event: &EventRow) -> Event {
        let data = json!({
            "channel": self.channel, "block": event.place.block, "position": event.place.position,
            "transaction": event.transaction, "chaincode": event.chaincode, "name": event.name,
            "payload": super::any_json(&event.payload.clone().into()),
        });
        Event::default()
            .event("chaincode")
            .id(event.place.to_string())
            .data(data.to_string())
    }

    /// Reads on from the cursor. Says whether anything was read.
    async fn read(&mut self) -> Result<bool, Problem> {
        let (channel, cursor) = (self.channel.clone(), self.cursor);
        let rows: Vec<(BlockRow, Vec<EventRow>)> = self
            .app
            .indexed(move |index| {
                let mut rows = Vec::new();
                for block in index.blocks_from(&channel, cursor.block, BATCH)? {
                    let after = cursor.position.filter(|_| block.number == cursor.block);
                    let mut events = Vec::new();
                    loop {
                        let last = events.last().map(|e: &EventRow| e.place.position).or(after);
                        let more = index.events_of(&channel, block.number, last, EVENTS)?;
                        let done = more.len() < usize::try_from(EVENTS).unwrap_or(usize::MAX);
                        events.extend(more);
                        if done {
                            break;
                        }
                    }
                    rows.push((block, events));
                }
                Ok(rows)
            })
            .await?;
        let any = !rows.is_empty();
        for (block, events) in rows {
            let wanted: Vec<Event> = events
                .iter()
                .filter(|event| self.wants(event))
                .map(|event| self.chaincode_event(event))
                .collect();
            self.ready.extend(wanted);
            if self.wants_blocks() {
                let data: Value = json!(block);
                self.ready.push_back(
                    Event::default()
                        .event("block")
                        .id(format!("{}.end", block.number))
                        .data(data.to_string()),
                );
            }
            self.cursor = Cursor {
                block: block.number.saturating_add(1),
                position: None,
            };
        }
        Ok(any)
    }

    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            // Marked before reading, so that what comes meanwhile is not slept over.
            self.height.borrow_and_update();
            match self.read().await {
                Ok(true) => {}
                Ok(false) => {
                    let stop = self.app.stop.clone();
                    tokio::select! {
                        changed = self.height.changed() => changed.ok()?,
                        () = stop.cancelled() => return None,
                    }
                }
                // The caller connects again and resumes.
                Err(_) => return None,
            }
        }
    }
}

/// `GET /v1/channels/{channel}/events`
pub(super) async fn events(
    State(app): Shared,
    caller: Caller,
    headers: HeaderMap,
    At(channel): At<String>,
    Params(query): Params<Query>,
) -> Result<Response, Problem> {
    caller.reader()?;
    let height = app.network.channel(&channel)?.height;
    let last = match headers.get("last-event-id") {
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_| Problem::bad_request("Last-Event-ID is not readable text"))?
                .to_owned(),
        ),
        None => query.after.clone(),
    };
    let cursor = match last.as_deref().filter(|id| !id.is_empty()) {
        Some(id) => cursor(id)?,
        None => Cursor {
            block: query.from.unwrap_or(*height.borrow()),
            position: None,
        },
    };
    let slot = app
        .streams
        .open(caller.address)
        .ok_or_else(|| Problem::too_many("too many open event streams from this address", 5))?;
    let source = Source {
        app,
        channel,
        height,
        cursor,
        view: caller.view(),
        query,
        ready: VecDeque::new(),
        _slot: slot,
    };
    let events = stream::unfold(source, Source::next);
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(ALIVE))
        .into_response();
    // A proxy that collects the answer before handing it on would hold the events back.
    response
        .headers_mut()
        .insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_say_where_to_go_on() {
        let at = |block, position| Cursor { block, position };
        assert_eq!(cursor("12.end").unwrap(), at(13, None));
        assert_eq!(cursor("12.3").unwrap(), at(12, Some(3)));
        for wrong in ["", "12", "a.b", "12.", ".1", "-1.0"] {
            assert!(cursor(wrong).is_err(), "{wrong}");
        }
    }
}
