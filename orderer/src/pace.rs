//! How long a batch waits for company while nothing is in flight.
//!
//! A block costs every orderer and peer about as much as two transactions do, whatever it holds. So where other envelopes
//! are to be expected, the next batch waits twice as long as the last ones took to be written. They are to be expected when
//! some came while a batch was in flight: whoever sent those did not wait for it. A client that submits one transaction
//! after the other never does that, and is never made to wait.

use std::time::Duration;

use tokio::time::Instant;

/// Envelopes that come during one flight, on average, from which on waiting is worth it.
const WORTH_WAITING: f64 = 0.25;
/// The wait in multiples of a flight.
const FLIGHTS: u32 = 2;
/// Longest wait. The channel's BatchTimeout holds besides.
const LONGEST: Duration = Duration::from_millis(50);
/// Weight of the last flight in the averages.
const WEIGHT: f64 = 0.2;

/// Watches the batches of one leader.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Since when something has been in flight.
    since: Option<Instant>,
    arrived: u32,
    /// Averages over the last flights.
    seconds: f64,
    company: f64,
}

impl Pace {
    /// A batch has been proposed.
    pub(crate) fn proposed(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// An envelope has come.
    pub(crate) fn arrived(&mut self) {
        if self.since.is_some() {
            self.arrived = self.arrived.saturating_add(1);
        }
    }

    /// Nothing is in flight any more.
    pub(crate) fn landed(&mut self, now: Instant) {
        let Some(since) = self.since.take() else { return };
        let mean = |old: f64, new: f64| old + WEIGHT * (new - old);
        self.seconds = mean(self.seconds, now.saturating_duration_since(since).as_secs_f64());
        self.company = mean(self.company, f64::from(std::mem::take(&mut self.arrived)));
    }

    /// How long a batch should wait from now on, if nothing is in flight; zero: not at all.
    pub(crate) fn wait(&self) -> Duration {
        if self.company < WORTH_WAITING {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(self.seconds)
            .saturating_mul(FLIGHTS)
            .min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fly(pace: &mut Pace, milliseconds: u64, arrivals: u32) {
        let now = Instant::now();
        pace.proposed(now);
        for _ in 0..arrivals {
            pace.arrived();
        }
        pace.landed(now + Duration::from_millis(milliseconds));
    }

    #[test]
    fn a_client_that_waits_for_each_answer_is_never_made_to_wait() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            fly(&mut pace, 2, 0);
            // Between two flights it submits the next one.
            pace.arrived();
            assert_eq!(pace.wait(), Duration::ZERO);
        }
    }

    #[test]
    fn under_load_a_batch_waits_as_long_as_two_are_written_and_no_longer_than_allowed() {
        let mut pace = Pace::default();
        for _ in 0..50 {
            fly(&mut pace, 3, 5);
        }
        let wait = pace.wait();
        assert!(
            wait > Duration::from_millis(5) && wait <= Duration::from_millis(6),
            "{wait:?}"
        );
        for _ in 0..50 {
            fly(&mut pace, 500, 5);
        }
        assert_eq!(pace.wait(), LONGEST);
    }

    #[test]
    fn when_the_load_ends_so_does_the_waiting() {
        let mut pace = Pace::default();
        for _ in 0..50 {
            fly(&mut pace, 3, 5);
        }
        let mut flights = 0;
        while !pace.wait().is_zero() {
            fly(&mut pace, 3, 0);
            flights += 1;
        }
        assert!(flights <= 20, "{flights}");
    }
}
