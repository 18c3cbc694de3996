//! Who goes next: by priority; of one, live data, then attempts to be repeated, then backlog; order per source.
//!
//! A queue holds runs of consecutive numbers, so a backlog of millions costs next to nothing. What is taken out of the
//! buffer otherwise (dropped, expired) stays in the queues as a hole and is stepped over.

use std::collections::VecDeque;

use super::request::Priority;

/// The newest waiting requests of a target and priority are its live data; older ones are its backlog.
pub(crate) const LIVE: u64 = 256;
/// One turn in so many goes to those that are not the first in line, each in its turn, so that nothing starves.
const FAIR_TURN: u32 = 8;
/// Queues of a priority: live data, attempts to be repeated, backlog.
const COLUMNS: usize = 3;
/// Queues of a target.
const QUEUES: usize = COLUMNS * Priority::ALL.len();

/// A queue of numbers.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: VecDeque<(u64, u64)>,
    count: u64,
}

impl Runs {
    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    pub(crate) fn push_back(&mut self, number: u64) {
        self.count += 1;
        match self.runs.back_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => self.runs.push_back((number, 1)),
        }
    }

    pub(crate) fn push_front(&mut self, number: u64) {
        self.count += 1;
        match self.runs.front_mut() {
            Some((first, count)) if number + 1 == *first => {
                *first = number;
                *count += 1;
            }
            _ => self.runs.push_front((number, 1)),
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<u64> {
        let (first, count) = self.runs.front_mut()?;
        let number = *first;
        *first += 1;
        *count -= 1;
        if *count == 0 {
            self.runs.pop_front();
        }
        self.count -= 1;
        Some(number)
    }
}

/// The waiting requests of one target.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    /// By priority, the most urgent first.
    queues: [[Runs; COLUMNS]; Priority::ALL.len()],
    turn: u32,
    /// The queue that had the last turn of those in the back.
    fair: usize,
}

fn row(priority: Priority) -> usize {
    match priority {
        Priority::Critical => 0,
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 3,
    }
}

/// One of the queues of a target.
pub(crate) type Rank = (usize, usize);

impl Ranks {
    pub(crate) fn len(&self) -> u64 {
        self.queues.iter().flatten().map(Runs::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A new request waits.
    pub(crate) fn push(&mut self, priority: Priority, number: u64) {
        if let Some([live, _, backlog]) = self.queues.get_mut(row(priority)) {
            live.push_back(number);
            if live.len() > LIVE
                && let Some(old) = live.pop_front()
            {
                backlog.push_back(old);
            }
        }
    }

    /// A request that was taken waits again, at the head of its priority.
    pub(crate) fn push_first(&mut self, priority: Priority, number: u64) {
        if let Some([live, ..]) = self.queues.get_mut(row(priority)) {
            live.push_front(number);
        }
    }

    /// A request that has failed waits for its next attempt.
    pub(crate) fn push_again(&mut self, priority: Priority, number: u64) {
        if let Some([_, again, _]) = self.queues.get_mut(row(priority)) {
            again.push_back(number);
        }
    }

    /// The queue whose turn it is.
    pub(crate) fn next_rank(&mut self) -> Option<Rank> {
        self.turn = self.turn.wrapping_add(1);
        let rank = |place: usize| (place / COLUMNS, place % COLUMNS);
        let is_filled = |place: &usize| {
            let (row, column) = rank(*place);
            let runs = self.queues.get(row).and_then(|columns| columns.get(column));
            runs.is_some_and(|runs| runs.len() > 0)
        };
        let first = (0..QUEUES).find(is_filled)?;
        if !self.turn.is_multiple_of(FAIR_TURN) {
            return Some(rank(first));
        }
        // From the back to the front, and from the back again.
        let last = self.fair;
        let mut behind = (first + 1..last).rev().chain((last.max(first + 1)..QUEUES).rev());
        let place = behind.find(is_filled).unwrap_or(first);
        self.fair = place;
        Some(rank(place))
    }

    pub(crate) fn pop(&mut self, rank: Rank) -> Option<u64> {
        self.queues.get_mut(rank.0)?.get_mut(rank.1)?.pop_front()
    }

    pub(crate) fn put_back(&mut self, rank: Rank, number: u64) {
        if let Some(runs) = self
            .queues
            .get_mut(rank.0)
            .and_then(|columns| columns.get_mut(rank.1))
        {
            runs.push_front(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(ranks: &mut Ranks) -> Vec<u64> {
        std::iter::from_fn(|| {
            let rank = ranks.next_rank()?;
            ranks.pop(rank)
        })
        .collect()
    }

    #[test]
    fn the_urgent_go_first_and_nothing_starves() {
        let mut ranks = Ranks::default();
        for n in 0..10 {
            ranks.push(Priority::Low, n);
            ranks.push(Priority::Critical, 100 + n);
        }
        let order = drain(&mut ranks);
        assert_eq!(order[..7], [100, 101, 102, 103, 104, 105, 106]);
        assert_eq!(order[7], 0, "the eighth turn is for the last in line");
        assert_eq!(order.len(), 20);
    }

    #[test]
    fn each_queue_in_the_back_has_its_turn() {
        let mut ranks = Ranks::default();
        for n in 0..LIVE + 100 {
            ranks.push(Priority::Normal, n);
            ranks.push(Priority::Low, 10_000 + n);
        }
        // Live data come in as fast as they go out.
        let mut taken = Vec::new();
        for n in 0..64 {
            let rank = ranks.next_rank().unwrap();
            taken.push(ranks.pop(rank).unwrap());
            ranks.push(Priority::Normal, 1000 + n);
        }
        let of = |numbers: std::ops::Range<u64>| taken.iter().filter(|n| numbers.contains(n)).count();
        assert!(of(0..100) >= 2, "the backlog moves: {taken:?}");
        assert!(of(10_000..10_100) >= 2, "and the backlog of the lower priority");
        assert!(of(10_100..20_000) >= 2, "and its live data");
    }

    #[test]
    fn every_queue_is_reached() {
        let mut ranks = Ranks::default();
        for (place, priority) in (0..).zip(Priority::ALL) {
            ranks.push_again(priority, place);
            for n in 0..LIVE + 1 {
                ranks.push(priority, 1000 * (place + 1) + n);
            }
        }
        let all = usize::try_from((LIVE + 2) * Priority::ALL.len() as u64).unwrap();
        assert_eq!(drain(&mut ranks).len(), all);
    }

    #[test]
    fn live_data_go_before_backlog() {
        let mut ranks = Ranks::default();
        for n in 0..LIVE + 100 {
            ranks.push(Priority::Normal, n);
        }
        let order = drain(&mut ranks);
        assert_eq!(order[0], 100, "the oldest of the live data");
        let backlog: Vec<u64> = order.iter().copied().filter(|n| *n < 100).collect();
        assert_eq!(
            backlog,
            (0..100).collect::<Vec<_>>(),
            "the backlog keeps its order"
        );
    }

    proptest! {
        #[test]
        fn runs_are_a_queue(steps in proptest::collection::vec((0_u8..3, 0_u64..30), 0..200)) {
            let (mut runs, mut plain) = (Runs::default(), VecDeque::new());
            for (step, number) in steps {
                match step {
                    0 => { runs.push_back(number); plain.push_back(number); }
                    1 => { runs.push_front(number); plain.push_front(number); }
                    _ => prop_assert_eq!(runs.pop_front(), plain.pop_front()),
                }
                prop_assert_eq!(runs.len(), plain.len() as u64);
            }
        }
    }
}
