//! Waiting for transactions to commit, at no cost until they do.
//!
//! One task a channel listens to its commits and wakes those who wait for a transaction of the block. However many wait,
//! a block costs one look-up for each of its transactions.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use selvedge_ledger::LedgerError;
use selvedge_proto::protos::TxValidationCode;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::channel::PeerChannel;
use crate::committed::CommittedBlock;

/// The verdict on a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) code: TxValidationCode,
    pub(crate) block: u64,
}

#[derive(Default)]
struct Waiters {
    next_id: u64,
    by_tx: HashMap<String, Vec<(u64, oneshot::Sender<Verdict>)>>,
}

/// Those who wait on one channel.
#[derive(Clone, Default)]
pub(crate) struct WaitList(Arc<Mutex<Waiters>>);

/// Someone who waits; leaves the list when dropped.
pub(crate) struct Waiter {
    list: WaitList,
    tx_id: String,
    id: u64,
    verdict: oneshot::Receiver<Verdict>,
}

impl WaitList {
    pub(crate) fn register(&self, tx_id: &str) -> Waiter {
        let (wake, verdict) = oneshot::channel();
        let mut waiters = self.0.lock();
        let id = waiters.next_id;
        waiters.next_id = waiters.next_id.wrapping_add(1);
        waiters
            .by_tx
            .entry(tx_id.to_owned())
            .or_default()
            .push((id, wake));
        Waiter {
            list: self.clone(),
            tx_id: tx_id.to_owned(),
            id,
            verdict,
        }
    }

    fn wake(&self, tx_id: &str, verdict: Verdict) {
        let woken = self.0.lock().by_tx.remove(tx_id);
        for (_, wake) in woken.into_iter().flatten() {
            // Who has left the list meanwhile does not mind.
            let _ = wake.send(verdict);
        }
    }

    fn waiting(&self) -> Vec<String> {
        self.0.lock().by_tx.keys().cloned().collect()
    }
}

impl Waiter {
    /// Waits; `None` when nobody will wake us any more.
    pub(crate) async fn verdict(&mut self) -> Option<Verdict> {
        (&mut self.verdict).await.ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.list.0.lock();
        if let Some(others) = waiters.by_tx.get_mut(&self.tx_id) {
            others.retain(|(id, _)| *id != self.id);
            if others.is_empty() {
                waiters.by_tx.remove(&self.tx_id);
            }
        }
    }
}

/// The wait list of a channel, and the task that serves it.
pub(crate) struct CommitHub {
    list: WaitList,
    channel: Arc<PeerChannel>,
}

impl CommitHub {
    /// Starts the task; it ends with `shutdown`. Must be called within a tokio runtime.
    pub(crate) fn start(channel: Arc<PeerChannel>, shutdown: CancellationToken) -> Arc<Self> {
        let hub = Arc::new(Self {
            list: WaitList::default(),
            channel: Arc::clone(&channel),
        });
        let mut commits = channel.commits();
        let served = Arc::clone(&hub);
        tokio::spawn(async move {
            loop {
                let received = tokio::select! {
                    received = commits.recv() => received,
                    () = shutdown.cancelled() => return,
                };
                match received {
                    Ok(block) => served.announce(&block),
                    // Blocks were missed: whoever waits is looked up once.
                    Err(RecvError::Lagged(_)) => served.look_up_all(),
                    Err(RecvError::Closed) => return,
                }
            }
        });
        hub
    }

    fn announce(&self, block: &CommittedBlock) {
        for tx in &block.txs {
            // Of a transaction id that comes twice the first one counts, and it is in the ledger already.
            if tx.code != TxValidationCode::DuplicateTxid && !tx.tx_id.is_empty() {
                let verdict = Verdict {
                    code: tx.code,
                    block: block.number,
                };
                self.list.wake(&tx.tx_id, verdict);
            }
        }
    }

    fn look_up_all(&self) {
        for tx_id in self.list.waiting() {
            match self.look_up(&tx_id) {
                Ok(Some(verdict)) => self.list.wake(&tx_id, verdict),
                Ok(None) => {}
                Err(error) => tracing::error!(%tx_id, %error, "a transaction cannot be looked up"),
            }
        }
    }

    /// Joins the list. To be done before [`Self::look_up`], so that no commit can fall in between.
    pub(crate) fn register(&self, tx_id: &str) -> Waiter {
        self.list.register(tx_id)
    }

    /// The verdict on a transaction that is in the ledger.
    pub(crate) fn look_up(&self, tx_id: &str) -> Result<Option<Verdict>, LedgerError> {
        let found = self.channel.ledger().transaction(tx_id)?;
        Ok(found.map(|location| Verdict {
            code: location.code,
            block: location.block,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERDICT: Verdict = Verdict {
        code: TxValidationCode::Valid,
        block: 7,
    };

    #[tokio::test]
    async fn all_who_wait_for_a_transaction_are_woken_and_nobody_else() {
        let list = WaitList::default();
        let (mut a, mut b, mut other) = (list.register("t"), list.register("t"), list.register("u"));
        list.wake("t", VERDICT);
        assert_eq!(a.verdict().await, Some(VERDICT));
        assert_eq!(b.verdict().await, Some(VERDICT));
        assert!(futures::poll!(Box::pin(other.verdict())).is_pending());
        assert_eq!(list.waiting(), ["u"]);
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let list = WaitList::default();
        let (a, b) = (list.register("t"), list.register("t"));
        drop(a);
        assert_eq!(list.waiting(), ["t"]);
        drop(b);
        assert!(list.waiting().is_empty());
        list.wake("t", VERDICT);
    }
}
