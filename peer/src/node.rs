//! What all services of a peer share: who it is, and the channels that it has joined.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use selvedge_channel::{Bundle, NodeRole};
use selvedge_msp::{CurrentIdentity, MspManager, SigningIdentity};
use selvedge_proto::common;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::channel::{ChannelError, PeerChannel};
use crate::context::{JoinError, PeerContext};
use crate::metrics::LedgerMetrics;
use crate::puller::{self, PullerHandle, PullerMetrics, PullerOptions};
use crate::validation::ValidatorPool;

const CHANNELS_DIR: &str = "channels";
/// Channels that are being created; what a crash leaves here is removed.
const JOINING_DIR: &str = "joining";

/// Why the channels of a peer could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A channel cannot be opened.
    #[error("channel {channel} cannot be opened: {source}")]
    Channel {
        /// The channel.
        channel: String,
        /// The reason.
        source: ChannelError,
    },
}

struct Joined {
    channel: Arc<PeerChannel>,
    puller: Option<PullerHandle>,
}

/// The peer without its services.
pub(crate) struct PeerNode {
    identity: CurrentIdentity,
    /// Replaced when the files of the MSP change.
    local_msp: RwLock<Arc<MspManager>>,
    data_dir: PathBuf,
    pulling: PullerOptions,
    runtime: Handle,
    joined: RwLock<BTreeMap<String, Joined>>,
    /// One channel is joined at a time.
    joining: Mutex<()>,
    metrics: Arc<LedgerMetrics>,
    validators: Option<ValidatorPool>,
}

impl PeerNode {
    /// A peer without channels. Must be called within a tokio runtime.
    pub(crate) fn new(
        identity: CurrentIdentity,
        local_msp: MspManager,
        data_dir: &Path,
        pulling: PullerOptions,
        validators: Option<ValidatorPool>,
    ) -> Self {
        Self {
            identity,
            local_msp: RwLock::new(Arc::new(local_msp)),
            data_dir: data_dir.to_owned(),
            pulling,
            runtime: Handle::current(),
            joined: RwLock::default(),
            joining: Mutex::new(()),
            metrics: Arc::default(),
            validators,
        }
    }

    /// Judges proposals outside of channels by another state of the peer's own MSP from now on.
    pub(crate) fn replace_local_msp(&self, msp: MspManager) {
        *self.local_msp.write() = Arc::new(msp);
    }

    /// What is measured of fetching blocks.
    pub(crate) fn puller_metrics(&self) -> &PullerMetrics {
        &self.pulling.metrics
    }

    /// What is measured of the channels.
    pub(crate) fn metrics(&self) -> &LedgerMetrics {
        &self.metrics
    }

    /// Opens the channels that were joined before. Blocks the thread.
    ///
    /// # Errors
    /// A folder cannot be read, or a channel is damaged.
    pub(crate) fn open_channels(&self) -> Result<(), NodeError> {
        let folder_error = |path: &Path| {
            let path = path.to_owned();
            move |source| NodeError::Folder { path, source }
        };
        let leftover = self.data_dir.join(JOINING_DIR);
        if leftover.exists() {
            std::fs::remove_dir_all(&leftover).map_err(folder_error(&leftover))?;
        }
        let channels = self.data_dir.join(CHANNELS_DIR);
        std::fs::create_dir_all(&channels).map_err(folder_error(&channels))?;
        for entry in std::fs::read_dir(&channels).map_err(folder_error(&channels))? {
            let entry = entry.map_err(folder_error(&channels))?;
            let Ok(id) = entry.file_name().into_string() else {
                continue;
            };
            let channel = PeerChannel::open(&entry.path(), &id).map_err(|source| NodeError::Channel {
                channel: id.clone(),
                source,
            })?;
            tracing::info!(channel = %id, height = channel.height(), "channel opened");
            self.add(channel);
        }
        Ok(())
    }

    fn add(&self, channel: Arc<PeerChannel>) {
        channel.measure(Arc::clone(&self.metrics));
        if let Some(pool) = &self.validators {
            channel.validate_on(pool.clone());
        }
        let puller = {
            let _runtime = self.runtime.enter();
            puller::start(Arc::clone(&channel), self.pulling.clone())
        };
        let joined = Joined {
            channel: Arc::clone(&channel),
            puller: Some(puller),
        };
        self.joined.write().insert(channel.id().to_owned(), joined);
    }

    /// Creates the channel aside and moves it into place when it is whole, so that a crash leaves all or nothing.
    fn create(&self, id: &str, block: common::Block) -> Result<Arc<PeerChannel>, String> {
        let place = self.data_dir.join(CHANNELS_DIR).join(id);
        let aside = self.data_dir.join(JOINING_DIR).join(id);
        let failed = |what: &str, e: std::io::Error| format!("{what} {}: {e}", aside.display());
        if aside.exists() {
            std::fs::remove_dir_all(&aside).map_err(|e| failed("cannot remove", e))?;
        }
        std::fs::create_dir_all(&aside).map_err(|e| failed("cannot create", e))?;
        // Closed before it is moved: open files would be looked for in the old place.
        drop(PeerChannel::create(&aside, block).map_err(|e| e.to_string())?);
        std::fs::rename(&aside, &place).map_err(|e| failed("cannot move", e))?;
        let channels = std::fs::File::open(self.data_dir.join(CHANNELS_DIR));
        channels
            .and_then(|folder| folder.sync_all())
            .map_err(|e| failed("cannot make durable", e))?;
        PeerChannel::open(&place, id).map_err(|e| e.to_string())
    }

    /// Stops fetching blocks on all channels, waits until those at hand are committed, and then, for `grace` at most, until
    /// nobody uses the ledgers any more, so that another process can open them.
    pub(crate) async fn stop(&self, grace: Duration) {
        let pullers: Vec<PullerHandle> = self
            .joined
            .write()
            .values_mut()
            .filter_map(|joined| joined.puller.take())
            .collect();
        futures::future::join_all(pullers.into_iter().map(PullerHandle::stop)).await;
        let closed = std::mem::take(&mut *self.joined.write());
        let in_use: Vec<Weak<PeerChannel>> = closed.values().map(|j| Arc::downgrade(&j.channel)).collect();
        drop(closed);
        let end = Instant::now() + grace;
        while in_use.iter().any(|channel| channel.strong_count() > 0) {
            if Instant::now() >= end {
                tracing::warn!("a ledger is still in use although the peer has stopped");
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Id and height of every channel.
    pub(crate) fn heights(&self) -> Vec<(String, u64)> {
        let joined = self.joined.read();
        joined
            .iter()
            .map(|(id, j)| (id.clone(), j.channel.height()))
            .collect()
    }

    /// The orderer that the blocks of each channel come from at the moment.
    pub(crate) fn sources(&self) -> Vec<(String, Option<String>)> {
        let joined = self.joined.read();
        joined
            .iter()
            .map(|(id, j)| (id.clone(), j.puller.as_ref().and_then(PullerHandle::orderer)))
            .collect()
    }

    /// The channels that cannot commit at the moment, and why.
    pub(crate) fn troubles(&self) -> Vec<(String, String)> {
        let joined = self.joined.read();
        joined
            .iter()
            .filter_map(|(id, j)| Some((id.clone(), j.channel.trouble()?)))
            .collect()
    }
}

impl PeerContext for PeerNode {
    fn identity(&self) -> SigningIdentity {
        self.identity.get()
    }

    fn local_msp(&self) -> Arc<MspManager> {
        Arc::clone(&self.local_msp.read())
    }

    fn channel(&self, id: &str) -> Option<Arc<PeerChannel>> {
        self.joined.read().get(id).map(|j| Arc::clone(&j.channel))
    }

    fn channels(&self) -> Vec<String> {
        self.joined.read().keys().cloned().collect()
    }

    fn join_channel(&self, block: common::Block) -> Result<(), JoinError> {
        let bundle = Bundle::from_config_block_as(NodeRole::Peer, &block)
            .map_err(|e| JoinError::Refused(e.to_string()))?;
        let id = bundle.channel_id().to_owned();
        let _one_at_a_time = self.joining.lock();
        if self.channel(&id).is_some() || self.data_dir.join(CHANNELS_DIR).join(&id).exists() {
            return Err(JoinError::AlreadyExists { channel: id });
        }
        let channel = self.create(&id, block).map_err(JoinError::Refused)?;
        tracing::info!(channel = %id, "channel joined");
        self.add(channel);
        Ok(())
    }
}
