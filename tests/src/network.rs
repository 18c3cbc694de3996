//! A network of its own for a test.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{NodeFiles, binary, contracts};
use crate::{CHANNEL, ports, probe, within};

/// Host name of the first organisation's peer.
pub const ORG1_PEER: &str = "peer0.org1.example.com";
/// Host name of the second organisation's peer.
pub const ORG2_PEER: &str = "peer0.org2.example.com";

/// What kind of network a test needs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of orderers.
    pub orderers: usize,
    /// All nodes in one process.
    pub one_process: bool,
    /// With certificate authorities.
    pub authorities: bool,
    /// The `rfq` and `shipment` contracts are deployed.
    pub contracts: bool,
    /// The other contracts of the platform (`certify`, `process`, `ideas`, `reputation`) are deployed, too, and the first
    /// organisation has a second peer, so that there can be a majority of peers.
    pub platform: bool,
    /// The `probe` contract (see [`crate::probe`]) is deployed on every channel.
    pub probe: bool,
    /// Channels besides the usual one, each with the names of its organisations (`Org1`, `Org2`).
    pub more_channels: Vec<(String, Vec<String>)>,
    /// Largest block in bytes.
    pub absolute_max_bytes: u32,
    /// Transactions in a block at most.
    pub max_message_count: u32,
    /// The network file's `certificates`: how long they live, and when they are renewed.
    pub certificates: Option<Value>,
    /// Organisations (`Org1`) whose key material exists already, in a folder; they have no authority in the network file.
    pub material: Vec<(String, PathBuf)>,
}

impl Default for Options {
    /// Three orderers, two organisations with a peer each, `rfq`, `shipment` and `probe`, no certificate authorities.
    fn default() -> Self {
        Self {
            orderers: 3,
            one_process: false,
            authorities: false,
            contracts: true,
            platform: false,
            probe: true,
            more_channels: Vec::new(),
            absolute_max_bytes: 10 * 1024 * 1024,
            max_message_count: 500,
            certificates: None,
            material: Vec::new(),
        }
    }
}

/// A running network. It ends with its value; its folder stays only when the test failed.
#[derive(Debug)]
pub struct Network {
    folder: Option<TempDir>,
    dir: PathBuf,
    pub(crate) config: Value,
    one_process: bool,
}

fn network_file(options: &Options, dir: &Path) -> Value {
    let orderers: Vec<Value> = (0..options.orderers)
        .map(|n| json!({ "name": format!("orderer{n}"), "listen": ports::listen(), "admin_listen": ports::listen() }))
        .collect();
    let orgs: Vec<Value> = (1..=2)
        .map(|n| {
            let mut org = json!({
                "name": format!("Org{n}"),
                "msp_id": format!("Org{n}MSP"),
                "domain": format!("org{n}.example.com"),
                "users": 2,
                "peers": [{ "name": "peer0", "listen": ports::listen(), "operations_listen": ports::listen() }],
            });
            if options.platform && n == 1 {
                let peers = org["peers"].as_array_mut().expect("a list of peers");
                peers.push(json!({ "name": "peer1", "listen": ports::listen(), "operations_listen": ports::listen() }));
            }
            if options.authorities {
                org["ca"] = json!({ "name": format!("ca-org{n}"), "listen": ports::listen() });
            }
            org
        })
        .collect();
    let mut chaincodes = Vec::new();
    if options.contracts {
        let both = "AND('Org1MSP.peer','Org2MSP.peer')";
        let one = "OR('Org1MSP.peer','Org2MSP.peer')";
        let mut wanted = vec![("rfq", both), ("shipment", one)];
        if options.platform {
            wanted.extend([
                ("certify", one),
                ("process", both),
                ("ideas", both),
                ("reputation", both),
            ]);
        }
        for (name, policy) in wanted {
            let wasm = format!("{{contracts}}/selvedge_chaincode_{name}.wasm");
            chaincodes.push(json!({ "name": name, "channel": CHANNEL, "wasm": wasm, "policy": policy }));
        }
    }
    if options.probe {
        let wasm = dir.join("probe.wasm");
        std::fs::write(&wasm, probe::module()).expect("the probe's module is written");
        let both = vec!["Org1".to_owned(), "Org2".to_owned()];
        let more = options
            .more_channels
            .iter()
            .map(|(name, orgs)| (name.as_str(), orgs));
        for (channel, orgs) in std::iter::once((CHANNEL, &both)).chain(more) {
            let peers: Vec<String> = orgs.iter().map(|org| format!("'{org}MSP.peer'")).collect();
            let policy = format!("OR({})", peers.join(","));
            chaincodes.push(json!({ "name": "probe", "channel": channel, "wasm": wasm, "policy": policy }));
        }
    }
    let mut channels = vec![json!({
        "name": CHANNEL,
        "batch": {
            "max_message_count": options.max_message_count,
            "absolute_max_bytes": options.absolute_max_bytes,
            "preferred_max_bytes": (options.absolute_max_bytes / 2).min(2 * 1024 * 1024),
            "timeout": "500ms",
        },
    })];
    for (name, organizations) in &options.more_channels {
        channels.push(json!({ "name": name, "organizations": organizations }));
    }
    let mut orderer_org = json!({
        "name": "OrdererOrg", "msp_id": "OrdererMSP", "domain": "example.com", "orderers": orderers,
    });
    if options.authorities {
        orderer_org["ca"] = json!({ "name": "ca-orderer", "listen": ports::listen() });
    }
    let mut network = json!({
        "name": "system-test",
        "processes": if options.one_process { "one-process" } else { "process-per-node" },
        "orderer_organizations": [orderer_org],
        "peer_organizations": orgs,
        "channels": channels,
        "chaincodes": chaincodes,
    });
    if let Some(certificates) = &options.certificates {
        network["certificates"] = certificates.clone();
    }
    for (org, folder) in &options.material {
        for kind in ["orderer_organizations", "peer_organizations"] {
            for found in network[kind].as_array_mut().into_iter().flatten() {
                if found["name"] == org.as_str() {
                    found["material"] = json!(folder);
                    // Who keeps the key of its authority has that elsewhere.
                    found["ca"] = Value::Null;
                }
            }
        }
    }
    network
}

impl Network {
    /// Creates and starts a network with its channel and contracts.
    pub async fn up(options: Options) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("selvedge-test-")
            .tempdir()
            .expect("a temporary folder");
        let dir = folder.path().join("network");
        let config = network_file(&options, folder.path());
        let network = Self {
            dir,
            config,
            folder: Some(folder),
            one_process: options.one_process,
        };
        network.write_file();
        let start = Instant::now();
        network.bring_up().await;
        println!(
            "network is up after {} ms in {}",
            start.elapsed().as_millis(),
            network.dir.display()
        );
        network
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.with_file_name("network.yaml")
    }

    /// Writes the network file as it is now.
    pub(crate) fn write_file(&self) {
        let text = serde_yaml_ng::to_string(&self.config).expect("YAML");
        std::fs::write(self.file(), text).expect("the network file is written");
    }

    /// Runs `network up` (again): starts what does not run.
    pub async fn bring_up(&self) {
        let arguments = [
            "network".into(),
            "up".into(),
            "-f".into(),
            self.file().into_os_string(),
            "--dir".into(),
            self.dir.clone().into_os_string(),
            "--contracts".into(),
            contracts().into_os_string(),
        ];
        self.run(arguments)
            .await
            .unwrap_or_else(|why| panic!("{why}\n{}", self.logs(25)));
    }

    /// Runs the binary with arguments and `SELVEDGE_NETWORK` set; gives its standard output, or a text about its failure.
    pub async fn cli<S: AsRef<str>>(&self, arguments: &[S]) -> Result<String, String> {
        self.run(arguments.iter().map(|a| a.as_ref().into())).await
    }

    async fn run(&self, arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<String, String> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        let mut command = tokio::process::Command::new(binary());
        command
            .args(&arguments)
            .env("SELVEDGE_NETWORK", &self.dir)
            .stdin(std::process::Stdio::null());
        let running = command.kill_on_drop(true).output();
        let output = within("a selvedge command", Duration::from_secs(120), running)
            .await
            .expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(format!(
            "selvedge {} ended with {}:\n{}{}",
            arguments
                .iter()
                .map(|a| a.to_string_lossy())
                .collect::<Vec<_>>()
                .join(" "),
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        ))
    }

    /// The network's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a contract is deployed when the network comes up.
    pub fn has_contract(&self, name: &str) -> bool {
        let contracts = self.config["chaincodes"].as_array();
        contracts.is_some_and(|all| all.iter().any(|contract| contract["name"] == name))
    }

    /// A folder for other files of the test.
    pub fn scratch(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    fn org_nodes(&self, group: &str, key: &str) -> Vec<(String, Value)> {
        let orgs = self.config[group].as_array().cloned().unwrap_or_default();
        let mut nodes = Vec::new();
        for org in orgs {
            for node in org[key].as_array().into_iter().flatten() {
                let host = format!("{}.{}", text(&node["name"]), text(&org["domain"]));
                let mut node = node.clone();
                node["msp_id"] = org["msp_id"].clone();
                node["domain"] = org["domain"].clone();
                nodes.push((host, node));
            }
        }
        nodes
    }

    /// Host names of the orderers.
    pub fn orderers(&self) -> Vec<String> {
        self.org_nodes("orderer_organizations", "orderers")
            .into_iter()
            .map(|(host, _)| host)
            .collect()
    }

    /// Host names of the peers.
    pub fn peers(&self) -> Vec<String> {
        self.org_nodes("peer_organizations", "peers")
            .into_iter()
            .map(|(host, _)| host)
            .collect()
    }

    /// A node's entry in the network file, with its organisation's `msp_id` and `domain`.
    pub(crate) fn node(&self, host: &str) -> Value {
        let orderers = self.org_nodes("orderer_organizations", "orderers");
        let all = orderers
            .into_iter()
            .chain(self.org_nodes("peer_organizations", "peers"));
        let found = all.into_iter().find(|(name, _)| name == host);
        found.unwrap_or_else(|| panic!("there is no node {host}")).1
    }

    /// `host:port` at which a node is dialled.
    pub fn address(&self, host: &str) -> String {
        let listen = text(&self.node(host)["listen"]);
        listen.replace("127.0.0.1", "localhost")
    }

    pub(crate) fn files(&self, host: &str) -> NodeFiles {
        let name = if self.one_process { "all-nodes" } else { host };
        NodeFiles {
            dir: self.dir.join("nodes").join(name),
        }
    }

    /// Kills a node as a power cut would.
    pub fn kill(&self, host: &str) {
        assert!(
            self.files(host).kill(&self.dir),
            "{host} does not run:\n{}",
            self.files(host).log_tail(15)
        );
    }

    /// Starts a node again; whether it serves shows when it is asked.
    pub fn start(&self, host: &str) {
        let role = if self.orderers().iter().any(|o| o == host) {
            "orderer"
        } else {
            "peer"
        };
        self.files(host).start(role);
    }

    /// The process of a node.
    pub fn pid(&self, host: &str) -> Option<u32> {
        self.files(host).pid(&self.dir)
    }

    /// Whether a node's process runs.
    pub fn runs(&self, host: &str) -> bool {
        self.files(host).pid(&self.dir).is_some()
    }

    /// Panics when a node has ended by itself.
    pub fn all_run(&self) {
        for host in self.orderers().into_iter().chain(self.peers()) {
            assert!(
                self.runs(&host),
                "{host} has ended:\n{}",
                self.files(&host).log_tail(25)
            );
        }
    }

    /// The ends of all logs.
    pub fn logs(&self, lines: usize) -> String {
        let mut all = String::new();
        for dir in node_dirs(&self.dir) {
            let tail = NodeFiles { dir: dir.clone() }.log_tail(lines);
            all.push_str(&format!("--- {}\n{tail}\n", dir.join("node.log").display()));
        }
        all
    }

    /// Stops every node with `network down` and says when one had to be killed.
    pub async fn down(self) {
        let said = self
            .cli(&["network", "down"])
            .await
            .unwrap_or_else(|why| panic!("{why}"));
        for dir in node_dirs(&self.dir) {
            let files = NodeFiles { dir };
            assert!(
                files.pid(&self.dir).is_none(),
                "{} still runs: {said}",
                files.dir.display()
            );
        }
    }
}

fn node_dirs(network: &Path) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(network.join("nodes"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    dirs.sort();
    dirs
}

pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .map(str::to_owned)
        .unwrap_or_else(|| panic!("{value} is no text"))
}

impl Drop for Network {
    fn drop(&mut self) {
        for dir in node_dirs(&self.dir) {
            NodeFiles { dir }.kill(&self.dir);
        }
        if std::thread::panicking() {
            eprintln!("{}", self.logs(12));
            if let Some(folder) = self.folder.take() {
                eprintln!(
                    "the network's folder stays for a look: {}",
                    folder.keep().display()
                );
            }
        }
    }
}
