//! Subscriptions: their life, and the task that serves each of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use selvedge_sdk::{Checkpoint, FileCheckpointer};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::follow::{Follower, FollowerView};
use crate::settings::{NewSubscription, StartAt};
use crate::source::EventSource;
use crate::store::{Halt, Store, Stored};
use crate::webhook::{self, NotDelivered, Secret, Sender};
use crate::{CallbackError, CallbackSettings, Event, EventFilter, EventId};

/// A place is written this long after a delivery at the latest; many deliveries in that time share the write.
const PLACE_WITHIN: Duration = Duration::from_secs(1);
/// An attempt that is under way when its subscription ends may take so long; its outcome would be unknown otherwise, and
/// the event repeated.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubscriptionState {
    /// It is up to date, or on its way there.
    Active,
    /// The last delivery, or the last attempt to read events, failed; it is tried again.
    Failing,
    /// The receiver failed for too long; resume it when the receiver is back.
    Suspended,
    /// The receiver said that it wants no more (HTTP 410).
    Ended,
}

/// A subscription as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionView {
    /// Its name.
    pub id: String,
    /// The events that it is about.
    #[serde(flatten)]
    pub filter: EventFilter,
    /// Where they go.
    pub url: String,
    /// Where it stands.
    pub state: SubscriptionState,
    /// Why it does not go on, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Everything before this place was delivered; none until a peer has told what "now" is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Deliveries since this process started.
    pub delivered: u64,
    /// Failed attempts in a row.
    pub failures: u32,
    /// Unix seconds of its creation.
    pub created_at: u64,
    /// It stands in the program's configuration and cannot be removed by a call.
    pub fixed: bool,
}

/// A subscription that was made.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// As it is.
    #[serde(flatten)]
    pub subscription: SubscriptionView,
    /// What its web hooks are signed with. It is not told again.
    pub secret: String,
}

#[derive(Debug, Default)]
struct Progress {
    delivered: u64,
    failures: u32,
    trouble: Option<String>,
    halt: Option<Halt>,
    /// After the last delivered event.
    place: Option<Checkpoint>,
}

/// A subscription with the task that serves it.
struct Running {
    stored: Stored,
    progress: Arc<Mutex<Progress>>,
    view: FollowerView,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// All subscriptions of a program, and its readers of server-sent events.
pub struct Hub {
    pub(crate) source: Arc<dyn EventSource>,
    pub(crate) settings: CallbackSettings,
    store: Store,
    sender: Sender,
    running: Mutex<BTreeMap<String, Running>>,
    /// One change at a time, so that a file and the task that serves it agree.
    changing: tokio::sync::Mutex<()>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) stop: CancellationToken,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

impl Hub {
    /// Opens the folder of subscriptions and goes on with each. Needs a tokio runtime.
    ///
    /// # Errors
    /// A file or the TLS roots cannot be read.
    pub fn start(
        source: Arc<dyn EventSource>,
        dir: &Path,
        settings: CallbackSettings,
    ) -> Result<Arc<Self>, CallbackError> {
        let (store, all) = Store::open(dir)?;
        let hub = Arc::new(Self {
            sender: Sender::new(&settings)?,
            streams: Arc::new(Semaphore::new(settings.max_streams)),
            source,
            settings,
            store,
            running: Mutex::new(BTreeMap::new()),
            changing: tokio::sync::Mutex::new(()),
            stop: CancellationToken::new(),
        });
        for stored in all {
            hub.serve(stored)?;
        }
        Ok(hub)
    }

    /// Ends all tasks and streams. Places are written first; nothing is lost that is not delivered again at the next
    /// start.
    pub async fn stop(&self) {
        self.stop.cancel();
        let all = std::mem::take(&mut *self.running.lock());
        for running in all.into_values() {
            // A task that has panicked has nothing left to write.
            drop(running.task.await);
        }
    }

    fn serve(self: &Arc<Self>, stored: Stored) -> Result<(), CallbackError> {
        let place = self.store.place(&stored.id)?;
        let start = match place.checkpoint() {
            Some(checkpoint) => StartAt::Place(checkpoint.clone().into()),
            None => StartAt::Now,
        };
        let follower = Follower::new(
            Arc::clone(&self.source),
            &self.settings,
            &stored.owner,
            stored.filter.clone(),
            &start,
        );
        let progress = Arc::new(Mutex::new(Progress {
            halt: stored.halt.clone(),
            place: place.checkpoint().cloned(),
            ..Progress::default()
        }));
        let stop = self.stop.child_token();
        let view = follower.view();
        let task = Delivering {
            stored: stored.clone(),
            secret: Secret::parse(&stored.secret)?,
            settings: self.settings.clone(),
            sender: self.sender.clone(),
            store: self.store.clone(),
            progress: Arc::clone(&progress),
            place: Arc::new(Mutex::new(place)),
            unwritten: None,
        };
        let task = tokio::spawn(task.run(follower, stop.clone()));
        let running = Running {
            progress,
            view,
            stop,
            task,
            stored,
        };
        self.running.lock().insert(running.stored.id.clone(), running);
        Ok(())
    }

    /// Makes a subscription: durable when this returns.
    ///
    /// # Errors
    /// A part is wrong, the name is taken by another one, a limit is reached, or the disk fails.
    pub async fn create(
        self: &Arc<Self>,
        owner: &str,
        new: NewSubscription,
    ) -> Result<Created, CallbackError> {
        self.make(owner, new, false).await
    }

    /// Makes the subscriptions of a configuration file what the file says: new ones begin, changed ones keep their place,
    /// those that are gone from it end.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn set_fixed(
        self: &Arc<Self>,
        owner: &str,
        subscriptions: Vec<NewSubscription>,
    ) -> Result<(), CallbackError> {
        let mut wanted = Vec::new();
        for new in subscriptions {
            let id = new.id.clone().ok_or_else(|| {
                CallbackError::Invalid("a subscription in a configuration file needs an id".to_owned())
            })?;
            wanted.push(id);
            self.make(owner, new, true).await?;
        }
        let gone: Vec<String> = {
            let running = self.running.lock();
            let fixed = running.values().filter(|r| r.stored.fixed);
            fixed
                .map(|r| r.stored.id.clone())
                .filter(|id| !wanted.contains(id))
                .collect()
        };
        for id in gone {
            let _one_at_a_time = self.changing.lock().await;
            self.end(&id).await;
            self.store.remove(&id)?;
        }
        Ok(())
    }

    async fn make(
        self: &Arc<Self>,
        owner: &str,
        new: NewSubscription,
        fixed: bool,
    ) -> Result<Created, CallbackError> {
        new.filter().check()?;
        webhook::check(&new.webhook, &self.settings)?;
        let id = match &new.id {
            Some(id) if is_id(id) => id.clone(),
            Some(_) => {
                return Err(CallbackError::Invalid(
                    "'id' must have 1 to 64 letters, digits, - and _".to_owned(),
                ));
            }
            None => format!("s{:016x}", rand::random::<u64>()),
        };
        let _one_at_a_time = self.changing.lock().await;
        let known = self.running.lock().get(&id).map(|r| r.stored.clone());
        if let Some(known) = &known {
            let same = known.owner == owner
                && known.filter == new.filter()
                && known.url == new.webhook.url
                && new.webhook.secret.as_ref().is_none_or(|s| *s == known.secret);
            if same {
                let subscription = self.get(owner, &id)?;
                return Ok(Created {
                    subscription,
                    secret: known.secret.clone(),
                });
            }
            if !(fixed && known.fixed) {
                return Err(CallbackError::Exists(id));
            }
            self.end(&id).await;
        } else if self.running.lock().len() >= self.settings.max_subscriptions {
            return Err(CallbackError::Busy(format!(
                "there are already {} subscriptions, as many as are allowed",
                self.settings.max_subscriptions
            )));
        }
        let secret = match (&new.webhook.secret, &known) {
            (Some(text), _) => Secret::parse(text)?,
            (None, Some(known)) => Secret::parse(&known.secret)?,
            (None, None) => Secret::random()?,
        };
        let stored = Stored {
            id: id.clone(),
            owner: owner.to_owned(),
            filter: new.filter(),
            url: new.webhook.url.clone(),
            secret: secret.reveal().to_owned(),
            created_at: known.as_ref().map_or_else(unix_seconds, |k| k.created_at),
            fixed,
            halt: None,
        };
        if known.is_none() {
            // The place first: a subscription without one begins now, and not where an earlier one of its name was.
            self.store.forget_place(&id)?;
            let mut place = self.store.place(&id)?;
            match &new.from {
                StartAt::Now => {}
                StartAt::Oldest => self.write_place(&id, &mut place, Checkpoint::default())?,
                StartAt::Place(start) => self.write_place(&id, &mut place, start.checkpoint().clone())?,
            }
        }
        self.store.save(&stored)?;
        self.serve(stored)?;
        Ok(Created {
            subscription: self.get(owner, &id)?,
            secret: secret.reveal().to_owned(),
        })
    }

    /// The owner's subscriptions, by their names.
    pub fn list(&self, owner: &str) -> Vec<SubscriptionView> {
        let running = self.running.lock();
        running
            .values()
            .filter(|r| r.stored.owner == owner)
            .map(Running::view)
            .collect()
    }

    /// One of the owner's subscriptions.
    ///
    /// # Errors
    /// It has none of this name.
    pub fn get(&self, owner: &str, id: &str) -> Result<SubscriptionView, CallbackError> {
        let running = self.running.lock();
        running
            .get(id)
            .filter(|r| r.stored.owner == owner)
            .map(Running::view)
            .ok_or_else(|| CallbackError::Unknown(id.to_owned()))
    }

    /// Ends a subscription for good.
    ///
    /// # Errors
    /// It is not the owner's, stands in the configuration, or its files cannot be removed.
    pub async fn remove(&self, owner: &str, id: &str) -> Result<(), CallbackError> {
        let _one_at_a_time = self.changing.lock().await;
        if self.get(owner, id)?.fixed {
            return Err(CallbackError::Invalid(format!(
                "subscription {id} stands in the configuration file; take it out there"
            )));
        }
        self.end(id).await;
        self.store.remove(id)
    }

    /// Lets a subscription go on: at once instead of after its pause, and also when it was suspended or has ended. With
    /// `after`, from that place instead of its own: back, to have events again, or forward, past one that the receiver
    /// chokes on.
    ///
    /// # Errors
    /// It is not the owner's, or the disk fails.
    pub async fn resume(
        self: &Arc<Self>,
        owner: &str,
        id: &str,
        after: Option<EventId>,
    ) -> Result<SubscriptionView, CallbackError> {
        let _one_at_a_time = self.changing.lock().await;
        self.get(owner, id)?;
        let Some(mut stored) = self.end(id).await else {
            return Err(CallbackError::Unknown(id.to_owned()));
        };
        stored.halt = None;
        let written = match after {
            Some(place) => self
                .store
                .place(id)
                .and_then(|mut file| self.write_place(id, &mut file, place.checkpoint().clone())),
            None => Ok(()),
        };
        let saved = written.and_then(|()| self.store.save(&stored));
        // It is served again whether or not the disk took the change.
        self.serve(stored)?;
        saved?;
        self.get(owner, id)
    }

    fn write_place(
        &self,
        id: &str,
        file: &mut FileCheckpointer,
        place: Checkpoint,
    ) -> Result<(), CallbackError> {
        file.store(place).map_err(|e| CallbackError::File {
            path: self.store.place_file(id),
            why: e.to_string(),
        })
    }

    /// Ends the task of a subscription, after it has written its place.
    async fn end(&self, id: &str) -> Option<Stored> {
        let running = self.running.lock().remove(id)?;
        running.stop.cancel();
        drop(running.task.await);
        Some(running.stored)
    }
}

impl Running {
    fn view(&self) -> SubscriptionView {
        let progress = self.progress.lock();
        let source = self.view.trouble();
        let (state, reason) = match (&progress.halt, &progress.trouble, source) {
            (Some(halt), _, _) if halt.gone => (SubscriptionState::Ended, Some(halt.why.clone())),
            (Some(halt), _, _) => (SubscriptionState::Suspended, Some(halt.why.clone())),
            (None, Some(trouble), _) => (SubscriptionState::Failing, Some(trouble.clone())),
            (None, None, Some(trouble)) => (SubscriptionState::Failing, Some(trouble.why)),
            (None, None, None) => (SubscriptionState::Active, None),
        };
        let place = progress.place.clone().map(EventId::from);
        SubscriptionView {
            id: self.stored.id.clone(),
            filter: self.stored.filter.clone(),
            url: self.stored.url.clone(),
            state,
            reason,
            place: place.map(|p| p.to_string()),
            delivered: progress.delivered,
            failures: progress.failures,
            created_at: self.stored.created_at,
            fixed: self.stored.fixed,
        }
    }
}

/// Serves one subscription.
struct Delivering {
    stored: Stored,
    secret: Secret,
    settings: CallbackSettings,
    sender: Sender,
    store: Store,
    progress: Arc<Mutex<Progress>>,
    place: Arc<Mutex<FileCheckpointer>>,
    /// A place that is not on disk yet, and when it has to be.
    unwritten: Option<(Checkpoint, Instant)>,
}

impl Delivering {
    async fn run(mut self, mut follower: Follower, stop: CancellationToken) {
        if self.stored.halt.is_none()
            && let Some(halt) = self.work(&mut follower, &stop).await
        {
            tracing::warn!(subscription = %self.stored.id, why = %halt.why, "web hook halted");
            self.halt(halt).await;
        }
        self.write_place().await;
        // A halted subscription keeps its task, so that its view stays as it is until it is resumed.
        stop.cancelled().await;
    }

    /// Ends when the subscription has to halt, or with nothing when it is stopped.
    async fn work(&mut self, follower: &mut Follower, stop: &CancellationToken) -> Option<Halt> {
        let start = tokio::select! {
            () = stop.cancelled() => return None,
            start = follower.settle_start() => start,
        };
        // On disk before anybody is told of it: from then on nothing is left out.
        self.unwritten = Some((start.checkpoint().clone(), Instant::now()));
        self.write_place().await;
        self.progress.lock().place = Some(start.checkpoint().clone());
        loop {
            let event = {
                let next = follower.next();
                tokio::pin!(next);
                loop {
                    let due = self.unwritten.as_ref().map(|(_, due)| *due);
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return None,
                        event = &mut next => break event,
                        () = until(due) => self.write_place().await,
                    }
                }
            };
            match self.deliver(&event, stop).await {
                Ok(true) => self.note(event.id().checkpoint().clone()),
                Ok(false) => return None,
                Err(halt) => return Some(halt),
            }
        }
    }

    /// One attempt. None when it was stopped and its outcome is not known; then the event comes again later.
    async fn attempt(&self, event: &Event, stop: &CancellationToken) -> Option<Result<(), NotDelivered>> {
        let sending = self.sender.deliver(&self.stored.url, &self.secret, event);
        tokio::pin!(sending);
        tokio::select! {
            answer = &mut sending => Some(answer),
            () = stop.cancelled() => tokio::time::timeout(FINISH_WITHIN, sending).await.ok(),
        }
    }

    /// Tries until the event is delivered; false when it is stopped before.
    async fn deliver(&mut self, event: &Event, stop: &CancellationToken) -> Result<bool, Halt> {
        let mut failures = 0_u32;
        let mut failing_since: Option<Instant> = None;
        loop {
            // While a receiver fails, what was delivered before is written.
            if failures > 0 {
                self.write_place().await;
            }
            let NotDelivered {
                why,
                retry_after,
                gone,
            } = match self.attempt(event, stop).await {
                None => return Ok(false),
                Some(Ok(())) => {
                    let mut progress = self.progress.lock();
                    progress.delivered += 1;
                    progress.failures = 0;
                    progress.trouble = None;
                    return Ok(true);
                }
                Some(Err(failed)) => failed,
            };
            failures = failures.saturating_add(1);
            {
                let mut progress = self.progress.lock();
                progress.failures = failures;
                progress.trouble = Some(why.clone());
            }
            if gone {
                return Err(Halt { why, gone: true });
            }
            let since = *failing_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= self.settings.give_up_after {
                let tried = humantime::format_duration(Duration::from_secs(since.elapsed().as_secs()));
                let why = format!("event {} could not be delivered for {tried}: {why}", event.id());
                return Err(Halt { why, gone: false });
            }
            tracing::debug!(subscription = %self.stored.id, event = %event.id(), failures, %why, "web hook failed");
            let pause = self.settings.pause(failures).max(retry_after.unwrap_or_default());
            tokio::select! {
                () = stop.cancelled() => return Ok(false),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn note(&mut self, place: Checkpoint) {
        self.progress.lock().place = Some(place.clone());
        let due = match &self.unwritten {
            Some((_, due)) => *due,
            None => Instant::now() + PLACE_WITHIN,
        };
        self.unwritten = Some((place, due));
    }

    /// Writes the place where it is not on disk yet. A failing disk costs repeats after a crash, not events.
    async fn write_place(&mut self) {
        let Some((place, _)) = self.unwritten.take() else {
            return;
        };
        let file = Arc::clone(&self.place);
        let written = tokio::task::spawn_blocking({
            let place = place.clone();
            move || file.lock().store(place)
        })
        .await;
        if let Ok(Err(error)) = written {
            tracing::error!(subscription = %self.stored.id, %error, "the place of a subscription cannot be written");
            self.unwritten = Some((place, Instant::now() + PLACE_WITHIN));
        }
    }

    async fn halt(&mut self, halt: Halt) {
        self.stored.halt = Some(halt.clone());
        let (store, stored) = (self.store.clone(), self.stored.clone());
        let saved = tokio::task::spawn_blocking(move || store.save(&stored)).await;
        if let Ok(Err(error)) = saved {
            // After a restart it is tried again, and halts again.
            tracing::error!(subscription = %self.stored.id, %error, "the halt of a subscription cannot be written");
        }
        self.progress.lock().halt = Some(halt);
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
