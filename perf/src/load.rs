//! The load of one run, and how long each transaction took.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use selvedge_sdk::{Committed, DirectClient, Error, Gateway, Invocation, Stages};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::PerfError;
use crate::matrix::{Mode, Operation, Run};
use crate::network::{CHANNEL, Network};

/// Open loop: transactions under way at most, so that an overloaded network does not fill the memory.
const MAX_OPEN: usize = 20_000;
/// Answers that are still missing this long after the end of a phase are given up.
const PATIENCE: Duration = Duration::from_secs(90);
const PROGRESS: Duration = Duration::from_secs(1);
/// Key that `get` reads.
const EXISTING_KEY: &str = "present";

/// What a client submits with.
#[derive(Clone)]
enum Client {
    Gateway(Box<Gateway>),
    Direct(DirectClient),
}

/// One transaction that went well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// From the moment at which it was due to its commit.
    pub(crate) total: Duration,
    /// Until all endorsements were there.
    pub(crate) endorse: Duration,
    /// Until they were checked.
    pub(crate) check: Duration,
    /// Until an orderer had taken it.
    pub(crate) submit: Duration,
    /// Until its commit was known.
    pub(crate) commit: Duration,
    /// The block that holds it; none of an evaluation.
    pub(crate) block: Option<u64>,
}

impl Sample {
    fn new(due: Instant, started: Instant, stages: Stages, block: Option<u64>) -> Self {
        Self {
            total: started.saturating_duration_since(due) + stages.committed,
            endorse: stages.endorsed,
            check: stages.checked.saturating_sub(stages.endorsed),
            submit: stages.ordered.saturating_sub(stages.checked),
            commit: stages.committed.saturating_sub(stages.ordered),
            block,
        }
    }
}

/// What a phase brought.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The transactions that went well.
    pub(crate) samples: Vec<Sample>,
    /// Reasons of the others, and how often.
    pub(crate) failures: BTreeMap<String, u64>,
    /// From the first start to the last answer.
    pub(crate) took: Duration,
}

/// The clients of a run.
pub(crate) struct Load {
    run: Run,
    clients: Vec<Client>,
    value: Arc<str>,
    next_key: Arc<AtomicU64>,
}

impl Load {
    /// Connects the clients.
    pub(crate) async fn prepare(run: &Run, network: &Network) -> Result<Self, PerfError> {
        let clients = match run.mode {
            Mode::Gateway => network
                .gateways(run.connections)?
                .into_iter()
                .map(|g| Client::Gateway(Box::new(g)))
                .collect(),
            Mode::Direct => {
                let clients = network.direct_clients(run.connections, run).await?;
                clients.into_iter().map(Client::Direct).collect()
            }
        };
        let load = Self {
            run: run.clone(),
            clients,
            value: "v".repeat(run.value_bytes).into(),
            next_key: Arc::default(),
        };
        if run.operation == Operation::Get {
            let put = Invocation::new(CHANNEL, CHANNEL, "put")
                .arg(EXISTING_KEY)
                .arg(&*load.value);
            let gateway = network.gateways(1)?;
            for gateway in gateway {
                gateway
                    .submit_and_wait(&put)
                    .await
                    .map_err(PerfError::client("cannot write the key that is read"))?;
            }
        }
        Ok(load)
    }

    /// Runs `count` transactions, or as many as `limit` allows.
    pub(crate) async fn phase(&self, name: &str, count: u64, limit: Duration) -> Outcome {
        let (results, mut received) = mpsc::channel(4096);
        let progress = Progress::new(name, count);
        let begin = Instant::now();
        let running = if self.run.rate > 0.0 {
            self.open_loop(count, limit, results)
        } else {
            self.closed_loop(count, limit, results)
        };
        let mut outcome = Outcome::default();
        let end = tokio::time::Instant::from_std(begin + limit + PATIENCE);
        let mut tick = tokio::time::interval(PROGRESS);
        loop {
            tokio::select! {
                result = received.recv() => match result {
                    Some(Ok(sample)) => outcome.samples.push(sample),
                    Some(Err(why)) => *outcome.failures.entry(why).or_default() += 1,
                    None => break,
                },
                _ = tick.tick() => progress.show(&outcome, begin.elapsed()),
                () = tokio::time::sleep_until(end) => {
                    *outcome.failures.entry("no answer in time".to_owned()).or_default() += 1;
                    break;
                }
            }
        }
        outcome.took = begin.elapsed();
        progress.show(&outcome, outcome.took);
        progress.done();
        // Dropping the set ends what is still running.
        drop(running);
        outcome
    }

    fn closed_loop(
        &self,
        count: u64,
        limit: Duration,
        results: mpsc::Sender<Result<Sample, String>>,
    ) -> JoinSet<()> {
        let mut running = JoinSet::new();
        let left = Arc::new(AtomicU64::new(count));
        let stop = Instant::now() + limit;
        for (_, client) in (0..self.run.in_flight).zip(self.clients.iter().cycle()) {
            let (left, worker, results) = (Arc::clone(&left), self.worker(client), results.clone());
            running.spawn(async move {
                while Instant::now() < stop
                    && left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                        .is_ok()
                {
                    if results.send(worker.one(Instant::now()).await).await.is_err() {
                        return;
                    }
                }
            });
        }
        running
    }

    /// Starts transactions at a fixed rate. Each is measured from when it was due, so that a network that falls behind
    /// shows it.
    fn open_loop(
        &self,
        count: u64,
        limit: Duration,
        results: mpsc::Sender<Result<Sample, String>>,
    ) -> JoinSet<()> {
        let mut running = JoinSet::new();
        let interval = Duration::from_secs_f64(1.0 / self.run.rate);
        let workers: Vec<Worker> = self.clients.iter().map(|c| self.worker(c)).collect();
        running.spawn(async move {
            let begin = tokio::time::Instant::now();
            let mut open = JoinSet::new();
            let mut due = begin;
            for (_, worker) in (0..count).zip(workers.iter().cycle()) {
                if begin.elapsed() > limit {
                    break;
                }
                tokio::time::sleep_until(due).await;
                while open.try_join_next().is_some() {}
                if open.len() >= MAX_OPEN {
                    open.join_next().await;
                }
                let (worker, results, due_at) = (worker.clone(), results.clone(), due.into_std());
                open.spawn(async move {
                    // The receiver is gone only when the phase has been given up.
                    drop(results.send(worker.one(due_at).await).await);
                });
                due += interval;
            }
            open.join_all().await;
        });
        running
    }

    fn worker(&self, client: &Client) -> Worker {
        Worker {
            client: client.clone(),
            run: self.run.clone(),
            value: Arc::clone(&self.value),
            next_key: Arc::clone(&self.next_key),
        }
    }
}

#[derive(Clone)]
struct Worker {
    client: Client,
    run: Run,
    value: Arc<str>,
    next_key: Arc<AtomicU64>,
}

impl Worker {
    fn invocation(&self) -> Invocation {
        let key = format!("k{}", self.next_key.fetch_add(1, Ordering::Relaxed));
        let invocation = |function: &str| Invocation::new(CHANNEL, CHANNEL, function);
        match self.run.operation {
            Operation::Put => invocation("put").arg(key).arg(&*self.value),
            Operation::Update => invocation("update").arg(key).arg(&*self.value),
            Operation::Mix => invocation("mix")
                .arg(key)
                .arg(&*self.value)
                .arg(self.run.reads.to_string())
                .arg(self.run.writes.to_string()),
            Operation::Get => invocation("get").arg(EXISTING_KEY),
        }
    }

    async fn one(&self, due: Instant) -> Result<Sample, String> {
        let started = Instant::now();
        let invocation = self.invocation();
        let committed = |c: Committed| (c.stages, Some(c.block_number));
        let done = match (&self.client, self.run.operation) {
            (Client::Gateway(gateway), Operation::Get) => gateway
                .evaluate(&invocation)
                .await
                .map(|_| (answered(started), None)),
            (Client::Direct(direct), Operation::Get) => direct
                .evaluate(&invocation)
                .await
                .map(|_| (answered(started), None)),
            (Client::Gateway(gateway), _) => gateway.submit_and_wait(&invocation).await.map(committed),
            (Client::Direct(direct), _) => direct.submit_and_wait(&invocation).await.map(committed),
        };
        done.map(|(stages, block)| Sample::new(due, started, stages, block))
            .map_err(|error| kind_of(&error))
    }
}

/// An evaluation has one stage.
fn answered(started: Instant) -> Stages {
    let took = started.elapsed();
    Stages {
        endorsed: took,
        checked: took,
        ordered: took,
        committed: took,
    }
}

/// The text of an error without what differs from one transaction to the next.
fn kind_of(error: &Error) -> String {
    let text = error.to_string();
    let words: Vec<&str> = text
        .split_whitespace()
        .map(|word| {
            let id = word.len() >= 32 && word.chars().filter(char::is_ascii_hexdigit).count() >= 32;
            if id { "<id>" } else { word }
        })
        .collect();
    words.join(" ")
}

struct Progress {
    name: String,
    count: u64,
    terminal: bool,
}

impl Progress {
    fn new(name: &str, count: u64) -> Self {
        use std::io::IsTerminal;
        Self {
            name: name.to_owned(),
            count,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn show(&self, outcome: &Outcome, elapsed: Duration) {
        let done = outcome.samples.len();
        let failed: u64 = outcome.failures.values().sum();
        let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
        let failed = if failed > 0 {
            format!(", {failed} failed")
        } else {
            String::new()
        };
        let (start, end) = if self.terminal {
            ("\r\x1b[K", "")
        } else {
            ("", "\n")
        };
        eprint!(
            "{start}  {}: {done} of {} ({rate:.0}/s{failed}, {:.0} s){end}",
            self.name,
            self.count,
            elapsed.as_secs_f64()
        );
    }

    fn done(&self) {
        if self.terminal {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_kind() {
        let id = "a".repeat(64);
        let error = Error::Request(format!("transaction {id} is lost"));
        assert!(kind_of(&error).contains("transaction <id> is lost"));
    }

    #[test]
    fn a_late_start_counts() {
        let now = Instant::now();
        let stages = Stages {
            endorsed: Duration::from_millis(1),
            checked: Duration::from_millis(3),
            ordered: Duration::from_millis(6),
            committed: Duration::from_millis(10),
        };
        let sample = Sample::new(now, now + Duration::from_millis(5), stages, Some(1));
        assert_eq!(sample.total, Duration::from_millis(15));
        assert_eq!(sample.submit, Duration::from_millis(3));
        assert_eq!(sample.commit, Duration::from_millis(4));
    }
}
