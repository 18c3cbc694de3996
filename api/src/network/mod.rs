//! The way to the network: the organisation's peers, the channels, and the followers that fill the index.

mod follower;
mod owners;
mod submit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use selvedge_sdk::lifecycle::query_all_committed;
use selvedge_sdk::{ChannelInfo, ClientIdentity, Error, Gateway, Invocation, PeerClient};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ApiError;
use crate::config::ApiConfig;
use crate::error::Problem;
use crate::index::Index;

pub(crate) use owners::OwnersEvents;
pub(crate) use submit::{Outcome, Seed, Submission};

/// How often to ask the peer for channels that it has joined meanwhile.
const CHANNELS_AGAIN: Duration = Duration::from_secs(15);
/// And while there is none: the peer of a new network joins its first channel in a moment.
const FIRST_CHANNEL_AGAIN: Duration = Duration::from_millis(500);

struct Node {
    peer: PeerClient,
    gateway: Gateway,
}

/// A channel that is followed.
#[derive(Debug, Clone)]
pub(crate) struct Followed {
    /// Number of blocks in the index.
    pub(crate) height: watch::Receiver<u64>,
}

/// The organisation's peers, and what the server does there in its own name.
pub(crate) struct Network {
    identity: ClientIdentity,
    nodes: Vec<Node>,
    /// The node that answered last.
    current: AtomicUsize,
    wanted: Vec<String>,
    channels: RwLock<BTreeMap<String, Followed>>,
    index: Arc<Index>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Network({} peers)", self.nodes.len())
    }
}

/// Whether another peer may do better.
fn is_away(error: &Error) -> bool {
    match error {
        Error::Comm(_) => true,
        Error::Rpc(rpc) => matches!(rpc.code, tonic::Code::Unavailable | tonic::Code::Cancelled),
        _ => false,
    }
}

impl Network {
    /// Prepares the connections; they are made on first use.
    ///
    /// # Errors
    /// The identity or an address is not usable.
    pub(crate) fn new(config: &ApiConfig, index: Arc<Index>) -> Result<Self, ApiError> {
        let identity = ClientIdentity::from_msp_dir(&config.msp_id, &config.msp_dir).map_err(|e| {
            ApiError::Identity {
                path: config.msp_dir.clone(),
                why: e.to_string(),
            }
        })?;
        let nodes = config
            .peers
            .iter()
            .map(|peer| {
                let endpoint = peer.endpoint()?;
                Ok(Node {
                    peer: PeerClient::new(&peer.msp_id, &endpoint)?,
                    gateway: Gateway::connect(&endpoint, identity.clone())?,
                })
            })
            .collect::<Result<_, ApiError>>()?;
        Ok(Self {
            identity,
            nodes,
            current: AtomicUsize::new(0),
            wanted: config.channels.clone(),
            channels: RwLock::new(BTreeMap::new()),
            index,
        })
    }

    /// The server's own identity.
    pub(crate) fn identity(&self) -> &ClientIdentity {
        &self.identity
    }

    /// Names of the channels, in order.
    pub(crate) fn channels(&self) -> Vec<String> {
        self.channels.read().keys().cloned().collect()
    }

    /// A channel by name.
    pub(crate) fn channel(&self, name: &str) -> Result<Followed, Problem> {
        let channels = self.channels.read();
        channels.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = channels.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "none yet".to_owned()
            } else {
                known.join(", ")
            };
            Problem::not_found(format!(
                "there is no channel {} here; this server has {known}",
                shown(name)
            ))
        })
    }

    /// Peers with their addresses and organisations.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &PeerClient> {
        self.nodes.iter().map(|node| &node.peer)
    }

    /// Tries the peers in turn, the one that answered last first, while they cannot be reached.
    async fn with_node<'a, T, F, R>(&'a self, mut call: F) -> Result<T, Error>
    where
        F: FnMut(&'a Node) -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let first = self.current.load(Ordering::Relaxed);
        let mut last = None;
        for offset in 0..self.nodes.len() {
            let place = (first + offset) % self.nodes.len();
            match call(&self.nodes[place]).await {
                Err(error) if is_away(&error) => last = Some(error),
                answered => {
                    self.current.store(place, Ordering::Relaxed);
                    return answered;
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::Request("no peer is configured".to_owned())))
    }

    /// Runs a call at a peer that answers.
    pub(crate) async fn at_peer<'a, T, F, R>(&'a self, mut call: F) -> Result<T, Error>
    where
        F: FnMut(&'a PeerClient) -> R,
        R: Future<Output = Result<T, Error>>,
    {
        self.with_node(|node| call(&node.peer)).await
    }

    /// Asks a contract in a user's name.
    pub(crate) async fn evaluate(
        &self,
        identity: &ClientIdentity,
        invocation: &Invocation,
    ) -> Result<Bytes, Error> {
        self.with_node(|node| {
            let gateway = node.gateway.clone().with_identity(identity.clone());
            async move { gateway.evaluate(invocation).await }
        })
        .await
    }

    /// Names of the chaincodes that are committed on a channel.
    pub(crate) async fn chaincodes(&self, channel: &str) -> Result<Vec<String>, Error> {
        let found = self
            .at_peer(|peer| query_all_committed(peer, &self.identity, channel))
            .await?;
        Ok(found.into_iter().map(|definition| definition.name).collect())
    }

    /// A channel's members and nodes, from its configuration.
    pub(crate) async fn channel_info(&self, channel: &str) -> Result<ChannelInfo, Error> {
        self.at_peer(|peer| ChannelInfo::fetch(peer, &self.identity, channel))
            .await
    }

    /// Follows channels until `stop`.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut followers = tokio::task::JoinSet::new();
        // An outage is told once.
        let mut told = false;
        loop {
            // A peer that is away lets callers wait for seconds; stopping does not wait with them.
            let joined = tokio::select! {
                () = stop.cancelled() => break,
                joined = self.joined() => joined,
            };
            match joined {
                Ok(names) => {
                    told = false;
                    for name in names {
                        if self.channels.read().contains_key(&name) {
                            continue;
                        }
                        let (sender, height) = watch::channel(0);
                        self.channels.write().insert(name.clone(), Followed { height });
                        let network = Arc::clone(&self);
                        followers.spawn(follower::follow(network, name, sender, stop.clone()));
                    }
                }
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(%error, "the peer does not tell its channels");
                }
                Err(error) => tracing::debug!(%error, "the peer still does not tell its channels"),
            }
            let pause = if self.channels.read().is_empty() {
                FIRST_CHANNEL_AGAIN
            } else {
                CHANNELS_AGAIN
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        while followers.join_next().await.is_some() {}
    }

    async fn joined(&self) -> Result<Vec<String>, Error> {
        let joined = self.at_peer(|peer| peer.channels(&self.identity)).await?;
        Ok(joined
            .into_iter()
            .filter(|name| self.wanted.is_empty() || self.wanted.contains(name))
            .collect())
    }
}

/// A name from outside as a message may show it.
pub(crate) fn shown(name: &str) -> String {
    let short: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
    format!("'{short}'")
}
