//! `selvedge-perf client`: one client process; started by `run`, which talks to it over its standard input and output.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::clients::{Phase, Word};
use crate::error::PerfError;
use crate::load::{Load, Share};

fn say(word: &Word) {
    let mut out = std::io::stdout().lock();
    // When nobody listens any more, the end of the standard input ends the process.
    drop(serde_json::to_string(word).map(|text| writeln!(out, "{text}").and_then(|()| out.flush())));
}

/// Binds this process to a core of its own. On a machine with fewer cores they are shared in turns.
fn pin(client: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = rustix::thread::CpuSet::new();
    set.set(client % cores);
    if let Err(why) = rustix::thread::sched_setaffinity(None, &set) {
        eprintln!("selvedge-perf: client {client} cannot be bound to a core: {why}");
    }
}

/// Serves the phases that standard input asks for.
///
/// # Errors
/// Standard input does not say what the client is to do.
pub(crate) fn run() -> Result<(), PerfError> {
    let mut lines = std::io::stdin().lock().lines();
    let bad = |why: String| PerfError::Network(format!("a client process is started by `run` alone: {why}"));
    let first = lines
        .next()
        .ok_or_else(|| bad("its standard input is empty".to_owned()))?;
    let first = first.map_err(|e| bad(e.to_string()))?;
    let share: Share = serde_json::from_str(&first).map_err(|e| bad(e.to_string()))?;
    if share.run.pin {
        // Before the runtime's threads are started: they inherit it.
        pin(share.client);
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|e| bad(e.to_string()))?;
    let load = match runtime.block_on(Load::prepare(share)) {
        Ok(load) => Arc::new(load),
        Err(error) => {
            say(&Word::Failed(error.to_string()));
            return Ok(());
        }
    };
    say(&Word::Ready);
    for line in lines {
        let line = line.map_err(|e| bad(e.to_string()))?;
        let phase: Phase = serde_json::from_str(&line).map_err(|e| bad(e.to_string()))?;
        let limit = Duration::from_millis(phase.limit_ms);
        let load = Arc::clone(&load);
        // On a thread of the runtime: this one would have to be woken for every answer.
        let measuring =
            runtime.spawn(async move { load.phase(phase.count, limit, |p| say(&Word::Progress(p))).await });
        let outcome = runtime.block_on(measuring).map_err(|e| bad(e.to_string()))?;
        say(&Word::Done(Box::new(outcome)));
    }
    Ok(())
}
