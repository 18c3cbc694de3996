//! What the runs brought: as data, as Markdown, as plots, and compared with an earlier report.

mod markdown;
mod plots;
mod svg;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::PerfError;
use crate::latencies::Durations;
use crate::load::Outcome;
use crate::machine::Machine;
use crate::matrix::{Figure, Run};

/// The percentiles that a latency curve is drawn through.
const CURVE: [f64; 12] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0,
];

/// Quantiles of a duration, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    fn of(durations: &Durations) -> Self {
        Self {
            p50: durations.at(50.0),
            p95: durations.at(95.0),
            p99: durations.at(99.0),
            max: durations.at(100.0),
        }
    }
}

/// What one process used for the measured transactions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessUse {
    /// The node, or `load` for all client processes.
    pub(crate) name: String,
    /// CPU time in seconds.
    pub(crate) cpu_seconds: f64,
    /// The kernel's part of it.
    #[serde(default)]
    pub(crate) system_seconds: f64,
    /// Its largest resident memory so far, in KiB.
    pub(crate) peak_kib: u64,
    /// Growth of its data on disk, in bytes.
    pub(crate) disk_bytes: u64,
    /// Bytes that it sent over TCP, with TLS; none where they cannot be told.
    #[serde(default)]
    pub(crate) wire_bytes: Option<u64>,
}

/// How a run stood at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// Since the measurement began.
    pub(crate) seconds: f64,
    /// Transactions (of a commit-only run: blocks) until then.
    pub(crate) done: u64,
    /// Resident memory by process.
    pub(crate) memory_kib: BTreeMap<String, u64>,
}

/// What one run brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunReport {
    /// What was run.
    pub(crate) run: Run,
    /// Transactions that went well.
    pub(crate) transactions: u64,
    /// Reasons of those that did not, and how often.
    pub(crate) failures: BTreeMap<String, u64>,
    /// From the first start to the last answer, in seconds.
    pub(crate) seconds: f64,
    /// Transactions a second.
    pub(crate) tps: f64,
    /// From due to committed.
    pub(crate) latency: Quantiles,
    /// Until all endorsements were there.
    pub(crate) endorse: Quantiles,
    /// Checking them; in direct mode only.
    pub(crate) check: Quantiles,
    /// Until an orderer had taken it.
    pub(crate) submit: Quantiles,
    /// Until the commit was known.
    pub(crate) commit: Quantiles,
    /// The latency as pairs of percentile and milliseconds.
    #[serde(default)]
    pub(crate) curve: Vec<(f64, f64)>,
    /// Transactions of this run in a block, on average; 0 when nothing was submitted.
    pub(crate) block_transactions: f64,
    /// CPU time of all processes a transaction, in milliseconds.
    pub(crate) cpu_ms: f64,
    /// By process.
    pub(crate) processes: Vec<ProcessUse>,
    /// How long the network took to come up, in seconds; of a startup run, until the first transaction was committed.
    #[serde(default)]
    pub(crate) start_seconds: f64,
    /// How it went.
    #[serde(default)]
    pub(crate) series: Vec<Moment>,
}

impl RunReport {
    /// Sums up a measured phase.
    pub(crate) fn new(run: &Run, outcome: Outcome, processes: Vec<ProcessUse>, start: Duration) -> Self {
        let transactions = outcome.done();
        Self::of_count(run, transactions, outcome, processes, start)
    }

    /// Sums up a phase whose transactions were not measured one by one.
    pub(crate) fn of_count(
        run: &Run,
        transactions: u64,
        outcome: Outcome,
        processes: Vec<ProcessUse>,
        start: Duration,
    ) -> Self {
        let cpu: f64 = processes.iter().map(|p| p.cpu_seconds).sum();
        let latencies = &outcome.latencies;
        let curve = if latencies.total.count() == 0 {
            Vec::new()
        } else {
            CURVE.iter().map(|p| (*p, latencies.total.at(*p))).collect()
        };
        Self {
            run: run.clone(),
            transactions,
            seconds: outcome.seconds,
            tps: transactions as f64 / outcome.seconds.max(0.001),
            latency: Quantiles::of(&latencies.total),
            endorse: Quantiles::of(&latencies.endorse),
            check: Quantiles::of(&latencies.check),
            submit: Quantiles::of(&latencies.submit),
            commit: Quantiles::of(&latencies.commit),
            curve,
            block_transactions: match outcome.blocks.len() {
                0 => 0.0,
                blocks => transactions as f64 / blocks as f64,
            },
            cpu_ms: cpu * 1000.0 / transactions.max(1) as f64,
            failures: outcome.failures,
            processes,
            start_seconds: start.as_secs_f64(),
            series: Vec::new(),
        }
    }

    /// The same with how it went.
    pub(crate) fn with_series(mut self, series: Vec<Moment>) -> Self {
        self.series = series;
        self
    }

    /// A figure that targets are set for.
    pub(crate) fn figure(&self, figure: Figure) -> f64 {
        match figure {
            Figure::Tps => self.tps,
            Figure::CpuMs => self.cpu_ms,
            Figure::P50Ms => self.latency.p50,
            Figure::StartSeconds => self.start_seconds,
            Figure::MemoryMb => {
                let nodes = self.processes.iter().filter(|p| p.name != "load");
                nodes.map(|p| p.peak_kib as f64 * 1024.0 / 1e6).sum()
            }
        }
    }
}

/// Everything of one call of the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Where it ran.
    pub(crate) machine: Machine,
    /// The runs, in order.
    pub(crate) runs: Vec<RunReport>,
}

impl Report {
    /// Reads a report that was written as JSON.
    pub(crate) fn read(path: &Path) -> Result<Self, PerfError> {
        let text = std::fs::read_to_string(path).map_err(PerfError::file(path))?;
        serde_json::from_str(&text).map_err(|e| PerfError::BadFile {
            path: path.to_owned(),
            why: format!("it is not a report of this program: {e}"),
        })
    }

    /// Writes it as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<(), PerfError> {
        let text = serde_json::to_string_pretty(self).map_err(|e| PerfError::BadFile {
            path: path.to_owned(),
            why: e.to_string(),
        })?;
        std::fs::write(path, text + "\n").map_err(PerfError::file(path))
    }

    /// Writes the plots into a folder, as SVG; their file names.
    pub(crate) fn write_plots(&self, folder: &Path) -> Result<Vec<String>, PerfError> {
        std::fs::create_dir_all(folder).map_err(PerfError::file(folder))?;
        let mut names = Vec::new();
        for (name, svg) in plots::all(self) {
            let path = folder.join(&name);
            std::fs::write(&path, svg).map_err(PerfError::file(&path))?;
            names.push(name);
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Target;

    fn report(name: &str) -> Report {
        let mut outcome = Outcome {
            seconds: 2.0,
            blocks: (0..5).map(|n| (0, n)).collect(),
            ..Outcome::default()
        };
        for ms in 1..=10 {
            outcome.latencies.total.record(Duration::from_millis(ms));
        }
        outcome.fail("refused <here>");
        let used = ProcessUse {
            name: "peer0".to_owned(),
            cpu_seconds: 0.02,
            system_seconds: 0.005,
            peak_kib: 2048,
            disk_bytes: 100,
            wire_bytes: Some(1000),
        };
        let run = Run {
            name: name.to_owned(),
            targets: vec![
                Target {
                    what: Figure::Tps,
                    fabric: Some(4.0),
                    target: 6.0,
                    aim: Some(10.0),
                },
                Target {
                    what: Figure::CpuMs,
                    fabric: None,
                    target: 2.5,
                    aim: None,
                },
            ],
            ..Run::default()
        };
        let moment = |seconds, done| Moment {
            seconds,
            done,
            memory_kib: [("peer0".to_owned(), 2048)].into(),
        };
        let series = vec![moment(0.0, 0), moment(1.0, 4), moment(2.0, 10)];
        let run = RunReport::new(&run, outcome, vec![used], Duration::from_secs(3)).with_series(series);
        Report {
            machine: Machine::here(),
            runs: vec![run],
        }
    }

    #[test]
    fn a_report_survives_its_file_and_is_compared_by_name() {
        let report = report("one");
        assert_eq!((report.runs[0].tps, report.runs[0].cpu_ms), (5.0, 2.0));
        assert_eq!(report.runs[0].block_transactions, 2.0);
        let file = tempfile::NamedTempFile::new().unwrap();
        report.write(file.path()).unwrap();
        let again = Report::read(file.path()).unwrap();
        assert_eq!(again, report);
        assert!(again.compared_with(&report).contains("| one | 5 | 5 | +0 % |"));
        let text = report.markdown();
        assert!(
            text.contains("| one | peer0 | 2.000 | 0.500 | 2.0 | 10 | 100 |"),
            "{text}"
        );
        assert!(text.contains("refused <here>"));
    }

    #[test]
    fn targets_are_met_or_not() {
        let text = report("one").markdown();
        assert!(
            text.contains("| one: tx/s | 4 | at least 6 | 10 | 5 | **no** |"),
            "{text}"
        );
        assert!(
            text.contains("| one: CPU ms/tx |  | at most 2.5 |  | 2 | yes |"),
            "{text}"
        );
    }

    #[test]
    fn plots_are_well_formed_whatever_a_run_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let names = report("a < b & c").write_plots(folder.path()).unwrap();
        assert!(names.len() >= 4, "{names:?}");
        for name in names {
            let svg = std::fs::read_to_string(folder.path().join(&name)).unwrap();
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{name}");
            assert!(!svg.contains("NaN") && !svg.contains("a < b"), "{name}: {svg}");
        }
    }
}
