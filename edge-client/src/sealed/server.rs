//! The listener for sealed messages.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::frame::{
    Answer, Content, Direction, Frame, KeyId, SealingKeys, Status, random_nonce, read_content, seal,
};
use super::keys::{DeviceKeys, Found, KeyFile};
use super::replay::{Counters, Verdict};
use crate::EdgeError;
use crate::api::transaction_requests;
use crate::guard::Guard;
use crate::intake::arrival::Arrival;
use crate::intake::reading::{self, SentReading};
use crate::intake::sources::Sender;
use crate::intake::{Intake, Refusal, time};
use crate::state_log::StateLog;

/// A device's connection on which nothing comes for so long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// A connection's first frame has to begin within this time; a frame that has begun has to be there after it, and an answer has to be taken.
const FRAME_WITHIN: Duration = Duration::from_secs(20);
const MAX_CONNECTIONS: usize = 512;
/// Readings or transactions in one message at most.
const MAX_BATCH: usize = 1000;

/// Where devices without TLS send sealed messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedConfig {
    /// Address to listen on.
    pub listen: String,
}

/// Keys as they were read last.
#[derive(Default)]
struct Loaded {
    keys: DeviceKeys,
    state: Option<(SystemTime, u64)>,
}

/// Serves devices.
pub(crate) struct SealedServer {
    file: KeyFile,
    loaded: Mutex<Loaded>,
    counters: StateLog,
    /// One message of a key at a time, so that two copies of it cannot both be new.
    turns: Mutex<HashMap<KeyId, Arc<tokio::sync::Mutex<()>>>>,
    intake: Arc<Intake>,
    guard: Guard,
}

/// A connection is not worth going on with.
enum Broken {
    /// It ended, or failed.
    Ended,
    /// What came is not from a device of ours, or was changed.
    NotOurs(&'static str),
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self::Ended
    }
}

impl SealedServer {
    pub(crate) fn open(data_dir: &Path, intake: Arc<Intake>) -> Result<Arc<Self>, EdgeError> {
        let server = Self {
            file: KeyFile::in_folder(data_dir),
            loaded: Mutex::default(),
            counters: StateLog::open(&data_dir.join("devices.counters"))?,
            turns: Mutex::default(),
            intake,
            guard: Guard::default(),
        };
        let keys = server.file.read()?;
        *server.loaded.lock() = Loaded {
            keys,
            state: server.file.changed_at(),
        };
        Ok(Arc::new(server))
    }

    /// Serves until `stop` is cancelled and all connections have ended.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let connections = TaskTracker::new();
        self.accept(listener, &stop, &connections).await;
        connections.close();
        connections.wait().await;
    }

    async fn accept(
        self: &Arc<Self>,
        listener: TcpListener,
        stop: &CancellationToken,
        connections: &TaskTracker,
    ) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, remote)) => {
                    let (this, stop) = (Arc::clone(self), stop.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = this.serve(socket, remote) => {}
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: waiting lets connections end, spinning would not.
                    tracing::warn!(%error, "cannot accept connections for sealed messages");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(&self, mut socket: TcpStream, remote: SocketAddr) {
        let address = remote.ip().to_canonical();
        if !self.intake.sources.admits(address) || !self.guard.admits(address, Instant::now()) {
            tracing::debug!(%remote, "not listened to");
            return;
        }
        // Strangers must not hold the connections: only a device may be idle.
        let mut patience = FRAME_WITHIN;
        loop {
            match self.exchange(&mut socket, patience).await {
                Ok(()) => {
                    self.guard.succeeded(address);
                    patience = IDLE;
                }
                Err(Broken::Ended) => return,
                Err(Broken::NotOurs(why)) => {
                    // No answer: it would tell a stranger what was wrong.
                    tracing::warn!(%remote, %why, "sealed message refused");
                    self.guard.failed(address, Instant::now());
                    return;
                }
            }
        }
    }

    /// One message, which has to begin within `patience`, and its answer.
    async fn exchange(&self, socket: &mut TcpStream, patience: Duration) -> Result<(), Broken> {
        let mut length = [0; 2];
        tokio::time::timeout(patience, socket.read_exact(&mut length))
            .await
            .map_err(|_| Broken::Ended)??;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        tokio::time::timeout(FRAME_WITHIN, socket.read_exact(&mut bytes))
            .await
            .map_err(|_| Broken::Ended)??;
        let answer = self.answer(&bytes).await?;
        tokio::time::timeout(FRAME_WITHIN, socket.write_all(&answer))
            .await
            .map_err(|_| Broken::Ended)??;
        Ok(())
    }

    fn find(&self, id: &KeyId) -> Option<Found> {
        let mut loaded = self.loaded.lock();
        let state = self.file.changed_at();
        if state != loaded.state {
            match self.file.read() {
                Ok(keys) => *loaded = Loaded { keys, state },
                Err(error) => tracing::error!(%error, "the changed file of device keys is not used"),
            }
        }
        loaded.keys.find(id)
    }

    fn turn(&self, id: &KeyId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.turns.lock().entry(*id).or_default())
    }

    async fn answer(&self, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        let frame = Frame::read(bytes, Direction::Up).ok_or(Broken::NotOurs("it is no frame"))?;
        let found = self
            .find(&frame.key_id)
            .ok_or(Broken::NotOurs("the key is not known"))?;
        let keys = SealingKeys::derive(&found.key).ok_or(Broken::NotOurs("the key cannot be used"))?;
        let inside = frame
            .open(&keys, Direction::Up)
            .ok_or(Broken::NotOurs("the seal is broken"))?;
        let (device, content) = read_content(&inside).ok_or(Broken::NotOurs("the inside is malformed"))?;
        if device != found.device {
            return Err(Broken::NotOurs("the device id inside is not the key's"));
        }
        // Only now, so that strangers do not make entries.
        let turn = self.turn(&frame.key_id);
        let _one_at_a_time = turn.lock().await;
        if found.is_next
            && let Err(error) = self.file.promote(&frame.key_id)
        {
            tracing::error!(%error, device, "the renewed key cannot take the place of the old one yet");
        }
        if found.needs_end
            && let Err(error) = self.file.end_old()
        {
            tracing::error!(%error, device, "an old key stays good");
        }
        let (status, refusal, counters) = self.take(&frame, device, content).await;
        let wait = match &refusal {
            Some(refusal) => refusal
                .retry_after()
                .map_or(0, |d| u32::try_from(d.as_secs()).unwrap_or(u32::MAX).max(1)),
            None => 0,
        };
        let answer = Answer {
            counter: frame.counter(),
            status,
            wait,
            highest: counters.highest(),
            time: time::now(),
            next_key: found.next,
            text: refusal.map_or_else(String::new, |r| r.to_string().chars().take(200).collect()),
        };
        let nonce = random_nonce().ok_or(Broken::Ended)?;
        seal(&keys, Direction::Down, &frame.key_id, nonce, &answer.bytes()).ok_or(Broken::Ended)
    }

    fn counters_of(&self, name: &str) -> Counters {
        self.counters
            .get(name)
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    async fn take(
        &self,
        frame: &Frame<'_>,
        device: &str,
        content: Content<'_>,
    ) -> (Status, Option<Refusal>, Counters) {
        let name = hex::encode(frame.key_id);
        let counter = frame.counter();
        let mut counters = self.counters_of(&name);
        if content == Content::Hello {
            return (Status::Taken, None, counters);
        }
        let begun = match counters.judge(counter, frame.mark()) {
            Verdict::New(begun) => begun,
            Verdict::Seen => return (Status::Known, None, counters),
            Verdict::Spent => return (Status::Replayed, None, counters),
        };
        let arrived = match begun {
            Some(arrived) => arrived,
            None => counters.begin(counter, self.intake.arrival().number),
        };
        if begun.is_none() {
            // What has no time or number of its own is known by these, also when it comes again after a crash.
            if let Err(error) = self.write(&name, &counters).durable().await {
                drop(self.counters.recover().await.inspect_err(
                    |error| tracing::error!(%error, "the counters of devices cannot be written"),
                ));
                return (Status::Wait, Some(error.into()), counters);
            }
        }
        match self
            .hand_over(device, counter, content, Arrival::numbered(arrived))
            .await
        {
            Ok(()) => {
                counters.done(counter, frame.mark());
                // Not waited for: if it is lost, the message counts as begun, and is recognised by its identity.
                drop(self.write(&name, &counters));
                (Status::Taken, None, counters)
            }
            Err(refusal) if refusal.retry_after().is_some() => (Status::Wait, Some(refusal), counters),
            Err(refusal) => (Status::Refused, Some(refusal), counters),
        }
    }

    fn write(&self, name: &str, counters: &Counters) -> crate::journal::Pending {
        self.counters
            .set(name, Some(serde_json::to_vec(counters).unwrap_or_default()))
    }

    async fn hand_over(
        &self,
        device: &str,
        counter: u64,
        content: Content<'_>,
        arrived: Arrival,
    ) -> Result<(), Refusal> {
        let sender = Sender::Source(device.to_owned());
        let readings = match content {
            Content::Hello => return Ok(()),
            Content::Transactions(json) => {
                let (mut requests, _) = transaction_requests(json).map_err(Refusal::Invalid)?;
                for (place, request) in requests.iter_mut().enumerate() {
                    if request.idempotency_key.is_empty() {
                        request.idempotency_key =
                            format!("sealed/{device}/{}/{counter}/{place}", arrived.number);
                    }
                }
                let taken = self.intake.transactions(&sender, requests).await?;
                return worst(taken.into_iter().map(|r| r.map(drop)));
            }
            Content::Readings(json) => reading::parse(json, MAX_BATCH).map_err(Refusal::Invalid)?.0,
            Content::Opaque { head, content } => {
                let head = if head.is_empty() { b"{}" } else { head };
                let mut reading: SentReading = serde_json::from_slice(head)
                    .map_err(|e| Refusal::Invalid(format!("the head is not a reading: {e}")))?;
                reading.sealed = Some(base64::engine::general_purpose::STANDARD.encode(content));
                vec![reading]
            }
        };
        let taken = self.intake.readings(sender, readings, arrived).await?;
        worst(taken.into_iter().map(|r| r.map(drop)))
    }
}

/// A message is taken when all of it is. Sending it again is safe, so one that may succeed later decides.
fn worst(results: impl Iterator<Item = Result<(), Refusal>>) -> Result<(), Refusal> {
    let mut refused = Ok(());
    for result in results {
        match result {
            Err(refusal) if refusal.retry_after().is_some() => return Err(refusal),
            Err(refusal) if refused.is_ok() => refused = Err(refusal),
            _ => {}
        }
    }
    refused
}
