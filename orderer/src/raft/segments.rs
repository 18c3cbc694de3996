//! The Raft log on disk: append-only segment files.
//!
//! ```text
//! segment = "SLVRLOG2" | salt u32 | CRC32C of both u32 | frame*                   (little endian)
//! frame   = magic u32 | length u32 | CRC32C of the payload u32 | payload
//! payload = 0 (length u32, pb Entry)*    entries, written and synced together
//!         | 1 index u64                  entries from this index on are void
//! ```
//! A frame is synced before the next is written, so a crash can tear the last frame only. That one is cut off; a bad
//! frame with a good one behind it is damage, and stops the node. Checksums of frames start from the segment's salt, which
//! is drawn when the segment is made: what clients send lies in the payloads, and must not pass for a frame. ("SLVRLOG1"
//! without salt, which older versions wrote, is read as well.)

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvedge_proto::selvedge::cluster as pb;

use super::codec::{entry_in, entry_out, log_id_in};
use super::record::sync_dir;
use super::{Entry, LogId};

const SEGMENT_MAGIC: &[u8; 8] = b"SLVRLOG2";
const SEGMENT_HEAD: usize = 16;
const UNSALTED_MAGIC: &[u8; 8] = b"SLVRLOG1";
const FRAME_MAGIC: u32 = 0x464c_5653;
const FRAME_HEAD: usize = 12;
/// A frame longer than this is damage: a batch is bounded by the largest gRPC message (100 MiB).
const MAX_FRAME: usize = 512 << 20;
const KIND_ENTRIES: u8 = 0;
const KIND_TRUNCATE: u8 = 1;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("cannot {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "the Raft log file {path} is damaged at byte {offset}: {why}; the node does not start on a damaged log: restore the \
         file; or, while most of the channel's other consenters work, remove its `raft` folder here, and the node catches up \
         from them"
    )]
    Damaged { path: PathBuf, offset: u64, why: String },
}

pub(super) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> LogError + 'a {
    move |source| LogError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Where an entry lies.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    file: Arc<SegmentFile>,
    offset: u64,
    len: u32,
    crc: u32,
}

#[derive(Debug)]
struct SegmentFile {
    path: PathBuf,
    file: File,
    salt: u32,
}

/// How a segment begins.
struct SegmentHead {
    salt: u32,
    bytes: usize,
}

impl SegmentHead {
    /// A new one.
    fn draw() -> (u32, [u8; SEGMENT_HEAD]) {
        let salt: u32 = rand::random();
        let mut head = [0; SEGMENT_HEAD];
        head[..8].copy_from_slice(SEGMENT_MAGIC);
        head[8..12].copy_from_slice(&salt.to_le_bytes());
        let crc = crc32c::crc32c(&head[..12]);
        head[12..].copy_from_slice(&crc.to_le_bytes());
        (salt, head)
    }

    fn read(content: &[u8]) -> Option<Self> {
        if content.starts_with(UNSALTED_MAGIC) {
            return Some(Self {
                salt: 0,
                bytes: UNSALTED_MAGIC.len(),
            });
        }
        let head = content.first_chunk::<SEGMENT_HEAD>()?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        (head.starts_with(SEGMENT_MAGIC) && crc32c::crc32c(&head[..12]) == word(12)).then(|| Self {
            salt: word(8),
            bytes: SEGMENT_HEAD,
        })
    }
}

impl Place {
    /// Reads the entry back and checks it.
    pub(crate) fn read(&self) -> Result<Entry, LogError> {
        let damaged = |why: String| LogError::Damaged {
            path: self.file.path.clone(),
            offset: self.offset,
            why,
        };
        let len = usize::try_from(self.len).map_err(|e| damaged(e.to_string()))?;
        let mut bytes = vec![0; len];
        self.file
            .file
            .read_exact_at(&mut bytes, self.offset)
            .map_err(io_error("read", &self.file.path))?;
        if crc32c::crc32c(&bytes) != self.crc {
            return Err(damaged("checksum of an entry".into()));
        }
        let entry = pb::Entry::decode(Bytes::from(bytes)).map_err(|e| damaged(e.to_string()))?;
        entry_in(entry).map_err(|e| damaged(e.to_string()))
    }

    /// Length of the encoded entry.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }
}

struct Segment {
    file: Arc<SegmentFile>,
    size: u64,
    /// Highest index in it; 0 when it holds no entry.
    last_index: u64,
}

/// The files of one log, open for writing.
pub(crate) struct Segments {
    dir: PathBuf,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    next_number: u64,
}

/// What was found on opening: every entry behind the purged part, in order.
pub(crate) type Recovered = VecDeque<(LogId, Place)>;

impl Segments {
    /// Opens or creates the log in `dir`. Entries up to `purged` are ignored.
    pub(crate) fn open(
        dir: &Path,
        segment_bytes: u64,
        purged: Option<&LogId>,
    ) -> Result<(Self, Recovered), LogError> {
        std::fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let mut numbers = Vec::new();
        for found in std::fs::read_dir(dir).map_err(io_error("list", dir))? {
            let found = found.map_err(io_error("list", dir))?;
            let name = found.file_name();
            let number = name
                .to_str()
                .and_then(|n| n.strip_suffix(".log"))
                .and_then(|n| n.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        let mut log = Self {
            dir: dir.to_owned(),
            segment_bytes,
            segments: VecDeque::new(),
            next_number: numbers.last().map_or(1, |n| n + 1),
        };
        let mut entries = Recovered::new();
        let floor = purged.map_or(0, |id| id.index + 1);
        let count = numbers.len();
        for (i, number) in numbers.into_iter().enumerate() {
            let segment = log.recover(number, i + 1 == count, floor, &mut entries)?;
            log.segments.push_back(segment);
        }
        while entries.front().is_some_and(|(id, _)| id.index < floor) {
            entries.pop_front();
        }
        if log.segments.is_empty() {
            log.roll()?;
        }
        Ok((log, entries))
    }

    fn segment_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:020}.log"))
    }

    fn recover(
        &self,
        number: u64,
        is_last: bool,
        floor: u64,
        entries: &mut Recovered,
    ) -> Result<Segment, LogError> {
        let path = self.segment_path(number);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(io_error("read", &path))?;
        let damaged = |offset: usize, why: &str| LogError::Damaged {
            path: path.clone(),
            offset: offset as u64,
            why: why.into(),
        };
        let Some(head) = SegmentHead::read(&content) else {
            // Frames follow only once the head is on disk.
            if !is_last || content.len() > SEGMENT_HEAD {
                return Err(damaged(0, "the file does not begin as a segment does"));
            }
            let (salt, head) = SegmentHead::draw();
            file.set_len(0).map_err(io_error("truncate", &path))?;
            file.write_all_at(&head, 0).map_err(io_error("write", &path))?;
            file.sync_data().map_err(io_error("sync", &path))?;
            return Ok(Segment {
                file: Arc::new(SegmentFile { path, file, salt }),
                size: SEGMENT_HEAD as u64,
                last_index: 0,
            });
        };
        let salt = head.salt;
        let segment_file = Arc::new(SegmentFile {
            path: path.clone(),
            file,
            salt,
        });
        let mut last_index = 0;
        let mut at = head.bytes;
        while at < content.len() {
            let Some(payload) = frame_at(&content, at, salt) else {
                break;
            };
            let start = at + FRAME_HEAD;
            replay(&segment_file, payload, start, floor, entries, &mut last_index)
                .map_err(|why| damaged(at, &why))?;
            at = start + payload.len();
        }
        if at < content.len() {
            // A torn tail, if it is one: nothing good may follow, and no file either.
            let good_behind = (at + 1..content.len()).any(|i| frame_at(&content, i, salt).is_some());
            if !is_last || good_behind {
                return Err(damaged(at, "a frame fails its checksum and others follow"));
            }
            tracing::warn!(path = %path.display(), at, dropped = content.len() - at, "cut the torn tail of the Raft log");
            let file = &segment_file.file;
            file.set_len(at as u64).map_err(io_error("truncate", &path))?;
            file.sync_data().map_err(io_error("sync", &path))?;
        }
        Ok(Segment {
            file: segment_file,
            size: at as u64,
            last_index,
        })
    }

    fn roll(&mut self) -> Result<(), LogError> {
        let path = self.segment_path(self.next_number);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(io_error("create", &path))?;
        let (salt, head) = SegmentHead::draw();
        file.write_all(&head).map_err(io_error("write", &path))?;
        file.sync_data().map_err(io_error("sync", &path))?;
        sync_dir(&self.dir)?;
        self.next_number += 1;
        self.segments.push_back(Segment {
            file: Arc::new(SegmentFile { path, file, salt }),
            size: SEGMENT_HEAD as u64,
            last_index: 0,
        });
        Ok(())
    }

    fn write_frame(&mut self, mut frame: Vec<u8>) -> Result<(Arc<SegmentFile>, u64), LogError> {
        if self.segments.back().is_none_or(|s| s.size >= self.segment_bytes) {
            self.roll()?;
        }
        // `roll` has just added one where there was none.
        let Some(segment) = self.segments.back_mut() else {
            return Err(LogError::Io {
                action: "open a segment in",
                path: self.dir.clone(),
                source: std::io::Error::other("no segment"),
            });
        };
        let at = segment.size;
        let file = &segment.file;
        let crc = crc32c::crc32c_append(file.salt, &frame[FRAME_HEAD..]);
        frame[8..FRAME_HEAD].copy_from_slice(&crc.to_le_bytes());
        // On a failed write or sync the file keeps its old length as far as we know: the next frame overwrites.
        file.file
            .write_all_at(&frame, at)
            .map_err(io_error("write", &file.path))?;
        file.file.sync_data().map_err(io_error("sync", &file.path))?;
        segment.size += frame.len() as u64;
        Ok((Arc::clone(file), at))
    }

    /// Writes entries durably, in one frame.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<Vec<Place>, LogError> {
        let mut payload = vec![0; FRAME_HEAD];
        payload.push(KIND_ENTRIES);
        let mut spans = Vec::with_capacity(entries.len());
        for entry in entries {
            let message = entry_out(entry);
            let len = u32::try_from(message.encoded_len()).map_err(|e| LogError::Io {
                action: "encode an entry for",
                path: self.dir.clone(),
                source: std::io::Error::other(e),
            })?;
            payload.extend_from_slice(&len.to_le_bytes());
            let start = payload.len();
            payload.reserve(message.encoded_len());
            message.encode(&mut payload).map_err(|e| LogError::Io {
                action: "encode an entry for",
                path: self.dir.clone(),
                source: std::io::Error::other(e),
            })?;
            spans.push((start, len, crc32c::crc32c(&payload[start..])));
        }
        self.finish_frame(&mut payload)?;
        let (file, at) = self.write_frame(payload)?;
        if let (Some(segment), Some(last)) = (self.segments.back_mut(), entries.last()) {
            segment.last_index = segment.last_index.max(last.log_id.index);
        }
        Ok(spans
            .into_iter()
            .map(|(start, len, crc)| Place {
                file: Arc::clone(&file),
                offset: at + start as u64,
                len,
                crc,
            })
            .collect())
    }

    /// Fills in the frame's head but for the checksum, which the segment's salt goes into.
    fn finish_frame(&self, frame: &mut [u8]) -> Result<(), LogError> {
        let payload = &frame[FRAME_HEAD..];
        let len = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= MAX_FRAME)
            .ok_or_else(|| LogError::Io {
                action: "write to",
                path: self.dir.clone(),
                source: std::io::Error::other("the entries are longer than a frame may be"),
            })?;
        frame[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        frame[4..8].copy_from_slice(&len.to_le_bytes());
        Ok(())
    }

    /// Makes every entry from `since` on void, durably.
    pub(crate) fn truncate(&mut self, since: u64) -> Result<(), LogError> {
        let mut frame = vec![0; FRAME_HEAD];
        frame.push(KIND_TRUNCATE);
        frame.extend_from_slice(&since.to_le_bytes());
        self.finish_frame(&mut frame)?;
        self.write_frame(frame).map(drop)
    }

    /// Removes the files that hold nothing above `upto`. The caller has stored `upto` as purged before.
    pub(crate) fn purge(&mut self, upto: u64) -> Result<(), LogError> {
        let whole = self.segments.iter().all(|s| s.last_index <= upto);
        if whole && self.segments.back().is_some_and(|s| s.last_index != 0) {
            self.roll()?;
        }
        while self.segments.len() > 1 {
            match self.segments.front() {
                Some(first) if first.last_index <= upto => {
                    std::fs::remove_file(&first.file.path).map_err(io_error("remove", &first.file.path))?;
                    self.segments.pop_front();
                }
                _ => break,
            }
        }
        sync_dir(&self.dir)
    }
}

/// The payload of the frame at `at`, if it is whole and its checksum, begun from `salt`, holds. No frame is empty.
fn frame_at(content: &[u8], at: usize, salt: u32) -> Option<&[u8]> {
    let word = |i: usize| -> Option<u32> {
        let bytes = content.get(at + i..at + i + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if word(0)? != FRAME_MAGIC {
        return None;
    }
    let len = usize::try_from(word(4)?)
        .ok()
        .filter(|l| (1..=MAX_FRAME).contains(l))?;
    let crc = word(8)?;
    let start = at + FRAME_HEAD;
    let payload = content.get(start..start.checked_add(len)?)?;
    (crc32c::crc32c_append(salt, payload) == crc).then_some(payload)
}

fn replay(
    file: &Arc<SegmentFile>,
    payload: &[u8],
    start: usize,
    floor: u64,
    entries: &mut Recovered,
    last_index: &mut u64,
) -> Result<(), String> {
    match payload.split_first() {
        Some((&KIND_TRUNCATE, rest)) => {
            let since = u64::from_le_bytes(rest.try_into().map_err(|_| "a truncation of odd length")?);
            while entries.back().is_some_and(|(id, _)| id.index >= since) {
                entries.pop_back();
            }
            Ok(())
        }
        Some((&KIND_ENTRIES, mut rest)) => {
            let mut at = start + 1;
            while !rest.is_empty() {
                let (head, tail) = rest.split_first_chunk::<4>().ok_or("an entry is cut off")?;
                let len = u32::from_le_bytes(*head);
                let size = usize::try_from(len).map_err(|e| e.to_string())?;
                let bytes = tail.get(..size).ok_or("an entry is cut off")?;
                at += 4;
                let message = pb::Entry::decode(bytes).map_err(|e| e.to_string())?;
                let id = message
                    .id
                    .as_ref()
                    .map(log_id_in)
                    .ok_or("an entry has no position")?;
                if let Some((previous, _)) = entries.back() {
                    // A gap is left where a snapshot took the place of entries that are still in older files.
                    let gap = id.index != previous.index + 1;
                    if gap && (id.index <= previous.index || id.index > floor) {
                        return Err(format!("entry {} follows entry {}", id.index, previous.index));
                    }
                }
                entries.push_back((
                    id,
                    Place {
                        file: Arc::clone(file),
                        offset: at as u64,
                        len,
                        crc: crc32c::crc32c(bytes),
                    },
                ));
                *last_index = (*last_index).max(id.index);
                at += size;
                rest = &tail[size..];
            }
            Ok(())
        }
        _ => Err("a frame of unknown kind".into()),
    }
}

#[cfg(test)]
mod tests {
    use openraft::{EntryPayload, LeaderId};

    use super::super::Batch;
    use super::*;

    fn entry(index: u64) -> Entry {
        Entry {
            log_id: LogId::new(LeaderId::new(1, 1), index),
            payload: EntryPayload::Normal(Batch {
                config_sequence: index,
                config: false,
                envelopes: vec![Bytes::from(vec![index.to_le_bytes()[0]; 40])],
            }),
        }
    }

    fn indexes(recovered: &Recovered) -> Vec<u64> {
        recovered.iter().map(|(id, _)| id.index).collect()
    }

    #[test]
    fn a_log_cut_at_any_byte_of_its_tail_keeps_every_whole_frame() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Segments::open(dir.path(), 1 << 20, None).unwrap();
        log.append(&[entry(0), entry(1)]).unwrap();
        let path = dir.path().join(format!("{:020}.log", 1));
        let two = std::fs::metadata(&path).unwrap().len();
        log.append(&[entry(2), entry(3), entry(4)]).unwrap();
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for cut in usize::try_from(two).unwrap()..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut log, found) = Segments::open(dir.path(), 1 << 20, None).unwrap();
            assert_eq!(indexes(&found), [0, 1], "cut at {cut}");
            log.append(&[entry(2)]).unwrap();
            drop(log);
            let (_, found) = Segments::open(dir.path(), 1 << 20, None).unwrap();
            assert_eq!(indexes(&found), [0, 1, 2], "cut at {cut}");
            assert_eq!(found[2].1.read().unwrap(), entry(2));
        }
    }

    #[test]
    fn a_flipped_bit_in_the_middle_stops_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Segments::open(dir.path(), 1 << 20, None).unwrap();
        log.append(&[entry(0)]).unwrap();
        log.append(&[entry(1)]).unwrap();
        drop(log);
        let path = dir.path().join(format!("{:020}.log", 1));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let refused = Segments::open(dir.path(), 1 << 20, None).err().unwrap();
        assert!(refused.to_string().contains("damaged at byte 16"), "{refused}");
        bytes[40] ^= 1;
        bytes[9] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let refused = Segments::open(dir.path(), 1 << 20, None).err().unwrap();
        assert!(refused.to_string().contains("damaged at byte 0"), "{refused}");
    }

    /// What a frame looks like without a salt, as a client could write it into an envelope.
    fn forged(payload: &[u8]) -> Vec<u8> {
        let mut frame = FRAME_MAGIC.to_le_bytes().to_vec();
        frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        frame.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn what_a_client_sends_does_not_pass_for_a_frame() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Segments::open(dir.path(), 1 << 20, None).unwrap();
        log.append(&[entry(0)]).unwrap();
        let path = dir.path().join(format!("{:020}.log", 1));
        let first = std::fs::metadata(&path).unwrap().len();
        let mut envelope = forged(&[]);
        envelope.extend(forged(&[KIND_TRUNCATE, 0, 0, 0, 0, 0, 0, 0, 0]));
        let mut planted = entry(1);
        planted.payload = EntryPayload::Normal(Batch {
            config_sequence: 1,
            config: false,
            envelopes: vec![envelope.into()],
        });
        log.append(&[planted.clone()]).unwrap();
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for cut in usize::try_from(first).unwrap() + 1..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (_, found) = Segments::open(dir.path(), 1 << 20, None).unwrap();
            assert_eq!(indexes(&found), [0], "cut at {cut}");
        }
        std::fs::write(&path, &whole).unwrap();
        let (_, found) = Segments::open(dir.path(), 1 << 20, None).unwrap();
        assert_eq!(found[1].1.read().unwrap(), planted);
    }

    #[test]
    fn a_log_without_salt_is_read_and_continued() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Segments::open(dir.path(), 1 << 20, None).unwrap();
        log.append(&[entry(0)]).unwrap();
        drop(log);
        let path = dir.path().join(format!("{:020}.log", 1));
        let bytes = std::fs::read(&path).unwrap();
        let old = [&UNSALTED_MAGIC[..], &forged(&bytes[SEGMENT_HEAD + FRAME_HEAD..])].concat();
        std::fs::write(&path, old).unwrap();
        let (mut log, found) = Segments::open(dir.path(), 1 << 20, None).unwrap();
        assert_eq!(indexes(&found), [0]);
        log.append(&[entry(1)]).unwrap();
        drop(log);
        let (_, found) = Segments::open(dir.path(), 1 << 20, None).unwrap();
        assert_eq!(found[1].1.read().unwrap(), entry(1));
    }

    #[test]
    fn truncation_and_purge_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Segments::open(dir.path(), 200, None).unwrap();
        for index in 0..10 {
            log.append(&[entry(index)]).unwrap();
        }
        log.truncate(7).unwrap();
        log.append(&[entry(7)]).unwrap();
        log.purge(3).unwrap();
        drop(log);
        let purged = LogId::new(LeaderId::new(1, 1), 3);
        let (_, found) = Segments::open(dir.path(), 200, Some(&purged)).unwrap();
        assert_eq!(indexes(&found), [4, 5, 6, 7]);
        assert_eq!(found[0].1.read().unwrap(), entry(4));
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert!(files < 6, "{files} files are left");
    }

    #[test]
    fn a_snapshot_beyond_the_log_leaves_an_empty_log() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Segments::open(dir.path(), 1 << 20, None).unwrap();
        log.append(&[entry(0), entry(1)]).unwrap();
        log.purge(50).unwrap();
        log.append(&[entry(51)]).unwrap();
        drop(log);
        let purged = LogId::new(LeaderId::new(1, 1), 50);
        let (_, found) = Segments::open(dir.path(), 1 << 20, Some(&purged)).unwrap();
        assert_eq!(indexes(&found), [51]);
    }
}
