//! The buffer's state machine: pure, without files or clocks.
//!
//! Times are milliseconds of any monotonic clock that the caller chooses; ages are unix seconds.

mod ends;
mod keys;
mod lanes;
mod limits;
mod pick;
mod remembered;
mod templates;
mod totals;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::keys::Keys;
use self::lanes::Lane;
use self::remembered::{Finished, Reasons, Remembered, short};
use self::templates::Templates;
use super::record::FIRST_BATCH;
use super::request::Template;
use super::slots::{self, Slot, Slots};
use crate::identities::IdentityId;

pub(crate) use self::limits::Full;
#[cfg(test)]
use self::limits::Victim;
pub use self::limits::{BufferLimits, WhenFull};
pub(crate) use self::pick::{MergeRule, Pick};
pub use self::totals::Totals;

/// Where a request stands (MISSION A names the first six).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum State {
    /// Waits for endorsements.
    PendingEndorsement,
    /// The last attempt got no endorsement; another follows.
    EndorsementError,
    /// Endorsed; waits for an orderer to take it.
    PendingOrdering,
    /// The last attempt was not taken by an orderer; another follows.
    OrderingError,
    /// Ordered; waits for the verdict of the peers.
    PendingCommit,
    /// The verdict was not valid, or is not known yet and is asked again.
    CommitError,
    /// Valid on the ledger.
    Committed,
    /// Refused for good; the reason is kept.
    Refused,
    /// Given up before anybody saw it; the reason is kept, and a gap record tells of it.
    Dropped,
}

impl State {
    /// The states of requests that are open.
    pub const OPEN: [Self; 6] = [
        Self::PendingEndorsement,
        Self::EndorsementError,
        Self::PendingOrdering,
        Self::OrderingError,
        Self::PendingCommit,
        Self::CommitError,
    ];

    /// Whether nothing more happens to the request.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Committed | Self::Refused | Self::Dropped)
    }
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Valid in this block.
    Committed { block: u64 },
    /// Not valid, or refused by a contract or orderer: no further attempt can help.
    Refused { reason: String },
    /// Lost a race; a new transaction may succeed.
    Conflict { reason: String },
    /// It will never be valid under its nonce, and its requests wait again: for batches.
    Apart { reason: String },
    /// Failed in `state`; the same transaction is tried again.
    Again { state: State, reason: String },
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

/// A request to be added.
#[derive(Debug, Clone)]
pub(crate) struct NewEntry<'a> {
    pub(crate) number: u64,
    pub(crate) template: &'a Template,
    /// Name of its key, if it has one.
    pub(crate) key: Option<u64>,
    pub(crate) accepted_s: u32,
    pub(crate) follows: u64,
    /// Number in whose place it stands in the order of its source; 0 for its own.
    pub(crate) place: u64,
    /// Its place if it is on disk; otherwise the first segment that may hold it, and its length.
    pub(crate) position: Position,
}

/// Requests that travel in one transaction.
#[derive(Debug, Clone)]
pub(crate) struct BatchState {
    pub(crate) members: Vec<u64>,
    pub(crate) nonce: [u8; 24],
    /// The function that takes them all.
    pub(crate) into: Arc<str>,
    pub(crate) template: u32,
    pub(crate) attempts: u32,
    pub(crate) state: State,
    pub(crate) reason: Box<str>,
    /// Segment of its record; 0 until it is durable.
    pub(crate) segment: u32,
    pub(crate) in_hand: bool,
    /// That it is taken apart is being written: nothing may say after that that it is open.
    pub(crate) closing: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct SegmentUse {
    entries: u64,
    bytes: u64,
}

/// The state of a buffer.
#[derive(Debug)]
pub(crate) struct Engine {
    limits: BufferLimits,
    next_number: u64,
    next_batch: u64,
    slots: Slots,
    templates: Templates,
    /// For each source that wants order, its open requests.
    lanes: HashMap<String, Lane>,
    /// Attempts to be repeated, requests and batches: (due, number).
    again: BTreeSet<(u64, u64)>,
    batches: BTreeMap<u64, BatchState>,
    batch_of: HashMap<u64, u64>,
    keys: Keys,
    follows: HashMap<u64, u64>,
    followed_by: HashMap<u64, u64>,
    /// Of open followers: the first of those that they follow.
    places: HashMap<u64, u64>,
    reasons: Reasons,
    remembered: Remembered,
    by_segment: BTreeMap<u32, SegmentUse>,
    open_bytes: u64,
    by_state: [usize; State::OPEN.len()],
    by_priority: [usize; 4],
    /// No droppable request of a priority has a smaller number.
    drop_from: [u64; 4],
    last_target: u32,
    totals: Totals,
}

impl Engine {
    pub(crate) fn new(limits: BufferLimits) -> Self {
        Self {
            remembered: Remembered::new(limits.remembered),
            limits,
            next_number: 1,
            next_batch: FIRST_BATCH,
            slots: Slots::default(),
            templates: Templates::default(),
            lanes: HashMap::new(),
            again: BTreeSet::new(),
            batches: BTreeMap::new(),
            batch_of: HashMap::new(),
            keys: Keys::default(),
            follows: HashMap::new(),
            followed_by: HashMap::new(),
            places: HashMap::new(),
            reasons: Reasons::default(),
            by_segment: BTreeMap::new(),
            open_bytes: 0,
            by_state: [0; State::OPEN.len()],
            by_priority: [0; 4],
            drop_from: [0; 4],
            last_target: 0,
            totals: Totals::default(),
        }
    }

    /// The request that carries this key, open or remembered, and whether it is durable.
    pub(crate) fn by_key(&self, key: u64) -> Option<(u64, bool)> {
        let number = self.keys.get(key, self.next_number)?;
        if let Some(slot) = self.slots.get(number) {
            return Some((number, slot.has(slots::DURABLE)));
        }
        // What was given up may be handed over again.
        let finished = self.remembered.get(number)?;
        (finished.state != State::Dropped).then_some((number, true))
    }

    /// Takes the next number for a request that is about to be written.
    pub(crate) fn reserve(&mut self) -> u64 {
        let number = self.next_number;
        self.given(number + 1);
        number
    }

    /// Takes the next number for a batch.
    pub(crate) fn reserve_batch(&mut self) -> u64 {
        self.next_batch += 1;
        self.next_batch - 1
    }

    /// The numbers that the next request and the next batch get.
    pub(crate) fn next_numbers(&self) -> (u64, u64) {
        (self.next_number, self.next_batch)
    }

    /// Numbers of batches below `next` are taken.
    pub(crate) fn given_batches(&mut self, next: u64) {
        self.next_batch = self.next_batch.max(next);
    }

    /// Numbers below `next` are taken.
    pub(crate) fn given(&mut self, next: u64) {
        self.next_number = self.next_number.max(next);
        self.slots.given(self.next_number);
    }

    /// Adds a request. It is not sent before [`Self::durable`] is called for it.
    pub(crate) fn insert(&mut self, entry: &NewEntry<'_>) {
        self.given(entry.number + 1);
        if self.slots.get(entry.number).is_some() {
            return;
        }
        let mut flags = 0;
        if let Some(key) = entry.key {
            self.keys.insert(key, entry.number);
            flags |= slots::KEYED;
        }
        if entry.follows != 0 {
            self.follows.insert(entry.number, entry.follows);
            self.followed_by.insert(entry.follows, entry.number);
        }
        if entry.place != 0 {
            self.places.insert(entry.number, entry.place);
        }
        let template = self.templates.refer(entry.template);
        self.use_segment(entry.position.segment, entry.position.bytes);
        self.open_bytes += u64::from(entry.position.bytes);
        self.by_state[State::PendingEndorsement as usize] += 1;
        self.by_priority[entry.template.priority as usize] += 1;
        self.slots.insert(
            entry.number,
            Slot {
                segment: entry.position.segment,
                offset: entry.position.offset,
                bytes: entry.position.bytes,
                accepted_s: entry.accepted_s,
                template,
                state: State::PendingEndorsement,
                attempts: 0,
                flags,
                level: 0,
            },
        );
    }

    fn use_segment(&mut self, segment: u32, bytes: u32) {
        let used = self.by_segment.entry(segment).or_default();
        used.entries += 1;
        used.bytes += u64::from(bytes);
    }

    fn leave_segment(&mut self, segment: u32, bytes: u32) {
        if let Some(used) = self.by_segment.get_mut(&segment) {
            used.entries -= 1;
            used.bytes -= u64::from(bytes);
            if used.entries == 0 {
                self.by_segment.remove(&segment);
            }
        }
    }

    /// A record is where it was moved to, or written at last.
    pub(crate) fn moved(&mut self, number: u64, position: Position) {
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        let before = (slot.segment, slot.bytes);
        slot.segment = position.segment;
        slot.offset = position.offset;
        slot.bytes = position.bytes;
        self.leave_segment(before.0, before.1);
        self.use_segment(position.segment, position.bytes);
        self.open_bytes = self.open_bytes - u64::from(before.1) + u64::from(position.bytes);
    }

    /// The request that follows this one is on disk.
    pub(crate) fn has_follower(&mut self, number: u64) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.set(slots::FOLLOWED, true);
        }
    }

    /// The request is on disk: it may be sent.
    pub(crate) fn durable(&mut self, number: u64, position: Position) {
        self.moved(number, position);
        if let Some(loser) = self.follows.get(&number).copied() {
            self.has_follower(loser);
        }
        if let Some(slot) = self.slots.get_mut(number) {
            slot.set(slots::DURABLE, true);
            self.totals.accepted += 1;
            self.enqueue(number);
        }
    }

    fn set_state(&mut self, number: u64, state: State) {
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        let before = slot.state;
        slot.state = state;
        if let Some(count) = self.by_state.get_mut(before as usize) {
            *count -= 1;
        }
        if let Some(count) = self.by_state.get_mut(state as usize) {
            *count += 1;
        }
    }

    /// An attempt, of a request or a batch, has reached a state.
    pub(crate) fn progress(&mut self, number: u64, state: State) {
        let Some(batch) = self.batches.get_mut(&number) else {
            self.set_state(number, state);
            return;
        };
        batch.state = state;
        for member in batch.members.clone() {
            self.set_state(member, state);
        }
    }

    /// The same attempt follows at a later time.
    pub(crate) fn again(&mut self, number: u64, state: State, reason: &str, again_at: u64) {
        self.totals.count_retry(state);
        if let Some(batch) = self.batches.get_mut(&number) {
            batch.in_hand = false;
            batch.reason = short(reason);
            self.progress(number, state);
            self.again.insert((again_at, number));
            return;
        }
        self.set_state(number, state);
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        slot.set(slots::IN_HAND, false);
        slot.set(slots::AGAIN, true);
        let template = slot.template;
        self.reasons.set(number, reason);
        self.again.insert((again_at, number));
        if let Some(used) = self.templates.get(template) {
            let from = &mut self.drop_from[used.template.priority as usize];
            *from = (*from).min(number);
        }
    }

    /// Whether a request that was staged once is on disk, or was until its end.
    pub(crate) fn is_kept(&self, number: u64) -> bool {
        match self.slots.get(number) {
            Some(slot) => slot.has(slots::DURABLE),
            None => self.is_finished(number),
        }
    }

    /// The clock was set: these requests came in `by` seconds later than it seemed.
    pub(crate) fn redate(&mut self, numbers: std::ops::Range<u64>, by: i64) {
        self.slots.each_mut(numbers, |slot| {
            if slot.accepted_s > 0 {
                let moved = (i64::from(slot.accepted_s) + by).max(1);
                slot.accepted_s = u32::try_from(moved).unwrap_or(u32::MAX);
            }
        });
    }

    /// Forgets marks in segments up to this one of groups in which nothing is open: they are said anew when they are needed.
    pub(crate) fn forget_marks(&mut self, segment: u32) {
        self.slots.forget_marks(segment);
    }

    pub(crate) fn is_finished(&self, number: u64) -> bool {
        self.remembered.get(number).is_some()
    }

    pub(crate) fn finished(&self, number: u64) -> Option<&Finished> {
        self.remembered.get(number)
    }

    pub(crate) fn reason(&self, number: u64) -> &str {
        self.reasons.get(number)
    }

    pub(crate) fn follows(&self, number: u64) -> u64 {
        self.follows.get(&number).copied().unwrap_or(0)
    }

    pub(crate) fn slot(&self, number: u64) -> Option<&Slot> {
        self.slots.get(number)
    }

    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(crate) fn mark(&mut self, group: u64, segment: u32) {
        self.slots.mark(group, segment);
    }

    /// An orderer may see these requests from now on.
    pub(crate) fn sent(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(slot) = self.slots.get_mut(*number) {
                slot.set(slots::SENT, true);
            }
        }
    }

    pub(crate) fn batch(&self, number: u64) -> Option<&BatchState> {
        self.batches.get(&number)
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = (u64, &BatchState)> {
        self.batches.iter().map(|(number, batch)| (*number, batch))
    }

    pub(crate) fn batch_closing(&mut self, number: u64, closing: bool) {
        if let Some(batch) = self.batches.get_mut(&number) {
            batch.closing = closing;
        }
    }

    pub(crate) fn batch_moved(&mut self, number: u64, segment: u32) {
        if let Some(batch) = self.batches.get_mut(&number) {
            batch.segment = segment;
        }
    }

    pub(crate) fn template(&self, id: u32) -> Option<Arc<Template>> {
        self.templates.get(id).map(|used| Arc::clone(&used.template))
    }

    pub(crate) fn target_of(&self, template: u32) -> u32 {
        self.templates.get(template).map_or(0, |used| used.target)
    }

    pub(crate) fn followed_by(&self, number: u64) -> u64 {
        self.followed_by.get(&number).copied().unwrap_or(0)
    }

    /// Identities that open requests are sent under.
    pub(crate) fn identities(&self) -> BTreeSet<IdentityId> {
        self.templates
            .iter()
            .map(|(_, used)| used.template.identity)
            .collect()
    }

    /// Open requests of an identity that nobody has seen, by template.
    pub(crate) fn unsent_of(&self, identity: &IdentityId) -> BTreeMap<u32, Vec<u64>> {
        let mut found: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let wanted: BTreeSet<u32> = self
            .templates
            .iter()
            .filter(|(_, used)| used.template.identity == *identity)
            .map(|(id, _)| id)
            .collect();
        if wanted.is_empty() {
            return found;
        }
        for (number, slot) in self.slots.iter() {
            let taken = slots::IN_HAND | slots::IN_BATCH | slots::SENT;
            let free = slot.has(slots::DURABLE) && !slot.has(taken);
            if free && wanted.contains(&slot.template) && !self.slots.marked(number) {
                found.entry(slot.template).or_default().push(number);
            }
        }
        found
    }

    /// The number of a template that is about to be used.
    pub(crate) fn refer(&mut self, template: &Template) -> u32 {
        self.templates.refer(template)
    }

    /// Takes [`Self::refer`] back.
    pub(crate) fn release(&mut self, template: u32) {
        self.templates.release(template);
    }

    /// The request is sent under another template (another identity) from now on.
    pub(crate) fn rebind(&mut self, number: u64, template: &Template) {
        let new = self.templates.refer(template);
        match self.slots.get_mut(number) {
            Some(slot) => {
                let old = std::mem::replace(&mut slot.template, new);
                self.templates.release(old);
            }
            None => self.templates.release(new),
        }
    }
}

#[cfg(test)]
mod tests;
