//! The durable Raft log as `openraft` wants it: an index in memory, entries in [`super::segments`], and one thread a log
//! that writes and syncs, so that no asynchronous thread waits for the disk.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use openraft::storage::{LogFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AnyError, OptionalSend, RaftLogId};
use parking_lot::Mutex;
use selvedge_proto::selvedge::cluster as pb;
use tokio::sync::oneshot;

use super::codec::{entry_out, log_id_in, log_id_out, vote_in, vote_out};
use super::record::{read_record, write_record};
use super::segments::{LogError, Place, Segments};
use super::{Entry, LogId, StorageError, StorageIOError, TypeConfig, Vote};

const SEGMENT_BYTES: u64 = 64 << 20;
/// Entries kept in memory for replication and for applying, in bytes of their encoding.
const CACHE_BYTES: usize = 32 << 20;
/// One AppendEntries request carries about so much; a single larger entry goes alone.
const REPLICATE_BYTES: usize = 4 << 20;

struct Slot {
    id: LogId,
    size: usize,
    place: Option<Place>,
    cached: Option<Entry>,
}

#[derive(Default)]
struct Index {
    slots: VecDeque<Slot>,
    purged: Option<LogId>,
    cached_bytes: usize,
    /// Bytes in entries that are not purged.
    log_bytes: usize,
}

impl Index {
    fn first(&self) -> u64 {
        self.slots.front().map_or(0, |s| s.id.index)
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let at = usize::try_from(index.checked_sub(self.first())?).ok()?;
        self.slots.get_mut(at)
    }

    fn truncate(&mut self, since: u64) {
        while self.slots.back().is_some_and(|s| s.id.index >= since) {
            if let Some(gone) = self.slots.pop_back() {
                self.forget(&gone);
            }
        }
    }

    fn purge(&mut self, upto: LogId) {
        while self.slots.front().is_some_and(|s| s.id.index <= upto.index) {
            if let Some(gone) = self.slots.pop_front() {
                self.forget(&gone);
            }
        }
        self.purged = Some(upto);
    }

    fn forget(&mut self, slot: &Slot) {
        self.log_bytes -= slot.size;
        if slot.cached.is_some() {
            self.cached_bytes -= slot.size;
        }
    }

    /// Drops the oldest cached entries that are on disk until the cache is inside its bound.
    fn shrink_cache(&mut self) {
        let mut over = self.cached_bytes.saturating_sub(CACHE_BYTES);
        if over == 0 {
            return;
        }
        for slot in &mut self.slots {
            if over == 0 {
                break;
            }
            if slot.place.is_some() && slot.cached.take().is_some() {
                over = over.saturating_sub(slot.size);
                self.cached_bytes -= slot.size;
            }
        }
    }
}

enum Job {
    Append(Vec<Entry>, LogFlushed<TypeConfig>),
    Truncate(u64, oneshot::Sender<Result<(), LogError>>),
    Purge(LogId, oneshot::Sender<Result<(), LogError>>),
    Vote(Vote, oneshot::Sender<Result<(), LogError>>),
}

/// One channel's Raft log. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    dir: Arc<PathBuf>,
    index: Arc<Mutex<Index>>,
    jobs: mpsc::Sender<Job>,
}

impl LogStore {
    /// Opens or creates the log in `dir` and starts its writer thread, which ends with the last clone.
    pub(crate) fn open(dir: &Path) -> Result<Self, LogError> {
        std::fs::create_dir_all(dir).map_err(|source| LogError::Io {
            action: "create",
            path: dir.to_owned(),
            source,
        })?;
        let purged: Option<pb::LogId> = read_record(&dir.join("purged"))?;
        let purged = purged.as_ref().map(log_id_in);
        let (segments, found) = Segments::open(&dir.join("log"), SEGMENT_BYTES, purged.as_ref())?;
        let mut index = Index {
            purged,
            ..Index::default()
        };
        for (id, place) in found {
            let size = usize::try_from(place.len()).unwrap_or(0);
            index.log_bytes += size;
            index.slots.push_back(Slot {
                id,
                size,
                place: Some(place),
                cached: None,
            });
        }
        let index = Arc::new(Mutex::new(index));
        let (jobs, queue) = mpsc::channel();
        let writer = Writer {
            dir: dir.to_owned(),
            segments,
            index: Arc::clone(&index),
        };
        std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.run(&queue))
            .map_err(|source| LogError::Io {
                action: "start the writer of",
                path: dir.to_owned(),
                source,
            })?;
        Ok(Self {
            dir: Arc::new(dir.to_owned()),
            index,
            jobs,
        })
    }

    /// Whether this log has ever held an entry.
    pub(crate) fn is_pristine(&self) -> bool {
        let index = self.index.lock();
        index.slots.is_empty() && index.purged.is_none()
    }

    /// Whether the log holds, or held, an entry of a leader. Index 0 is the membership that every founder writes.
    pub(crate) fn has_history(&self) -> bool {
        let index = self.index.lock();
        let last = index.slots.back().map(|s| s.id).or(index.purged);
        last.is_some_and(|id| id.index > 0)
    }

    /// Bytes of the entries in the log: what a snapshot would let it drop.
    pub(crate) fn bytes(&self) -> usize {
        self.index.lock().log_bytes
    }

    /// Full position of the entry at `index`, if the log still holds it.
    pub(crate) fn log_id(&self, index: u64) -> Option<LogId> {
        let mut guard = self.index.lock();
        if let Some(purged) = guard.purged.filter(|p| p.index == index) {
            return Some(purged);
        }
        guard.slot_mut(index).map(|s| s.id)
    }

    async fn run(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<(), LogError>>) -> Job,
    ) -> Result<(), AnyError> {
        let (reply, done) = oneshot::channel();
        self.jobs
            .send(job(reply))
            .map_err(|_| AnyError::error("the writer of the Raft log has stopped"))?;
        match done.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(AnyError::new(&e)),
            Err(_) => Err(AnyError::error("the writer of the Raft log has stopped")),
        }
    }

    async fn read(&self, start: u64, end: u64, limit: usize) -> Result<Vec<Entry>, StorageError> {
        enum Found {
            Ready(Entry),
            OnDisk(Place),
        }
        let mut found = Vec::new();
        let mut on_disk = false;
        {
            let mut index = self.index.lock();
            let mut bytes = 0;
            for at in start.max(index.first())..end {
                let Some(slot) = index.slot_mut(at) else { break };
                bytes += slot.size;
                if !found.is_empty() && bytes > limit {
                    break;
                }
                match (&slot.cached, &slot.place) {
                    (Some(entry), _) => found.push(Found::Ready(entry.clone())),
                    (None, Some(place)) => {
                        on_disk = true;
                        found.push(Found::OnDisk(place.clone()));
                    }
                    (None, None) => break,
                }
            }
        }
        let load = move || -> Result<Vec<Entry>, LogError> {
            found
                .into_iter()
                .map(|f| match f {
                    Found::Ready(entry) => Ok(entry),
                    Found::OnDisk(place) => place.read(),
                })
                .collect()
        };
        let loaded = if on_disk {
            tokio::task::spawn_blocking(load)
                .await
                .map_err(|e| StorageIOError::read_logs(AnyError::new(&e)))?
        } else {
            load()
        };
        loaded.map_err(|e| StorageIOError::read_logs(AnyError::new(&e)).into())
    }
}

struct Writer {
    dir: PathBuf,
    segments: Segments,
    index: Arc<Mutex<Index>>,
}

impl Writer {
    fn run(mut self, queue: &mpsc::Receiver<Job>) {
        let mut next = queue.recv().ok();
        while let Some(job) = next.take() {
            match job {
                Job::Append(mut entries, flushed) => {
                    // Group commit: everything that waits behind this append shares its sync.
                    let mut callbacks = vec![flushed];
                    loop {
                        match queue.try_recv() {
                            Ok(Job::Append(more, flushed)) => {
                                entries.extend(more);
                                callbacks.push(flushed);
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.append(&entries, callbacks);
                }
                Job::Truncate(since, reply) => {
                    let _ = reply.send(self.segments.truncate(since));
                }
                Job::Purge(upto, reply) => {
                    let done = write_record(&self.dir.join("purged"), &log_id_out(&upto))
                        .and_then(|()| self.segments.purge(upto.index));
                    let _ = reply.send(done);
                }
                Job::Vote(vote, reply) => {
                    let _ = reply.send(write_record(&self.dir.join("vote"), &vote_out(&vote)));
                }
            }
            if next.is_none() {
                next = queue.recv().ok();
            }
        }
    }

    fn append(&mut self, entries: &[Entry], callbacks: Vec<LogFlushed<TypeConfig>>) {
        match self.segments.append(entries) {
            Ok(places) => {
                let mut index = self.index.lock();
                for (entry, place) in entries.iter().zip(places) {
                    let slot = index.slot_mut(entry.log_id.index);
                    if let Some(slot) = slot.filter(|s| s.id == entry.log_id) {
                        slot.place = Some(place);
                    }
                }
                index.shrink_cache();
                drop(index);
                for callback in callbacks {
                    callback.log_io_completed(Ok(()));
                }
            }
            Err(e) => {
                tracing::error!(error = %e, "the Raft log cannot be written");
                for callback in callbacks {
                    callback.log_io_completed(Err(std::io::Error::other(e.to_string())));
                }
            }
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(n) => n + 1,
            Bound::Excluded(n) => *n,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, REPLICATE_BYTES).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let index = self.index.lock();
        Ok(LogState {
            last_purged_log_id: index.purged,
            last_log_id: index.slots.back().map(|s| s.id).or(index.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.run(|reply| Job::Vote(vote, reply))
            .await
            .map_err(|e| StorageIOError::write_vote(e).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let failed = |e: AnyError| StorageError::from(StorageIOError::read_vote(e));
        let vote: Option<pb::Vote> =
            read_record(&self.dir.join("vote")).map_err(|e| failed(AnyError::new(&e)))?;
        vote.map(|v| vote_in(Some(&v)))
            .transpose()
            .map_err(|e| failed(AnyError::new(&e)))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut index = self.index.lock();
            for entry in &entries {
                let size = prost::Message::encoded_len(&entry_out(entry));
                index.cached_bytes += size;
                index.log_bytes += size;
                index.slots.push_back(Slot {
                    id: *entry.get_log_id(),
                    size,
                    place: None,
                    cached: Some(entry.clone()),
                });
            }
        }
        self.jobs.send(Job::Append(entries, callback)).map_err(|_| {
            StorageIOError::write_logs(AnyError::error("the writer of the Raft log has stopped")).into()
        })
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.index.lock().truncate(log_id.index);
        self.run(|reply| Job::Truncate(log_id.index, reply))
            .await
            .map_err(|e| StorageIOError::write_logs(e).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.index.lock().purge(log_id);
        self.run(|reply| Job::Purge(log_id, reply))
            .await
            .map_err(|e| StorageIOError::write_logs(e).into())
    }
}
