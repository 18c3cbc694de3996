//! Whether the network is there at all, and how long to wait until it is tried again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::State;

/// After so many failures in a row of a whole connection, requests are no longer tried all at once but one by one.
const PROBE_AFTER: u32 = 3;

/// How pauses grow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackOff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl BackOff {
    /// The pause after so many failures: doubled at each, with jitter, so that many gateways do not come back at the same
    /// moment.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let longest = doubled.min(self.longest);
        longest.mul_f64(rand::Rng::random_range(&mut rand::rng(), 0.5..=1.0))
    }
}

/// Failures of the whole connection in a row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    pub(crate) failures: u32,
    pub(crate) reason: String,
    resume: Option<Instant>,
    /// Since when nobody was reached.
    since: Option<Instant>,
    /// Seconds without network before this outage.
    offline_before: Duration,
}

impl Health {
    /// Nobody was reached. The many requests under way fail together: that is one failure. True if it is a new one.
    pub(crate) fn failed(&mut self, reason: &str, back_off: &BackOff, now: Instant) -> bool {
        if self.resume.is_some_and(|resume| now < resume) {
            return false;
        }
        self.failures += 1;
        self.since.get_or_insert(now);
        reason.clone_into(&mut self.reason);
        self.resume = Some(now + back_off.pause(self.failures));
        true
    }

    /// Somebody answered. True if nobody had before.
    pub(crate) fn works(&mut self, now: Instant) -> bool {
        let Some(since) = self.since.take() else {
            return false;
        };
        let offline_before = self.offline_before + now.saturating_duration_since(since);
        *self = Self {
            offline_before,
            ..Self::default()
        };
        true
    }

    /// When to go on.
    pub(crate) fn resume(&self) -> Option<Instant> {
        self.resume
    }

    /// How many transactions may be tried now while `out` are under way.
    pub(crate) fn room(&self, out: usize, most: usize) -> usize {
        let most = if self.failures >= PROBE_AFTER { 1 } else { most };
        most.saturating_sub(out)
    }

    /// Time without network since the start.
    pub(crate) fn offline(&self, now: Instant) -> Duration {
        let this = self
            .since
            .map(|since| now.saturating_duration_since(since))
            .unwrap_or_default();
        self.offline_before + this
    }
}

/// A channel and contract of which nothing is sent for a while.
#[derive(Debug)]
pub(crate) struct Hold {
    /// The stage that failed last.
    pub(crate) state: State,
    /// Times that all peers have failed in a row.
    failures: u32,
    /// Peers through which it failed, by index.
    tried: BTreeSet<usize>,
    until: Option<Instant>,
}

impl Default for Hold {
    fn default() -> Self {
        Self {
            state: State::EndorsementError,
            failures: 0,
            tried: BTreeSet::new(),
            until: None,
        }
    }
}

impl Hold {
    /// It failed through this peer; none stands for all. The pause grows once it has failed through all of them: until then
    /// the next one is tried soon. The many requests under way fail together: that is one failure.
    pub(crate) fn failed(
        &mut self,
        peer: Option<usize>,
        peers: usize,
        back_off: &BackOff,
        now: Instant,
    ) -> Duration {
        self.tried.extend(peer);
        if let Some(until) = self.until.filter(|until| now < *until) {
            return until - now;
        }
        if peer.is_none() || self.tried.len() >= peers {
            self.failures += 1;
        }
        let pause = back_off.pause(self.failures.max(1));
        self.until = Some(now + pause);
        pause
    }

    /// Whether all have failed once, and not again since.
    pub(crate) fn all_failed_once(&self) -> bool {
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACK_OFF: BackOff = BackOff {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(3),
    };

    #[test]
    fn pauses_double_up_to_the_longest() {
        for (failures, longest) in [(1, 100), (2, 200), (4, 800), (9, 3000), (u32::MAX, 3000)] {
            let pause = BACK_OFF.pause(failures).as_millis();
            assert!(pause <= longest && pause >= longest / 2, "{failures}: {pause}");
        }
    }

    #[tokio::test]
    async fn requests_that_fail_together_are_one_failure() {
        let mut health = Health::default();
        let start = Instant::now();
        assert!(health.failed("gone", &BACK_OFF, start));
        assert!(!health.failed("gone", &BACK_OFF, start));
        assert_eq!((health.failures, health.room(2, 9)), (1, 7));
        let later = start + Duration::from_secs(10);
        for n in 0..3 {
            health.failed("gone", &BACK_OFF, later + Duration::from_secs(10 * n));
        }
        assert_eq!(
            (health.room(0, 9), health.room(1, 9), health.room(5, 9)),
            (1, 0, 0)
        );
        assert!(health.works(start + Duration::from_secs(60)));
        assert!(!health.works(start + Duration::from_secs(61)));
        assert_eq!(
            health.offline(start + Duration::from_secs(99)),
            Duration::from_secs(60)
        );
        assert_eq!(health.room(0, 9), 9);
    }

    #[tokio::test]
    async fn a_hold_grows_when_all_peers_have_failed() {
        let mut hold = Hold::default();
        let mut now = Instant::now();
        let mut fail = |peer| {
            let pause = hold.failed(peer, 2, &BACK_OFF, now);
            // Those that fail at the same time change nothing.
            assert_eq!(hold.failed(Some(0), 2, &BACK_OFF, now), pause);
            now += pause;
            (hold.failures, pause <= BACK_OFF.first)
        };
        assert_eq!(fail(Some(0)), (0, true));
        assert_eq!(fail(Some(0)), (0, true));
        assert_eq!(fail(Some(1)), (1, true));
        assert_eq!(fail(Some(0)).0, 2);
        assert_eq!(fail(None).0, 3);
        assert_eq!(fail(None), (4, false), "at least four times the first");
    }
}
