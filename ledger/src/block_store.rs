//! Block files: append-only segments, one checksummed record a block, one `fdatasync` an append.
//!
//! `<first block, 20 digits>.blk` holds consecutive blocks; when a segment is full the next one is begun and the full one gets
//! `<first block>.idx`, the offsets of its records, which can be made again from the segment at any time. When the store is
//! opened the last segment is read through: an unfinished last record is cut off (its block was never acknowledged), and any
//! other damage is an error that names file and offset. Every read checks the block's checksum again.

mod error;
mod files;
mod index;
mod record;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use selvedge_proto::{block_hash, common};
use tokio::sync::watch;

pub use error::BlockStoreError;
pub use files::BlockFiles;
pub use record::MAX_BLOCK_BYTES;

use index::Segments;
use record::{RECORD_HEADER, SEGMENT_HEADER, SegmentFile};

type Result<T> = std::result::Result<T, BlockStoreError>;

const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The blocks of one channel, from block 0 on without a gap. One thread appends; any number read meanwhile.
#[derive(Debug)]
pub struct BlockStore {
    dir: PathBuf,
    segment_bytes: u64,
    writer: Mutex<Writer>,
    segments: RwLock<Segments>,
    tip: RwLock<Option<Tip>>,
    height: watch::Sender<u64>,
    /// Held while the store is open.
    _lock: File,
}

#[derive(Debug)]
struct Writer {
    /// The last segment, and where its last record ends.
    open: Option<(Arc<SegmentFile>, u64)>,
    failed: bool,
}

#[derive(Debug, Clone)]
struct Tip {
    header: common::BlockHeader,
    hash: Bytes,
}

impl BlockStore {
    /// Opens the block files in `dir`, making the folder if it is not there.
    ///
    /// # Errors
    /// The files cannot be read or written, are in use, or are damaged elsewhere than in an unfinished last record.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, SEGMENT_BYTES)
    }

    fn open_with(dir: &Path, segment_bytes: u64) -> Result<Self> {
        let io = BlockStoreError::io;
        std::fs::create_dir_all(dir).map_err(io("create", dir))?;
        let lock = lock(dir)?;
        let mut names = segment_names(dir)?;
        drop_unborn_segment(dir, &mut names)?;
        let mut segments = Segments::new(dir.to_owned());
        for pair in names.windows(2) {
            segments.add_sealed(pair[0], pair[1])?;
        }
        let mut open = None;
        if let Some(&first) = names.last() {
            open = Some(recover_last(dir, first, &mut segments)?);
        }
        let store = Self {
            dir: dir.to_owned(),
            segment_bytes,
            writer: Mutex::new(Writer { open, failed: false }),
            height: watch::Sender::new(segments.height()),
            segments: RwLock::new(segments),
            tip: RwLock::new(None),
            _lock: lock,
        };
        if let Some(last) = store.height().checked_sub(1) {
            let header = store
                .block(last)?
                .and_then(|b| b.header)
                .ok_or(BlockStoreError::NoHeader)?;
            let hash = block_hash(&header);
            *store.tip.write() = Some(Tip { header, hash });
        }
        Ok(store)
    }

    /// How many blocks there are; the next block has this number.
    pub fn height(&self) -> u64 {
        *self.height.borrow()
    }

    /// The height, changing after each block is on disk.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.height.subscribe()
    }

    /// Header of the last block.
    pub fn last_header(&self) -> Option<common::BlockHeader> {
        self.tip.read().as_ref().map(|t| t.header.clone())
    }

    /// Hash of the last block (spec 02 §7).
    pub fn last_hash(&self) -> Option<Bytes> {
        self.tip.read().as_ref().map(|t| t.hash.clone())
    }

    /// Writes the next block and returns when it is on disk.
    ///
    /// # Errors
    /// The block is not the next one or does not name the last block's hash; or writing failed. After a failed write the
    /// store refuses to be written until it is opened again, because what the disk holds is not known.
    pub fn append(&self, block: &common::Block) -> Result<()> {
        let header = block.header.as_ref().ok_or(BlockStoreError::NoHeader)?;
        let mut writer = self.writer.lock();
        if writer.failed {
            return Err(BlockStoreError::Failed(self.dir.clone()));
        }
        self.check_next(header)?;
        let size = block.encoded_len();
        if size > MAX_BLOCK_BYTES {
            return Err(BlockStoreError::TooLarge {
                number: header.number,
                size,
                max: MAX_BLOCK_BYTES,
            });
        }
        let mut record = vec![0; RECORD_HEADER];
        record.reserve_exact(size);
        block.encode_raw(&mut record);
        let offset = match self.write(&mut writer, header.number, &mut record) {
            Ok(offset) => offset,
            Err(error) => {
                writer.failed = true;
                return Err(error);
            }
        };
        self.segments.write().push(offset);
        *self.tip.write() = Some(Tip {
            header: header.clone(),
            hash: block_hash(header),
        });
        self.height.send_replace(header.number + 1);
        Ok(())
    }

    fn check_next(&self, header: &common::BlockHeader) -> Result<()> {
        let expected = self.height();
        if header.number != expected {
            return Err(BlockStoreError::OutOfOrder {
                expected,
                got: header.number,
            });
        }
        match self.tip.read().as_ref() {
            Some(tip) if tip.hash != header.previous_hash => Err(BlockStoreError::PreviousHash {
                number: header.number,
                expected: hex::encode(&tip.hash),
                found: hex::encode(&header.previous_hash),
            }),
            _ => Ok(()),
        }
    }

    /// Writes a record, whose header is still to be filled in.
    fn write(&self, writer: &mut Writer, number: u64, record: &mut [u8]) -> Result<u64> {
        let full = |end: u64| end > SEGMENT_HEADER && end + record.len() as u64 > self.segment_bytes;
        let (segment, end) = match writer.open.take() {
            Some((segment, end)) if !full(end) => (segment, end),
            previous => {
                if previous.is_some() {
                    self.segments.write().seal(number)?;
                }
                let segment = Arc::new(SegmentFile::create(&segment_path(&self.dir, number), number)?);
                sync_dir(&self.dir)?;
                self.segments.write().begin(number, Arc::clone(&segment));
                (segment, SEGMENT_HEADER)
            }
        };
        segment.write(record, number, end)?;
        writer.open = Some((segment, end + record.len() as u64));
        Ok(end)
    }

    /// A block as it was appended, serialised; `None` where the chain does not reach so far.
    ///
    /// # Errors
    /// The file cannot be read, or the record is damaged.
    pub fn get(&self, number: u64) -> Result<Option<Bytes>> {
        if number >= self.height() {
            return Ok(None);
        }
        let place = self.segments.read().locate(number)?;
        match place.segment.read(place.offset, number) {
            Ok(block) => Ok(Some(block.into())),
            Err(BlockStoreError::Corrupt { .. }) if place.from_index_file => {
                // The offset came from an index file, which may be the damaged one: read the segment itself.
                let place = self.segments.read().relocate(number)?;
                place.segment.read(place.offset, number).map(|b| Some(b.into()))
            }
            Err(error) => Err(error),
        }
    }

    /// A block, decoded; its byte fields borrow from one buffer.
    ///
    /// # Errors
    /// As [`BlockStore::get`].
    pub fn block(&self, number: u64) -> Result<Option<common::Block>> {
        let Some(bytes) = self.get(number)? else {
            return Ok(None);
        };
        common::Block::decode(bytes)
            .map(Some)
            .map_err(|e| BlockStoreError::Corrupt {
                path: self.dir.clone(),
                offset: 0,
                why: format!("block {number} has a right checksum but does not decode: {e}"),
            })
    }

    /// Reads every block file through and checks every byte; the number of blocks.
    ///
    /// # Errors
    /// The first damage found, or a failure to read.
    pub fn verify(&self) -> Result<u64> {
        let height = self.height();
        let firsts = self.segments.read().firsts();
        for (place, &first) in firsts.iter().enumerate() {
            let path = segment_path(&self.dir, first);
            let is_last = place + 1 == firsts.len();
            let scan = SegmentFile::open(&path, first)?.scan(is_last)?;
            let next = firsts.get(place + 1).copied().unwrap_or(height);
            // The last segment may have grown since, or be growing.
            if first + (scan.offsets.len() as u64) < next {
                return Err(BlockStoreError::Corrupt {
                    path,
                    offset: scan.end,
                    why: format!("it ends before block {}", next - 1),
                });
            }
        }
        Ok(height)
    }
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.blk"))
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("LOCK");
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = open.map_err(BlockStoreError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BlockStoreError::Locked(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(BlockStoreError::io("lock", &path)(source)),
    }
}

/// First blocks of the segments, sorted.
fn segment_names(dir: &Path) -> Result<Vec<u64>> {
    let io = BlockStoreError::io;
    let mut firsts = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io("list", dir))? {
        let name = entry.map_err(io("list", dir))?.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.strip_suffix(".blk"))
            .and_then(|n| n.parse::<u64>().ok());
        firsts.extend(number);
    }
    firsts.sort_unstable();
    if firsts.first().is_some_and(|f| *f != 0) {
        return Err(BlockStoreError::Corrupt {
            path: segment_path(dir, 0),
            offset: 0,
            why: "the file is missing".into(),
        });
    }
    Ok(firsts)
}

/// A crash can leave a segment without even its header: it holds no block and is made again when needed.
fn drop_unborn_segment(dir: &Path, names: &mut Vec<u64>) -> Result<()> {
    let Some(&first) = names.last() else { return Ok(()) };
    let path = segment_path(dir, first);
    let io = BlockStoreError::io;
    let file = File::open(&path).map_err(io("open", &path))?;
    let len = file.metadata().map_err(io("look at", &path))?.len();
    if record::is_unborn(&file, len).map_err(io("read", &path))? {
        std::fs::remove_file(&path).map_err(io("remove", &path))?;
        sync_dir(dir)?;
        names.pop();
    }
    Ok(())
}

/// Reads the last segment through and cuts off an unfinished record; where the next one goes.
fn recover_last(dir: &Path, first: u64, segments: &mut Segments) -> Result<(Arc<SegmentFile>, u64)> {
    let path = segment_path(dir, first);
    let open = OpenOptions::new().read(true).write(true).open(&path);
    let file = open.map_err(BlockStoreError::io("open", &path))?;
    let segment = Arc::new(SegmentFile::of(file, &path, first)?);
    let scan = segment.scan(true)?;
    if scan.torn > 0 {
        tracing::warn!(
            file = %path.display(),
            offset = scan.end,
            bytes = scan.torn,
            "cutting off a block that a crash left unfinished; it was never acknowledged"
        );
        segment.cut(scan.end)?;
    }
    segments.begin(first, Arc::clone(&segment));
    for offset in scan.offsets {
        segments.push(offset);
    }
    Ok((segment, scan.end))
}

fn sync_dir(dir: &Path) -> Result<()> {
    let io = BlockStoreError::io;
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(io("sync", dir))
}
