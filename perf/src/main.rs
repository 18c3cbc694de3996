//! Benchmarks of whole networks: starts one for every run of a matrix, loads it through the official protocol, and says
//! how fast it was and what it used.
//!
//! ```text
//! selvedge-perf run --matrix perf/matrix/quick.yaml --json now.json --compare before.json
//! selvedge-perf ca --identities 100000
//! ```

mod access;
mod clients;
mod commands;
mod edge;
mod error;
mod latencies;
mod load;
mod machine;
mod matrix;
mod measure;
mod network;
mod ordering;
mod presigned;
mod progress;
mod reference;
mod report;

use std::pin::Pin;

use clap::{Parser, Subcommand};

use crate::error::PerfError;

/// Benchmarks of whole Selvedge networks.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure every run of a matrix file; the report goes to standard output as Markdown
    Run(commands::run::RunArgs),
    /// Measure the edge gateway: size, memory, flash, start, instructions for a transaction
    Edge(commands::edge::EdgeArgs),
    /// Measure a certificate authority with many identities; the report goes to standard output as Markdown
    Ca(commands::ca::CaArgs),
    /// Let Hyperledger Caliper (npm, unmodified) load a network
    Caliper(commands::caliper::CaliperArgs),
    /// One client process of a run; started by `run`
    #[command(hide = true)]
    Client,
}

async fn until_interrupted(work: impl Future<Output = Result<(), PerfError>>) -> Result<(), PerfError> {
    tokio::select! {
        result = work => result,
        // Leaving the other branch stops its network.
        _ = tokio::signal::ctrl_c() => Err(PerfError::Network("stopped by the user".to_owned())),
    }
}

fn run(command: Command) -> Result<(), PerfError> {
    let work: Pin<Box<dyn Future<Output = Result<(), PerfError>>>> = match command {
        // It starts its runtime itself, on the cores that it is bound to.
        Command::Client => return commands::client::run(),
        Command::Caliper(args) => Box::pin(commands::caliper::run(args)),
        Command::Run(args) => Box::pin(commands::run::run(args)),
        Command::Edge(args) => Box::pin(commands::edge::edge(args)),
        Command::Ca(args) => Box::pin(commands::ca::run(args)),
    };
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|e| PerfError::Network(format!("the system gives no threads: {e}")))?;
    runtime.block_on(until_interrupted(work))
}

fn main() -> std::process::ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("selvedge-perf: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
