//! Whose turn it is: requests of a source that wants order wait for the one before them.

use std::sync::Arc;

use super::super::queue::Runs;
use super::super::request::Template;
use super::super::slots::{self, ALONE};
use super::Engine;

#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Behind the head.
    pub(super) runs: Runs,
    /// The one request, or those of one batch, that the others wait for.
    busy: u32,
}

impl Engine {
    /// After the files were read: everything that is open waits, in the order in which it came.
    pub(crate) fn recovered(&mut self) {
        // Members of batches are first in their sources' lines.
        let members: Vec<u64> = self.batch_of.keys().copied().collect();
        for number in members {
            self.hold_lane(number);
        }
        let mut order: Vec<(u64, u64)> = Vec::with_capacity(self.slots.len());
        order.extend(
            self.slots
                .iter()
                .map(|(number, _)| (self.place_of(number), number)),
        );
        order.sort_unstable();
        for (_, number) in order {
            let marked = self.slots.marked(number);
            let Some(slot) = self.slots.get_mut(number) else {
                continue;
            };
            slot.set(slots::DURABLE, true);
            if slot.has(slots::IN_BATCH) {
                continue;
            }
            if marked {
                // It may have been sent by itself: in a batch it could count a second time.
                slot.level = ALONE;
            }
            self.enqueue(number);
        }
        for batch in self.batches.values_mut() {
            batch.in_hand = false;
        }
        // They were on their way: they wait with the attempts to be repeated, out of which none goes to the backlog.
        let batches: Vec<(u64, u32)> = self
            .batches
            .iter()
            .map(|(n, batch)| (*n, batch.template))
            .collect();
        for (number, template) in batches {
            let priority = self.template(template).map(|template| template.priority);
            if let Some(ranks) = self.templates.ranks_of(template) {
                ranks.push_again(priority.unwrap_or_default(), number);
            }
        }
    }

    /// The number in whose place a request stands: a follower keeps that of the first which it follows.
    pub(crate) fn place_of(&self, number: u64) -> u64 {
        self.places.get(&number).copied().unwrap_or(number)
    }

    /// Others of its source wait for this one from now on.
    pub(super) fn hold_lane(&mut self, number: u64) {
        let Some(slot) = self.slots.get_mut(number) else {
            return;
        };
        let Some(used) = self.templates.get(slot.template) else {
            return;
        };
        if used.template.ordered && !slot.has(slots::HEAD) {
            slot.set(slots::HEAD, true);
            self.lanes.entry(used.template.source.clone()).or_default().busy += 1;
        }
    }

    /// Puts a durable request in line.
    pub(super) fn enqueue(&mut self, number: u64) {
        let Some(slot) = self.slots.get(number).copied() else {
            return;
        };
        let Some(used) = self.templates.get(slot.template) else {
            return;
        };
        let template = Arc::clone(&used.template);
        if template.ordered {
            let lane = self.lanes.entry(template.source.clone()).or_default();
            if lane.busy > 0 {
                if self.places.contains_key(&number) {
                    lane.runs.push_front(number);
                } else {
                    lane.runs.push_back(number);
                }
                return;
            }
            self.hold_lane(number);
        }
        if let Some(ranks) = self.templates.ranks_of(slot.template) {
            ranks.push(template.priority, number);
        }
    }

    /// The next of a source that wants order, after one that others waited for is done with.
    pub(super) fn lane_goes_on(&mut self, template: &Template) {
        if !template.ordered {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&template.source) else {
            return;
        };
        lane.busy = lane.busy.saturating_sub(1);
        if lane.busy > 0 {
            return;
        }
        while let Some(next) = lane.runs.pop_front() {
            let Some(slot) = self.slots.get_mut(next) else {
                continue;
            };
            slot.set(slots::HEAD, true);
            let slot = *slot;
            lane.busy = 1;
            let priority = self
                .templates
                .get(slot.template)
                .map(|used| used.template.priority)
                .unwrap_or_default();
            if let Some(ranks) = self.templates.ranks_of(slot.template) {
                ranks.push(priority, next);
            }
            return;
        }
        self.lanes.remove(&template.source);
    }
}
