//! What is open, and what has happened since the start.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Engine, State};
use crate::buffer::gaps::DropReason;

/// Totals since the buffer was opened, and what is open now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Open requests by state.
    pub open: BTreeMap<State, usize>,
    /// Bytes of open requests on disk.
    pub open_bytes: u64,
    /// Unix seconds at which the oldest open request came in; 0 if there is none or its time is unknown.
    pub oldest_accepted_s: u32,
    /// Batches under way.
    pub open_batches: usize,
    /// Requests accepted since the start of this process, or found open at its start.
    pub accepted: u64,
    /// Of those: valid on the ledger since the start of this process.
    pub committed: u64,
    /// Refused since the start of this process.
    pub refused: u64,
    /// Given up since the start of this process, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Attempts that failed and were repeated, since the start of this process.
    pub retried: u64,
    /// The same by the state in which they failed.
    pub retried_in: BTreeMap<State, u64>,
    /// Dropped requests of which the ledger has not been told yet.
    pub untold_drops: u64,
    /// Bytes written to the buffer's files since the start of this process.
    pub written_bytes: u64,
    /// How often the files were made durable since the start of this process.
    pub syncs: u64,
    /// Bytes of the buffer's files.
    pub file_bytes: u64,
}

impl Totals {
    /// Seconds for which the oldest open request has waited; 0 if there is none or its time is unknown.
    pub fn oldest_age(&self) -> u64 {
        if self.oldest_accepted_s == 0 {
            return 0;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs().saturating_sub(u64::from(self.oldest_accepted_s))
    }

    pub(crate) fn count_retry(&mut self, state: State) {
        self.retried += 1;
        *self.retried_in.entry(state).or_default() += 1;
    }

    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        *self.dropped.entry(reason).or_default() += 1;
    }
}

impl Engine {
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.totals.clone();
        for state in State::OPEN {
            let count = self.by_state.get(state as usize).copied().unwrap_or(0);
            if count > 0 {
                totals.open.insert(state, count);
            }
        }
        totals.open_bytes = self.open_bytes;
        totals.open_batches = self.batches.len();
        totals.oldest_accepted_s = self.slots.iter().next().map_or(0, |(_, slot)| slot.accepted_s);
        totals
    }

    pub(crate) fn count_found_damage(&mut self) {
        self.totals.count_drop(DropReason::Damaged);
    }

    /// Open bytes by segment, the oldest first.
    pub(crate) fn oldest_segment(&self) -> Option<(u32, u64)> {
        self.by_segment
            .iter()
            .next()
            .map(|(segment, used)| (*segment, used.bytes))
    }

    pub(crate) fn open_bytes(&self) -> u64 {
        self.open_bytes
    }

    pub(crate) fn in_segment(&self, segment: u32) -> Vec<u64> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.segment == segment)
            .map(|(number, _)| number)
            .collect()
    }
}
