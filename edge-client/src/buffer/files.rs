//! Segment files and the thread that writes them: requests of many callers share one fsync.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;

use super::BufferError;
use super::record::{self, Event};

const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// First bytes of every segment: name and version of the format.
const MAGIC: &[u8; 8] = b"SLVBUF01";
/// Records written with one fsync at most, so that the first of them does not wait too long.
const GROUP_RECORDS: usize = 512;

/// What was read from the files at start.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// (segment, event) in the order of writing.
    pub(crate) events: Vec<(u64, Event)>,
    /// Human-readable reports of damage.
    pub(crate) damage: Vec<String>,
}

/// Appends a framed record; the answer is the segment it went to, after it is durable if `sync` was asked for.
struct Append {
    bytes: Vec<u8>,
    done: Option<oneshot::Sender<Result<u64, String>>>,
}

/// Handle of the writer thread.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: Sender<Append>,
    segment: Arc<AtomicU64>,
}

/// The answer to a record that was handed to the writer.
#[derive(Debug)]
pub(crate) struct Pending(oneshot::Receiver<Result<u64, String>>);

impl Pending {
    /// Waits until the record is durable; returns its segment.
    pub(crate) async fn durable(self) -> Result<u64, BufferError> {
        self.0.await.map_err(|_| stopped())?.map_err(BufferError::Write)
    }
}

fn stopped() -> BufferError {
    BufferError::Write("the writer has stopped".to_owned())
}

fn path_of(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:012}.seg"))
}

/// Numbers of the segments in a folder, in order.
pub(crate) fn segments(dir: &Path) -> Result<Vec<u64>, BufferError> {
    let failed = |source| BufferError::Io {
        path: dir.to_owned(),
        source,
    };
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == "seg")
            && let Some(number) = path
                .file_stem()
                .and_then(|s| s.to_str())
                .and_then(|s| s.parse().ok())
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Deletes a segment in which nothing is open any more.
pub(crate) fn delete(dir: &Path, segment: u64) -> Result<(), BufferError> {
    let path = path_of(dir, segment);
    std::fs::remove_file(&path).map_err(|source| BufferError::Io { path, source })
}

/// Reads all segments. A torn tail of the last one is cut off; damage elsewhere is stepped over and reported.
pub(crate) fn recover(dir: &Path) -> Result<Recovered, BufferError> {
    let mut recovered = Recovered::default();
    let numbers = segments(dir)?;
    let last = numbers.last().copied();
    for segment in numbers {
        let path = path_of(dir, segment);
        let failed = |source| BufferError::Io {
            path: path.clone(),
            source,
        };
        let bytes = std::fs::read(&path).map_err(failed)?;
        let start = if bytes.starts_with(MAGIC) { MAGIC.len() } else { 0 };
        if start == 0 && !bytes.is_empty() && bytes.len() >= MAGIC.len() {
            recovered
                .damage
                .push(format!("{}: its first bytes are damaged", path.display()));
        }
        let found = record::scan(&bytes, start);
        for (offset, length) in &found.damaged {
            recovered.damage.push(format!(
                "{}: {length} bytes from {offset} on are damaged; the records in them are lost",
                path.display()
            ));
        }
        let tail = bytes.len() - found.good_end;
        if tail > 0 && Some(segment) != last {
            recovered.damage.push(format!(
                "{}: its last {tail} bytes are damaged; the records in them are lost",
                path.display()
            ));
        }
        recovered
            .events
            .extend(found.events.into_iter().map(|(_, event)| (segment, event)));
    }
    Ok(recovered)
}

struct Open {
    dir: PathBuf,
    segment: u64,
    file: File,
    /// Where the last record that is known to be whole ends.
    length: u64,
}

impl Open {
    /// Begins a new segment: a file with a torn tail is never appended to.
    fn next(dir: &Path, segment: u64) -> std::io::Result<Self> {
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(path_of(dir, segment))?;
        file.write_all(MAGIC)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(Self {
            dir: dir.to_owned(),
            segment,
            file,
            length: MAGIC.len() as u64,
        })
    }

    fn write(&mut self, group: &[Append], sync: bool) -> std::io::Result<()> {
        let bytes: Vec<u8> = group.iter().flat_map(|a| a.bytes.iter().copied()).collect();
        let written = self
            .file
            .write_all(&bytes)
            .and_then(|()| if sync { self.file.sync_data() } else { Ok(()) });
        match written {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What was written in part must not stand between the records before and after it.
                let cut = self
                    .file
                    .set_len(self.length)
                    .and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
                if let Err(also) = cut {
                    tracing::error!(dir = %self.dir.display(), %also, "a failed write could not be undone");
                }
                Err(error)
            }
        }
    }
}

impl Writer {
    /// Starts the writer thread on a new segment after the existing ones.
    pub(crate) fn start(dir: &Path) -> Result<Self, BufferError> {
        let failed = |source| BufferError::Io {
            path: dir.to_owned(),
            source,
        };
        let next = segments(dir)?.last().map_or(1, |last| last + 1);
        let open = Open::next(dir, next).map_err(failed)?;
        let (queue, appends) = channel();
        let segment = Arc::new(AtomicU64::new(next));
        let current = Arc::clone(&segment);
        std::thread::Builder::new()
            .name("edge-buffer".to_owned())
            .spawn(move || write_loop(open, &appends, &current))
            .map_err(failed)?;
        Ok(Self { queue, segment })
    }

    /// No record that is handed over from now on goes to an earlier segment than this.
    pub(crate) fn earliest_segment(&self) -> u64 {
        self.segment.load(Ordering::Acquire)
    }

    /// Hands a record over; records are written in the order of these calls.
    pub(crate) fn append(&self, event: Event) -> Result<Pending, BufferError> {
        self.push(record::encode(event))
    }

    /// Becomes durable when everything that was handed over before is.
    pub(crate) fn barrier(&self) -> Result<Pending, BufferError> {
        self.push(Vec::new())
    }

    fn push(&self, bytes: Vec<u8>) -> Result<Pending, BufferError> {
        let (done, answer) = oneshot::channel();
        self.queue
            .send(Append {
                bytes,
                done: Some(done),
            })
            .map_err(|_| stopped())?;
        Ok(Pending(answer))
    }

    /// Writes a record with the next group, without waiting: losing it costs a repeated attempt, not a request.
    pub(crate) fn note(&self, event: Event) {
        // A stopped writer means that the process is ending.
        drop(self.queue.send(Append {
            bytes: record::encode(event),
            done: None,
        }));
    }
}

fn write_loop(mut open: Open, appends: &Receiver<Append>, segment: &AtomicU64) {
    while let Ok(first) = appends.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_RECORDS {
            match appends.try_recv() {
                Ok(more) => group.push(more),
                Err(_) => break,
            }
        }
        let sync = group.iter().any(|a| a.done.is_some());
        let result = rotate_if_full(&mut open).and_then(|()| {
            segment.store(open.segment, Ordering::Release);
            open.write(&group, sync)
        });
        if let Err(error) = &result {
            tracing::error!(dir = %open.dir.display(), %error, "the buffer cannot be written");
        }
        let answer = result.map(|()| open.segment).map_err(|e| e.to_string());
        for append in group {
            if let Some(done) = append.done {
                // A caller that went away does not wait for its answer.
                drop(done.send(answer.clone()));
            }
        }
    }
}

fn rotate_if_full(open: &mut Open) -> std::io::Result<()> {
    if open.length < SEGMENT_BYTES {
        return Ok(());
    }
    open.file.sync_data()?;
    *open = Open::next(&open.dir, open.segment + 1)?;
    Ok(())
}
