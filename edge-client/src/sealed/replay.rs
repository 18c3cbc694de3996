//! Which counters were seen: the highest one, and the 63 before it; of the last ones also what was sent under them, so that
//! a message that comes again is told from another one under the counter of a device that has lost its memory.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

const WINDOW: u64 = 64;
/// Counters whose messages are known by their marks.
const MARKED: usize = 8;
/// Messages under way at once that are remembered.
const MAX_BEGUN: usize = 64;

/// What is known of a counter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not seen; if its taking had begun before a crash, the number of its arrival then.
    New(Option<u64>),
    /// This very message was taken.
    Seen,
    /// Another message was taken under this counter, or it is too far back to know.
    Spent,
}

/// The counters of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Highest counter whose message was taken; none before the first.
    #[serde(rename = "h", default)]
    highest: Option<u64>,
    /// Bit n: the counter `highest - n` was seen.
    #[serde(rename = "b", default)]
    bits: u64,
    /// The last counters with the marks of their messages.
    #[serde(rename = "m", default)]
    marks: VecDeque<(u64, u32)>,
    /// The last number of an arrival that was given, so that no two messages have the same.
    #[serde(rename = "l", default)]
    last: u64,
    /// Counters whose messages are being taken, and the numbers of their arrivals.
    #[serde(rename = "p", default, skip_serializing_if = "BTreeMap::is_empty")]
    begun: BTreeMap<u64, u64>,
}

impl Counters {
    pub(crate) fn highest(&self) -> u64 {
        self.highest.unwrap_or_default()
    }

    /// Judges a message by its counter and its mark (a part of its tag).
    pub(crate) fn judge(&self, counter: u64, mark: u32) -> Verdict {
        let new = Verdict::New(self.begun.get(&counter).copied());
        let Some(highest) = self.highest else {
            return new;
        };
        if counter > highest {
            return new;
        }
        let back = highest - counter;
        if back >= WINDOW {
            return Verdict::Spent;
        }
        if self.bits >> back & 1 == 0 {
            return new;
        }
        if self.marks.contains(&(counter, mark)) {
            Verdict::Seen
        } else {
            Verdict::Spent
        }
    }

    /// Notes that a message is about to be taken, and gives the number that its arrival has.
    pub(crate) fn begin(&mut self, counter: u64, arrived: u64) -> u64 {
        let arrived = arrived.max(self.last.saturating_add(1));
        self.last = arrived;
        self.begun.insert(counter, arrived);
        while self.begun.len() > MAX_BEGUN {
            self.begun.pop_first();
        }
        arrived
    }

    /// Notes that a message was taken.
    pub(crate) fn done(&mut self, counter: u64, mark: u32) {
        self.begun.remove(&counter);
        self.marks.push_back((counter, mark));
        if self.marks.len() > MARKED {
            self.marks.pop_front();
        }
        match self.highest {
            Some(highest) if counter <= highest => {
                let back = highest - counter;
                if back < WINDOW {
                    self.bits |= 1 << back;
                }
            }
            Some(highest) => {
                let ahead = counter - highest;
                self.bits = if ahead >= WINDOW { 0 } else { self.bits << ahead };
                self.bits |= 1;
                self.highest = Some(counter);
            }
            None => {
                self.bits = 1;
                self.highest = Some(counter);
            }
        }
        // What is too old now will not be taken any more.
        let oldest = self.highest().saturating_sub(WINDOW - 1);
        self.begun = self.begun.split_off(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_taken_twice(counters in prop::collection::vec(0..200_u64, 0..300)) {
            let mut seen = BTreeSet::new();
            let mut window = Counters::default();
            for counter in counters {
                match window.judge(counter, 1) {
                    Verdict::New(_) => {
                        prop_assert!(seen.insert(counter));
                        window.begin(counter, 1);
                        window.done(counter, 1);
                        prop_assert_eq!(window.judge(counter, 1), Verdict::Seen);
                        prop_assert_eq!(window.judge(counter, 2), Verdict::Spent);
                    }
                    Verdict::Seen => prop_assert!(seen.contains(&counter)),
                    Verdict::Spent => {
                        prop_assert!(seen.contains(&counter) || counter + WINDOW <= window.highest());
                    }
                }
                prop_assert_eq!(Some(&window.highest()), seen.last());
            }
        }
    }

    #[test]
    fn what_was_begun_before_a_crash_keeps_its_time() {
        let mut window = Counters::default();
        assert_eq!(window.begin(7, 1234), 1234);
        assert_eq!(window.begin(8, 1234), 1235);
        let json = serde_json::to_vec(&window).unwrap();
        let mut window: Counters = serde_json::from_slice(&json).unwrap();
        assert_eq!(window.judge(7, 1), Verdict::New(Some(1234)));
        window.done(7, 1);
        assert_eq!(window.judge(7, 1), Verdict::Seen);
        window.done(u64::MAX, 1);
        assert_eq!(window.judge(7, 1), Verdict::Spent);
    }
}
