//! The peers of a channel that this peer knows, with their identities and heights.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use selvedge_channel::Bundle;
use tokio::time::Instant;

use super::probe::{Question, Said, check_identity};
use crate::channel::PeerChannel;
use crate::context::PeerContext;
use crate::endorser::Purpose;
use crate::gateway::{GatewayPeer, Peers};

/// How long an answer is good, and how long a peer that gave none is not asked again.
const FRESH: Duration = Duration::from_secs(5);
/// How long a query waits for other peers.
const PATIENCE: Duration = Duration::from_secs(2);
/// Peers asked per channel; a consortium has fewer.
const MAX_ASKED: usize = 512;

/// A peer of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) address: String,
    pub(super) msp_id: String,
    /// pb(SerializedIdentity).
    pub(super) identity: Bytes,
    /// Blocks that it has committed.
    pub(super) height: u64,
    /// The peer that this service is part of.
    pub(super) is_local: bool,
}

/// The last attempt to hear of a peer.
struct Heard {
    at: Instant,
    said: Option<Said>,
}

/// By address and organisation.
type Known = HashMap<(String, String), Heard>;

/// The membership registry. Other peers are asked when somebody wants to know, and not again for a while.
pub(super) struct Members {
    context: Arc<dyn PeerContext>,
    peers: Arc<Peers>,
    /// One query per channel asks the others; those that come meanwhile wait for it.
    channels: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>,
}

impl Members {
    pub(super) fn new(context: Arc<dyn PeerContext>, peers: Arc<Peers>) -> Self {
        Self {
            context,
            peers,
            channels: Mutex::default(),
        }
    }

    /// Lets the next query ask everybody again.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.channels.lock().clear();
    }

    /// The peers of a channel that are there now: this one, and those that have answered lately.
    pub(super) async fn of_channel(&self, channel: &Arc<PeerChannel>) -> Vec<Member> {
        let bundle = channel.bundle();
        let mut known_peers = self.peers.of_channel(&bundle);
        known_peers.truncate(MAX_ASKED);
        let slot = Arc::clone(self.channels.lock().entry(channel.id().to_owned()).or_default());
        let mut known = slot.lock().await;
        self.refresh(channel.id(), &bundle, &known_peers, &mut known)
            .await;
        let mut members: Vec<Member> = known_peers
            .into_iter()
            .filter_map(|peer| {
                let (identity, height) = if peer.is_local {
                    (self.context.identity().creator().clone(), channel.height())
                } else {
                    let said = known.get(&key(&peer))?.said.clone()?;
                    (said.identity, said.height)
                };
                // The configuration may have changed since the peer was asked.
                check_identity(&bundle, &peer.msp_id, &identity).ok()?;
                Some(Member {
                    address: peer.address,
                    msp_id: peer.msp_id,
                    identity,
                    height,
                    is_local: peer.is_local,
                })
            })
            .collect();
        members.sort_by(|a, b| (&a.msp_id, &a.address).cmp(&(&b.msp_id, &b.address)));
        members
    }

    /// The peers of all channels, each once, and this one even if it has joined none.
    pub(super) async fn everywhere(&self) -> Vec<Member> {
        let local = self.peers.local();
        let mut members = vec![Member {
            address: local.address.clone(),
            msp_id: local.msp_id.clone(),
            identity: self.context.identity().creator().clone(),
            height: 0,
            is_local: true,
        }];
        for id in self.context.channels() {
            let Some(channel) = self.context.channel(&id) else {
                continue;
            };
            for member in self.of_channel(&channel).await {
                let new = members
                    .iter()
                    .all(|m| m.address != member.address && m.identity != member.identity);
                if new {
                    members.push(member);
                }
            }
        }
        members
    }

    async fn refresh(&self, channel: &str, bundle: &Bundle, peers: &[GatewayPeer], known: &mut Known) {
        known.retain(|at, _| peers.iter().any(|peer| key(peer) == *at));
        let stale = peers
            .iter()
            .filter(|p| !p.is_local && known.get(&key(p)).is_none_or(|heard| heard.at.elapsed() >= FRESH));
        let asked = join_all(stale.map(|peer| async move {
            let said = self.ask(channel, bundle, peer).await;
            if let Err(why) = &said {
                tracing::info!(channel, peer = %peer.address, %why, "discovery leaves a peer out");
            }
            (key(peer), said.ok())
        }));
        for (peer, said) in asked.await {
            let at = Instant::now();
            known.insert(peer, Heard { at, said });
        }
    }

    async fn ask(&self, channel: &str, bundle: &Bundle, peer: &GatewayPeer) -> Result<Said, String> {
        let question = Question::new(&self.context.identity(), channel)?;
        let asked = self
            .peers
            .propose(Purpose::Endorse, bundle, peer, &question.proposal);
        let answer = tokio::time::timeout(PATIENCE, asked)
            .await
            .map_err(|_| format!("no answer within {} ms", PATIENCE.as_millis()))?
            .map_err(|failure| failure.message)?;
        question.read(bundle, &peer.msp_id, answer)
    }
}

fn key(peer: &GatewayPeer) -> (String, String) {
    (peer.address.clone(), peer.msp_id.clone())
}
