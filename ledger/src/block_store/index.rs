//! Where each block stands: offsets of the last segment in memory, those of full segments in index files.
//!
//! Index file: one u64 a block, the offset of its record. It is a cache: a missing one, or one that leads to anything but the
//! wanted record, is made again from its segment.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::error::BlockStoreError;
use super::record::SegmentFile;
use super::segment_path;

type Result<T> = std::result::Result<T, BlockStoreError>;

/// How many full segments are kept open for reading.
const OPEN_SEGMENTS: usize = 8;

/// Where a block's record is.
pub(super) struct Place {
    pub(super) segment: Arc<SegmentFile>,
    pub(super) offset: u64,
    /// The offset was not found by reading the segment itself.
    pub(super) from_index_file: bool,
}

/// All segments.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    /// First block of each full segment, and of the block after it.
    sealed: BTreeMap<u64, u64>,
    last: Option<Last>,
    /// Full segments that were read lately, the latest one last.
    open: Mutex<Vec<OpenSegment>>,
}

#[derive(Debug, Clone)]
struct OpenSegment {
    first: u64,
    blocks: Arc<SegmentFile>,
    index: Arc<File>,
}

#[derive(Debug)]
struct Last {
    first: u64,
    offsets: Vec<u64>,
    segment: Arc<SegmentFile>,
}

impl Segments {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            sealed: BTreeMap::new(),
            last: None,
            open: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn height(&self) -> u64 {
        self.last.as_ref().map_or_else(
            || self.sealed.last_key_value().map_or(0, |(_, next)| *next),
            |l| l.first + l.offsets.len() as u64,
        )
    }

    /// First blocks of all segments, sorted.
    pub(super) fn firsts(&self) -> Vec<u64> {
        self.sealed
            .keys()
            .copied()
            .chain(self.last.as_ref().map(|l| l.first))
            .collect()
    }

    /// Adds a full segment found on disk, making its index file if it has none.
    pub(super) fn add_sealed(&mut self, first: u64, next: u64) -> Result<()> {
        self.sealed.insert(first, next);
        let path = index_path(&self.dir, first);
        let expected = (next - first) * 8;
        if std::fs::metadata(&path).is_ok_and(|m| m.len() == expected) {
            return Ok(());
        }
        self.rebuild(first, next)
    }

    /// Begins a segment, which is the last one from now on.
    pub(super) fn begin(&mut self, first: u64, segment: Arc<SegmentFile>) {
        self.last = Some(Last {
            first,
            offsets: Vec::new(),
            segment,
        });
    }

    /// The next block of the last segment stands at `offset`.
    pub(super) fn push(&mut self, offset: u64) {
        if let Some(last) = &mut self.last {
            last.offsets.push(offset);
        }
    }

    /// The last segment is full: `next` is the block after it.
    pub(super) fn seal(&mut self, next: u64) -> Result<()> {
        if let Some(last) = self.last.take() {
            write_index(&self.dir, last.first, &last.offsets)?;
            self.sealed.insert(last.first, next);
        }
        Ok(())
    }

    /// Where block `number` is. It must be below the height.
    pub(super) fn locate(&self, number: u64) -> Result<Place> {
        if let Some(last) = &self.last
            && let Some(place) = number.checked_sub(last.first)
            && let Some(&offset) = usize::try_from(place).ok().and_then(|p| last.offsets.get(p))
        {
            return Ok(Place {
                segment: Arc::clone(&last.segment),
                offset,
                from_index_file: false,
            });
        }
        let (first, _) = self.sealed_of(number)?;
        let segment = self.open_sealed(first)?;
        let mut offset = [0; 8];
        let path = index_path(&self.dir, first);
        let at = (number - first) * 8;
        segment
            .index
            .read_exact_at(&mut offset, at)
            .map_err(BlockStoreError::io("read", path))?;
        Ok(Place {
            segment: segment.blocks,
            offset: u64::from_le_bytes(offset),
            from_index_file: true,
        })
    }

    /// Where block `number` is, by reading its segment through; makes the index file again.
    pub(super) fn relocate(&self, number: u64) -> Result<Place> {
        let (first, next) = self.sealed_of(number)?;
        self.rebuild(first, next)?;
        self.open.lock().retain(|s| s.first != first);
        let place = self.locate(number)?;
        Ok(Place {
            from_index_file: false,
            ..place
        })
    }

    fn sealed_of(&self, number: u64) -> Result<(u64, u64)> {
        let found = self
            .sealed
            .range(..=number)
            .next_back()
            .filter(|(_, next)| number < **next);
        found
            .map(|(f, n)| (*f, *n))
            .ok_or_else(|| BlockStoreError::Corrupt {
                path: self.dir.clone(),
                offset: 0,
                why: format!("no file holds block {number}"),
            })
    }

    fn open_sealed(&self, first: u64) -> Result<OpenSegment> {
        let mut open = self.open.lock();
        let segment = match open.iter().position(|s| s.first == first) {
            Some(place) => open.remove(place),
            None => {
                let index = index_path(&self.dir, first);
                OpenSegment {
                    first,
                    blocks: Arc::new(SegmentFile::open(&segment_path(&self.dir, first), first)?),
                    index: Arc::new(File::open(&index).map_err(BlockStoreError::io("open", index))?),
                }
            }
        };
        if open.len() >= OPEN_SEGMENTS {
            open.remove(0);
        }
        open.push(segment.clone());
        Ok(segment)
    }

    fn rebuild(&self, first: u64, next: u64) -> Result<()> {
        let path = segment_path(&self.dir, first);
        let scan = SegmentFile::open(&path, first)?.scan(false)?;
        if first + scan.offsets.len() as u64 != next {
            return Err(BlockStoreError::Corrupt {
                path,
                offset: scan.end,
                why: format!("it should end with block {}", next - 1),
            });
        }
        write_index(&self.dir, first, &scan.offsets)
    }
}

fn index_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.idx"))
}

/// Writes an index file beside its segment. It is not synced: a bad one is noticed and made again.
fn write_index(dir: &Path, first: u64, offsets: &[u64]) -> Result<()> {
    let bytes: Vec<u8> = offsets.iter().flat_map(|o| o.to_le_bytes()).collect();
    let path = index_path(dir, first);
    let temporary = path.with_extension("idx.tmp");
    let io = BlockStoreError::io;
    std::fs::write(&temporary, bytes).map_err(io("write", &temporary))?;
    std::fs::rename(&temporary, &path).map_err(io("rename", &temporary))
}
