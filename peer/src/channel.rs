//! One channel of a peer: its ledger, its configuration, and the way of a block into it.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use selvedge_channel::{Bundle, ConfigError, NodeRole};
use selvedge_ledger::{CONFIG_KEY, CONFIG_NAMESPACE, Ledger, LedgerError, StateReader};
use selvedge_proto::{common, go_compat, rwset};
use tokio::sync::broadcast;

use crate::committed::{CommittedBlock, CommittedTx};
use crate::definition::{ChaincodeDefinition, DefinitionError, LIFECYCLE, read_definition};
use crate::endorsements::OwnEndorsements;
use crate::metrics::LedgerMetrics;
use crate::private_writes;
use crate::refusals::{Refusal, RefusalLog};
use crate::transient::{TransientError, TransientStore};
use crate::validation::{self, KnownDefinitions, Policies, PreparedBlock, ProcessError, ValidatorPool};

/// Blocks that a listener may fall behind before it has to read from disk.
const LISTENER_BACKLOG: usize = 256;
const LEDGER_DIR: &str = "ledger";
const TRANSIENT_DIR: &str = "transient";

/// Why a channel could not be created, opened or read.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The configuration cannot be used by this peer.
    #[error("channel {channel}: {source}")]
    Config {
        /// The channel.
        channel: String,
        /// Which element breaks which rule.
        source: ConfigError,
    },
    /// The first block is not one.
    #[error("this is no genesis block of a channel: {0}")]
    NotGenesis(String),
    /// The state holds no readable configuration.
    #[error(
        "channel {channel}: the state holds no configuration that can be read: {why}; remove the `state` folder to rebuild it"
    )]
    NoConfig {
        /// The channel.
        channel: String,
        /// What is wrong.
        why: String,
    },
    /// The store of private data that waits for commit.
    #[error(transparent)]
    Transient(#[from] TransientError),
}

/// One channel that this peer has joined. Share it as `Arc`.
#[derive(Debug)]
pub struct PeerChannel {
    id: String,
    ledger: Ledger,
    policies: ArcSwap<Policies>,
    /// Blocks are committed one after the other, judged by the definitions that the last one was, where they still hold.
    committing: Mutex<KnownDefinitions>,
    commits: broadcast::Sender<Arc<CommittedBlock>>,
    own: Arc<OwnEndorsements>,
    refusals: RefusalLog,
    transient: TransientStore,
    /// Why blocks cannot be committed at the moment.
    trouble: Mutex<Option<String>>,
    metrics: OnceLock<Arc<LedgerMetrics>>,
    /// Where signatures are checked; absent: on as many threads as there are cores.
    validators: OnceLock<ValidatorPool>,
}

impl PeerChannel {
    /// Joins a channel: starts a ledger in `dir`, a folder of this channel alone, with its genesis block, whose transactions
    /// are not validated (spec 03 §10.3).
    ///
    /// # Errors
    /// The block is no genesis block, its configuration cannot be used, there is a ledger already, or the disk fails.
    pub fn create(dir: &Path, genesis: common::Block) -> Result<Arc<Self>, ChannelError> {
        let number = genesis.header.as_ref().map(|h| h.number);
        if number != Some(0) {
            return Err(ChannelError::NotGenesis(format!(
                "its number is {number:?} instead of 0"
            )));
        }
        let bundle = Bundle::from_config_block_as(NodeRole::Peer, &genesis)
            .map_err(|e| ChannelError::NotGenesis(e.to_string()))?;
        let ledger = Ledger::create(&dir.join(LEDGER_DIR), &genesis)?;
        Self::assemble(dir, ledger, bundle)
    }

    /// Opens a channel that was created before, and mends what a crash left unfinished.
    ///
    /// # Errors
    /// There is no such ledger, it is damaged, or its configuration cannot be used by this peer.
    pub fn open(dir: &Path, channel_id: &str) -> Result<Arc<Self>, ChannelError> {
        let ledger = Ledger::open(&dir.join(LEDGER_DIR), channel_id)?;
        let bundle = stored_bundle(&ledger, channel_id)?;
        Self::assemble(dir, ledger, bundle)
    }

    fn assemble(dir: &Path, ledger: Ledger, bundle: Bundle) -> Result<Arc<Self>, ChannelError> {
        let transient = TransientStore::open(&dir.join(TRANSIENT_DIR))?;
        // A crash can come between a commit and the tidying up after it.
        for tx_id in transient.ids() {
            if ledger.contains_tx(&tx_id)? {
                transient.remove(&tx_id);
            }
        }
        Ok(Arc::new(Self {
            id: bundle.channel_id().to_owned(),
            ledger,
            policies: ArcSwap::from_pointee(Policies::new(Arc::new(bundle))),
            committing: Mutex::default(),
            commits: broadcast::Sender::new(LISTENER_BACKLOG),
            own: Arc::default(),
            refusals: RefusalLog::default(),
            transient,
            trouble: Mutex::default(),
            metrics: OnceLock::new(),
            validators: OnceLock::new(),
        }))
    }

    /// Measures commits from now on; only the first call counts.
    pub(crate) fn measure(&self, metrics: Arc<LedgerMetrics>) {
        self.metrics.get_or_init(|| metrics);
    }

    /// Validates on these threads from now on, instead of on one for each core; only the first call counts.
    pub fn validate_on(&self, pool: ValidatorPool) {
        self.validators.get_or_init(|| pool);
    }

    fn validators(&self) -> &ValidatorPool {
        self.validators
            .get()
            .unwrap_or_else(|| ValidatorPool::all_cores())
    }

    /// Notes that blocks cannot be committed; the next commit ends it.
    pub(crate) fn note_trouble(&self, why: String) {
        *self.trouble.lock() = Some(why);
    }

    /// Why blocks cannot be committed at the moment, if they cannot.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// The channel's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many blocks are committed.
    pub fn height(&self) -> u64 {
        self.ledger.height()
    }

    /// The configuration as of the last committed block.
    pub fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(self.policies.load().bundle())
    }

    /// The channel's ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Listens to commits: each block comes after it is durable. A listener that falls behind gets `Lagged` and reads on
    /// with [`PeerChannel::committed_block`].
    pub fn commits(&self) -> broadcast::Receiver<Arc<CommittedBlock>> {
        self.commits.subscribe()
    }

    /// A block that is committed, from disk.
    ///
    /// # Errors
    /// The block files cannot be read.
    pub fn committed_block(&self, number: u64) -> Result<Option<Arc<CommittedBlock>>, ChannelError> {
        let block = self.ledger.blocks().block(number).map_err(LedgerError::from)?;
        Ok(block.map(|block| Arc::new(CommittedBlock::from_block(block))))
    }

    /// The committed definition of a chaincode (spec 03 §11), read through `state`.
    ///
    /// # Errors
    /// The state cannot be read or what stands there is no definition.
    pub fn chaincode_definition(
        &self,
        state: &dyn StateReader,
        name: &str,
    ) -> Result<Option<ChaincodeDefinition>, DefinitionError> {
        read_definition(state, name)
    }

    /// Tells the channel of an endorsement that this peer made, so that it need not be verified when it comes back:
    /// `payload` is `ProposalResponse.payload`, `endorser` and `signature` are those of the `Endorsement`.
    pub fn remember_endorsement(&self, payload: &[u8], endorser: &[u8], signature: &[u8]) {
        self.own.remember(payload, endorser, signature);
    }

    /// Keeps the plaintext of the private writes of a transaction until it commits. To be called before the endorsement
    /// leaves the peer; returns when it is on disk.
    ///
    /// # Errors
    /// `tx_id` is no transaction id, or the disk fails.
    pub fn keep_private(&self, tx_id: &str, private: &rwset::TxPvtReadWriteSet) -> Result<(), ChannelError> {
        Ok(self.transient.keep(tx_id, private)?)
    }

    /// Why a transaction was refused, if that was lately.
    pub fn refusal(&self, tx_id: &str) -> Option<Arc<Refusal>> {
        self.refusals.get(tx_id)
    }

    /// Opens a block's transactions and checks their signatures, on all validation threads: the half that can run ahead of
    /// the chain.
    ///
    /// # Errors
    /// The block has no header or no data.
    pub fn prepare(&self, block: common::Block) -> Result<PreparedBlock, ProcessError> {
        validation::prepare(block, self.bundle(), &self.own, self.validators())
    }

    /// Judges and commits the next block. Blocks the thread until it is durable.
    ///
    /// # Errors
    /// It is not the next block, it cannot be judged, or the disk fails; nothing is committed then.
    pub fn commit(&self, mut prepared: PreparedBlock) -> Result<Arc<CommittedBlock>, ProcessError> {
        let mut committing = self.committing.lock();
        // They are put back when all has gone well.
        let mut definitions = std::mem::take(&mut *committing);
        let started = Instant::now();
        let expected = self.ledger.height();
        if prepared.number != expected {
            return Err(ProcessError::NotNext {
                channel: self.id.clone(),
                expected,
                got: prepared.number,
            });
        }
        let policies = self.policies.load_full();
        prepared.refresh(policies.bundle(), &self.own, self.validators());
        let judgement = validation::judge(
            &prepared,
            &policies,
            &self.ledger.state(),
            &self.ledger,
            &mut definitions,
        )?;
        let defines = judgement.updates.namespaces().contains_key(LIFECYCLE);
        let private = private_writes::collect(&prepared, &judgement.codes, &self.transient);
        let mut block = prepared.block.clone();
        self.ledger
            .prepare(&mut block, &judgement.codes, &judgement.updates);
        let looked_up: Vec<Option<(&str, bool)>> = prepared
            .txs
            .iter()
            .zip(&judgement.known)
            .map(|(tx, known)| known.map(|known| (tx.open.tx_id.as_str(), known)))
            .collect();
        self.ledger
            .commit_looked_up(block.clone(), judgement.updates, private, &looked_up)?;
        if !defines {
            *committing = definitions;
        }
        if let Some(bundle) = judgement.bundle {
            self.policies.store(Arc::new(Policies::new(bundle)));
        }
        let txs = prepared.txs.iter().zip(&judgement.codes).enumerate();
        let committed = Arc::new(CommittedBlock {
            number: prepared.number,
            block,
            txs: txs
                .map(|(index, (tx, code))| CommittedTx::new(index, &tx.open, *code))
                .collect(),
        });
        for (index, fault) in judgement.faults {
            let tx_id = committed
                .txs
                .get(index)
                .map(|tx| tx.tx_id.clone())
                .unwrap_or_default();
            self.refusals.add(Refusal {
                channel: self.id.clone(),
                block: committed.number,
                index,
                tx_id,
                code: fault.code,
                reason: fault.why,
            });
        }
        for tx in &committed.txs {
            self.transient.remove(&tx.tx_id);
        }
        *self.trouble.lock() = None;
        if let Some(metrics) = self.metrics.get() {
            metrics.block(&self.id, started.elapsed(), self.ledger.last_commit_times());
            for (tx, prepared) in committed.txs.iter().zip(&prepared.txs) {
                let chaincode = prepared.content().map(|content| content.chaincode.as_str());
                metrics.transaction(&self.id, tx.header_type, chaincode, tx.code);
            }
        }
        // Nobody listening is no error.
        let _ = self.commits.send(Arc::clone(&committed));
        drop(committing);
        Ok(committed)
    }

    /// [`PeerChannel::prepare`] and [`PeerChannel::commit`] in one, for a block that was verified (spec 03 §2).
    ///
    /// # Errors
    /// As those two.
    pub fn process_block(&self, block: common::Block) -> Result<Arc<CommittedBlock>, ProcessError> {
        self.commit(self.prepare(block)?)
    }
}

impl validation::ChainView for Ledger {
    fn known_ids(&self, ids: &[&str]) -> Result<Vec<bool>, ProcessError> {
        Ok(self.contains_txs(ids)?)
    }

    fn tx_id_at(&self, block: u64, index: u64) -> Option<String> {
        let block = self.blocks().block(block).ok()??;
        let data = block.data?.data;
        let tx = validation::open(data.get(usize::try_from(index).ok()?)?);
        Some(tx.tx_id)
    }
}

/// The configuration that the last config transaction left in the state.
fn stored_bundle(ledger: &Ledger, channel_id: &str) -> Result<Bundle, ChannelError> {
    let missing = |why: String| ChannelError::NoConfig {
        channel: channel_id.to_owned(),
        why,
    };
    let entry = ledger.state().get(CONFIG_NAMESPACE, CONFIG_KEY)?;
    let entry = entry.ok_or_else(|| missing("there is none".into()))?;
    let envelope: common::ConfigEnvelope =
        go_compat::decode(entry.value).map_err(|e| missing(e.to_string()))?;
    let config = envelope
        .config
        .ok_or_else(|| missing("the entry holds no Config".into()))?;
    Bundle::from_config_as(NodeRole::Peer, channel_id, config).map_err(|source| ChannelError::Config {
        channel: channel_id.to_owned(),
        source,
    })
}
