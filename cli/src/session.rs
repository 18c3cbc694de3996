//! A network's folder as commands see it: who can act, and where the nodes are.

use std::path::Path;

use selvedge_sdk::{ClientIdentity, ClientTls, Endpoint, Gateway, TlsIdentity};

use crate::error::{CliError, During};
use crate::network::config::{
    CaNode, ChannelConfig, NetworkConfig, OrdererNode, OrdererOrganization, PeerNode, PeerOrganization,
    external,
};
use crate::network::layout::{Layout, MemberLayout, OrgLayout};

/// An opened network folder.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) config: NetworkConfig,
    pub(crate) layout: Layout,
}

/// A peer with the organisation that runs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerRef<'a> {
    pub(crate) org: &'a PeerOrganization,
    pub(crate) node: &'a PeerNode,
}

/// An orderer with the organisation that runs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OrdererRef<'a> {
    pub(crate) org: &'a OrdererOrganization,
    pub(crate) node: &'a OrdererNode,
}

impl PeerRef<'_> {
    pub(crate) fn host(&self) -> String {
        format!("{}.{}", self.node.name, self.org.domain)
    }

    pub(crate) fn address(&self) -> String {
        external(self.node.external_address.as_deref(), &self.node.listen)
    }

    /// The administrator of the peer's organisation.
    pub(crate) fn administrator(&self) -> String {
        format!("Admin@{}", self.org.domain)
    }
}

impl OrdererRef<'_> {
    pub(crate) fn host(&self) -> String {
        format!("{}.{}", self.node.name, self.org.domain)
    }

    pub(crate) fn address(&self) -> String {
        external(self.node.external_address.as_deref(), &self.node.listen)
    }
}

/// An organisation of either kind, with what commands about certificates need of it.
#[derive(Debug, Clone)]
pub(crate) struct OrgRef<'a> {
    pub(crate) name: &'a str,
    pub(crate) msp_id: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) ca: Option<&'a CaNode>,
    pub(crate) layout: OrgLayout,
    /// Host names of its nodes, and where their key material lies.
    pub(crate) nodes: Vec<(String, MemberLayout)>,
}

impl OrgRef<'_> {
    /// The name of the node that is its certificate authority.
    pub(crate) fn ca_host(&self) -> String {
        format!("ca.{}", self.domain)
    }

    /// Where the authority's own TLS certificate lies.
    pub(crate) fn ca_member(&self) -> MemberLayout {
        self.layout.node("ca-server", &self.ca_host())
    }

    /// URL of its certificate authority.
    pub(crate) fn ca_url(&self) -> Option<String> {
        let ca = self.ca?;
        Some(format!(
            "https://{}",
            external(ca.external_address.as_deref(), &ca.listen)
        ))
    }

    /// Other servers of the organisation with TLS files here, such as its REST interface.
    pub(crate) fn servers(&self) -> Vec<(String, MemberLayout)> {
        let entries = std::fs::read_dir(self.layout.root().join("servers"));
        let hosts = entries.into_iter().flatten().flatten();
        let mut servers: Vec<_> = hosts
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(|host| (host.clone(), self.layout.node("servers", &host)))
            .collect();
        servers.sort_by(|a, b| a.0.cmp(&b.0));
        servers
    }

    /// Users whose folders are here, such as `Admin@org1.example.com`, by name.
    pub(crate) fn users(&self) -> Vec<(String, MemberLayout)> {
        let entries = std::fs::read_dir(self.layout.root().join("users"));
        let names = entries.into_iter().flatten().flatten();
        let mut users: Vec<_> = names
            .filter_map(|entry| {
                let full = entry.file_name().into_string().ok()?;
                let name = full.strip_suffix(&format!("@{}", self.domain))?.to_owned();
                Some((full, self.layout.user(&name)))
            })
            .collect();
        users.sort_by(|a, b| a.0.cmp(&b.0));
        users
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    })
}

fn hosts<'a>(
    layout: &OrgLayout,
    kind: &str,
    domain: &str,
    names: impl Iterator<Item = &'a String>,
) -> Vec<(String, MemberLayout)> {
    names
        .map(|name| {
            let host = format!("{name}.{domain}");
            let member = layout.node(kind, &host);
            (host, member)
        })
        .collect()
}

impl Session {
    /// Opens the folder that `network up` made.
    pub(crate) fn open(root: &Path) -> Result<Self, CliError> {
        let layout = Layout::new(root);
        let file = layout.network_file();
        if !file.exists() {
            return Err(CliError::said(format!(
                "there is no network in {}; bring one up with `selvedge network up -f FILE`, or name its folder with --network",
                root.display()
            )));
        }
        Ok(Self {
            config: NetworkConfig::read(&file)?,
            layout,
        })
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerRef<'_>> {
        self.config
            .peer_organizations
            .iter()
            .flat_map(|org| org.peers.iter().map(move |node| PeerRef { org, node }))
    }

    /// The peers whose organisations are members of a channel of the configuration.
    pub(crate) fn peers_of<'a>(&'a self, channel: &'a ChannelConfig) -> impl Iterator<Item = PeerRef<'a>> {
        self.peers()
            .filter(move |peer| self.config.members(channel).any(|org| org.name == peer.org.name))
    }

    pub(crate) fn orderers(&self) -> impl Iterator<Item = OrdererRef<'_>> {
        self.config
            .orderer_organizations
            .iter()
            .flat_map(|org| org.orderers.iter().map(move |node| OrdererRef { org, node }))
    }

    /// All organisations, those with orderers first.
    pub(crate) fn orgs(&self) -> Vec<OrgRef<'_>> {
        let orderers = self.config.orderer_organizations.iter().map(|org| {
            let layout = self.layout.orderer_org(&org.domain);
            OrgRef {
                name: &org.name,
                msp_id: &org.msp_id,
                domain: &org.domain,
                ca: org.ca.as_ref(),
                nodes: hosts(
                    &layout,
                    "orderers",
                    &org.domain,
                    org.orderers.iter().map(|n| &n.name),
                ),
                layout,
            }
        });
        let peers = self.config.peer_organizations.iter().map(|org| {
            let layout = self.layout.peer_org(&org.domain);
            OrgRef {
                name: &org.name,
                msp_id: &org.msp_id,
                domain: &org.domain,
                ca: org.ca.as_ref(),
                nodes: hosts(&layout, "peers", &org.domain, org.peers.iter().map(|n| &n.name)),
                layout,
            }
        });
        orderers.chain(peers).collect()
    }

    /// An organisation of either kind by its domain.
    pub(crate) fn org(&self, domain: &str) -> Result<OrgRef<'_>, CliError> {
        let orgs = self.orgs();
        let known: Vec<&str> = orgs.iter().map(|o| o.domain).collect();
        let unknown = CliError::said(format!(
            "there is no organisation at {domain}; this network has {}",
            known.join(", ")
        ));
        orgs.into_iter().find(|org| org.domain == domain).ok_or(unknown)
    }

    /// A peer by its full host name.
    pub(crate) fn peer(&self, host: &str) -> Result<PeerRef<'_>, CliError> {
        self.peers().find(|p| p.host() == host).ok_or_else(|| {
            let known: Vec<_> = self.peers().map(|p| p.host()).collect();
            CliError::said(format!(
                "there is no peer called {host}; this network has {}",
                known.join(", ")
            ))
        })
    }

    /// The peer organisation of a domain.
    pub(crate) fn peer_org(&self, domain: &str) -> Result<&PeerOrganization, CliError> {
        self.config
            .peer_organizations
            .iter()
            .find(|org| org.domain == domain)
            .ok_or_else(|| {
                let known: Vec<_> = self
                    .config
                    .peer_organizations
                    .iter()
                    .map(|o| o.domain.as_str())
                    .collect();
                CliError::said(format!(
                    "there is no organisation at {domain}; this network has {}",
                    known.join(", ")
                ))
            })
    }

    /// Folders and MSP id of `User1@org1.example.com`.
    fn member(&self, name: &str) -> Result<(MemberLayout, &str), CliError> {
        let (user, domain) = name.split_once('@').ok_or_else(|| {
            CliError::said(format!(
                "'{name}' is not an identity; write USER@DOMAIN, for example User1@org1.example.com"
            ))
        })?;
        if let Some(org) = self
            .config
            .orderer_organizations
            .iter()
            .find(|o| o.domain == domain)
        {
            return Ok((self.layout.orderer_org(domain).user(user), &org.msp_id));
        }
        let org = self.peer_org(domain)?;
        Ok((self.layout.peer_org(domain).user(user), &org.msp_id))
    }

    /// Administrators whose keys are in the folder: those of peer organisations, then those of orderers.
    pub(crate) fn administrators(&self) -> Vec<String> {
        let peers = self.config.peer_organizations.iter().map(|o| &o.domain);
        let orderers = self.config.orderer_organizations.iter().map(|o| &o.domain);
        peers
            .chain(orderers)
            .map(|domain| format!("Admin@{domain}"))
            .filter(|name| {
                self.member(name)
                    .is_ok_and(|(member, _)| member.msp().join("keystore").is_dir())
            })
            .collect()
    }

    /// An orderer by its full host name.
    pub(crate) fn orderer(&self, host: &str) -> Result<OrdererRef<'_>, CliError> {
        self.orderers().find(|o| o.host() == host).ok_or_else(|| {
            let known: Vec<_> = self.orderers().map(|o| o.host()).collect();
            CliError::said(format!(
                "there is no orderer called {host}; this network has {}",
                known.join(", ")
            ))
        })
    }

    /// A user's signing identity.
    pub(crate) fn identity(&self, name: &str) -> Result<ClientIdentity, CliError> {
        let (member, msp_id) = self.member(name)?;
        ClientIdentity::from_msp_dir(msp_id, &member.msp())
            .during(|| format!("cannot act as {name} (its folder is {})", member.msp().display()))
    }

    /// A user's TLS certificate.
    pub(crate) fn tls_identity(&self, name: &str) -> Result<TlsIdentity, CliError> {
        let (member, _) = self.member(name)?;
        TlsIdentity::from_files(&member.tls_certificate(), &member.tls_key())
            .during(|| format!("cannot use the TLS certificate of {name}"))
    }

    /// How to dial a peer, on behalf of nobody in particular.
    pub(crate) fn peer_endpoint(&self, peer: PeerRef<'_>) -> Result<Endpoint, CliError> {
        let roots = read(&self.layout.peer_org(&peer.org.domain).tls_ca_certificate())?;
        let tls = ClientTls {
            roots: vec![roots],
            server_name: Some(peer.host()),
            ..ClientTls::default()
        };
        Ok(Endpoint::tls(peer.address(), tls))
    }

    /// How to dial an orderer.
    pub(crate) fn orderer_endpoint(&self, orderer: OrdererRef<'_>) -> Result<Endpoint, CliError> {
        let roots = read(&self.layout.orderer_org(&orderer.org.domain).tls_ca_certificate())?;
        let tls = ClientTls {
            roots: vec![roots],
            server_name: Some(orderer.host()),
            ..ClientTls::default()
        };
        Ok(Endpoint::tls(orderer.address(), tls))
    }

    /// TLS settings for an orderer's participation interface, which demands a certificate of its organisation.
    pub(crate) fn orderer_admin_tls(&self, orderer: OrdererRef<'_>) -> Result<ClientTls, CliError> {
        let roots = read(&self.layout.orderer_org(&orderer.org.domain).tls_ca_certificate())?;
        let identity = self.tls_identity(&format!("Admin@{}", orderer.org.domain))?;
        Ok(ClientTls {
            roots: vec![roots],
            server_name: Some(orderer.host()),
            identity: Some(identity),
            ..ClientTls::default()
        })
    }

    /// The peer that `identity` talks to unless another is named: the first of its own organisation, else the first.
    pub(crate) fn peer_for(&self, identity: &str, named: Option<&str>) -> Result<PeerRef<'_>, CliError> {
        if let Some(host) = named {
            return self.peer(host);
        }
        let domain = identity.split_once('@').map_or("", |(_, domain)| domain);
        self.peers()
            .find(|p| p.org.domain == domain)
            .or_else(|| self.peers().next())
            .ok_or_else(|| CliError::said("this network has no peer"))
    }

    /// A gateway connection for an identity.
    pub(crate) fn gateway(&self, identity: &str, peer: Option<&str>) -> Result<Gateway, CliError> {
        let peer = self.peer_for(identity, peer)?;
        Gateway::connect(&self.peer_endpoint(peer)?, self.identity(identity)?)
            .during(|| format!("cannot use the gateway of {}", peer.host()))
    }
}
