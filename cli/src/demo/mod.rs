//! The main story end to end, told in the commands that a user would type.
//!
//! Two companies negotiate an order, what they agree on becomes the terms of a shipment, and a device in the container
//! reports its journey through an edge gateway whose network is cut and whose process is killed on the way. At the end
//! both companies see the same journey, and every reading is on the ledger once.

mod checks;
mod proxy;
mod shell;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::proxy::Proxy;
use self::shell::Shell;
use crate::args::{DemoArgs, ReplayArgs};
use crate::edge;
use crate::error::{CliError, During};
use crate::network;
use crate::network::nodes;
use crate::network::process::NodeProcess;
use crate::session::Session;

const CHANNEL: &str = "trade";
const BUYER: &str = "User1@org1.example.com";
const SUPPLIER: &str = "User1@org2.example.com";
const SUPPLIER_DOMAIN: &str = "org2.example.com";
const DEVICE: &str = "container-tracker";
const SHIPMENT: &str = "shipment-1";
const POLL: Duration = Duration::from_millis(20);
/// How long the nodes are left alone before their memory counts as that of idle ones.
const UNTIL_IDLE: Duration = Duration::from_secs(3);
/// A step that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs `selvedge demo`.
pub(crate) async fn run(args: DemoArgs) -> Result<(), CliError> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("selvedge-demo-{}", std::process::id())),
    };
    if dir.exists() {
        return Err(CliError::said(format!(
            "{} exists already; the demo wants a folder of its own (--dir)",
            dir.display()
        )));
    }
    let mut demo = Demo::new(args, dir.clone())?;
    let result = demo.tell().await;
    if demo.args.keep && result.is_ok() {
        demo.open_pages().await?;
        println!(
            "\nThe network goes on; end it with: selvedge network down --network {} --delete",
            dir.display()
        );
        return Ok(());
    }
    if result.is_err() {
        eprintln!(
            "the demo's network stays in {} for a look at its logs",
            dir.display()
        );
        stop_nodes(&dir);
    } else {
        demo.shell
            .run_quietly(&["network", "down", "--delete"], 20)
            .await?;
        println!(
            "\nThe same in a browser: `make demo KEEP=1` leaves the network running and prints where each company's page is."
        );
    }
    result
}

fn stop_nodes(dir: &Path) {
    if let Ok(session) = Session::open(dir) {
        for node in nodes::all(&session) {
            if let Some(process) = NodeProcess::find(&node.layout) {
                process.stop();
            }
        }
    }
}

struct Demo {
    args: DemoArgs,
    dir: PathBuf,
    shell: Shell,
    figures: Vec<(String, String)>,
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Waits until `done` holds; `what` names it for the error.
async fn wait_for<F, R>(what: &str, mut done: F) -> Result<(), CliError>
where
    F: FnMut() -> R,
    R: Future<Output = Result<bool, CliError>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match done().await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
        }
        if Instant::now() > deadline {
            return Err(CliError::said(format!(
                "waited {} for {what}, in vain",
                seconds(PATIENCE)
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

impl Demo {
    fn new(args: DemoArgs, dir: PathBuf) -> Result<Self, CliError> {
        let shell = Shell::new(&dir)?;
        Ok(Self {
            args,
            dir,
            shell,
            figures: Vec::new(),
        })
    }

    fn figure(&mut self, name: &str, value: String) {
        println!("    → {name}: {value}");
        self.figures.push((name.to_owned(), value));
    }

    /// A figure that must stay under a limit, both in the unit that `text` is made for.
    fn limited(&mut self, name: &str, measured: f64, limit: f64, text: impl Fn(f64) -> String) {
        let verdict = if measured < limit {
            "limit"
        } else {
            "OVER THE LIMIT of"
        };
        self.figure(name, format!("{} ({verdict} {})", text(measured), text(limit)));
    }

    async fn tell(&mut self) -> Result<(), CliError> {
        println!("Selvedge demo. Every command below can be typed as it stands, after:");
        println!("$ export SELVEDGE_NETWORK={}", self.dir.display());
        let session = self.bring_up().await?;
        self.negotiate().await?;
        self.ship().await?;
        let sent = self.travel(&session).await?;
        self.look(&session, sent).await?;
        self.lose_the_leader(&session).await?;
        self.report(&session).await;
        Ok(())
    }

    async fn bring_up(&mut self) -> Result<Session, CliError> {
        self.shell
            .step("A consortium: three orderers, two companies with a peer and a certificate authority each");
        let started = Instant::now();
        let file = self.args.file.to_string_lossy().into_owned();
        let dir = self.dir.to_string_lossy().into_owned();
        let contracts = network::contracts_folder(self.args.contracts.as_deref());
        let contracts = contracts.to_string_lossy().into_owned();
        self.shell
            .run(&[
                "network",
                "up",
                "-f",
                &file,
                "--dir",
                &dir,
                "--contracts",
                &contracts,
            ])
            .await?;
        self.shell.step(
            "A buyer (Org1) offers: stainless steel cutting, 200 pieces at 20 USD, kept cool on the way",
        );
        let offer = json!({
            "id": "rfq-1", "item": "Stainless Steel Cutting", "price": "20", "quantity": "200", "currency": "USD",
            "conditions": [
                { "field": "temperature", "min": "-25", "max": "40" },
                { "field": "humidity", "min": "0", "max": "10" },
            ],
            "target": "Org2MSP",
        });
        self.invoke(BUYER, "rfq", "offer", &[&offer.to_string()]).await?;
        self.limited(
            "network up to first committed transaction",
            started.elapsed().as_secs_f64(),
            5.0,
            |s| seconds(Duration::from_secs_f64(s)),
        );
        let session = Session::open(&self.dir)?;
        tokio::time::sleep(UNTIL_IDLE).await;
        let memory = network::memory_report(&session);
        let idle: u64 = memory.iter().map(|(_, now, _)| now).sum();
        self.limited(
            &format!("memory of all {} processes, idle", memory.len()),
            megabytes(idle),
            250.0,
            |mb| format!("{mb:.0} MB"),
        );
        Ok(session)
    }

    async fn invoke(
        &self,
        who: &str,
        chaincode: &str,
        function: &str,
        args: &[&str],
    ) -> Result<String, CliError> {
        let mut command = vec!["chaincode", "invoke", "--as", who, "-n", chaincode, function];
        command.extend_from_slice(args);
        self.shell.run_quietly(&command, 6).await
    }

    async fn negotiate(&mut self) -> Result<(), CliError> {
        self.shell
            .step("It is not the buyer's turn now; the network says so");
        let early = [
            "chaincode",
            "invoke",
            "--as",
            BUYER,
            "-n",
            "rfq",
            "accept",
            "rfq-1",
        ];
        self.shell.run_refused(&early).await?;

        self.shell
            .step("The supplier (Org2) counters: 30 USD, and humidity is dropped; the buyer accepts");
        let counter = json!({
            "id": "rfq-1",
            "changes": {
                "fields": [{ "field": "price", "newValue": "30" }],
                "conditions": [],
                "removedConditions": ["humidity"],
            },
            "note": "Steel has become dearer; the boxes are not airtight.",
        });
        self.invoke(SUPPLIER, "rfq", "counterOffer", &[&counter.to_string()])
            .await?;
        self.invoke(BUYER, "rfq", "accept", &["rfq-1"]).await?;
        let query = [
            "chaincode",
            "query",
            "--as",
            BUYER,
            "-n",
            "rfq",
            "history",
            "rfq-1",
        ];
        self.shell.run_quietly(&query, 60).await?;
        Ok(())
    }

    async fn ship(&mut self) -> Result<(), CliError> {
        self.shell
            .step("What they agreed on becomes the terms of a shipment; only this device may report on it");
        let create = json!({
            "rfq": "rfq-1", "id": SHIPMENT, "devices": [DEVICE], "directHandover": true,
        });
        self.invoke(SUPPLIER, "shipment", "createFromRfq", &[&create.to_string()])
            .await?;
        Ok(())
    }

    /// The device's journey. Returns how many readings were handed to the edge gateway.
    async fn travel(&mut self, session: &Session) -> Result<usize, CliError> {
        self.shell.step(
            "The device makes a key; its company's authority registers it, and only the device can read the secret",
        );
        let org = session.peer_org(SUPPLIER_DOMAIN)?;
        let roots = session.layout.peer_org(SUPPLIER_DOMAIN).tls_ca_certificate();
        let roots = roots.to_string_lossy().into_owned();
        let place = |name: &str| self.dir.join("edge").join(name).to_string_lossy().into_owned();
        let (key, public, sealed, msp) = (
            place("device.key"),
            place("device.pub"),
            place("device.sealed"),
            place("msp"),
        );
        let printed = self.shell.run(&["device", "key", "--key", &key]).await?;
        std::fs::write(&public, printed).map_err(|source| CliError::WriteFile {
            path: public.clone().into(),
            source,
        })?;
        let register = [
            "device",
            "register",
            "--org",
            SUPPLIER_DOMAIN,
            "--public-key",
            &public,
        ];
        self.shell
            .run(&[&register[..], &["--out", &sealed, DEVICE]].concat())
            .await?;
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
        self.shell.run(&[&enroll[..], &["--msp", &msp]].concat()).await?;

        self.shell
            .step("The edge gateway starts; it reaches its peer over a network that we can cut");
        let peer = session.peer_for(SUPPLIER, None)?;
        let proxy = Proxy::start(peer.node.listen.clone()).await?;
        let port = free_port().await?;
        let address = format!("http://127.0.0.1:{port}");
        let config = self.write_edge_config(
            &format!("127.0.0.1:{port}"),
            proxy.address(),
            &peer.host(),
            &org.msp_id,
            &roots,
        )?;
        let log = self.dir.join("edge/edge.log");
        let mut gateway = self.shell.start_edge(&config, &log)?;
        let up = || async { Ok(edge::fetch_status(&address).await.is_ok()) };
        wait_for("the edge gateway to serve", up).await?;

        let csv = self.args.data.clone();
        let replay_args = ReplayArgs {
            edge: address.clone(),
            csv: csv.clone(),
            channel: CHANNEL.to_owned(),
            shipment: SHIPMENT.to_owned(),
            stream: "tracker".to_owned(),
            limit: None,
        };
        let total = edge::requests_of(&csv, &replay_args)?.len();
        self.shell.step(&format!(
            "The container travels: {total} readings of {}; on the way the network is cut and the gateway killed",
            csv.display()
        ));
        let started = Instant::now();
        let csv_text = csv.to_string_lossy().into_owned();
        let replay = [
            "edge",
            "replay",
            "--edge",
            &address,
            "--csv",
            &csv_text,
            "--shipment",
            SHIPMENT,
        ];
        let mut replaying = self.shell.start(&replay)?;

        let some = u64::try_from(total / 4).unwrap_or(1).max(1);
        let committed = || async { Ok(edge_count(&address, "committed").await? >= some) };
        wait_for("a quarter of the readings to be committed", committed).await?;
        let weight = resident_kib(gateway.id());
        proxy.cut();
        println!(
            "    the network is cut after {} committed readings",
            edge_count(&address, "committed").await?
        );
        let lost = || async {
            let status = edge::fetch_status(&address).await?;
            Ok(status["uplink"]["connected"] == json!(false))
        };
        wait_for("the gateway to notice", lost).await?;
        let open = edge::fetch_status(&address).await?["open"].clone();
        gateway
            .kill()
            .await
            .during(|| "cannot kill the edge gateway".to_owned())?;
        println!("    the gateway is killed (SIGKILL) with {open} readings in its buffer, and started again");
        gateway = self.shell.start_edge(&config, &log)?;
        wait_for("the edge gateway to serve again", up).await?;
        let status = replaying
            .wait()
            .await
            .during(|| "the replay broke off".to_owned())?;
        if !status.success() {
            return Err(CliError::said(
                "the demo stops: the readings were not taken by the edge gateway",
            ));
        }
        println!(
            "    while the network is down, everything is kept: {} open",
            edge_count(&address, "open").await?
        );
        proxy.restore();
        println!("    the network is back");
        let drained = || async { Ok(edge_count(&address, "open").await? == 0) };
        wait_for("the buffer to be empty", drained).await?;
        let time = started.elapsed();
        self.shell.run(&["edge", "status", "--edge", &address]).await?;
        self.figure("journey recorded, outage and restart included", seconds(time));
        let heaviest = weight.max(resident_kib(gateway.id()));
        self.limited("edge gateway, resident", megabytes(heaviest), 30.0, |mb| {
            format!("{mb:.1} MB")
        });
        gateway
            .kill()
            .await
            .during(|| "cannot stop the edge gateway".to_owned())?;
        Ok(total)
    }

    fn write_edge_config(
        &self,
        listen: &str,
        peer: &str,
        host: &str,
        msp_id: &str,
        roots: &str,
    ) -> Result<String, CliError> {
        let config = json!({
            "id": "edge-gateway-1",
            "listen": listen,
            "msp_id": msp_id,
            "msp_dir": "msp",
            "data_dir": "data",
            "uplink": {
                "peers": [{ "address": peer, "msp_id": msp_id, "server_name": host, "tls_roots": std::path::absolute(roots).during(|| "no working folder".to_owned())? }],
                "longest_pause": "2s",
            },
        });
        let path = self.dir.join("edge/edge.yaml");
        let text = serde_yaml_ng::to_string(&config)
            .during(|| "cannot write the edge's configuration".to_owned())?;
        std::fs::write(&path, text).map_err(|source| CliError::WriteFile {
            path: path.clone(),
            source,
        })?;
        Ok(path.to_string_lossy().into_owned())
    }

    async fn summary(&self, who: &str) -> Result<Value, CliError> {
        let wanted = json!({ "shipment": SHIPMENT, "maxViolations": 3, "maxRoute": 5 }).to_string();
        let query = [
            "chaincode",
            "query",
            "--as",
            who,
            "-n",
            "shipment",
            "summary",
            &wanted,
        ];
        let text = self.shell.run_quietly(&query, 4).await?;
        serde_json::from_str(&text).during(|| "the summary is not JSON".to_owned())
    }

    async fn look(&mut self, session: &Session, sent: usize) -> Result<(), CliError> {
        self.shell
            .step("Both companies look at the journey, each at its own peer");
        checks::wait_for_equal_heights(session, CHANNEL).await?;
        let at_buyer = self.summary(BUYER).await?;
        let at_supplier = self.summary(SUPPLIER).await?;
        if at_buyer != at_supplier {
            return Err(CliError::said(
                "the demo stops: the two peers do not show the same journey",
            ));
        }
        println!("    the same on both peers:");
        checks::print_summary(&at_buyer);
        let recorded = at_buyer["readings"].as_u64().unwrap_or(0);
        let on_chain = checks::transactions_of_device(session, CHANNEL, DEVICE).await?;
        let sent_count = u64::try_from(sent).unwrap_or(u64::MAX);
        self.figure(
            "readings sent / on the ledger / valid transactions",
            format!("{sent} / {recorded} / {}", on_chain.valid),
        );
        println!(
            "    (repeats after the cut and the kill that the ledger turned away as duplicates: {})",
            on_chain.duplicates
        );
        if recorded != sent_count || on_chain.valid != sent_count {
            return Err(CliError::said(
                "the demo stops: readings were lost or recorded twice",
            ));
        }
        println!("    none lost, none twice");
        Ok(())
    }

    async fn lose_the_leader(&mut self, session: &Session) -> Result<(), CliError> {
        self.shell.step("The leading orderer is killed; the work goes on");
        let Some(leader) = checks::leader(session, CHANNEL).await? else {
            return Err(CliError::said("the demo stops: no orderer says that it leads"));
        };
        let node = nodes::all(session).into_iter().find(|n| n.id == leader);
        let node = node.ok_or_else(|| CliError::said("the leading orderer is not in the network file"))?;
        if let Some(process) = NodeProcess::find(&node.layout) {
            process.kill();
        }
        println!("    {leader} is killed (SIGKILL)");
        let started = Instant::now();
        let hand_over = json!({ "shipment": SHIPMENT, "to": "Org1MSP" }).to_string();
        self.invoke(SUPPLIER, "shipment", "handOver", &[&hand_over])
            .await?;
        self.figure(
            "kill of the leader to the next committed transaction",
            seconds(started.elapsed()),
        );
        self.invoke(BUYER, "shipment", "deliver", &[SHIPMENT]).await?;
        network::start_node(&node)?;
        checks::wait_for_orderer(session, &leader, CHANNEL).await?;
        println!("    {leader} is started again and has caught up");
        checks::wait_for_equal_heights(session, CHANNEL).await?;
        self.shell.run(&["network", "status"]).await?;
        Ok(())
    }

    /// Signs both users in to the page of their company, and says where it is.
    async fn open_pages(&mut self) -> Result<(), CliError> {
        let session = Session::open(&self.dir)?;
        self.shell
            .step("The page of each company; a link signs in once, for two minutes (get another with the same command)");
        for org in &session.config.peer_organizations {
            let Some(api) = &org.api else { continue };
            let url = format!("http://{}", network::config::external(None, &api.listen));
            let user = format!("User1@{}", org.domain);
            self.shell
                .run(&["api", "login", "--api", &url, "--as", &user])
                .await?;
        }
        Ok(())
    }

    async fn report(&mut self, session: &Session) {
        self.shell.step("Figures");
        let memory = network::memory_report(session);
        for (node, now, peak) in &memory {
            println!(
                "    {node:<28} {:>10} now {:>10} at its peak",
                mib(*now),
                mib(*peak)
            );
        }
        let all: u64 = memory.iter().map(|(_, now, _)| now).sum();
        self.figure("memory of all nodes at the end", mib(all));
        if let Some(time) = checks::invocation_time(session, "shipment").await {
            self.limited(
                "a shipment reading in the peer's contract runtime",
                time,
                1.0,
                |ms| format!("{ms:.3} ms"),
            );
        }
        let total = seconds(self.shell.elapsed());
        self.figure("the whole demo", total);
        println!();
        for (name, value) in &self.figures {
            println!("    {name:<56} {value}");
        }
    }
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

fn mib(kib: u64) -> String {
    format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
}

fn resident_kib(pid: Option<u32>) -> u64 {
    pid.and_then(|pid| NodeProcess::of(pid).memory_kib())
        .map_or(0, |(_, peak)| peak)
}

async fn edge_count(edge: &str, what: &str) -> Result<u64, CliError> {
    let status = edge::fetch_status(edge).await?;
    let value = if what == "open" {
        &status["open"]
    } else {
        &status["buffer"][what]
    };
    value
        .as_u64()
        .ok_or_else(|| CliError::said(format!("the edge gateway does not tell '{what}'")))
}

async fn free_port() -> Result<u16, CliError> {
    let failed = |e| CliError::said(format!("there is no free port: {e}"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(failed)?;
    Ok(listener.local_addr().map_err(failed)?.port())
}
