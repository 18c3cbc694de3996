//! What the runs brought: as data, as Markdown, and compared with an earlier report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::PerfError;
use crate::load::{Outcome, Sample};
use crate::machine::Machine;
use crate::matrix::Run;

/// Quantiles of a duration, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    fn of(samples: &[Sample], what: impl Fn(&Sample) -> Duration) -> Self {
        let mut all: Vec<Duration> = samples.iter().map(what).collect();
        all.sort_unstable();
        // Nearest rank.
        let at = |percent: usize| {
            let rank = (all.len() * percent).div_ceil(100).max(1) - 1;
            all.get(rank).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
        };
        Self {
            p50: at(50),
            p95: at(95),
            p99: at(99),
            max: at(100),
        }
    }
}

/// What one process used for the measured transactions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessUse {
    /// The node, or `load` for this program.
    pub(crate) name: String,
    /// CPU time in seconds.
    pub(crate) cpu_seconds: f64,
    /// Its largest resident memory so far, in KiB.
    pub(crate) peak_kib: u64,
    /// Growth of its data on disk, in bytes.
    pub(crate) disk_bytes: u64,
}

/// What one run brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunReport {
    /// What was run.
    pub(crate) run: Run,
    /// Transactions that went well.
    pub(crate) transactions: usize,
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
    /// Transactions of this run in a block, on average; 0 when nothing was submitted.
    pub(crate) block_transactions: f64,
    /// CPU time of all processes a transaction, in milliseconds.
    pub(crate) cpu_ms: f64,
    /// By process.
    pub(crate) processes: Vec<ProcessUse>,
}

impl RunReport {
    /// Sums up a measured phase.
    pub(crate) fn new(run: &Run, outcome: Outcome, processes: Vec<ProcessUse>) -> Self {
        let samples = &outcome.samples;
        let seconds = outcome.took.as_secs_f64();
        let blocks: BTreeSet<u64> = samples.iter().filter_map(|s| s.block).collect();
        let block_transactions = if blocks.is_empty() {
            0.0
        } else {
            samples.len() as f64 / blocks.len() as f64
        };
        let cpu: f64 = processes.iter().map(|p| p.cpu_seconds).sum();
        Self {
            run: run.clone(),
            transactions: samples.len(),
            seconds,
            tps: samples.len() as f64 / seconds.max(0.001),
            latency: Quantiles::of(samples, |s| s.total),
            endorse: Quantiles::of(samples, |s| s.endorse),
            check: Quantiles::of(samples, |s| s.check),
            submit: Quantiles::of(samples, |s| s.submit),
            commit: Quantiles::of(samples, |s| s.commit),
            block_transactions,
            cpu_ms: cpu * 1000.0 / samples.len().max(1) as f64,
            failures: outcome.failures,
            processes,
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

fn per(total: f64, count: usize) -> f64 {
    total / count.max(1) as f64
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

    /// As Markdown. Writing to a String does not fail.
    pub(crate) fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{}, {} cores, {} MiB, Linux {}, load before {}; network and load on the same cores.\n\n",
            machine.cpu, machine.cores, machine.memory_mib, machine.kernel, machine.load_before
        );
        text.push_str(
            "| run | tps | CPU ms/tx | p50 ms | p95 ms | p99 ms | endorse | submit | commit | tx/block | failed |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        for run in &self.runs {
            let failed: u64 = run.failures.values().sum();
            let _ = writeln!(
                text,
                "| {} | {:.0} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {failed} |",
                run.run.name,
                run.tps,
                run.cpu_ms,
                run.latency.p50,
                run.latency.p95,
                run.latency.p99,
                run.endorse.p50,
                run.submit.p50,
                run.commit.p50,
                run.block_transactions,
            );
        }
        text.push_str("\nThe stages are medians in ms. By process:\n\n");
        text.push_str("| run | process | CPU ms/tx | peak MiB | disk bytes/tx |\n|---|---|---:|---:|---:|\n");
        for run in &self.runs {
            for process in &run.processes {
                let _ = writeln!(
                    text,
                    "| {} | {} | {:.3} | {:.1} | {:.0} |",
                    run.run.name,
                    process.name,
                    per(process.cpu_seconds * 1000.0, run.transactions),
                    process.peak_kib as f64 / 1024.0,
                    per(process.disk_bytes as f64, run.transactions),
                );
            }
        }
        for run in self.runs.iter().filter(|r| !r.failures.is_empty()) {
            let _ = writeln!(text, "\nFailures of {}:", run.run.name);
            for (why, count) in &run.failures {
                let _ = writeln!(text, "- {count} x {why}");
            }
        }
        text
    }

    /// The runs that an earlier report has too, side by side.
    pub(crate) fn compared_with(&self, old: &Self) -> String {
        let mut text = String::from(
            "| run | tps before | now | | CPU ms/tx before | now | | p50 ms before | now |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        let change = |before: f64, now: f64| format!("{:+.0} %", (now / before.max(1e-9) - 1.0) * 100.0);
        for now in &self.runs {
            let Some(before) = old.runs.iter().find(|r| r.run.name == now.run.name) else {
                continue;
            };
            let _ = writeln!(
                text,
                "| {} | {:.0} | {:.0} | {} | {:.2} | {:.2} | {} | {:.1} | {:.1} |",
                now.run.name,
                before.tps,
                now.tps,
                change(before.tps, now.tps),
                before.cpu_ms,
                now.cpu_ms,
                change(before.cpu_ms, now.cpu_ms),
                before.latency.p50,
                now.latency.p50,
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: u64) -> Vec<Sample> {
        (1..=count)
            .map(|ms| Sample {
                total: Duration::from_millis(ms),
                endorse: Duration::ZERO,
                check: Duration::ZERO,
                submit: Duration::ZERO,
                commit: Duration::ZERO,
                block: Some(ms / 5),
            })
            .collect()
    }

    #[test]
    fn quantiles_by_nearest_rank() {
        let all = Quantiles::of(&samples(200), |s| s.total);
        assert_eq!((all.p50, all.p95, all.p99, all.max), (100.0, 190.0, 198.0, 200.0));
        assert_eq!(Quantiles::of(&[], |s| s.total), Quantiles::default());
    }

    #[test]
    fn a_report_survives_its_file_and_is_compared_by_name() {
        let outcome = Outcome {
            samples: samples(10),
            took: Duration::from_secs(2),
            ..Outcome::default()
        };
        let used = ProcessUse {
            name: "peer0".to_owned(),
            cpu_seconds: 0.02,
            peak_kib: 2048,
            disk_bytes: 100,
        };
        let run = Run {
            name: "one".to_owned(),
            ..Run::default()
        };
        let report = Report {
            machine: Machine::here(),
            runs: vec![RunReport::new(&run, outcome, vec![used])],
        };
        assert_eq!((report.runs[0].tps, report.runs[0].cpu_ms), (5.0, 2.0));
        let file = tempfile::NamedTempFile::new().unwrap();
        report.write(file.path()).unwrap();
        let again = Report::read(file.path()).unwrap();
        assert_eq!(again, report);
        assert!(again.compared_with(&report).contains("| one | 5 | 5 | +0 % |"));
        assert!(report.markdown().contains("| one | peer0 | 2.000 | 2.0 | 10 |"));
    }
}
