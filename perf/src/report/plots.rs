//! Which plots a report has.

use std::collections::BTreeSet;

use super::svg::{self, Bar, Line};
use super::{Report, RunReport};
use crate::matrix::Kind;

/// File name and content of each plot.
pub(super) fn all(report: &Report) -> Vec<(String, String)> {
    // Beside the start of a network everything else would vanish.
    let mut report = report.clone();
    report.runs.retain(|run| run.run.kind != Kind::Startup);
    let report = &report;
    let mut plots = vec![
        ("throughput.svg".to_owned(), throughput(report)),
        ("cpu.svg".to_owned(), cpu(report)),
        ("memory.svg".to_owned(), memory(report)),
    ];
    if report.runs.iter().any(|run| !run.curve.is_empty()) {
        plots.push(("latency.svg".to_owned(), latency(report)));
        plots.push(("stages.svg".to_owned(), stages(report)));
    }
    for (number, run) in (1..).zip(&report.runs) {
        // Of a short run there is nothing to see.
        if run.series.len() > 2 {
            plots.push((format!("run-{number}-memory.svg"), memory_over_time(run)));
            plots.push((format!("run-{number}-rate.svg"), rate_over_time(run)));
        }
    }
    plots
}

fn throughput(report: &Report) -> String {
    let bars: Vec<Bar> = report
        .runs
        .iter()
        .map(|run| Bar {
            label: run.run.name.clone(),
            values: vec![run.tps],
        })
        .collect();
    svg::bars("Throughput", "transactions a second", &["tx/s".to_owned()], &bars)
}

/// One part for each process of any run.
fn by_process(report: &Report, title: &str, unit: &str, value: impl Fn(&RunReport, usize) -> f64) -> String {
    let names: BTreeSet<&str> = report
        .runs
        .iter()
        .flat_map(|run| run.processes.iter().map(|p| p.name.as_str()))
        .collect();
    let parts: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let bars: Vec<Bar> = report
        .runs
        .iter()
        .map(|run| Bar {
            label: run.run.name.clone(),
            values: names
                .iter()
                .map(|name| {
                    let place = run.processes.iter().position(|p| p.name == *name);
                    place.map_or(0.0, |place| value(run, place))
                })
                .collect(),
        })
        .collect();
    svg::bars(title, unit, &parts, &bars)
}

fn cpu(report: &Report) -> String {
    by_process(
        report,
        "CPU time a transaction, by process",
        "ms",
        |run, place| {
            let process = run.processes.get(place).map_or(0.0, |p| p.cpu_seconds);
            process * 1000.0 / run.transactions.max(1) as f64
        },
    )
}

fn memory(report: &Report) -> String {
    by_process(report, "Peak memory, by process", "MiB", |run, place| {
        run.processes
            .get(place)
            .map_or(0.0, |p| p.peak_kib as f64 / 1024.0)
    })
}

fn stages(report: &Report) -> String {
    let parts = ["endorse", "check", "submit", "commit"].map(str::to_owned);
    let bars: Vec<Bar> = report
        .runs
        .iter()
        .filter(|run| !run.curve.is_empty())
        .map(|run| Bar {
            label: run.run.name.clone(),
            values: vec![run.endorse.p50, run.check.p50, run.submit.p50, run.commit.p50],
        })
        .collect();
    svg::bars("Latency by stage", "ms, medians", &parts, &bars)
}

/// Percentiles are drawn at -log10(1 - p), so that each further nine takes the same room.
fn latency(report: &Report) -> String {
    let place = |percent: f64| -((1.0 - percent / 100.0).max(1e-4)).log10();
    let lines: Vec<Line> = report
        .runs
        .iter()
        .filter(|run| !run.curve.is_empty())
        .map(|run| Line {
            label: run.run.name.clone(),
            points: run.curve.iter().map(|(p, ms)| (place(*p), *ms)).collect(),
        })
        .collect();
    let marks: Vec<(f64, String)> = [
        (0.0, "min"),
        (50.0, "50 %"),
        (90.0, "90 %"),
        (99.0, "99 %"),
        (99.9, "99.9 %"),
        (100.0, "max"),
    ]
    .map(|(p, name)| (place(p), name.to_owned()))
    .into();
    svg::lines("Latency", "ms", "of the transactions, at most", &marks, &lines)
}

fn memory_over_time(run: &RunReport) -> String {
    let names: BTreeSet<&String> = run.series.iter().flat_map(|m| m.memory_kib.keys()).collect();
    let lines: Vec<Line> = names
        .into_iter()
        .map(|name| Line {
            label: name.clone(),
            points: run
                .series
                .iter()
                .filter_map(|m| Some((m.seconds, *m.memory_kib.get(name)? as f64 / 1024.0)))
                .collect(),
        })
        .collect();
    let title = format!("Memory: {}", run.run.name);
    svg::lines(&title, "MiB", "seconds", &svg::round_marks(run.seconds), &lines)
}

fn rate_over_time(run: &RunReport) -> String {
    let points = run
        .series
        .windows(2)
        .filter_map(|pair| {
            let [a, b] = pair else { return None };
            let seconds = b.seconds - a.seconds;
            (seconds > 0.1).then(|| (b.seconds, b.done.saturating_sub(a.done) as f64 / seconds))
        })
        .collect();
    let line = Line {
        label: "done a second".to_owned(),
        points,
    };
    let title = format!("Rate: {}", run.run.name);
    svg::lines(
        &title,
        "a second",
        "seconds",
        &svg::round_marks(run.seconds),
        &[line],
    )
}
