//! The load that one client process makes, and how long each transaction took.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use selvedge_sdk::{Committed, DirectClient, Error, Gateway, Invocation, Stages};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::access::{Access, CONTRACT};
use crate::error::PerfError;
use crate::latencies::Latencies;
use crate::matrix::{CallsBy, Commits, Mode, Operation, Run};
use crate::presigned::prefilled_key;

/// Open loop: transactions under way at most, so that an overloaded network does not fill the memory.
const MAX_OPEN: usize = 20_000;
/// Answers that are still missing this long after the end of a phase are given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How often a phase tells how far it is.
const PROGRESS: Duration = Duration::from_secs(1);
/// Key that `get` reads when there are no others.
const EXISTING_KEY: &str = "present";
/// Steps in which prefilled keys are updated: a prime, so that none comes twice before all have come.
const STRIDE: u64 = 7_368_787;

/// What one client process does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Share {
    /// The run; counts and rate are those of all processes.
    pub(crate) run: Run,
    /// The network.
    pub(crate) access: Access,
    /// Which process of all this is, from 0.
    pub(crate) client: usize,
}

impl Share {
    fn part(&self, total: usize) -> usize {
        let (clients, n) = (self.run.clients(), self.client);
        total / clients + usize::from(n < total % clients)
    }

    /// Transactions of a phase that are this process's.
    pub(crate) fn count(&self, total: u64) -> u64 {
        let clients = self.run.clients() as u64;
        total / clients + u64::from((self.client as u64) < total % clients)
    }

    fn device(&self) -> usize {
        self.client / self.run.processes.max(1)
    }
}

/// What a client submits with.
#[derive(Clone)]
enum Client {
    Gateway(Box<Gateway>),
    Direct(DirectClient),
}

/// One transaction that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sample {
    total: Duration,
    endorse: Duration,
    check: Duration,
    submit: Duration,
    commit: Duration,
    /// Channel and number of the block that holds it; none of an evaluation.
    block: Option<(usize, u64)>,
}

impl Sample {
    fn new(due: Instant, started: Instant, stages: Stages, block: Option<(usize, u64)>) -> Self {
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// How long the transactions took that went well.
    pub(crate) latencies: Latencies,
    /// Reasons of the others, and how often.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Channel and number of each block that holds some of them.
    pub(crate) blocks: BTreeSet<(usize, u64)>,
    /// From the first start to the last answer, in seconds.
    pub(crate) seconds: f64,
}

impl Outcome {
    /// Transactions that went well.
    pub(crate) fn done(&self) -> u64 {
        self.latencies.total.count()
    }

    /// Those that did not.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Notes a failure.
    pub(crate) fn fail(&mut self, why: impl Into<String>) {
        *self.failures.entry(why.into()).or_default() += 1;
    }

    fn take(&mut self, sample: &Sample) {
        self.latencies.total.record(sample.total);
        self.latencies.endorse.record(sample.endorse);
        self.latencies.check.record(sample.check);
        self.latencies.submit.record(sample.submit);
        self.latencies.commit.record(sample.commit);
        self.blocks.extend(sample.block);
    }

    /// Adds what another process did at the same time.
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies.add(&other.latencies);
        for (why, count) in other.failures {
            *self.failures.entry(why).or_default() += count;
        }
        self.blocks.extend(other.blocks);
        self.seconds = self.seconds.max(other.seconds);
    }
}

/// How far a phase is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Transactions that went well.
    pub(crate) done: u64,
    /// Transactions that did not.
    pub(crate) failed: u64,
}

/// The clients of one process.
pub(crate) struct Load {
    share: Share,
    clients: Vec<Client>,
    value: Arc<str>,
    next: Arc<AtomicU64>,
}

impl Load {
    /// Connects the clients.
    pub(crate) async fn prepare(share: Share) -> Result<Self, PerfError> {
        let Share { run, access, .. } = &share;
        let (connections, device) = (share.part(run.connections).max(1), share.device());
        let clients = match run.mode {
            Mode::Gateway => access
                .gateways(connections, device)?
                .into_iter()
                .map(|gateway| match run.calls {
                    CallsBy::Stream => gateway,
                    CallsBy::Single => gateway.with_single_calls(),
                })
                .map(|gateway| match run.commits {
                    Commits::Status => gateway,
                    Commits::Stream => gateway.with_commit_stream(),
                })
                .map(|gateway| Client::Gateway(Box::new(gateway)))
                .collect(),
            Mode::Direct => {
                let clients = access.direct_clients(connections, device).await?;
                clients.into_iter().map(Client::Direct).collect()
            }
        };
        let load = Self {
            clients,
            value: "v".repeat(run.value_bytes).into(),
            next: Arc::default(),
            share,
        };
        if load.share.run.operation == Operation::Get {
            load.write_what_is_read().await?;
        }
        Ok(load)
    }

    async fn write_what_is_read(&self) -> Result<(), PerfError> {
        let Share { access, .. } = &self.share;
        for gateway in access.gateways(1, self.share.device())? {
            for channel in &access.channels {
                let key = format!("{EXISTING_KEY}{}", self.share.client);
                let put = Invocation::new(channel, CONTRACT, "put")
                    .arg(key)
                    .arg(&*self.value);
                gateway
                    .submit_and_wait(&put)
                    .await
                    .map_err(PerfError::client("cannot write the key that is read"))?;
            }
        }
        Ok(())
    }

    /// Runs this process's part of `count` transactions, or as many as `limit` allows; tells how far it is.
    pub(crate) async fn phase(&self, count: u64, limit: Duration, mut tell: impl FnMut(Progress)) -> Outcome {
        let (results, mut received) = mpsc::channel(4096);
        let begin = Instant::now();
        let count = self.share.count(count);
        let running = if self.share.run.rate > 0.0 {
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
                    Some(Ok(sample)) => outcome.take(&sample),
                    Some(Err(why)) => outcome.fail(why),
                    None => break,
                },
                _ = tick.tick() => tell(Progress { done: outcome.done(), failed: outcome.failed() }),
                () = tokio::time::sleep_until(end) => {
                    outcome.fail("no answer in time");
                    break;
                }
            }
        }
        outcome.seconds = begin.elapsed().as_secs_f64();
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
        let in_flight = self.share.part(self.share.run.in_flight);
        for (_, client) in (0..in_flight).zip(self.clients.iter().cycle()) {
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
        let clients = self.share.run.clients() as f64;
        let interval = Duration::from_secs_f64(clients / self.share.run.rate);
        // Processes take turns instead of starting together.
        let offset = interval.mul_f64(self.share.client as f64 / clients);
        let workers: Vec<Worker> = self.clients.iter().map(|c| self.worker(c)).collect();
        running.spawn(async move {
            let begin = tokio::time::Instant::now();
            let mut open = JoinSet::new();
            let mut due = begin + offset;
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
        let Share {
            run,
            access,
            client: n,
        } = &self.share;
        Worker {
            client: client.clone(),
            operation: run.operation,
            reads: run.reads.to_string(),
            writes: run.writes.to_string(),
            prefilled: run.prefill_keys,
            clients: run.clients() as u64,
            number: *n as u64,
            channels: access.channels.clone().into(),
            value: Arc::clone(&self.value),
            next: Arc::clone(&self.next),
        }
    }
}

#[derive(Clone)]
struct Worker {
    client: Client,
    operation: Operation,
    reads: String,
    writes: String,
    prefilled: u64,
    clients: u64,
    number: u64,
    channels: Arc<[String]>,
    value: Arc<str>,
    next: Arc<AtomicU64>,
}

impl Worker {
    /// The next call, and the place of its channel.
    fn invocation(&self) -> (usize, Invocation) {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let place = usize::try_from(n).unwrap_or(0) % self.channels.len().max(1);
        let channel = self.channels.get(place).map_or(CONTRACT, String::as_str);
        let call = |function: &str| Invocation::new(channel, CONTRACT, function);
        let key = format!("k{}.{n}", self.number);
        let invocation = match self.operation {
            Operation::Put => call("put").arg(key).arg(&*self.value),
            Operation::Update => {
                let all = n.wrapping_mul(self.clients).wrapping_add(self.number);
                let key = match self.prefilled {
                    0 => key,
                    keys => prefilled_key(all.wrapping_mul(STRIDE) % keys),
                };
                call("update").arg(key).arg(&*self.value)
            }
            Operation::Mix => call("mix")
                .arg(key)
                .arg(&*self.value)
                .arg(self.reads.as_str())
                .arg(self.writes.as_str()),
            Operation::Get => call("get").arg(format!("{EXISTING_KEY}{}", self.number)),
        };
        (place, invocation)
    }

    async fn one(&self, due: Instant) -> Result<Sample, String> {
        let started = Instant::now();
        let (channel, invocation) = self.invocation();
        let committed = |c: Committed| (c.stages, Some((channel, c.block_number)));
        let done = match (&self.client, self.operation) {
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
        let sample = Sample::new(now, now + Duration::from_millis(5), stages, Some((0, 1)));
        assert_eq!(sample.total, Duration::from_millis(15));
        assert_eq!(sample.submit, Duration::from_millis(3));
        assert_eq!(sample.commit, Duration::from_millis(4));
    }

    #[test]
    fn processes_share_all_and_nothing_twice() {
        let run = Run {
            devices: 2,
            processes: 2,
            ..Run::default()
        };
        let access = Access {
            root: "x".into(),
            organizations: 1,
            endorsers: 1,
            channels: vec!["bench".to_owned()],
            peer_ports: vec![1],
            orderer_ports: vec![2],
        };
        let shares: Vec<Share> = (0..4)
            .map(|client| Share {
                run: run.clone(),
                access: access.clone(),
                client,
            })
            .collect();
        assert_eq!(shares.iter().map(|s| s.count(10)).sum::<u64>(), 10);
        assert_eq!(shares.iter().map(|s| s.part(5)).sum::<usize>(), 5);
        assert_eq!(shares.iter().map(Share::device).collect::<Vec<_>>(), [0, 0, 1, 1]);
    }
}
