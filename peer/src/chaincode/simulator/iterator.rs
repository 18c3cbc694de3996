//! Range and history iterators.
//!
//! A range query is recorded by what the peer fetched, not by what the chaincode looked at (spec 03 §6): the first
//! fetch reads 100 results and one more, each later fetch 100 more.

use std::collections::VecDeque;

use bytes::Bytes;
use selvedge_ledger::{HistoryEntry, Version};

use super::{MAX_KEY_BYTES, MAX_OPEN_ITERATORS, SimulationError, Simulator, check_key};

/// Results of one fetch.
const BATCH: usize = 100;
/// Most results that the iterators of one transaction may fetch together.
pub const MAX_RESULTS: usize = 100_000;

/// One result of an iterator.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Of a range query.
    State {
        /// The key.
        key: String,
        /// Its committed value.
        value: Bytes,
    },
    /// Of a history query.
    History(HistoryEntry),
}

/// An iterator that was opened.
#[derive(Debug)]
pub(super) enum Cursor {
    Range(RangeCursor),
    History(HistoryCursor),
    /// A history query that was closed; it leaves no trace in the read set.
    Closed,
}

/// A history query: what of the last fetch is left to hand out, and where the next one begins.
#[derive(Debug)]
pub(super) struct HistoryCursor {
    namespace: String,
    key: String,
    before: Option<Version>,
    exhausted: bool,
    pending: VecDeque<HistoryEntry>,
}

/// A range query: what has been fetched, and what of it is left to hand out.
#[derive(Debug)]
pub(super) struct RangeCursor {
    pub(super) namespace: String,
    pub(super) start: String,
    /// End as queried; empty is open.
    pub(super) end: String,
    pub(super) exhausted: bool,
    pub(super) fetched: Vec<(String, Version)>,
    pending: VecDeque<(String, Bytes)>,
    open: bool,
}

impl Simulator {
    fn admit(&mut self) -> Result<(), SimulationError> {
        if self.open >= MAX_OPEN_ITERATORS {
            return Err(SimulationError::refused(format!(
                "{MAX_OPEN_ITERATORS} iterators are open: close those that are no longer needed"
            )));
        }
        // Each query is kept until the end, even an empty one.
        self.count_results(1)
    }

    fn count_results(&mut self, count: usize) -> Result<(), SimulationError> {
        self.results = self.results.saturating_add(count);
        if self.results > MAX_RESULTS {
            return Err(SimulationError::refused(format!(
                "the transaction's queries return more than {MAX_RESULTS} results: narrow the range"
            )));
        }
        Ok(())
    }

    /// Opens a range query over `start <= key < end`. An empty `start` becomes U+0001, which leaves out composite
    /// keys as Fabric's shims do; an empty `end` is open. Gives a handle.
    ///
    /// # Errors
    /// Too many iterators are open, a bound is too long, or the ledger fails.
    pub fn open_range(&mut self, namespace: &str, start: &str, end: &str) -> Result<usize, SimulationError> {
        let start = if start.is_empty() { "\u{1}" } else { start };
        if start.len().max(end.len()) > MAX_KEY_BYTES {
            return Err(SimulationError::refused(format!(
                "a bound of the range has more than {MAX_KEY_BYTES} bytes"
            )));
        }
        self.admit()?;
        let mut cursor = RangeCursor {
            namespace: namespace.to_owned(),
            start: start.to_owned(),
            end: end.to_owned(),
            exhausted: false,
            fetched: Vec::new(),
            pending: VecDeque::new(),
            open: true,
        };
        self.fetch(&mut cursor, BATCH + 1)?;
        self.open += 1;
        self.cursors.push(Cursor::Range(cursor));
        Ok(self.cursors.len() - 1)
    }

    fn fetch(&mut self, cursor: &mut RangeCursor, count: usize) -> Result<(), SimulationError> {
        // The smallest key behind the last one is that key with U+0000 appended.
        let from = match cursor.fetched.last() {
            Some((key, _)) => format!("{key}\0"),
            None => cursor.start.clone(),
        };
        let mut left = count;
        if cursor.end.is_empty() || from < cursor.end {
            for found in self
                .state
                .range(&cursor.namespace, &from, &cursor.end)
                .take(count)
            {
                let (key, found) = found?;
                cursor.fetched.push((key.clone(), found.version));
                cursor.pending.push_back((key, found.value));
                left -= 1;
            }
        }
        cursor.exhausted = left > 0;
        self.count_results(count - left)
    }

    /// Opens a query over the changes of a key, newest first. Gives a handle. It leaves no trace in the read set, so
    /// its result is no ground for a write (as in Fabric).
    ///
    /// # Errors
    /// The key is not allowed, too many iterators are open, or the ledger fails.
    pub fn open_history(&mut self, namespace: &str, key: &str) -> Result<usize, SimulationError> {
        check_key(key)?;
        self.admit()?;
        self.open += 1;
        self.cursors.push(Cursor::History(HistoryCursor {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            before: None,
            exhausted: false,
            pending: VecDeque::new(),
        }));
        Ok(self.cursors.len() - 1)
    }

    fn next_change(&mut self, cursor: &mut HistoryCursor) -> Result<Option<HistoryEntry>, SimulationError> {
        if cursor.pending.is_empty() && !cursor.exhausted {
            let entries = self
                .state
                .history(&cursor.namespace, &cursor.key, cursor.before, BATCH)?;
            cursor.exhausted = entries.len() < BATCH;
            cursor.before = entries.last().map(|entry| entry.version);
            self.count_results(entries.len())?;
            cursor.pending = entries.into();
        }
        Ok(cursor.pending.pop_front())
    }

    /// The next result of an iterator, `None` at its end.
    ///
    /// # Errors
    /// The handle is not that of an open iterator, or the ledger fails.
    pub fn next(&mut self, handle: usize) -> Result<Option<Item>, SimulationError> {
        let closed = || SimulationError::refused(format!("iterator {handle} is not open"));
        let slot = self.cursors.get_mut(handle).ok_or_else(closed)?;
        match std::mem::replace(slot, Cursor::Closed) {
            Cursor::Closed => Err(closed()),
            Cursor::History(mut cursor) => {
                let outcome = self.next_change(&mut cursor);
                self.cursors[handle] = Cursor::History(cursor);
                Ok(outcome?.map(Item::History))
            }
            Cursor::Range(mut cursor) => {
                let outcome = if cursor.open {
                    self.next_of(&mut cursor)
                } else {
                    Err(closed())
                };
                self.cursors[handle] = Cursor::Range(cursor);
                outcome
            }
        }
    }

    fn next_of(&mut self, cursor: &mut RangeCursor) -> Result<Option<Item>, SimulationError> {
        // One result stays behind unless there are no more: it is the first of the next batch.
        if cursor.pending.len() <= 1 && !cursor.exhausted {
            self.fetch(cursor, BATCH)?;
        }
        Ok(cursor
            .pending
            .pop_front()
            .map(|(key, value)| Item::State { key, value }))
    }

    /// Closes an iterator; unknown handles are ignored.
    pub fn close(&mut self, handle: usize) {
        match self.cursors.get_mut(handle) {
            Some(Cursor::Range(cursor)) if cursor.open => {
                cursor.open = false;
                cursor.pending = VecDeque::new();
                self.open -= 1;
            }
            Some(slot @ Cursor::History(_)) => {
                *slot = Cursor::Closed;
                self.open -= 1;
            }
            _ => {}
        }
    }
}
