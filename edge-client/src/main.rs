//! The edge gateway as a program of its own, for small machines: the commands of `selvedge edge`, without the rest.
//!
//! ```text
//! selvedge-edge start --config edge.yaml        (the same as selvedge-edge --config edge.yaml)
//! selvedge-edge enroll | reenroll | doctor | diag | status
//! ```

mod heap;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser};
use selvedge_edge::EdgeCommand;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Threads that send and serve. The work is waiting for the disk and the network; each thread costs memory.
const WORKERS: usize = 2;

/// The edge gateway: keeps what devices report through any outage, and brings it to the ledger exactly once.
#[derive(Debug, Parser)]
#[command(name = "selvedge-edge", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<EdgeCommand>,
    #[command(flatten)]
    start: Start,
}

#[derive(Debug, Args)]
struct Start {
    /// Run the gateway with this configuration file (YAML), as `start` does.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Write log lines as JSON. What is logged is set by SELVEDGE_LOG (for example `info,selvedge_edge=debug`).
    #[arg(long, global = true)]
    json_log: bool,
}

fn stop_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(token)
}

fn fail(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("selvedge-edge: {why}");
    ExitCode::FAILURE
}

fn main() -> ExitCode {
    heap::keep_small();
    #[cfg(feature = "pkcs11")]
    selvedge_pkcs11::install();
    let cli = Cli::parse();
    let command = match (cli.command, cli.start.config) {
        (Some(command), _) => command,
        (None, Some(config)) => EdgeCommand::start(config),
        (None, None) => {
            // Nothing was asked for; a closed output does not matter.
            drop(Cli::command().print_help());
            return ExitCode::from(2);
        }
    };
    let log = if command.is_role() { "info" } else { "error" };
    selvedge_operations::init_log(cli.start.json_log, log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the async runtime: {error}")),
    };
    let keeps_running = command.is_role();
    let result = runtime.block_on(async {
        if keeps_running {
            tokio::spawn(selvedge_operations::keep_memory_small());
        }
        match stop_signal() {
            Ok(stop) => command
                .run(stop, selvedge_operations::process_log())
                .await
                .map_err(|e| e.to_string()),
            Err(error) => Err(format!("cannot listen for stop signals: {error}")),
        }
    });
    // Blocking tasks of a gateway that stops must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why),
    }
}
