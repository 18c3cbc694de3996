//! The metrics of one node.
//!
//! Label values come from a fixed or committed set (channels that are joined, chaincodes that are defined, codes of an
//! enum), never from free text of a client: each new value is memory that is never given back.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::core::Desc;
use prometheus::proto::MetricFamily;
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
};

use crate::process::Process;

/// Upper ends of the buckets of durations, in seconds: those that Fabric uses, and finer ones for what takes less here.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// How often something happened, told apart by labels. Clones count together.
#[derive(Debug, Clone)]
pub struct Counter(IntCounterVec);

/// How long something took, told apart by labels, as a histogram in seconds. Clones count together.
#[derive(Debug, Clone)]
pub struct Durations(HistogramVec);

/// The values of one series at the moment: label values in the order of the label names, and the number.
pub type Sample = (Vec<String>, f64);

/// A definition is constant text, so a wrong one is found by the first test that makes the metric.
#[expect(
    clippy::expect_used,
    reason = "names and labels are constants of the program, not input"
)]
fn defined<T>(made: Result<T, prometheus::Error>) -> T {
    made.expect("metric names and labels are well-formed")
}

impl Counter {
    /// A counter at nought. `name` and `labels` are identifiers.
    ///
    /// # Panics
    /// They are not: a mistake in the program.
    pub fn new(name: &'static str, help: &'static str, labels: &[&'static str]) -> Self {
        let counter = Self(defined(IntCounterVec::new(Opts::new(name, help), labels)));
        if labels.is_empty() {
            counter.add(&[], 0);
        }
        counter
    }

    /// Counts one. `labels` are values in the order of the label names; a wrong number of them counts nothing.
    pub fn count(&self, labels: &[&str]) {
        self.add(labels, 1);
    }

    /// Counts `by`.
    pub fn add(&self, labels: &[&str], by: u64) {
        if let Ok(series) = self.0.get_metric_with_label_values(labels) {
            series.inc_by(by);
        }
    }

    /// What was counted so far.
    pub fn value(&self, labels: &[&str]) -> u64 {
        self.0.get_metric_with_label_values(labels).map_or(0, |s| s.get())
    }
}

impl Durations {
    /// A histogram without observations. `name` and `labels` are identifiers.
    ///
    /// # Panics
    /// They are not: a mistake in the program.
    pub fn new(name: &'static str, help: &'static str, labels: &[&'static str]) -> Self {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        Self(defined(HistogramVec::new(options, labels)))
    }

    /// Takes one duration. `labels` are values in the order of the label names; a wrong number of them is not taken.
    pub fn observe(&self, labels: &[&str], took: Duration) {
        if let Ok(series) = self.0.get_metric_with_label_values(labels) {
            series.observe(took.as_secs_f64());
        }
    }

    /// How many durations were taken so far.
    pub fn taken(&self, labels: &[&str]) -> u64 {
        self.0
            .get_metric_with_label_values(labels)
            .map_or(0, |s| s.get_sample_count())
    }
}

mod sealed {
    /// What can be registered.
    pub trait Metric {
        /// The collector behind it.
        fn collector(&self) -> Box<dyn prometheus::core::Collector>;
    }

    impl Metric for super::Counter {
        fn collector(&self) -> Box<dyn prometheus::core::Collector> {
            Box::new(self.0.clone())
        }
    }

    impl Metric for super::Durations {
        fn collector(&self) -> Box<dyn prometheus::core::Collector> {
            Box::new(self.0.clone())
        }
    }
}

/// Reads values when they are asked for.
struct Read<V, F> {
    family: V,
    /// Sets the values of the family.
    set: F,
    /// One reader at a time: the family is emptied and filled.
    reading: Mutex<()>,
}

impl<V: Collector, F: Fn(&V) + Send + Sync> Collector for Read<V, F> {
    fn desc(&self) -> Vec<&Desc> {
        self.family.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _one = self.reading.lock();
        (self.set)(&self.family);
        self.family.collect()
    }
}

/// All metrics of one node.
#[derive(Debug, Clone)]
pub struct Metrics(Registry);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Those of the process alone.
    pub fn new() -> Self {
        let metrics = Self(Registry::new());
        Process::register(&metrics);
        metrics
    }

    /// Adds counters or durations that their owner keeps.
    pub fn register(&self, metric: &impl sealed::Metric) {
        self.add(metric.collector());
    }

    /// Adds a gauge, whose series are read at each scrape.
    ///
    /// # Panics
    /// `name` or `labels` are no identifiers: a mistake in the program.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
        read: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        let family = defined(GaugeVec::new(Opts::new(name, help), labels));
        self.add(Box::new(Read {
            family,
            set: move |family: &GaugeVec| {
                family.reset();
                for (labels, value) in read() {
                    if let Ok(series) = family.get_metric_with_label_values(&labels) {
                        series.set(value);
                    }
                }
            },
            reading: Mutex::new(()),
        }));
    }

    /// Adds a counter that is kept elsewhere: its series are read at each scrape.
    ///
    /// # Panics
    /// `name` or `labels` are no identifiers: a mistake in the program.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
        read: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        let family = defined(CounterVec::new(Opts::new(name, help), labels));
        self.add(Box::new(Read {
            family,
            set: move |family: &CounterVec| {
                family.reset();
                for (labels, value) in read() {
                    if let Ok(series) = family.get_metric_with_label_values(&labels) {
                        series.inc_by(value.max(0.0));
                    }
                }
            },
            reading: Mutex::new(()),
        }));
    }

    fn add(&self, collector: Box<dyn Collector>) {
        if let Err(why) = self.0.register(collector) {
            // A node without one of its metrics still works.
            tracing::error!(%why, "a metric cannot be registered and will be missing");
        }
    }

    /// Everything in the text format of Prometheus; families sorted by name.
    pub fn text(&self) -> String {
        // A family without a series has nothing to say, and the encoder refuses it.
        let families: Vec<MetricFamily> = self
            .0
            .gather()
            .into_iter()
            .filter(|f| !f.get_metric().is_empty())
            .collect();
        let mut text = String::new();
        if let Err(why) = TextEncoder::new().encode_utf8(&families, &mut text) {
            tracing::error!(%why, "metrics cannot be written");
        }
        text
    }

    /// Content type of [`Metrics::text`].
    pub fn content_type() -> String {
        TextEncoder::new().format_type().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_in_the_text_format() {
        let counter = Counter::new("proposals_received", "Proposals.", &["channel", "chaincode"]);
        let metrics = Metrics::new();
        metrics.register(&counter);
        assert!(!metrics.text().contains("proposals_received"), "no series yet");
        counter.count(&["trade", "rfq"]);
        counter.add(&["trade", "rfq"], 2);
        counter.count(&["other", "a\"b\\c\nd"]);
        counter.count(&["too few"]);
        let text = metrics.text();
        assert!(text.contains("# HELP proposals_received Proposals.\n# TYPE proposals_received counter\n"));
        assert!(
            text.contains("\nproposals_received{chaincode=\"rfq\",channel=\"trade\"} 3\n"),
            "{text}"
        );
        assert!(
            text.contains("\nproposals_received{chaincode=\"a\\\"b\\\\c\\nd\",channel=\"other\"} 1\n"),
            "{text}"
        );
        assert_eq!(text.matches("\nproposals_received{").count(), 2);
        assert_eq!(counter.value(&["trade", "rfq"]), 3);
    }

    #[test]
    fn counters_without_labels_start_at_nought() {
        let metrics = Metrics::new();
        metrics.register(&Counter::new("seen", "Seen.", &[]));
        assert!(metrics.text().contains("\nseen 0\n"));
    }

    #[test]
    fn durations_are_histograms_in_seconds() {
        let durations = Durations::new("call_duration", "Calls.", &["chaincode"]);
        let metrics = Metrics::new();
        metrics.register(&durations);
        durations.observe(&["rfq"], Duration::from_millis(250));
        durations.observe(&["rfq"], Duration::from_millis(500));
        let text = metrics.text();
        for line in [
            "# TYPE call_duration histogram",
            "call_duration_bucket{chaincode=\"rfq\",le=\"0.1\"} 0",
            "call_duration_bucket{chaincode=\"rfq\",le=\"0.25\"} 1",
            "call_duration_bucket{chaincode=\"rfq\",le=\"+Inf\"} 2",
            "call_duration_sum{chaincode=\"rfq\"} 0.75",
            "call_duration_count{chaincode=\"rfq\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        assert_eq!(durations.taken(&["rfq"]), 2);
    }

    #[test]
    fn gauges_are_read_at_each_scrape_and_forget() {
        let height = std::sync::Arc::new(Mutex::new(Some(7.0)));
        let metrics = Metrics::new();
        let read = std::sync::Arc::clone(&height);
        metrics.gauge("height", "Height.", &["channel"], move || {
            read.lock()
                .iter()
                .map(|h| (vec!["trade".to_owned()], *h))
                .collect()
        });
        assert!(
            metrics
                .text()
                .contains("# TYPE height gauge\nheight{channel=\"trade\"} 7\n")
        );
        *height.lock() = Some(8.0);
        assert!(metrics.text().contains("\nheight{channel=\"trade\"} 8\n"));
        *height.lock() = None;
        assert!(!metrics.text().contains("height{"));
    }

    #[test]
    fn counters_kept_elsewhere() {
        let metrics = Metrics::new();
        metrics.counter("sent", "Sent.", &[], || vec![(Vec::new(), 5.0)]);
        for _ in 0..2 {
            assert!(metrics.text().contains("# TYPE sent counter\nsent 5\n"));
        }
    }
}
