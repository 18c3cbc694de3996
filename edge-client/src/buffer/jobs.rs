//! What is sent, and what became of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::core::Pending;
use super::engine::{Outcome, Pick, Position, State};
use super::gaps::DropReason;
use super::log::{ReadFailed, What, read_back};
use super::record::{Accepted, Apart, Batch, BatchCommitted, Event, Rebound, Sending, Settled, runs_of};
use super::request::Template;
use super::slots::{self, ALONE, GROUP};
use super::{Buffer, BufferError, NONCE_BYTES, RECORD_OVERHEAD};
use crate::identities::IdentityId;

/// Pause after the disk would not give a record back.
const READ_PAUSE: u64 = 5_000;

/// One transaction to be sent: one request, or a batch of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// Number of the request or batch.
    pub(crate) id: u64,
    /// The requests in it.
    pub(crate) members: Vec<u64>,
    /// Channel and chaincode, as [`Buffer::pause_target`] takes it.
    pub(crate) target: u32,
    pub(crate) channel: String,
    pub(crate) chaincode: String,
    pub(crate) function: String,
    pub(crate) args: Vec<Bytes>,
    /// Fixes, with the identity, the transaction id of every attempt.
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) identity: IdentityId,
    /// This one included, up to 255 for single requests.
    pub(crate) attempts: u32,
    pub(crate) retry_conflicts: bool,
    /// It has a follower already: a crash came before its own end was noted.
    pub(crate) followed: bool,
    /// An orderer may have seen it, or one of the same group of numbers, before this attempt.
    pub(crate) maybe_sent: bool,
    /// It was open when this process started.
    pub(crate) recovered: bool,
}

impl Job {
    pub(crate) fn is_batch(&self) -> bool {
        self.members.len() > 1 || self.members.first() != Some(&self.id)
    }
}

struct Prepared {
    job: Job,
    /// To be waited for before it is sent.
    pending: Option<Pending>,
}

/// Whether one argument can stand in a JSON list.
fn listable(accepted: &Accepted) -> bool {
    matches!(&accepted.args[..], [only] if serde_json::from_slice::<serde::de::IgnoredAny>(only).is_ok())
}

fn list_of<'a>(members: impl Iterator<Item = &'a Accepted>) -> Bytes {
    let mut list = vec![b'['];
    for accepted in members {
        for arg in &accepted.args {
            if list.len() > 1 {
                list.push(b',');
            }
            list.extend_from_slice(arg);
        }
    }
    list.push(b']');
    list.into()
}

impl Buffer {
    /// Up to `most` transactions to send now. Batches are durable when they are given out.
    pub(crate) async fn take_due(&self, most: usize) -> Vec<Job> {
        let now = self.core.clock.millis();
        let picks = self
            .core
            .inner
            .lock()
            .engine
            .take_due(now, most, &self.options.merge);
        let prepared: Vec<Prepared> = picks.into_iter().filter_map(|pick| self.prepare(pick)).collect();
        if prepared.iter().any(|p| p.pending.is_some()) {
            self.core.kick();
        }
        let mut jobs = Vec::with_capacity(prepared.len());
        for Prepared { job, pending } in prepared {
            if let Some(pending) = pending
                && let Err(error) = pending.durable().await
            {
                // Without its record a batch must not go; its members can.
                tracing::warn!(%error, "a batch cannot be stored; its requests go singly");
                self.core.inner.lock().engine.dissolve(job.id, ALONE);
                self.core.work.notify_one();
                continue;
            }
            jobs.push(job);
        }
        jobs
    }

    fn prepare(&self, pick: Pick) -> Option<Prepared> {
        match pick {
            Pick::One(number) => {
                let accepted = self.read(number)?;
                self.single(number, accepted)
                    .map(|job| Prepared { job, pending: None })
            }
            Pick::Batch(number) => self.again(number).map(|job| Prepared { job, pending: None }),
            Pick::Form { members, rule } => self.form(members, rule),
        }
    }

    /// The source whose order the request keeps, if it does.
    fn ordered_source(&self, number: u64) -> Option<String> {
        let inner = self.core.inner.lock();
        let template = inner.engine.template(inner.engine.slot(number)?.template)?;
        template.ordered.then(|| template.source.clone())
    }

    fn position(&self, number: u64) -> Option<Position> {
        self.core.inner.lock().engine.slot(number).map(|slot| Position {
            segment: slot.segment,
            offset: slot.offset,
            bytes: slot.bytes,
        })
    }

    /// What a request in hand says. None if it cannot be read: then it was dealt with.
    fn read(&self, number: u64) -> Option<Accepted> {
        let mut at = self.position(number)?;
        loop {
            let failed = match read_back(&*self.core.disk, number, at) {
                Ok(accepted) => return Some(accepted),
                Err(failed) => failed,
            };
            let now = self.position(number)?;
            if now != at {
                // It was copied forward meanwhile.
                at = now;
                continue;
            }
            match failed {
                ReadFailed::Damaged => {
                    self.report_damage(format!(
                        "{}/{:012}.seg: the record of request {number} at {} is damaged; the request is lost",
                        self.dir, at.segment, at.offset
                    ));
                    let mut inner = self.core.inner.lock();
                    self.give_up(&mut inner, number, DropReason::Damaged);
                    drop(inner);
                    self.core.kick();
                }
                ReadFailed::Io(error) => {
                    let reason = format!("the buffer cannot be read: {error}");
                    tracing::error!(number, %reason);
                    let again_at = self.core.clock.millis() + READ_PAUSE;
                    let mut inner = self.core.inner.lock();
                    // Members of a batch wait with it.
                    if inner.engine.batch_of(number).is_none() {
                        inner
                            .engine
                            .again(number, State::EndorsementError, &reason, again_at);
                    }
                }
            }
            return None;
        }
    }

    fn single(&self, number: u64, accepted: Accepted) -> Option<Job> {
        let inner = self.core.inner.lock();
        let slot = inner.engine.slot(number)?;
        let template = inner.engine.template(slot.template)?;
        Some(Job {
            id: number,
            members: vec![number],
            target: inner.engine.target_of(slot.template),
            channel: template.channel.clone(),
            chaincode: template.chaincode.clone(),
            function: template.function.clone(),
            args: accepted.args,
            // A record that is whole has a whole nonce.
            nonce: accepted.nonce.as_ref().try_into().ok()?,
            identity: template.identity,
            attempts: u32::from(slot.attempts),
            retry_conflicts: template.retry_conflicts,
            followed: slot.has(slots::FOLLOWED),
            maybe_sent: inner.engine.slots().marked(number),
            recovered: number < self.first_number,
        })
    }

    /// Builds the transaction of a batch from those of its members that can be read.
    fn batch_job(&self, number: u64, members: &[(u64, Accepted)]) -> Option<Job> {
        let inner = self.core.inner.lock();
        let batch = inner.engine.batch(number)?;
        let template = inner.engine.template(batch.template)?;
        Some(Job {
            id: number,
            members: batch.members.clone(),
            target: inner.engine.target_of(batch.template),
            channel: template.channel.clone(),
            chaincode: template.chaincode.clone(),
            function: batch.into.to_string(),
            args: vec![list_of(members.iter().map(|(_, accepted)| accepted))],
            nonce: batch.nonce,
            identity: template.identity,
            attempts: batch.attempts,
            retry_conflicts: template.retry_conflicts,
            followed: false,
            maybe_sent: batch.members.iter().any(|n| inner.engine.slots().marked(*n)),
            recovered: number < self.first_batch,
        })
    }

    fn again(&self, number: u64) -> Option<Job> {
        let members = self.core.inner.lock().engine.batch(number)?.members.clone();
        let mut read = Vec::with_capacity(members.len());
        for member in members {
            match self.read(member) {
                Some(accepted) => read.push((member, accepted)),
                // A lost member is no member any more; one that only cannot be read now keeps the batch back, since
                // the batch must say the same every time.
                None if self.core.inner.lock().engine.slot(member).is_none() => {}
                None => {
                    let again_at = self.core.clock.millis() + READ_PAUSE;
                    let reason = "the buffer cannot be read";
                    let mut inner = self.core.inner.lock();
                    inner
                        .engine
                        .again(number, State::EndorsementError, reason, again_at);
                    return None;
                }
            }
        }
        self.batch_job(number, &read)
    }

    /// Makes a batch of requests in hand, or a single one where no two go together.
    fn form(&self, members: Vec<u64>, rule: usize) -> Option<Prepared> {
        let rule = self.options.merge.get(rule)?;
        let mut together = Vec::with_capacity(members.len());
        // What cannot stand in a list, and what must not go before it.
        let (mut alone, mut behind) = (Vec::new(), Vec::new());
        let mut waits_for = HashSet::new();
        for number in members {
            let source = self.ordered_source(number);
            if source.as_ref().is_some_and(|source| waits_for.contains(source)) {
                behind.push(number);
                continue;
            }
            match self.read(number) {
                Some(accepted) if listable(&accepted) => {
                    together.push((number, accepted));
                    continue;
                }
                Some(_) => alone.push(number),
                None if self.position(number).is_none() => continue,
                // It is read again later.
                None => {}
            }
            waits_for.extend(source);
        }
        if !alone.is_empty() || !behind.is_empty() {
            let mut inner = self.core.inner.lock();
            // The last ones first: each goes to the head of its line.
            inner.engine.free(behind, 0);
            inner.engine.free(alone, ALONE);
            drop(inner);
            self.core.work.notify_one();
        }
        if together.len() < 2 {
            let (number, accepted) = together.pop()?;
            return self
                .single(number, accepted)
                .map(|job| Prepared { job, pending: None });
        }
        let mut nonce = [0; NONCE_BYTES];
        let drawn = rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut nonce);
        let numbers: Vec<u64> = together.iter().map(|(number, _)| *number).collect();
        if let Err(error) = drawn {
            tracing::error!(%error, "the system gives no random numbers; requests go singly");
            self.core.inner.lock().engine.free(numbers, ALONE);
            return None;
        }
        let (id, pending) = {
            let mut inner = self.core.inner.lock();
            let id = inner.engine.reserve_batch();
            inner.engine.form(id, numbers.clone(), nonce, &rule.into, 0);
            let batch = Batch {
                number: id,
                nonce: Bytes::copy_from_slice(&nonce),
                members: runs_of(numbers),
                into: rule.into.clone(),
            };
            (id, inner.stage(What::Twice(Event::Batch(batch))))
        };
        self.batch_job(id, &together).map(|job| Prepared {
            job,
            pending: Some(pending),
        })
    }

    /// Waits until a transaction may be due.
    pub(crate) async fn wait_for_work(&self) {
        let next = self.core.inner.lock().engine.next_due();
        let now = self.core.clock.millis();
        match next {
            Some(due) if due <= now => {}
            Some(due) => {
                let pause = Duration::from_millis(due - now);
                // Either way there may be something to do.
                drop(tokio::time::timeout(pause, self.core.work.notified()).await);
            }
            None => self.core.work.notified().await,
        }
    }

    /// Wakes [`Self::wait_for_work`].
    pub(crate) fn wake(&self) {
        self.core.work.notify_one();
    }

    pub(crate) fn progress(&self, job: &Job, state: State) {
        self.core.inner.lock().engine.progress(job.id, state);
    }

    /// Nothing of the job's channel and chaincode is sent for a while.
    pub(crate) fn pause_target(&self, job: &Job, pause: Duration) {
        let until = self.after(pause);
        self.core.inner.lock().engine.pause_target(job.target, until);
    }

    /// A request that waits is not sent for a while.
    pub(crate) fn delay(&self, number: u64, pause: Duration) {
        let due = self.after(pause);
        self.core.inner.lock().engine.delay(number, due);
        // It may be the next one that is due.
        self.core.work.notify_one();
    }

    pub(crate) fn resume_target(&self, job: &Job) {
        self.core.inner.lock().engine.resume_target(job.target);
    }

    fn after(&self, pause: Duration) -> u64 {
        self.core
            .clock
            .millis()
            .saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
    }

    /// An orderer may see the job from now on: noted durably, once for some requests.
    ///
    /// # Errors
    /// The disk does not take the note, and without it the request could travel a second time, in a batch, after a crash: it
    /// must not be sent. Where nothing is merged, and for batches, the note is worth less than the data: they are sent.
    pub(crate) async fn sending(&self, job: &Job) -> Result<(), BufferError> {
        let mergeable = job.is_batch() || self.options.merge.iter().any(|rule| rule.is_for(job));
        if mergeable && self.core.uncertain.load(Ordering::Acquire) {
            // What the files say of batches must be certain first.
            let pending = self.core.inner.lock().stage(What::Barrier);
            self.core.kick();
            pending.durable().await?;
        }
        let pending: Vec<Pending> = {
            let mut inner = self.core.inner.lock();
            let mut groups: Vec<u64> = job
                .members
                .iter()
                .filter(|n| !inner.engine.slots().marked(**n))
                .map(|n| n / GROUP)
                .collect();
            groups.dedup();
            groups
                .into_iter()
                .map(|group| inner.stage(What::Twice(Event::Sending(Sending { group }))))
                .collect()
        };
        if pending.is_empty() {
            return Ok(());
        }
        self.core.kick();
        for pending in pending {
            if let Err(error) = pending.durable().await {
                if !job.is_batch() && mergeable {
                    return Err(error.into());
                }
                tracing::warn!(%error, "cannot note that requests are being sent; they are sent all the same");
                self.core.sent_unnoted(&job.members);
                break;
            }
        }
        Ok(())
    }

    /// Takes the result of an attempt; `pause` is the time until a failed one is repeated.
    pub(crate) async fn settle(&self, job: &Job, outcome: Outcome, pause: Duration) {
        if job.is_batch() {
            self.settle_batch(job, outcome, pause).await;
        } else {
            self.settle_single(job.id, outcome, pause);
        }
        self.core.kick();
        self.core.work.notify_one();
    }

    fn settle_single(&self, number: u64, outcome: Outcome, pause: Duration) {
        let again_at = self.after(pause);
        let mut inner = self.core.inner.lock();
        let (committed, block, reason) = match outcome {
            Outcome::Again { state, reason } => {
                inner.engine.again(number, state, &reason, again_at);
                return;
            }
            Outcome::Committed { block } => (true, block, String::new()),
            Outcome::Refused { reason } | Outcome::Conflict { reason } => (false, 0, reason),
            // Nothing to take apart: it waits again.
            Outcome::Apart { reason } => {
                inner
                    .engine
                    .again(number, State::EndorsementError, &reason, again_at);
                return;
            }
        };
        if inner.engine.slot(number).is_none() {
            return;
        }
        inner.engine.settle(number, committed, block, &reason);
        inner.note(What::Note(Event::Settled(Settled {
            number,
            committed,
            block,
            reason,
        })));
        drop(inner);
        self.core.ended();
    }

    async fn settle_batch(&self, job: &Job, outcome: Outcome, pause: Duration) {
        let again_at = self.after(pause);
        let level = {
            let mut inner = self.core.inner.lock();
            match &outcome {
                Outcome::Again { state, reason } => {
                    inner.engine.again(job.id, *state, reason, again_at);
                    return;
                }
                Outcome::Committed { block } => {
                    let done = BatchCommitted {
                        number: job.id,
                        block: *block,
                        members: runs_of(job.members.iter().copied()),
                    };
                    inner.engine.settle_batch(job.id, *block);
                    inner.note(What::Note(Event::BatchCommitted(done)));
                    drop(inner);
                    self.core.ended();
                    return;
                }
                Outcome::Refused { .. } | Outcome::Conflict { .. } | Outcome::Apart { .. } => {}
            }
            job.members
                .iter()
                .find_map(|n| inner.engine.slot(*n))
                .map_or(0, |slot| slot.level)
        };
        let reason = match outcome {
            Outcome::Conflict { reason } if !job.retry_conflicts => {
                self.refuse_members(job, &reason);
                return;
            }
            Outcome::Conflict { reason } | Outcome::Apart { reason } => (level, reason),
            Outcome::Refused { reason } => (self.halved(job, level), reason),
            // Handled above.
            _ => return,
        };
        let (level, reason) = reason;
        tracing::info!(batch = job.id, requests = job.members.len(), %reason, "a batch is taken apart");
        let apart = Apart {
            number: job.id,
            level: u32::from(level),
        };
        let pending = {
            let mut inner = self.core.inner.lock();
            inner.engine.batch_closing(job.id, true);
            inner.stage(What::Twice(Event::Apart(apart)))
        };
        self.core.kick();
        let mut inner;
        match pending.durable().await {
            Ok(_) => {
                inner = self.core.inner.lock();
                inner.engine.dissolve(job.id, level);
            }
            Err(error) => {
                // Its members must not go without it as long as the files say that they go with it.
                let reason = format!("{reason}; that it is taken apart could not be stored: {error}");
                inner = self.core.inner.lock();
                inner.engine.batch_closing(job.id, false);
                inner.engine.again(job.id, State::CommitError, &reason, again_at);
            }
        }
    }

    /// The level at which the members of a refused batch travel in batches of half its size at most.
    fn halved(&self, job: &Job, level: u8) -> u8 {
        let rule = self.options.merge.iter().find(|rule| rule.into == job.function);
        let most = rule.map_or(2, |rule| rule.most);
        let half = job.members.len().div_ceil(2);
        let mut level = level.saturating_add(1);
        while level < ALONE && most.checked_shr(u32::from(level)).unwrap_or(0) > half {
            level += 1;
        }
        level
    }

    fn refuse_members(&self, job: &Job, reason: &str) {
        let mut inner = self.core.inner.lock();
        inner.engine.dissolve_silently(job.id, 0);
        for number in &job.members {
            inner.engine.settle(*number, false, 0, reason);
            inner.note(What::Note(Event::Settled(Settled {
                number: *number,
                committed: false,
                block: 0,
                reason: reason.to_owned(),
            })));
        }
        drop(inner);
        self.core.ended();
    }

    /// Takes a new request in the place of one that lost a race; durable when this returns.
    pub(crate) async fn follow(&self, lost: &Job, identity: IdentityId) -> Result<u64, BufferError> {
        let nonce = self.next_nonce(&lost.nonce);
        let (number, pending) = {
            let mut inner = self.core.inner.lock();
            let Some((template, accepted_s)) = inner
                .engine
                .slot(lost.id)
                .map(|slot| (slot.template, slot.accepted_s))
            else {
                return Err(BufferError::Write(format!("request {} is not open", lost.id)));
            };
            let Some(template) = inner.engine.template(template) else {
                return Err(BufferError::Write(format!("request {} has no template", lost.id)));
            };
            let template = Template {
                identity,
                ..(*template).clone()
            };
            let bytes = lost.args.iter().map(Bytes::len).sum::<usize>() + RECORD_OVERHEAD;
            let new = Accepted {
                nonce: Bytes::copy_from_slice(&nonce),
                accepted_s,
                // The key stays with the first: its nonce is spent.
                args: lost.args.clone(),
                follows: lost.id,
                place: inner.engine.place_of(lost.id),
                ..Accepted::default()
            };
            self.stage_new(&mut inner, new, &template, bytes as u64, What::Intake)
        };
        self.core.kick();
        pending.durable().await?;
        Ok(number)
    }

    /// Requests of `old` that nobody has seen are sent as `new` from now on. Says how many; durable when this returns.
    pub(crate) async fn rebind_unsent(
        &self,
        old: &IdentityId,
        new: IdentityId,
    ) -> Result<usize, BufferError> {
        let found = self.core.inner.lock().engine.unsent_of(old);
        let mut count = 0;
        for (template, numbers) in found {
            for some in numbers.chunks(10_000) {
                count += some.len();
                self.rebind(template, some.to_vec(), new).await?;
            }
        }
        Ok(count)
    }

    /// A request in hand is sent as `new` from now on: the ledger has not seen it and never will, under its old identity.
    pub(crate) async fn rebind_job(&self, job: &Job, new: IdentityId) -> Result<(), BufferError> {
        let template = {
            let inner = self.core.inner.lock();
            inner.engine.slot(job.id).map(|slot| slot.template)
        };
        match template {
            Some(template) => self.rebind(template, vec![job.id], new).await,
            None => Ok(()),
        }
    }

    async fn rebind(&self, template: u32, numbers: Vec<u64>, new: IdentityId) -> Result<(), BufferError> {
        let pending = {
            let mut inner = self.core.inner.lock();
            let Some(old) = inner.engine.template(template) else {
                return Ok(());
            };
            let changed = Arc::new(Template {
                identity: new,
                ..(*old).clone()
            });
            // Referred to from here on, so that it has a number; taken back when that number is on disk.
            let id = inner.engine.refer(&changed);
            let rebound = Rebound {
                members: runs_of(numbers.iter().copied()),
                template: id,
            };
            (
                id,
                Arc::clone(&changed),
                inner.stage(What::Rebound(rebound, changed)),
            )
        };
        let (id, changed, pending) = pending;
        self.core.kick();
        let written = pending.durable().await;
        let mut inner = self.core.inner.lock();
        if written.is_ok() {
            for number in &numbers {
                let still = inner
                    .engine
                    .slot(*number)
                    .is_some_and(|slot| slot.template == template);
                if still {
                    inner.engine.rebind(*number, &changed);
                }
            }
        }
        inner.engine.release(id);
        written?;
        Ok(())
    }
}
