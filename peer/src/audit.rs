//! Auditing a chain offline: `selvedge ledger verify`.
//!
//! ```text
//!  read ─► verify: number, hash chain, data hash, form,  ─► prepare: every      ─► judge and commit to a scratch ledger;
//!          orderers' signatures under the configuration     signature, all cores   compare verdicts and commit hash with
//!          in force                                                                those in the file
//! ```
//! Nothing that the files say is believed but the genesis block, whose hash the report names: whoever knows the right one
//! by another way can prove the whole chain with it. A peer's files also hold verdicts and commit hashes, which must be the
//! ones that come out here; an orderer's files hold none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use selvedge_channel::verify::{BlockRefusal, BlockVerifier, brought_config};
use selvedge_channel::{Bundle, ConfigError, NodeRole};
use selvedge_ledger::{BlockFiles, BlockStoreError, LedgerError, commit_hash};
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::{block_hash, common};
use serde::Serialize;

use crate::channel::{ChannelError, PeerChannel};
use crate::replay::{self, ReplayError};
use crate::validation::{PreparedBlock, ProcessError};

/// Blocks that wait between two stages.
const AHEAD: usize = 4;
/// How deep a folder is searched for block files.
const MAX_DEPTH: usize = 6;

/// Why a chain does not verify, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is nothing to verify.
    #[error(
        "{} holds no chain: give the data folder of a peer or an orderer, a folder of block files (*.blk), or one of \
         exported blocks (000.block, 001.block ...)",
        .0.display()
    )]
    Nothing(PathBuf),
    /// A block file is damaged or cannot be read.
    #[error(transparent)]
    Files(#[from] BlockStoreError),
    /// An exported block cannot be read.
    #[error(transparent)]
    Exported(#[from] ReplayError),
    /// A block is not what the orderers of the channel signed, or does not continue the chain.
    #[error("block {number} does not verify: {source}")]
    Refused {
        /// Its number.
        number: u64,
        /// Which rule it breaks.
        source: Box<BlockRefusal>,
    },
    /// A config block brings a configuration that cannot be used.
    #[error("config block {number} holds a configuration that cannot be used: {source}")]
    Config {
        /// Its number.
        number: u64,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// The first block cannot start a channel, or the scratch ledger failed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A block cannot be judged.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The scratch ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The files give a transaction another verdict than the rules do.
    #[error(
        "transaction {index} of block {number} is recorded as {recorded}, and the rules make it {found}{}: the files were \
         changed, or the peer that wrote them judged wrongly",
        why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    Verdict {
        /// Number of the block.
        number: u64,
        /// Place in the block.
        index: usize,
        /// Name of the code in the file.
        recorded: String,
        /// Name of the code that came out.
        found: String,
        /// Why the transaction is not valid, if it is not.
        why: Option<String>,
    },
    /// The commit hash in the files is not the one of what the transactions write.
    #[error(
        "the commit hash of block {number} is recorded as {recorded}, and what its transactions write makes {found}"
    )]
    CommitHash {
        /// Number of the block.
        number: u64,
        /// What stands in the file, in hex.
        recorded: String,
        /// What came out, in hex.
        found: String,
    },
    /// The chain starts with another block than the one that is trusted.
    #[error("the chain starts with the genesis block {found}, not with the trusted one, {trusted}")]
    OtherGenesis {
        /// Hash of the trusted block, in hex.
        trusted: String,
        /// Hash of the first block in the files, in hex.
        found: String,
    },
    /// A stage ended without saying why.
    #[error("verifying stopped: {0}")]
    Stopped(&'static str),
}

/// Where a chain lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainFiles {
    /// Block files of a node.
    Store(PathBuf),
    /// One file a block, as `selvedge channel fetch` and Fabric's tools write them.
    Exported(PathBuf),
}

impl ChainFiles {
    /// The folder.
    pub fn path(&self) -> &Path {
        let (Self::Store(path) | Self::Exported(path)) = self;
        path
    }
}

/// All chains in a folder and the folders below it: the data folder of a node holds one for each channel.
///
/// # Errors
/// A folder cannot be read, or there is no chain.
pub fn find_chains(folder: &Path) -> Result<Vec<ChainFiles>, AuditError> {
    let mut found = Vec::new();
    search(folder, MAX_DEPTH, &mut found)?;
    found.sort_by(|a, b| a.path().cmp(b.path()));
    if found.is_empty() {
        return Err(AuditError::Nothing(folder.to_owned()));
    }
    Ok(found)
}

fn search(folder: &Path, depth: usize, found: &mut Vec<ChainFiles>) -> Result<(), AuditError> {
    let failed = |source| AuditError::Folder {
        path: folder.to_owned(),
        source,
    };
    let mut below = Vec::new();
    let (mut store, mut exported) = (false, false);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("blk") => store = true,
            Some("block") => {
                let stem = path.file_stem().and_then(|s| s.to_str());
                exported |= stem.is_some_and(|s| s.parse::<u64>().is_ok());
            }
            _ if path.is_dir() => below.push(path),
            _ => {}
        }
    }
    if store {
        found.push(ChainFiles::Store(folder.to_owned()));
    } else if exported {
        found.push(ChainFiles::Exported(folder.to_owned()));
    } else if depth > 0 {
        for folder in below {
            search(&folder, depth - 1, found)?;
        }
    }
    Ok(())
}

/// What verifying a chain found. Its JSON is what `selvedge ledger verify --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// The channel.
    pub channel: String,
    /// Number of blocks.
    pub height: u64,
    /// Hash of the genesis block, in hex: everything else follows from it.
    pub genesis_hash: String,
    /// Hash of the last block, in hex.
    pub last_hash: String,
    /// Commit hash of the last block, in hex; none of a chain that is only a genesis block.
    pub commit_hash: Option<String>,
    /// Number of transactions.
    pub transactions: u64,
    /// How many transactions have each verdict, by its name.
    pub verdicts: BTreeMap<String, u64>,
    /// Blocks whose recorded verdicts and commit hash were found right; 0 in an orderer's files, which have none.
    pub compared: u64,
}

/// How far verifying has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditProgress {
    /// Blocks verified.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
}

/// Verifies a chain. `work` is a folder for the scratch ledger, which must not hold one yet; `trusted` is the hash of the
/// genesis block, if it is known; `tell` hears how far it is, after every block.
///
/// # Errors
/// The first thing that is not right.
pub fn verify(
    files: &ChainFiles,
    work: &Path,
    trusted: Option<&[u8]>,
    mut tell: impl FnMut(AuditProgress),
) -> Result<AuditReport, AuditError> {
    let mut blocks = read(files)?;
    let genesis = blocks
        .next()
        .ok_or_else(|| AuditError::Nothing(files.path().to_owned()))??;
    let genesis_hash = hash_of(&genesis);
    if let Some(trusted) = trusted
        && genesis_hash != hex::encode(trusted)
    {
        return Err(AuditError::OtherGenesis {
            trusted: hex::encode(trusted),
            found: genesis_hash,
        });
    }
    let channel = PeerChannel::create(work, genesis.clone())?;
    let mut tally = Tally::default();
    tally.count(&[TxValidationCode::Valid]);
    std::thread::scope(|scope| {
        let (verified, to_prepare) = sync_channel(AHEAD);
        let (prepared, to_commit) = sync_channel(AHEAD);
        let verifying = scope.spawn(move || verify_blocks(&genesis, blocks, &verified));
        let preparing = {
            let channel = Arc::clone(&channel);
            scope.spawn(move || prepare_blocks(&channel, &to_prepare, &prepared))
        };
        let committed = commit_blocks(&channel, to_commit, &mut tally, &mut tell);
        // The first stage that failed knows why; those behind it only miss their input.
        let stopped = |_| AuditError::Stopped("a thread of it failed");
        verifying.join().map_err(stopped)??;
        preparing.join().map_err(stopped)??;
        committed
    })?;
    let store = channel.ledger().blocks();
    let commit_hash = channel.ledger().commit_hash();
    Ok(AuditReport {
        channel: channel.id().to_owned(),
        height: channel.height(),
        genesis_hash,
        last_hash: store.last_hash().map(hex::encode).unwrap_or_default(),
        commit_hash: (!commit_hash.is_empty()).then(|| hex::encode(commit_hash)),
        transactions: tally.transactions,
        verdicts: tally.verdicts,
        compared: tally.compared,
    })
}

type Blocks = Box<dyn Iterator<Item = Result<common::Block, AuditError>> + Send>;

fn read(files: &ChainFiles) -> Result<Blocks, AuditError> {
    match files {
        ChainFiles::Store(dir) => {
            let files = BlockFiles::open(dir)?.ok_or_else(|| AuditError::Nothing(dir.to_owned()))?;
            Ok(Box::new(files.into_blocks().map(|block| Ok(block?))))
        }
        ChainFiles::Exported(dir) => {
            let files = replay::block_files(dir)?;
            Ok(Box::new(
                files.into_iter().map(|file| Ok(replay::read_block(&file)?)),
            ))
        }
    }
}

fn hash_of(block: &common::Block) -> String {
    block
        .header
        .as_ref()
        .map(block_hash)
        .map(hex::encode)
        .unwrap_or_default()
}

/// Verifies what an ordering service vouches for (spec 03 §2).
fn verify_blocks(
    genesis: &common::Block,
    blocks: Blocks,
    out: &SyncSender<common::Block>,
) -> Result<(), AuditError> {
    let config = |number| move |source| AuditError::Config { number, source };
    let bundle = Bundle::from_config_block_as(NodeRole::Peer, genesis).map_err(config(0))?;
    let mut verifier = BlockVerifier::new(Arc::new(bundle));
    let mut previous = genesis.header.as_ref().map(block_hash);
    for (number, block) in (1..).zip(blocks) {
        let block = block?;
        verifier
            .verify(&block, number, previous.as_deref())
            .map_err(|source| AuditError::Refused {
                number,
                source: Box::new(source),
            })?;
        if let Some(next) = brought_config(NodeRole::Peer, &block).map_err(config(number))? {
            verifier = BlockVerifier::new(Arc::new(next));
        }
        previous = block.header.as_ref().map(block_hash);
        if out.send(block).is_err() {
            // A later stage has failed, and says why.
            return Ok(());
        }
    }
    Ok(())
}

struct Recorded {
    filter: Vec<u8>,
    commit_hash: Option<bytes::Bytes>,
}

fn recorded(block: &common::Block) -> Recorded {
    let slots = block
        .metadata
        .as_ref()
        .map(|m| m.metadata.as_slice())
        .unwrap_or_default();
    let filter = slots
        .get(common::BlockMetadataIndex::TransactionsFilter as usize)
        .map(|slot| slot.to_vec())
        .unwrap_or_default();
    Recorded {
        filter,
        commit_hash: commit_hash::stored(block),
    }
}

fn prepare_blocks(
    channel: &PeerChannel,
    blocks: &Receiver<common::Block>,
    out: &SyncSender<(PreparedBlock, Recorded)>,
) -> Result<(), AuditError> {
    for block in blocks {
        let recorded = recorded(&block);
        let prepared = channel.prepare(block)?;
        if out.send((prepared, recorded)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    transactions: u64,
    verdicts: BTreeMap<String, u64>,
    compared: u64,
}

impl Tally {
    fn count(&mut self, codes: &[TxValidationCode]) {
        for code in codes {
            self.transactions += 1;
            *self.verdicts.entry(code.as_str_name().to_owned()).or_default() += 1;
        }
    }
}

fn commit_blocks(
    channel: &PeerChannel,
    blocks: Receiver<(PreparedBlock, Recorded)>,
    tally: &mut Tally,
    tell: &mut impl FnMut(AuditProgress),
) -> Result<(), AuditError> {
    for (prepared, recorded) in blocks {
        let committed = channel.commit(prepared)?;
        let codes: Vec<TxValidationCode> = committed.txs.iter().map(|tx| tx.code).collect();
        // An orderer leaves the slot empty or, as Fabric does, zeroed without a commit hash beside it.
        if recorded.commit_hash.is_some() {
            compare(channel, committed.number, &codes, &recorded)?;
            tally.compared += 1;
        }
        tally.count(&codes);
        tell(AuditProgress {
            blocks: committed.number + 1,
            transactions: tally.transactions,
        });
    }
    Ok(())
}

fn compare(
    channel: &PeerChannel,
    number: u64,
    codes: &[TxValidationCode],
    recorded: &Recorded,
) -> Result<(), AuditError> {
    let places = codes.len().max(recorded.filter.len());
    for index in 0..places {
        let (found, there) = (codes.get(index), recorded.filter.get(index));
        if found.map(|code| *code as i32) == there.map(|byte| i32::from(*byte)) {
            continue;
        }
        let name = |code: Option<TxValidationCode>| {
            code.map_or_else(|| "missing".to_owned(), |code| code.as_str_name().to_owned())
        };
        let known = there.and_then(|byte| TxValidationCode::try_from(i32::from(*byte)).ok());
        let reason = channel
            .committed_block(number)?
            .and_then(|block| channel.refusal(&block.txs.get(index)?.tx_id))
            .filter(|refusal| refusal.block == number && refusal.index == index);
        return Err(AuditError::Verdict {
            number,
            index,
            recorded: match (there, known) {
                (Some(byte), None) => format!("code {byte}"),
                _ => name(known),
            },
            found: name(found.copied()),
            why: reason.map(|refusal| refusal.reason.clone()),
        });
    }
    let found = channel.ledger().commit_hash();
    match &recorded.commit_hash {
        Some(hash) if *hash != found => Err(AuditError::CommitHash {
            number,
            recorded: hex::encode(hash),
            found: hex::encode(found),
        }),
        _ => Ok(()),
    }
}
