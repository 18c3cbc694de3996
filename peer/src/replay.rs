//! Judging a recorded chain again: `selvedge ledger replay`.
//!
//! Any folder of blocks (`000.block`, `001.block` ..., the first one the genesis block) is verified, validated and committed to
//! a new ledger; verdicts that stand in the files are ignored. The result has the fields of the recorded golden chains.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvedge_channel::verify::{BlockRefusal, BlockVerifier};
use selvedge_ledger::{LedgerError, commit_hash};
use selvedge_proto::{block_hash, common};
use serde::Serialize;

use crate::channel::{ChannelError, PeerChannel};
use crate::committed::CommittedBlock;
use crate::validation::ProcessError;

/// Why a recorded chain could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file operation.
    #[error("could not read {path}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is no block.
    #[error("{path} is no serialised block: {why}")]
    NotABlock {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The folder holds no chain.
    #[error("{0} holds no blocks: expected 000.block (the genesis block), 001.block and so on")]
    Empty(PathBuf),
    /// A block does not continue the chain, or its signatures do not satisfy the channel's policy.
    #[error("block {number} is refused: {source}")]
    Refused {
        /// Its number.
        number: u64,
        /// Which rule it breaks.
        source: Box<BlockRefusal>,
    },
    /// The channel could not be set up.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A block could not be processed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What a replay found. Its JSON has the field names of the recorded chains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// The channel.
    pub channel: String,
    /// Number of blocks.
    pub height: u64,
    /// The blocks, from the genesis block on.
    pub blocks: Vec<BlockReport>,
}

/// One block of a [`ReplayReport`]; all hashes in lowercase hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockReport {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub header_hash: String,
    /// Hash of the block before; empty for the genesis block.
    pub previous_hash: String,
    /// Hash of its transactions.
    pub data_hash: String,
    /// Commit hash; the genesis block has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_hash: Option<String>,
    /// One byte a transaction, in hex.
    pub transactions_filter: String,
    /// Its transactions.
    pub txs: Vec<TxReport>,
}

/// One transaction of a [`BlockReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TxReport {
    /// Its place in the block.
    pub index: usize,
    /// The id in its header; empty where there is none.
    pub txid: String,
    /// Name of the header type, its number where it has no name; empty where the headers do not parse.
    #[serde(rename = "type")]
    pub header_type: String,
    /// Validation code.
    pub code: i32,
    /// Its name.
    pub code_name: String,
    /// Why it is not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The whole state, in the form of the recorded chains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateReport {
    /// The channel.
    pub channel: String,
    /// All entries, sorted by namespace and key.
    pub entries: Vec<StateEntry>,
    /// Number of the last block and of its last transaction, as `block:tx`.
    pub savepoint: String,
}

/// One entry of a [`StateReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateEntry {
    /// Namespace; `ns$$h<collection>` holds hashes of private data, `ns$$p<collection>` private data.
    pub ns: String,
    /// The key as text; each run of bytes that is not UTF-8 is shown as `?`.
    pub key: String,
    /// The key in hex.
    pub key_hex: String,
    /// The value in hex.
    pub value_hex: String,
    /// Who wrote it, as `block:tx`.
    pub version: String,
    /// Metadata (key-level policy) in hex, where there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_hex: Option<String>,
}

/// A finished replay.
#[derive(Debug)]
pub struct Replay {
    /// The verdicts.
    pub report: ReplayReport,
    /// The channel, to be asked for its state.
    pub channel: Arc<PeerChannel>,
}

/// The block files of a folder, in order.
///
/// # Errors
/// The folder cannot be read, or holds no `*.block` file.
pub fn block_files(dir: &Path) -> Result<Vec<PathBuf>, ReplayError> {
    let io = |source| ReplayError::Io {
        path: dir.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let number = path
            .file_stem()
            .and_then(|n| n.to_str())
            .and_then(|n| n.parse::<u64>().ok());
        if let Some(number) = number
            && path.extension().is_some_and(|e| e == "block")
        {
            files.push((number, path));
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(ReplayError::Empty(dir.to_owned()));
    }
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// One block from its file.
///
/// # Errors
/// The file cannot be read or is no block.
pub fn read_block(path: &Path) -> Result<common::Block, ReplayError> {
    let bytes = fs::read(path).map_err(|source| ReplayError::Io {
        path: path.to_owned(),
        source,
    })?;
    common::Block::decode(Bytes::from(bytes)).map_err(|e| ReplayError::NotABlock {
        path: path.to_owned(),
        why: e.to_string(),
    })
}

/// Replays the chain in `blocks` into a new ledger below `work`, a folder that must not hold one yet.
///
/// # Errors
/// A file is no block, a block does not continue the chain, or the ledger fails.
pub fn replay_dir(blocks: &Path, work: &Path) -> Result<Replay, ReplayError> {
    let mut files = block_files(blocks)?.into_iter();
    let Some(first) = files.next() else {
        return Err(ReplayError::Empty(blocks.to_owned()));
    };
    let channel = PeerChannel::create(work, read_block(&first)?)?;
    let mut reports = Vec::new();
    if let Some(genesis) = channel.committed_block(0)? {
        reports.push(report(&channel, &genesis));
    }
    for path in files {
        let block = read_block(&path)?;
        reports.push(report(&channel, &*step(&channel, block)?));
    }
    let report = ReplayReport {
        channel: channel.id().to_owned(),
        height: channel.height(),
        blocks: reports,
    };
    Ok(Replay { report, channel })
}

/// Verifies the next block as a peer does that gets it from an orderer, and processes it.
///
/// # Errors
/// The block is refused or cannot be processed.
pub fn step(channel: &PeerChannel, block: common::Block) -> Result<Arc<CommittedBlock>, ReplayError> {
    let number = channel.height();
    let previous = channel.ledger().blocks().last_hash();
    BlockVerifier::new(channel.bundle())
        .verify(&block, number, previous.as_deref())
        .map_err(|source| ReplayError::Refused {
            number,
            source: Box::new(source),
        })?;
    Ok(channel.process_block(block)?)
}

/// The report of one committed block.
pub fn report(channel: &PeerChannel, committed: &CommittedBlock) -> BlockReport {
    let header = committed.block.header.clone().unwrap_or_default();
    let filter: Vec<u8> = committed
        .txs
        .iter()
        .map(|tx| u8::try_from(tx.code as i32).unwrap_or(u8::MAX))
        .collect();
    let txs = committed.txs.iter().map(|tx| {
        let kind = common::HeaderType::try_from(tx.header_type).map_or_else(
            |unknown| unknown.0.to_string(),
            |kind| kind.as_str_name().to_owned(),
        );
        let refusal = channel
            .refusal(&tx.tx_id)
            .filter(|r| r.block == committed.number && r.index == tx.index);
        TxReport {
            index: tx.index,
            txid: tx.tx_id.clone(),
            header_type: if tx.opened { kind } else { String::new() },
            code: tx.code as i32,
            code_name: tx.code.as_str_name().to_owned(),
            reason: refusal.map(|r| r.reason.clone()),
        }
    });
    BlockReport {
        number: committed.number,
        header_hash: hex::encode(block_hash(&header)),
        previous_hash: hex::encode(&header.previous_hash),
        data_hash: hex::encode(&header.data_hash),
        commit_hash: commit_hash::stored(&committed.block).map(hex::encode),
        transactions_filter: hex::encode(filter),
        txs: txs.collect(),
    }
}

/// The whole state of a channel.
///
/// # Errors
/// The ledger cannot be read.
pub fn state(channel: &PeerChannel) -> Result<StateReport, ReplayError> {
    let snapshot = channel.ledger().snapshot()?;
    let mut entries = Vec::new();
    for entry in snapshot.entries() {
        let (ns, key, entry) = entry?;
        entries.push(StateEntry {
            ns,
            key: printable(&key),
            key_hex: hex::encode(&key),
            value_hex: hex::encode(&entry.value),
            version: format!("{}:{}", entry.version.block, entry.version.tx),
            metadata_hex: (!entry.metadata.is_empty()).then(|| hex::encode(&entry.metadata)),
        });
    }
    entries.sort_by(|a, b| (&a.ns, &a.key_hex).cmp(&(&b.ns, &b.key_hex)));
    let last = snapshot.height().saturating_sub(1);
    let count = channel.committed_block(last)?.map_or(0, |block| block.txs.len());
    let savepoint = format!("{last}:{}", count.saturating_sub(1));
    Ok(StateReport {
        channel: channel.id().to_owned(),
        entries,
        savepoint,
    })
}

/// Each run of bytes that is not UTF-8 becomes one question mark.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut within_run = false;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        within_run &= chunk.valid().is_empty();
        if !chunk.invalid().is_empty() && !within_run {
            text.push('?');
            within_run = true;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_bytes_that_are_no_text_become_one_mark() {
        assert_eq!(printable(b"\x8f_\x9c\xcf0"), "?_?0");
        assert_eq!(printable("a\u{2f7}".as_bytes()), "a\u{2f7}");
        assert_eq!(printable(b"\xff\xfe\xfd"), "?");
        assert_eq!(printable(b""), "");
    }

    #[test]
    fn a_folder_without_blocks_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes.txt"), "x").unwrap();
        assert!(matches!(block_files(dir.path()), Err(ReplayError::Empty(_))));
        fs::write(dir.path().join("010.block"), [0xff]).unwrap();
        fs::write(dir.path().join("002.block"), []).unwrap();
        let files = block_files(dir.path()).unwrap();
        assert!(files[0].ends_with("002.block"));
        assert!(matches!(
            read_block(&files[1]),
            Err(ReplayError::NotABlock { .. })
        ));
    }
}
