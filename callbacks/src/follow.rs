//! Following events for ever: reconnecting, filtering, knowing the place.

use std::sync::Arc;

use parking_lot::Mutex;
use selvedge_sdk::Checkpoint;
use tokio::time::Instant;

use crate::settings::StartAt;
use crate::source::{EventSource, EventStream, SourceError};
use crate::{CallbackSettings, Event, EventFilter, EventId};

/// What others may see of a follower while it waits.
#[derive(Debug, Default)]
struct Seen {
    /// None until "now" has become a block number.
    place: Option<Checkpoint>,
    trouble: Option<SourceError>,
}

/// Looks at a [`Follower`] that is waiting elsewhere.
#[derive(Debug, Clone, Default)]
pub struct FollowerView(Arc<Mutex<Seen>>);

impl FollowerView {
    /// The place after the last event that was looked at, matching or not; none until the start is settled.
    pub fn place(&self) -> Option<EventId> {
        self.0.lock().place.clone().map(EventId::from)
    }

    /// Why nothing comes at the moment, if something stands in the way.
    pub fn trouble(&self) -> Option<SourceError> {
        self.0.lock().trouble.clone()
    }
}

/// An endless reader of one filter's events. All its state is its place, so dropping it at any time loses nothing.
pub struct Follower {
    source: Arc<dyn EventSource>,
    settings: CallbackSettings,
    owner: String,
    filter: EventFilter,
    seen: FollowerView,
    stream: Option<Box<dyn EventStream>>,
    failures: u32,
    resume: Option<Instant>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("filter", &self.filter)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Follower {
    /// A reader that begins at `start`; nothing is asked of a peer yet.
    pub fn new(
        source: Arc<dyn EventSource>,
        settings: &CallbackSettings,
        owner: &str,
        filter: EventFilter,
        start: &StartAt,
    ) -> Self {
        let place = match start {
            StartAt::Now => None,
            StartAt::Oldest => Some(Checkpoint::default()),
            StartAt::Place(place) => Some(place.checkpoint().clone()),
        };
        Self {
            source,
            settings: settings.clone(),
            owner: owner.to_owned(),
            filter,
            seen: FollowerView(Arc::new(Mutex::new(Seen { place, trouble: None }))),
            stream: None,
            failures: 0,
            resume: None,
        }
    }

    /// Asks the peer once: resolves "now" to a block, and learns whether the channel may be read.
    ///
    /// # Errors
    /// The peer refuses or does not answer.
    pub async fn begin(&mut self) -> Result<EventId, SourceError> {
        let height = self.source.height(&self.owner, &self.filter.channel).await?;
        let mut seen = self.seen.0.lock();
        let place = seen.place.get_or_insert(Checkpoint {
            block_number: height,
            transaction_id: None,
        });
        Ok(EventId::from(place.clone()))
    }

    /// Waits until "now" is a block number; tries until a peer tells.
    pub async fn settle_start(&mut self) -> EventId {
        loop {
            if let Some(place) = self.seen.place() {
                return place;
            }
            wait_out_pause(self.resume).await;
            match self.begin().await {
                Ok(_) => self.works(),
                Err(error) => self.fails(error),
            }
        }
    }

    /// The next matching event. It waits for ever; what stands in the way is in [`Self::view`]. Dropping the future and
    /// calling again loses nothing, but do not do so at short intervals: opening a stream may take as long as the first
    /// event takes to come.
    pub async fn next(&mut self) -> Event {
        loop {
            let place = self.settle_start().await;
            wait_out_pause(self.resume).await;
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    let (channel, chaincode) = (&self.filter.channel, &self.filter.chaincode);
                    match self
                        .source
                        .open(&self.owner, channel, chaincode, place.checkpoint())
                        .await
                    {
                        Ok(stream) => self.stream.insert(stream),
                        Err(error) => {
                            self.fails(error);
                            continue;
                        }
                    }
                }
            };
            match stream.next().await {
                Ok(event) => {
                    self.works();
                    self.seen.0.lock().place = Some(Checkpoint::after_event(&event));
                    if self.filter.name.matches(&event.name) {
                        return Event {
                            channel: self.filter.channel.clone(),
                            event,
                        };
                    }
                }
                Err(error) => {
                    self.stream = None;
                    self.fails(error);
                }
            }
        }
    }

    /// Place and trouble, also while [`Self::next`] waits.
    pub fn view(&self) -> FollowerView {
        self.seen.clone()
    }

    fn works(&mut self) {
        self.failures = 0;
        self.resume = None;
        self.seen.0.lock().trouble = None;
    }

    fn fails(&mut self, error: SourceError) {
        self.failures = self.failures.saturating_add(1);
        self.resume = Some(Instant::now() + self.settings.pause(self.failures));
        let mut seen = self.seen.0.lock();
        if seen.trouble.as_ref() != Some(&error) {
            tracing::debug!(channel = %self.filter.channel, chaincode = %self.filter.chaincode, %error, "no events for now");
        }
        seen.trouble = Some(error);
    }
}

async fn wait_out_pause(resume: Option<Instant>) {
    if let Some(resume) = resume {
        tokio::time::sleep_until(resume).await;
    }
}
