//! The leader's side of ordering: from checked envelopes to batches that Raft agrees on.
//!
//! ```text
//! queue ─► (check again if the configuration moved) ─► cutter ─► proposals in flight ─► Raft ─► replies
//! ```
//! A batch is cut at once while nothing is in flight, unless company is to be expected ([`Pace`]); while something is, it
//! grows inside the channel's limits (group commit). A config update waits until everything before it is applied, so each batch reaches the state machine under the
//! configuration it was checked under; a new leader waits for its predecessors' entries for the same reason.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use openraft::ServerState;
use prost::Message;
use selvedge_proto::{common, open_envelope};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chain::Chain;
use crate::cutter::{Cutter, Limits};
use crate::filter::{self, Kind, Refusal};
use crate::metrics::OrdererMetrics;
use crate::pace::Pace;
use crate::raft::{Applied, Batch, Raft};

/// Batches proposed and not yet applied. With more the queue waits, and with it the submitters.
const MAX_IN_FLIGHT: usize = 4;
/// After losing the leadership, proposals are given this long to turn out one way or the other.
const SETTLE: Duration = Duration::from_secs(2);
/// Longest time that one config update holds up the channel.
const RECONFIGURE: Duration = Duration::from_secs(8);

/// What became of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A majority has it durably.
    Ordered,
    /// Not here, or not now: there is another leader, or the configuration moved. To be submitted again.
    Retry,
    /// It is not acceptable.
    Refused(Refusal),
}

/// An envelope that passed the filters.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) envelope: common::Envelope,
    pub(crate) kind: Kind,
    /// Configuration sequence that it was checked under.
    pub(crate) sequence: u64,
}

/// A checked envelope on its way to a batch.
pub(crate) struct Submission {
    pub(crate) checked: Checked,
    pub(crate) reply: oneshot::Sender<Verdict>,
    /// Its share of the memory that waiting envelopes may take.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

struct Pending {
    encoded: Bytes,
    reply: oneshot::Sender<Verdict>,
    _permit: Option<OwnedSemaphorePermit>,
}

struct Outcome {
    verdict: Verdict,
    batch: Vec<Pending>,
}

/// Runs on every consenter; answers [`Verdict::Retry`] while the node does not lead.
pub(crate) struct Sequencer {
    chain: Arc<Chain>,
    raft: Raft,
    queue: mpsc::Receiver<Submission>,
    stop: CancellationToken,
    cutter: Cutter<Pending>,
    cutter_sequence: u64,
    in_flight: FuturesUnordered<BoxFuture<'static, Outcome>>,
    deadline: Option<Instant>,
    pace: Pace,
    /// Until when the pending batch waits for company although nothing is in flight.
    linger: Option<Instant>,
    /// The term in which everything of earlier terms is known to be applied.
    ready_term: Option<u64>,
    /// Since when the batch that is pending is filled.
    filling: Option<Instant>,
    metrics: Arc<OrdererMetrics>,
}

fn limits(chain: &Chain) -> (Limits, Duration) {
    let bundle = chain.bundle();
    let to_usize = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    bundle.orderer().map_or(
        (
            Limits {
                max_message_count: 1,
                preferred_max_bytes: 1,
            },
            Duration::from_secs(1),
        ),
        |o| {
            (
                Limits {
                    max_message_count: to_usize(o.batch_size.max_message_count),
                    preferred_max_bytes: to_usize(o.batch_size.preferred_max_bytes),
                },
                o.batch_timeout,
            )
        },
    )
}

impl Sequencer {
    pub(crate) fn new(
        chain: Arc<Chain>,
        raft: Raft,
        queue: mpsc::Receiver<Submission>,
        stop: CancellationToken,
        metrics: Arc<OrdererMetrics>,
    ) -> Self {
        let cutter = Cutter::new(limits(&chain).0);
        let cutter_sequence = chain.bundle().sequence();
        Self {
            chain,
            raft,
            queue,
            stop,
            cutter,
            cutter_sequence,
            in_flight: FuturesUnordered::new(),
            deadline: None,
            pace: Pace::default(),
            linger: None,
            ready_term: None,
            filling: None,
            metrics,
        }
    }

    fn led_term(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        (metrics.state == ServerState::Leader).then_some(metrics.current_term)
    }

    /// Runs until the node stops or Raft does.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        let mut metrics = self.raft.metrics();
        let mut settle: Option<Instant> = None;
        loop {
            let leads = self.led_term();
            if leads.is_none() {
                self.ready_term = None;
                self.give_back();
            } else if self.ready_term != leads && self.in_flight.is_empty() {
                self.become_ready(leads).await;
            }
            // Proposals of an earlier term turn out one way or the other soon, or never.
            settle = (self.ready_term.is_none() && !self.in_flight.is_empty())
                .then(|| settle.unwrap_or_else(|| Instant::now() + SETTLE));
            let ready = leads.is_some() && self.ready_term == leads;
            let room = self.in_flight.len() < MAX_IN_FLIGHT;
            let wake = [self.deadline, settle, self.linger].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(outcome) = self.in_flight.next() => outcome.tell(),
                changed = metrics.changed() => if changed.is_err() { break },
                next = self.queue.recv(), if room && (ready || leads.is_none()) => match next {
                    Some(submission) => self.take(submission).await,
                    None => break,
                },
                () = sleep_until(wake), if wake.is_some() => {
                    if settle.is_some_and(|s| s <= Instant::now()) {
                        // Nobody knows what became of them; whoever submitted asks the new leader.
                        self.in_flight = FuturesUnordered::new();
                        settle = None;
                    }
                    if room && self.deadline.is_some_and(|d| d <= Instant::now()) {
                        self.cut().await;
                    }
                }
            }
            while self.in_flight.len() < MAX_IN_FLIGHT && (ready || leads.is_none()) {
                match self.queue.try_recv() {
                    Ok(submission) => self.take(submission).await,
                    Err(_) => break,
                }
            }
            if self.in_flight.is_empty() {
                self.pace.landed(Instant::now());
                if self.has_waited() {
                    self.cut().await;
                }
            }
        }
    }

    /// Whether what is pending need not wait for company any longer; nothing is in flight.
    fn has_waited(&mut self) -> bool {
        if !self.cutter.has_pending() {
            return false;
        }
        let wait = self.pace.wait();
        if wait.is_zero() {
            return true;
        }
        let now = Instant::now();
        *self.linger.get_or_insert(now + wait) <= now
    }

    /// Everything that earlier leaders got committed is applied when this returns with `ready_term` set.
    async fn become_ready(&mut self, term: Option<u64>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            // Without a majority there is no answer; whether the node still leads is looked at again.
            () = tokio::time::sleep(SETTLE) => {}
            confirmed = self.raft.ensure_linearizable() => match confirmed {
                Ok(_) => self.ready_term = term,
                Err(why) => {
                    tracing::debug!(channel = self.chain.channel(), %why, "leadership is not confirmed yet");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Not leading any more: what was not proposed goes back to its submitters.
    fn give_back(&mut self) {
        self.deadline = None;
        self.linger = None;
        for pending in self.cutter.cut().into_iter().flatten() {
            let _ = pending.reply.send(Verdict::Retry);
        }
    }

    async fn take(&mut self, submission: Submission) {
        let Submission {
            mut checked,
            reply,
            permit,
        } = submission;
        if reply.is_closed() {
            // Whoever submitted it was told that it took too long.
            return;
        }
        if self.ready_term.is_none() || self.led_term() != self.ready_term {
            let _ = reply.send(Verdict::Retry);
            return;
        }
        if checked.kind == Kind::ConfigUpdate {
            let verdict = self.reconfigure(&checked.envelope).await;
            let _ = reply.send(verdict);
            return;
        }
        if let Err(refusal) = self.recheck(&mut checked) {
            let _ = reply.send(Verdict::Refused(refusal));
            return;
        }
        let pending = Pending {
            encoded: checked.envelope.encode_to_vec().into(),
            reply,
            _permit: permit,
        };
        self.pace.arrived();
        let was_empty = !self.cutter.has_pending();
        if was_empty {
            self.filling = Some(Instant::now());
        }
        let batches = self.cutter.push(pending, filter::size(&checked.envelope));
        let cut_some = !batches.is_empty();
        for batch in batches {
            self.propose(batch).await;
        }
        if cut_some {
            self.linger = None;
        }
        if !self.cutter.has_pending() {
            self.deadline = None;
        } else if was_empty || cut_some {
            self.deadline = Some(Instant::now() + limits(&self.chain).1);
        }
    }

    /// Filters again what was checked under another configuration (spec 05 §1.1).
    fn recheck(&mut self, checked: &mut Checked) -> Result<(), Refusal> {
        let bundle = self.chain.bundle();
        if self.cutter_sequence != bundle.sequence() {
            self.cutter.set_limits(limits(&self.chain).0);
            self.cutter_sequence = bundle.sequence();
        }
        if checked.sequence != bundle.sequence() {
            let open = open_envelope(&checked.envelope).map_err(|e| Refusal::bad(e.to_string()))?;
            filter::check(&bundle, &checked.envelope, &open, checked.kind, filter::now())?;
            checked.sequence = bundle.sequence();
        }
        Ok(())
    }

    async fn cut(&mut self) {
        self.deadline = None;
        self.linger = None;
        if let Some(batch) = self.cutter.cut() {
            self.propose(batch).await;
        }
    }

    async fn propose(&mut self, batch: Vec<Pending>) {
        // What is left begins the next batch.
        if let Some(since) = self.filling.replace(Instant::now()) {
            self.metrics
                .block_fill
                .observe(&[self.chain.channel()], since.elapsed());
        }
        let proposal = Batch {
            config_sequence: self.cutter_sequence,
            config: false,
            envelopes: batch.iter().map(|p| p.encoded.clone()).collect(),
        };
        match self.raft.client_write_ff(proposal).await {
            Ok(written) => {
                self.pace.proposed(Instant::now());
                self.in_flight.push(Box::pin(async move {
                    let verdict = match written.await {
                        Ok(Ok(response)) if matches!(response.data, Applied::Block(_)) => Verdict::Ordered,
                        _ => Verdict::Retry,
                    };
                    Outcome { verdict, batch }
                }));
            }
            Err(why) => {
                tracing::error!(channel = self.chain.channel(), %why, "Raft has stopped");
                Outcome {
                    verdict: Verdict::Retry,
                    batch,
                }
                .tell();
            }
        }
    }

    /// Turns a config update into a CONFIG transaction in a block of its own (spec 05 §1.2).
    async fn reconfigure(&mut self, envelope: &common::Envelope) -> Verdict {
        self.cut().await;
        let patience = Instant::now() + RECONFIGURE;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Verdict::Retry,
                () = tokio::time::sleep_until(patience) => return Verdict::Retry,
                outcome = self.in_flight.next() => match outcome {
                    Some(outcome) => outcome.tell(),
                    None => break,
                },
            }
        }
        let chain = Arc::clone(&self.chain);
        let update = envelope.clone();
        let made = tokio::task::spawn_blocking(move || config_transaction(&chain, &update)).await;
        let (sequence, transaction) = match made {
            Ok(Ok(made)) => made,
            Ok(Err(refusal)) => return Verdict::Refused(refusal),
            Err(_) => return Verdict::Retry,
        };
        let proposal = Batch {
            config_sequence: sequence,
            config: true,
            envelopes: vec![transaction.encode_to_vec().into()],
        };
        let written = self.raft.client_write(proposal);
        let verdict = tokio::select! {
            () = self.stop.cancelled() => Verdict::Retry,
            () = tokio::time::sleep_until(patience) => Verdict::Retry,
            written = written => match written {
                Ok(response) if matches!(response.data, Applied::Block(_)) => Verdict::Ordered,
                _ => Verdict::Retry,
            }
        };
        self.cutter.set_limits(limits(&self.chain).0);
        self.cutter_sequence = self.chain.bundle().sequence();
        verdict
    }
}

/// Judges a config update under the configuration in force and makes the CONFIG transaction.
fn config_transaction(chain: &Chain, update: &common::Envelope) -> Result<(u64, common::Envelope), Refusal> {
    let bundle = chain.bundle();
    let open = open_envelope(update).map_err(|e| Refusal::bad(e.to_string()))?;
    filter::check(&bundle, update, &open, Kind::ConfigUpdate, filter::now())?;
    let config = bundle.propose_update(update).map_err(|e| {
        Refusal::bad(format!(
            "error applying config update to existing channel '{}': {e}",
            chain.channel()
        ))
    })?;
    // What follows must be accepted by every node, so it is judged here as they will judge it.
    let next = bundle
        .validate_config_tx(&config)
        .map_err(|e| Refusal::bad(e.to_string()))?;
    if let (Some(before), Some(after)) = (bundle.orderer(), next.orderer()) {
        selvedge_channel::consensus::check(after, &next).map_err(|e| Refusal::bad(e.to_string()))?;
        selvedge_channel::consensus::check_change(before, after).map_err(|e| Refusal::bad(e.to_string()))?;
    }
    let transaction = selvedge_channel::update::config_transaction(chain.channel(), &config, &chain.signer())
        .map_err(|e| Refusal::new(common::Status::InternalServerError, e.to_string()))?;
    filter::check_size(&bundle, &transaction)?;
    Ok((bundle.sequence(), transaction))
}

impl Outcome {
    fn tell(self) {
        for pending in self.batch {
            let _ = pending.reply.send(self.verdict.clone());
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
