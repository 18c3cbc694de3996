//! Commits as one peer announces them: one stream a channel, shared by all who wait. A stream that breaks goes on with the
//! block after the last one seen, at that peer or another, so that nobody who waits misses a commit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use selvedge_msp::SigningIdentity;
use selvedge_proto::protos;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::deliver::{FilteredBlocks, Seek, SeekStart};
use crate::error::{Call, Error, RpcError};
use crate::peer::PeerClient;
use crate::transaction::CommitStatus;

/// A stream that nobody has listened to for this long ends with the next block: opening one for every transaction would cost
/// more than the transaction, keeping it for ever would cost the bytes of all blocks.
const LINGER: Duration = Duration::from_secs(10);

/// Time for a peer to send the newest block, which it has: one that takes longer is not listened to.
const FIRST_BLOCK_WITHIN: Duration = Duration::from_secs(5);

/// What a listener is told: code and number of the block, or where the stream came from that is gone, and why.
type News = Result<(i32, u64), Arc<str>>;

/// Those who wait, by transaction. A transaction may be waited for more than once.
#[derive(Debug, Default)]
struct Waiting {
    listeners: HashMap<String, Vec<oneshot::Sender<News>>>,
    /// Why nobody will be told anything any more.
    ended: Option<Arc<str>>,
}

impl Waiting {
    /// Tells those who wait for transactions of this block; whether anybody waits for anything.
    fn block(&mut self, block: protos::FilteredBlock) -> bool {
        let anybody = !self.listeners.is_empty();
        if anybody {
            for transaction in block.filtered_transactions {
                for listener in self.listeners.remove(&transaction.txid).unwrap_or_default() {
                    // Who has stopped waiting needs no answer.
                    drop(listener.send(Ok((transaction.tx_validation_code, block.number))));
                }
            }
        }
        anybody
    }

    fn end(&mut self, why: String) {
        let why: Arc<str> = why.into();
        for listener in self.listeners.drain().flat_map(|(_, all)| all) {
            drop(listener.send(Err(Arc::clone(&why))));
        }
        self.ended = Some(why);
    }

    /// Forgets those who have stopped waiting for a transaction.
    fn forget(&mut self, transaction_id: &str) {
        if let Some(listeners) = self.listeners.get_mut(transaction_id) {
            listeners.retain(|listener| !listener.is_closed());
            if listeners.is_empty() {
                self.listeners.remove(transaction_id);
            }
        }
    }
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

/// Where the stream of a channel comes from.
#[derive(Debug)]
struct Source {
    peers: Vec<PeerClient>,
    identity: SigningIdentity,
    channel: String,
    /// Index of the peer that is tried next.
    next: usize,
}

impl Source {
    fn take_next(&mut self) -> Option<PeerClient> {
        let index = self.next % self.peers.len().max(1);
        self.next = index + 1;
        self.peers.get(index).cloned()
    }

    async fn open(&self, peer: &PeerClient, start: SeekStart) -> Result<FilteredBlocks, Error> {
        peer.filtered_blocks(&self.identity, &self.channel, Seek::from(start))
            .await
    }

    /// A stream of a peer from the newest block on, with the number of that block. A peer that is not in the channel opens a
    /// stream as well: what it sends on it tells.
    async fn begin(&self, peer: &PeerClient) -> Result<(u64, FilteredBlocks), Error> {
        let opening = async {
            let mut blocks = self.open(peer, SeekStart::Newest).await?;
            let newest = blocks.next().await?.ok_or_else(|| Error::StreamEnded {
                from: peer.address().to_owned(),
            })?;
            Ok((newest.number, blocks))
        };
        tokio::time::timeout(FIRST_BLOCK_WITHIN, opening)
            .await
            .unwrap_or_else(|_| {
                let late = RpcError::deadline(Call::Deliver, None, FIRST_BLOCK_WITHIN);
                Err(Error::Rpc(Box::new(late)))
            })
    }

    /// A stream from this block on, of the first peer after the last one that gives one, tried again for a while.
    async fn go_on(&mut self, block: u64) -> Option<FilteredBlocks> {
        for pause in RESUME_PAUSES {
            tokio::time::sleep(pause).await;
            for _ in 0..self.peers.len() {
                let peer = self.take_next()?;
                if let Ok(blocks) = self.open(&peer, SeekStart::Block(block)).await {
                    return Some(blocks);
                }
            }
        }
        None
    }
}

/// One stream of filtered blocks, for all who wait for a transaction of its channel.
#[derive(Debug)]
struct Feed {
    waiting: Arc<Mutex<Waiting>>,
    task: AbortHandle,
}

impl Feed {
    /// Tells what comes after block `seen`.
    fn start(seen: u64, mut blocks: FilteredBlocks, mut source: Source) -> Arc<Self> {
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let those = Arc::clone(&waiting);
        let reading = tokio::spawn(async move {
            let mut alone_since: Option<Instant> = None;
            let mut next = seen.saturating_add(1);
            // Streams in a row that broke before they gave a block.
            let mut broken = 0;
            let why = loop {
                match blocks.next().await {
                    Ok(Some(block)) => {
                        next = block.number.saturating_add(1);
                        broken = 0;
                        if those.lock().block(block) {
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
                        let anybody = !those.lock().listeners.is_empty();
                        let again = if anybody { source.go_on(next).await } else { None };
                        match again {
                            Some(stream) => blocks = stream,
                            None => break why,
                        }
                    }
                }
            };
            those.lock().end(why);
        });
        Arc::new(Self {
            waiting,
            task: reading.abort_handle(),
        })
    }

    /// A listener for a transaction in the blocks from now on, unless the stream has ended.
    fn join(self: &Arc<Self>, transaction_id: &str) -> Option<CommitListener> {
        let mut waiting = self.waiting.lock();
        if waiting.ended.is_some() {
            return None;
        }
        let (tell, news) = oneshot::channel();
        waiting
            .listeners
            .entry(transaction_id.to_owned())
            .or_default()
            .push(tell);
        Some(CommitListener {
            transaction_id: transaction_id.to_owned(),
            news,
            feed: Arc::clone(self),
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The open streams by channel.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    open: tokio::sync::Mutex<HashMap<String, Arc<Feed>>>,
    /// Index of the peer that the next stream comes from, if it gives one.
    next: AtomicUsize,
}

impl Feeds {
    /// Listens for a transaction that is about to be submitted, on the channel's stream, or on a new one of the first peer
    /// that sends the newest block.
    ///
    /// # Errors
    /// No peer answers.
    pub(crate) async fn listen(
        &self,
        peers: impl FnOnce() -> Vec<PeerClient>,
        identity: &SigningIdentity,
        channel: &str,
        transaction_id: &str,
    ) -> Result<CommitListener, Error> {
        // Held while a stream is opened, so that those who come meanwhile share it.
        let mut feeds = self.open.lock().await;
        if let Some(listener) = feeds.get(channel).and_then(|feed| feed.join(transaction_id)) {
            return Ok(listener);
        }
        let mut source = Source {
            peers: peers(),
            identity: identity.clone(),
            channel: channel.to_owned(),
            next: self.next.load(Ordering::Relaxed),
        };
        let mut last = None;
        for _ in 0..source.peers.len() {
            let Some(peer) = source.take_next() else { break };
            // Who gives up on a silent one begins with the next.
            self.next.store(source.next, Ordering::Relaxed);
            match source.begin(&peer).await {
                Ok((newest, blocks)) => {
                    self.next.store(source.next - 1, Ordering::Relaxed);
                    let from = format!("{blocks:?}");
                    let feed = Feed::start(newest, blocks, source);
                    let listener = feed.join(transaction_id);
                    feeds.insert(channel.to_owned(), feed);
                    return listener.ok_or(Error::StreamEnded { from });
                }
                Err(away) => last = Some(away),
            }
        }
        Err(last.unwrap_or_else(|| Error::Request("there is no peer to listen to".into())))
    }

    /// The next listener of a channel gets another stream than this one, from the next peer.
    pub(crate) async fn leave(&self, channel: &str, stream: &CommitStream) {
        let mut feeds = self.open.lock().await;
        let is_this = |feed: &Arc<Feed>| std::ptr::eq(Arc::as_ptr(feed), stream.0.as_ptr());
        if feeds.get(channel).is_some_and(is_this) {
            feeds.remove(channel);
            self.next.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Names the stream that a listener is on.
#[derive(Debug)]
pub struct CommitStream(Weak<Feed>);

/// Waits for a transaction in the blocks of one peer.
#[derive(Debug)]
pub struct CommitListener {
    transaction_id: String,
    news: oneshot::Receiver<News>,
    // The stream lives as long as its listeners.
    feed: Arc<Feed>,
}

impl Drop for CommitListener {
    fn drop(&mut self) {
        self.news.close();
        self.feed.waiting.lock().forget(&self.transaction_id);
    }
}

impl CommitListener {
    /// The stream it is on, to be left if it turns out to be silent ([`crate::DirectClient::leave_silent`]).
    pub fn stream(&self) -> CommitStream {
        CommitStream(Arc::downgrade(&self.feed))
    }

    /// Waits for the verdict on the transaction, which was submitted after the listener was opened.
    ///
    /// # Errors
    /// The stream broke, or the limit passed.
    pub async fn wait(mut self, limit: Option<Duration>) -> Result<CommitStatus, Error> {
        let told = match limit {
            None => (&mut self.news).await,
            Some(limit) => {
                tokio::time::timeout(limit, &mut self.news)
                    .await
                    .map_err(|_| Error::CommitTimeout {
                        transaction_id: self.transaction_id.clone(),
                        waited_ms: limit.as_millis(),
                    })?
            }
        };
        let ended = |from: &str| Error::StreamEnded {
            from: from.to_owned(),
        };
        let (code, block_number) = told
            .map_err(|_| ended("the listener for commits"))?
            .map_err(|from| ended(&from))?;
        let code = protos::TxValidationCode::try_from(code)
            .map_err(|_| Error::malformed("peer", format!("unknown validation code {code}")))?;
        Ok(CommitStatus {
            transaction_id: self.transaction_id.clone(),
            code,
            block_number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64, ids: &[&str]) -> protos::FilteredBlock {
        protos::FilteredBlock {
            number,
            filtered_transactions: ids
                .iter()
                .map(|id| protos::FilteredTransaction {
                    txid: (*id).to_owned(),
                    tx_validation_code: 11,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    fn listen(waiting: &mut Waiting, id: &str) -> oneshot::Receiver<News> {
        let (tell, news) = oneshot::channel();
        waiting.listeners.entry(id.to_owned()).or_default().push(tell);
        news
    }

    #[test]
    fn each_is_told_of_its_transaction_alone() {
        let mut waiting = Waiting::default();
        let (mut a, mut b) = (listen(&mut waiting, "a"), listen(&mut waiting, "b"));
        let mut a_too = listen(&mut waiting, "a");
        assert!(waiting.block(block(7, &["x", "a"])));
        assert_eq!(a.try_recv().unwrap().unwrap(), (11, 7));
        assert_eq!(a_too.try_recv().unwrap().unwrap(), (11, 7));
        assert!(b.try_recv().is_err());
        b.close();
        waiting.forget("b");
        assert!(!waiting.block(block(8, &["b"])), "nobody waits any more");
    }

    #[test]
    fn the_end_of_the_stream_is_told_to_all() {
        let mut waiting = Waiting::default();
        let mut a = listen(&mut waiting, "a");
        waiting.end("the peer is gone".to_owned());
        assert_eq!(&*a.try_recv().unwrap().unwrap_err(), "the peer is gone");
        assert!(waiting.listeners.is_empty() && waiting.ended.is_some());
    }
}
