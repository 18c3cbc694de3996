//! Reading block files without owning them: nothing is locked, made or mended, so that an auditor can read a copy, a
//! read-only disk, or the files of a node that runs.

use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use selvedge_proto::common;

use super::error::BlockStoreError;
use super::record::{self, SegmentFile};
use super::{segment_names, segment_path};

/// The block files of one channel, as they stand.
#[derive(Debug)]
pub struct BlockFiles {
    dir: PathBuf,
    firsts: Vec<u64>,
}

impl BlockFiles {
    /// The block files in `dir`; none where there are none.
    ///
    /// # Errors
    /// The folder cannot be read, or the first file is missing.
    pub fn open(dir: &Path) -> Result<Option<Self>, BlockStoreError> {
        let firsts = segment_names(dir)?;
        Ok((!firsts.is_empty()).then(|| Self {
            dir: dir.to_owned(),
            firsts,
        }))
    }

    /// The blocks from the first to the last, each with its checksum checked. A last record that is unfinished (a crash, or
    /// a node that is writing it) ends them.
    pub fn into_blocks(self) -> impl Iterator<Item = Result<common::Block, BlockStoreError>> + Send {
        let last = self.firsts.last().copied();
        self.firsts.into_iter().flat_map(move |first| {
            let path = segment_path(&self.dir, first);
            match Segment::open(&path, first, last == Some(first)) {
                Ok(segment) => Blocks::Of(segment),
                Err(error) => Blocks::Failed(Some(error)),
            }
        })
    }
}

#[derive(Default)]
struct Segment {
    /// None where a crash left the file without its header.
    file: Option<SegmentFile>,
    first: u64,
    offsets: std::vec::IntoIter<u64>,
    number: u64,
}

impl Segment {
    fn open(path: &Path, first: u64, is_last: bool) -> Result<Self, BlockStoreError> {
        let io = BlockStoreError::io;
        let file = File::open(path).map_err(io("open", path))?;
        let len = file.metadata().map_err(io("look at", path))?.len();
        if is_last && record::is_unborn(&file, len).map_err(io("read", path))? {
            return Ok(Self::default());
        }
        let file = SegmentFile::of(file, path, first)?;
        Ok(Self {
            offsets: file.scan(is_last)?.offsets.into_iter(),
            file: Some(file),
            first,
            number: first,
        })
    }
}

enum Blocks {
    Of(Segment),
    Failed(Option<BlockStoreError>),
}

impl Iterator for Blocks {
    type Item = Result<common::Block, BlockStoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let segment = match self {
            Self::Failed(error) => return error.take().map(Err),
            Self::Of(segment) => segment,
        };
        let file = segment.file.as_ref()?;
        let offset = segment.offsets.next()?;
        let number = segment.number;
        segment.number += 1;
        let read = file.read(offset, number);
        Some(read.and_then(|bytes| {
            common::Block::decode(Bytes::from(bytes)).map_err(|e| BlockStoreError::Corrupt {
                path: file.path().to_owned(),
                offset,
                why: format!(
                    "block {number} (of the file that begins with block {}) has a right checksum but does not decode: {e}",
                    segment.first
                ),
            })
        }))
    }
}
