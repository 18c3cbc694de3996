//! How the clients of a run reach its network: addresses, trust and identities.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvedge_comm::Broadcaster;
use selvedge_msp::policy::dsl;
use selvedge_sdk::{
    ChannelInfo, ClientIdentity, ClientTls, DirectClient, DirectConfig, Endpoint, Gateway, OrdererClient,
    PeerAddress, PeerClient,
};
use serde::{Deserialize, Serialize};

use crate::error::PerfError;

/// Name of the contract, and of the first channel.
pub(crate) const CONTRACT: &str = "bench";

/// What a client needs to know of a network. Client processes get it as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    /// The network's folder.
    pub(crate) root: PathBuf,
    /// Organisations, one peer each.
    pub(crate) organizations: usize,
    /// Organisations that must endorse.
    pub(crate) endorsers: usize,
    /// Its channels.
    pub(crate) channels: Vec<String>,
    /// Port of each organisation's peer.
    pub(crate) peer_ports: Vec<u16>,
    /// Port of each orderer.
    pub(crate) orderer_ports: Vec<u16>,
}

/// Domain of an organisation, counted from 1.
pub(crate) fn domain(org: usize) -> String {
    format!("org{org}.example.com")
}

/// MSP id of an organisation, counted from 1.
pub(crate) fn msp_id(org: usize) -> String {
    format!("Org{org}MSP")
}

/// Host name of an organisation's peer.
pub(crate) fn peer_host(org: usize) -> String {
    format!("peer0.{}", domain(org))
}

/// `AND` of the first organisations; a single endorsement may come from any.
pub(crate) fn policy(endorsers: usize, organizations: usize) -> String {
    let (gate, orgs) = if endorsers == 1 {
        ("OR", organizations)
    } else {
        ("AND", endorsers)
    };
    let principals: Vec<String> = (1..=orgs).map(|n| format!("'{}.peer'", msp_id(n))).collect();
    format!("{gate}({})", principals.join(","))
}

fn read(path: &Path) -> Result<Vec<u8>, PerfError> {
    std::fs::read(path).map_err(PerfError::file(path))
}

impl Access {
    /// Folder of an organisation's key material.
    pub(crate) fn organization(&self, org: usize) -> PathBuf {
        self.root
            .join("organizations/peerOrganizations")
            .join(domain(org))
    }

    fn msp_identity(msp_id: &str, dir: &Path) -> Result<ClientIdentity, PerfError> {
        ClientIdentity::from_msp_dir(msp_id, dir)
            .map_err(|e| PerfError::Network(format!("identity in {}: {e}", dir.display())))
    }

    /// A user of an organisation: `Admin`, `User1`, `User2` ...
    pub(crate) fn user(&self, org: usize, name: &str) -> Result<ClientIdentity, PerfError> {
        let folder = self.organization(org).join("users");
        let user = folder.join(format!("{name}@{}", domain(org)));
        Self::msp_identity(&msp_id(org), &user.join("msp"))
    }

    /// The identity of a device, counted from 0: a user of the first organisation.
    pub(crate) fn device(&self, device: usize) -> Result<ClientIdentity, PerfError> {
        self.user(1, &format!("User{}", device + 1))
    }

    /// The identity that an organisation's peer endorses with.
    pub(crate) fn endorser(&self, org: usize) -> Result<ClientIdentity, PerfError> {
        let peer = self.organization(org).join("peers").join(peer_host(org));
        Self::msp_identity(&msp_id(org), &peer.join("msp"))
    }

    /// An organisation's peer.
    pub(crate) fn peer(&self, org: usize) -> Result<PeerAddress, PerfError> {
        let roots = self
            .organization(org)
            .join("tlsca")
            .join(format!("tlsca.{}-cert.pem", domain(org)));
        let tls = ClientTls {
            roots: vec![read(&roots)?],
            server_name: Some(peer_host(org)),
            ..ClientTls::default()
        };
        let port = self.peer_ports.get(org - 1).copied().unwrap_or_default();
        Ok(PeerAddress {
            msp_id: msp_id(org),
            endpoint: Endpoint::tls(format!("localhost:{port}"), tls),
        })
    }

    /// A client of an organisation's peer.
    pub(crate) fn peer_client(&self, org: usize) -> Result<PeerClient, PerfError> {
        let peer = self.peer(org)?;
        PeerClient::new(&peer.msp_id, &peer.endpoint).map_err(PerfError::client("cannot use the peer"))
    }

    /// Connections to the gateway of the first organisation's peer.
    pub(crate) fn gateways(&self, connections: usize, device: usize) -> Result<Vec<Gateway>, PerfError> {
        let (identity, peer) = (self.device(device)?, self.peer(1)?);
        (0..connections)
            .map(|_| {
                Gateway::connect(&peer.endpoint, identity.clone())
                    .map_err(PerfError::client("cannot use the gateway"))
            })
            .collect()
    }

    fn orderer_endpoints(&self) -> Result<Vec<Endpoint>, PerfError> {
        let org = self.root.join("organizations/ordererOrganizations/example.com");
        let roots = read(&org.join("tlsca/tlsca.example.com-cert.pem"))?;
        let endpoint = |(n, port): (usize, &u16)| {
            let tls = ClientTls {
                roots: vec![roots.clone()],
                server_name: Some(format!("orderer{n}.example.com")),
                ..ClientTls::default()
            };
            Endpoint::tls(format!("localhost:{port}"), tls)
        };
        Ok(self.orderer_ports.iter().enumerate().map(endpoint).collect())
    }

    /// Streams to the orderers, one after the other.
    pub(crate) fn broadcasters(&self, connections: usize) -> Result<Vec<Arc<Broadcaster>>, PerfError> {
        let endpoints = self.orderer_endpoints()?;
        endpoints
            .iter()
            .cycle()
            .take(connections.max(endpoints.len()))
            .map(|endpoint| {
                let made = Broadcaster::new(endpoint).map(Arc::new);
                made.map_err(|e| PerfError::Network(format!("cannot use orderer {}: {e}", endpoint.address)))
            })
            .collect()
    }

    /// A client of the first orderer.
    pub(crate) fn orderer(&self) -> Result<OrdererClient, PerfError> {
        let endpoints = self.orderer_endpoints()?;
        let first = endpoints
            .first()
            .ok_or_else(|| PerfError::Network("the network has no orderer".to_owned()))?;
        OrdererClient::new(first).map_err(PerfError::client("cannot use the orderer"))
    }

    /// Clients that collect and check the endorsements of the first organisations themselves.
    pub(crate) async fn direct_clients(
        &self,
        connections: usize,
        device: usize,
    ) -> Result<Vec<DirectClient>, PerfError> {
        let identity = self.device(device)?;
        let first = self.peer(1)?;
        let failed = || PerfError::client("cannot prepare direct submission");
        let info = ChannelInfo::fetch(&self.peer_client(1)?, &identity, CONTRACT)
            .await
            .map_err(failed())?;
        let orderers: Vec<Endpoint> = info
            .orderers
            .iter()
            .map(|o| {
                let tls = ClientTls {
                    roots: o.tls_roots.clone(),
                    ..ClientTls::default()
                };
                Endpoint::tls(o.address.clone(), tls)
            })
            .collect();
        let endorsers = (1..=self.endorsers.min(self.organizations))
            .map(|org| self.peer(org))
            .collect::<Result<Vec<_>, _>>()?;
        let policy = dsl::parse(&policy(self.endorsers, self.organizations))
            .map_err(|e| PerfError::Network(e.to_string()))?;
        (0..connections)
            .map(|_| {
                DirectClient::new(DirectConfig {
                    identity: identity.clone(),
                    endorsers: endorsers.clone(),
                    orderers: orderers.clone(),
                    events: vec![first.clone()],
                    msps: Arc::clone(&info.msps),
                    policy: Some(policy.clone()),
                    deadlines: selvedge_sdk::Deadlines::default(),
                })
                .map_err(failed())
            })
            .collect()
    }
}
