//! The store-and-forward buffer: an engine without I/O, files with group commit, and what ties them together.
//!
//! A request is *accepted* when its record (with the nonce that fixes its transaction id) is durable. Its end is noted
//! without waiting for the disk: if that note is lost, the request is sent again under the same id, and the ledger's
//! answer is the same. Segment files go when nothing in them is open; what is still open in an old one is copied forward.

mod engine;
mod files;
mod record;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prost::Message;
use selvedge_proto::prost;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};

use self::engine::{Engine, Finished, NewEntry};
use self::files::Writer;
use self::record::{Accepted, Event, Settled};
use crate::identities::IdentityId;

pub use self::engine::{BufferLimits, State, Totals};
pub(crate) use self::engine::{Entry, Outcome};
pub use self::record::TransactionRequest;

/// Longest request in bytes.
const MAX_REQUEST_BYTES: usize = record::MAX_PAYLOAD_BYTES / 2;
const NONCE_BYTES: usize = 24;

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
    /// The request could not be made durable, so it was not taken.
    #[error("the request could not be stored ({0}); nothing was sent, try again when there is space")]
    Write(String),
    /// The buffer holds as much as it may.
    #[error("the buffer is full ({0}); try again when the uplink has caught up")]
    Full(&'static str),
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

/// A request as its caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryView {
    /// Number in this buffer.
    pub id: u64,
    /// Where it stands.
    pub state: State,
    /// Attempts so far.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub attempts: u32,
    /// Why the last attempt failed or the request was refused.
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

/// The buffer of one gateway.
#[derive(Debug)]
pub struct Buffer {
    dir: PathBuf,
    engine: Mutex<Engine>,
    writer: Writer,
    /// Secret of this buffer from which nonces of requests with a key are derived.
    seed: [u8; 32],
    started: Instant,
    work: Notify,
    settled: watch::Sender<u64>,
    damage: Vec<String>,
}

enum Taken {
    /// The key is known; where the earlier request is still being written, its durability is awaited too.
    Known(u64, Option<files::Pending>),
    New(u64, files::Pending),
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Buffer {
    /// Opens a buffer and recovers what was accepted before.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn open(dir: &Path, limits: BufferLimits) -> Result<Self, BufferError> {
        let failed = |source| BufferError::Io {
            path: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let seed = read_seed(dir)?;
        let recovered = files::recover(dir)?;
        for line in &recovered.damage {
            tracing::error!("{line}");
        }
        let mut engine = Engine::new(limits);
        for (segment, event) in recovered.events {
            replay(&mut engine, segment, event);
        }
        let numbers: Vec<(u64, u64)> = engine.open_entries().map(|e| (e.number, e.segment)).collect();
        for (number, segment) in numbers {
            engine.durable(number, segment, 0);
        }
        let buffer = Self {
            dir: dir.to_owned(),
            engine: Mutex::new(engine),
            writer: Writer::start(dir)?,
            seed,
            started: Instant::now(),
            work: Notify::new(),
            settled: watch::Sender::new(0),
            damage: recovered.damage,
        };
        buffer.delete_unneeded()?;
        Ok(buffer)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The nonce of a request. One that names itself gets the same nonce every time, even long after the buffer has
    /// forgotten it: then the ledger recognises the transaction id.
    fn nonce(&self, request: &TransactionRequest) -> Result<Vec<u8>, BufferError> {
        if request.idempotency_key.is_empty() {
            let mut nonce = vec![0; NONCE_BYTES];
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
        Ok(hash.finalize()[..NONCE_BYTES].to_vec())
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
    ) -> Result<u64, BufferError> {
        let nonce = self.nonce(&request)?;
        self.accept_with(request, identity, nonce, 0).await
    }

    /// Takes a new request in the place of one that lost a race.
    pub(crate) async fn follow(&self, lost: &Entry, identity: IdentityId) -> Result<u64, BufferError> {
        let mut request = (*lost.request).clone();
        // The key stays with the first: its nonce is spent.
        let key = std::mem::take(&mut request.idempotency_key);
        let nonce = self.nonce(&request)?;
        let number = self.accept_with(request, identity, nonce, lost.number).await?;
        self.engine.lock().link(lost.number, number);
        if !key.is_empty() {
            tracing::debug!(%key, number, "follows a request that lost a race");
        }
        Ok(number)
    }

    async fn accept_with(
        &self,
        request: TransactionRequest,
        identity: IdentityId,
        nonce: Vec<u8>,
        follows: u64,
    ) -> Result<u64, BufferError> {
        let length = request.encoded_len();
        if length > MAX_REQUEST_BYTES {
            return Err(BufferError::TooLong { bytes: length });
        }
        let bytes = length as u64;
        let taken = {
            let mut engine = self.engine.lock();
            match engine.by_key(&request.idempotency_key) {
                Some(known) => {
                    let durable = engine.open_entry(known).is_none_or(|e| e.durable);
                    Taken::Known(
                        known,
                        if durable {
                            None
                        } else {
                            Some(self.writer.barrier()?)
                        },
                    )
                }
                None => {
                    engine.room_for(bytes).map_err(|full| {
                        BufferError::Full(match full {
                            engine::Full::Entries => "it holds its largest number of open requests",
                            engine::Full::Bytes => "its open requests fill its space",
                        })
                    })?;
                    let number = engine.reserve();
                    let accepted_at = unix_millis();
                    let segment = self.writer.earliest_segment();
                    let pending = self.writer.append(Event::Accepted(Accepted {
                        number,
                        request: request.clone(),
                        nonce: nonce.clone(),
                        identity: identity.to_vec(),
                        accepted_at,
                        follows,
                    }))?;
                    let request = Arc::new(request);
                    engine.insert(NewEntry {
                        number,
                        request,
                        nonce,
                        identity,
                        accepted_at,
                        follows,
                        bytes,
                        segment,
                    });
                    Taken::New(number, pending)
                }
            }
        };
        match taken {
            Taken::Known(number, None) => Ok(number),
            Taken::Known(number, Some(earlier)) => earlier.durable().await.map(|_| number),
            Taken::New(number, pending) => match pending.durable().await {
                Ok(segment) => {
                    self.engine.lock().durable(number, segment, self.now());
                    self.work.notify_one();
                    Ok(number)
                }
                Err(error) => {
                    self.engine.lock().withdraw(number);
                    Err(error)
                }
            },
        }
    }

    /// Up to `most` requests to send now.
    pub(crate) fn take_due(&self, most: usize) -> Vec<Entry> {
        let now = self.now();
        self.engine.lock().take_due(now, most)
    }

    /// Waits until a request may be due.
    pub(crate) async fn wait_for_work(&self) {
        let next = self.engine.lock().next_due();
        let now = self.now();
        match next {
            Some(due) if due <= now => {}
            Some(due) => {
                let pause = std::time::Duration::from_millis(due - now);
                // Either way there may be something to do.
                drop(tokio::time::timeout(pause, self.work.notified()).await);
            }
            None => self.work.notified().await,
        }
    }

    /// Wakes [`Self::wait_for_work`].
    pub(crate) fn wake(&self) {
        self.work.notify_one();
    }

    pub(crate) fn progress(&self, number: u64, state: State) {
        self.engine.lock().progress(number, state);
    }

    /// Takes the result of an attempt; `pause` is the time until a failed one is repeated.
    pub(crate) fn settle(&self, number: u64, outcome: Outcome, pause: std::time::Duration) -> Option<Entry> {
        let again_at = self
            .now()
            .saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        let (block, committed) = match &outcome {
            Outcome::Committed { block } => (*block, true),
            _ => (0, false),
        };
        let finished = self.engine.lock().settle(number, outcome, again_at);
        if let Some(entry) = &finished {
            self.writer.note(Event::Settled(Settled {
                number,
                committed,
                block,
                reason: entry.reason.clone(),
            }));
            self.settled.send_modify(|count| *count += 1);
        }
        self.work.notify_one();
        finished
    }

    /// A request by its number, if it is open or remembered.
    pub fn view(&self, number: u64) -> Option<EntryView> {
        let engine = self.engine.lock();
        if let Some(entry) = engine.open_entry(number) {
            return Some(EntryView {
                id: number,
                state: entry.state,
                attempts: entry.attempts,
                reason: entry.reason.clone(),
                block: 0,
                follows: entry.follows,
                followed_by: entry.followed_by,
            });
        }
        engine.finished(number).map(|f| EntryView {
            id: number,
            state: f.state,
            attempts: 0,
            reason: f.reason.clone(),
            block: f.block,
            follows: f.follows,
            followed_by: f.followed_by,
        })
    }

    /// What is open, and totals since the start.
    pub fn totals(&self) -> Totals {
        self.engine.lock().totals()
    }

    /// Damage that was found when the buffer was opened.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// Changes whenever a request is settled.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }

    /// Identities that open requests were accepted under.
    pub(crate) fn identities(&self) -> BTreeSet<IdentityId> {
        self.engine.lock().open_entries().map(|e| e.identity).collect()
    }

    /// Copies what is still open in old segments forward, where it holds up much dead space, and deletes segments in
    /// which nothing is open.
    pub(crate) async fn compact(&self) -> Result<(), BufferError> {
        let segments = files::segments(&self.dir)?;
        // The last one is being written.
        if let [oldest, _, _, .., _] = segments[..] {
            let stuck: Vec<Entry> = {
                let engine = self.engine.lock();
                engine
                    .open_entries()
                    .filter(|e| e.segment == oldest)
                    .cloned()
                    .collect()
            };
            for entry in stuck {
                let accepted = Accepted {
                    number: entry.number,
                    request: (*entry.request).clone(),
                    nonce: entry.nonce.clone(),
                    identity: entry.identity.to_vec(),
                    accepted_at: entry.accepted_at,
                    follows: entry.follows,
                };
                let segment = self.writer.append(Event::Accepted(accepted))?.durable().await?;
                self.engine.lock().move_to_segment(entry.number, segment);
            }
        }
        self.delete_unneeded()
    }

    fn delete_unneeded(&self) -> Result<(), BufferError> {
        let segments = files::segments(&self.dir)?;
        let engine = self.engine.lock();
        let needed: BTreeSet<u64> = engine.open_entries().map(|e| e.segment).collect();
        // Oldest first and without gaps, so that no note of an end is gone before the request it ends.
        for segment in &segments[..segments.len().saturating_sub(1)] {
            if needed.contains(segment) {
                break;
            }
            files::delete(&self.dir, *segment)?;
        }
        Ok(())
    }
}

fn replay(engine: &mut Engine, segment: u64, event: Event) {
    match event {
        Event::Accepted(accepted) => {
            let Ok(identity) = IdentityId::try_from(accepted.identity.as_slice()) else {
                tracing::error!(
                    number = accepted.number,
                    "a stored request names no identity; it is left out"
                );
                return;
            };
            if engine.open_entry(accepted.number).is_some() {
                engine.move_to_segment(accepted.number, segment);
                return;
            }
            if engine.finished(accepted.number).is_some() {
                return;
            }
            let bytes = accepted.request.encoded_len() as u64;
            engine.insert(NewEntry {
                number: accepted.number,
                request: Arc::new(accepted.request),
                nonce: accepted.nonce,
                identity,
                accepted_at: accepted.accepted_at,
                follows: accepted.follows,
                bytes,
                segment,
            });
            if accepted.follows != 0 {
                engine.link(accepted.follows, accepted.number);
            }
        }
        Event::Settled(settled) => {
            let outcome = if settled.committed {
                Outcome::Committed { block: settled.block }
            } else {
                Outcome::Refused {
                    reason: settled.reason.clone(),
                }
            };
            if engine.settle(settled.number, outcome, 0).is_none() {
                // Its request was in a segment that is gone: only its end is known.
                let state = if settled.committed {
                    State::Committed
                } else {
                    State::Refused
                };
                engine.remember(
                    settled.number,
                    Finished {
                        state,
                        block: settled.block,
                        reason: settled.reason,
                        follows: 0,
                        followed_by: 0,
                        idempotency_key: String::new(),
                    },
                );
            }
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
mod tests;
