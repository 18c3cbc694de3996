//! The channels of this node: opened at start, joined, removed.
//!
//! A channel is the folder `channels/<id>`. It appears by a rename when it is complete and disappears by a rename before it
//! is deleted, so a crash leaves either a whole channel or rubbish whose name starts with a dot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use prost::Message;
use selvedge_channel::verify::check_block_content;
use selvedge_channel::{Bundle, NodeRole, NotAuthenticated, authenticate_in_any};
use selvedge_msp::SignedData;
use selvedge_proto::{METADATA_SLOTS, common};

use crate::chain::Chain;
use crate::channel::{ChannelInfo, NodeContext, OrdererChannel, blocks_dir, join_block_path};
use crate::error::{JoinError, OrdererError, RemoveError};
use crate::joined::Joined;
use crate::metrics::OrdererMetrics;

/// The channels that this node has joined.
pub(crate) struct Registrar {
    dir: PathBuf,
    context: Arc<NodeContext>,
    joined: Option<Joined>,
    channels: RwLock<BTreeMap<String, Arc<OrdererChannel>>>,
    /// One join or removal at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Registrar {
    /// Opens every channel in `data_dir`, joins again what `joined_dir` remembers beyond them, and returns when each has
    /// found its role.
    pub(crate) async fn open(
        data_dir: &Path,
        joined_dir: Option<&Path>,
        context: Arc<NodeContext>,
    ) -> Result<Self, OrdererError> {
        let dir = data_dir.join("channels");
        let failed = |action: &'static str| {
            let path = dir.clone();
            move |source| OrdererError::Io { action, path, source }
        };
        std::fs::create_dir_all(&dir).map_err(failed("create"))?;
        let mut channels = BTreeMap::new();
        for entry in std::fs::read_dir(&dir).map_err(failed("list"))? {
            let entry = entry.map_err(failed("list"))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with('.') {
                std::fs::remove_dir_all(entry.path()).map_err(failed("clean up"))?;
            } else if selvedge_channel::check_channel_id(name).is_ok() {
                let channel = OrdererChannel::start(name, entry.path(), Arc::clone(&context));
                channels.insert(name.to_owned(), channel);
            }
        }
        for channel in channels.values() {
            channel.opened().await;
        }
        let registrar = Self {
            dir,
            context,
            joined: joined_dir.map(Joined::open).transpose()?,
            channels: RwLock::new(channels),
            changing: tokio::sync::Mutex::new(()),
        };
        registrar.join_again().await?;
        Ok(registrar)
    }

    /// Joins the channels that this node was in and has no data of.
    async fn join_again(&self) -> Result<(), OrdererError> {
        let Some(joined) = &self.joined else {
            return Ok(());
        };
        for (id, block) in joined.blocks()? {
            if self.get(&id).is_some() {
                continue;
            }
            tracing::warn!(channel = %id, "the data of this channel is gone; joining it again");
            if let Err(why) = self.join(block).await {
                tracing::error!(channel = %id, %why, "not joined again; join it with selvedge channel join or osnadmin");
            }
        }
        Ok(())
    }

    pub(crate) fn metrics(&self) -> &Arc<OrdererMetrics> {
        &self.context.metrics
    }

    /// Who this node is.
    pub(crate) fn identity(&self) -> selvedge_msp::SigningIdentity {
        self.context.signer.get()
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<OrdererChannel>> {
        self.channels.read().get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<OrdererChannel>> {
        self.channels.read().values().cloned().collect()
    }

    /// Whether a request was signed by a member of any channel of this node.
    ///
    /// # Errors
    /// Why not; in words that say nothing of any channel.
    pub(crate) fn knows(&self, signed: &SignedData) -> Result<(), NotAuthenticated> {
        let bundles: Vec<Arc<Bundle>> = self
            .all()
            .iter()
            .filter_map(|channel| channel.chain())
            .map(|chain| chain.bundle())
            .collect();
        let known = authenticate_in_any(bundles.iter().map(|b| b.msps()), signed);
        known.map(drop).map_err(|failure| match failure {
            NotAuthenticated::Invalid { msp_id, .. } => NotAuthenticated::Invalid {
                msp_id,
                why: "the identity or its signature is not valid".to_owned(),
            },
            unknown @ NotAuthenticated::Unknown => unknown,
        })
    }

    pub(crate) fn infos(&self) -> Vec<ChannelInfo> {
        self.all().iter().map(|c| c.info()).collect()
    }

    /// Joins the channel of a config block: a new one with its genesis block, an existing one with any later config block
    /// (spec 05 §7).
    pub(crate) async fn join(&self, block: common::Block) -> Result<ChannelInfo, JoinError> {
        let bundle = check_join_block(&block)?;
        let id = bundle.channel_id().to_owned();
        let _one = self.changing.lock().await;
        if self.get(&id).is_some() {
            return Err(JoinError::Exists(id));
        }
        let final_dir = self.dir.join(&id);
        let fresh = self.dir.join(format!(".joining-{id}"));
        let failed = |why: String| JoinError::Storage {
            channel: id.clone(),
            why,
        };
        if let Some(joined) = &self.joined {
            joined.remember(&id, &block).map_err(|e| failed(e.to_string()))?;
        }
        let (signer, target, channel) = (self.context.signer.clone(), final_dir.clone(), id.clone());
        let prepared =
            tokio::task::spawn_blocking(move || prepare(&fresh, &target, &channel, &block, signer)).await;
        prepared
            .map_err(|e| e.to_string())
            .and_then(|done| done)
            .map_err(failed)?;
        let channel = OrdererChannel::start(&id, final_dir, Arc::clone(&self.context));
        channel.opened().await;
        let info = channel.info();
        self.channels.write().insert(id.clone(), channel);
        tracing::info!(channel = %id, relation = info.consensus_relation, "joined");
        Ok(info)
    }

    /// Stops working on a channel and deletes everything of it.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), RemoveError> {
        let _one = self.changing.lock().await;
        let removed = self.channels.write().remove(id);
        let channel = removed.ok_or_else(|| RemoveError::Unknown(id.to_owned()))?;
        channel.shutdown().await;
        drop(channel);
        if let Some(joined) = &self.joined {
            joined.forget(id).map_err(|e| RemoveError::Storage {
                channel: id.to_owned(),
                why: e.to_string(),
            })?;
        }
        let (from, to) = (self.dir.join(id), self.dir.join(format!(".removing-{id}")));
        let failed = |why: std::io::Error| RemoveError::Storage {
            channel: id.to_owned(),
            why: why.to_string(),
        };
        tokio::fs::rename(&from, &to).await.map_err(failed)?;
        tokio::fs::remove_dir_all(&to).await.map_err(failed)?;
        tracing::info!(channel = %id, "removed");
        Ok(())
    }

    pub(crate) async fn shutdown(&self) {
        for channel in self.all() {
            channel.stopping().cancel();
        }
        for channel in self.all() {
            channel.shutdown().await;
        }
    }
}

fn check_join_block(block: &common::Block) -> Result<Bundle, JoinError> {
    let invalid = |why: String| JoinError::Invalid(why);
    let header = block
        .header
        .as_ref()
        .ok_or_else(|| invalid("block has no header".into()))?;
    let slots = block.metadata.as_ref().map_or(0, |m| m.metadata.len());
    if slots < METADATA_SLOTS {
        return Err(invalid(format!(
            "block has {slots} metadata entries, {METADATA_SLOTS} are needed"
        )));
    }
    let bundle =
        Bundle::from_config_block_as(NodeRole::Orderer, block).map_err(|e| invalid(e.to_string()))?;
    check_block_content(block).map_err(|e| invalid(e.to_string()))?;
    if let Some(root) = &bundle.config().channel_group
        && root.groups.contains_key("Consortiums")
    {
        return Err(invalid(
            "it is the block of a system channel (it has a Consortiums group), which is not supported".into(),
        ));
    }
    if bundle.application().is_none() {
        return Err(invalid(
            "the channel configuration has no Application group".into(),
        ));
    }
    let orderer = bundle
        .orderer()
        .ok_or_else(|| invalid("the channel configuration has no Orderer group".into()))?;
    if orderer.consensus_type != selvedge_channel::ETCDRAFT {
        return Err(invalid(format!(
            "consensus type {} is not supported: this orderer runs {}",
            orderer.consensus_type,
            selvedge_channel::ETCDRAFT
        )));
    }
    if orderer.consenters.is_empty() {
        return Err(invalid("the channel has no consenters".into()));
    }
    if header.number == 0 && !header.previous_hash.is_empty() {
        return Err(invalid("block 0 names a previous block".into()));
    }
    Ok(bundle)
}

/// Makes the channel's folder under a temporary name and renames it.
fn prepare(
    fresh: &Path,
    target: &Path,
    id: &str,
    block: &common::Block,
    signer: selvedge_msp::CurrentIdentity,
) -> Result<(), String> {
    let io = |e: std::io::Error| e.to_string();
    if fresh.exists() {
        std::fs::remove_dir_all(fresh).map_err(io)?;
    }
    std::fs::create_dir_all(fresh).map_err(io)?;
    if block.header.as_ref().is_some_and(|h| h.number == 0) {
        Chain::create(&blocks_dir(fresh), id, block, signer).map_err(|e| e.to_string())?;
    } else {
        std::fs::create_dir_all(blocks_dir(fresh)).map_err(io)?;
        let path = join_block_path(fresh);
        std::fs::write(&path, block.encode_to_vec()).map_err(io)?;
        sync(&path)?;
    }
    sync(fresh)?;
    std::fs::rename(fresh, target).map_err(io)?;
    target.parent().map_or(Ok(()), sync)
}

fn sync(path: &Path) -> Result<(), String> {
    std::fs::File::open(path)
        .and_then(|f| f.sync_all())
        .map_err(|e| e.to_string())
}
