//! The network file: one YAML that names every organisation, node, channel and contract of a consortium.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// How the roles are run on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProcessModel {
    /// Every node is a process of its own.
    #[default]
    ProcessPerNode,
    /// All nodes run in one process: for development.
    OneProcess,
}

/// A whole network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkConfig {
    /// Name of the network; its folder is called so.
    pub(crate) name: String,
    /// How the roles are run.
    #[serde(default)]
    pub(crate) processes: ProcessModel,
    /// Organisations that run orderers.
    pub(crate) orderer_organizations: Vec<OrdererOrganization>,
    /// Organisations that run peers.
    pub(crate) peer_organizations: Vec<PeerOrganization>,
    /// Channels that `network up` creates.
    #[serde(default)]
    pub(crate) channels: Vec<ChannelConfig>,
    /// Contracts that `network up` deploys.
    #[serde(default)]
    pub(crate) chaincodes: Vec<ChaincodeConfig>,
    /// How long certificates live, and when they are renewed.
    #[serde(default, skip_serializing_if = "CertificatesConfig::is_default")]
    pub(crate) certificates: CertificatesConfig,
}

/// How long certificates live, and when they are renewed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CertificatesConfig {
    /// Life of certificates of nodes, users and devices.
    #[serde(with = "duration_text")]
    pub(crate) life: Duration,
    /// Life of the roots.
    #[serde(with = "duration_text")]
    pub(crate) ca_life: Duration,
    /// How much of a life passes before a node renews, between 0 and 1.
    pub(crate) renew_at: f64,
    /// How often a node compares its clock with its authority's, and looks whether that has another root now.
    #[serde(with = "duration_text")]
    pub(crate) check: Duration,
    /// How long after its end a certificate can still be renewed at the authority.
    #[serde(with = "duration_text")]
    pub(crate) reenroll_grace: Duration,
}

impl Default for CertificatesConfig {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            life: Duration::from_secs(365 * DAY),
            ca_life: Duration::from_secs(15 * 365 * DAY),
            renew_at: 2.0 / 3.0,
            check: Duration::from_secs(60 * 60),
            reenroll_grace: Duration::from_secs(30 * DAY),
        }
    }
}

impl CertificatesConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn check(&self) -> Result<(), String> {
        if !(self.renew_at > 0.0 && self.renew_at < 1.0) {
            return Err(format!(
                "certificates.renew_at: {} is not between 0 and 1",
                self.renew_at
            ));
        }
        for (name, value) in [
            ("life", self.life),
            ("ca_life", self.ca_life),
            ("check", self.check),
        ] {
            if value.is_zero() {
                return Err(format!("certificates.{name}: must be longer than nothing"));
            }
        }
        Ok(())
    }
}

/// An organisation with orderers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrdererOrganization {
    /// Name of its group in the channel configuration.
    pub(crate) name: String,
    /// MSP id.
    pub(crate) msp_id: String,
    /// Domain of its host names.
    pub(crate) domain: String,
    /// Its certificate authority.
    #[serde(default)]
    pub(crate) ca: Option<CaNode>,
    /// Folder of key material that exists already, laid out as `cryptogen` does; relative to the network file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) material: Option<PathBuf>,
    /// Its orderers.
    pub(crate) orderers: Vec<OrdererNode>,
}

/// One orderer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrdererNode {
    /// Host name without the domain.
    pub(crate) name: String,
    /// Address to listen on.
    pub(crate) listen: String,
    /// `host:port` that others dial; `localhost` with the listening port if absent.
    #[serde(default)]
    pub(crate) external_address: Option<String>,
    /// Address of the channel participation interface.
    pub(crate) admin_listen: String,
    /// Address of the operations interface, if wanted.
    #[serde(default)]
    pub(crate) operations_listen: Option<String>,
}

/// An organisation with peers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerOrganization {
    /// Name of its group in the channel configuration.
    pub(crate) name: String,
    /// MSP id.
    pub(crate) msp_id: String,
    /// Domain of its host names.
    pub(crate) domain: String,
    /// Its certificate authority.
    #[serde(default)]
    pub(crate) ca: Option<CaNode>,
    /// Folder of key material that exists already, laid out as `cryptogen` does; relative to the network file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) material: Option<PathBuf>,
    /// Its peers; the first is the anchor peer.
    pub(crate) peers: Vec<PeerNode>,
    /// Its REST interface with the page, if wanted.
    #[serde(default)]
    pub(crate) api: Option<ApiNode>,
    /// Client identities to make besides the administrator: `User1@<domain>` and so on.
    #[serde(default = "one")]
    pub(crate) users: u32,
}

fn one() -> u32 {
    1
}

/// One peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerNode {
    /// Host name without the domain.
    pub(crate) name: String,
    /// Address to listen on.
    pub(crate) listen: String,
    /// `host:port` that others dial; `localhost` with the listening port if absent.
    #[serde(default)]
    pub(crate) external_address: Option<String>,
    /// Address of the operations interface, if wanted.
    #[serde(default)]
    pub(crate) operations_listen: Option<String>,
}

/// The certificate authority of an organisation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaNode {
    /// Name that clients give as `caname`.
    pub(crate) name: String,
    /// Address to listen on.
    pub(crate) listen: String,
    /// `host:port` that others dial; `localhost` with the listening port if absent.
    #[serde(default)]
    pub(crate) external_address: Option<String>,
    /// Address of the operations interface, if wanted.
    #[serde(default)]
    pub(crate) operations_listen: Option<String>,
}

/// The REST interface of an organisation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiNode {
    /// Address to listen on. On any other than loopback it serves with TLS.
    pub(crate) listen: String,
    /// Serve with TLS on loopback too.
    #[serde(default)]
    pub(crate) tls: bool,
    /// User with whose identity visitors read the public view; without it, they see nothing.
    #[serde(default)]
    pub(crate) visitor: Option<String>,
    /// Edge gateways to show, by name: the addresses of their REST interfaces.
    #[serde(default)]
    pub(crate) gateways: BTreeMap<String, String>,
}

/// One channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelConfig {
    /// Channel id.
    pub(crate) name: String,
    /// Names of the peer organisations in it; all if absent.
    #[serde(default)]
    pub(crate) organizations: Option<Vec<String>>,
    /// When a block is cut.
    #[serde(default)]
    pub(crate) batch: BatchConfig,
}

/// When a block is cut (spec 05 §2).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BatchConfig {
    /// Transactions in a block at most.
    pub(crate) max_message_count: u32,
    /// Largest block in bytes.
    pub(crate) absolute_max_bytes: u32,
    /// Size in bytes at which a block is cut.
    pub(crate) preferred_max_bytes: u32,
    /// How long a transaction waits for company at most.
    #[serde(with = "duration_text")]
    pub(crate) timeout: Duration,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            max_message_count: 500,
            absolute_max_bytes: 10 * 1024 * 1024,
            preferred_max_bytes: 2 * 1024 * 1024,
            timeout: Duration::from_secs(2),
        }
    }
}

/// One contract on one channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChaincodeConfig {
    /// Chaincode name.
    pub(crate) name: String,
    /// Channel it is deployed on.
    pub(crate) channel: String,
    /// The module, relative to the network file; `{contracts}` stands for the folder given by `--contracts`.
    pub(crate) wasm: String,
    /// Version.
    #[serde(default = "version_one")]
    pub(crate) version: String,
    /// Endorsement policy, for example `AND('Org1MSP.peer','Org2MSP.peer')`; the channel's default if absent.
    #[serde(default)]
    pub(crate) policy: Option<String>,
}

fn version_one() -> String {
    "1.0".to_owned()
}

mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&humantime::format_duration(*value).to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(d)?;
        humantime::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

/// The address that others dial.
pub(crate) fn external(explicit: Option<&str>, listen: &str) -> String {
    match (explicit, listen.rsplit_once(':')) {
        (Some(address), _) => address.to_owned(),
        (None, Some((_, port))) => format!("localhost:{port}"),
        (None, None) => listen.to_owned(),
    }
}

impl NetworkConfig {
    /// Reads and checks a network file.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(path).map_err(|source| CliError::ReadFile {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = serde_yaml_ng::from_str(&text).map_err(|e| CliError::BadConfig {
            path: path.to_owned(),
            why: e.to_string(),
        })?;
        config.check().map_err(|why| CliError::BadConfig {
            path: path.to_owned(),
            why,
        })?;
        config.resolve(path.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }

    /// Makes paths of key material absolute: the copy of the file in the network's folder must mean the same.
    fn resolve(&mut self, base: &Path) {
        let orderers = self.orderer_organizations.iter_mut().map(|o| &mut o.material);
        let peers = self.peer_organizations.iter_mut().map(|o| &mut o.material);
        for material in orderers.chain(peers).flatten() {
            let path = base.join(&*material);
            *material = std::path::absolute(&path).unwrap_or(path);
        }
    }

    /// The module file of a contract.
    pub(crate) fn wasm_path(chaincode: &ChaincodeConfig, network_file: &Path, contracts: &Path) -> PathBuf {
        let text = chaincode
            .wasm
            .replace("{contracts}", &contracts.to_string_lossy());
        network_file.parent().unwrap_or(Path::new(".")).join(text)
    }

    /// The peer organisations of a channel.
    pub(crate) fn members<'a>(
        &'a self,
        channel: &'a ChannelConfig,
    ) -> impl Iterator<Item = &'a PeerOrganization> {
        self.peer_organizations.iter().filter(move |org| {
            channel
                .organizations
                .as_ref()
                .is_none_or(|names| names.contains(&org.name))
        })
    }

    fn check(&self) -> Result<(), String> {
        if self.orderer_organizations.iter().all(|o| o.orderers.is_empty()) {
            return Err("it has no orderer; give at least one under orderer_organizations".to_owned());
        }
        self.certificates.check()?;
        let mut msp_ids = BTreeSet::new();
        let mut names = BTreeSet::new();
        let mut domains = BTreeSet::new();
        let orgs = self
            .orderer_organizations
            .iter()
            .map(|o| (&o.name, &o.msp_id, &o.domain))
            .chain(
                self.peer_organizations
                    .iter()
                    .map(|o| (&o.name, &o.msp_id, &o.domain)),
            );
        for (name, msp_id, domain) in orgs {
            if !msp_ids.insert(msp_id) || !names.insert(name) || !domains.insert(domain) {
                return Err(format!(
                    "organisation {name}: its name, msp_id ({msp_id}) or domain ({domain}) is used twice; each must be its own"
                ));
            }
        }
        let mut listeners: BTreeMap<&str, String> = BTreeMap::new();
        for (address, owner) in self.listeners() {
            if let Some(other) = listeners.insert(address, owner.clone()) {
                return Err(format!(
                    "{owner} and {other} both listen on {address}; give one of them another port"
                ));
            }
        }
        for channel in &self.channels {
            for name in channel.organizations.iter().flatten() {
                if !self.peer_organizations.iter().any(|o| &o.name == name) {
                    return Err(format!(
                        "channel {}: there is no peer organisation called {name}",
                        channel.name
                    ));
                }
            }
        }
        for chaincode in &self.chaincodes {
            if !self.channels.iter().any(|c| c.name == chaincode.channel) {
                return Err(format!(
                    "chaincode {}: there is no channel called {}; add it under channels",
                    chaincode.name, chaincode.channel
                ));
            }
        }
        Ok(())
    }

    fn listeners(&self) -> impl Iterator<Item = (&str, String)> {
        let orderers = self.orderer_organizations.iter().flat_map(|org| {
            org.orderers.iter().flat_map(move |node| {
                let id = format!("{}.{}", node.name, org.domain);
                [
                    (node.listen.as_str(), id.clone()),
                    (node.admin_listen.as_str(), format!("admin of {id}")),
                ]
                .into_iter()
                .chain(
                    node.operations_listen
                        .as_deref()
                        .map(|a| (a, format!("operations of {id}"))),
                )
            })
        });
        let peers = self.peer_organizations.iter().flat_map(|org| {
            org.peers.iter().flat_map(move |node| {
                let id = format!("{}.{}", node.name, org.domain);
                std::iter::once((node.listen.as_str(), id.clone())).chain(
                    node.operations_listen
                        .as_deref()
                        .map(|a| (a, format!("operations of {id}"))),
                )
            })
        });
        let cas = self
            .orderer_organizations
            .iter()
            .filter_map(|org| org.ca.as_ref());
        let cas = cas.chain(self.peer_organizations.iter().filter_map(|org| org.ca.as_ref()));
        let cas = cas.flat_map(|ca| {
            std::iter::once((ca.listen.as_str(), ca.name.clone())).chain(
                ca.operations_listen
                    .as_deref()
                    .map(|a| (a, format!("operations of {}", ca.name))),
            )
        });
        orderers.chain(peers).chain(cas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(name: &str) -> NetworkConfig {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../network-configs")
            .join(name);
        NetworkConfig::read(&path).unwrap()
    }

    #[test]
    fn shipped_networks_are_good() {
        let consortium = shipped("consortium.yaml");
        assert_eq!(consortium.orderer_organizations[0].orderers.len(), 3);
        assert_eq!(consortium.peer_organizations.len(), 2);
        assert_eq!(consortium.processes, ProcessModel::ProcessPerNode);
        assert_eq!(shipped("dev.yaml").processes, ProcessModel::OneProcess);
    }

    #[test]
    fn mistakes_are_named() {
        let good = shipped("consortium.yaml");
        let mut never = good.clone();
        never.certificates.renew_at = 1.0;
        assert!(never.check().unwrap_err().contains("renew_at"));
        let mut same_port = good.clone();
        same_port.orderer_organizations[0].ca = same_port.peer_organizations[0].ca.clone();
        assert!(same_port.check().unwrap_err().contains("both listen on"));
        let mut twice = good.clone();
        twice.peer_organizations[1].peers[0].listen = twice.peer_organizations[0].peers[0].listen.clone();
        assert!(twice.check().unwrap_err().contains("both listen on"));
        let mut watched = good.clone();
        watched.peer_organizations[1]
            .ca
            .as_mut()
            .unwrap()
            .operations_listen = watched.peer_organizations[0].peers[0].operations_listen.clone();
        let why = watched.check().unwrap_err();
        assert!(why.contains("operations of ca-org2"), "{why}");
        let mut same = good.clone();
        same.peer_organizations[1].msp_id = same.peer_organizations[0].msp_id.clone();
        assert!(same.check().unwrap_err().contains("used twice"));
        let mut unknown = good.clone();
        unknown.channels[0].organizations = Some(vec!["Nobody".into()]);
        assert!(unknown.check().unwrap_err().contains("Nobody"));
        let mut channel = good;
        channel.chaincodes[0].channel = "elsewhere".into();
        assert!(channel.check().unwrap_err().contains("elsewhere"));
    }

    #[test]
    fn external_address_follows_the_port() {
        assert_eq!(external(None, "127.0.0.1:7051"), "localhost:7051");
        assert_eq!(
            external(Some("peer0.org1.example.com:443"), "0.0.0.0:7051"),
            "peer0.org1.example.com:443"
        );
    }
}
