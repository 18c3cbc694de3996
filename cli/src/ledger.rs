//! `selvedge ledger …`: chains without a network.

mod verify;

use std::path::{Path, PathBuf};

use crate::args::{LedgerCommand, LedgerReplayArgs};
use crate::error::{CliError, During};

/// Runs a `selvedge ledger` command.
pub(crate) fn run(command: LedgerCommand) -> Result<(), CliError> {
    match command {
        LedgerCommand::Replay(args) => replay(&args),
        LedgerCommand::Verify(args) => verify::verify(&args),
    }
}

fn replay(args: &LedgerReplayArgs) -> Result<(), CliError> {
    let work = scratch_folder()?;
    let result = replay_in(args, &work);
    // A scratch folder that stays behind does no harm.
    drop(std::fs::remove_dir_all(&work));
    result
}

fn scratch_folder() -> Result<PathBuf, CliError> {
    let path = std::env::temp_dir().join(format!("selvedge-replay-{}", std::process::id()));
    std::fs::create_dir_all(&path).map_err(|source| CliError::WriteFile {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, CliError> {
    serde_json::to_string_pretty(value).map_err(|e| CliError::said(format!("cannot print the verdicts: {e}")))
}

fn replay_in(args: &LedgerReplayArgs, work: &Path) -> Result<(), CliError> {
    let failed = || format!("cannot replay {}", args.blocks.display());
    let replayed = selvedge_peer::replay::replay_dir(&args.blocks, &work.join("channel")).during(failed)?;
    if let Some(path) = &args.state_out {
        let state = selvedge_peer::replay::state(&replayed.channel).during(failed)?;
        std::fs::write(path, json(&state)?).map_err(|source| CliError::WriteFile {
            path: path.clone(),
            source,
        })?;
    }
    println!("{}", json(&replayed.report)?);
    Ok(())
}
