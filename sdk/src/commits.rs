//! Commits as one peer announces them: one stream a channel, shared by all who wait. A stream that breaks goes on with the
//! block after the last one seen, at that peer or another, so that nobody who waits misses a commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use selvedge_msp::SigningIdentity;
use selvedge_proto::protos;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use crate::deliver::{FilteredBlocks, Seek, SeekStart};
use crate::error::Error;
use crate::peer::PeerClient;
use crate::transaction::CommitStatus;

/// Blocks that may come while a listener looks away.
const WAITING_BLOCKS: usize = 1024;

/// A stream that nobody has listened to for this long ends with the next block: opening one for every transaction would cost
/// more than the transaction, keeping it for ever would cost the bytes of all blocks.
const LINGER: Duration = Duration::from_secs(10);

/// The open streams by channel.
pub(crate) type Feeds = tokio::sync::Mutex<HashMap<String, Arc<Feed>>>;

#[derive(Debug, Clone)]
enum News {
    Block(Arc<protos::FilteredBlock>),
    /// The stream is gone: where it came from and why.
    Ended(Arc<str>),
}

/// Pauses between attempts to go on with a broken stream; after the last one the listeners are told.
const RESUME_PAUSES: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
    Duration::from_secs(10),
];

/// How to go on with a broken stream.
#[derive(Debug)]
pub(crate) struct Resume {
    pub(crate) peers: Vec<PeerClient>,
    pub(crate) identity: SigningIdentity,
    pub(crate) channel: String,
}

impl Resume {
    /// A stream from this block on, of the first peer that gives one.
    async fn from(&self, block: u64) -> Option<FilteredBlocks> {
        for pause in RESUME_PAUSES {
            tokio::time::sleep(pause).await;
            for peer in &self.peers {
                let seek = Seek::from(SeekStart::Block(block));
                if let Ok(blocks) = peer.filtered_blocks(&self.identity, &self.channel, seek).await {
                    return Some(blocks);
                }
            }
        }
        None
    }
}

/// One stream of filtered blocks, handed to every listener.
#[derive(Debug)]
pub(crate) struct Feed {
    news: broadcast::Sender<News>,
    ended: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Feed {
    pub(crate) fn start(mut blocks: FilteredBlocks, resume: Resume) -> Arc<Self> {
        let (news, _) = broadcast::channel(WAITING_BLOCKS);
        let ended = Arc::new(AtomicBool::new(false));
        let (sender, end) = (news.clone(), Arc::clone(&ended));
        let reading = tokio::spawn(async move {
            let mut alone_since: Option<Instant> = None;
            let mut next = None;
            // Streams in a row that broke before they gave a block.
            let mut broken = 0;
            let why = loop {
                match blocks.next().await {
                    Ok(Some(block)) => {
                        next = Some(block.number + 1);
                        broken = 0;
                        if sender.send(News::Block(Arc::new(block))).is_ok() {
                            alone_since = None;
                        } else if alone_since.get_or_insert_with(Instant::now).elapsed() >= LINGER {
                            break "nobody listened".to_owned();
                        }
                    }
                    Ok(None) => break format!("{blocks:?}"),
                    Err(error) => {
                        let why = format!("{blocks:?}: {error}");
                        let Some(pause) = RESUME_PAUSES.get(broken) else {
                            break why;
                        };
                        broken += 1;
                        tokio::time::sleep(*pause).await;
                        let again = match next {
                            Some(next) if sender.receiver_count() > 0 => resume.from(next).await,
                            _ => None,
                        };
                        match again {
                            Some(stream) => blocks = stream,
                            None => break why,
                        }
                    }
                }
            };
            // In this order: who joins and does not see the mark is told.
            end.store(true, Ordering::SeqCst);
            drop(sender.send(News::Ended(why.into())));
        });
        Arc::new(Self {
            news,
            ended,
            task: reading.abort_handle(),
        })
    }

    /// A listener for all blocks from now on, unless the stream has ended.
    pub(crate) fn join(self: &Arc<Self>) -> Option<CommitListener> {
        let news = self.news.subscribe();
        if self.ended.load(Ordering::SeqCst) {
            return None;
        }
        Some(CommitListener {
            news,
            _feed: Arc::clone(self),
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the blocks of one peer for transactions.
#[derive(Debug)]
pub struct CommitListener {
    news: broadcast::Receiver<News>,
    // The stream lives as long as its listeners.
    _feed: Arc<Feed>,
}

impl CommitListener {
    /// Waits for the verdict on a transaction that was submitted after the listener was opened.
    ///
    /// # Errors
    /// The stream broke, or the limit passed.
    pub async fn wait(
        &mut self,
        transaction_id: &str,
        limit: Option<Duration>,
    ) -> Result<CommitStatus, Error> {
        let waiting = self.find(transaction_id);
        match limit {
            None => waiting.await,
            Some(limit) => tokio::time::timeout(limit, waiting)
                .await
                .map_err(|_| Error::CommitTimeout {
                    transaction_id: transaction_id.to_owned(),
                    waited_ms: limit.as_millis(),
                })?,
        }
    }

    async fn find(&mut self, transaction_id: &str) -> Result<CommitStatus, Error> {
        loop {
            let block = match self.news.recv().await {
                Ok(News::Block(block)) => block,
                Ok(News::Ended(from)) => {
                    return Err(Error::StreamEnded {
                        from: from.to_string(),
                    });
                }
                Err(away) => {
                    return Err(Error::StreamEnded {
                        from: format!("the listener for commits: {away}"),
                    });
                }
            };
            let found = block
                .filtered_transactions
                .iter()
                .find(|t| t.txid == transaction_id);
            if let Some(found) = found {
                let code = protos::TxValidationCode::try_from(found.tx_validation_code).map_err(|_| {
                    Error::malformed(
                        "peer",
                        format!("unknown validation code {}", found.tx_validation_code),
                    )
                })?;
                return Ok(CommitStatus {
                    transaction_id: transaction_id.to_owned(),
                    code,
                    block_number: block.number,
                });
            }
        }
    }
}
