//! Connections to the other consenters of a channel, and recognising them when they call.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use selvedge_comm::{ClientTls, Endpoint, MAX_MESSAGE_BYTES, TlsIdentity};
use selvedge_proto::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use selvedge_proto::selvedge::cluster::cluster_client::ClusterClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::chain::{Chain, Member};
use crate::raft::NodeId;

/// How this node dials other orderers.
#[derive(Clone)]
pub(crate) struct Dialling {
    /// Certificate to show; none when the network has no TLS.
    pub(crate) identity: Option<TlsIdentity>,
    /// Roots to trust beside the ones in the channel configuration.
    pub(crate) extra_roots: Vec<Vec<u8>>,
    /// Where to dial instead of a consenter's `host:port`.
    pub(crate) addresses: BTreeMap<String, String>,
}

impl Dialling {
    /// A lazy connection to an orderer at `host:port`, trusting `roots`.
    pub(crate) fn connect(&self, address: &str, roots: Vec<Vec<u8>>) -> Result<Channel, Status> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let tls = self.identity.as_ref().map(|identity| ClientTls {
            roots: roots
                .into_iter()
                .chain(self.extra_roots.iter().cloned())
                .collect(),
            server_name: Some(host.trim_start_matches('[').trim_end_matches(']').to_owned()),
            identity: Some(identity.clone()),
            only_tls13: true,
        });
        let endpoint = Endpoint {
            address: self
                .addresses
                .get(address)
                .map_or(address, String::as_str)
                .to_owned(),
            tls,
        };
        endpoint
            .connect_lazy()
            .map_err(|e| Status::failed_precondition(format!("cannot dial orderer {address}: {e}")))
    }
}

/// TLS roots of all organisations that run orderers of the channel.
pub(crate) fn orderer_roots(bundle: &selvedge_channel::Bundle) -> Vec<Vec<u8>> {
    let orgs = bundle
        .orderer()
        .map(|o| o.orgs.values().cloned().collect::<Vec<_>>());
    orgs.unwrap_or_default()
        .iter()
        .flat_map(|msp_id| bundle.tls_roots(msp_id))
        .collect()
}

/// Connections to the consenters of one channel, as its configuration names them at the moment.
pub(crate) struct Peers {
    chain: Arc<Chain>,
    dialling: Arc<Dialling>,
    /// By Raft id; the configuration sequence tells when a connection may have changed.
    open: Mutex<BTreeMap<NodeId, (u64, Channel)>>,
}

impl Peers {
    pub(crate) fn new(chain: Arc<Chain>, dialling: Arc<Dialling>) -> Self {
        Self {
            chain,
            dialling,
            open: Mutex::new(BTreeMap::new()),
        }
    }

    pub(crate) fn channel(&self) -> &str {
        self.chain.channel()
    }

    fn connection(&self, id: NodeId) -> Result<Channel, Status> {
        let head = self.chain.head();
        let sequence = head.bundle.sequence();
        let mut open = self.open.lock();
        if let Some((of, channel)) = open.get(&id)
            && *of == sequence
        {
            return Ok(channel.clone());
        }
        let member = head.member(id).ok_or_else(|| {
            Status::failed_precondition(format!(
                "consenter {id} is not in configuration {sequence} of channel {}",
                self.channel()
            ))
        })?;
        let channel = self
            .dialling
            .connect(&member.address(), orderer_roots(&head.bundle))?;
        open.insert(id, (sequence, channel.clone()));
        Ok(channel)
    }

    /// The cluster service of a consenter.
    pub(crate) fn client(&self, id: NodeId) -> Result<ClusterClient<Channel>, Status> {
        Ok(cluster_client(self.connection(id)?))
    }

    /// The other consenters.
    pub(crate) fn others(&self, own: &str) -> Vec<Member> {
        let head = self.chain.head();
        head.members
            .iter()
            .filter(|m| m.address() != own)
            .cloned()
            .collect()
    }
}

pub(crate) fn cluster_client(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

pub(crate) fn deliver_client(channel: Channel) -> AtomicBroadcastClient<Channel> {
    AtomicBroadcastClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}
