//! The client processes of a run: this program started again, once for each.
//!
//! ```text
//! parent ── Share, then Phase, Phase ... ──► stdin  ┐
//!        ◄─ Ready, Progress ..., Done ────── stdout ┘ one line of JSON each
//! ```
//! A client ends when its standard input does.

use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use crate::access::Access;
use crate::error::PerfError;
use crate::load::{Outcome, PATIENCE, Progress, Share};
use crate::matrix::Run;

/// What a client is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// Transactions, of all clients.
    pub(crate) count: u64,
    /// It ends after so many milliseconds in any case.
    pub(crate) limit_ms: u64,
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// It is connected.
    Ready,
    /// How far it is.
    Progress(Progress),
    /// A phase is over.
    Done(Box<Outcome>),
    /// It cannot go on.
    Failed(String),
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// The running client processes. Dropping them ends them.
pub(crate) struct Clients(Vec<Process>);

fn line<T: Serialize>(value: &T) -> Result<String, PerfError> {
    serde_json::to_string(value)
        .map(|text| text + "\n")
        .map_err(|e| PerfError::Network(format!("cannot talk to a client process: {e}")))
}

fn broken(why: impl std::fmt::Display) -> PerfError {
    PerfError::Network(format!("a client process does not work: {why}"))
}

impl Process {
    async fn start(share: &Share) -> Result<Self, PerfError> {
        let program = std::env::current_exe().map_err(broken)?;
        let mut child = Command::new(program)
            .arg("client")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(broken)?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(broken("it has no standard input and output"));
        };
        input.write_all(line(share)?.as_bytes()).await.map_err(broken)?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output).lines(),
        })
    }

    async fn hear(&mut self) -> Result<Word, PerfError> {
        let text = self.output.next_line().await.map_err(broken)?;
        let text = text.ok_or_else(|| broken("it has ended"))?;
        match serde_json::from_str(&text).map_err(broken)? {
            Word::Failed(why) => Err(PerfError::Network(why)),
            word => Ok(word),
        }
    }

    async fn phase(
        &mut self,
        phase: Phase,
        place: usize,
        tell: mpsc::UnboundedSender<(usize, Progress)>,
    ) -> Result<Outcome, PerfError> {
        self.input
            .write_all(line(&phase)?.as_bytes())
            .await
            .map_err(broken)?;
        loop {
            match self.hear().await? {
                // Nobody listens any more only when another client has failed.
                Word::Progress(progress) => drop(tell.send((place, progress))),
                Word::Done(outcome) => return Ok(*outcome),
                word => return Err(broken(format!("unexpected {word:?}"))),
            }
        }
    }
}

impl Clients {
    /// Starts the client processes of a run and waits until all are connected.
    pub(crate) async fn start(run: &Run, access: &Access) -> Result<Self, PerfError> {
        let mut all = Vec::new();
        for client in 0..run.clients() {
            let share = Share {
                run: run.clone(),
                access: access.clone(),
                client,
            };
            all.push(Process::start(&share).await?);
        }
        for process in &mut all {
            match process.hear().await? {
                Word::Ready => {}
                word => return Err(broken(format!("unexpected {word:?}"))),
            }
        }
        Ok(Self(all))
    }

    /// Their process ids.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.0.iter().filter_map(|p| p.child.id()).collect()
    }

    /// Lets all of them run a phase together; `tell` hears how far they are, about once a second.
    pub(crate) async fn phase(
        &mut self,
        count: u64,
        limit: Duration,
        mut tell: impl FnMut(Progress),
    ) -> Result<Outcome, PerfError> {
        let phase = Phase {
            count,
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        };
        let mut states = vec![Progress::default(); self.0.len()];
        let (sender, mut heard) = mpsc::unbounded_channel();
        let running = self
            .0
            .iter_mut()
            .enumerate()
            .map(|(place, process)| process.phase(phase, place, sender.clone()));
        let outcomes = futures::future::try_join_all(running);
        drop(sender);
        tokio::pin!(outcomes);
        // A client gives up by itself; this one is for a client that hangs.
        let end = tokio::time::Instant::now() + limit + 2 * PATIENCE;
        let outcomes = loop {
            tokio::select! {
                outcomes = &mut outcomes => break outcomes?,
                Some((place, progress)) = heard.recv() => {
                    if let Some(state) = states.get_mut(place) {
                        *state = progress;
                    }
                    if place == 0 {
                        tell(Progress {
                            done: states.iter().map(|s| s.done).sum(),
                            failed: states.iter().map(|s| s.failed).sum(),
                        });
                    }
                }
                () = tokio::time::sleep_until(end) => return Err(broken("it has not ended its phase")),
            }
        };
        let mut sum = Outcome::default();
        for outcome in outcomes {
            sum.add(outcome);
        }
        Ok(sum)
    }
}
