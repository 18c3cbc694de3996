//! Clients of a test network, and what they all see in the end.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use selvedge_msp::CertificateAuthority;
use selvedge_proto::common;
use selvedge_sdk::participation::OrdererAdmin;
use selvedge_sdk::{
    ChannelInfo, ClientIdentity, ClientTls, Deadlines, DirectClient, DirectConfig, Endpoint, Gateway,
    Invocation, OrdererClient, PeerAddress, PeerClient, Seek, TlsIdentity,
};
use serde_json::Value;

use crate::network::text;
use crate::{CHANNEL, Network, ORG1_PEER, ORG2_PEER, eventually};

/// Long enough for a busy machine; a test that waits for it has failed anyway.
const DEADLINES: Deadlines = Deadlines {
    evaluate: Some(Duration::from_secs(30)),
    endorse: Some(Duration::from_secs(30)),
    submit: Some(Duration::from_secs(30)),
    commit_status: Some(Duration::from_secs(60)),
};
const SETTLE: Duration = Duration::from_secs(60);

/// A contract's answer as JSON.
pub fn json(payload: &[u8]) -> Value {
    serde_json::from_slice(payload)
        .unwrap_or_else(|e| panic!("{:?} is no JSON: {e}", String::from_utf8_lossy(payload)))
}

fn read(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl Network {
    /// Folder of an organisation's key material.
    pub fn org_dir(&self, domain: &str) -> PathBuf {
        let all = self.dir().join("organizations");
        let peers = all.join("peerOrganizations").join(domain);
        if peers.is_dir() {
            peers
        } else {
            all.join("ordererOrganizations").join(domain)
        }
    }

    /// PEM of an organisation's TLS root.
    pub fn tls_root(&self, domain: &str) -> Vec<u8> {
        read(&self.tls_root_file(domain))
    }

    /// File of an organisation's TLS root.
    pub fn tls_root_file(&self, domain: &str) -> PathBuf {
        self.org_dir(domain)
            .join("tlsca")
            .join(format!("tlsca.{domain}-cert.pem"))
    }

    /// The authority that issues an organisation's identities, with its key.
    pub fn authority(&self, domain: &str) -> CertificateAuthority {
        let dir = self.org_dir(domain).join("ca");
        let pem = |name: &str| String::from_utf8(read(&dir.join(name))).expect("PEM is text");
        CertificateAuthority::from_pem(&pem(&format!("ca.{domain}-cert.pem")), &pem("priv_sk"))
            .expect("the authority's files fit together")
    }

    fn orgs(&self) -> impl Iterator<Item = &Value> {
        ["peer_organizations", "orderer_organizations"]
            .into_iter()
            .flat_map(|group| self.config[group].as_array().into_iter().flatten())
    }

    /// URL and name of an organisation's authority, if it has one.
    pub fn ca(&self, domain: &str) -> Option<(String, String)> {
        let org = self.orgs().find(|org| org["domain"] == domain)?;
        let listen = org["ca"]["listen"].as_str()?.replace("127.0.0.1", "localhost");
        Some((format!("https://{listen}"), text(&org["ca"]["name"])))
    }

    /// Domain of the organisation with an MSP id.
    pub fn domain(&self, msp_id: &str) -> String {
        let org = self.orgs().find(|org| org["msp_id"] == msp_id);
        text(&org.unwrap_or_else(|| panic!("there is no organisation {msp_id}"))["domain"])
    }

    /// MSP id of a domain's organisation.
    pub fn msp_id(&self, domain: &str) -> String {
        let org = self.orgs().find(|org| org["domain"] == domain);
        text(&org.unwrap_or_else(|| panic!("there is no organisation at {domain}"))["msp_id"])
    }

    /// Folder of a user, for example `User1@org1.example.com`.
    pub fn user_dir(&self, user: &str) -> PathBuf {
        let (_, domain) = user.split_once('@').expect("NAME@DOMAIN");
        self.org_dir(domain).join("users").join(user)
    }

    /// A user's identity.
    pub fn identity(&self, user: &str) -> ClientIdentity {
        let (_, domain) = user.split_once('@').expect("NAME@DOMAIN");
        ClientIdentity::from_msp_dir(&self.msp_id(domain), &self.user_dir(user).join("msp"))
            .unwrap_or_else(|e| panic!("{user}: {e}"))
    }

    /// How to dial a peer or an orderer.
    pub fn endpoint(&self, host: &str) -> Endpoint {
        self.endpoint_at(host, &self.address(host))
    }

    /// How to dial a node through another address, for example a proxy's.
    pub fn endpoint_at(&self, host: &str, address: &str) -> Endpoint {
        let roots = vec![self.tls_root(&text(&self.node(host)["domain"]))];
        Endpoint::tls(
            address,
            ClientTls {
                roots,
                server_name: Some(host.to_owned()),
                ..ClientTls::default()
            },
        )
    }

    /// A user's client of a peer's gateway.
    pub fn gateway_at(&self, user: &str, host: &str) -> Gateway {
        self.gateway_of(self.identity(user), host)
    }

    /// An identity's client of a peer's gateway.
    pub fn gateway_of(&self, identity: ClientIdentity, host: &str) -> Gateway {
        let gateway = Gateway::connect(&self.endpoint(host), identity).expect("a usable endpoint");
        gateway.with_deadlines(DEADLINES)
    }

    /// A user's client of its own organisation's gateway.
    pub fn gateway(&self, user: &str) -> Gateway {
        let host = if user.ends_with("@org2.example.com") {
            ORG2_PEER
        } else {
            ORG1_PEER
        };
        self.gateway_at(user, host)
    }

    /// A client of a peer.
    pub fn peer(&self, host: &str) -> PeerClient {
        PeerClient::new(&text(&self.node(host)["msp_id"]), &self.endpoint(host)).expect("a usable endpoint")
    }

    /// A client of an orderer.
    pub fn orderer(&self, host: &str) -> OrdererClient {
        OrdererClient::new(&self.endpoint(host)).expect("a usable endpoint")
    }

    /// A client of an orderer's participation interface.
    pub fn orderer_admin(&self, host: &str) -> OrdererAdmin {
        let node = self.node(host);
        let domain = text(&node["domain"]);
        let tls = self.user_dir(&format!("Admin@{domain}")).join("tls");
        let identity =
            TlsIdentity::from_files(&tls.join("client.crt"), &tls.join("client.key")).expect("TLS files");
        let tls = ClientTls {
            roots: vec![self.tls_root(&domain)],
            server_name: Some(host.to_owned()),
            identity: Some(identity),
            ..ClientTls::default()
        };
        OrdererAdmin::new(&format!("https://{}", text(&node["admin_listen"])), tls)
    }

    /// A client that endorses at every peer itself.
    pub async fn direct(&self, user: &str) -> DirectClient {
        let identity = self.identity(user);
        let info = ChannelInfo::fetch(&self.peer(ORG1_PEER), &identity, CHANNEL)
            .await
            .expect("channel information");
        let peers = self.peers();
        let endorsers = peers.iter().map(|host| PeerAddress {
            msp_id: text(&self.node(host)["msp_id"]),
            endpoint: self.endpoint(host),
        });
        DirectClient::new(DirectConfig {
            identity,
            endorsers: endorsers.collect(),
            orderers: self.orderers().iter().map(|host| self.endpoint(host)).collect(),
            events: Vec::new(),
            msps: info.msps,
            policy: None,
            deadlines: DEADLINES,
        })
        .expect("a usable configuration")
    }

    /// Proves that the network still works: a transaction through each organisation's gateway commits, and no node has
    /// ended.
    pub async fn still_works(&self) {
        for (user, host) in [
            ("User1@org1.example.com", ORG1_PEER),
            ("User1@org2.example.com", ORG2_PEER),
        ] {
            let key = format!("alive-{:016x}", rand::random::<u64>());
            let put = Invocation::new(CHANNEL, "probe", "put")
                .arg(key.as_str())
                .arg("1");
            let done = self.gateway_at(user, host).submit_and_wait(&put).await;
            let done = done.unwrap_or_else(|e| panic!("the network no longer works through {host}: {e}"));
            self.everywhere(done.block_number).await;
        }
        self.all_run();
    }

    /// Height of the channel on an orderer.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn orderer_height(&self, host: &str) -> Result<u64, String> {
        self.orderer_admin(host)
            .status(CHANNEL)
            .await
            .map(|s| s.height)
            .map_err(|e| format!("{host}: {e}"))
    }

    /// Height of the channel on a peer.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn peer_height(&self, host: &str) -> Result<u64, String> {
        let admin = self.identity("User1@org1.example.com");
        let info = self.peer(host).chain_info(&admin, CHANNEL).await;
        info.map(|i| i.height).map_err(|e| format!("{host}: {e}"))
    }

    /// Waits until every orderer and every peer has the same height, and gives it.
    pub async fn settled(&self) -> u64 {
        eventually("all nodes have the same height", SETTLE, || async {
            let mut heights = Vec::new();
            for host in self.orderers() {
                heights.push(self.orderer_height(&host).await?);
            }
            for host in self.peers() {
                heights.push(self.peer_height(&host).await?);
            }
            match heights.split_first() {
                Some((first, rest)) if rest.iter().all(|h| h == first) => Ok(*first),
                _ => Err(format!("heights are {heights:?}")),
            }
        })
        .await
    }

    /// Waits until every peer has a block: a commit that one peer has told is not yet on the others.
    pub async fn everywhere(&self, block: u64) {
        self.everywhere_but("", block).await;
    }

    /// The same without one peer.
    pub async fn everywhere_but(&self, without: &str, block: u64) {
        for host in self.peers().into_iter().filter(|host| host != without) {
            eventually("every peer has the block", SETTLE, || async {
                let height = self.peer_height(&host).await?;
                if height > block {
                    Ok(())
                } else {
                    Err(format!("{host} has height {height}"))
                }
            })
            .await;
        }
    }

    /// The last block of the channel on a peer, with its verdicts and commit hash.
    pub async fn last_block(&self, host: &str) -> common::Block {
        let user = self.identity("User1@org1.example.com");
        let mut blocks = self
            .peer(host)
            .blocks(&user, CHANNEL, Seek::newest())
            .await
            .expect("a stream of blocks");
        blocks
            .next()
            .await
            .expect("the newest block")
            .expect("the newest block")
    }

    /// A slot of a block's metadata.
    pub fn metadata(block: &common::Block, slot: common::BlockMetadataIndex) -> Bytes {
        let all = &block.metadata.as_ref().expect("block metadata").metadata;
        all.get(slot as usize).cloned().unwrap_or_default()
    }
}
