//! Windows: what was measured in a span of time, by the readings' own times.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{Statistic, WindowRule};
use crate::intake::reading::{Position, Reading};
use crate::intake::time;

/// Runs of sequence numbers that a window remembers at most. A stream with more gaps than that in one window has its
/// earliest runs joined, so that a repeat there would not be counted, and neither would a late reading in the gap.
const MAX_RUNS: usize = 20_000;

/// A set of numbers, kept as runs of neighbours.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// Adds a number; false if it was there.
    fn add(&mut self, number: u64) -> bool {
        let mut first = number;
        let mut last = number;
        if let Some((&start, &end)) = self.0.range(..=number).next_back() {
            if end >= number {
                return false;
            }
            if end + 1 == number {
                first = start;
            }
        }
        if let Some(next) = number.checked_add(1)
            && let Some(end) = self.0.remove(&next)
        {
            last = end;
        }
        self.0.insert(first, last);
        if self.0.len() > MAX_RUNS {
            let mut starts = self.0.keys().copied();
            if let (Some(one), Some(two)) = (starts.next(), starts.next())
                && let Some(end) = self.0.remove(&two)
            {
                self.0.insert(one, end);
            }
        }
        true
    }
}

/// Where and when an extreme value was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Extreme {
    number: f64,
    value: Value,
    sequence: u64,
    at: u64,
    time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
}

impl Extreme {
    fn of(reading: &Reading, value: &Value, number: f64) -> Self {
        Self {
            number,
            value: value.clone(),
            sequence: reading.sequence,
            at: reading.at,
            time: reading.time.clone(),
            position: reading.position.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Series {
    count: u64,
    sum: f64,
    min: Extreme,
    max: Extreme,
    of: Vec<Statistic>,
    extremes: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    seen: Runs,
    series: BTreeMap<String, Series>,
    labels: BTreeMap<String, String>,
}

/// The windows of one length in one stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Windows {
    /// The latest time that any reading had.
    latest: u64,
    /// When the last reading arrived, by this machine's clock.
    arrived: u64,
    lateness: u64,
    open: BTreeMap<u64, Window>,
}

/// What became of a reading's values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// They are in their window.
    Yes,
    /// The window has them already.
    Repeated,
    /// The window is closed.
    TooLate,
}

#[expect(clippy::cast_precision_loss, reason = "a window does not have 2^53 values")]
fn mean(series: &Series) -> f64 {
    let mean = series.sum / series.count as f64;
    // Six places are beyond what any sensor knows, and hide what binary fractions add.
    (mean * 1e6).round() / 1e6
}

impl Windows {
    fn is_closed(&self, start: u64, length: u64) -> bool {
        start.saturating_add(length).saturating_add(self.lateness) <= self.latest
    }

    /// Counts the values of a reading that are numbers.
    pub(crate) fn count(
        &mut self,
        length: u64,
        reading: &Reading,
        values: &[(&String, &Value, f64, &WindowRule)],
        arrived: u64,
    ) -> Counted {
        let lateness = values.iter().map(|(.., rule)| millis(rule.lateness)).max();
        self.lateness = lateness.unwrap_or_default();
        self.arrived = arrived;
        let start = reading.at - reading.at % length;
        if self.is_closed(start, length) {
            return Counted::TooLate;
        }
        let window = self.open.entry(start).or_default();
        if !window.seen.add(reading.sequence) {
            return Counted::Repeated;
        }
        if window.labels.is_empty() {
            window.labels.clone_from(&reading.labels);
        }
        for (name, value, number, rule) in values {
            let this = || Extreme::of(reading, value, *number);
            let series = window.series.entry((*name).clone()).or_insert_with(|| Series {
                count: 0,
                sum: 0.0,
                min: this(),
                max: this(),
                of: rule.of.clone(),
                extremes: rule.extremes,
            });
            series.count += 1;
            series.sum += number;
            // Of equal extremes the earliest counts, in whatever order they arrive.
            if (*number, reading.at) < (series.min.number, series.min.at) {
                series.min = this();
            }
            if *number > series.max.number || (*number >= series.max.number && reading.at < series.max.at) {
                series.max = this();
            }
        }
        self.latest = self.latest.max(reading.at);
        Counted::Yes
    }

    /// Takes out the windows that no reading can get into any more.
    pub(crate) fn close(&mut self, length: u64, source: &str, stream: &str) -> Vec<Reading> {
        let closed: Vec<u64> = self
            .open
            .keys()
            .copied()
            .filter(|start| self.is_closed(*start, length))
            .collect();
        closed
            .into_iter()
            .filter_map(|start| Some((start, self.open.remove(&start)?)))
            .flat_map(|(start, window)| window.told(start, length, source, stream))
            .collect()
    }

    /// Closes what is open when nothing has arrived for as long as a window lasts.
    pub(crate) fn close_idle(&mut self, length: u64, now: u64) -> bool {
        let patience = length.saturating_add(self.lateness);
        if self.open.is_empty() || now < self.arrived.saturating_add(patience) {
            return false;
        }
        if let Some((start, _)) = self.open.last_key_value() {
            self.latest = self.latest.max(start.saturating_add(patience));
        }
        true
    }
}

pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `1h`, `90s` and so on: the length in a stream's name.
fn length_name(length: u64) -> String {
    let text = humantime::format_duration(std::time::Duration::from_millis(length)).to_string();
    text.replace(' ', "")
}

impl Window {
    /// The summary, and the extremes where they are wanted. Streams of their own, because a reading's place in its
    /// stream identifies it, and the ledger may have the original with other values.
    fn told(self, start: u64, length: u64, source: &str, stream: &str) -> Vec<Reading> {
        let origin = Some(stream.to_owned());
        let stream = format!("{stream}.{}", length_name(length));
        let mut summary = Reading {
            source: source.to_owned(),
            stream: stream.clone(),
            origin: origin.clone(),
            sequence: start,
            at: start,
            time: time::format(start),
            position: None,
            values: BTreeMap::new(),
            labels: self.labels.clone(),
            sealed: None,
        };
        let mut extremes: BTreeMap<u64, Reading> = BTreeMap::new();
        for (name, series) in self.series {
            for statistic in &series.of {
                let (suffix, value) = match statistic {
                    Statistic::Min => ("min", series.min.value.clone()),
                    Statistic::Max => ("max", series.max.value.clone()),
                    Statistic::Mean => ("mean", Value::from(mean(&series))),
                    Statistic::Count => ("count", Value::from(series.count)),
                };
                summary.values.insert(format!("{name}.{suffix}"), value);
            }
            if series.extremes {
                for extreme in [series.min, series.max] {
                    let reading = extremes.entry(extreme.sequence).or_insert_with(|| Reading {
                        source: source.to_owned(),
                        stream: format!("{stream}.extremes"),
                        origin: origin.clone(),
                        sequence: extreme.sequence,
                        at: extreme.at,
                        time: extreme.time,
                        position: extreme.position,
                        values: BTreeMap::new(),
                        labels: self.labels.clone(),
                        sealed: None,
                    });
                    reading.values.insert(name.clone(), extreme.value);
                }
            }
        }
        std::iter::once(summary).chain(extremes.into_values()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_a_set(numbers in prop::collection::vec(0..60_u64, 0..200)) {
            let mut runs = Runs::default();
            let mut set = std::collections::BTreeSet::new();
            for number in numbers {
                prop_assert_eq!(runs.add(number), set.insert(number));
            }
            let members: Vec<u64> = runs.0.iter().flat_map(|(a, b)| *a..=*b).collect();
            prop_assert_eq!(members, set.into_iter().collect::<Vec<_>>());
            // Neighbours are joined.
            let ends: Vec<(u64, u64)> = runs.0.iter().map(|(a, b)| (*a, *b)).collect();
            prop_assert!(ends.windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }
    }

    #[test]
    fn runs_are_bounded() {
        let mut runs = Runs::default();
        for n in 0..(MAX_RUNS as u64 + 10) {
            runs.add(n * 2);
        }
        assert_eq!(runs.0.len(), MAX_RUNS);
        assert!(runs.add(u64::MAX));
        assert!(!runs.add(u64::MAX));
    }
}
