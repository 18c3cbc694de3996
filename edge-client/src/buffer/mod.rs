//! The store-and-forward buffer: an engine without I/O, segment files with group commit, and what ties them together.
//!
//! # The promise
//!
//! A request is *accepted* when its record, with the nonce that fixes its transaction id, is durable. From then on it
//! becomes one valid transaction (or a part of one), or its end is told: refused by the contract, or dropped and told to
//! the ledger as a gap.
//!
//! # Parts
//!
//! ```text
//! accept ──► Engine (pure): room? number, index ──► staged ──► writer thread: Log ──► Disk (trait): one fsync a group
//!                │                                                 │
//!                ▼                                                 ▼
//!            queues: who goes next                          durable: in line, caller answered
//!                │
//!            take_due ──► Job (read back from disk) ──► uplink ──► settle
//! ```
//!
//! # On disk
//!
//! Segments `000000000001.seg`, … hold `SLVBUF03` and then framed records (see `record`). A segment begins with a snapshot
//! of what it must know of earlier ones, so the oldest can go when nothing in it is open; what stays open for long is
//! copied forward. A start never appends to what is there: it begins a new segment.
//!
//! | record | made durable before | if it is lost (power cut before the fsync, damage) |
//! |---|---|---|
//! | `Accepted` | the caller's answer | nobody was promised anything; damage: counted, reported and told as a gap |
//! | `Settled`, `BatchCommitted` | - | the request is sent again under its id, and the ledger's answer is the same |
//! | `Batch` (twice) | the batch is sent | its members go singly; only if both are damaged can the ledger see them twice, and there the contract's own check is the second line |
//! | `Apart` (twice) | a member goes without its batch | as above |
//! | `Sending` (twice) | an orderer may see the request | it may be merged or given up though it was sent |
//! | `Dropped` | it is counted for a gap record, and the file with the request is deleted | the request is open again, and the drop never happened |
//! | `Accepted` of what tells of drops (twice) | it is sent | if both are damaged, its drops are not told |
//! | `Redated` | - | ages count by the clock as it was before it was set |
//! | the head of the next segment, which voids a failed group | the next request after a failed fsync | a request whose caller was told "not taken" may be sent |
//!
//! # In memory
//!
//! 24 bytes a request (`slots`), 15 to 30 more if it has a key, nothing for its place in the queues while numbers are
//! consecutive. What a request says is read from disk when it is sent.

mod clock;
mod core;
mod disk;
mod engine;
mod gaps;
mod house;
mod jobs;
mod log;
mod queue;
mod record;
mod recover;
mod request;
mod slots;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use self::clock::{Clock, SystemClock};
use self::core::{Core, Pending};
use self::disk::{Disk, Folder};
use self::engine::{Engine, NewEntry, Position};
use self::house::Looked;
use self::log::{Log, What, WriteFailed};
use self::record::{Accepted, Dropped, Target};
use self::request::Template;
use crate::identities::IdentityId;

pub(crate) use self::clock::EARLIEST;
pub use self::engine::{BufferLimits, State, Totals, WhenFull};
pub(crate) use self::engine::{MergeRule, Outcome};
pub use self::gaps::DropReason;
pub(crate) use self::jobs::Job;
pub use self::request::{Priority, Receipt, TransactionRequest};

/// Longest request in bytes.
const MAX_REQUEST_BYTES: usize = record::MAX_PAYLOAD_BYTES / 2;
const NONCE_BYTES: usize = 24;
/// Bytes after which a segment is followed by another.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// While requests end within this time, a full buffer soon has room again; in milliseconds.
const DRAINING: u64 = 10_000;
/// Reports of damage that are kept.
const MAX_DAMAGE: usize = 200;
/// Bytes of a record that are not the caller's, for the limit in bytes.
const RECORD_OVERHEAD: usize = 64;

/// Why the buffer cannot be opened or does not take a request.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// A file or folder failed.
    #[error("buffer {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file was written by another version of this program.
    #[error(
        "buffer {}: it is of format {found}, this program writes format {expected}; let the version that wrote it send \
         what it holds, or move the folder away",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
        /// The format that is understood.
        expected: String,
    },
    /// The request could not be made durable, so it was not taken.
    #[error(
        "the request could not be stored ({0}); nothing was taken, try again when the disk works or has space"
    )]
    Write(String),
    /// The buffer holds as much as it may.
    #[error("the buffer is full ({why}); try again in {} s", retry_after.as_secs())]
    Full {
        /// Which limit.
        why: &'static str,
        /// When there may be room again.
        retry_after: Duration,
    },
    /// The request is longer than a record may be.
    #[error("the request has {bytes} bytes; at most {MAX_REQUEST_BYTES} are taken")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// When a disk that failed or was full may have recovered.
const DISK_PAUSE: Duration = Duration::from_secs(10);

impl BufferError {
    /// When the same request may be handed over again; none if that cannot help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full { retry_after, .. } => Some(*retry_after),
            Self::Write(_) | Self::Io { .. } | Self::Random(_) => Some(DISK_PAUSE),
            Self::TooLong { .. } | Self::Version { .. } => None,
        }
    }
}

impl From<WriteFailed> for BufferError {
    fn from(failed: WriteFailed) -> Self {
        Self::Write(failed.why)
    }
}

/// A request as its caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryView {
    /// Number in this buffer.
    pub id: u64,
    /// Where it stands.
    pub state: State,
    /// Attempts so far, up to 255.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub attempts: u32,
    /// Why the last attempt failed, or the request was refused or dropped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Block, once committed.
    #[serde(skip_serializing_if = "is_zero")]
    pub block: u64,
    /// The request before it that lost a race.
    #[serde(skip_serializing_if = "is_zero")]
    pub follows: u64,
    /// The request after it, if this one lost a race.
    #[serde(skip_serializing_if = "is_zero")]
    pub followed_by: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

/// Which contract function takes the gap records of which requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GapRule {
    /// Of requests to this channel; of all if empty.
    pub(crate) of_channel: String,
    /// Of requests to this chaincode; of all if empty.
    pub(crate) of_chaincode: String,
    /// Where they are told; empty for the same channel.
    pub(crate) channel: String,
    pub(crate) chaincode: String,
    pub(crate) function: String,
}

/// How a buffer works.
#[derive(Debug, Clone)]
pub(crate) struct BufferOptions {
    pub(crate) limits: BufferLimits,
    /// Bytes after which a segment is followed by another.
    pub(crate) segment_bytes: u64,
    /// How long to wait for more requests before an fsync.
    pub(crate) group_delay: Duration,
    pub(crate) merge: Vec<MergeRule>,
    pub(crate) gaps: Vec<GapRule>,
    /// Name of this gateway, for gap records.
    pub(crate) gateway: String,
}

impl Default for BufferOptions {
    fn default() -> Self {
        Self {
            limits: BufferLimits::default(),
            segment_bytes: SEGMENT_BYTES,
            group_delay: Duration::ZERO,
            merge: Vec::new(),
            gaps: Vec::new(),
            gateway: String::new(),
        }
    }
}

/// The buffer of one gateway.
#[derive(Debug)]
pub struct Buffer {
    dir: String,
    core: Arc<Core>,
    options: BufferOptions,
    /// Secret of this buffer from which nonces of requests with a key are derived.
    seed: [u8; 32],
    /// The first request and batch of this process.
    first_number: u64,
    first_batch: u64,
    damage: Mutex<Vec<String>>,
    /// The clocks at the last look.
    looked: Mutex<Looked>,
    /// Requests that tell of drops, by what they tell of.
    telling: Mutex<HashMap<Target, u64>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Buffer {
    /// Opens a buffer and recovers what was accepted before.
    ///
    /// # Errors
    /// The folder cannot be read or written, or was written by another version.
    pub(crate) fn open(dir: &Path, options: BufferOptions) -> Result<Self, BufferError> {
        let failed = |source| BufferError::Io {
            path: dir.to_owned(),
            source,
        };
        let disk = Arc::new(Folder::open(dir).map_err(failed)?);
        let seed = read_seed(dir)?;
        let name = dir.display().to_string();
        let mut buffer = Self::assemble(name, disk, Arc::new(SystemClock::new()), seed, options, false)?;
        let core = Arc::clone(&buffer.core);
        let writer = std::thread::Builder::new()
            .name("edge-buffer".to_owned())
            .spawn(move || core.write_until_stopped())
            .map_err(failed)?;
        buffer.writer = Some(writer);
        Ok(buffer)
    }

    /// A buffer over any disk and clock. With `inline`, there is no writer thread: what is staged is written at once.
    fn assemble(
        dir: String,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        seed: [u8; 32],
        options: BufferOptions,
        inline: bool,
    ) -> Result<Self, BufferError> {
        let mut recovered = recover::recover(&*disk, Engine::new(options.limits), &dir)?;
        for line in &recovered.damage {
            tracing::error!("{line}");
        }
        for _ in 0..recovered.lost {
            recovered.engine.count_found_damage();
        }
        let (first_number, first_batch) = recovered.engine.next_numbers();
        let looked = Looked::now(&*clock, first_number);
        recovered.engine.date_unknown(looked.seconds);
        let log = Log::new(
            Arc::clone(&disk),
            options.segment_bytes,
            recovered.last_segment,
            (first_number, first_batch),
            (recovered.gaps, recovered.damaged),
            recovered.torn,
        );
        recovered.damage.truncate(MAX_DAMAGE);

        let core = Core::new(recovered.engine, log, disk, clock, options.group_delay, inline);
        Ok(Self {
            dir,
            core: Arc::new(core),
            options,
            seed,
            first_number,
            first_batch,
            damage: Mutex::new(recovered.damage),
            looked: Mutex::new(looked),
            telling: Mutex::new(HashMap::new()),
            writer: None,
        })
    }

    /// The nonce of a request. One that names itself gets the same nonce every time, even long after the buffer has
    /// forgotten it: then the ledger recognises the transaction id.
    fn nonce(&self, request: &TransactionRequest) -> Result<[u8; NONCE_BYTES], BufferError> {
        let mut nonce = [0; NONCE_BYTES];
        if request.idempotency_key.is_empty() {
            rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut nonce)
                .map_err(|e| BufferError::Random(e.to_string()))?;
            return Ok(nonce);
        }
        let mut hash = Sha256::new().chain_update(self.seed);
        for part in [
            &request.source,
            &request.channel,
            &request.chaincode,
            &request.idempotency_key,
        ] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        nonce.copy_from_slice(&hash.finalize()[..NONCE_BYTES]);
        Ok(nonce)
    }

    /// The nonce of the request that follows one which lost a race. It comes from the one before: whoever repeats the first
    /// under its key gets the same row of transaction ids.
    fn next_nonce(&self, lost: &[u8; NONCE_BYTES]) -> [u8; NONCE_BYTES] {
        let hash = Sha256::new()
            .chain_update(self.seed)
            .chain_update(b"follows")
            .chain_update(lost)
            .finalize();
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&hash[..NONCE_BYTES]);
        nonce
    }

    /// Takes a request: when this returns, it is durable. A request whose key is known already is not taken again; the
    /// earlier one is returned.
    ///
    /// # Errors
    /// The buffer is full or cannot be written; then nothing was taken.
    pub(crate) async fn accept(
        &self,
        request: TransactionRequest,
        identity: IdentityId,
    ) -> Result<Receipt, BufferError> {
        let (receipt, pending) = self.stage_request(request, identity)?;
        if let Some(pending) = pending {
            self.core.kick();
            pending.durable().await?;
            // Of one that somebody else had handed over, the write may have failed before this one waited for it.
            if receipt.known && !self.core.inner.lock().engine.is_kept(receipt.id) {
                let why = "it had come before, and the disk did not take it then";
                return Err(BufferError::Write(why.to_owned()));
            }
        }
        Ok(receipt)
    }

    fn stage_request(
        &self,
        request: TransactionRequest,
        identity: IdentityId,
    ) -> Result<(Receipt, Option<Pending>), BufferError> {
        let size = request.size();
        if size > MAX_REQUEST_BYTES {
            return Err(BufferError::TooLong { bytes: size });
        }
        let nonce = self.nonce(&request)?;
        let key = recover::key_name(&request.idempotency_key, &nonce);
        let accepted_s = self.core.clock.unix_seconds();
        let mut inner = self.core.inner.lock();
        if let Some((id, durable)) = key.and_then(|key| inner.engine.by_key(key)) {
            let pending = (!durable).then(|| inner.stage(What::Barrier));
            return Ok((Receipt { id, known: true }, pending));
        }
        let bytes = (size + RECORD_OVERHEAD) as u64;
        let victims = inner
            .engine
            .room_for(bytes, request.priority)
            .map_err(|full| self.full(full))?;
        for victim in victims {
            self.give_up(&mut inner, victim.0, DropReason::Full);
        }
        let template = Template::of(&request, identity);
        let new = Accepted {
            nonce: Bytes::copy_from_slice(&nonce),
            accepted_s,
            key: request.idempotency_key,
            args: request.args,
            ..Accepted::default()
        };
        let (id, pending) = self.stage_new(&mut inner, new, &template, bytes, What::Intake);
        Ok((Receipt { id, known: false }, Some(pending)))
    }

    /// Numbers a request and stages its record.
    fn stage_new(
        &self,
        inner: &mut self::core::Inner,
        mut new: Accepted,
        template: &Template,
        bytes: u64,
        what: impl FnOnce(Accepted, Arc<Template>) -> What,
    ) -> (u64, Pending) {
        new.number = inner.engine.reserve();
        inner.engine.insert(&NewEntry {
            number: new.number,
            template,
            key: recover::key_name(&new.key, &new.nonce),
            accepted_s: new.accepted_s,
            follows: new.follows,
            place: new.place,
            position: Position {
                segment: self.core.segment.load(Ordering::Acquire),
                offset: 0,
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            },
        });
        if let Some(slot) = inner.engine.slot(new.number) {
            new.template = slot.template;
        }
        let number = new.number;
        let template = inner
            .engine
            .template(new.template)
            .unwrap_or_else(|| Arc::new(template.clone()));
        (number, inner.stage(what(new, template)))
    }

    fn full(&self, full: engine::Full) -> BufferError {
        let why = match full {
            engine::Full::Entries => "it holds its largest number of open requests",
            engine::Full::Bytes => "its open requests fill its space",
        };
        let last = self.core.last_end.load(Ordering::Relaxed);
        let draining = last > 0 && self.core.clock.millis() < last + DRAINING;
        BufferError::Full {
            why,
            retry_after: Duration::from_secs(if draining { 1 } else { 30 }),
        }
    }

    /// Gives a request up that nobody has seen, and notes it for a gap record.
    fn give_up(&self, inner: &mut self::core::Inner, number: u64, reason: DropReason) {
        let slot = inner
            .engine
            .slot(number)
            .map(|slot| (slot.template, slot.segment));
        let Some((template_id, segment)) = slot else {
            return;
        };
        let Some((template, accepted_s)) = inner.engine.drop_entry(number, reason) else {
            return;
        };
        let dropped = Dropped {
            number,
            template: template_id,
            accepted_s,
            reason: reason.number(),
        };
        inner.note_drop(dropped, template, segment);
        self.core.ended();
    }

    fn report_damage(&self, line: String) {
        tracing::error!("{line}");
        let mut damage = self.damage.lock();
        if damage.len() < MAX_DAMAGE {
            damage.push(line);
        }
    }

    /// A request by its number, if it is open or remembered.
    pub fn view(&self, number: u64) -> Option<EntryView> {
        let inner = self.core.inner.lock();
        let engine = &inner.engine;
        let (follows, followed_by) = (engine.follows(number), engine.followed_by(number));
        if let Some(slot) = engine.slot(number) {
            let batch = engine.batch_of(number).and_then(|b| engine.batch(b));
            let (attempts, reason) = match batch {
                Some(batch) => (batch.attempts, batch.reason.to_string()),
                None => (u32::from(slot.attempts), engine.reason(number).to_owned()),
            };
            return Some(EntryView {
                id: number,
                state: slot.state,
                attempts,
                reason,
                block: 0,
                follows,
                followed_by,
            });
        }
        engine.finished(number).map(|f| EntryView {
            id: number,
            state: f.state,
            attempts: 0,
            reason: f.reason.as_deref().unwrap_or_default().to_owned(),
            block: f.block,
            follows,
            followed_by,
        })
    }

    /// What is open, and totals since the start.
    pub fn totals(&self) -> Totals {
        let mut totals = self.core.inner.lock().engine.totals();
        {
            let log = self.core.log.lock();
            totals.untold_drops = log.gaps().untold();
            totals.written_bytes = log.written_bytes;
            totals.syncs = log.syncs;
        }
        totals.file_bytes = self.file_bytes();
        totals
    }

    fn file_bytes(&self) -> u64 {
        let segments = self.core.disk.list().unwrap_or_default();
        segments
            .into_iter()
            .filter_map(|segment| self.core.disk.length(segment).ok())
            .sum()
    }

    /// Damage that was found, when the buffer was opened or later.
    pub fn damage(&self) -> Vec<String> {
        self.damage.lock().clone()
    }

    /// Changes whenever a request ends.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.core.settled.subscribe()
    }

    /// Identities that open requests are sent under.
    pub(crate) fn identities(&self) -> BTreeSet<IdentityId> {
        self.core.inner.lock().engine.identities()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.core.stop();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the buffer's writer has failed");
        }
    }
}

fn read_seed(dir: &Path) -> Result<[u8; 32], BufferError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join("nonce.seed");
    let failed = |source| BufferError::Io {
        path: path.clone(),
        source,
    };
    if path.exists() {
        let bytes = std::fs::read(&path).map_err(failed)?;
        return <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| {
            failed(std::io::Error::other(
                "it must hold 32 bytes; restore it from a backup",
            ))
        });
    }
    let mut seed = [0; 32];
    rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut seed)
        .map_err(|e| BufferError::Random(e.to_string()))?;
    let temporary = dir.join("nonce.seed.tmp");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(&seed)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    std::fs::rename(&temporary, &path).map_err(failed)?;
    std::fs::File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(failed)?;
    Ok(seed)
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
