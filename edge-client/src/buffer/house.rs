//! Housekeeping: what is too old goes, what was dropped is told, files in which nothing is open are deleted.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::clock::Clock;
use super::core::{Inner, Pending};
use super::engine::Position;
use super::gaps::DropReason;
use super::log::{ReadFailed, Tell, What, WriteFailed, read_back};
use super::record::{Accepted, Batch, Carried, Event, Redated, Sending, Target, runs_of};
use super::request::{Priority, Template};
use super::slots;
use super::{Buffer, BufferError, GapRule, NONCE_BYTES, RECORD_OVERHEAD};
use crate::identities::IdentityId;

/// Requests that are dropped for their age in one go.
const EXPIRE_AT_ONCE: usize = 10_000;
/// Records that are copied forward in one go.
const COPY_AT_ONCE: usize = 256;
/// A segment of which less than this part is open is copied forward.
const WORTH_COPYING: u64 = 4;
/// Dead segments that are let be.
const SLACK_SEGMENTS: u64 = 8;
/// So many segments' worth of finished requests stays, so that a restart does not forget the keys of the latest.
const HISTORY_SEGMENTS: u64 = 2;

/// The clock has been set when it differs by so many seconds from what the time since the last look makes of it.
const CLOCK_STEP: i64 = 60;

/// The clocks at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    millis: u64,
    /// Unix seconds; 0 for unknown.
    pub(super) seconds: u32,
    /// The request that was next.
    next_number: u64,
}

impl Looked {
    pub(super) fn now(clock: &dyn Clock, next_number: u64) -> Self {
        Self {
            millis: clock.millis(),
            seconds: clock.unix_seconds(),
            next_number,
        }
    }
}

impl GapRule {
    fn applies(&self, target: &Target) -> bool {
        (self.of_channel.is_empty() || self.of_channel == target.channel)
            && (self.of_chaincode.is_empty() || self.of_chaincode == target.chaincode)
            && !(self.channel.is_empty() && target.channel.is_empty())
    }

    /// Whether it tells of what nobody knows where it was to go.
    fn applies_to_unknown(&self, target: &Target) -> bool {
        *target == Target::default() && !(self.channel.is_empty() && self.of_channel.is_empty())
    }

    fn channel_for(&self, of: &Target) -> String {
        let candidates = [&self.channel, &of.channel, &self.of_channel];
        let channel = candidates.into_iter().find(|channel| !channel.is_empty());
        channel.cloned().unwrap_or_default()
    }
}

impl Buffer {
    /// Does what is due. `identity` signs what tells of drops.
    ///
    /// # Errors
    /// The disk fails; what could not be done is done the next time.
    pub(crate) async fn keep_house(&self, identity: IdentityId) -> Result<(), BufferError> {
        self.date();
        self.expire();
        let told = self.tell_gaps(identity).await;
        // Also when that failed: where the disk is full, this makes the space for it.
        let compacted = self.compact().await;
        let now = self.core.clock.millis();
        if let Err(error) = self.core.log.lock().restore_reserve(now) {
            tracing::warn!(%error, "there is no space for the reserve; requests are refused until there is");
        }
        told.and(compacted)
    }

    /// When the machine's clock was set, what this process took is dated anew: it is as old as it was.
    fn date(&self) {
        let mut inner = self.core.inner.lock();
        let mut looked = self.looked.lock();
        let now = Looked::now(&*self.core.clock, inner.engine.next_numbers().0);
        if now.seconds == 0 {
            return;
        }
        let before = std::mem::replace(&mut *looked, now);
        if before.seconds == 0 {
            inner.engine.date_unknown(now.seconds);
            return;
        }
        let expected =
            i64::from(before.seconds) + i64::try_from((now.millis - before.millis) / 1000).unwrap_or(0);
        let step = i64::from(now.seconds) - expected;
        if step.abs() <= CLOCK_STEP {
            return;
        }
        // Some of what came in since the last look came in after the step.
        let is_after = |accepted_s: u32| {
            let at = i64::from(accepted_s);
            at.abs_diff(i64::from(now.seconds)) < at.abs_diff(expected)
        };
        let next = inner
            .engine
            .slots()
            .from(before.next_number)
            .find(|(_, slot)| is_after(slot.accepted_s))
            .map_or(now.next_number, |(number, _)| number);
        tracing::warn!(seconds = step, "the clock was set; what waits keeps its age");
        inner.engine.redate(self.first_number..next, step);
        inner.note(What::Redated(Redated {
            first: self.first_number,
            next,
            by: step,
        }));
        drop(inner);
        self.core.kick();
    }

    /// Drops what is worth nothing any more. Says how many requests.
    pub(crate) fn expire(&self) -> usize {
        let now = self.core.clock.unix_seconds();
        let mut inner = self.core.inner.lock();
        let expired = inner.engine.expired(now, EXPIRE_AT_ONCE);
        for number in &expired {
            self.give_up(&mut inner, *number, DropReason::Expired);
        }
        drop(inner);
        if !expired.is_empty() {
            tracing::warn!(
                requests = expired.len(),
                "dropped requests that waited longer than they may"
            );
            self.core.kick();
        }
        expired.len()
    }

    /// For each target of which drops are untold, one request that tells of all of them; the next follows when it has
    /// ended.
    async fn tell_gaps(&self, identity: IdentityId) -> Result<(), BufferError> {
        let targets = self.core.log.lock().gaps().targets();
        for of in targets {
            let rules = &self.options.gaps;
            let rule = rules.iter().find(|rule| rule.applies(&of));
            let Some(rule) = rule.or_else(|| rules.iter().find(|rule| rule.applies_to_unknown(&of))) else {
                continue;
            };
            let earlier = self.telling.lock().get(&of).copied();
            let open = earlier.is_some_and(|number| self.core.inner.lock().engine.slot(number).is_some());
            if open {
                continue;
            }
            let number = self.tell(rule, of.clone(), identity).await?;
            self.telling.lock().insert(of, number);
        }
        Ok(())
    }

    async fn tell(&self, rule: &GapRule, of: Target, identity: IdentityId) -> Result<u64, BufferError> {
        let mut nonce = [0; NONCE_BYTES];
        rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut nonce)
            .map_err(|e| BufferError::Random(e.to_string()))?;
        let template = Template {
            channel: rule.channel_for(&of),
            chaincode: rule.chaincode.clone(),
            function: rule.function.clone(),
            source: String::new(),
            identity,
            ordered: false,
            retry_conflicts: true,
            priority: Priority::High,
            max_age_s: 0,
            tells_gaps: true,
        };
        let new = Accepted {
            nonce: Bytes::copy_from_slice(&nonce),
            accepted_s: self.core.clock.unix_seconds(),
            ..Accepted::default()
        };
        let (number, pending) = {
            let mut inner = self.core.inner.lock();
            self.stage_new(
                &mut inner,
                new,
                &template,
                RECORD_OVERHEAD as u64,
                |accepted, template| {
                    What::Tell(Box::new(Tell {
                        accepted,
                        template,
                        of,
                        gateway: self.options.gateway.clone(),
                    }))
                },
            )
        };
        self.core.kick();
        pending.durable().await?;
        Ok(number)
    }

    /// Deletes segments in which nothing is open, the oldest first and without gaps, so that no note of an end is gone
    /// before the request it ends. Copies what is still open in the oldest one forward where it holds up much dead space.
    pub(crate) async fn compact(&self) -> Result<(), BufferError> {
        let io = |source| BufferError::Io {
            path: self.dir.clone().into(),
            source,
        };
        let segments = self.core.disk.list().map_err(io)?;
        let mut lengths = Vec::with_capacity(segments.len());
        for segment in segments {
            lengths.push((segment, self.core.disk.length(segment).map_err(io)?));
        }
        let mut total: u64 = lengths.iter().map(|(_, length)| length).sum();
        // While space is short there is no history.
        let history = if self.core.log.lock().has_reserve() {
            HISTORY_SEGMENTS * self.options.segment_bytes
        } else {
            0
        };
        for (segment, length) in lengths {
            if total - length < history {
                break;
            }
            let segment = u32::try_from(segment).unwrap_or(u32::MAX);
            if segment >= self.core.segment.load(Ordering::Acquire) {
                break;
            }
            let (open, open_bytes) = {
                let inner = self.core.inner.lock();
                let open = match inner.engine.oldest_segment() {
                    Some((oldest, bytes)) if oldest <= segment => bytes,
                    _ => 0,
                };
                (open, inner.engine.open_bytes())
            };
            if open > 0 {
                let dead = total.saturating_sub(open_bytes);
                let much = dead > open_bytes + SLACK_SEGMENTS * self.options.segment_bytes;
                if !much && open * WORTH_COPYING > length {
                    break;
                }
                self.copy_forward(segment).await?;
            }
            self.carry_marks(segment).await?;
            // What replaces it must be certain before it goes.
            let (gone, drops) = {
                let mut inner = self.core.inner.lock();
                let oldest = inner.engine.oldest_segment();
                let dropping = inner.is_dropping(segment);
                (
                    oldest.is_none_or(|(oldest, _)| oldest > segment),
                    dropping.then(|| inner.stage(What::Barrier)),
                )
            };
            if let Some(drops) = drops {
                self.core.kick();
                drops.durable().await?;
            }
            if !gone {
                break;
            }
            self.core.log.lock().sync().map_err(io)?;
            self.core.disk.remove(u64::from(segment)).map_err(io)?;
            total -= length;
        }
        Ok(())
    }

    async fn copy_forward(&self, segment: u32) -> Result<(), BufferError> {
        let numbers = self.core.inner.lock().engine.in_segment(segment);
        for some in numbers.chunks(COPY_AT_ONCE) {
            let mut read = Vec::with_capacity(some.len());
            for number in some {
                let Some(at) = self.durable_at(*number).filter(|at| at.segment == segment) else {
                    continue;
                };
                match read_back(&*self.core.disk, *number, at) {
                    Ok(accepted) => read.push((*number, at, accepted)),
                    Err(ReadFailed::Io(source)) => {
                        return Err(BufferError::Io {
                            path: self.dir.clone().into(),
                            source,
                        });
                    }
                    Err(ReadFailed::Damaged) => {
                        self.report_damage(format!(
                            "{}/{segment:012}.seg: the record of request {number} at {} is damaged; the request is lost",
                            self.dir, at.offset
                        ));
                        let mut inner = self.core.inner.lock();
                        self.give_up(&mut inner, *number, DropReason::Damaged);
                    }
                }
            }
            let pending = self.stage_copies(read);
            self.core.kick();
            for copy in pending {
                copy.durable().await?;
            }
        }
        Ok(())
    }

    fn durable_at(&self, number: u64) -> Option<Position> {
        let inner = self.core.inner.lock();
        let slot = inner.engine.slot(number)?;
        slot.has(slots::DURABLE).then_some(Position {
            segment: slot.segment,
            offset: slot.offset,
            bytes: slot.bytes,
        })
    }

    /// Stages copies of those that have not ended or moved since they were read, and after them which ones these are.
    fn stage_copies(&self, read: Vec<(u64, Position, Accepted)>) -> Vec<Pending> {
        let mut inner = self.core.inner.lock();
        let mut pending = Vec::with_capacity(read.len() + 1);
        let mut carried = Vec::with_capacity(read.len());
        for (number, at, accepted) in read {
            if let Some(copy) = copy_of(&inner, number, at, accepted) {
                pending.push(inner.stage(copy));
                carried.push(number);
            }
        }
        if !carried.is_empty() {
            let members = runs_of(carried);
            pending.push(inner.stage(What::Note(Event::Carried(Carried { members }))));
        }
        pending
    }

    /// Says again what a segment that goes says of requests in later ones.
    async fn carry_marks(&self, segment: u32) -> Result<(), WriteFailed> {
        let pending: Vec<_> = {
            let mut inner = self.core.inner.lock();
            inner.engine.forget_marks(segment);
            let mut pending = Vec::new();
            for group in inner.engine.slots().marked_up_to(segment) {
                pending.push(inner.stage(What::Twice(Event::Sending(Sending { group }))));
            }
            let batches: Vec<Batch> = inner
                .engine
                .batches()
                .filter(|(_, batch)| !batch.closing && batch.segment != 0 && batch.segment <= segment)
                .map(|(number, batch)| Batch {
                    number,
                    nonce: Bytes::copy_from_slice(&batch.nonce),
                    members: runs_of(batch.members.iter().copied()),
                    into: batch.into.to_string(),
                })
                .collect();
            for batch in batches {
                pending.push(inner.stage(What::Twice(Event::Batch(batch))));
            }
            pending
        };
        if pending.is_empty() {
            return Ok(());
        }
        self.core.kick();
        for pending in pending {
            pending.durable().await?;
        }
        Ok(())
    }
}

fn copy_of(inner: &Inner, number: u64, at: Position, accepted: Accepted) -> Option<What> {
    let slot = *inner.engine.slot(number)?;
    if slot.segment != at.segment {
        return None;
    }
    let template = inner.engine.template(slot.template)?;
    let copy = Accepted {
        template: slot.template,
        accepted_s: slot.accepted_s,
        copied: true,
        maybe_sent: inner.engine.slots().marked(number),
        followed: slot.has(slots::FOLLOWED),
        // What it tells of was told when it was first written.
        tells: None,
        ..accepted
    };
    Some(What::Copy(copy, template))
}
