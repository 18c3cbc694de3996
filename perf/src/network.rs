//! The network of one run: started in a temporary folder on free ports, and stopped with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use selvedge_msp::policy::dsl;
use selvedge_sdk::{
    ChannelInfo, ClientIdentity, ClientTls, DirectClient, DirectConfig, Endpoint, Gateway, PeerAddress,
    PeerClient,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::edge::Uplink;
use crate::error::PerfError;
use crate::machine;
use crate::matrix::Run;

/// Name of the channel and of the contract.
pub(crate) const CHANNEL: &str = "bench";
const CONTRACT_FILE: &str = "selvedge_chaincode_bench.wasm";

/// The folder of this program.
fn beside() -> PathBuf {
    let exe = std::env::current_exe().ok();
    exe.and_then(|exe| Some(exe.parent()?.to_owned()))
        .unwrap_or_default()
}

fn given(argument: Option<PathBuf>, variable: &str) -> Option<PathBuf> {
    argument.or_else(|| std::env::var_os(variable).map(PathBuf::from))
}

/// The given program, else `SELVEDGE_BIN`, else the one beside this program.
pub(crate) fn find_binary(binary: Option<PathBuf>) -> Result<PathBuf, PerfError> {
    let binary = given(binary, "SELVEDGE_BIN").unwrap_or_else(|| beside().join("selvedge"));
    if binary.is_file() {
        return Ok(binary);
    }
    Err(PerfError::Network(format!(
        "there is no selvedge binary at {}; build it with `cargo build --release -p selvedge`, or name it in SELVEDGE_BIN",
        binary.display()
    )))
}

/// The programs that a benchmark needs.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    binary: PathBuf,
    contracts: PathBuf,
}

impl Tools {
    /// The given programs, else `SELVEDGE_BIN` and `SELVEDGE_CONTRACTS`, else what lies where cargo put this binary.
    pub(crate) fn find(binary: Option<PathBuf>, contracts: Option<PathBuf>) -> Result<Self, PerfError> {
        let binary = find_binary(binary)?;
        let contracts = given(contracts, "SELVEDGE_CONTRACTS")
            .unwrap_or_else(|| beside().join("../wasm32-unknown-unknown/contract"));
        if !contracts.join(CONTRACT_FILE).is_file() {
            return Err(PerfError::Network(format!(
                "there is no {CONTRACT_FILE} in {}; build it with scripts/contracts.sh, or name its folder in \
                 SELVEDGE_CONTRACTS",
                contracts.display()
            )));
        }
        Ok(Self { binary, contracts })
    }
}

/// A node's process.
#[derive(Debug, Clone)]
pub(crate) struct NodeProcess {
    /// Host name of the node.
    pub(crate) name: String,
    /// Its process.
    pub(crate) pid: u32,
}

/// A running network. Dropping it stops the nodes and deletes what they stored.
#[derive(Debug)]
pub(crate) struct Network {
    tools: Tools,
    folder: TempDir,
    organizations: usize,
    endorsers: usize,
    peer_ports: Vec<u16>,
}

/// Free ports of the loopback interface: all are taken before any is given back.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>, PerfError> {
    let failed = |e: std::io::Error| PerfError::Network(format!("there are no {count} free ports: {e}"));
    let taken: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    taken
        .iter()
        .map(|listener| listener.local_addr().map(|a| a.port()).map_err(failed))
        .collect()
}

fn domain(org: usize) -> String {
    format!("org{org}.example.com")
}

/// `AND` of the first organisations; a single endorsement may come from any.
fn policy(run: &Run) -> String {
    let (gate, orgs) = if run.endorsers == 1 {
        ("OR", run.organizations)
    } else {
        ("AND", run.endorsers)
    };
    let principals: Vec<String> = (1..=orgs).map(|n| format!("'Org{n}MSP.peer'")).collect();
    format!("{gate}({})", principals.join(","))
}

fn description(run: &Run, ports: &[u16], peer_ports: &[u16]) -> Value {
    let listen = |port: Option<&u16>| format!("127.0.0.1:{}", port.copied().unwrap_or_default());
    let orderers: Vec<Value> = (0..run.orderers)
        .map(|n| {
            json!({ "name": format!("orderer{n}"), "listen": listen(ports.get(2 * n)), "admin_listen": listen(ports.get(2 * n + 1)) })
        })
        .collect();
    let organizations: Vec<Value> = (1..=run.organizations)
        .map(|n| {
            json!({
                "name": format!("Org{n}"), "msp_id": format!("Org{n}MSP"), "domain": domain(n),
                "peers": [{ "name": "peer0", "listen": listen(peer_ports.get(n - 1)) }],
            })
        })
        .collect();
    json!({
        "name": "bench",
        "orderer_organizations": [
            { "name": "OrdererOrg", "msp_id": "OrdererMSP", "domain": "example.com", "orderers": orderers },
        ],
        "peer_organizations": organizations,
        "channels": [{
            "name": CHANNEL,
            "batch": {
                "max_message_count": run.block_transactions, "absolute_max_bytes": 99 * 1024 * 1024,
                "preferred_max_bytes": 16 * 1024 * 1024, "timeout": run.block_timeout,
            },
        }],
        "chaincodes": [{
            "name": CHANNEL, "channel": CHANNEL, "wasm": format!("{{contracts}}/{CONTRACT_FILE}"), "policy": policy(run),
        }],
    })
}

impl Network {
    /// Starts nodes, channel and contract for a run.
    pub(crate) fn start(run: &Run, tools: &Tools) -> Result<Self, PerfError> {
        let folder = TempDir::with_prefix("selvedge-perf-").map_err(|e| {
            PerfError::Network(format!(
                "cannot make a temporary folder for the network's data: {e}"
            ))
        })?;
        let mut ports = free_ports(2 * run.orderers + run.organizations)?;
        let peer_ports = ports.split_off(2 * run.orderers);
        let file = folder.path().join("network-file.yaml");
        let description = description(run, &ports, &peer_ports);
        // JSON is YAML.
        std::fs::write(&file, description.to_string()).map_err(PerfError::file(&file))?;
        let network = Self {
            tools: tools.clone(),
            folder,
            organizations: run.organizations,
            endorsers: run.endorsers,
            peer_ports,
        };
        let output = Command::new(&tools.binary)
            .args(["network", "up", "--file"])
            .arg(&file)
            .arg("--dir")
            .arg(network.root())
            .arg("--contracts")
            .arg(&tools.contracts)
            .stdin(Stdio::null())
            .output()
            .map_err(PerfError::file(&tools.binary))?;
        if output.status.success() {
            return Ok(network);
        }
        Err(PerfError::Network(format!(
            "the network does not come up:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )))
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("network")
    }

    /// The nodes' processes, by name.
    pub(crate) fn processes(&self) -> Vec<NodeProcess> {
        let mut found = Vec::new();
        let Ok(nodes) = std::fs::read_dir(self.root().join("nodes")) else {
            return found;
        };
        for node in nodes.flatten() {
            let pid = std::fs::read_to_string(node.path().join("pid"));
            if let Some(pid) = pid.ok().and_then(|p| p.trim().parse().ok()) {
                let name = node.file_name().to_string_lossy().into_owned();
                found.push(NodeProcess { name, pid });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Bytes on disk by node.
    pub(crate) fn disk(&self, node: &str) -> u64 {
        machine::folder_bytes(&self.root().join("nodes").join(node).join("data"))
    }

    fn organization(&self, org: usize) -> PathBuf {
        self.root()
            .join("organizations/peerOrganizations")
            .join(domain(org))
    }

    /// How an edge gateway of the first organisation reaches the network: through its own peer, or directly with the
    /// peers of the first `endorsers` organisations.
    pub(crate) fn edge_uplink(&self, mode: &'static str, endorsers: usize) -> Uplink {
        let dialled = if mode == "direct" { endorsers } else { 1 };
        let peers: Vec<Value> = (1..=dialled)
            .map(|org| {
                let roots = format!("tlsca/tlsca.{}-cert.pem", domain(org));
                json!({
                    "address": format!("localhost:{}", self.peer_ports.get(org - 1).copied().unwrap_or_default()),
                    "msp_id": format!("Org{org}MSP"),
                    "server_name": format!("peer0.{}", domain(org)),
                    "tls_roots": self.organization(org).join(roots),
                })
            })
            .collect();
        let user = format!("users/User1@{}/msp", domain(1));
        Uplink {
            mode,
            peers: Value::Array(peers),
            msp_id: "Org1MSP".to_owned(),
            msp_dir: self.organization(1).join(user),
        }
    }

    fn identity(&self) -> Result<ClientIdentity, PerfError> {
        let user = self
            .organization(1)
            .join("users")
            .join(format!("User1@{}", domain(1)));
        ClientIdentity::from_msp_dir("Org1MSP", &user.join("msp"))
            .map_err(|e| PerfError::Network(format!("the client's identity: {e}")))
    }

    fn peer(&self, org: usize) -> Result<PeerAddress, PerfError> {
        let roots = self
            .organization(org)
            .join("tlsca")
            .join(format!("tlsca.{}-cert.pem", domain(org)));
        let tls = ClientTls {
            roots: vec![read(&roots)?],
            server_name: Some(format!("peer0.{}", domain(org))),
            ..ClientTls::default()
        };
        let port = self.peer_ports.get(org - 1).copied().unwrap_or_default();
        Ok(PeerAddress {
            msp_id: format!("Org{org}MSP"),
            endpoint: Endpoint::tls(format!("localhost:{port}"), tls),
        })
    }

    /// Connections to the gateway of the first organisation's peer.
    pub(crate) fn gateways(&self, connections: usize) -> Result<Vec<Gateway>, PerfError> {
        let (identity, peer) = (self.identity()?, self.peer(1)?);
        (0..connections)
            .map(|_| {
                Gateway::connect(&peer.endpoint, identity.clone())
                    .map_err(PerfError::client("cannot use the gateway"))
            })
            .collect()
    }

    /// Clients that collect and check the endorsements of the first organisations themselves.
    pub(crate) async fn direct_clients(
        &self,
        connections: usize,
        run: &Run,
    ) -> Result<Vec<DirectClient>, PerfError> {
        let identity = self.identity()?;
        let first = self.peer(1)?;
        let failed = || PerfError::client("cannot prepare direct submission");
        let client = PeerClient::new(&first.msp_id, &first.endpoint).map_err(failed())?;
        let info = ChannelInfo::fetch(&client, &identity, CHANNEL)
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
        let policy = dsl::parse(&policy(run)).map_err(|e| PerfError::Network(e.to_string()))?;
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

fn read(path: &Path) -> Result<Vec<u8>, PerfError> {
    std::fs::read(path).map_err(PerfError::file(path))
}

impl Drop for Network {
    fn drop(&mut self) {
        // A node that did not come up has nothing to stop; the folder goes in any case.
        drop(
            Command::new(&self.tools.binary)
                .args(["network", "down", "--network"])
                .arg(self.root())
                .stdin(Stdio::null())
                .output(),
        );
    }
}
