//! One channel's ledger: commit, recovery and look-ups.

mod block_to_live;
mod commit;
mod recovery;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::encoding::{decode_varint, encode_varint};
use rocksdb::Direction;
use selvedge_proto::common;
use selvedge_proto::protos::TxValidationCode;
use tokio::sync::watch;

use crate::block_store::BlockStore;
use crate::contents;
use crate::db::{DatabaseOptions, Db};
use crate::error::LedgerError;
use crate::keys;
use crate::private::{PrivateStore, PrivateWrites};
use crate::snapshot::{CommittedState, StateSnapshot, damaged};

use block_to_live::BlockToLive;

/// Where a transaction stands, and its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxLocation {
    /// Number of its block.
    pub block: u64,
    /// Its index in the block.
    pub index: u64,
    /// Its validation code.
    pub code: TxValidationCode,
}

impl TxLocation {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12);
        encode_varint(self.block, &mut out);
        encode_varint(self.index, &mut out);
        encode_varint(u64::from((self.code as i32).unsigned_abs()), &mut out);
        out
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut next = || decode_varint(&mut bytes).ok();
        Some(Self {
            block: next()?,
            index: next()?,
            code: i32::try_from(next()?).ok()?.try_into().ok()?,
        })
    }
}

/// How long the steps of a commit took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitTimes {
    /// Making the block and its private data durable.
    pub block_storage: Duration,
    /// Writing what follows from the block: state, history and indexes.
    pub state: Duration,
}

/// The ledger of one channel. One thread commits ([`Ledger::commit`]); any number read.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    channel_id: String,
    blocks: BlockStore,
    db: Arc<Db>,
    private: PrivateStore,
    block_to_live: BlockToLive,
    /// Whether anything in the state goes at some block.
    expiring: AtomicBool,
    /// The commit hash of the last block; held while a block is committed.
    tip: Mutex<Bytes>,
    height: watch::Sender<u64>,
    /// The state after the last block, once somebody has asked for it.
    latest: Mutex<Option<Arc<StateSnapshot>>>,
    /// Those of the last commit.
    times: Mutex<CommitTimes>,
}

impl Ledger {
    /// Makes the ledger of a new channel in `dir` and commits its genesis block, whose transactions are not validated
    /// (spec 03 §10.3).
    ///
    /// # Errors
    /// There is a ledger in `dir`, the block is not a genesis block, or the disk fails.
    pub fn create(dir: &Path, genesis: &common::Block) -> Result<Self, LedgerError> {
        Self::create_with(dir, genesis, &DatabaseOptions::default())
    }

    /// As [`Ledger::create`], with other limits of memory.
    ///
    /// # Errors
    /// As [`Ledger::create`].
    pub fn create_with(
        dir: &Path,
        genesis: &common::Block,
        options: &DatabaseOptions,
    ) -> Result<Self, LedgerError> {
        let channel_id = contents::channel_of(genesis)?;
        if contents::number_of(genesis)? != 0 {
            return Err(LedgerError::OutOfOrder {
                expected: 0,
                got: contents::number_of(genesis)?,
            });
        }
        let blocks = BlockStore::open(&dir.join("blocks"))?;
        if blocks.height() > 0 {
            return Err(LedgerError::AlreadyExists(dir.to_owned()));
        }
        let ledger = Self::assemble(dir, channel_id, blocks, options)?;
        ledger.commit_genesis(genesis.clone())?;
        Ok(ledger)
    }

    /// Opens the ledger in `dir`, rolling its state forward to the end of the block files.
    ///
    /// # Errors
    /// There is no ledger, it is of another channel, its files are damaged or in use, or the disk fails.
    pub fn open(dir: &Path, channel_id: &str) -> Result<Self, LedgerError> {
        Self::open_with(dir, channel_id, &DatabaseOptions::default())
    }

    /// As [`Ledger::open`], with other limits of memory.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_with(dir: &Path, channel_id: &str, options: &DatabaseOptions) -> Result<Self, LedgerError> {
        let blocks = BlockStore::open(&dir.join("blocks"))?;
        let genesis = blocks
            .block(0)?
            .ok_or_else(|| LedgerError::NoGenesis(dir.to_owned()))?;
        let found = contents::channel_of(&genesis)?;
        if found != channel_id {
            return Err(LedgerError::WrongChannel {
                path: dir.to_owned(),
                found,
                wanted: channel_id.to_owned(),
            });
        }
        let ledger = Self::assemble(dir, found, blocks, options)?;
        ledger.recover()?;
        Ok(ledger)
    }

    fn assemble(
        dir: &Path,
        channel_id: String,
        blocks: BlockStore,
        options: &DatabaseOptions,
    ) -> Result<Self, LedgerError> {
        let db = Arc::new(Db::open(&dir.join("state"), options)?);
        let private = PrivateStore::open(dir.join("private"), options)?;
        let expiring = db.scan_prefix(keys::EXPIRY, Direction::Forward).next().is_some();
        let ledger = Self {
            dir: dir.to_owned(),
            channel_id,
            blocks,
            db,
            private,
            block_to_live: BlockToLive::default(),
            expiring: AtomicBool::new(expiring),
            tip: Mutex::new(Bytes::new()),
            height: watch::Sender::new(0),
            latest: Mutex::default(),
            times: Mutex::default(),
        };
        ledger.check_format()?;
        Ok(ledger)
    }

    /// The channel's name.
    pub fn channel_id(&self) -> &str {
        &self.channel_id
    }

    /// The folder of this ledger.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many blocks are committed; the next block has this number.
    pub fn height(&self) -> u64 {
        *self.height.borrow()
    }

    /// The height, changing after each block is on disk and its writes can be read.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.height.subscribe()
    }

    /// How long the last commit took since the ledger was opened.
    pub fn last_commit_times(&self) -> CommitTimes {
        *self.times.lock()
    }

    /// The block files.
    pub fn blocks(&self) -> &BlockStore {
        &self.blocks
    }

    /// The state after the last committed block, unaffected by later ones. Whoever asks between two blocks shares one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn snapshot(&self) -> Result<Arc<StateSnapshot>, LedgerError> {
        let mut latest = self.latest.lock();
        // Read under the lock: what is kept here is never replaced by something older.
        let height = self.height();
        if let Some(snapshot) = latest.as_ref().filter(|s| s.height() >= height) {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(StateSnapshot::take(&self.db)?);
        *latest = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// The state as it is now; for the committing thread.
    pub fn state(&self) -> CommittedState<'_> {
        CommittedState::new(&self.db)
    }

    /// The commit hash of the last block (spec 03 §9); empty after block 0, and on a chain that was begun without.
    pub fn commit_hash(&self) -> Bytes {
        self.tip.lock().clone()
    }

    /// Where the first transaction of this id stands (spec 03 §12).
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn transaction(&self, tx_id: &str) -> Result<Option<TxLocation>, LedgerError> {
        let name = keys::tx_key(tx_id);
        let found = self.db.get(&name)?;
        found
            .map(|b| TxLocation::decode(&b).ok_or_else(|| damaged(&name)))
            .transpose()
    }

    /// Whether a transaction of this id is in the chain, whatever its code.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn contains_tx(&self, tx_id: &str) -> Result<bool, LedgerError> {
        Ok(self.db.get(&keys::tx_key(tx_id))?.is_some())
    }

    /// Which of these transactions are in the chain, whatever their codes; in the order of `tx_ids`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn contains_txs<S: AsRef<str>>(&self, tx_ids: &[S]) -> Result<Vec<bool>, LedgerError> {
        let names: Vec<Vec<u8>> = tx_ids.iter().map(|id| keys::tx_key(id.as_ref())).collect();
        let found = self.db.get_many(&names, None)?;
        Ok(found.iter().map(Option::is_some).collect())
    }

    /// Number of the block with this hash.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn block_by_hash(&self, hash: &[u8]) -> Result<Option<u64>, LedgerError> {
        let name = keys::block_hash_key(hash);
        let Some(found) = self.db.get(&name)? else {
            return Ok(None);
        };
        let number = <[u8; 8]>::try_from(found.as_slice()).map_err(|_| damaged(&name))?;
        Ok(Some(u64::from_be_bytes(number)))
    }

    /// The private data of a block that this peer holds in plain text and that has neither expired nor been purged.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn private_writes(&self, block: u64) -> Result<Vec<PrivateWrites>, LedgerError> {
        Ok(self
            .private
            .of_block(block)?
            .into_iter()
            .map(|(writes, _)| writes)
            .collect())
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }
}
