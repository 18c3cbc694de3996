//! `selvedge-perf run`: every run of a matrix file, one network after the other.

use std::path::PathBuf;

use clap::Args;

use crate::error::PerfError;
use crate::machine::Machine;
use crate::matrix;
use crate::measure::measure;
use crate::network::Tools;
use crate::report::Report;

/// What to run, and where the report goes.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The matrix file, for example perf/matrix/quick.yaml; may be given several times.
    #[arg(long, required = true, num_args = 1..)]
    matrix: Vec<PathBuf>,
    /// Only runs whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Also write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also write the report as Markdown.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Also write plots (SVG) into this folder.
    #[arg(long)]
    plots: Option<PathBuf>,
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
///
/// # Errors
/// A file cannot be read or written, or a network does not work; what was measured before is written already.
pub(crate) async fn run(args: RunArgs) -> Result<(), PerfError> {
    let mut runs = Vec::new();
    for path in &args.matrix {
        runs.extend(matrix::read(path)?);
    }
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
        if let Some(path) = &args.markdown {
            std::fs::write(path, report.markdown()).map_err(PerfError::file(path))?;
        }
    }
    if let Some(folder) = &args.plots {
        let names = report.write_plots(folder)?;
        eprintln!("{} plots are in {}", names.len(), folder.display());
    }
    println!("{}", report.markdown());
    if let Some(old) = old {
        println!("{}", report.compared_with(&old));
    }
    Ok(())
}
