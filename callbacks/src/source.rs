//! Where events come from.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use prost::Message;
use selvedge_proto::common;
use selvedge_sdk::{
    ChaincodeEvent, ChaincodeEvents, Checkpoint, ClientIdentity, Deadlines, Endpoint, Error, EventsFrom,
    Gateway, Invocation,
};

/// Why events do not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct SourceError {
    /// For people.
    pub why: String,
    /// Every peer says no to this identity or this channel, and would say so again; otherwise it is a matter of time.
    pub refused: bool,
}

/// An open stream of one chaincode's events.
#[async_trait]
pub trait EventStream: Send {
    /// The next event, in the order of the ledger. It must be safe to drop the future and call again.
    async fn next(&mut self) -> Result<ChaincodeEvent, SourceError>;
}

/// A way to the events of the ledger.
#[async_trait]
pub trait EventSource: Send + Sync + 'static {
    /// Number of the next block of a channel: what "from now on" means. Refusals show here, before a stream is opened.
    async fn height(&self, owner: &str, channel: &str) -> Result<u64, SourceError>;

    /// Opens a stream. It may wait until the first event is there (Fabric's peers send nothing before it).
    async fn open(
        &self,
        owner: &str,
        channel: &str,
        chaincode: &str,
        after: &Checkpoint,
    ) -> Result<Box<dyn EventStream>, SourceError>;
}

/// Names the identity that an owner's events are read under.
type IdentityOf = dyn Fn(&str) -> Option<ClientIdentity> + Send + Sync;

/// Which peer a channel's events come from.
#[derive(Debug, Default)]
struct InUse {
    /// Index of the peer in use.
    peer: usize,
    /// Peers that said no since one last said yes: one may only not be in the channel.
    refused: BTreeSet<usize>,
}

/// Events from the gateway services of peers: one is used for a channel, the others stand by.
pub struct GatewaySource {
    /// Each with its connection, made on first use.
    peers: Mutex<Vec<(Endpoint, Option<Gateway>)>>,
    in_use: Mutex<HashMap<String, InUse>>,
    identity_of: Arc<IdentityOf>,
}

impl std::fmt::Debug for GatewaySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let peers = self.peers.lock();
        let addresses: Vec<&str> = peers.iter().map(|(p, _)| p.address.as_str()).collect();
        f.debug_struct("GatewaySource")
            .field("peers", &addresses)
            .finish_non_exhaustive()
    }
}

fn unconnected(peers: Vec<Endpoint>) -> Vec<(Endpoint, Option<Gateway>)> {
    peers.into_iter().map(|peer| (peer, None)).collect()
}

/// How long a peer may take to tell a channel's height.
const HEIGHT_WITHIN: Duration = Duration::from_secs(10);

impl GatewaySource {
    /// A source that reads from `peers` under the identity that `identity_of` names for an owner; an owner without one
    /// is refused.
    pub fn new(
        peers: Vec<Endpoint>,
        identity_of: impl Fn(&str) -> Option<ClientIdentity> + Send + Sync + 'static,
    ) -> Self {
        Self {
            peers: Mutex::new(unconnected(peers)),
            in_use: Mutex::default(),
            identity_of: Arc::new(identity_of),
        }
    }

    /// Reads from these peers from the next stream on, with new connections; streams that are open go on.
    pub fn replace_peers(&self, peers: Vec<Endpoint>) {
        // Both together: an index is one into the list of its time.
        let mut current = self.peers.lock();
        *current = unconnected(peers);
        self.in_use.lock().clear();
    }

    fn gateway(&self, owner: &str, channel: &str) -> Result<(usize, Gateway), SourceError> {
        let refused = |why: String| SourceError { why, refused: true };
        let identity = (self.identity_of)(owner)
            .ok_or_else(|| refused(format!("there is no identity to read events under for '{owner}'")))?;
        let mut peers = self.peers.lock();
        let index = self.in_use.lock().get(channel).map_or(0, |used| used.peer);
        let (endpoint, place) = peers
            .get_mut(index)
            .ok_or_else(|| refused("no peer is configured".to_owned()))?;
        let gateway = match place {
            Some(gateway) => gateway.clone(),
            None => place
                .insert(
                    Gateway::connect(endpoint, identity.clone())
                        .map_err(|e| refused(e.to_string()))?
                        .with_deadlines(Deadlines {
                            evaluate: Some(HEIGHT_WITHIN),
                            ..Deadlines::default()
                        }),
                )
                .clone(),
        };
        Ok((index, gateway.with_identity(identity)))
    }

    /// Turns to the next peer for a channel, unless another caller has done so already.
    fn failed(&self, channel: &str, index: usize, error: &Error) -> SourceError {
        let peers = self.peers.lock();
        let count = peers.len().max(1);
        let mut in_use = self.in_use.lock();
        let used = in_use.entry(channel.to_owned()).or_default();
        if used.peer == index {
            used.peer = (index + 1) % count;
            tracing::debug!(%channel, %error, "turning to the next peer for events");
        }
        let refused = is_refusal(error);
        // It may be of a list that has been replaced since.
        if refused && index < count {
            used.refused.insert(index);
        }
        SourceError {
            why: error.to_string(),
            refused: refused && used.refused.len() >= count,
        }
    }

    fn works(&self, channel: &str) {
        if let Some(used) = self.in_use.lock().get_mut(channel) {
            used.refused.clear();
        }
    }

    async fn height_at(&self, owner: &str, channel: &str) -> Result<u64, SourceError> {
        let (index, gateway) = self.gateway(owner, channel)?;
        let ask = Invocation::new(channel, "qscc", "GetChainInfo").arg(channel);
        let answer = gateway
            .evaluate(&ask)
            .await
            .map_err(|e| self.failed(channel, index, &e))?;
        let info = common::BlockchainInfo::decode(answer).map_err(|e| SourceError {
            why: format!(
                "{} does not tell the height of channel {channel}: {e}",
                gateway.address()
            ),
            refused: false,
        })?;
        self.works(channel);
        Ok(info.height)
    }
}

/// Whether the peer itself said no.
fn is_refusal(error: &Error) -> bool {
    use selvedge_sdk::Error as E;
    match error {
        E::Rpc(rpc) => {
            // The codes by their gRPC numbers: INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED,
            // UNAUTHENTICATED.
            matches!(rpc.code as i32, 3 | 5 | 7 | 12 | 16)
        }
        E::Refused { .. } | E::Key(_) | E::Identity(_) => true,
        _ => false,
    }
}

struct GatewayStream {
    events: ChaincodeEvents,
}

#[async_trait]
impl EventStream for GatewayStream {
    async fn next(&mut self) -> Result<ChaincodeEvent, SourceError> {
        self.events.next().await.map_err(|e| SourceError {
            why: e.to_string(),
            // Whether all say so shows when it is opened again.
            refused: false,
        })
    }
}

#[async_trait]
impl EventSource for GatewaySource {
    async fn height(&self, owner: &str, channel: &str) -> Result<u64, SourceError> {
        let others = self.peers.lock().len().saturating_sub(1);
        for _ in 0..others {
            match self.height_at(owner, channel).await {
                Err(error) if !error.refused => {}
                settled => return settled,
            }
        }
        self.height_at(owner, channel).await
    }

    async fn open(
        &self,
        owner: &str,
        channel: &str,
        chaincode: &str,
        after: &Checkpoint,
    ) -> Result<Box<dyn EventStream>, SourceError> {
        let (index, gateway) = self.gateway(owner, channel)?;
        let from = EventsFrom::After(after.clone());
        let events = gateway
            .chaincode_events(channel, chaincode, from)
            .await
            .map_err(|e| self.failed(channel, index, &e))?;
        self.works(channel);
        Ok(Box::new(GatewayStream { events }))
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
