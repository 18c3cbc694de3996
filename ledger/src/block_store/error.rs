//! What can go wrong with block files.

use std::path::PathBuf;

/// Why the block files could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BlockStoreError {
    /// A file operation.
    #[error("block files: could not {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A record is damaged. Blocks that were acknowledged are unreadable, so nothing is skipped or cut off.
    #[error(
        "block file {path} is damaged at offset {offset}: {why}; restore the file from a copy, or remove the whole ledger \
         folder and fetch the channel again"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the damaged record starts.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The file was written by another version of this program.
    #[error(
        "block file {path} has format {found}, and this program reads none beyond {newest}: run the version that wrote it, or \
         remove the whole ledger folder and fetch the channel again"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: char,
        /// The newest format that is known here.
        newest: char,
    },
    /// The block to append is not the next one.
    #[error("block {got} cannot be appended: block {expected} is next")]
    OutOfOrder {
        /// The number that is next.
        expected: u64,
        /// The number given.
        got: u64,
    },
    /// The block does not continue the chain.
    #[error("block {number} has previous hash {found}, but the hash of block {} is {expected}", number.saturating_sub(1))]
    PreviousHash {
        /// Number of the block given.
        number: u64,
        /// Hex of the hash of the last block.
        expected: String,
        /// Hex of what the block names.
        found: String,
    },
    /// The block has no header.
    #[error("a block without a header cannot be appended")]
    NoHeader,
    /// The block is larger than any that this store holds.
    #[error("block {number} has {size} bytes, more than the {max} that a block may have")]
    TooLarge {
        /// Number of the block.
        number: u64,
        /// Its size in bytes.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// Another process, or another store in this one, has the files open.
    #[error("block files in {0} are in use by another process; stop it first")]
    Locked(PathBuf),
    /// An earlier append failed, so what the disk holds is unknown until the files are opened again.
    #[error("block files in {0} refuse to be written after a failed write; restart the node to recover them")]
    Failed(PathBuf),
}

impl BlockStoreError {
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
