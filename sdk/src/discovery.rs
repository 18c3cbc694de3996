//! The discovery service of a peer: a channel's configuration, its peers, and who must endorse (spec 08 §7).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use selvedge_comm::{Endpoint, MAX_MESSAGE_BYTES};
use selvedge_msp::SigningIdentity;
use selvedge_proto::discovery::discovery_client::DiscoveryClient;
use selvedge_proto::discovery::query::Query as Kind;
use selvedge_proto::discovery::query_result::Result as Found;
use selvedge_proto::discovery::{
    AuthInfo, ChaincodeQuery, ConfigQuery, EndorsementDescriptor, LocalPeerQuery, Peer, PeerMembershipQuery,
    PeerMembershipResult, Query, Request, SignedRequest,
};
use selvedge_proto::gossip::gossip_message::Content;
use selvedge_proto::gossip::{Envelope, GossipMessage};
use selvedge_proto::{msp, protos};
use tonic::transport::Channel;

use crate::error::{Call, Error};
use crate::gateway::call;
use crate::peer::tls_cert_hash;

const ACCESS_DENIED: &str = "access denied";

/// A client of one peer's discovery service. Where the peer speaks TLS, the endpoint needs a client certificate: requests
/// are bound to it.
#[derive(Clone)]
pub struct Discovery {
    address: String,
    channel: Channel,
    identity: SigningIdentity,
    tls_cert_hash: Bytes,
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Discovery at {}", self.address)
    }
}

/// A channel's members and ordering service.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoveredChannel {
    /// The MSPs by their ids.
    pub msps: BTreeMap<String, msp::FabricMspConfig>,
    /// Orderer addresses (`host:port`) by MSP id.
    pub orderers: BTreeMap<String, Vec<String>>,
}

/// A peer as another one describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredPeer {
    /// Its organisation.
    pub msp_id: String,
    /// `host:port`.
    pub endpoint: String,
    /// pb(SerializedIdentity).
    pub identity: Bytes,
    /// Blocks of the channel that it has; none when no channel was asked for.
    pub ledger_height: Option<u64>,
    /// Name and version of its chaincodes on the channel.
    pub chaincodes: Vec<(String, String)>,
}

/// Which peers must endorse together: any one of the layouts will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementPlan {
    /// The first chaincode of the interest.
    pub chaincode: String,
    /// Peers that can stand in for each other, by the name of their group.
    pub groups: BTreeMap<String, Vec<DiscoveredPeer>>,
    /// How many peers of which groups.
    pub layouts: Vec<BTreeMap<String, u32>>,
}

impl Discovery {
    /// A client of the peer at `endpoint`. The connection is made on first use.
    ///
    /// # Errors
    /// The address or the TLS settings are not usable.
    pub fn new(endpoint: &Endpoint, identity: SigningIdentity) -> Result<Self, Error> {
        Ok(Self {
            address: endpoint.address.clone(),
            channel: endpoint.connect_lazy()?,
            identity,
            tls_cert_hash: tls_cert_hash(endpoint)?.unwrap_or_default(),
        })
    }

    /// Members and orderers of a channel.
    ///
    /// # Errors
    /// The peer refuses or cannot be reached.
    pub async fn config(&self, channel: &str) -> Result<DiscoveredChannel, Error> {
        let found = self.ask(channel, Kind::ConfigQuery(ConfigQuery {})).await?;
        let Found::ConfigResult(config) = found else {
            return Err(self.other_answer());
        };
        Ok(DiscoveredChannel {
            msps: config.msps.into_iter().collect(),
            orderers: config
                .orderers
                .into_iter()
                .map(|(msp_id, list)| {
                    let addresses = list.endpoint.iter().map(|e| format!("{}:{}", e.host, e.port));
                    (msp_id, addresses.collect())
                })
                .collect(),
        })
    }

    /// The peers of a channel.
    ///
    /// # Errors
    /// The peer refuses or cannot be reached.
    pub async fn peers(&self, channel: &str) -> Result<Vec<DiscoveredPeer>, Error> {
        self.members(channel, Kind::PeerQuery(PeerMembershipQuery::default()))
            .await
    }

    /// All peers that the peer knows, whatever the channel; for admins of its organisation.
    ///
    /// # Errors
    /// The peer refuses or cannot be reached.
    pub async fn local_peers(&self) -> Result<Vec<DiscoveredPeer>, Error> {
        self.members("", Kind::LocalPeers(LocalPeerQuery {})).await
    }

    async fn members(&self, channel: &str, query: Kind) -> Result<Vec<DiscoveredPeer>, Error> {
        let Found::Members(PeerMembershipResult { peers_by_org }) = self.ask(channel, query).await? else {
            return Err(self.other_answer());
        };
        let mut peers = Vec::new();
        for peer in peers_by_org.into_values().flat_map(|list| list.peers) {
            peers.push(self.read(peer)?);
        }
        peers.sort_by(|a, b| (&a.msp_id, &a.endpoint).cmp(&(&b.msp_id, &b.endpoint)));
        Ok(peers)
    }

    /// Who must endorse a transaction of this interest.
    ///
    /// # Errors
    /// The peer refuses, no combination of peers will do, or the peer cannot be reached.
    pub async fn endorsers(
        &self,
        channel: &str,
        interest: protos::ChaincodeInterest,
    ) -> Result<EndorsementPlan, Error> {
        let query = ChaincodeQuery {
            interests: vec![interest],
        };
        let Found::CcQueryRes(found) = self.ask(channel, Kind::CcQuery(query)).await? else {
            return Err(self.other_answer());
        };
        let descriptor = found.content.into_iter().next();
        let descriptor =
            descriptor.ok_or_else(|| Error::malformed(&self.address, "no endorsement descriptor"))?;
        self.plan(descriptor)
    }

    fn plan(&self, descriptor: EndorsementDescriptor) -> Result<EndorsementPlan, Error> {
        let mut groups = BTreeMap::new();
        for (name, list) in descriptor.endorsers_by_groups {
            let peers = list.peers.into_iter().map(|peer| self.read(peer));
            groups.insert(name, peers.collect::<Result<_, _>>()?);
        }
        Ok(EndorsementPlan {
            chaincode: descriptor.chaincode,
            groups,
            layouts: descriptor
                .layouts
                .into_iter()
                .map(|layout| layout.quantities_by_group.into_iter().collect())
                .collect(),
        })
    }

    async fn ask(&self, channel: &str, query: Kind) -> Result<Found, Error> {
        let request = Request {
            authentication: Some(AuthInfo {
                client_identity: self.identity.creator().clone(),
                client_tls_cert_hash: self.tls_cert_hash.clone(),
            }),
            queries: vec![Query {
                channel: channel.to_owned(),
                query: Some(query),
            }],
        };
        let payload = Bytes::from(request.encode_to_vec());
        let signed = SignedRequest {
            signature: self.identity.sign(&payload)?,
            payload,
        };
        let mut client = DiscoveryClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let response = call(Call::Discover, None, None, signed, |r| async move {
            client.discover(r).await
        })
        .await?;
        match response.results.into_iter().next().and_then(|r| r.result) {
            None => Err(Error::malformed(&self.address, "the answer holds no result")),
            Some(Found::Error(error)) => {
                let hint = if error.content != ACCESS_DENIED {
                    ""
                } else if channel.is_empty() {
                    ": the identity is no admin of the peer's organisation"
                } else {
                    ": the peer has not joined the channel, or the identity is no writer of it"
                };
                Err(Error::Discovery {
                    peer: self.address.clone(),
                    why: error.content,
                    hint,
                })
            }
            Some(found) => Ok(found),
        }
    }

    fn other_answer(&self) -> Error {
        Error::malformed(&self.address, "the answer is to another query")
    }

    fn read(&self, peer: Peer) -> Result<DiscoveredPeer, Error> {
        let wrong = |why: &str| Error::malformed(&self.address, format!("entry of a peer: {why}"));
        let identity = msp::SerializedIdentity::decode(peer.identity.clone())
            .map_err(|e| Error::malformed(&self.address, e))?;
        let Some(Content::AliveMsg(alive)) = self.content(peer.membership_info)? else {
            return Err(wrong("membership_info is no AliveMessage"));
        };
        let member = alive
            .membership
            .ok_or_else(|| wrong("the AliveMessage has no member"))?;
        let properties = match self.content(peer.state_info)? {
            None => None,
            Some(Content::StateInfo(state)) => state.properties,
            Some(_) => return Err(wrong("state_info is no StateInfo")),
        };
        let ledger_height = properties.as_ref().map(|p| p.ledger_height);
        let chaincodes = properties.map(|p| p.chaincodes).unwrap_or_default();
        Ok(DiscoveredPeer {
            msp_id: identity.mspid,
            endpoint: member.endpoint,
            identity: peer.identity,
            ledger_height,
            chaincodes: chaincodes.into_iter().map(|c| (c.name, c.version)).collect(),
        })
    }

    fn content(&self, envelope: Option<Envelope>) -> Result<Option<Content>, Error> {
        let Some(envelope) = envelope else {
            return Ok(None);
        };
        let message = GossipMessage::decode(envelope.payload);
        let message = message.map_err(|e| Error::malformed(&self.address, e))?;
        Ok(message.content)
    }
}
