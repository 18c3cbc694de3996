//! Transactions in numbers. What an orderer acknowledged is written down, so that its loss would show.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use selvedge_sdk::{Gateway, Invocation, Transaction};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::{CHANNEL, Network, eventually};

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
    count: AtomicUsize,
    acknowledged: Mutex<BTreeSet<String>>,
    failures: Mutex<Vec<String>>,
}

/// Workers that endorse and submit until they are stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
}

/// What came of a load.
#[derive(Debug)]
pub struct Outcome {
    /// Ids of the transactions that an orderer acknowledged.
    pub acknowledged: BTreeSet<String>,
    /// Attempts that failed on the way, with their reasons.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts `workers` for each of the users' gateways.
    pub fn start(network: &Network, users: &[&str], workers: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let mut set = JoinSet::new();
        for user in users {
            let gateway = network.gateway(user);
            for _ in 0..workers {
                set.spawn(work(gateway.clone(), Arc::clone(&shared)));
            }
        }
        Self { shared, workers: set }
    }

    /// Number of acknowledged transactions so far.
    pub fn count(&self) -> usize {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Ids of the transactions that an orderer has acknowledged so far.
    pub async fn acknowledged(&self) -> BTreeSet<String> {
        self.shared.acknowledged.lock().await.clone()
    }

    /// Waits until so many more transactions were acknowledged.
    pub async fn progress(&self, more: usize) {
        let goal = self.count() + more;
        eventually("the load goes on", Duration::from_secs(60), || async {
            let count = self.count();
            if count >= goal {
                return Ok(());
            }
            let failures = self.shared.failures.lock().await;
            Err(format!(
                "{count} of {goal} acknowledged; last failure: {:?}",
                failures.last()
            ))
        })
        .await;
    }

    /// Lets every worker finish what it has begun.
    pub async fn stop(mut self) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.workers.join_next().await {
            ended.expect("a worker ends in good order");
        }
        let acknowledged = std::mem::take(&mut *self.shared.acknowledged.lock().await);
        let failures = std::mem::take(&mut *self.shared.failures.lock().await);
        Outcome {
            acknowledged,
            failures,
        }
    }
}

async fn work(gateway: Gateway, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let put = Invocation::new(CHANNEL, "probe", "put")
            .arg(format!("load-{number:08}"))
            .arg(number.to_string());
        match once(&gateway, &put).await {
            Ok(transaction) => {
                shared
                    .acknowledged
                    .lock()
                    .await
                    .insert(transaction.transaction_id().to_owned());
                shared.count.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => {
                shared.failures.lock().await.push(why);
                // A node that is down refuses at once; it should not be asked a thousand times a second.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Endorses and submits once, without waiting for the commit: the orderer's answer is what is acknowledged.
async fn once(gateway: &Gateway, invocation: &Invocation) -> Result<Transaction, String> {
    let proposal = gateway.propose(invocation).map_err(|e| e.to_string())?;
    let transaction = gateway.endorse(&proposal).await.map_err(|e| e.to_string())?;
    gateway.submit(&transaction).await.map_err(|e| e.to_string())?;
    Ok(transaction)
}
