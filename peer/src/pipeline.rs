//! Blocks on their way into a channel: the signatures of block N+1 are checked while block N commits.

use std::sync::{Arc, mpsc};
use std::thread;

use parking_lot::Mutex;
use selvedge_proto::common;

use crate::channel::PeerChannel;
use crate::validation::{PreparedBlock, ProcessError};

/// Blocks that wait to be prepared.
const WAITING: usize = 4;
/// Blocks that are prepared and wait to be committed.
const AHEAD: usize = 2;

/// Two threads and two bounded queues; whoever submits too fast waits. Dropping it lets the blocks that are in it finish.
#[derive(Debug)]
pub struct CommitPipeline {
    name: String,
    input: tokio::sync::mpsc::Sender<common::Block>,
    failure: Arc<Mutex<Option<ProcessError>>>,
    committer: Option<tokio::task::JoinHandle<()>>,
}

/// The pipeline stands still.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A block could not be processed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A thread is gone, or could not be started.
    #[error("the commit pipeline of channel {channel} has stopped: {why}")]
    Stopped {
        /// The channel.
        channel: String,
        /// What is known.
        why: String,
    },
}

impl CommitPipeline {
    /// Starts the threads. The first block submitted must be the channel's next.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(channel: Arc<PeerChannel>) -> Result<Self, PipelineError> {
        let (input, mut waiting) = tokio::sync::mpsc::channel::<common::Block>(WAITING);
        let (ahead, prepared) = mpsc::sync_channel::<PreparedBlock>(AHEAD);
        let failure = Arc::new(Mutex::new(None));
        let fail = {
            let (failure, channel) = (Arc::clone(&failure), Arc::clone(&channel));
            move |error: ProcessError| {
                // Told at once: the next block, which would meet the failure, can be long in coming.
                tracing::error!(channel = channel.id(), %error, "a block cannot be committed");
                channel.note_trouble(format!("a block cannot be committed: {error}"));
                failure.lock().get_or_insert(error);
            }
        };
        let preparing = {
            let (channel, fail) = (Arc::clone(&channel), fail.clone());
            move || {
                while let Some(block) = waiting.blocking_recv() {
                    match channel.prepare(block) {
                        Ok(block) => {
                            if ahead.send(block).is_err() {
                                return;
                            }
                        }
                        Err(error) => return fail(error),
                    }
                }
            }
        };
        let name = channel.id().to_owned();
        thread::Builder::new()
            .name(format!("prepare {name}"))
            .spawn(preparing)
            .map_err(|e| PipelineError::Stopped {
                channel: name.clone(),
                why: e.to_string(),
            })?;
        let committer = tokio::task::spawn_blocking(move || {
            for block in prepared {
                if let Err(error) = channel.commit(block) {
                    return fail(error);
                }
            }
        });
        Ok(Self {
            name,
            input,
            failure,
            committer: Some(committer),
        })
    }

    /// Hands in the next block; waits while the queues are full. Commits are announced by [`PeerChannel::commits`].
    ///
    /// # Errors
    /// An earlier block could not be processed. The pipeline is of no use then.
    pub async fn submit(&self, block: common::Block) -> Result<(), PipelineError> {
        if self.input.send(block).await.is_ok() && self.failure.lock().is_none() {
            return Ok(());
        }
        Err(self.stopped())
    }

    /// Waits until everything handed in is committed, and ends the threads.
    ///
    /// # Errors
    /// A block could not be processed.
    pub async fn finish(mut self) -> Result<(), PipelineError> {
        let committer = self.committer.take();
        let (closed, _) = tokio::sync::mpsc::channel(1);
        drop(std::mem::replace(&mut self.input, closed));
        if let Some(committer) = committer
            && let Err(error) = committer.await
        {
            return Err(PipelineError::Stopped {
                channel: self.name.clone(),
                why: error.to_string(),
            });
        }
        match self.failure.lock().take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn stopped(&self) -> PipelineError {
        match self.failure.lock().take() {
            Some(error) => error.into(),
            None => PipelineError::Stopped {
                channel: self.name.clone(),
                why: "a block before this one failed".into(),
            },
        }
    }
}
