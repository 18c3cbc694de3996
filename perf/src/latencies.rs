//! How long transactions took, stage by stage, in histograms: however many there are, they need little room, and those of
//! several client processes can be added up.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Digits that are kept of each duration.
const DIGITS: u8 = 3;

/// Durations of one stage, in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Durations(Histogram<u64>);

impl Default for Durations {
    fn default() -> Self {
        // Resizes itself; `new` fails for more than five digits alone.
        #[expect(
            clippy::expect_used,
            reason = "the number of digits is a constant that is allowed"
        )]
        Self(Histogram::new(DIGITS).expect("three digits are allowed"))
    }
}

impl Durations {
    fn record_n(&mut self, microseconds: u64, count: u64) {
        // The histogram grows with what is recorded; what no memory suffices for counts as the longest that it has.
        if self.0.record_n(microseconds, count).is_err() {
            self.0.saturating_record_n(microseconds, count);
        }
    }

    /// Adds one.
    pub(crate) fn record(&mut self, duration: Duration) {
        self.record_n(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), 1);
    }

    /// Adds those of another process.
    pub(crate) fn add(&mut self, other: &Self) {
        for value in other.0.iter_recorded() {
            self.record_n(value.value_iterated_to(), value.count_at_value());
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value that `percent` of them do not exceed, in milliseconds; 0 when there are none.
    pub(crate) fn at(&self, percent: f64) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        self.0.value_at_quantile(percent / 100.0) as f64 / 1000.0
    }
}

impl Serialize for Durations {
    /// As pairs of value and count.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.0
                .iter_recorded()
                .map(|v| (v.value_iterated_to(), v.count_at_value())),
        )
    }
}

impl<'de> Deserialize<'de> for Durations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs: Vec<(u64, u64)> = Vec::deserialize(deserializer)?;
        let mut durations = Self::default();
        for (value, count) in pairs {
            durations.record_n(value, count);
        }
        Ok(durations)
    }
}

/// The stages of the transactions that went well.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latencies {
    /// From the moment at which each was due to its commit.
    pub(crate) total: Durations,
    /// Until all endorsements were there.
    pub(crate) endorse: Durations,
    /// Until they were checked.
    pub(crate) check: Durations,
    /// Until an orderer had taken it.
    pub(crate) submit: Durations,
    /// Until its commit was known.
    pub(crate) commit: Durations,
}

impl Latencies {
    /// Adds those of another process.
    pub(crate) fn add(&mut self, other: &Self) {
        self.total.add(&other.total);
        self.endorse.add(&other.endorse);
        self.check.add(&other.check);
        self.submit.add(&other.submit);
        self.commit.add(&other.commit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(milliseconds: impl IntoIterator<Item = u64>) -> Durations {
        let mut durations = Durations::default();
        for ms in milliseconds {
            durations.record(Duration::from_millis(ms));
        }
        durations
    }

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= expected * 0.002
    }

    #[test]
    fn quantiles_are_good_to_three_digits() {
        let all = of(1..=200);
        assert!(near(all.at(50.0), 100.0) && near(all.at(99.0), 198.0) && near(all.at(100.0), 200.0));
        assert_eq!(Durations::default().at(50.0), 0.0);
    }

    #[test]
    fn those_of_two_processes_are_one_after_the_way_through_json() {
        let (low, high) = (of(1..=100), of(101..=200));
        let text = serde_json::to_string(&high).unwrap();
        let mut all = low;
        all.add(&serde_json::from_str(&text).unwrap());
        assert_eq!(all.count(), 200);
        assert!(near(all.at(50.0), 100.0) && near(all.at(99.0), 198.0));
    }
}
