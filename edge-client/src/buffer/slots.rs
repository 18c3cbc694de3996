//! The index of open requests in memory: 24 bytes each, in groups of consecutive numbers.
//!
//! What a request says stays on disk until it is sent.

use std::collections::BTreeMap;

use super::State;

/// Consecutive numbers that are kept, and marked as being sent, together.
pub(crate) const GROUP: u64 = 64;
const GROUP_LENGTH: usize = 64;

/// An open request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    /// Segment that holds its record, or the first that may, while it is being written; 0 for an empty slot.
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    /// Length of its record in the file.
    pub(crate) bytes: u32,
    /// Unix seconds; 0 for unknown.
    pub(crate) accepted_s: u32,
    pub(crate) template: u32,
    pub(crate) state: State,
    pub(crate) attempts: u8,
    pub(crate) flags: u8,
    /// How often the largest batch is halved for it; [`ALONE`] for never in a batch.
    pub(crate) level: u8,
}

/// Its record is on disk.
pub(crate) const DURABLE: u8 = 1;
/// An attempt is under way.
pub(crate) const IN_HAND: u8 = 2;
/// It belongs to an open batch.
pub(crate) const IN_BATCH: u8 = 4;
/// It has a key.
pub(crate) const KEYED: u8 = 8;
/// It waits for the time of its next attempt.
pub(crate) const AGAIN: u8 = 16;
/// Others of its source wait for it.
pub(crate) const HEAD: u8 = 32;
/// An orderer may have seen it, and the disk did not take the note.
pub(crate) const SENT: u8 = 64;
/// It lost a race, and the request that follows it is on disk.
pub(crate) const FOLLOWED: u8 = 128;

/// A level at which a request goes alone.
pub(crate) const ALONE: u8 = 64;

impl Slot {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u8, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }
}

const EMPTY: Slot = Slot {
    segment: 0,
    offset: 0,
    bytes: 0,
    accepted_s: 0,
    template: 0,
    state: State::PendingEndorsement,
    attempts: 0,
    flags: 0,
    level: 0,
};

#[derive(Debug)]
struct Group {
    slots: Box<[Slot; GROUP_LENGTH]>,
    used: u32,
    /// Segment whose record says that its requests may have been sent; 0 for none.
    marked_in: u32,
}

/// Open requests by number.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    groups: BTreeMap<u64, Group>,
    count: usize,
    /// Numbers from here on were never given; the group they begin in stays, with its mark.
    next: u64,
}

fn place(number: u64) -> (u64, usize) {
    (
        number / GROUP,
        usize::try_from(number % GROUP).unwrap_or(usize::MAX),
    )
}

impl Slots {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Slot> {
        let (group, at) = place(number);
        self.groups
            .get(&group)
            .and_then(|g| g.slots.get(at))
            .filter(|s| s.segment != 0)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Slot> {
        let (group, at) = place(number);
        self.groups
            .get_mut(&group)
            .and_then(|g| g.slots.get_mut(at))
            .filter(|s| s.segment != 0)
    }

    fn group_mut(&mut self, group: u64) -> &mut Group {
        self.groups.entry(group).or_insert_with(|| Group {
            slots: Box::new([EMPTY; GROUP_LENGTH]),
            used: 0,
            marked_in: 0,
        })
    }

    pub(crate) fn insert(&mut self, number: u64, slot: Slot) {
        debug_assert!(slot.segment != 0, "segments begin with 1");
        self.next = self.next.max(number + 1);
        let (group, at) = place(number);
        let group = self.group_mut(group);
        let Some(place) = group.slots.get_mut(at) else {
            return;
        };
        let is_new = place.segment == 0;
        *place = slot;
        if is_new {
            group.used += 1;
            self.count += 1;
        }
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<Slot> {
        let (index, at) = place(number);
        let group = self.groups.get_mut(&index)?;
        let place = group.slots.get_mut(at).filter(|s| s.segment != 0)?;
        let slot = std::mem::replace(place, EMPTY);
        group.used -= 1;
        self.count -= 1;
        if group.used == 0 && index < self.next / GROUP {
            self.groups.remove(&index);
        }
        Some(slot)
    }

    /// Says up to where numbers were given; an empty group before that goes.
    pub(crate) fn given(&mut self, next: u64) {
        let before = self.next / GROUP;
        self.next = self.next.max(next);
        if self.next / GROUP > before && self.groups.get(&before).is_some_and(|g| g.used == 0) {
            self.groups.remove(&before);
        }
    }

    /// Whether an orderer may have seen this request.
    pub(crate) fn marked(&self, number: u64) -> bool {
        self.groups
            .get(&(number / GROUP))
            .is_some_and(|g| g.marked_in != 0)
    }

    pub(crate) fn mark(&mut self, group: u64, segment: u32) {
        if self.groups.contains_key(&group) || group >= self.next / GROUP {
            let group = self.group_mut(group);
            group.marked_in = group.marked_in.max(segment);
        }
    }

    /// Groups with open requests whose mark is in a segment up to this one.
    pub(crate) fn marked_up_to(&self, segment: u32) -> Vec<u64> {
        self.groups
            .iter()
            .filter(|(_, g)| g.marked_in != 0 && g.marked_in <= segment)
            .map(|(index, _)| *index)
            .collect()
    }

    /// Forgets marks in segments up to this one of groups without open requests.
    pub(crate) fn forget_marks(&mut self, segment: u32) {
        for group in self.groups.values_mut() {
            if group.used == 0 && group.marked_in <= segment {
                group.marked_in = 0;
            }
        }
    }

    /// Changes those with numbers in a range.
    pub(crate) fn each_mut(&mut self, numbers: std::ops::Range<u64>, mut change: impl FnMut(&mut Slot)) {
        for (index, group) in self.groups.range_mut(numbers.start / GROUP..) {
            let base = index * GROUP;
            if base >= numbers.end {
                return;
            }
            for (number, slot) in (base..).zip(group.slots.iter_mut()) {
                if slot.segment != 0 && numbers.contains(&number) {
                    change(slot);
                }
            }
        }
    }

    /// All in the order of their numbers, from one on.
    pub(crate) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &Slot)> {
        let first = number / GROUP;
        self.groups.range(first..).flat_map(move |(index, group)| {
            let base = index * GROUP;
            (base..)
                .zip(group.slots.iter())
                .filter(move |(n, slot)| slot.segment != 0 && *n >= number)
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Slot)> {
        self.from(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(segment: u32) -> Slot {
        Slot { segment, ..EMPTY }
    }

    #[test]
    fn an_open_request_costs_24_bytes() {
        assert_eq!(std::mem::size_of::<Slot>(), 24);
    }

    #[test]
    fn groups_go_when_empty_but_the_mark_of_the_current_one_stays() {
        let mut slots = Slots::default();
        for n in 1..=GROUP + 1 {
            slots.insert(n, slot(1));
        }
        slots.mark(0, 1);
        slots.mark(1, 1);
        assert!(slots.marked(5) && slots.marked(GROUP + 1));
        for n in 1..=GROUP + 1 {
            assert!(slots.remove(n).is_some());
        }
        assert_eq!(slots.len(), 0);
        assert!(!slots.marked(5), "the group is gone");
        assert!(slots.marked(GROUP + 2), "more of this group may come");
        slots.given(2 * GROUP);
        assert!(!slots.marked(GROUP + 2));
        assert!(slots.remove(3).is_none());
    }

    #[test]
    fn iterates_in_order_from_a_number() {
        let mut slots = Slots::default();
        for n in [200, 3, 70, 64] {
            slots.insert(n, slot(1));
        }
        let numbers = |from| slots.from(from).map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(numbers(0), [3, 64, 70, 200]);
        assert_eq!(numbers(65), [70, 200]);
    }
}
