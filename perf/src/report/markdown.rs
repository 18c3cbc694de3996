//! The report as Markdown. Writing to a String does not fail.

use std::fmt::Write;

use super::{Report, RunReport};
use crate::matrix::{Figure, Target};

fn per(total: f64, count: u64) -> f64 {
    total / count.max(1) as f64
}

/// A value with as many digits as tell something.
fn short(value: f64) -> String {
    let text = match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

impl Report {
    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{}, {} cores, {} MiB, Linux {}, load before {}; {} P-256 checks a second on each core when all check; network and \
             load on the same cores.\n\n",
            machine.cpu,
            machine.cores,
            machine.memory_mib,
            machine.kernel,
            machine.load_before,
            machine.checks_per_core
        );
        self.targets(&mut text);
        self.summary(&mut text);
        self.by_process(&mut text);
        for run in self.runs.iter().filter(|r| !r.failures.is_empty()) {
            let _ = writeln!(text, "\nFailures of {}:", run.run.name);
            for (why, count) in &run.failures {
                let _ = writeln!(text, "- {count} x {why}");
            }
        }
        text
    }

    fn targets(&self, text: &mut String) {
        if self.runs.iter().all(|run| run.run.targets.is_empty()) {
            return;
        }
        text.push_str("| what | Fabric | target | aim | measured | met |\n|---|---:|---:|---:|---:|---|\n");
        for run in &self.runs {
            for target in &run.run.targets {
                target_row(text, run, target);
            }
        }
        text.push('\n');
    }

    fn summary(&self, text: &mut String) {
        text.push_str(
            "| run | tx | tx/s | CPU ms/tx | p50 ms | p95 ms | p99 ms | endorse | check | submit | commit | tx/block | failed |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        for run in &self.runs {
            let failed: u64 = run.failures.values().sum();
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {failed} |",
                run.run.name,
                run.transactions,
                run.tps,
                run.cpu_ms,
                run.latency.p50,
                run.latency.p95,
                run.latency.p99,
                run.endorse.p50,
                run.check.p50,
                run.submit.p50,
                run.commit.p50,
                run.block_transactions,
            );
        }
    }

    fn by_process(&self, text: &mut String) {
        text.push_str("\nThe stages are medians in ms. By process:\n\n");
        text.push_str(
            "| run | process | CPU ms/tx | of it kernel | peak MiB | disk bytes/tx | sent bytes/tx |\n\
             |---|---|---:|---:|---:|---:|---:|\n",
        );
        for run in &self.runs {
            for process in &run.processes {
                let sent = process.wire_bytes.map_or_else(
                    || "-".to_owned(),
                    |bytes| format!("{:.0}", per(bytes as f64, run.transactions)),
                );
                let _ = writeln!(
                    text,
                    "| {} | {} | {:.3} | {:.3} | {:.1} | {:.0} | {sent} |",
                    run.run.name,
                    process.name,
                    per(process.cpu_seconds * 1000.0, run.transactions),
                    per(process.system_seconds * 1000.0, run.transactions),
                    process.peak_kib as f64 / 1024.0,
                    per(process.disk_bytes as f64, run.transactions),
                );
            }
        }
    }

    /// The runs that an earlier report has too, side by side.
    pub(crate) fn compared_with(&self, old: &Self) -> String {
        let mut text = String::from(
            "| run | tx/s before | now | | CPU ms/tx before | now | | p50 ms before | now |\n\
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

fn target_row(text: &mut String, run: &RunReport, target: &Target) {
    let optional = |value: Option<f64>| value.map(short).unwrap_or_default();
    let (figure, measured): (Figure, f64) = (target.what, run.figure(target.what));
    let (bound, met) = if figure.more_is_better() {
        ("at least", measured >= target.target)
    } else {
        ("at most", measured <= target.target)
    };
    let _ = writeln!(
        text,
        "| {}: {} | {} | {bound} {} | {} | {} | {} |",
        run.run.name,
        figure.label(),
        optional(target.fabric),
        short(target.target),
        optional(target.aim),
        short(measured),
        if met { "yes" } else { "**no**" },
    );
}
