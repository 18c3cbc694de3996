//! How requests end, and what is remembered of them.

use std::sync::Arc;

use super::super::gaps::DropReason;
use super::super::request::Template;
use super::super::slots::{self, Slot};
use super::remembered::{Finished, short};
use super::{Engine, State};

impl Engine {
    /// The request could not be written: it was never taken.
    pub(crate) fn withdraw(&mut self, number: u64) {
        let Some(slot) = self.slots.remove(number) else {
            return;
        };
        self.account_for_end(&slot);
        if let Some(loser) = self.follows.remove(&number) {
            self.followed_by.remove(&loser);
        }
        self.places.remove(&number);
        self.templates.release(slot.template);
    }

    fn account_for_end(&mut self, slot: &Slot) {
        self.leave_segment(slot.segment, slot.bytes);
        self.open_bytes -= u64::from(slot.bytes);
        if let Some(count) = self.by_state.get_mut(slot.state as usize) {
            *count -= 1;
        }
        if let Some(used) = self.templates.get(slot.template) {
            self.by_priority[used.template.priority as usize] -= 1;
        }
    }

    /// Ends an open request.
    fn close(&mut self, number: u64, state: State, block: u64, reason: &str) -> Option<Arc<Template>> {
        let slot = self.slots.remove(number)?;
        self.account_for_end(&slot);
        let template = self
            .templates
            .get(slot.template)
            .map(|used| Arc::clone(&used.template));
        if slot.has(slots::HEAD)
            && let Some(template) = &template
        {
            self.lane_goes_on(template);
        }
        self.templates.release(slot.template);
        self.reasons.forget(number);
        self.places.remove(&number);
        self.follows_forget(number);
        let reason = (!reason.is_empty()).then(|| short(reason));
        self.remember(number, Finished { state, block, reason });
        template
    }

    /// Links are kept as long as the follower can be asked for.
    fn follows_forget(&mut self, number: u64) {
        if self.limits.remembered == 0
            && let Some(loser) = self.follows.remove(&number)
        {
            self.followed_by.remove(&loser);
        }
    }

    fn remember(&mut self, number: u64, finished: Finished) {
        if let Some(forgotten) = self.remembered.add(number, finished) {
            self.followed_by.remove(&forgotten);
            self.follows.remove(&forgotten);
        }
        // Keys of what is forgotten go in one sweep, when they are half of all.
        if self.keys.len() > 2 * (self.slots.len() + self.remembered.len()) + 1024 {
            let (slots, remembered) = (&self.slots, &self.remembered);
            self.keys.retain(self.next_number, |number| {
                slots.get(number).is_some() || remembered.get(number).is_some()
            });
        }
    }

    /// The fate of a request of which only the end is on disk.
    pub(crate) fn remember_end(&mut self, number: u64, state: State, block: u64, reason: &str) {
        self.given(number + 1);
        if self.slots.get(number).is_some() {
            self.close(number, state, block, reason);
            return;
        }
        if self.remembered.get(number).is_none() {
            let reason = (!reason.is_empty()).then(|| short(reason));
            self.remember(number, Finished { state, block, reason });
        }
    }

    /// Ends a request whose fate is known.
    pub(crate) fn settle(&mut self, number: u64, committed: bool, block: u64, reason: &str) {
        let state = if committed {
            State::Committed
        } else {
            State::Refused
        };
        if self.close(number, state, block, reason).is_some() {
            if committed {
                self.totals.committed += 1;
            } else {
                self.totals.refused += 1;
            }
        }
    }

    /// Ends a batch, and with it its members. Gives how many there were.
    pub(crate) fn settle_batch(&mut self, number: u64, block: u64) -> usize {
        let Some(batch) = self.batches.remove(&number) else {
            return 0;
        };
        for member in &batch.members {
            self.batch_of.remove(member);
            self.settle(*member, true, block, "");
        }
        batch.members.len()
    }

    /// Gives a request up. None if it is not open.
    pub(crate) fn drop_entry(&mut self, number: u64, reason: DropReason) -> Option<(Arc<Template>, u32)> {
        let accepted_s = self.slots.get(number)?.accepted_s;
        let template = self.close(number, State::Dropped, 0, reason.name())?;
        self.totals.count_drop(reason);
        Some((template, accepted_s))
    }
}
