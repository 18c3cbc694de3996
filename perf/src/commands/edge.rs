//! `selvedge-perf edge`: how small the edge gateway is, and what a reading costs it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::edge::{Bench, Figure, cost, footprint};
use crate::error::PerfError;
use crate::machine::Machine;
use crate::network::Tools;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Bytes of the stripped programs.
    Size,
    /// Memory and disk with many readings in the buffer, without a network.
    Buffer,
    /// Four weeks at one reading a second: bytes on disk, and how long the start after a kill takes.
    Recovery,
    /// Bytes written to flash for a reading, from its arrival to its commit.
    Flash,
    /// Instructions of the processor for a transaction, in both modes, with 1 to 3 endorsers (needs valgrind).
    Instructions,
}

const ALL: [Part; 5] = [
    Part::Size,
    Part::Buffer,
    Part::Recovery,
    Part::Flash,
    Part::Instructions,
];

#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    /// What to measure; everything if absent.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// The selvedge-edge binary, built with the profile `dist` (scripts/edge-arm.sh builds the others); the one beside
    /// this program if absent.
    #[arg(long)]
    edge: Option<PathBuf>,
    /// Further builds of selvedge-edge whose size counts, for example of scripts/edge-arm.sh.
    #[arg(long = "build", value_name = "FILE")]
    builds: Vec<PathBuf>,
    /// The selvedge binary; SELVEDGE_BIN or the one beside this program if absent.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder with the compiled benchmark contract; SELVEDGE_CONTRACTS or where cargo puts it if absent.
    #[arg(long)]
    contracts: Option<PathBuf>,
    /// Readings in the buffer when memory is measured.
    #[arg(long, default_value_t = 100_000)]
    readings: u64,
    /// Readings in the buffer when the start is measured: four weeks at one a second.
    #[arg(long, default_value_t = 2_400_000)]
    backlog: u64,
}

pub(crate) async fn edge(args: EdgeArgs) -> Result<(), PerfError> {
    let parts = if args.parts.is_empty() {
        ALL.to_vec()
    } else {
        args.parts
    };
    let bench = Bench::find(args.edge)?;
    let mut figures: Vec<Figure> = Vec::new();
    for part in parts {
        eprintln!("measuring: {part:?}");
        let more = match part {
            Part::Size => footprint::sizes(&bench, &args.builds)?,
            Part::Buffer => footprint::buffer(&bench, args.readings).await?,
            Part::Recovery => footprint::recovery(&bench, args.backlog).await?,
            Part::Flash => {
                let tools = Tools::find(args.binary.clone(), args.contracts.clone())?;
                cost::flash(&bench, &tools).await?
            }
            Part::Instructions => {
                let tools = Tools::find(args.binary.clone(), args.contracts.clone())?;
                cost::instructions(&bench, &tools).await?
            }
        };
        for figure in &more {
            eprintln!("  {}: {}", figure.what, figure.measured);
        }
        figures.extend(more);
    }
    let machine = Machine::here();
    println!("# Edge gateway\n\n{}, {} cores\n", machine.cpu, machine.cores);
    println!("| what | limit | measured | |\n|---|---|---|---|");
    for figure in figures {
        println!("{}", figure.row());
    }
    Ok(())
}
