//! A limit on how much each source may send: a bucket of tokens that fills up again with time.
//!
//! Times are milliseconds of a clock that the caller hands in.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Sources with a bucket at most; beyond it the full buckets, which say nothing, are forgotten.
const MAX_BUCKETS: usize = 10_000;

/// How much a source may send.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Readings or transactions a second, on the average.
    pub per_second: f64,
    /// So many at once, after a pause.
    pub burst: u32,
}

impl RateLimit {
    /// Checks that the limit lets something pass.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.per_second.is_finite() && self.per_second > 0.0 && self.burst > 0 {
            return Ok(());
        }
        Err("a rate needs 'per_second' and 'burst' greater than 0".to_owned())
    }
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: u64,
}

/// The buckets of all sources.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    buckets: HashMap<String, Bucket>,
}

impl Rates {
    /// Takes `count` at `now`. If that is too many, nothing is taken and the milliseconds to wait are told. A count beyond
    /// the burst passes when the bucket is full, and leaves it so much in debt.
    pub(crate) fn take(&mut self, source: &str, limit: RateLimit, count: u32, now: u64) -> Result<(), u64> {
        let burst = f64::from(limit.burst);
        if self.buckets.len() >= MAX_BUCKETS && !self.buckets.contains_key(source) {
            self.buckets.retain(|_, bucket| {
                let filled = bucket.tokens + seconds(now.saturating_sub(bucket.at)) * limit.per_second;
                filled < burst
            });
        }
        let bucket = self.buckets.entry(source.to_owned()).or_insert(Bucket {
            tokens: burst,
            at: now,
        });
        let filled = bucket.tokens + seconds(now.saturating_sub(bucket.at)) * limit.per_second;
        bucket.tokens = filled.min(burst);
        bucket.at = bucket.at.max(now);
        let needed = f64::from(count).min(burst);
        if bucket.tokens < needed {
            return Err(millis((needed - bucket.tokens) / limit.per_second));
        }
        bucket.tokens -= f64::from(count);
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "pauses are far below 2^53 milliseconds"
)]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).ceil().clamp(1.0, 86_400_000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit {
        per_second: 10.0,
        burst: 5,
    };

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut rates = Rates::default();
        for _ in 0..5 {
            rates.take("a", LIMIT, 1, 0).unwrap();
        }
        assert_eq!(rates.take("a", LIMIT, 1, 0), Err(100));
        rates.take("b", LIMIT, 5, 0).unwrap();
        rates.take("a", LIMIT, 1, 100).unwrap();
        assert!(rates.take("a", LIMIT, 1, 150).is_err());
        rates.take("a", LIMIT, 5, 10_000).unwrap();
    }

    #[test]
    fn a_long_list_waits_for_a_full_bucket_and_then_counts_in_full() {
        let mut rates = Rates::default();
        rates.take("a", LIMIT, 20, 0).unwrap();
        let wait = rates.take("a", LIMIT, 1, 0).unwrap_err();
        assert_eq!(wait, 1600);
        rates.take("a", LIMIT, 1, wait).unwrap();
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut rates = Rates::default();
        rates.take("a", LIMIT, 5, 1000).unwrap();
        assert!(rates.take("a", LIMIT, 1, 0).is_err());
        assert!(rates.take("a", LIMIT, 1, 1000).is_err());
    }

    #[test]
    fn buckets_are_bounded() {
        let mut rates = Rates::default();
        for n in 0..u64::try_from(MAX_BUCKETS).unwrap() + 100 {
            rates.take(&n.to_string(), LIMIT, 1, n * 1000).unwrap();
        }
        assert!(rates.buckets.len() <= MAX_BUCKETS);
    }
}
