//! Server-sent events: the reader keeps its place and tells it when it comes back.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};

use crate::follow::Follower;
use crate::settings::StartAt;
use crate::{CallbackError, Event, EventFilter, EventId, Hub};

/// A reader whose connection broke waits so long before it comes back.
const RETRY: Duration = Duration::from_secs(2);
/// A comment is sent so often when there is nothing else, so that both sides notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

fn rendered(event: &Event) -> sse::Event {
    sse::Event::default()
        .id(event.id().to_string())
        .event(event.event.name.replace(['\n', '\r'], " "))
        .data(event.json())
}

/// Where the reader begins, so that one which breaks off before its first event misses nothing.
fn opening(start: &EventId) -> sse::Event {
    sse::Event::default()
        .id(start.to_string())
        .event("selvedge.start")
        .retry(RETRY)
        .data(format!("{{\"from\":\"{start}\"}}"))
}

impl Hub {
    /// Server-sent events for one reader. `start` is its `Last-Event-ID` if it sent one. Each message has the event's id,
    /// its name as the event type, and [`Event::json`] as data; the first message is of the type `selvedge.start` and tells
    /// the place that reading began at. The stream lasts until the reader goes or the hub stops.
    ///
    /// # Errors
    /// The peer refuses or none answers, the filter is not complete, or there are too many readers.
    pub async fn stream(
        self: &Arc<Self>,
        owner: &str,
        filter: EventFilter,
        start: &StartAt,
    ) -> Result<Response, CallbackError> {
        filter.check()?;
        let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
            return Err(CallbackError::Busy(format!(
                "there are already {} readers of events, as many as are allowed",
                self.settings.max_streams
            )));
        };
        let mut follower = Follower::new(Arc::clone(&self.source), &self.settings, owner, filter, start);
        let begun = follower.begin().await.map_err(|e| {
            if e.refused {
                CallbackError::Forbidden(e.why)
            } else {
                CallbackError::Unavailable(e.why)
            }
        })?;
        let events = stream::unfold((follower, permit), |(mut follower, permit)| async move {
            let event = follower.next().await;
            Some((Ok::<_, Infallible>(rendered(&event)), (follower, permit)))
        });
        let stop = self.stop.clone();
        let all = stream::once(std::future::ready(Ok(opening(&begun))))
            .chain(events)
            .take_until(async move { stop.cancelled().await });
        Ok(Sse::new(all)
            .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
            .into_response())
    }
}
