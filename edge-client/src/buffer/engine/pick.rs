//! What is sent next: single requests, batches, and attempts that are repeated.

use super::{BatchState, Engine, State};
use crate::buffer::Job;
use crate::buffer::request::Template;
use crate::buffer::slots::{self, ALONE};

/// How calls of one function are put together into one call of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MergeRule {
    /// Channel; any if empty.
    pub(crate) channel: String,
    pub(crate) chaincode: String,
    pub(crate) function: String,
    /// The function that takes a JSON list of what the single calls take.
    pub(crate) into: String,
    /// Requests in one transaction at most.
    pub(crate) most: usize,
    /// Bytes of their records at most.
    pub(crate) most_bytes: u64,
}

impl MergeRule {
    /// Whether requests like this one may travel in a batch.
    pub(crate) fn is_for(&self, job: &Job) -> bool {
        (self.channel.is_empty() || self.channel == job.channel)
            && self.chaincode == job.chaincode
            && self.function == job.function
    }

    fn fits(&self, template: &Template) -> bool {
        (self.channel.is_empty() || self.channel == template.channel)
            && self.chaincode == template.chaincode
            && self.function == template.function
            && !template.tells_gaps
    }
}

/// What was taken to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pick {
    /// One request.
    One(u64),
    /// A batch that is on disk already.
    Batch(u64),
    /// Requests that may go together, by which rule.
    Form { members: Vec<u64>, rule: usize },
}

/// A target that was paused gets one attempt in so many milliseconds until one gets through: with it the pause ends or grows.
const PROBE_PAUSE: u64 = 1_000;

/// So many times the largest batch is looked through for members that go together.
const LOOK_THROUGH: usize = 4;

impl Engine {
    /// When the next attempt is to be repeated, or a paused target goes on.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let waiting = self
            .templates
            .targets
            .values()
            .filter(|state| !state.ranks.is_empty())
            .map(|state| state.paused_until)
            .min();
        let again = self.again.first().map(|(due, _)| *due);
        match (waiting, again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Nothing of this target is sent before `until`.
    pub(crate) fn pause_target(&mut self, target: u32, until: u64) {
        if let Some(state) = self.templates.targets.get_mut(&target) {
            state.paused_until = until;
            state.probing = true;
        }
    }

    pub(crate) fn resume_target(&mut self, target: u32) {
        if let Some(state) = self.templates.targets.get_mut(&target) {
            state.paused_until = 0;
            state.probing = false;
        }
    }

    /// A request that waits is not sent before `due`.
    pub(crate) fn delay(&mut self, number: u64, due: u64) {
        if self.ready(number)
            && let Some(slot) = self.slots.get_mut(number)
        {
            // Where it is in line by now it is stepped over.
            slot.set(slots::AGAIN, true);
            self.again.insert((due, number));
        }
    }

    /// Up to `most` transactions whose time has come; they are in hand until their outcome is told.
    pub(crate) fn take_due(&mut self, now: u64, most: usize, rules: &[MergeRule]) -> Vec<Pick> {
        let mut picks = Vec::new();
        self.line_up(now);
        while picks.len() < most {
            let first: u64 = self.templates.targets.values().map(|t| t.ranks.len()).sum();
            let waiting = first + self.lanes.values().map(|lane| lane.runs.len()).sum::<u64>();
            let behind = waiting > (most - picks.len()) as u64;
            let rules = if behind { rules } else { &[] };
            match self.take_waiting(now, rules) {
                Some(pick) => picks.push(pick),
                None => break,
            }
        }
        picks
    }

    /// Attempts whose time has come wait in line: of their priority, after its live data and before its backlog.
    fn line_up(&mut self, now: u64) {
        while let Some((due, number)) = self.again.first().copied().filter(|(due, _)| *due <= now) {
            self.again.remove(&(due, number));
            let marked = self.slots.marked(number);
            let template = match self.batches.get(&number) {
                Some(batch) => batch.template,
                None => match self.slots.get_mut(number) {
                    Some(slot) if slot.has(slots::AGAIN) => {
                        slot.set(slots::AGAIN, false);
                        let unseen = slot.attempts == 0 || slot.state == State::EndorsementError;
                        if marked || slot.has(slots::SENT) || !unseen {
                            // An orderer may have it by itself: in a batch it could count a second time.
                            slot.level = ALONE;
                        }
                        slot.template
                    }
                    // It was given up meanwhile.
                    _ => continue,
                },
            };
            let Some(priority) = self.template(template).map(|template| template.priority) else {
                continue;
            };
            if let Some(ranks) = self.templates.ranks_of(template) {
                ranks.push_again(priority, number);
            }
        }
    }

    /// Takes a batch that waits in line; none if it is no batch, or in hand.
    fn take_batch(&mut self, number: u64) -> Option<Pick> {
        let batch = self.batches.get_mut(&number).filter(|batch| !batch.in_hand)?;
        batch.in_hand = true;
        batch.attempts += 1;
        self.progress(number, State::PendingEndorsement);
        Some(Pick::Batch(number))
    }

    fn take_in_hand(&mut self, number: u64) {
        self.progress(number, State::PendingEndorsement);
        if let Some(slot) = self.slots.get_mut(number) {
            slot.set(slots::AGAIN, false);
            slot.set(slots::IN_HAND, true);
            slot.attempts = slot.attempts.saturating_add(1);
        }
    }

    /// The next of the targets takes its turn.
    fn take_waiting(&mut self, now: u64, rules: &[MergeRule]) -> Option<Pick> {
        let ids: Vec<u32> = self
            .templates
            .targets
            .iter()
            .filter(|(_, state)| state.paused_until <= now && !state.ranks.is_empty())
            .map(|(id, _)| *id)
            .collect();
        let start = ids.iter().position(|id| *id > self.last_target).unwrap_or(0);
        let order = ids[start..].iter().chain(&ids[..start]);
        for id in order.copied().collect::<Vec<_>>() {
            if let Some(pick) = self.take_of(id, rules) {
                self.last_target = id;
                if let Some(state) = self.templates.targets.get_mut(&id).filter(|state| state.probing) {
                    state.paused_until = now + PROBE_PAUSE;
                }
                return Some(pick);
            }
        }
        None
    }

    fn ready(&self, number: u64) -> bool {
        let busy = slots::IN_HAND | slots::IN_BATCH | slots::AGAIN;
        self.slots
            .get(number)
            .is_some_and(|slot| slot.has(slots::DURABLE) && !slot.has(busy))
    }

    fn take_of(&mut self, target: u32, rules: &[MergeRule]) -> Option<Pick> {
        let (rank, first) = loop {
            let ranks = &mut self.templates.targets.get_mut(&target)?.ranks;
            let rank = ranks.next_rank()?;
            let number = ranks.pop(rank)?;
            if self.ready(number) {
                break (rank, number);
            }
            if let Some(batch) = self.take_batch(number) {
                return Some(batch);
            }
        };
        let slot = *self.slots.get(first)?;
        let template = self.template(slot.template)?;
        let found = rules.iter().position(|rule| rule.fits(&template));
        let Some((index, rule)) = found.and_then(|i| Some((i, rules.get(i)?))) else {
            self.take_in_hand(first);
            return Some(Pick::One(first));
        };
        let most = rule.most.checked_shr(u32::from(slot.level)).unwrap_or(0);
        let mut members = vec![first];
        let mut bytes = u64::from(slot.bytes);
        self.along_the_lane(&template, slot.level, most, rule, &mut members, &mut bytes);
        let mut aside = Vec::new();
        while members.len() < most && aside.len() < most * LOOK_THROUGH {
            let Some(ranks) = self.templates.targets.get_mut(&target).map(|t| &mut t.ranks) else {
                break;
            };
            let Some(number) = ranks.pop(rank) else { break };
            if self.batches.contains_key(&number) {
                aside.push(number);
                continue;
            }
            if !self.ready(number) {
                continue;
            }
            let Some(slot) = self.slots.get(number).copied() else {
                continue;
            };
            let other = self.template(slot.template);
            let Some(other) = other.filter(|t| goes_with(&template, t)) else {
                aside.push(number);
                continue;
            };
            if slot.level != self.level_of(first) || bytes + u64::from(slot.bytes) > rule.most_bytes {
                aside.push(number);
                break;
            }
            bytes += u64::from(slot.bytes);
            members.push(number);
            self.along_the_lane(&other, slot.level, most, rule, &mut members, &mut bytes);
        }
        if let Some(state) = self.templates.targets.get_mut(&target) {
            for number in aside.into_iter().rev() {
                state.ranks.put_back(rank, number);
            }
        }
        for member in &members {
            self.take_in_hand(*member);
        }
        if members.len() < 2 {
            return Some(Pick::One(first));
        }
        Some(Pick::Form { members, rule: index })
    }

    fn level_of(&self, number: u64) -> u8 {
        self.slots.get(number).map_or(0, |slot| slot.level)
    }

    /// After the head of a source that wants order, those behind it may go in the same transaction.
    fn along_the_lane(
        &mut self,
        template: &Template,
        level: u8,
        most: usize,
        rule: &MergeRule,
        members: &mut Vec<u64>,
        bytes: &mut u64,
    ) {
        if !template.ordered {
            return;
        }
        while members.len() < most {
            let Some(next) = self
                .lanes
                .get_mut(&template.source)
                .and_then(|lane| lane.runs.pop_front())
            else {
                return;
            };
            let Some(slot) = self.slots.get(next).copied() else {
                continue;
            };
            let together = self
                .template(slot.template)
                .is_some_and(|other| goes_with(template, &other))
                && slot.level == level
                && *bytes + u64::from(slot.bytes) <= rule.most_bytes;
            if !together {
                if let Some(lane) = self.lanes.get_mut(&template.source) {
                    lane.runs.push_front(next);
                }
                return;
            }
            self.hold_lane(next);
            *bytes += u64::from(slot.bytes);
            members.push(next);
        }
    }

    /// Requests in hand become a batch; it is not sent before [`Self::batch_moved`] says where it is on disk.
    pub(crate) fn form(&mut self, number: u64, members: Vec<u64>, nonce: [u8; 24], into: &str, segment: u32) {
        self.given_batches(number + 1);
        let mut kept = Vec::with_capacity(members.len());
        let mut template = 0;
        for member in members {
            let Some(slot) = self.slots.get_mut(member) else {
                continue;
            };
            slot.set(slots::IN_HAND, false);
            slot.set(slots::AGAIN, false);
            slot.set(slots::IN_BATCH, true);
            template = slot.template;
            self.batch_of.insert(member, number);
            kept.push(member);
        }
        if kept.is_empty() {
            return;
        }
        self.batches.insert(
            number,
            BatchState {
                members: kept,
                nonce,
                into: into.into(),
                template,
                attempts: 1,
                state: State::PendingEndorsement,
                reason: "".into(),
                segment,
                in_hand: true,
                closing: false,
            },
        );
    }

    /// A batch that will never be valid is no more: its members wait again, each for a batch of at most the largest size
    /// halved `level` times.
    pub(crate) fn dissolve(&mut self, number: u64, level: u8) {
        let Some(batch) = self.batches.remove(&number) else {
            return;
        };
        for member in &batch.members {
            self.batch_of.remove(member);
        }
        self.free(batch.members, level);
    }

    /// The same for members that end with it: they do not wait again.
    pub(crate) fn dissolve_silently(&mut self, number: u64, level: u8) {
        let Some(batch) = self.batches.remove(&number) else {
            return;
        };
        for member in &batch.members {
            self.batch_of.remove(member);
            if let Some(slot) = self.slots.get_mut(*member) {
                slot.set(slots::IN_BATCH, false);
                slot.level = slot.level.max(level);
            }
        }
    }

    /// Requests travel in batches of at most the largest size halved so often.
    pub(crate) fn set_level(&mut self, members: &[u64], level: u8) {
        for member in members {
            if let Some(slot) = self.slots.get_mut(*member) {
                slot.level = slot.level.max(level);
            }
        }
    }

    pub(crate) fn batch_of(&self, member: u64) -> Option<u64> {
        self.batch_of.get(&member).copied()
    }

    /// Requests in hand, or members of a batch that is no more, wait again in their order.
    pub(crate) fn free(&mut self, members: Vec<u64>, level: u8) {
        // From the last to the first, each to the head of its line: so the first is first again.
        for member in members.into_iter().rev() {
            self.progress(member, State::PendingEndorsement);
            let Some(slot) = self.slots.get_mut(member) else {
                continue;
            };
            slot.set(slots::IN_BATCH, false);
            slot.set(slots::IN_HAND, false);
            slot.level = slot.level.max(level);
            let slot = *slot;
            let Some(template) = self.template(slot.template) else {
                continue;
            };
            if slot.has(slots::HEAD) {
                if let Some(slot) = self.slots.get_mut(member) {
                    slot.set(slots::HEAD, false);
                }
                if let Some(lane) = self.lanes.get_mut(&template.source) {
                    lane.runs.push_front(member);
                }
                // The last one to leave lets the first one go on.
                self.lane_goes_on(&template);
            } else if let Some(ranks) = self.templates.ranks_of(slot.template) {
                ranks.push_first(template.priority, member);
            }
        }
    }
}

/// Whether two requests may be arguments of one call under one signature.
fn goes_with(a: &Template, b: &Template) -> bool {
    a.channel == b.channel
        && a.chaincode == b.chaincode
        && a.function == b.function
        && a.identity == b.identity
        && a.retry_conflicts == b.retry_conflicts
        && a.priority == b.priority
        && !b.tells_gaps
}
