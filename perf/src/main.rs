//! Benchmarks of whole networks: starts one for every run of a matrix, loads it through the official protocol, and says
//! how fast it was and what it used.
//!
//! ```text
//! selvedge-perf run --matrix perf/matrix/quick.yaml --json now.json --compare before.json
//! selvedge-perf ca --identities 100000
//! ```

mod commands;
mod edge;
mod error;
mod load;
mod machine;
mod matrix;
mod network;
mod report;

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
}

impl Command {
    async fn run(self) -> Result<(), PerfError> {
        match self {
            Self::Run(args) => commands::run::run(args).await,
            Self::Edge(args) => commands::edge::edge(args).await,
            Self::Ca(args) => commands::ca::run(args).await,
        }
    }
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let command = Cli::parse().command;
    let result = tokio::select! {
        result = command.run() => result,
        // Leaving the other branch stops its network.
        _ = tokio::signal::ctrl_c() => Err(PerfError::Network("stopped by the user".to_owned())),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("selvedge-perf: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
