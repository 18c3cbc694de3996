//! The network of one run: started in a temporary folder on free ports, and stopped with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::access::{Access, CONTRACT, domain, msp_id, peer_host, policy};
use crate::edge::Uplink;
use crate::error::PerfError;
use crate::machine;
use crate::matrix::Run;

const CONTRACT_FILE: &str = "selvedge_chaincode_bench.wasm";
/// A node that does not stop, or start, within this time never will.
const NODE_TIME: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

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

    /// The selvedge binary.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
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

impl NodeProcess {
    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.pid).ok()?)
    }

    fn runs(&self) -> bool {
        self.pid()
            .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }
}

/// A running network. Dropping it stops the nodes and deletes what they stored.
#[derive(Debug)]
pub(crate) struct Network {
    tools: Tools,
    access: Access,
    /// Nodes that this process started itself.
    children: Mutex<Vec<Child>>,
    /// How long it took to come up.
    pub(crate) start: Duration,
    // Last: the folder goes when the nodes are stopped.
    _folder: TempDir,
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

fn description(run: &Run, access: &Access, admin_ports: &[u16]) -> Value {
    let listen = |port: Option<&u16>| format!("127.0.0.1:{}", port.copied().unwrap_or_default());
    let orderers: Vec<Value> = (0..run.orderers)
        .map(|n| {
            json!({
                "name": format!("orderer{n}"), "listen": listen(access.orderer_ports.get(n)),
                "admin_listen": listen(admin_ports.get(n)),
            })
        })
        .collect();
    let organizations: Vec<Value> = (1..=run.organizations)
        .map(|n| {
            json!({
                "name": format!("Org{n}"), "msp_id": msp_id(n), "domain": domain(n), "users": run.devices.max(1),
                "peers": [{ "name": "peer0", "listen": listen(access.peer_ports.get(n - 1)) }],
            })
        })
        .collect();
    let policy = policy(run.endorsers, run.organizations);
    let channels = access.channels.iter().map(|name| {
        json!({
            "name": name,
            "batch": {
                "max_message_count": run.block_transactions, "absolute_max_bytes": 99 * 1024 * 1024,
                "preferred_max_bytes": 16 * 1024 * 1024, "timeout": run.block_timeout,
            },
        })
    });
    let chaincodes = access.channels.iter().map(|name| {
        json!({ "name": CONTRACT, "channel": name, "wasm": format!("{{contracts}}/{CONTRACT_FILE}"), "policy": policy })
    });
    json!({
        "name": "bench",
        "orderer_organizations": [
            { "name": "OrdererOrg", "msp_id": "OrdererMSP", "domain": "example.com", "orderers": orderers },
        ],
        "peer_organizations": organizations,
        "channels": channels.collect::<Vec<_>>(),
        "chaincodes": chaincodes.collect::<Vec<_>>(),
    })
}

/// The first channel is called as the contract, further ones get a number.
fn channel_names(count: usize) -> Vec<String> {
    let name = |n| match n {
        0 => CONTRACT.to_owned(),
        n => format!("{CONTRACT}{n}"),
    };
    (0..count).map(name).collect()
}

impl Network {
    /// Starts nodes, channels and contract for a run.
    pub(crate) fn start(run: &Run, tools: &Tools) -> Result<Self, PerfError> {
        let folder = TempDir::with_prefix("selvedge-perf-").map_err(|e| {
            PerfError::Network(format!(
                "cannot make a temporary folder for the network's data: {e}"
            ))
        })?;
        let mut ports = free_ports(2 * run.orderers + run.organizations)?;
        let peer_ports = ports.split_off(2 * run.orderers);
        let admin_ports = ports.split_off(run.orderers);
        let access = Access {
            root: folder.path().join("network"),
            organizations: run.organizations,
            endorsers: run.endorsers,
            channels: channel_names(run.channels),
            peer_ports,
            orderer_ports: ports,
        };
        let file = folder.path().join("network-file.yaml");
        // JSON is YAML.
        let description = description(run, &access, &admin_ports);
        std::fs::write(&file, description.to_string()).map_err(PerfError::file(&file))?;
        let mut network = Self {
            tools: tools.clone(),
            access,
            children: Mutex::default(),
            start: Duration::ZERO,
            _folder: folder,
        };
        let began = Instant::now();
        let output = Command::new(&tools.binary)
            .args(["network", "up", "--file"])
            .arg(&file)
            .arg("--dir")
            .arg(&network.access.root)
            .arg("--contracts")
            .arg(&tools.contracts)
            .stdin(Stdio::null())
            .output()
            .map_err(PerfError::file(&tools.binary))?;
        network.start = began.elapsed();
        if output.status.success() {
            return Ok(network);
        }
        Err(PerfError::Network(format!(
            "the network does not come up:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )))
    }

    /// How clients reach it.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    fn node(&self, name: &str) -> PathBuf {
        self.access.root.join("nodes").join(name)
    }

    /// The folder of a node's data.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.node(name).join("data")
    }

    /// The genesis block of the first channel.
    pub(crate) fn genesis(&self) -> PathBuf {
        self.access
            .root
            .join("channels")
            .join(format!("{CONTRACT}.block"))
    }

    /// The nodes' processes, by name.
    pub(crate) fn processes(&self) -> Vec<NodeProcess> {
        let mut found = Vec::new();
        let Ok(nodes) = std::fs::read_dir(self.access.root.join("nodes")) else {
            return found;
        };
        for node in nodes.flatten() {
            let pid = std::fs::read_to_string(node.path().join("pid"));
            if let Some(pid) = pid.ok().and_then(|p| p.trim().parse().ok()) {
                let name = node.file_name().to_string_lossy().into_owned();
                found.push(NodeProcess { name, pid });
            }
        }
        found.retain(NodeProcess::runs);
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Bytes on disk by node.
    pub(crate) fn disk(&self, node: &str) -> u64 {
        machine::folder_bytes(&self.data(node))
    }

    /// How an edge gateway of the first organisation reaches the network: through its own peer, or directly with the
    /// peers of the first `endorsers` organisations.
    pub(crate) fn edge_uplink(&self, mode: &'static str, endorsers: usize) -> Uplink {
        let access = &self.access;
        let dialled = if mode == "direct" { endorsers } else { 1 };
        let peers: Vec<Value> = (1..=dialled)
            .map(|org| {
                let roots = format!("tlsca/tlsca.{}-cert.pem", domain(org));
                json!({
                    "address": format!("localhost:{}", access.peer_ports.get(org - 1).copied().unwrap_or_default()),
                    "msp_id": msp_id(org),
                    "server_name": peer_host(org),
                    "tls_roots": access.organization(org).join(roots),
                })
            })
            .collect();
        let user = format!("users/User1@{}/msp", domain(1));
        Uplink {
            mode,
            peers: Value::Array(peers),
            msp_id: msp_id(1),
            msp_dir: access.organization(1).join(user),
        }
    }

    /// Stops all peers, so that orderers work alone.
    pub(crate) async fn stop_peers(&self) -> Result<(), PerfError> {
        let peers: Vec<NodeProcess> = self
            .processes()
            .into_iter()
            .filter(|node| (1..=self.access.organizations).any(|org| node.name == peer_host(org)))
            .collect();
        for peer in &peers {
            if let Some(pid) = peer.pid() {
                // An error means that it is gone already.
                let _ = rustix::process::kill_process(pid, Signal::TERM);
            }
        }
        let end = Instant::now() + NODE_TIME;
        while let Some(left) = peers.iter().find(|p| p.runs()) {
            if Instant::now() > end {
                return Err(PerfError::Network(format!("{} does not stop", left.name)));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Starts an organisation's stopped peer without anything that it stored before.
    pub(crate) async fn start_fresh_peer(&self, org: usize) -> Result<NodeProcess, PerfError> {
        let host = peer_host(org);
        let data = self.data(&host);
        std::fs::remove_dir_all(&data).map_err(PerfError::file(&data))?;
        let log = self.node(&host).join("node.log");
        let log = std::fs::OpenOptions::new()
            .append(true)
            .open(&log)
            .map_err(PerfError::file(&log))?;
        let child = Command::new(&self.tools.binary)
            .args(["peer", "start", "--config"])
            .arg(self.node(&host).join("config.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(PerfError::file(&self.tools.binary))?;
        let pid = child.id();
        self.children
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(child);
        let file = self.node(&host).join("pid");
        std::fs::write(&file, pid.to_string()).map_err(PerfError::file(&file))?;
        let port = self.access.peer_ports.get(org - 1).copied().unwrap_or_default();
        let end = Instant::now() + NODE_TIME;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if Instant::now() > end {
                return Err(PerfError::Network(format!("{host} does not listen")));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(NodeProcess { name: host, pid })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // A node that did not come up has nothing to stop; the folder goes in any case.
        drop(
            Command::new(&self.tools.binary)
                .args(["network", "down", "--network"])
                .arg(&self.access.root)
                .stdin(Stdio::null())
                .output(),
        );
        for child in self.children.get_mut().unwrap_or_else(PoisonError::into_inner) {
            drop(child.wait());
        }
    }
}
