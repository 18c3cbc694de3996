//! Intake: what every way in does with what it was given. Who sent it, may it, what becomes of it, do the edge rules want
//! it; then into the buffer.
//!
//! ```text
//! REST, MQTT, folder, sealed TCP, sensors ─► Sender ─► rate ─► complete ─► route ─► rules ─► buffer
//! ```
//!
//! [`Intake::readings`] returns when everything that it says was taken is durable: in the buffer, or in the journal of
//! the edge rules. Its callers acknowledge after that, each in the way of its protocol.

pub(crate) mod arrival;
pub(crate) mod pattern;
pub(crate) mod rate;
pub(crate) mod reading;
pub(crate) mod route;
pub(crate) mod sources;
pub(crate) mod time;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::arrival::{Arrival, Arrivals};
use self::rate::{RateLimit, Rates};
use self::reading::{Reading, SentReading};
use self::route::Route;
use self::sources::{Sender, Sources};
use crate::EdgeError;
use crate::buffer::{Buffer, BufferError, TransactionRequest};
use crate::journal::JournalError;
use crate::rules::{Answered, NotTaken, Noted, Rules};
use crate::uplink::Uplink;

/// What a caller is told to wait when the buffer is full or the disk fails.
const PAUSE: Duration = Duration::from_secs(5);
/// How often windows of quiet streams are looked after.
const TICK: Duration = Duration::from_secs(5);

/// Why something was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is not right, and will not be.
    #[error("{0}")]
    Invalid(String),
    /// Nothing is taken on this topic.
    #[error("{0}")]
    UnknownTopic(String),
    /// The sender may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// It is longer than the buffer takes.
    #[error("{0}")]
    TooLong(String),
    /// The sender is too fast.
    #[error("{source_name} sends more than it may; wait {} ms", wait.as_millis())]
    TooFast {
        /// Who.
        source_name: String,
        /// How long to wait.
        wait: Duration,
    },
    /// The buffer is full.
    #[error("{text}")]
    Full {
        /// What the buffer says.
        text: String,
        /// How long to wait.
        wait: Duration,
    },
    /// The disk fails or is full.
    #[error("{0}")]
    Storage(String),
    /// Something else failed here.
    #[error("{0}")]
    Internal(String),
}

impl Refusal {
    /// How long to wait before trying again; none if that cannot help.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooFast { wait, .. } | Self::Full { wait, .. } => Some(*wait),
            Self::Storage(_) | Self::Internal(_) => Some(PAUSE),
            Self::Invalid(_) | Self::UnknownTopic(_) | Self::Forbidden(_) | Self::TooLong(_) => None,
        }
    }
}

impl From<BufferError> for Refusal {
    fn from(error: BufferError) -> Self {
        let text = error.to_string();
        match error {
            BufferError::Full {
                retry_after: wait, ..
            } => Self::Full { text, wait },
            BufferError::TooLong { .. } => Self::TooLong(text),
            BufferError::Write(_) | BufferError::Io { .. } => Self::Storage(text),
            BufferError::Random(_) | BufferError::Version { .. } => Self::Internal(text),
        }
    }
}

impl From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        Self::Storage(error.to_string())
    }
}

/// A reading that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Taken {
    /// Its number in the buffer; none when the edge rules keep it, or what they made of it is sent on its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
}

/// What has come in since the start, by way in.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) taken: AtomicU64,
    pub(crate) kept: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) too_fast: AtomicU64,
}

impl Counts {
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub(crate) fn all(&self) -> [(&'static str, f64); 4] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        [
            ("taken", of(&self.taken)),
            ("kept", of(&self.kept)),
            ("refused", of(&self.refused)),
            ("too-fast", of(&self.too_fast)),
        ]
    }
}

/// The common part of all ways in.
pub(crate) struct Intake {
    pub(crate) sources: Sources,
    common_rate: Option<RateLimit>,
    routes: Arc<Vec<Route>>,
    rules: Rules,
    buffer: Arc<Buffer>,
    uplink: Arc<Uplink>,
    rates: Mutex<Rates>,
    started: Instant,
    arrivals: Arrivals,
    /// Readings are judged and staged one message at a time, in the order in which these came.
    order: tokio::sync::Mutex<()>,
    flushing: tokio::sync::Mutex<()>,
    /// What the rules let out did not fit into the buffer the last time.
    stuck: AtomicBool,
    pub(crate) counts: Counts,
}

/// What the configuration says of it.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) sources: Sources,
    pub(crate) rate: Option<RateLimit>,
    pub(crate) routes: Vec<Route>,
}

fn route_of<'a>(routes: &'a [Route], source: &str, stream: &str) -> Option<&'a Route> {
    routes.iter().find(|route| route.matches(source, stream))
}

impl Intake {
    /// Its files are in `data_dir`.
    pub(crate) fn open(
        settings: Settings,
        data_dir: &std::path::Path,
        buffer: Arc<Buffer>,
        uplink: Arc<Uplink>,
    ) -> Result<Arc<Self>, EdgeError> {
        let routes = Arc::new(settings.routes);
        let for_rules = Arc::clone(&routes);
        let path = data_dir.join("arrivals");
        let arrivals = Arrivals::open(&path).map_err(|source| EdgeError::ReadFile { path, source })?;
        let rules = Rules::open(&data_dir.join("rules.journal"), move |reading| {
            route_of(&for_rules, &reading.source, &reading.stream).map(|route| route.config.rules.clone())
        })?;
        Ok(Arc::new(Self {
            sources: settings.sources,
            common_rate: settings.rate,
            routes,
            rules,
            buffer,
            uplink,
            rates: Mutex::default(),
            started: Instant::now(),
            arrivals,
            order: tokio::sync::Mutex::new(()),
            flushing: tokio::sync::Mutex::new(()),
            stuck: AtomicBool::new(false),
            counts: Counts::default(),
        }))
    }

    /// Readings that the edge rules have let out and the buffer has not got yet.
    pub(crate) fn owed(&self) -> usize {
        self.rules.owed()
    }

    fn admit(&self, sender: &Sender, count: usize) -> Result<(), Refusal> {
        let Some(limit) = self.sources.rate(sender, self.common_rate) else {
            return Ok(());
        };
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.rates
            .lock()
            .take(sender.name(), limit, count, now)
            .map_err(|wait| {
                self.counts.too_fast.fetch_add(1, Ordering::Relaxed);
                Refusal::TooFast {
                    source_name: sender.name().to_owned(),
                    wait: Duration::from_millis(wait),
                }
            })
    }

    /// For a message that arrives now.
    pub(crate) fn arrival(&self) -> Arrival {
        self.arrivals.next()
    }

    fn complete(
        &self,
        sender: &Sender,
        sent: SentReading,
        arrived: Arrival,
        place: u64,
    ) -> Result<Reading, Refusal> {
        let reading = sent
            .complete(sender.name(), arrived, place)
            .map_err(Refusal::Invalid)?;
        if let Some(name) = reading.values.keys().find(|name| crate::rules::is_reserved(name)) {
            return Err(Refusal::Invalid(format!("a value cannot be called '{name}'")));
        }
        if !self.sources.may_send(sender, &reading.source) {
            return Err(Refusal::Forbidden(format!(
                "{} may not send readings of {}; list it in 'may_send_for' of the source",
                sender.name(),
                reading.source
            )));
        }
        Ok(reading)
    }

    /// Whether a reading would be taken, as far as that depends on the reading.
    pub(crate) fn check(&self, sender: &Sender, sent: &SentReading) -> Result<(), Refusal> {
        let reading = self.complete(sender, sent.clone(), Arrival::numbered(0), 0)?;
        self.route(&reading).map(drop)
    }

    fn route(&self, reading: &Reading) -> Result<&Route, Refusal> {
        route_of(&self.routes, &reading.source, &reading.stream).ok_or_else(|| {
            Refusal::Invalid(format!(
                "no route in 'readings' of the configuration is for source {} and stream {}",
                reading.source, reading.stream
            ))
        })
    }

    /// Takes readings: what is answered with [`Taken`] is durable. `arrived` is from [`Self::arrival`]; the same again gives
    /// readings without a time the same identity again.
    ///
    /// # Errors
    /// The sender is too fast: nothing was taken. Each reading may be refused on its own.
    pub(crate) async fn readings(
        self: &Arc<Self>,
        sender: Sender,
        readings: Vec<SentReading>,
        arrived: Arrival,
    ) -> Result<Vec<Result<Taken, Refusal>>, Refusal> {
        self.admit(&sender, readings.len())?;
        let this = Arc::clone(self);
        let mut taking = Box::pin(async move { this.take_readings(&sender, readings, arrived).await });
        // A first step at once: what one caller hands over in order gets into the buffer in that order.
        if let std::task::Poll::Ready(results) = futures::poll!(&mut taking) {
            return Ok(results);
        }
        // A caller whose connection breaks must not break off what a note has promised.
        tokio::spawn(taking)
            .await
            .map_err(|e| Refusal::Internal(e.to_string()))
    }

    async fn take_readings(
        &self,
        sender: &Sender,
        readings: Vec<SentReading>,
        arrived: Arrival,
    ) -> Vec<Result<Taken, Refusal>> {
        // A task that has used up its turn must queue up here all the same.
        let in_order = tokio::task::unconstrained(self.order.lock()).await;
        let ready = self.make_ready().await;
        let taking = (0..).zip(readings).map(|(place, sent)| {
            let judged = self.judge(sender, sent, (arrived, place), &ready);
            async move {
                let result = match judged {
                    Ok(step) => self.finish(step).await,
                    Err(refusal) => Err(refusal),
                };
                let count = match &result {
                    Ok(Taken { id: Some(_) }) => &self.counts.taken,
                    Ok(Taken { id: None }) => &self.counts.kept,
                    Err(_) => &self.counts.refused,
                };
                count.fetch_add(1, Ordering::Relaxed);
                result
            }
        });
        // All are judged and staged in their order and in one go, however many they are; then they share the disk's syncs.
        let taking: Vec<_> = taking.collect();
        let mut taking = tokio::task::unconstrained(futures::future::join_all(taking));
        let staged = futures::poll!(&mut taking);
        drop(in_order);
        match staged {
            std::task::Poll::Ready(results) => results,
            std::task::Poll::Pending => taking.await,
        }
    }

    /// Comes back to the journal after a failure, and empties the outbox before more goes into it.
    async fn make_ready(&self) -> Result<(), Refusal> {
        self.rules.catch_up().await?;
        if self.stuck.load(Ordering::Acquire) {
            self.flush().await;
        }
        if self.stuck.load(Ordering::Acquire) {
            return Err(Refusal::Full {
                text: "what the edge rules let out before does not fit into the buffer; try again".to_owned(),
                wait: PAUSE,
            });
        }
        Ok(())
    }

    fn judge(
        &self,
        sender: &Sender,
        sent: SentReading,
        (arrived, place): (Arrival, u64),
        ready: &Result<(), Refusal>,
    ) -> Result<Step, Refusal> {
        let reading = self.complete(sender, sent, arrived, place)?;
        let route = self.route(&reading)?;
        if route.config.rules.passes_all() {
            if let Some(answer) = self.queued(route, std::slice::from_ref(&reading)) {
                return Ok(Step::Queued(answer));
            }
            return Ok(Step::Send(vec![route.request(&reading)]));
        }
        ready.clone()?;
        let judged = self
            .rules
            .judge(&route.config.rules, &reading, arrived.at)
            .map_err(|why| match why {
                NotTaken::Behind => {
                    Refusal::Storage("the notes of the edge rules could not be written; try again".to_owned())
                }
                NotTaken::TooManyStreams => Refusal::Full {
                    text: "the edge rules remember as many streams as they can; use fewer names for streams"
                        .to_owned(),
                    wait: PAUSE,
                },
            })?;
        if let Some(noted) = judged.noted {
            return Ok(Step::Noted(noted));
        }
        if let Some(answer) = self.queued(route, &judged.pass) {
            return Ok(Step::Queued(answer));
        }
        Ok(Step::Send(judged.pass.iter().map(|r| route.request(r)).collect()))
    }

    /// Where order matters, a reading goes behind those of its source that the rules have let out before it.
    fn queued(&self, route: &Route, readings: &[Reading]) -> Option<Answered> {
        let ordered = route.config.ordered && !readings.is_empty();
        ordered.then(|| self.rules.queue_behind(readings)).flatten()
    }

    async fn finish(&self, step: Step) -> Result<Taken, Refusal> {
        match step {
            Step::Send(requests) => {
                let mut id = None;
                for request in requests {
                    id = Some(self.store(request).await?);
                }
                Ok(Taken { id })
            }
            Step::Noted(noted) => {
                if let Err(error) = noted.pending.durable().await {
                    self.rules.fell_behind();
                    return Err(error.into());
                }
                self.rules.owe(noted.id);
                self.flush().await;
                Ok(Taken { id: None })
            }
            Step::Queued(answer) => {
                self.flush().await;
                let again =
                    || Refusal::Storage("the notes of the edge rules were read again; try again".to_owned());
                let id = answer.await.map_err(|_| again())??;
                Ok(Taken { id: Some(id) })
            }
        }
    }

    /// Hands over what the edge rules owe, as far as the buffer takes it.
    async fn flush(&self) {
        let _one_at_a_time = self.flushing.lock().await;
        while let Some((entry, reading)) = self.rules.next_owed() {
            // Summaries and extremes have streams of their own, and go the way of the stream that they come from.
            let stream = reading.origin.as_deref().unwrap_or(&reading.stream);
            let stored = match route_of(&self.routes, &reading.source, stream) {
                Some(route) => self.store(route.request(&reading)).await,
                None => Err(Refusal::Invalid("it has no route any more".to_owned())),
            };
            match stored {
                Err(refusal) if refusal.retry_after().is_some() => {
                    tracing::debug!(%refusal, "readings that the edge rules let out wait");
                    self.stuck.store(true, Ordering::Release);
                    self.rules.refuse_queued(&refusal);
                    return;
                }
                stored => {
                    if let (Err(refusal), true) = (&stored, self.rules.is_noted(entry)) {
                        tracing::error!(source = %reading.source, stream = %reading.stream, %refusal, "a reading that the edge rules let out cannot be stored and is dropped");
                    }
                    self.rules.settled(entry, stored);
                }
            }
        }
        self.stuck.store(false, Ordering::Release);
        drop(self.rules.compact().await.inspect_err(
            |error| tracing::error!(%error, "the notes of the edge rules cannot be replaced by their memory"),
        ));
    }

    async fn store(&self, request: TransactionRequest) -> Result<u64, Refusal> {
        let identity = self.uplink.current_identity();
        Ok(self.buffer.accept(request, identity).await?.id)
    }

    /// Takes whole transactions; each is durable when this says so.
    ///
    /// # Errors
    /// The sender may not, or is too fast: nothing was taken. Each may be refused on its own.
    pub(crate) async fn transactions(
        &self,
        sender: &Sender,
        mut requests: Vec<TransactionRequest>,
    ) -> Result<Vec<Result<u64, Refusal>>, Refusal> {
        if !self.sources.may_transact(sender) {
            return Err(Refusal::Forbidden(format!(
                "{} may send readings only; set 'transactions: true' for the source to allow more",
                sender.name()
            )));
        }
        self.admit(sender, requests.len())?;
        for request in &mut requests {
            match sender {
                Sender::Source(name) if request.source.is_empty() => request.source.clone_from(name),
                Sender::Source(name) if !self.sources.may_send(sender, &request.source) => {
                    return Err(Refusal::Forbidden(format!(
                        "{name} may not send for {}; list it in 'may_send_for' of the source",
                        request.source
                    )));
                }
                _ => {}
            }
        }
        // All at once, so that they share the disk's syncs.
        let storing = requests.into_iter().map(|request| self.store(request));
        let results = futures::future::join_all(storing).await;
        let refused = results.iter().filter(|r| r.is_err()).count() as u64;
        self.counts.refused.fetch_add(refused, Ordering::Relaxed);
        self.counts
            .taken
            .fetch_add(results.len() as u64 - refused, Ordering::Relaxed);
        Ok(results)
    }

    /// Looks after quiet windows and what is owed, until `stop` is cancelled.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let looked = match self.rules.catch_up().await {
                Ok(()) => self.rules.tick(time::now()).await,
                Err(error) => Err(error),
            };
            if let Err(error) = looked {
                tracing::error!(%error, "the edge rules cannot note anything");
            }
            self.flush().await;
        }
    }
}

/// What is left to do for a reading.
enum Step {
    Send(Vec<TransactionRequest>),
    Noted(Noted),
    Queued(Answered),
}
