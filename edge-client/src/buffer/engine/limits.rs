//! How much is kept, and what goes when that is too much.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::buffer::request::Priority;
use crate::buffer::slots::{self, Slot};

/// What happens to a request that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// It is not taken; the caller is told when to try again.
    #[default]
    Refuse,
    /// The oldest that nobody has seen yet goes.
    DropOldest,
    /// The oldest of the lowest priority goes, unless the new one has a lower one still: then that is not taken.
    DropLowestPriority,
}

/// How much is kept at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimits {
    /// Open requests.
    pub max_entries: usize,
    /// Bytes of open requests on disk.
    pub max_bytes: u64,
    /// Age after which a request that nobody has seen is dropped; none keeps them for ever.
    pub max_age: Option<Duration>,
    /// What happens when that is reached.
    pub when_full: WhenFull,
    /// Finished requests that can still be asked for.
    pub remembered: usize,
}

impl Default for BufferLimits {
    fn default() -> Self {
        Self {
            max_entries: 3_000_000,
            max_bytes: 1024 * 1024 * 1024,
            max_age: None,
            when_full: WhenFull::Refuse,
            remembered: 10_000,
        }
    }
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Entries,
    Bytes,
}

/// A request that has to go for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Victim(pub(crate) u64);

impl Engine {
    fn over(&self, entries: usize, bytes: u64) -> Option<Full> {
        if entries > self.limits.max_entries {
            return Some(Full::Entries);
        }
        (bytes > self.limits.max_bytes).then_some(Full::Bytes)
    }

    /// Whether a request of `bytes` fits, and which ones have to go for it.
    pub(crate) fn room_for(&mut self, bytes: u64, priority: Priority) -> Result<Vec<Victim>, Full> {
        let mut entries = self.slots.len() + 1;
        let mut total = self.open_bytes + bytes;
        let mut victims = Vec::new();
        let lowest_first: &[Priority] = match self.limits.when_full {
            WhenFull::DropLowestPriority => &[
                Priority::Low,
                Priority::Normal,
                Priority::High,
                Priority::Critical,
            ],
            _ => &[],
        };
        while let Some(full) = self.over(entries, total) {
            let after = victims.last().map_or(0, |Victim(n)| n + 1);
            let found = match self.limits.when_full {
                WhenFull::Refuse => None,
                WhenFull::DropOldest => self.oldest_droppable(None, after),
                WhenFull::DropLowestPriority => lowest_first
                    .iter()
                    .filter(|p| **p <= priority && self.by_priority[**p as usize] > 0)
                    .copied()
                    .collect::<Vec<_>>()
                    .into_iter()
                    .find_map(|p| self.oldest_droppable(Some(p), after)),
            };
            let Some((number, slot)) = found else {
                return Err(full);
            };
            victims.push(Victim(number));
            entries -= 1;
            total -= u64::from(slot.bytes);
        }
        Ok(victims)
    }

    /// Whether a request may be given up: nobody has seen it, and nobody is looking.
    fn droppable(&self, number: u64, slot: &Slot) -> bool {
        slot.has(slots::DURABLE)
            && !slot.has(slots::IN_HAND)
            && !slot.has(slots::IN_BATCH | slots::SENT)
            && !self.slots.marked(number)
            && self
                .templates
                .get(slot.template)
                .is_some_and(|used| !used.template.tells_gaps)
    }

    fn oldest_droppable(&mut self, priority: Option<Priority>, after: u64) -> Option<(u64, Slot)> {
        let cursors = match priority {
            Some(priority) => priority as usize..priority as usize + 1,
            None => 0..4,
        };
        let from = self.drop_from.get(cursors.clone())?.iter().min().copied()?;
        let found = self
            .slots
            .from(from.max(after))
            .find(|(number, slot)| {
                let wanted = priority.is_none_or(|p| {
                    self.templates
                        .get(slot.template)
                        .is_some_and(|used| used.template.priority == p)
                });
                wanted && self.droppable(*number, slot)
            })
            .map(|(number, slot)| (number, *slot));
        if after == 0
            && let Some((number, _)) = found
        {
            for cursor in self.drop_from.get_mut(cursors).into_iter().flatten() {
                *cursor = number;
            }
        }
        found
    }

    /// Requests that are worth nothing any more at `now` (unix seconds, 0 for unknown) and that nobody has seen.
    pub(crate) fn expired(&self, now: u32, most: usize) -> Vec<u64> {
        if now == 0 {
            return Vec::new();
        }
        let limit = self.limits.max_age.map_or(0, |age| age.as_secs());
        let any = limit > 0 || self.templates.iter().any(|(_, used)| used.template.max_age_s > 0);
        if !any {
            return Vec::new();
        }
        self.slots
            .iter()
            .filter(|(number, slot)| {
                let own = self
                    .templates
                    .get(slot.template)
                    .map_or(0, |used| u64::from(used.template.max_age_s));
                let age = u64::from(now.saturating_sub(slot.accepted_s));
                let over = (limit > 0 && age >= limit) || (own > 0 && age >= own);
                over && slot.accepted_s > 0 && self.droppable(*number, slot)
            })
            .map(|(number, _)| number)
            .take(most)
            .collect()
    }

    /// Requests of which the machine did not know when they came in are as old as this run.
    pub(crate) fn date_unknown(&mut self, now: u32) {
        self.slots.each_mut(0..u64::MAX, |slot| {
            if slot.accepted_s == 0 {
                slot.accepted_s = now;
            }
        });
    }
}
