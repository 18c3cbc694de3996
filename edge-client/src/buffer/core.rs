//! The engine and the log together: what is staged is written in groups, and then takes effect.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot, watch};

use super::clock::Clock;
use super::disk::Disk;
use super::engine::{Engine, Position};
use super::log::{Append, Log, What, WriteFailed};
use super::record::{Dropped, Event};
use super::request::Template;

/// Things written with one fsync at most, so that the first of them does not wait too long.
const GROUP: usize = 512;
/// Pause after a write that failed, before notes are tried again.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// What changes together.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) engine: Engine,
    /// To be written, in this order.
    pub(crate) staged: VecDeque<Append>,
    /// Where the records of requests lie whose drop is not on disk yet, and how many there are.
    dropping: BTreeMap<u32, usize>,
}

/// The parts that the writer shares with everybody else.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) inner: Mutex<Inner>,
    pub(crate) log: Mutex<Log>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The first segment that what is staged now may go to.
    pub(crate) segment: AtomicU32,
    /// When the last request ended, in milliseconds of the clock, plus one; 0 for none.
    pub(crate) last_end: AtomicU64,
    pub(crate) work: Notify,
    pub(crate) settled: watch::Sender<u64>,
    /// See [`Log::is_uncertain`].
    pub(crate) uncertain: AtomicBool,
    /// The last group could not be written.
    failing: AtomicBool,
    staged: Condvar,
    stopped: AtomicBool,
    /// What is staged is written at once, by whoever staged it. For tests.
    inline: bool,
    /// How long the writer waits for more before an fsync.
    group_delay: Duration,
}

/// The answer to something that was staged.
#[derive(Debug)]
pub(crate) struct Pending(oneshot::Receiver<Result<Position, WriteFailed>>);

impl Pending {
    /// Waits until it is durable; says where it is.
    pub(crate) async fn durable(self) -> Result<Position, WriteFailed> {
        self.0.await.unwrap_or_else(|_| {
            Err(WriteFailed {
                why: "the writer has stopped".to_owned(),
                no_space: false,
            })
        })
    }
}

/// What became of a group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    Nothing,
    Group,
    Failed,
}

impl Inner {
    /// Stages something that nobody waits for.
    pub(crate) fn note(&mut self, what: What) {
        self.staged.push_back(Append { what, done: None });
    }

    /// Stages something whose durability somebody waits for. [`Core::kick`] follows.
    pub(crate) fn stage(&mut self, what: What) -> Pending {
        let (done, answer) = oneshot::channel();
        self.staged.push_back(Append {
            what,
            done: Some(done),
        });
        Pending(answer)
    }

    /// Notes that a request is given up whose record lies in `segment`.
    pub(crate) fn note_drop(&mut self, dropped: Dropped, template: Arc<Template>, segment: u32) {
        *self.dropping.entry(segment).or_default() += 1;
        self.note(What::Dropped(dropped, template, segment));
    }

    fn drop_is_durable(&mut self, segment: u32) {
        if let Some(count) = self.dropping.get_mut(&segment) {
            *count -= 1;
            if *count == 0 {
                self.dropping.remove(&segment);
            }
        }
    }

    /// Whether a request of this segment or an earlier one was given up, and that is not on disk yet.
    pub(crate) fn is_dropping(&self, segment: u32) -> bool {
        self.dropping.range(..=segment).next().is_some()
    }
}

impl Core {
    pub(crate) fn new(
        engine: Engine,
        log: Log,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        group_delay: Duration,
        inline: bool,
    ) -> Self {
        Self {
            segment: AtomicU32::new(log.segment()),
            inner: Mutex::new(Inner {
                engine,
                staged: VecDeque::new(),
                dropping: BTreeMap::new(),
            }),
            log: Mutex::new(log),
            disk,
            clock,
            last_end: AtomicU64::new(0),
            work: Notify::new(),
            settled: watch::Sender::new(0),
            uncertain: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            staged: Condvar::new(),
            stopped: AtomicBool::new(false),
            inline,
            group_delay,
        }
    }

    /// Something was staged: the writer goes on.
    pub(crate) fn kick(&self) {
        if self.inline {
            while self.commit(GROUP) == Committed::Group {}
        } else {
            self.staged.notify_one();
        }
    }

    /// A request has ended.
    pub(crate) fn ended(&self) {
        self.last_end.store(self.clock.millis() + 1, Ordering::Relaxed);
        self.settled.send_modify(|count| *count += 1);
    }

    /// Writes one group of what is staged, of at most `most`.
    pub(crate) fn commit(&self, most: usize) -> Committed {
        // While the disk fails, everybody is to hear of it, also who is behind many notes that are kept.
        let most = if self.failing.load(Ordering::Acquire) {
            usize::MAX
        } else {
            most
        };
        let group: Vec<Append> = {
            let mut inner = self.inner.lock();
            let count = inner.staged.len().min(most);
            inner.staged.drain(..count).collect()
        };
        if group.is_empty() {
            return Committed::Nothing;
        }
        let now = self.clock.millis();
        let mut log = self.log.lock();
        let first = log.append(&group, now);
        let result = match first {
            Err(failed) if failed.no_space => {
                // Bookkeeping goes on in the reserve; requests have to wait.
                let (intake, rest): (Vec<_>, Vec<_>) = group
                    .into_iter()
                    .partition(|a| matches!(a.what, What::Intake(..)));
                // Freed in any case, so that the next bookkeeping has it.
                let freed = !rest.is_empty() && log.use_reserve();
                let again = if freed || (!rest.is_empty() && !intake.is_empty()) {
                    log.append(&rest, now)
                } else {
                    Err(failed.clone())
                };
                self.segment.store(log.segment(), Ordering::Release);
                self.uncertain.store(log.is_uncertain(), Ordering::Release);
                drop(log);
                self.failed(intake, &failed);
                self.take_effect(rest, again)
            }
            other => {
                self.segment.store(log.segment(), Ordering::Release);
                self.uncertain.store(log.is_uncertain(), Ordering::Release);
                drop(log);
                self.take_effect(group, other)
            }
        };
        self.failing.store(result.is_err(), Ordering::Release);
        match result {
            Ok(()) => Committed::Group,
            Err(error) => {
                tracing::error!(%error, "the buffer cannot be written");
                Committed::Failed
            }
        }
    }

    fn take_effect(
        &self,
        group: Vec<Append>,
        result: Result<Vec<Position>, WriteFailed>,
    ) -> Result<(), WriteFailed> {
        match result {
            Ok(positions) => {
                let mut inner = self.inner.lock();
                let mut waiting = Vec::new();
                for (append, position) in group.into_iter().zip(positions) {
                    let engine = &mut inner.engine;
                    match &append.what {
                        What::Intake(accepted, _) => engine.durable(accepted.number, position),
                        What::Tell(tell) => engine.durable(tell.accepted.number, position),
                        What::Copy(accepted, _) => engine.moved(accepted.number, position),
                        What::Dropped(_, _, segment) => inner.drop_is_durable(*segment),
                        What::Twice(Event::Sending(sending)) => {
                            engine.mark(sending.group, position.segment);
                        }
                        What::Twice(Event::Batch(batch)) => {
                            engine.batch_moved(batch.number, position.segment);
                        }
                        _ => {}
                    }
                    waiting.extend(append.done.map(|done| (done, position)));
                }
                drop(inner);
                for (done, position) in waiting {
                    // A caller that went away does not wait for its answer.
                    drop(done.send(Ok(position)));
                }
                self.work.notify_one();
                Ok(())
            }
            Err(failed) => {
                self.failed(group, &failed);
                Err(failed)
            }
        }
    }

    /// Nothing of the group is on disk: who waits is told, what nobody waits for comes with the next group.
    fn failed(&self, group: Vec<Append>, failed: &WriteFailed) {
        let mut inner = self.inner.lock();
        let mut kept = VecDeque::new();
        for append in group {
            match &append.what {
                What::Intake(accepted, _) => inner.engine.withdraw(accepted.number),
                What::Tell(tell) => inner.engine.withdraw(tell.accepted.number),
                _ => {}
            }
            if append.is_kept() {
                kept.push_back(append);
            } else if let Some(done) = append.done {
                drop(done.send(Err(failed.clone())));
            }
        }
        kept.append(&mut inner.staged);
        inner.staged = kept;
    }

    /// The writer thread: writes what is staged until it is told to stop and nothing is left that can be written.
    pub(crate) fn write_until_stopped(&self) {
        loop {
            {
                let mut inner = self.inner.lock();
                while inner.staged.is_empty() {
                    if self.stopped.load(Ordering::Acquire) {
                        drop(inner);
                        // What was noted without an fsync is made durable before the end.
                        if let Err(error) = self.log.lock().sync() {
                            tracing::warn!(%error, "the last notes may be lost; they will be found out again");
                        }
                        return;
                    }
                    self.staged.wait(&mut inner);
                }
            }
            if !self.group_delay.is_zero() {
                std::thread::sleep(self.group_delay);
            }
            if self.commit(GROUP) == Committed::Failed {
                if self.stopped.load(Ordering::Acquire) {
                    return;
                }
                let mut inner = self.inner.lock();
                self.staged.wait_for(&mut inner, AFTER_FAILURE);
            }
        }
    }

    /// Lets the writer thread end after what is staged now.
    pub(crate) fn stop(&self) {
        let _inner = self.inner.lock();
        self.stopped.store(true, Ordering::Release);
        self.staged.notify_one();
    }

    /// Notes in memory that an orderer may see these requests: the disk does not take the record.
    pub(crate) fn sent_unnoted(&self, numbers: &[u64]) {
        self.inner.lock().engine.sent(numbers);
    }
}
