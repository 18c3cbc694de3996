//! `selvedge-perf run`: every run of a matrix file, one network after the other.

use std::path::PathBuf;

use clap::Args;

use crate::error::PerfError;
use crate::load::Load;
use crate::machine::{self, Machine};
use crate::matrix::{self, Run};
use crate::network::{Network, NodeProcess, Tools};
use crate::report::{ProcessUse, Report, RunReport};

/// What to run, and where the report goes.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The matrix file, for example perf/matrix/quick.yaml.
    #[arg(long)]
    matrix: PathBuf,
    /// Only runs whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Also write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// A report written with --json before, to compare with.
    #[arg(long)]
    compare: Option<PathBuf>,
    /// The selvedge binary; SELVEDGE_BIN or the one beside this program if absent.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder with the compiled benchmark contract; SELVEDGE_CONTRACTS or where cargo puts it if absent.
    #[arg(long)]
    contracts: Option<PathBuf>,
}

/// Measures, and writes the report after each run.
pub(crate) async fn run(args: RunArgs) -> Result<(), PerfError> {
    let mut runs = matrix::read(&args.matrix)?;
    if let Some(only) = &args.only {
        runs.retain(|run| run.name.contains(only));
    }
    let old = args.compare.as_deref().map(Report::read).transpose()?;
    let tools = Tools::find(args.binary, args.contracts)?;
    let mut report = Report {
        machine: Machine::here(),
        runs: Vec::new(),
    };
    for (number, run) in (1..).zip(&runs) {
        eprintln!("[{number}/{}] {}", runs.len(), run.name);
        report.runs.push(measure(run, &tools).await?);
        // After every run: what has been measured is not lost when a later one fails.
        if let Some(path) = &args.json {
            report.write(path)?;
        }
    }
    println!("{}", report.markdown());
    if let Some(old) = old {
        println!("{}", report.compared_with(&old));
    }
    Ok(())
}

/// Uses of all processes: CPU and disk since they began, memory at its peak.
fn usage(network: &Network) -> Vec<ProcessUse> {
    let load = NodeProcess {
        name: "load".to_owned(),
        pid: std::process::id(),
    };
    let mut all = network.processes();
    all.push(load);
    all.into_iter()
        .map(|process| ProcessUse {
            cpu_seconds: machine::cpu_seconds(process.pid).unwrap_or(0.0),
            peak_kib: machine::resident_kib(process.pid).map_or(0, |(_, peak)| peak),
            disk_bytes: network.disk(&process.name),
            name: process.name,
        })
        .collect()
}

async fn measure(run: &Run, tools: &Tools) -> Result<RunReport, PerfError> {
    let network = Network::start(run, tools)?;
    let load = Load::prepare(run, &network).await?;
    if run.warmup > 0 {
        load.phase("warm-up", run.warmup, run.limit()).await;
    }
    let before = usage(&network);
    let outcome = load.phase("measuring", run.transactions, run.limit()).await;
    let mut used = usage(&network);
    for (used, before) in used.iter_mut().zip(before) {
        used.cpu_seconds -= before.cpu_seconds;
        used.disk_bytes = used.disk_bytes.saturating_sub(before.disk_bytes);
    }
    Ok(RunReport::new(run, outcome, used))
}
