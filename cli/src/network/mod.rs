//! A whole network from one file: up, down, status, logs.

pub(crate) mod config;
pub(crate) mod crypto;
pub(crate) mod genesis;
pub(crate) mod layout;
pub(crate) mod material;
pub(crate) mod nodes;
pub(crate) mod process;
pub(crate) mod profile;
pub(crate) mod renew;
mod run;
mod status;
mod up;

use crate::args::{DownArgs, LogsArgs, NetworkCommand};
use crate::error::CliError;
use crate::network::process::NodeProcess;
use crate::session::Session;

pub(crate) use status::{chain_height, memory_report};
pub(crate) use up::{contracts_folder, restart, restart_without, start_node};

/// Runs a `selvedge network` command.
pub(crate) async fn run(command: NetworkCommand) -> Result<(), CliError> {
    match command {
        NetworkCommand::Up(args) => up::up(&args).await,
        NetworkCommand::Down(args) => down(&args),
        NetworkCommand::Renew(args) => renew::run(&args).await,
        NetworkCommand::Status(args) => status::status(&Session::open(&args.network)?).await,
        NetworkCommand::Logs(args) => logs(&args),
        NetworkCommand::Run(args) => run::run_all(&Session::open(&args.network)?).await,
    }
}

fn down(args: &DownArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let mut layouts: Vec<_> = nodes::all(&session)
        .into_iter()
        .map(|node| (node.id, node.layout))
        .collect();
    // Peers before orderers, so that no peer complains about orderers that leave.
    layouts.reverse();
    layouts.insert(
        0,
        (run::ALL_NODES.to_owned(), session.layout.node(run::ALL_NODES)),
    );
    for (id, layout) in layouts {
        if let Some(process) = NodeProcess::find(&layout) {
            let killed = process.stop();
            println!(
                "{id}: {}",
                if killed {
                    "killed, since it did not end within 10 s"
                } else {
                    "stopped"
                }
            );
        }
        // What cannot be removed was not there.
        drop(std::fs::remove_file(layout.pid()));
    }
    if args.delete {
        let root = session.layout.root();
        std::fs::remove_dir_all(root).map_err(|source| CliError::WriteFile {
            path: root.to_owned(),
            source,
        })?;
        println!("{}: deleted", root.display());
    }
    Ok(())
}

fn logs(args: &LogsArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let mut known: Vec<_> = nodes::all(&session)
        .into_iter()
        .map(|node| (node.id, node.layout))
        .collect();
    known.push((run::ALL_NODES.to_owned(), session.layout.node(run::ALL_NODES)));
    let wanted: Vec<_> = known
        .iter()
        .filter(|(id, _)| args.node.as_ref().is_none_or(|wanted| wanted == id))
        .collect();
    if wanted.is_empty() {
        let names: Vec<_> = known.iter().map(|(id, _)| id.as_str()).collect();
        return Err(CliError::said(format!(
            "there is no such node; this network has {}",
            names.join(", ")
        )));
    }
    for (id, layout) in wanted {
        let text = process::log_tail(layout, args.lines);
        if !text.is_empty() {
            println!("==> {id} ({})\n{text}", layout.log().display());
        }
    }
    Ok(())
}
