//! An edge gateway as a process, and a device for it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use selvedge_comm::{HttpAnswer, HttpClient, Method};
use selvedge_sdk::ClientTls;
use serde_json::{Value, json};

use crate::network::text;
use crate::process::{NodeFiles, kill, runs};
use crate::{EdgeProgram, Network, eventually, ports};

/// A device that an organisation's authority has enrolled.
#[derive(Debug, Clone)]
pub struct Device {
    /// Name in its certificate.
    pub name: String,
    /// Its organisation.
    pub msp_id: String,
    /// Folder of its certificate and key.
    pub msp_dir: PathBuf,
}

impl Network {
    /// Registers and enrols a device with the commands that a user would type.
    pub async fn enroll_device(&self, domain: &str, name: &str) -> Device {
        let dir = self.scratch().join("devices").join(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        let place = |file: &str| dir.join(file).to_string_lossy().into_owned();
        let (key, public, sealed, msp) = (
            place("key.pem"),
            place("key.pub"),
            place("secret.sealed"),
            place("msp"),
        );
        let roots = self.tls_root_file(domain).to_string_lossy().into_owned();
        let run = async |arguments: &[&str]| self.cli(arguments).await.unwrap_or_else(|e| panic!("{e}"));
        let printed = run(&["device", "key", "--key", &key]).await;
        std::fs::write(&public, printed).expect("a file");
        let register = ["device", "register", "--org", domain, "--public-key", &public];
        run(&[&register[..], &["--out", &sealed, name]].concat()).await;
        let enroll = [
            "device",
            "enroll",
            "--sealed",
            &sealed,
            "--tls-roots",
            &roots,
            "--key",
            &key,
        ];
        run(&[&enroll[..], &["--msp", &msp]].concat()).await;
        Device {
            name: name.to_owned(),
            msp_id: self.msp_id(domain),
            msp_dir: dir.join("msp"),
        }
    }
}

/// An edge gateway process. It ends with its value.
#[derive(Debug)]
pub struct Edge {
    program: EdgeProgram,
    files: NodeFiles,
    scratch: PathBuf,
    pid: AtomicU32,
    listen: String,
}

impl Edge {
    /// Starts an edge gateway that reaches each of `peers` (host name, address to dial) through TLS.
    pub async fn start(network: &Network, device: &Device, peers: &[(&str, &str)]) -> Self {
        Self::start_in(network, "edge", device, peers).await
    }

    /// As [`Self::start`], in a folder of its own, for more than one gateway.
    pub async fn start_in(network: &Network, folder: &str, device: &Device, peers: &[(&str, &str)]) -> Self {
        Self::start_with(network, folder, device, peers, &json!({})).await
    }

    /// As [`Self::start_in`], with another program; its folder has the device's name.
    pub async fn start_as(
        program: EdgeProgram,
        network: &Network,
        device: &Device,
        peers: &[(&str, &str)],
    ) -> Self {
        Self::begin(program, network, &device.name, device, peers, &json!({})).await
    }

    /// As [`Self::start_in`], with more settings.
    pub async fn start_with(
        network: &Network,
        folder: &str,
        device: &Device,
        peers: &[(&str, &str)],
        more: &Value,
    ) -> Self {
        Self::begin(EdgeProgram::here(), network, folder, device, peers, more).await
    }

    async fn begin(
        program: EdgeProgram,
        network: &Network,
        folder: &str,
        device: &Device,
        peers: &[(&str, &str)],
        more: &Value,
    ) -> Self {
        let listen = ports::listen();
        let dir = network.scratch().join(folder);
        std::fs::create_dir_all(&dir).expect("a folder");
        let peers: Vec<Value> = peers
            .iter()
            .map(|(host, address)| {
                let node = network.node(host);
                json!({
                    "address": address,
                    "msp_id": node["msp_id"],
                    "server_name": host,
                    "tls_roots": network.tls_root_file(&text(&node["domain"])),
                })
            })
            .collect();
        let domain = network.domain(&device.msp_id);
        let mut config = json!({
            "id": "edge0",
            "listen": listen,
            "msp_id": device.msp_id,
            "msp_dir": device.msp_dir,
            "data_dir": dir.join("data"),
            "uplink": {
                "peers": peers, "in_flight": 32, "first_pause": "50ms", "longest_pause": "1s", "deadline": "5s",
            },
        });
        if let Some((url, name)) = network.ca(&domain) {
            let settings = &network.config["certificates"];
            config["renewal"] = json!({
                "ca_url": url,
                "tls_roots": [network.tls_root_file(&domain)],
                "identity_ca": name,
                "at": settings["renew_at"].as_f64().unwrap_or(0.66),
                "check": settings["check"].as_str().unwrap_or("1h"),
            });
        }
        merge(&mut config, more);
        let files = NodeFiles { dir };
        std::fs::write(files.config(), serde_yaml_ng::to_string(&config).expect("YAML"))
            .expect("the configuration");
        let edge = Self {
            program,
            files,
            scratch: network.scratch().to_owned(),
            pid: AtomicU32::new(0),
            listen,
        };
        edge.restart().await;
        edge
    }

    /// Adds settings to the configuration file; they count from the next start on.
    pub fn configure(&self, more: &Value) {
        let text = std::fs::read_to_string(self.files.config()).expect("the configuration");
        let mut config: Value = serde_yaml_ng::from_str(&text).expect("YAML");
        for (name, value) in more.as_object().expect("settings by name") {
            config[name] = value.clone();
        }
        let text = serde_yaml_ng::to_string(&config).expect("YAML");
        std::fs::write(self.files.config(), text).expect("the configuration");
    }

    /// Folder of its files.
    pub fn folder(&self) -> &std::path::Path {
        &self.files.dir
    }

    /// Starts the process again after [`Self::kill`].
    pub async fn restart(&self) {
        let pid = self.files.start_program(self.program.command());
        self.pid.store(pid, Ordering::Relaxed);
        eventually("the edge gateway serves", Duration::from_secs(20), || async {
            let answer = http(Method::GET, &format!("{}/healthz", self.url()), &Value::Null).await;
            answer.map_err(|e| format!("{e}; its log:\n{}", self.log()))
        })
        .await;
    }

    /// Kills the process as a power cut would.
    pub fn kill(&self) {
        let pid = self.pid();
        assert!(
            runs(pid, &self.scratch),
            "the edge gateway has ended by itself:\n{}",
            self.log()
        );
        kill(pid);
    }

    fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Waits until so many requests are open in its buffer.
    pub async fn holds(&self, open: u64, limit: Duration) {
        let what = format!("{open} requests are open in the edge gateway's buffer");
        eventually(&what, limit, || async {
            let status = self.status().await?;
            if status["open"] == open {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .await;
    }

    /// Waits until a request has a state, and gives what is told of it.
    pub async fn reaches(&self, id: u64, state: &str, limit: Duration) -> Value {
        let url = format!("{}/v1/transactions/{id}", self.url());
        eventually(&format!("request {id} is {state}"), limit, || async {
            let view = crate::json(&http(Method::GET, &url, &Value::Null).await?.body);
            if view["state"] == state {
                Ok(view)
            } else {
                Err(view.to_string())
            }
        })
        .await
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.files.config()
    }

    /// Its log file.
    pub fn log_file(&self) -> PathBuf {
        self.files.log()
    }

    /// Base of its REST interface.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.files.log_tail(20)
    }

    /// What its buffer holds.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self) -> Result<Value, String> {
        let answer = http(Method::GET, &format!("{}/v1/status", self.url()), &Value::Null).await?;
        serde_json::from_slice(&answer.body).map_err(|e| e.to_string())
    }

    /// Resident memory in KiB.
    pub fn memory_kib(&self) -> u64 {
        let pid = self.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("process status");
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .expect("VmRSS");
        line.trim()
            .trim_end_matches(" kB")
            .trim()
            .parse()
            .expect("a number")
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- edge gateway\n{}", self.log());
        }
        // By its number, since the network's folder with the pid file may be gone by now.
        if runs(self.pid(), &self.scratch) {
            kill(self.pid());
        }
    }
}

fn merge(into: &mut Value, settings: &Value) {
    match (into, settings) {
        (Value::Object(into), Value::Object(settings)) => {
            for (name, value) in settings {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, settings) => *into = settings.clone(),
    }
}

/// Sends a request with a JSON body (none for `null`) and gives the answer, whatever its status.
///
/// # Errors
/// There is no answer.
pub async fn http(method: Method, url: &str, body: &Value) -> Result<HttpAnswer, String> {
    let client = HttpClient::new(ClientTls::default()).with_timeout(Duration::from_secs(10));
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    client
        .request(method, url, &[("content-type", "application/json")], body)
        .await
        .map_err(|e| e.to_string())
}
