//! The peers that a gateway knows on a channel, and the connections to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::seq::SliceRandom;
use selvedge_channel::Bundle;
use selvedge_comm::{Calls, ClientTls, CommError, Endpoint, MAX_MESSAGE_BYTES, TlsIdentity};
use selvedge_proto::protos;
use selvedge_proto::protos::endorser_client::EndorserClient;
use tonic::Status;
use tonic::transport::Channel;

use super::outcome::{self, Failure, Outcome};
use super::status::Detail;
use crate::config::GatewayPeerConfig;
use crate::endorser::{Endorser, Purpose};

/// How long a peer that could not be reached is asked last.
const REST: Duration = Duration::from_secs(5);
/// Connections kept; more peers than this are connected to anew.
const MAX_CONNECTIONS: usize = 1024;

/// A peer of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayPeer {
    pub(crate) address: String,
    pub(crate) msp_id: String,
    /// The peer that this gateway is part of.
    pub(crate) is_local: bool,
}

impl GatewayPeer {
    pub(crate) fn detail(&self, message: impl Into<String>) -> Detail {
        Detail {
            address: self.address.clone(),
            msp_id: self.msp_id.clone(),
            message: message.into(),
        }
    }
}

/// How other nodes are dialled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dialling {
    /// Shown to other nodes; none: they are dialled without TLS.
    pub(crate) identity: Option<TlsIdentity>,
    /// Where to dial instead of a configured `host:port`.
    pub(crate) overrides: BTreeMap<String, String>,
}

impl Dialling {
    /// Where and how to reach the node that is configured as `address`. Its certificate must be for the configured host.
    pub(crate) fn endpoint(&self, address: &str, tls_roots: &[Vec<u8>]) -> Endpoint {
        let dialled = self.overrides.get(address);
        let tls = self.identity.as_ref().map(|identity| ClientTls {
            roots: tls_roots.to_vec(),
            server_name: dialled.and_then(|_| {
                let (host, _) = address.rsplit_once(':')?;
                Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
            }),
            identity: Some(identity.clone()),
            only_tls13: false,
        });
        Endpoint {
            address: dialled.map_or(address, String::as_str).to_owned(),
            tls,
        }
    }
}

/// Something for each node: by its configured address and the TLS authorities that it is trusted by.
pub(crate) type ByNode<T> = HashMap<(String, Vec<Vec<u8>>), T>;

/// A connection to a peer: proposals go over one stream where the peer takes them so.
#[derive(Clone)]
struct Connection {
    channel: Channel,
    calls: Arc<Calls>,
}

impl Connection {
    fn new(channel: Channel) -> Self {
        Self {
            calls: Arc::new(Calls::new(channel.clone())),
            channel,
        }
    }

    async fn propose(
        &self,
        proposal: &protos::SignedProposal,
        limit: Duration,
    ) -> Result<protos::ProposalResponse, Status> {
        let singly = |request| {
            let mut client = EndorserClient::new(self.channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            async move { client.process_proposal(request).await }
        };
        self.calls
            .call_or_singly(proposal.clone(), Some(limit), singly)
            .await
    }
}

/// The peer registry of a gateway.
pub(crate) struct Peers {
    local: GatewayPeer,
    configured: Vec<GatewayPeerConfig>,
    dialling: Dialling,
    endorser: Endorser,
    endorsement_timeout: Duration,
    connections: Mutex<ByNode<Connection>>,
    resting: Mutex<HashMap<String, Instant>>,
}

impl Peers {
    pub(crate) fn new(
        address: &str,
        msp_id: &str,
        configured: Vec<GatewayPeerConfig>,
        dialling: Dialling,
        endorser: Endorser,
        endorsement_timeout: Duration,
    ) -> Self {
        Self {
            local: GatewayPeer {
                address: address.to_owned(),
                msp_id: msp_id.to_owned(),
                is_local: true,
            },
            configured,
            dialling,
            endorser,
            endorsement_timeout,
            connections: Mutex::default(),
            resting: Mutex::default(),
        }
    }

    /// The peer that this gateway is part of.
    pub(crate) fn local(&self) -> &GatewayPeer {
        &self.local
    }

    /// The peers of a channel that the gateway knows: itself, the configured ones, the anchor peers. Best first: itself,
    /// its organisation, others; those that could not be reached lately last.
    pub(crate) fn of_channel(&self, bundle: &Bundle) -> Vec<GatewayPeer> {
        let mut peers = self.others_of_channel(bundle);
        if self.is_local_on(bundle) {
            peers.insert(0, self.local.clone());
        }
        peers
    }

    /// Whether the organisation of the peer that this gateway is part of is a member of the channel.
    pub(crate) fn is_local_on(&self, bundle: &Bundle) -> bool {
        let application = bundle.application();
        application.is_some_and(|a| a.orgs.values().any(|org| org.msp_id == self.local.msp_id))
    }

    /// As [`Self::of_channel`], without the peer that this gateway is part of.
    pub(crate) fn others_of_channel(&self, bundle: &Bundle) -> Vec<GatewayPeer> {
        let Some(application) = bundle.application() else {
            return Vec::new();
        };
        let members = application.msp_ids();
        let mut others: Vec<GatewayPeer> = Vec::new();
        let mut add = |address: &str, msp_id: &str| {
            if address != self.local.address
                && members.contains(&msp_id)
                && others.iter().all(|p| p.address != address)
            {
                others.push(GatewayPeer {
                    address: address.to_owned(),
                    msp_id: msp_id.to_owned(),
                    is_local: false,
                });
            }
        };
        for peer in &self.configured {
            add(&peer.address, &peer.msp_id);
        }
        for org in application.orgs.values() {
            for (host, port) in &org.anchor_peers {
                add(&format!("{host}:{port}"), &org.msp_id);
            }
        }
        // Equal ones share the work.
        others.shuffle(&mut rand::rng());
        let mut resting = self.resting.lock();
        resting.retain(|_, since| since.elapsed() < REST);
        others.sort_by_key(|p| (resting.contains_key(&p.address), p.msp_id != self.local.msp_id));
        others
    }

    /// Sends a proposal to a peer and judges its answer. Other peers always endorse; the protocol knows nothing else.
    pub(crate) async fn propose(
        &self,
        purpose: Purpose,
        bundle: &Bundle,
        peer: &GatewayPeer,
        proposal: &protos::SignedProposal,
    ) -> Outcome {
        let limit = self.endorsement_timeout;
        let asked = async {
            if peer.is_local {
                return outcome::of_local(self.endorser.process_for(purpose, proposal.clone()).await);
            }
            match self.connection(bundle, peer) {
                // In a box: most of its size is for a single call, which is seldom made.
                Ok(connection) => outcome::of_remote(Box::pin(connection.propose(proposal, limit)).await),
                Err(error) => Err(Failure::unreachable(error.to_string())),
            }
        };
        let outcome = tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| {
            Err(Failure::unreachable(format!(
                "no answer within {} ms",
                limit.as_millis()
            )))
        });
        match &outcome {
            Err(failure) if failure.unreachable && !peer.is_local => {
                tracing::warn!(peer = %peer.address, why = %failure.message, "peer cannot be reached");
                self.resting.lock().insert(peer.address.clone(), Instant::now());
            }
            _ if peer.is_local => {}
            _ => {
                self.resting.lock().remove(&peer.address);
            }
        }
        outcome
    }

    fn connection(&self, bundle: &Bundle, peer: &GatewayPeer) -> Result<Connection, CommError> {
        // Authorities may change with the channel's configuration, and differ from channel to channel.
        let key = (peer.address.clone(), bundle.tls_roots(&peer.msp_id));
        let mut connections = self.connections.lock();
        if let Some(connection) = connections.get(&key) {
            return Ok(connection.clone());
        }
        let connection = Connection::new(self.dialling.endpoint(&key.0, &key.1).connect_lazy()?);
        if connections.len() >= MAX_CONNECTIONS {
            connections.clear();
        }
        connections.insert(key, connection.clone());
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_moves_the_socket_and_not_the_name() {
        let dialling = Dialling {
            identity: Some(TlsIdentity::new(b"c", b"k")),
            overrides: [("peer0.org2:7051".to_owned(), "127.0.0.1:9051".to_owned())].into(),
        };
        let moved = dialling.endpoint("peer0.org2:7051", &[b"root".to_vec()]);
        assert_eq!(moved.address, "127.0.0.1:9051");
        assert_eq!(moved.tls.unwrap().server_name.as_deref(), Some("peer0.org2"));
        let plain = dialling.endpoint("peer1.org2:7051", &[]);
        assert_eq!(plain.address, "peer1.org2:7051");
        assert_eq!(plain.tls.unwrap().server_name, None);
        assert!(Dialling::default().endpoint("a:1", &[]).tls.is_none());
    }
}
