//! One channel on this node, through its life: onboarding, following, taking part, and back.
//!
//! ```text
//! join (number 0) ──► consenter ◄──► follower ◄── onboarding ◄── join (number > 0)
//! ```
//! Which of them it is follows from the chain: a node in the consenter list runs Raft; one that is not pulls blocks.
//!
//! Its folder: `blocks/`, `raft/`, and `join.block` while onboarding.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use prost::Message;
use selvedge_channel::verify::check_block_content;
use selvedge_channel::{Bundle, NodeRole, authenticate};
use selvedge_msp::CurrentIdentity;
use selvedge_msp::policy::SignedData;
use selvedge_proto::{block_hash, common};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::chain::Chain;
use crate::config::RaftConfig;
use crate::consensus::{Consensus, ConsensusParts};
use crate::metrics::OrdererMetrics;
use crate::peers::{Dialling, Peers, orderer_roots};
use crate::puller::{PullError, Puller};

const RETRY: Duration = Duration::from_secs(1);

/// What every channel of the node shares.
pub(crate) struct NodeContext {
    pub(crate) signer: CurrentIdentity,
    pub(crate) dialling: Arc<Dialling>,
    pub(crate) own_address: String,
    pub(crate) raft: RaftConfig,
    pub(crate) metrics: Arc<OrdererMetrics>,
}

/// What the node does in a channel at the moment.
#[derive(Clone)]
pub(crate) enum Role {
    /// Reading what is on disk.
    Opening,
    /// Getting the blocks up to the one it joined with.
    Onboarding,
    /// Pulls blocks; is not among the consenters.
    Follower,
    /// Is among the consenters.
    Consenter(Arc<Consensus>),
    /// Stopped for this reason.
    Failed(String),
}

/// A channel that this node has joined.
pub(crate) struct OrdererChannel {
    id: String,
    dir: PathBuf,
    context: Arc<NodeContext>,
    chain: RwLock<Option<Arc<Chain>>>,
    /// The configuration of the block it joined with, once that is read. Asked while there is nothing of the chain yet.
    joining: RwLock<Option<Arc<Bundle>>>,
    role: watch::Sender<Role>,
    stop: CancellationToken,
    task: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

/// The channel's own part of `ChannelInfo` in the participation interface (spec 05 §7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Channel id.
    pub name: String,
    /// `consenter` or `follower`.
    pub consensus_relation: &'static str,
    /// `active`, `onboarding`, `inactive` or `failed`.
    pub status: &'static str,
    /// Number of blocks on this node.
    pub height: u64,
}

/// A problem that ends a channel's work on this node.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ChannelFailure(String);

fn fail(why: impl ToString) -> ChannelFailure {
    ChannelFailure(why.to_string())
}

pub(crate) fn blocks_dir(dir: &Path) -> PathBuf {
    dir.join("blocks")
}

pub(crate) fn join_block_path(dir: &Path) -> PathBuf {
    dir.join("join.block")
}

impl OrdererChannel {
    /// Opens the channel in `dir` and starts working.
    pub(crate) fn start(id: &str, dir: PathBuf, context: Arc<NodeContext>) -> Arc<Self> {
        let channel = Arc::new(Self {
            id: id.to_owned(),
            dir,
            context,
            chain: RwLock::new(None),
            joining: RwLock::new(None),
            role: watch::Sender::new(Role::Opening),
            stop: CancellationToken::new(),
            task: parking_lot::Mutex::new(None),
        });
        let running = Arc::clone(&channel);
        *channel.task.lock() = Some(tokio::spawn(async move {
            if let Err(why) = running.live().await {
                tracing::error!(channel = %running.id, %why, "the channel stopped working on this node");
                running.role.send_replace(Role::Failed(why.to_string()));
            }
        }));
        channel
    }

    pub(crate) fn metrics(&self) -> &OrdererMetrics {
        &self.context.metrics
    }

    pub(crate) fn chain(&self) -> Option<Arc<Chain>> {
        self.chain.read().clone()
    }

    /// Whether who signed is a member of the channel that this node is being onboarded to: nobody else is to learn that it
    /// is.
    pub(crate) fn awaits(&self, signed: &SignedData) -> bool {
        let joining = self.joining.read().clone();
        joining.is_some_and(|bundle| authenticate(bundle.msps(), signed).is_ok())
    }

    pub(crate) fn role(&self) -> Role {
        self.role.borrow().clone()
    }

    pub(crate) fn roles(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// Returns when the channel is open: it onboards, follows, takes part or has failed.
    pub(crate) async fn opened(&self) {
        let mut roles = self.roles();
        drop(roles.wait_for(|role| !matches!(role, Role::Opening)).await);
    }

    pub(crate) fn consensus(&self) -> Option<Arc<Consensus>> {
        match self.role() {
            Role::Consenter(consensus) => Some(consensus),
            _ => None,
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// State for the participation interface.
    pub(crate) fn info(&self) -> ChannelInfo {
        let chain = self.chain();
        let listed = chain
            .as_ref()
            .is_some_and(|c| c.head().member_by_address(&self.context.own_address).is_some());
        let (consensus_relation, status) = match self.role() {
            Role::Opening | Role::Onboarding => (if listed { "consenter" } else { "follower" }, "onboarding"),
            Role::Follower => ("follower", "active"),
            Role::Consenter(consensus) if consensus.failure().is_some() => ("consenter", "failed"),
            Role::Consenter(_) => ("consenter", "active"),
            Role::Failed(_) => (if listed { "consenter" } else { "follower" }, "failed"),
        };
        ChannelInfo {
            name: self.id.clone(),
            consensus_relation,
            status,
            height: chain.map_or(0, |c| c.height()),
        }
    }

    async fn live(self: &Arc<Self>) -> Result<(), ChannelFailure> {
        let join = self.read_join_block().await?;
        if let Some(join) = &join {
            let bundle = Arc::new(Bundle::from_config_block_as(NodeRole::Orderer, join).map_err(fail)?);
            *self.joining.write() = Some(Arc::clone(&bundle));
            self.role.send_replace(Role::Onboarding);
            self.onboard(join, &bundle).await?;
            if self.is_stopping() {
                return Ok(());
            }
        } else {
            self.open_chain().await?;
        }
        while !self.is_stopping() {
            let chain = self.chain().ok_or_else(|| fail("the chain is not open"))?;
            let own = chain
                .head()
                .member_by_address(&self.context.own_address)
                .map(|m| m.id);
            match own {
                Some(id) => self.take_part(&chain, id).await?,
                None => self.follow(&chain).await?,
            }
        }
        Ok(())
    }

    async fn read_join_block(&self) -> Result<Option<common::Block>, ChannelFailure> {
        let path = join_block_path(&self.dir);
        match tokio::fs::read(&path).await {
            Ok(bytes) => common::Block::decode(bytes::Bytes::from(bytes))
                .map(Some)
                .map_err(|e| {
                    fail(format!(
                        "{} is damaged ({e}); remove the channel and join it again",
                        path.display()
                    ))
                }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(fail(format!("cannot read {}: {e}", path.display()))),
        }
    }

    async fn open_chain(&self) -> Result<(), ChannelFailure> {
        let (dir, id, signer) = (
            blocks_dir(&self.dir),
            self.id.clone(),
            self.context.signer.clone(),
        );
        let chain = tokio::task::spawn_blocking(move || Chain::open(&dir, &id, signer))
            .await
            .map_err(fail)?
            .map_err(fail)?;
        *self.chain.write() = Some(Arc::new(chain));
        Ok(())
    }

    fn puller(&self, stop: CancellationToken) -> Puller {
        Puller {
            dialling: Arc::clone(&self.context.dialling),
            own_address: self.context.own_address.clone(),
            stop,
        }
    }

    async fn pause(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }

    /// Pulls the chain from its first block to the block the node joined with, from the orderers that block names.
    async fn onboard(&self, join: &common::Block, bundle: &Bundle) -> Result<(), ChannelFailure> {
        let target = join
            .header
            .as_ref()
            .ok_or_else(|| fail("the join block has no header"))?;
        let roots = orderer_roots(bundle);
        let sources: Vec<String> = bundle.orderer().map_or_else(Vec::new, |o| {
            let places = o.consenters.iter().map(|c| format!("{}:{}", c.host, c.port));
            places.filter(|a| *a != self.context.own_address).collect()
        });
        let puller = self.puller(self.stop.clone());
        if self.has_first_block().await? {
            self.open_chain().await?;
        }
        let mut turn = 0;
        while self.chain().is_none_or(|c| c.height() <= target.number) {
            if self.is_stopping() {
                return Ok(());
            }
            let Some(source) = sources.get(turn % sources.len().max(1)) else {
                return Err(fail(
                    "the join block names no other consenter to get the blocks from",
                ));
            };
            turn += 1;
            let start = self.chain().map_or(0, |c| c.height());
            let signer = &self.context.signer.get();
            let blocks = puller
                .delivered(source, roots.clone(), signer, &self.id, start, target.number)
                .await;
            let outcome = match blocks {
                Ok(blocks) => self.store_onboarding(&puller, blocks).await?,
                Err(status) => Err(status),
            };
            if let Err(status) = outcome {
                tracing::warn!(channel = %self.id, %source, why = status.message(), "onboarding could not get blocks");
                self.pause().await;
            }
        }
        let chain = self
            .chain()
            .ok_or_else(|| fail("onboarding ended without blocks"))?;
        let stored = chain.store().block(target.number).map_err(fail)?;
        let same = stored
            .and_then(|b| b.header)
            .is_some_and(|h| block_hash(&h) == block_hash(target));
        if !same {
            return Err(fail(format!(
                "the chain that the consenters serve does not contain the join block {}; remove the channel and join it \
                 with a block of this chain",
                target.number
            )));
        }
        tokio::fs::remove_file(join_block_path(&self.dir))
            .await
            .map_err(fail)
    }

    async fn has_first_block(&self) -> Result<bool, ChannelFailure> {
        let dir = blocks_dir(&self.dir);
        tokio::task::spawn_blocking(move || {
            selvedge_ledger::BlockStore::open(&dir).map(|store| store.height() > 0)
        })
        .await
        .map_err(fail)?
        .map_err(fail)
    }

    async fn store_onboarding(
        &self,
        puller: &Puller,
        mut blocks: crate::puller::Blocks,
    ) -> Result<Result<(), tonic::Status>, ChannelFailure> {
        if self.chain().is_none() {
            let first = match futures::StreamExt::next(&mut blocks).await {
                Some(Ok(block)) => block,
                Some(Err(status)) => return Ok(Err(status)),
                None => return Ok(Err(tonic::Status::unavailable("no block came"))),
            };
            if let Err(why) = self.check_first(&first) {
                return Ok(Err(tonic::Status::data_loss(why)));
            }
            let (dir, id, signer) = (
                blocks_dir(&self.dir),
                self.id.clone(),
                self.context.signer.clone(),
            );
            let chain = tokio::task::spawn_blocking(move || Chain::create(&dir, &id, &first, signer))
                .await
                .map_err(fail)?
                .map_err(fail)?;
            *self.chain.write() = Some(Arc::new(chain));
        }
        let chain = self.chain().ok_or_else(|| fail("the chain is not open"))?;
        match puller.store(&chain, blocks).await {
            Ok(outcome) => Ok(outcome),
            Err(PullError::Stopped) => Ok(Ok(())),
            Err(other) => Err(fail(other)),
        }
    }

    /// The first block has no signature (spec 02 §9): the join block, at the end of the chain of hashes, vouches for it.
    fn check_first(&self, block: &common::Block) -> Result<(), String> {
        check_block_content(block).map_err(|e| e.to_string())?;
        let header = block.header.as_ref().ok_or("the first block has no header")?;
        if header.number != 0 || !header.previous_hash.is_empty() {
            return Err("the first block is not number 0".into());
        }
        let bundle = Bundle::from_config_block_as(NodeRole::Orderer, block).map_err(|e| e.to_string())?;
        if bundle.channel_id() != self.id {
            return Err(format!("the first block is of channel {}", bundle.channel_id()));
        }
        Ok(())
    }

    /// Pulls blocks as they are made, until the configuration names this node as a consenter.
    async fn follow(&self, chain: &Arc<Chain>) -> Result<(), ChannelFailure> {
        self.role.send_replace(Role::Follower);
        let stop = self.stop.child_token();
        let puller = self.puller(stop.clone());
        let mut turn = 0;
        loop {
            let head = chain.head();
            if self.is_stopping() || head.member_by_address(&self.context.own_address).is_some() {
                return Ok(());
            }
            let Some(member) = head.members.get(turn % head.members.len().max(1)) else {
                return Err(fail("the channel has no consenters"));
            };
            turn += 1;
            let source = member.address();
            let roots = orderer_roots(&head.bundle);
            let signer = &self.context.signer.get();
            let mut changes = chain.config_changes();
            changes.borrow_and_update();
            let blocks = puller
                .delivered(&source, roots, signer, &self.id, chain.height(), u64::MAX)
                .await;
            let outcome = match blocks {
                // A new configuration may name this node, or take the source away: look again.
                Ok(blocks) => tokio::select! {
                    stored = puller.store(chain, blocks) => stored,
                    _ = changes.changed() => Ok(Ok(())),
                },
                Err(status) => Ok(Err(status)),
            };
            match outcome {
                Ok(Ok(())) | Err(PullError::Stopped) => {}
                Ok(Err(status)) => {
                    tracing::debug!(channel = %self.id, %source, why = status.message(), "no blocks from an orderer");
                    self.pause().await;
                }
                Err(other) => return Err(fail(other)),
            }
        }
    }

    /// Runs Raft until the configuration no longer names this node.
    async fn take_part(&self, chain: &Arc<Chain>, id: u64) -> Result<(), ChannelFailure> {
        let stop = self.stop.child_token();
        let consensus = Consensus::start(ConsensusParts {
            id,
            dir: self.dir.join("raft"),
            chain: Arc::clone(chain),
            peers: Arc::new(Peers::new(Arc::clone(chain), Arc::clone(&self.context.dialling))),
            puller: Arc::new(self.puller(stop.clone())),
            settings: self.context.raft.clone(),
            own_address: self.context.own_address.clone(),
            metrics: Arc::clone(&self.context.metrics),
            stop,
        })
        .await
        .map_err(fail)?;
        self.role.send_replace(Role::Consenter(Arc::clone(&consensus)));
        let mut changes = chain.config_changes();
        let mut metrics = consensus.raft.metrics();
        let mut led_by = None;
        loop {
            let leader = metrics.borrow_and_update().current_leader;
            if leader.is_some() && leader != led_by {
                self.context.metrics.leader_changes.count(&[&self.id]);
                led_by = leader;
            }
            if chain
                .head()
                .member_by_address(&self.context.own_address)
                .is_none()
            {
                tracing::info!(channel = %self.id, "this node is no consenter any more");
                // The leader needs a moment to commit the change of membership, even if it is this node.
                self.pause().await;
                break;
            }
            tokio::select! {
                () = self.stop.cancelled() => break,
                changed = changes.changed() => if changed.is_err() { break },
                changed = metrics.changed() => if changed.is_err() || consensus.failure().is_some() { break },
            }
        }
        let failure = consensus.failure();
        consensus.shutdown().await;
        if self.is_stopping() {
            return Ok(());
        }
        match failure {
            Some(why) => Err(fail(why)),
            None => {
                // Should the node come back one day, it must not vote with what it remembers of old times.
                let raft = self.dir.join("raft");
                self.role.send_replace(Role::Follower);
                drop(consensus);
                tokio::fs::remove_dir_all(&raft).await.map_err(fail)
            }
        }
    }

    /// Stops all work on the channel and waits for it.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}
