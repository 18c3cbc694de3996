//! The buffer's state machine: pure, without files or clocks.
//!
//! Times are milliseconds of any monotonic clock that the caller chooses.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::TransactionRequest;
use crate::identities::IdentityId;

/// Where a request stands (MISSION A names the first six).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
}

impl State {
    /// Whether nothing more happens to the request.
    pub fn is_final(self) -> bool {
        matches!(self, State::Committed | State::Refused)
    }
}

/// How much is kept at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BufferLimits {
    /// Open requests.
    pub max_entries: usize,
    /// Bytes of open requests.
    pub max_bytes: u64,
    /// Finished requests that can still be asked for.
    pub remembered: usize,
}

impl Default for BufferLimits {
    fn default() -> Self {
        Self {
            max_entries: 1_000_000,
            max_bytes: 256 * 1024 * 1024,
            remembered: 10_000,
        }
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
    /// Failed in `state`; the same transaction is tried again.
    Again { state: State, reason: String },
}

/// An open request.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) request: Arc<TransactionRequest>,
    pub(crate) nonce: Vec<u8>,
    pub(crate) identity: IdentityId,
    pub(crate) accepted_at: u64,
    pub(crate) follows: u64,
    /// The request that takes its place after a lost race; 0 for none.
    pub(crate) followed_by: u64,
    pub(crate) bytes: u64,
    pub(crate) state: State,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
    /// Segment file that holds the record, or the first that may, while it is being written.
    pub(crate) segment: u64,
    pub(crate) durable: bool,
}

/// A finished request, as far as remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) state: State,
    pub(crate) block: u64,
    pub(crate) reason: String,
    pub(crate) follows: u64,
    pub(crate) followed_by: u64,
    pub(crate) idempotency_key: String,
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Entries,
    Bytes,
}

/// Totals since the buffer was opened, and what is open now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Open requests by state.
    pub open: BTreeMap<State, usize>,
    /// Bytes of open requests.
    pub open_bytes: u64,
    /// Requests accepted since the start of this process.
    pub accepted: u64,
    /// Of those and of older ones: valid on the ledger since the start of this process.
    pub committed: u64,
    /// Refused since the start of this process.
    pub refused: u64,
    /// Attempts that failed and were repeated, since the start of this process.
    pub retried: u64,
}

#[derive(Debug)]
pub(crate) struct Engine {
    limits: BufferLimits,
    next_number: u64,
    open: BTreeMap<u64, Entry>,
    /// Requests that may be sent: (due, number). Of a source that wants order, only the first.
    waiting: BTreeSet<(u64, u64)>,
    /// For each source that wants order, its open requests.
    ordered: HashMap<String, BTreeSet<u64>>,
    open_bytes: u64,
    keys: HashMap<String, u64>,
    finished: HashMap<u64, Finished>,
    finished_order: VecDeque<u64>,
    totals: Totals,
}

impl Engine {
    pub(crate) fn new(limits: BufferLimits) -> Self {
        Self {
            limits,
            next_number: 1,
            open: BTreeMap::new(),
            waiting: BTreeSet::new(),
            ordered: HashMap::new(),
            open_bytes: 0,
            keys: HashMap::new(),
            finished: HashMap::new(),
            finished_order: VecDeque::new(),
            totals: Totals::default(),
        }
    }

    /// The request that carries this key, open or remembered.
    pub(crate) fn by_key(&self, key: &str) -> Option<u64> {
        if key.is_empty() {
            None
        } else {
            self.keys.get(key).copied()
        }
    }

    /// Whether `bytes` more fit.
    pub(crate) fn room_for(&self, bytes: u64) -> Result<(), Full> {
        if self.open.len() >= self.limits.max_entries {
            return Err(Full::Entries);
        }
        if self.open_bytes.saturating_add(bytes) > self.limits.max_bytes {
            return Err(Full::Bytes);
        }
        Ok(())
    }

    /// Takes the next number for a request that is about to be written.
    pub(crate) fn reserve(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Adds a request. It is not sent before [`Self::durable`] is called for it.
    pub(crate) fn insert(&mut self, entry: NewEntry) {
        self.next_number = self.next_number.max(entry.number + 1);
        if !entry.request.idempotency_key.is_empty() {
            self.keys
                .insert(entry.request.idempotency_key.clone(), entry.number);
        }
        if entry.request.ordered {
            self.ordered
                .entry(entry.request.source.clone())
                .or_default()
                .insert(entry.number);
        }
        self.open_bytes += entry.bytes;
        let NewEntry {
            number,
            request,
            nonce,
            identity,
            accepted_at,
            follows,
            bytes,
            segment,
        } = entry;
        self.open.insert(
            number,
            Entry {
                number,
                request,
                nonce,
                identity,
                accepted_at,
                follows,
                followed_by: 0,
                bytes,
                segment,
                state: State::PendingEndorsement,
                attempts: 0,
                reason: String::new(),
                durable: false,
            },
        );
    }

    /// The request is on disk in `segment`: it may be sent.
    pub(crate) fn durable(&mut self, number: u64, segment: u64, now: u64) {
        let Some(entry) = self.open.get_mut(&number) else {
            return;
        };
        entry.segment = segment;
        entry.durable = true;
        self.totals.accepted += 1;
        let first = !entry.request.ordered
            || self.ordered.get(&entry.request.source).and_then(BTreeSet::first) == Some(&number);
        if first {
            self.waiting.insert((now, number));
        }
    }

    /// The request could not be written: it was never taken.
    pub(crate) fn withdraw(&mut self, number: u64) {
        if let Some(entry) = self.remove(number)
            && self.keys.get(&entry.request.idempotency_key) == Some(&number)
        {
            self.keys.remove(&entry.request.idempotency_key);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.open.remove(&number)?;
        self.open_bytes -= entry.bytes;
        if entry.request.ordered
            && let Some(numbers) = self.ordered.get_mut(&entry.request.source)
        {
            let was_first = numbers.first() == Some(&number);
            numbers.remove(&number);
            match numbers.first().copied() {
                None => drop(self.ordered.remove(&entry.request.source)),
                Some(next) if was_first && self.open.get(&next).is_some_and(|e| e.durable) => {
                    self.waiting.insert((0, next));
                }
                Some(_) => {}
            }
        }
        Some(entry)
    }

    /// Up to `most` requests whose time has come; they are under way until [`Self::settle`] is called for them.
    pub(crate) fn take_due(&mut self, now: u64, most: usize) -> Vec<Entry> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some((time, number)) = self.waiting.first().copied() else {
                break;
            };
            if time > now {
                break;
            }
            self.waiting.remove(&(time, number));
            if let Some(entry) = self.open.get_mut(&number) {
                entry.attempts += 1;
                entry.state = State::PendingEndorsement;
                taken.push(entry.clone());
            }
        }
        taken
    }

    /// When the next request is due, if one waits.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.waiting.first().map(|(time, _)| *time)
    }

    /// A request under way has reached a state.
    pub(crate) fn progress(&mut self, number: u64, state: State) {
        if let Some(entry) = self.open.get_mut(&number) {
            entry.state = state;
        }
    }

    /// Takes the result of an attempt. `again_at` is when a failed one is repeated. Returns the finished request, if it
    /// is finished now.
    pub(crate) fn settle(&mut self, number: u64, outcome: Outcome, again_at: u64) -> Option<Entry> {
        let entry = self.open.get_mut(&number)?;
        let (state, block, reason) = match outcome {
            Outcome::Again { state, reason } => {
                entry.state = state;
                entry.reason = reason;
                self.waiting.insert((again_at, number));
                self.totals.retried += 1;
                return None;
            }
            Outcome::Committed { block } => (State::Committed, block, String::new()),
            Outcome::Refused { reason } | Outcome::Conflict { reason } => (State::Refused, 0, reason),
        };
        let mut entry = self.remove(number)?;
        entry.state = state;
        entry.reason.clone_from(&reason);
        match state {
            State::Committed => self.totals.committed += 1,
            _ => self.totals.refused += 1,
        }
        let finished = Finished {
            state,
            block,
            reason,
            follows: entry.follows,
            followed_by: entry.followed_by,
            idempotency_key: entry.request.idempotency_key.clone(),
        };
        self.remember(number, finished);
        Some(entry)
    }

    /// Remembers a finished request, forgetting the oldest where there are too many.
    pub(crate) fn remember(&mut self, number: u64, finished: Finished) {
        if !finished.idempotency_key.is_empty() {
            self.keys
                .entry(finished.idempotency_key.clone())
                .or_insert(number);
        }
        if self.finished.insert(number, finished).is_none() {
            self.finished_order.push_back(number);
        }
        while self.finished_order.len() > self.limits.remembered {
            let Some(oldest) = self.finished_order.pop_front() else {
                break;
            };
            if let Some(forgotten) = self.finished.remove(&oldest)
                && self.keys.get(&forgotten.idempotency_key) == Some(&oldest)
            {
                self.keys.remove(&forgotten.idempotency_key);
            }
        }
    }

    /// Links a request that lost a race to the one that follows it.
    pub(crate) fn link(&mut self, number: u64, followed_by: u64) {
        if let Some(entry) = self.open.get_mut(&number) {
            entry.followed_by = followed_by;
        }
        if let Some(finished) = self.finished.get_mut(&number) {
            finished.followed_by = followed_by;
        }
    }

    pub(crate) fn open_entry(&self, number: u64) -> Option<&Entry> {
        self.open.get(&number)
    }

    pub(crate) fn finished(&self, number: u64) -> Option<&Finished> {
        self.finished.get(&number)
    }

    pub(crate) fn open_entries(&self) -> impl Iterator<Item = &Entry> {
        self.open.values()
    }

    pub(crate) fn move_to_segment(&mut self, number: u64, segment: u64) {
        if let Some(entry) = self.open.get_mut(&number) {
            entry.segment = segment;
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.totals.clone();
        for entry in self.open.values() {
            *totals.open.entry(entry.state).or_default() += 1;
        }
        totals.open_bytes = self.open_bytes;
        totals
    }
}

/// A request to be added.
#[derive(Debug, Clone)]
pub(crate) struct NewEntry {
    pub(crate) number: u64,
    pub(crate) request: Arc<TransactionRequest>,
    pub(crate) nonce: Vec<u8>,
    pub(crate) identity: IdentityId,
    pub(crate) accepted_at: u64,
    pub(crate) follows: u64,
    pub(crate) bytes: u64,
    pub(crate) segment: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(max_entries: usize) -> Engine {
        Engine::new(BufferLimits {
            max_entries,
            max_bytes: 1000,
            remembered: 2,
        })
    }

    fn add(engine: &mut Engine, source: &str, ordered: bool, key: &str) -> u64 {
        let number = engine.reserve();
        let request = TransactionRequest {
            source: source.into(),
            ordered,
            idempotency_key: key.into(),
            ..TransactionRequest::default()
        };
        engine.insert(NewEntry {
            number,
            request: Arc::new(request),
            nonce: vec![1; 24],
            identity: [0; 32],
            accepted_at: 0,
            follows: 0,
            bytes: 10,
            segment: 0,
        });
        number
    }

    fn due(engine: &mut Engine, now: u64) -> Vec<u64> {
        engine.take_due(now, 10).into_iter().map(|e| e.number).collect()
    }

    #[test]
    fn nothing_is_sent_before_it_is_durable() {
        let mut engine = engine(10);
        let a = add(&mut engine, "s", false, "");
        assert!(due(&mut engine, 100).is_empty());
        engine.durable(a, 1, 5);
        assert!(due(&mut engine, 4).is_empty());
        assert_eq!(due(&mut engine, 5), [a]);
        assert!(due(&mut engine, 6).is_empty(), "under way");
    }

    #[test]
    fn failed_attempts_come_again_and_finished_ones_do_not() {
        let mut engine = engine(10);
        let a = add(&mut engine, "s", false, "");
        engine.durable(a, 1, 0);
        assert_eq!(due(&mut engine, 0), [a]);
        let again = Outcome::Again {
            state: State::OrderingError,
            reason: "no leader".into(),
        };
        assert!(engine.settle(a, again, 50).is_none());
        assert_eq!(engine.totals().open[&State::OrderingError], 1);
        assert_eq!(engine.next_due(), Some(50));
        assert!(due(&mut engine, 49).is_empty());
        assert_eq!(due(&mut engine, 50), [a]);
        assert!(engine.settle(a, Outcome::Committed { block: 7 }, 0).is_some());
        assert_eq!(engine.open_entries().count(), 0);
        assert_eq!(engine.finished(a).unwrap().block, 7);
        assert_eq!(engine.totals().open_bytes, 0);
    }

    #[test]
    fn order_is_kept_per_source() {
        let mut engine = engine(10);
        let a = add(&mut engine, "s", true, "");
        let b = add(&mut engine, "s", true, "");
        let other = add(&mut engine, "t", true, "");
        for n in [a, b, other] {
            engine.durable(n, 1, 0);
        }
        assert_eq!(due(&mut engine, 0), [a, other]);
        engine.settle(
            a,
            Outcome::Again {
                state: State::EndorsementError,
                reason: String::new(),
            },
            10,
        );
        assert!(due(&mut engine, 5).is_empty(), "b waits for a");
        assert_eq!(due(&mut engine, 10), [a]);
        engine.settle(a, Outcome::Committed { block: 1 }, 0);
        assert_eq!(due(&mut engine, 10), [b]);
    }

    #[test]
    fn limits_hold_and_withdrawn_requests_free_room() {
        let mut engine = engine(2);
        let a = add(&mut engine, "s", false, "k");
        add(&mut engine, "s", false, "");
        assert_eq!(engine.room_for(10), Err(Full::Entries));
        engine.withdraw(a);
        assert_eq!(engine.by_key("k"), None);
        assert_eq!(engine.room_for(10), Ok(()));
        assert_eq!(engine.room_for(991), Err(Full::Bytes));
    }

    #[test]
    fn keys_are_known_while_remembered() {
        let mut engine = engine(10);
        let mut numbers = Vec::new();
        for key in ["a", "b", "c"] {
            let n = add(&mut engine, "s", false, key);
            engine.durable(n, 1, 0);
            due(&mut engine, 0);
            engine.settle(n, Outcome::Committed { block: 1 }, 0);
            numbers.push(n);
        }
        assert_eq!(engine.by_key("a"), None, "two are remembered");
        assert_eq!(engine.by_key("c"), Some(numbers[2]));
    }
}
