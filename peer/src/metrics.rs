//! How often something was done and how long it took in all, in the exposition format of Prometheus.

use std::fmt::Write;
use std::time::Duration;

use parking_lot::Mutex;

/// Series that one metric keeps at most; what comes later is not counted.
const MAX_SERIES: usize = 1024;

#[derive(Debug)]
struct Series {
    labels: Vec<String>,
    sum: Duration,
    count: u64,
}

/// Durations of one kind, told apart by labels: a Prometheus summary without quantiles.
#[derive(Debug)]
pub struct Durations {
    name: &'static str,
    help: &'static str,
    label_names: &'static [&'static str],
    series: Mutex<Vec<Series>>,
}

impl Durations {
    /// A metric without observations. Label values are those of a fixed or committed set, never free text of a client.
    pub fn new(name: &'static str, help: &'static str, label_names: &'static [&'static str]) -> Self {
        Self {
            name,
            help,
            label_names,
            series: Mutex::default(),
        }
    }

    /// Counts one occurrence. `labels` are values in the order of the label names.
    pub fn observe(&self, labels: &[&str], took: Duration) {
        let mut series = self.series.lock();
        let known = series
            .iter_mut()
            .find(|s| s.labels.iter().map(String::as_str).eq(labels.iter().copied()));
        if let Some(known) = known {
            known.sum += took;
            known.count += 1;
        } else if series.len() < MAX_SERIES {
            series.push(Series {
                labels: labels.iter().map(|&l| l.to_owned()).collect(),
                sum: took,
                count: 1,
            });
        }
    }

    /// Appends all series, in seconds.
    pub fn render(&self, text: &mut String) {
        // Writing to a String does not fail; channel ids and chaincode names need no escaping (spec 02 §10).
        let _ = writeln!(text, "# HELP {} {}\n# TYPE {0} summary", self.name, self.help);
        for series in &*self.series.lock() {
            let labels: Vec<String> = self
                .label_names
                .iter()
                .zip(&series.labels)
                .map(|(name, value)| format!("{name}=\"{value}\""))
                .collect();
            let labels = labels.join(",");
            let _ = writeln!(
                text,
                "{}_sum{{{labels}}} {}\n{0}_count{{{labels}}} {}",
                self.name,
                series.sum.as_secs_f64(),
                series.count
            );
        }
    }
}

/// What a peer measures of its endorsing.
#[derive(Debug)]
pub struct ExecutionMetrics {
    /// A proposal from its arrival at the endorser to the signed answer; by channel and chaincode.
    pub proposals: Durations,
    /// One call of a contract in the wasm runtime, with the calls that it makes itself; by chaincode.
    pub executions: Durations,
}

impl Default for ExecutionMetrics {
    fn default() -> Self {
        Self {
            proposals: Durations::new(
                "endorser_proposal_duration",
                "Seconds from a proposal's arrival at the endorser to the signed answer.",
                &["channel", "chaincode"],
            ),
            executions: Durations::new(
                "chaincode_execute_duration",
                "Seconds that one call of a contract took in the wasm runtime.",
                &["chaincode"],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_add_up_by_labels() {
        let durations = Durations::new("call_duration", "Calls.", &["channel", "chaincode"]);
        durations.observe(&["trade", "rfq"], Duration::from_millis(250));
        durations.observe(&["trade", "rfq"], Duration::from_millis(500));
        durations.observe(&["other", "rfq"], Duration::from_millis(1));
        let mut text = String::new();
        durations.render(&mut text);
        let expected = "# HELP call_duration Calls.\n# TYPE call_duration summary\n\
            call_duration_sum{channel=\"trade\",chaincode=\"rfq\"} 0.75\n\
            call_duration_count{channel=\"trade\",chaincode=\"rfq\"} 2\n\
            call_duration_sum{channel=\"other\",chaincode=\"rfq\"} 0.001\n\
            call_duration_count{channel=\"other\",chaincode=\"rfq\"} 1\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let durations = Durations::new("d", "", &["l"]);
        for i in 0..=MAX_SERIES {
            durations.observe(&[&i.to_string()], Duration::ZERO);
        }
        assert_eq!(durations.series.lock().len(), MAX_SERIES);
    }
}
