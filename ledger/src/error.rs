//! What can go wrong in a ledger.

use std::path::PathBuf;

use crate::block_store::BlockStoreError;

/// Why a ledger could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The block files.
    #[error(transparent)]
    Blocks(#[from] BlockStoreError),
    /// RocksDB.
    #[error("state database {path}: could not {doing}: {why}")]
    Database {
        /// Folder of the database.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What RocksDB said.
        why: String,
    },
    /// An entry of the database is not as this program writes it.
    #[error(
        "state database: the entry of {what} is damaged; stop the node, remove its `state` folder and start it again, \
         it is rebuilt from the block files"
    )]
    DamagedEntry {
        /// Which entry.
        what: String,
    },
    /// The database was written by a program with another format.
    #[error(
        "state database {path} has format {found}, this program writes format {known}; remove the folder to rebuild it"
    )]
    Format {
        /// Folder of the database.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What was expected.
        known: u32,
    },
    /// The database knows more blocks than the block files hold.
    #[error(
        "the state database has reached height {state}, but the block files end at height {blocks}: block files were lost \
         or replaced; restore them, or remove the `state` folder to rebuild the state from what is left"
    )]
    StateAhead {
        /// Height of the database.
        state: u64,
        /// Height of the block files.
        blocks: u64,
    },
    /// The database was made from other blocks.
    #[error(
        "the state database holds the state of another chain: it does not know block {block} of these block files; remove \
         the `state` folder to rebuild it"
    )]
    ForeignState {
        /// The last block that it should know.
        block: u64,
    },
    /// Recomputing a block's writes gave another result than when it was committed.
    #[error(
        "replaying block {block} gives commit hash {computed}, but {stored} is stored with it: the state database does not \
         belong to these block files; remove the `state` folder to rebuild it"
    )]
    Diverged {
        /// Number of the block.
        block: u64,
        /// Hex of the recomputed hash.
        computed: String,
        /// Hex of the stored hash.
        stored: String,
    },
    /// There is no genesis block yet.
    #[error("the ledger in {0} has no genesis block: join the channel first")]
    NoGenesis(PathBuf),
    /// A ledger was to be created where there is one.
    #[error("there is a ledger in {0} already; open it, or remove the folder")]
    AlreadyExists(PathBuf),
    /// The ledger belongs to another channel.
    #[error("the ledger in {path} is of channel {found}, not of {wanted}")]
    WrongChannel {
        /// Folder of the ledger.
        path: PathBuf,
        /// Whose ledger it is.
        found: String,
        /// Whose was wanted.
        wanted: String,
    },
    /// A block does not have the parts that a committed block has.
    #[error("block {number}: {why}")]
    BadBlock {
        /// Number of the block.
        number: u64,
        /// What is wrong.
        why: String,
    },
    /// The block to commit is not the next one.
    #[error("block {got} cannot be committed: the next block of this ledger is {expected}")]
    OutOfOrder {
        /// The number that is next.
        expected: u64,
        /// The number given.
        got: u64,
    },
    /// A file operation.
    #[error("could not {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
