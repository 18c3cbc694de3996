//! The edge gateway under measurement: its process, what it is given, and what it uses.
//!
//! ```text
//! footprint   program size, memory, bytes on disk, start after a kill      no network
//! cost        bytes to flash and instructions for a transaction            a network of its own
//! ```

pub(crate) mod cost;
pub(crate) mod footprint;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use selvedge_comm::{HttpClient, Method};
use selvedge_sdk::ClientTls;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::access::CONTRACT;
use crate::error::PerfError;
use crate::machine;

/// Readings in one call.
const LIST: u64 = 500;
const POLL: Duration = Duration::from_millis(50);
/// Memory that has not changed for so long stays as it is.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// How long memory may go on changing.
const LONGEST_UNREST: Duration = Duration::from_secs(60);

/// One line of the report.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// The project's own limit, if there is one.
    pub(crate) limit: Option<String>,
    /// The figure.
    pub(crate) measured: String,
    /// Whether it is inside the limit.
    pub(crate) holds: Option<bool>,
}

impl Figure {
    fn plain(what: impl Into<String>, measured: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            limit: None,
            measured: measured.into(),
            holds: None,
        }
    }

    fn limited(
        what: impl Into<String>,
        limit: impl Into<String>,
        measured: impl Into<String>,
        holds: bool,
    ) -> Self {
        Self {
            what: what.into(),
            limit: Some(limit.into()),
            measured: measured.into(),
            holds: Some(holds),
        }
    }

    /// As a row of a Markdown table.
    pub(crate) fn row(&self) -> String {
        let verdict = match self.holds {
            None => "",
            Some(true) => "holds",
            Some(false) => "**missed**",
        };
        format!(
            "| {} | {} | {} | {verdict} |",
            self.what,
            self.limit.as_deref().unwrap_or("-"),
            self.measured
        )
    }
}

/// The program, and an identity for it.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    /// `selvedge-edge`.
    pub(crate) program: PathBuf,
}

impl Bench {
    /// The given program, or the one beside this.
    pub(crate) fn find(program: Option<PathBuf>) -> Result<Self, PerfError> {
        let beside = || {
            let exe = std::env::current_exe().ok()?;
            Some(exe.parent()?.join("selvedge-edge"))
        };
        let program = program.or_else(beside).unwrap_or_default();
        if program.is_file() {
            return Ok(Self { program });
        }
        Err(PerfError::Network(format!(
            "there is no selvedge-edge at {}; build it with `cargo build --profile dist -p selvedge-edge`, or name it with \
             --edge",
            program.display()
        )))
    }
}

/// Who endorses for a gateway, and how it goes to the network.
#[derive(Debug, Clone)]
pub(crate) struct Uplink {
    /// `gateway` or `direct`.
    pub(crate) mode: &'static str,
    /// The `peers` of its configuration.
    pub(crate) peers: Value,
    /// Its organisation.
    pub(crate) msp_id: String,
    /// Its certificate and key.
    pub(crate) msp_dir: PathBuf,
}

impl Uplink {
    /// An uplink that reaches nobody: on port 1 nobody listens. Writes the identity into `dir`.
    pub(crate) fn to_nobody(dir: &Path) -> Result<Self, PerfError> {
        let msp_dir = dir.join("msp");
        crate::edge::identity::write(&msp_dir)?;
        Ok(Self {
            mode: "gateway",
            peers: json!([{ "address": "127.0.0.1:1", "msp_id": "Org1MSP" }]),
            msp_id: "Org1MSP".to_owned(),
            msp_dir,
        })
    }
}

mod identity {
    //! A certificate that nobody checks, for a gateway that reaches nobody.

    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::{SystemTime, UNIX_EPOCH};

    use selvedge_msp::dir::{MspDirContents, write_msp_dir};
    use selvedge_msp::{
        CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SubjectExtra, Usage, Validity,
    };

    use crate::error::PerfError;

    pub(super) fn write(dir: &Path) -> Result<(), PerfError> {
        let failed = |e: String| PerfError::Network(format!("cannot make an identity: {e}"));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_secs()).unwrap_or(i64::MAX - 100_000);
        let validity = Validity {
            not_before: now - 300,
            not_after: now + 86_400,
        };
        let subject = CaSubject {
            common_name: "ca".into(),
            ..CaSubject::default()
        };
        let ca =
            CertificateAuthority::generate_root(&subject, &validity).map_err(|e| failed(e.to_string()))?;
        let key = PrivateKey::generate().map_err(|e| failed(e.to_string()))?;
        let certificate = ca
            .issue(&IssueRequest {
                public_key: key.public_key().clone(),
                common_name: "edge".into(),
                organizational_units: vec!["client".into()],
                dns_names: Vec::new(),
                ip_addresses: Vec::new(),
                attributes: BTreeMap::new(),
                usage: Usage::Identity,
                not_before: validity.not_before,
                not_after: validity.not_after,
                subject_extra: SubjectExtra::default(),
            })
            .map_err(|e| failed(e.to_string()))?;
        let contents = MspDirContents {
            signcert: Some(("cert.pem".into(), certificate)),
            key: Some(key),
            ..MspDirContents::default()
        };
        write_msp_dir(dir, &contents).map_err(|e| failed(e.to_string()))
    }
}

/// A running gateway. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Gateway {
    command: Vec<String>,
    folder: PathBuf,
    listen: String,
    child: Child,
    http: HttpClient,
}

impl Gateway {
    /// Starts a gateway with its files in `folder`; `before` are words before the program, such as valgrind's.
    pub(crate) async fn start(
        bench: &Bench,
        folder: &TempDir,
        uplink: &Uplink,
        before: &[String],
    ) -> Result<Self, PerfError> {
        let folder = folder.path().to_owned();
        let listen = format!("127.0.0.1:{}", crate::network::free_ports(1)?[0]);
        let config = json!({
            "id": "bench",
            "listen": listen,
            "msp_id": uplink.msp_id,
            "msp_dir": uplink.msp_dir,
            "data_dir": folder.join("data"),
            "uplink": { "mode": uplink.mode, "peers": uplink.peers },
            "buffer": { "max_entries": 10_000_000, "max_bytes": 4_000_000_000_u64 },
        });
        let file = folder.join("edge.yaml");
        // JSON is YAML.
        std::fs::write(&file, config.to_string()).map_err(PerfError::file(&file))?;
        let mut command: Vec<String> = before.to_vec();
        command.push(bench.program.display().to_string());
        command.extend([
            "start".to_owned(),
            "--config".to_owned(),
            file.display().to_string(),
        ]);
        let mut gateway = Self {
            child: spawn(&command, &folder)?,
            command,
            folder,
            listen,
            http: HttpClient::new(ClientTls::default()).with_timeout(Duration::from_secs(60)),
        };
        gateway.ready().await?;
        Ok(gateway)
    }

    async fn ready(&mut self) -> Result<(), PerfError> {
        let start = Instant::now();
        while self.get("/healthz").await.is_none() {
            let ended = self.child.try_wait().map_err(PerfError::file(&self.folder))?;
            if ended.is_some() || start.elapsed() > Duration::from_secs(300) {
                let log = std::fs::read_to_string(self.folder.join("edge.log")).unwrap_or_default();
                let from = log.len().saturating_sub(2000);
                let tail = log.get(from..).unwrap_or_default();
                return Err(PerfError::Network(format!(
                    "the edge gateway does not come up:\n{tail}"
                )));
            }
            tokio::time::sleep(POLL / 10).await;
        }
        Ok(())
    }

    /// Kills it as a power cut would, starts it again, and says how long it took until it served.
    pub(crate) async fn power_cut(&mut self) -> Result<Duration, PerfError> {
        self.kill();
        let start = Instant::now();
        self.child = spawn(&self.command, &self.folder)?;
        self.ready().await?;
        Ok(start.elapsed())
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Ends it with SIGTERM and waits for its end.
    pub(crate) fn stop(mut self) -> Result<(), PerfError> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        sent.map_err(PerfError::file(Path::new("kill")))?;
        self.child.wait().map_err(PerfError::file(&self.folder))?;
        Ok(())
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}{path}", self.listen);
        let answer = self.http.request(Method::GET, &url, &[], "").await.ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    /// What it says of itself.
    pub(crate) async fn status(&self) -> Value {
        self.get("/v1/status").await.unwrap_or_default()
    }

    async fn post(&self, first: u64, count: u64) -> Result<(), PerfError> {
        let list: Vec<Value> = (first..first + count).map(request).collect();
        let body = match list.as_slice() {
            [one] => one.to_string(),
            _ => Value::Array(list).to_string(),
        };
        let url = format!("http://{}/v1/transactions", self.listen);
        let answer = self
            .http
            .request(Method::POST, &url, &[("content-type", "application/json")], body)
            .await
            .map_err(|e| PerfError::Network(format!("the edge gateway takes no readings: {e}")))?;
        if answer.status.as_u16() == 202 {
            return Ok(());
        }
        Err(PerfError::Network(format!(
            "the edge gateway takes no readings: HTTP {}, {}",
            answer.status.as_u16(),
            String::from_utf8_lossy(&answer.body)
        )))
    }

    /// Hands over readings `first..first + count`, `list` in a call.
    pub(crate) async fn give(&self, first: u64, count: u64, list: u64) -> Result<(), PerfError> {
        let end = first + count;
        let mut next = first;
        while next < end {
            let many = list.min(end - next);
            self.post(next, many).await?;
            next += many;
        }
        Ok(())
    }

    /// Hands over readings in long lists.
    pub(crate) async fn fill(&self, first: u64, count: u64) -> Result<(), PerfError> {
        self.give(first, count, LIST).await
    }

    /// Waits until nothing is open.
    pub(crate) async fn drained(&self, limit: Duration) -> Result<(), PerfError> {
        let start = Instant::now();
        loop {
            let status = self.status().await;
            if status["open"] == 0 {
                return Ok(());
            }
            if start.elapsed() > limit {
                return Err(PerfError::Network(format!("the buffer does not empty: {status}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        machine::resident_kib(self.child.id()).map_or(0, |(now, _)| now)
    }

    /// Resident memory in KiB once it stays the same: an idle gateway gives back what it needed only to take readings.
    pub(crate) async fn settled_kib(&self) -> u64 {
        let start = Instant::now();
        let (mut last, mut since) = (self.resident_kib(), start);
        while since.elapsed() < SETTLED_AFTER && start.elapsed() < LONGEST_UNREST {
            tokio::time::sleep(POLL).await;
            let now = self.resident_kib();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }

    /// Bytes that the kernel wrote to a disk for it (`write_bytes` of `/proc/PID/io`: whole pages).
    pub(crate) fn device_bytes(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap_or_default();
        let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: "));
        line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }

    /// Bytes of its buffer's files.
    pub(crate) fn buffer_bytes(&self) -> u64 {
        machine::folder_bytes(&self.folder.join("data/buffer"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(command: &[String], folder: &Path) -> Result<Child, PerfError> {
    let log = folder.join("edge.log");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(PerfError::file(&log))?;
    let (program, arguments) = command
        .split_first()
        .map_or(("", [].as_slice()), |(p, a)| (p.as_str(), a));
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(PerfError::file(Path::new(program)))
}

/// What a container's tracker reports in one row, as text: the payload.
fn reading(number: u64) -> String {
    format!(
        "{{\"shipment\":\"S-2016-0047\",\"stream\":\"tracker\",\"sequence\":{number},\"time\":\"2016-01-21T09:26:40Z\",\
         \"position\":{{\"lat\":\"51.338712\",\"lon\":\"12.404361\",\"accuracy\":\"cellid\"}},\
         \"values\":{{\"temperature\":\"-12.5\",\"humidity\":\"41.0\",\"shock\":\"0.16\",\"tilt\":\"3\",\"light\":\"0\"}}}}"
    )
}

/// Bytes of a reading as its device made it.
pub(crate) fn payload_bytes() -> u64 {
    reading(1_234_567).len() as u64
}

fn request(number: u64) -> Value {
    json!({
        "channel": CONTRACT, "chaincode": CONTRACT, "function": "put",
        "args": [format!("edge-{number}"), reading(number)],
        "source": "tracker", "idempotencyKey": format!("edge/{number}"),
    })
}

/// A folder for a gateway's files.
pub(crate) fn folder() -> Result<TempDir, PerfError> {
    TempDir::with_prefix("selvedge-perf-edge-")
        .map_err(|e| PerfError::Network(format!("cannot make a temporary folder: {e}")))
}
