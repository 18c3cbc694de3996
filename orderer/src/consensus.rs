//! This node as a consenter of one channel: its Raft node, and the way of an envelope to the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::{BasicNode, ChangeMembers, ServerState, SnapshotPolicy};
use selvedge_proto::selvedge::cluster as pb;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, Member};
use crate::config::RaftConfig;
use crate::filter::Refusal;
use crate::forward::Forwarder;
use crate::metrics::OrdererMetrics;
use crate::peers::Peers;
use crate::puller::Puller;
use crate::raft::log_store::LogStore;
use crate::raft::network::Network;
use crate::raft::record::{read_record, write_record};
use crate::raft::segments::LogError;
use crate::raft::state_machine::StateMachine;
use crate::raft::{LogId, NodeId, Raft};
use crate::sequencer::{Checked, Sequencer, Submission, Verdict};

/// Bytes of envelopes that may wait to be ordered, for one channel. Further submitters wait.
const WAITING_BYTES: u32 = 64 << 20;
const WAITING_ENVELOPES: usize = 4096;
/// Entries behind the last applied one that are kept for nodes a little behind.
const KEEP_ENTRIES: u64 = 64;
const SNAPSHOT_ENTRIES: u64 = 2000;

/// Why a channel's Raft node does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsensusError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("Raft of channel {channel}: {why}")]
    Raft { channel: String, why: String },
}

/// Whether this node may vote. A node that lost its Raft state could break promises it made before; it votes again
/// only when it holds everything that was committed when it came back.
pub(crate) struct VoterGate {
    path: PathBuf,
    open: AtomicBool,
}

impl VoterGate {
    fn load(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join("voter");
        let open = read_record::<pb::VoterSet>(&path)?.is_some();
        Ok(Self {
            path,
            open: AtomicBool::new(open),
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn release(&self) -> Result<(), LogError> {
        write_record(&self.path, &pb::VoterSet::default())?;
        self.open.store(true, Ordering::Release);
        Ok(())
    }
}

/// This node's part in the consensus of one channel.
pub(crate) struct Consensus {
    pub(crate) id: NodeId,
    pub(crate) raft: Raft,
    pub(crate) gate: VoterGate,
    chain: Arc<Chain>,
    state: StateMachine,
    log: LogStore,
    peers: Arc<Peers>,
    forwarder: Forwarder,
    queue: mpsc::Sender<Submission>,
    memory: Arc<Semaphore>,
    settings: RaftConfig,
    own_address: String,
    stop: CancellationToken,
    /// The puller waits inside the state machine, so it is stopped before Raft is.
    tasks: parking_lot::Mutex<JoinSet<()>>,
}

/// What a consenter is started with.
pub(crate) struct ConsensusParts {
    pub(crate) id: NodeId,
    pub(crate) dir: PathBuf,
    pub(crate) chain: Arc<Chain>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) puller: Arc<Puller>,
    pub(crate) settings: RaftConfig,
    pub(crate) own_address: String,
    pub(crate) metrics: Arc<OrdererMetrics>,
    pub(crate) stop: CancellationToken,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn raft_settings(channel: &str, settings: &RaftConfig) -> openraft::Config {
    let election = millis(settings.election);
    openraft::Config {
        cluster_name: channel.to_owned(),
        heartbeat_interval: millis(settings.heartbeat),
        election_timeout_min: election,
        election_timeout_max: election.saturating_mul(2),
        install_snapshot_timeout: 10_000,
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        replication_lag_threshold: SNAPSHOT_ENTRIES * 2,
        max_in_snapshot_log_to_keep: KEEP_ENTRIES,
        ..openraft::Config::default()
    }
}

impl Consensus {
    /// Starts the Raft node; a fresh one settles first whether the group exists already.
    pub(crate) async fn start(parts: ConsensusParts) -> Result<Arc<Self>, ConsensusError> {
        let ConsensusParts {
            id,
            dir,
            chain,
            peers,
            puller,
            settings,
            own_address,
            metrics,
            stop,
        } = parts;
        let failed = |why: String| ConsensusError::Raft {
            channel: chain.channel().to_owned(),
            why,
        };
        let (log, state, gate) = {
            let (chain, puller, dir) = (Arc::clone(&chain), Arc::clone(&puller), dir.clone());
            tokio::task::spawn_blocking(move || {
                let log = LogStore::open(&dir)?;
                let state = StateMachine::open(dir.clone(), chain, &log, puller)?;
                Ok::<_, LogError>((log, state, VoterGate::load(&dir)?))
            })
            .await
            .map_err(|e| failed(e.to_string()))??
        };
        let config = raft_settings(chain.channel(), &settings)
            .validate()
            .map_err(|e| failed(e.to_string()))?;
        let network = Network {
            peers: Arc::clone(&peers),
        };
        let raft = Raft::new(id, Arc::new(config), network, log.clone(), state.clone())
            .await
            .map_err(|e| failed(e.to_string()))?;
        raft.runtime_config().elect(gate.is_open());
        let (queue, submissions) = mpsc::channel(WAITING_ENVELOPES);
        let sequencer = Sequencer::new(
            Arc::clone(&chain),
            raft.clone(),
            submissions,
            stop.clone(),
            metrics,
        );
        let consensus = Arc::new(Self {
            id,
            raft,
            gate,
            forwarder: Forwarder::new(Arc::clone(&peers)),
            chain,
            state,
            log,
            peers,
            queue,
            memory: Arc::new(Semaphore::new(
                usize::try_from(WAITING_BYTES).unwrap_or(usize::MAX),
            )),
            settings,
            own_address,
            stop,
            tasks: parking_lot::Mutex::new(JoinSet::new()),
        });
        let mut tasks = consensus.tasks.lock();
        tasks.spawn(sequencer.run());
        tasks.spawn(Arc::clone(&consensus).tend());
        if !consensus.gate.is_open() {
            tasks.spawn(Arc::clone(&consensus).form());
        }
        drop(tasks);
        Ok(consensus)
    }

    /// Decides for a node without Raft state: a group that nobody has started is started, in an existing one the node
    /// waits for the leader. Blocks beyond the genesis block are the work of a group, also when its Raft state is gone: a
    /// new one would begin to count anew, and could write other blocks.
    async fn form(self: Arc<Self>) {
        let others = self.peers.others(&self.own_address);
        let mut fresh: BTreeSet<NodeId> = BTreeSet::new();
        let mut said = false;
        loop {
            if self.gate.is_open() || self.stop.is_cancelled() || !self.log.is_pristine() {
                return;
            }
            let mut existing = false;
            let mut worked = self.chain.height() > 1;
            for member in &others {
                match self.ask(member).await {
                    Ok(state) if state.has_history => existing = true,
                    Ok(state) if state.height > 1 => worked = true,
                    Ok(_) => {
                        fresh.insert(member.id);
                    }
                    Err(why) => tracing::debug!(
                        channel = self.chain.channel(),
                        consenter = member.address(),
                        why = why.message(),
                        "a consenter does not answer yet"
                    ),
                }
            }
            if existing {
                tracing::info!(
                    channel = self.chain.channel(),
                    "the consenters work already; this node catches up before it votes"
                );
                return;
            }
            if worked && !said {
                said = true;
                tracing::warn!(
                    channel = self.chain.channel(),
                    "this channel has blocks, but no consenter that answers has its Raft log; waiting for those that have it. \
                     If it is lost on most of them, restore the channel's `raft` folders from a copy"
                );
            }
            // With this node a majority: nobody can have committed anything.
            if !worked && (fresh.len() + 1) * 2 > others.len() + 1 {
                self.initialize().await;
                return;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(self.settings.heartbeat) => {}
            }
        }
    }

    async fn ask(&self, member: &Member) -> Result<pb::StateReply, tonic::Status> {
        let mut client = self.peers.client(member.id)?;
        let request = pb::StateRequest {
            channel: self.chain.channel().to_owned(),
        };
        let asked = tokio::time::timeout(Duration::from_secs(2), client.state(request)).await;
        Ok(asked
            .map_err(|_| tonic::Status::deadline_exceeded("no answer within 2 s"))??
            .into_inner())
    }

    async fn initialize(&self) {
        let members = self.wanted_members();
        if let Err(why) = self.raft.initialize(members).await {
            // A leader was faster and has sent its first entry.
            tracing::debug!(channel = self.chain.channel(), %why, "the group exists already");
            return;
        }
        self.release_gate();
    }

    fn release_gate(&self) {
        match self.gate.release() {
            Ok(()) => self.raft.runtime_config().elect(true),
            Err(why) => {
                tracing::error!(channel = self.chain.channel(), %why, "this node cannot become a voter")
            }
        }
    }

    /// Called after an append succeeded: `last` is the newest entry known to match the leader's log, `committed` what the
    /// leader has committed. With all of that on disk the node may vote.
    pub(crate) fn caught_up(&self, last: Option<LogId>, committed: Option<LogId>) {
        if !self.gate.is_open() && committed.is_some() && last >= committed {
            tracing::info!(
                channel = self.chain.channel(),
                "caught up with the leader; voting again"
            );
            self.release_gate();
        }
    }

    fn wanted_members(&self) -> BTreeMap<NodeId, BasicNode> {
        let head = self.chain.head();
        head.members
            .iter()
            .map(|m| (m.id, BasicNode::new(m.address())))
            .collect()
    }

    /// The consenter that leads, unless it is known to have lost its majority.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let alone = metrics.membership_config.voter_ids().count() <= 1;
        let limit = millis(self.settings.election).saturating_mul(4);
        let stale = metrics.state == ServerState::Leader
            && !alone
            && metrics.millis_since_quorum_ack.is_some_and(|ms| ms > limit);
        metrics
            .current_leader
            .filter(|_| !stale && metrics.running_state.is_ok())
    }

    /// Whether this node leads.
    pub(crate) fn is_leader(&self) -> bool {
        self.leader() == Some(self.id)
    }

    /// Why Raft stopped, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        let metrics = self.raft.metrics();
        let state = metrics.borrow().running_state.clone();
        state.err().map(|e| e.to_string())
    }

    /// Whether Raft's membership still has the node, though the configuration may have removed it.
    pub(crate) fn still_counts(&self, id: NodeId) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().get_node(&id).is_some()
    }

    /// Whether a leader has ever written to this node's log.
    pub(crate) fn has_history(&self) -> bool {
        self.log.has_history()
    }

    /// Passes an envelope to this node's own sequencer.
    pub(crate) async fn enqueue_here(&self, checked: Checked) -> oneshot::Receiver<Verdict> {
        let (reply, verdict) = oneshot::channel();
        let size = u32::try_from(crate::filter::size(&checked.envelope))
            .map_or(WAITING_BYTES, |s| s.min(WAITING_BYTES));
        let place = async {
            let permit = Arc::clone(&self.memory).acquire_many_owned(size).await.ok();
            let submission = Submission {
                checked,
                reply,
                permit,
            };
            drop(self.queue.send(submission).await);
        };
        // When there is no room in time, or the sequencer is gone, the receiver ends without a verdict.
        drop(tokio::time::timeout(self.settings.submit_timeout, place).await);
        verdict
    }

    /// Passes an envelope to the leader; none when there is none at the moment.
    pub(crate) async fn enqueue(&self, checked: &Checked) -> Option<oneshot::Receiver<Verdict>> {
        match self.leader()? {
            here if here == self.id => Some(self.enqueue_here(checked.clone()).await),
            elsewhere => Some(self.forwarder.send(elsewhere, checked).await),
        }
    }

    /// Waits for the verdict on an enqueued envelope, passing it on again while leaders change.
    pub(crate) async fn settle(
        &self,
        checked: &Checked,
        first: Option<oneshot::Receiver<Verdict>>,
    ) -> Result<(), Refusal> {
        let deadline = Instant::now() + self.settings.submit_timeout;
        let mut metrics = self.raft.metrics();
        let mut waiting = first;
        let mut sent = waiting.is_some();
        loop {
            if let Some(verdict) = waiting.take() {
                match tokio::time::timeout_at(deadline, verdict).await {
                    Ok(Ok(Verdict::Ordered)) => return Ok(()),
                    Ok(Ok(Verdict::Refused(refusal))) => return Err(refusal),
                    Ok(Ok(Verdict::Retry) | Err(_)) => {}
                    Err(_) => return Err(self.too_late(sent)),
                }
            }
            // An answer to try again comes at once; the next leader takes a moment.
            let pause = Instant::now() + self.settings.heartbeat / 4;
            tokio::select! {
                () = self.stop.cancelled() => return Err(Refusal::unavailable("the orderer stops")),
                () = tokio::time::sleep_until(pause.min(deadline)) => {}
                changed = metrics.changed() => if changed.is_err() {
                    return Err(Refusal::unavailable("the channel's consensus has stopped on this orderer"));
                },
            }
            if Instant::now() >= deadline {
                return Err(self.too_late(sent));
            }
            waiting = self.enqueue(checked).await;
            sent |= waiting.is_some();
        }
    }

    fn too_late(&self, sent: bool) -> Refusal {
        let waited = humantime::format_duration(self.settings.submit_timeout);
        Refusal::unavailable(if sent {
            format!(
                "not confirmed by a majority of the orderers within {waited}: the transaction may still be ordered; look for \
                 its commit status, or submit the same envelope again"
            )
        } else {
            format!(
                "no Raft leader for channel '{}' within {waited}: a majority of its orderers must run; submit again",
                self.chain.channel()
            )
        })
    }

    /// Keeps the Raft group as the configuration wants it, and the log short.
    async fn tend(self: Arc<Self>) {
        let mut changes = self.chain.config_changes();
        let mut metrics = self.raft.metrics();
        loop {
            if self.log.bytes() > self.settings.snapshot_bytes
                && let Err(why) = self.raft.trigger().snapshot().await
            {
                tracing::warn!(channel = self.chain.channel(), %why, "no snapshot could be taken");
                return;
            }
            if self.is_leader() {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = self.reconcile() => {}
                }
            }
            let timer = tokio::time::sleep(Duration::from_secs(1));
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = timer => if metrics.has_changed().is_err() { return },
            }
            metrics.borrow_and_update();
        }
    }

    /// Leader: makes the Raft membership that of the configuration.
    async fn reconcile(&self) {
        let wanted = self.wanted_members();
        let current = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.clone()
        };
        let voters: BTreeSet<NodeId> = current.voter_ids().collect();
        let known: BTreeMap<NodeId, BasicNode> =
            current.nodes().map(|(id, node)| (*id, node.clone())).collect();
        let goal: BTreeSet<NodeId> = wanted.keys().copied().collect();
        if goal.is_empty() || (voters == goal && known == wanted) {
            return;
        }
        tracing::info!(
            channel = self.chain.channel(),
            ?voters,
            ?goal,
            "changing the Raft membership"
        );
        let done = async {
            if known
                .iter()
                .any(|(id, node)| wanted.get(id).is_some_and(|w| w != node))
            {
                let moved = wanted
                    .iter()
                    .filter(|(id, w)| known.get(id).is_some_and(|k| k != *w));
                let moved = moved.map(|(id, node)| (*id, node.clone())).collect();
                self.raft
                    .change_membership(ChangeMembers::SetNodes(moved), true)
                    .await?;
            }
            for (id, node) in &wanted {
                if !known.contains_key(id) {
                    self.raft.add_learner(*id, node.clone(), false).await?;
                }
            }
            self.raft.change_membership(goal.clone(), false).await
        };
        if let Err(why) = done.await {
            tracing::warn!(channel = self.chain.channel(), %why, "the Raft membership did not change yet");
        }
    }

    /// Stops Raft and everything around it.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
        if let Err(why) = self.raft.shutdown().await {
            tracing::warn!(channel = self.chain.channel(), %why, "Raft did not stop cleanly");
        }
        let state = self.state.clone();
        if let Ok(Err(why)) = tokio::task::spawn_blocking(move || state.save()).await {
            tracing::warn!(channel = self.chain.channel(), %why, "the applied position was not stored");
        }
    }
}
