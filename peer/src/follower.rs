//! Committed blocks one after the other, from disk as long as they are there and live from then on.

use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::channel::{ChannelError, PeerChannel};
use crate::committed::CommittedBlock;

/// Why a listener gets no more blocks.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The block files cannot be read.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A block below the channel's height is not there.
    #[error("block {number} of channel {channel} is not in the block files")]
    Gone {
        /// The channel.
        channel: String,
        /// The block.
        number: u64,
    },
    /// The channel is being closed.
    #[error("channel {0} is being closed")]
    Closed(String),
}

/// Hands out the blocks of a channel in order.
#[derive(Debug)]
pub struct BlockFollower {
    channel: Arc<PeerChannel>,
    next: u64,
    commits: Receiver<Arc<CommittedBlock>>,
}

impl BlockFollower {
    /// Begins with block `next`, which may be in the future.
    pub fn new(channel: Arc<PeerChannel>, next: u64) -> Self {
        // Subscribed before the height is looked at, so that no block can fall in between.
        let commits = channel.commits();
        Self {
            channel,
            next,
            commits,
        }
    }

    /// The block that comes next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Whether the next block is there already.
    pub fn is_ready(&self) -> bool {
        self.next < self.channel.height()
    }

    /// Waits for the next block. Giving up waiting loses nothing.
    ///
    /// # Errors
    /// The block files cannot be read, or the channel is being closed.
    pub async fn next(&mut self) -> Result<Arc<CommittedBlock>, FollowError> {
        loop {
            match self.commits.try_recv() {
                Ok(block) if block.number == self.next => return Ok(self.hand_out(block)),
                // An old one, read from disk before; or one beyond a gap that the disk fills.
                Ok(block) if block.number < self.next => continue,
                _ => {}
            }
            if self.is_ready() {
                let block = self.read().await?;
                return Ok(self.hand_out(block));
            }
            match self.commits.recv().await {
                Ok(block) if block.number == self.next => return Ok(self.hand_out(block)),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(FollowError::Closed(self.channel.id().to_owned())),
            }
        }
    }

    fn hand_out(&mut self, block: Arc<CommittedBlock>) -> Arc<CommittedBlock> {
        self.next = self.next.saturating_add(1);
        block
    }

    async fn read(&self) -> Result<Arc<CommittedBlock>, FollowError> {
        let (channel, number) = (Arc::clone(&self.channel), self.next);
        let read = tokio::task::spawn_blocking(move || channel.committed_block(number)).await;
        let closed = |_| FollowError::Closed(self.channel.id().to_owned());
        read.map_err(closed)??.ok_or_else(|| FollowError::Gone {
            channel: self.channel.id().to_owned(),
            number: self.next,
        })
    }
}
