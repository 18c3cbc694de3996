//! How a block stands in a file, and how a file is read through.
//!
//! ```text
//! segment: "SLVGBLK2" | number of its first block u64 | salt u32 | CRC32C of these 20 bytes u32 | records...
//! record:  magic u32 | length u32 | block number u64 | CRC32C of the block u32 | CRC32C of these 20 bytes u32 | block
//! ```
//! Integers are little endian. A record is written with one call and synced before the next one is begun, so at most the
//! last record of the last segment can be unfinished.
//!
//! The checksum of a record's header starts from the segment's salt, which is drawn when the segment is made: what clients
//! send lies within the blocks, and must not pass for a record where one is looked for. ("SLVGBLK1", with zeros after the
//! checksum of its first 16 bytes and without a salt, is read as well.)

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::BlockStoreError;

/// Largest serialised block. Far above any channel's `AbsoluteMaxBytes`; it bounds what a damaged length can allocate.
pub const MAX_BLOCK_BYTES: usize = 256 * 1024 * 1024;

pub(super) const SEGMENT_HEADER: u64 = 24;
pub(super) const RECORD_HEADER: usize = 24;

const MAGIC: &[u8; 7] = b"SLVGBLK";
const FORMAT: u8 = b'2';
const UNSALTED_FORMAT: u8 = b'1';
const RECORD_MAGIC: u32 = 0x4b4c_42b5;
const SECTOR: u64 = 512;
const CHUNK: usize = 1 << 20;

/// A segment's file, whose header is right.
#[derive(Debug)]
pub(super) struct SegmentFile {
    file: File,
    path: PathBuf,
    first: u64,
    salt: u32,
}

pub(super) fn segment_header(first: u64, salt: u32) -> [u8; 24] {
    let mut header = [0; 24];
    header[..7].copy_from_slice(MAGIC);
    header[7] = FORMAT;
    header[8..16].copy_from_slice(&first.to_le_bytes());
    header[16..20].copy_from_slice(&salt.to_le_bytes());
    let crc = crc32c::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn unsalted_segment_header(first: u64) -> [u8; 24] {
    let mut header = [0; 24];
    header[..7].copy_from_slice(MAGIC);
    header[7] = UNSALTED_FORMAT;
    header[8..16].copy_from_slice(&first.to_le_bytes());
    let crc = crc32c::crc32c(&header[..16]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    header
}

impl SegmentFile {
    /// Makes the segment that starts with block `first`, with a salt of its own. The folder is not synced.
    pub(super) fn create(path: &Path, first: u64) -> Result<Self, BlockStoreError> {
        let io = BlockStoreError::io;
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path);
        let file = open.map_err(io("create", path))?;
        let salt = rand::random();
        file.write_all_at(&segment_header(first, salt), 0)
            .map_err(io("write", path))?;
        file.sync_all().map_err(io("sync", path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            first,
            salt,
        })
    }

    /// Takes the file of the segment that starts with block `first`; how it was opened decides what can be done with it.
    pub(super) fn of(file: File, path: &Path, first: u64) -> Result<Self, BlockStoreError> {
        let mut head = [0; 24];
        match file.read_exact_at(&mut head, 0) {
            // What was read of it stands in there, and the end of an unsalted header is zeros.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => head = [0; 24],
            other => other.map_err(BlockStoreError::io("read", path))?,
        }
        let salt = u32_at(&head, 16);
        let salt = if head == segment_header(first, salt) {
            salt
        } else if head == unsalted_segment_header(first) {
            0
        } else if head.starts_with(MAGIC) && (FORMAT + 1..=b'9').contains(&head[7]) {
            return Err(BlockStoreError::Format {
                path: path.to_owned(),
                found: char::from(head[7]),
                newest: char::from(FORMAT),
            });
        } else {
            return Err(BlockStoreError::Corrupt {
                path: path.to_owned(),
                offset: 0,
                why: format!("it does not start as the file of block {first} does"),
            });
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            first,
            salt,
        })
    }

    /// Opens the segment that starts with block `first`, for reading only.
    pub(super) fn open(path: &Path, first: u64) -> Result<Self, BlockStoreError> {
        let file = File::open(path).map_err(BlockStoreError::io("open", path))?;
        Self::of(file, path, first)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `record`, a block behind [`RECORD_HEADER`] bytes that this fills in, and returns when it is on disk. The block
    /// must be no longer than [`MAX_BLOCK_BYTES`].
    pub(super) fn write(&self, record: &mut [u8], number: u64, offset: u64) -> Result<(), BlockStoreError> {
        let head = record_header(self.salt, number, &record[RECORD_HEADER..]);
        record[..RECORD_HEADER].copy_from_slice(&head);
        let io = BlockStoreError::io;
        self.file
            .write_all_at(record, offset)
            .map_err(io("write", &self.path))?;
        self.file.sync_data().map_err(io("sync", &self.path))
    }

    /// Cuts off what stands from `end` on.
    pub(super) fn cut(&self, end: u64) -> Result<(), BlockStoreError> {
        let io = BlockStoreError::io;
        self.file.set_len(end).map_err(io("cut", &self.path))?;
        self.file.sync_all().map_err(io("sync", &self.path))
    }
}

fn record_header(salt: u32, number: u64, block: &[u8]) -> [u8; RECORD_HEADER] {
    let mut header = [0; RECORD_HEADER];
    header[..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&u32::try_from(block.len()).unwrap_or(u32::MAX).to_le_bytes());
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..20].copy_from_slice(&crc32c::crc32c(block).to_le_bytes());
    let crc = crc32c::crc32c_append(salt, &header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// A record header whose own checksum is right.
#[derive(Clone, Copy)]
struct RecordHeader {
    number: u64,
    len: usize,
    crc: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .rev()
        .fold(0, |n, b| n << 8 | u32::from(*b))
}

fn parse_header(bytes: &[u8], salt: u32) -> Option<RecordHeader> {
    if bytes.len() < RECORD_HEADER
        || u32_at(bytes, 0) != RECORD_MAGIC
        || crc32c::crc32c_append(salt, &bytes[..20]) != u32_at(bytes, 20)
    {
        return None;
    }
    let len = usize::try_from(u32_at(bytes, 4))
        .ok()
        .filter(|l| *l <= MAX_BLOCK_BYTES)?;
    Some(RecordHeader {
        number: u64::from(u32_at(bytes, 12)) << 32 | u64::from(u32_at(bytes, 8)),
        len,
        crc: u32_at(bytes, 16),
    })
}

/// What a walk through a segment found.
pub(super) struct Scan {
    /// Where each block's record starts.
    pub(super) offsets: Vec<u64>,
    /// Where the last good record ends.
    pub(super) end: u64,
    /// Bytes after `end`, left by a write that a crash cut short.
    pub(super) torn: u64,
}

/// Whether a segment file was created but its header never reached the disk.
pub(super) fn is_unborn(file: &File, len: u64) -> io::Result<bool> {
    if len < SEGMENT_HEADER {
        return Ok(true);
    }
    let mut head = vec![0; usize::try_from(len.min(SECTOR)).unwrap_or(512)];
    file.read_exact_at(&mut head, 0)?;
    Ok(len == SEGMENT_HEADER && head.iter().all(|b| *b == 0))
}

enum Check {
    End,
    Good(u64),
    Torn,
    Bad(String),
}

impl SegmentFile {
    /// Reads the record of block `number` at `offset`.
    pub(super) fn read(&self, offset: u64, number: u64) -> Result<Vec<u8>, BlockStoreError> {
        let corrupt = |why: &str| self.corrupt(offset, why.to_owned());
        let exact = |buffer: &mut [u8], at: u64| match self.file.read_exact_at(buffer, at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(corrupt("the file ends inside of the record"))
            }
            other => other.map_err(BlockStoreError::io("read", &self.path)),
        };
        let mut header = [0; RECORD_HEADER];
        exact(&mut header, offset)?;
        let header =
            parse_header(&header, self.salt).ok_or_else(|| corrupt("the record's header is damaged"))?;
        if header.number != number {
            return Err(corrupt(&format!(
                "block {} stands where block {number} belongs",
                header.number
            )));
        }
        let mut block = vec![0; header.len];
        exact(&mut block, offset + RECORD_HEADER as u64)?;
        if crc32c::crc32c(&block) != header.crc {
            return Err(corrupt("the checksum of the block does not match"));
        }
        Ok(block)
    }

    fn corrupt(&self, offset: u64, why: String) -> BlockStoreError {
        BlockStoreError::Corrupt {
            path: self.path.clone(),
            offset,
            why,
        }
    }

    /// Walks through the segment, checking every byte. `may_be_torn`: it is the last segment, so a crash may have cut its
    /// last record short.
    pub(super) fn scan(&self, may_be_torn: bool) -> Result<Scan, BlockStoreError> {
        let io = BlockStoreError::io;
        let len = self.file.metadata().map_err(io("look at", &self.path))?.len();
        let mut offsets = Vec::new();
        let mut offset = SEGMENT_HEADER;
        let mut number = self.first;
        loop {
            match self.check(len, offset, number).map_err(io("read", &self.path))? {
                Check::End => {
                    return Ok(Scan {
                        offsets,
                        end: offset,
                        torn: 0,
                    });
                }
                Check::Good(next) => {
                    offsets.push(offset);
                    offset = next;
                    number += 1;
                }
                Check::Torn if may_be_torn => {
                    return Ok(Scan {
                        offsets,
                        end: offset,
                        torn: len - offset,
                    });
                }
                Check::Torn => return Err(self.corrupt(offset, format!("it ends inside of block {number}"))),
                Check::Bad(why) => return Err(self.corrupt(offset, format!("block {number}: {why}"))),
            }
        }
    }

    /// Judges what stands at `offset`, where block `number` should start.
    ///
    /// A write that was cut short shows in one of two ways: the file ends too early, or the file has its new length but some
    /// sectors of the record were never written, which then read as zeros (no file system shows old data there). Anything else
    /// that does not check is damage to a block that was already acknowledged.
    fn check(&self, len: u64, offset: u64, number: u64) -> io::Result<Check> {
        let file = &self.file;
        let left = len - offset;
        if left == 0 {
            return Ok(Check::End);
        }
        if left < RECORD_HEADER as u64 {
            return Ok(Check::Torn);
        }
        let mut header = [0; RECORD_HEADER];
        file.read_exact_at(&mut header, offset)?;
        let Some(header) = parse_header(&header, self.salt) else {
            let torn = has_unwritten_sector(file, offset, len)?
                && !self.has_later_record(offset + 1, len, number)?;
            return Ok(if torn {
                Check::Torn
            } else {
                Check::Bad("its header is damaged".into())
            });
        };
        if header.number != number {
            return Ok(Check::Bad(format!("block {} stands in its place", header.number)));
        }
        let start = offset + RECORD_HEADER as u64;
        let end = start + header.len as u64;
        if end > len {
            return Ok(Check::Torn);
        }
        if crc_of(file, start, end)? == header.crc {
            return Ok(Check::Good(end));
        }
        if end == len && has_unwritten_sector(file, offset, len)? {
            return Ok(Check::Torn);
        }
        Ok(Check::Bad("its checksum does not match".into()))
    }

    /// Whether a good record of a block after `number` starts anywhere from `start` on.
    fn has_later_record(&self, start: u64, end: u64, number: u64) -> io::Result<bool> {
        let file = &self.file;
        let magic = RECORD_MAGIC.to_le_bytes();
        let mut at = start;
        while at + RECORD_HEADER as u64 <= end {
            let mut candidates = Vec::new();
            let stop = (at + CHUNK as u64).min(end);
            let mut buffer = vec![0; usize::try_from(stop - at).unwrap_or(CHUNK)];
            file.read_exact_at(&mut buffer, at)?;
            for (place, window) in buffer.windows(RECORD_HEADER).enumerate() {
                if window[..4] == magic
                    && let Some(header) = parse_header(window, self.salt)
                    && header.number > number
                {
                    candidates.push((at + place as u64, header));
                }
            }
            for (place, header) in candidates {
                let block = place + RECORD_HEADER as u64;
                if block + header.len as u64 <= end
                    && crc_of(file, block, block + header.len as u64)? == header.crc
                {
                    return Ok(true);
                }
            }
            at = if stop == end {
                end
            } else {
                stop - RECORD_HEADER as u64 + 1
            };
        }
        Ok(false)
    }
}

/// Calls `see` with consecutive pieces of the file, none longer than a chunk and all but the first starting at a multiple of
/// the sector size, until it says to stop.
fn pieces(file: &File, start: u64, end: u64, mut see: impl FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = start;
    while at < end {
        let stop = (at - at % SECTOR + CHUNK as u64).min(end);
        let piece = &mut buffer[..usize::try_from(stop - at).unwrap_or(CHUNK)];
        file.read_exact_at(piece, at)?;
        if see(at, piece) {
            break;
        }
        at = stop;
    }
    Ok(())
}

fn crc_of(file: &File, start: u64, end: u64) -> io::Result<u32> {
    let mut crc = 0;
    pieces(file, start, end, |_, piece| {
        crc = crc32c::crc32c_append(crc, piece);
        false
    })?;
    Ok(crc)
}

fn has_unwritten_sector(file: &File, start: u64, end: u64) -> io::Result<bool> {
    let mut found = false;
    pieces(file, start, end, |at, piece| {
        let head = usize::try_from((SECTOR - at % SECTOR) % SECTOR)
            .unwrap_or(0)
            .min(piece.len());
        let (first, rest) = piece.split_at(head);
        let zero = |sector: &[u8]| !sector.is_empty() && sector.iter().all(|b| *b == 0);
        found = zero(first) || rest.chunks(512).any(zero);
        found
    })?;
    Ok(found)
}
