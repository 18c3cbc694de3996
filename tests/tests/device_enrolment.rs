//! How a device gets its identity: with a secret that only it can read, and with a key that never leaves its token. The
//! commands are those of docs/identities.md.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use selvedge_comm::Method;
use selvedge_msp::{Certificate, PrivateKey};
use selvedge_sdk::{ClientIdentity, ClientTls, EnrollmentBox, SealedSecret};
use selvedge_system_tests::{
    CHANNEL, Device, Edge, Network, ORG1_PEER, Options, case, checker, eventually, http, softhsm,
};
use serde_json::json as value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ORG: &str = "org1.example.com";
/// Names the folder of the tokens, in the child process.
const TOKENS: &str = "SELVEDGE_TEST_TOKENS";

/// Passes connections on and keeps every byte, of both directions.
struct Recorder {
    address: String,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    async fn before(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (kept, target) = (Arc::clone(&bytes), target.to_owned());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&target).await.unwrap();
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                tokio::spawn(pass(near_in, far_out, Arc::clone(&kept)));
                tokio::spawn(pass(far_in, near_out, Arc::clone(&kept)));
            }
        });
        Self { address, bytes }
    }

    fn seen(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    kept: Arc<Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                kept.lock().unwrap().extend_from_slice(&buffer[..n]);
                if to.write_all(&buffer[..n]).await.is_err() {
                    break;
                }
            }
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.is_file() {
            all.push(path);
        }
    }
    all
}

struct Bench {
    network: Network,
    edge: Edge,
    dir: PathBuf,
}

impl Bench {
    fn file(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    async fn run(&self, arguments: &[&str]) -> String {
        self.network
            .cli(arguments)
            .await
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// `device key`, its output written to a file.
    async fn public_key(&self, key: &str, new: bool, to: &str) -> String {
        let mut arguments = vec!["device", "key", "--key", key];
        if new {
            arguments.push("--new");
        }
        let printed = self.run(&arguments).await;
        let file = self.file(to);
        std::fs::write(&file, printed).unwrap();
        file
    }

    fn roots(&self) -> String {
        self.network.tls_root_file(ORG).to_string_lossy().into_owned()
    }
}

/// Registrar ─► edge gateway ─► device ─► authority, with both connections of the device recorded.
async fn a_secret_that_only_the_device_reads(bench: &Bench) {
    let authority = bench.network.certificate_authority(ORG);
    let to_authority = Recorder::before(authority.url.trim_start_matches("https://")).await;
    let to_edge = Recorder::before(bench.edge.url().trim_start_matches("http://")).await;
    let edge_url = format!("http://{}", to_edge.address);

    let key = bench.file("sensor.pem");
    let public = bench.public_key(&key, false, "sensor.pub").await;
    let register = ["device", "register", "--org", ORG, "--attribute", "hall=7"];
    let deliver = ["--public-key", &public, "--deliver", &edge_url, "sensor/9"];
    let said = bench.run(&[&register[..], &deliver].concat()).await;
    assert_eq!(said, "", "nothing to copy by hand");

    // What the device alone can do, done here to know what to search for.
    let waiting = EnrollmentBox::new(&bench.edge.url(), ClientTls::default())
        .get("sensor/9")
        .await;
    let sealed = waiting.unwrap().expect("it waits at the edge gateway");
    let secret = sealed
        .open(&PrivateKey::from_file(Path::new(&key)).unwrap())
        .unwrap();
    assert!(secret.len() >= 20);
    let stranger = PrivateKey::generate().unwrap();
    assert!(sealed.open(&stranger).is_err());

    // Neither replaced nor removed by others than a registrar and the device.
    let place = EnrollmentBox::new(&bench.edge.url(), ClientTls::default());
    let member = bench.network.identity("User1@org1.example.com");
    let of_another = bench.network.identity("Admin@org2.example.com");
    for other in [&member, &of_another] {
        for refused in [
            place.put(&sealed, other).await,
            place.delete("sensor/9", other).await,
        ] {
            let why = refused.unwrap_err().to_string();
            assert!(why.contains("HTTP 401"), "{why}");
        }
    }
    let url = format!("{}/v1/enrollments/sensor%2F9", bench.edge.url());
    let unsigned = http(Method::DELETE, &url, &value!(null)).await.unwrap();
    assert_eq!(unsigned.status.as_u16(), 401);

    let msp = bench.file("sensor-msp");
    let (ca_url, roots) = (format!("https://{}", to_authority.address), bench.roots());
    let enroll = [
        "device", "enroll", "--fetch", &edge_url, "--id", "sensor/9", "--ca-url", &ca_url,
    ];
    let with = ["--tls-roots", &roots, "--key", &key, "--msp", &msp];
    let said = bench.run(&[&enroll[..], &with].concat()).await;
    assert!(said.contains("sensor/9 is enrolled"), "{said}");
    let identity = ClientIdentity::from_msp_dir("Org1MSP", Path::new(&msp)).unwrap();
    assert_eq!(identity.certificate().attributes()["hall"], "7");
    let gone = EnrollmentBox::new(&bench.edge.url(), ClientTls::default())
        .get("sensor/9")
        .await;
    assert!(gone.unwrap().is_none(), "the device takes it away");

    // As it is, as HTTP basic authentication writes it, and as hexadecimal.
    let needles = [
        secret.as_bytes().to_vec(),
        BASE64_STANDARD
            .encode(format!("sensor/9:{}", *secret))
            .into_bytes(),
        BASE64_STANDARD
            .encode(&*secret)
            .trim_end_matches('=')
            .as_bytes()
            .to_vec(),
        hex::encode(&*secret).into_bytes(),
    ];
    let hidden = |place: &str, text: &[u8]| {
        for needle in &needles {
            assert!(!contains(text, needle), "the secret is in {place}");
        }
    };
    let (edge_wire, authority_wire) = (to_edge.seen(), to_authority.seen());
    assert!(contains(&edge_wire, b"ciphertext"), "the recorder works");
    assert!(authority_wire.len() > 1000, "the recorder works");
    hidden("the edge gateway's wire", &edge_wire);
    hidden("the authority's wire", &authority_wire);
    let mut logged = false;
    for file in files(bench.network.scratch()) {
        let text = std::fs::read(&file).unwrap_or_default();
        logged |= file.ends_with("node.log") && contains(&text, b"certificate issued");
        hidden(&file.display().to_string(), &text);
    }
    assert!(logged, "the authority's log was among the files");
}

async fn mistakes_are_explained(bench: &Bench) {
    let refused = async |arguments: &[&str], word: &str| {
        let said = bench.network.cli(arguments).await.expect_err("it must fail");
        assert!(said.contains(word), "{said}");
    };
    let (key, other) = (bench.file("lost.pem"), bench.file("other.pem"));
    let public = bench.public_key(&key, false, "lost.pub").await;
    bench.public_key(&other, false, "other.pub").await;
    let (sealed, msp, roots) = (bench.file("lost.sealed"), bench.file("lost-msp"), bench.roots());
    let register = ["device", "register", "--org", ORG, "--public-key", &public];
    bench
        .run(&[&register[..], &["--out", &sealed, "lost"]].concat())
        .await;
    let enroll = [
        "device",
        "enroll",
        "--sealed",
        &sealed,
        "--tls-roots",
        &roots,
        "--msp",
        &msp,
    ];
    refused(
        &[&enroll[..], &["--key", &other]].concat(),
        "sealed to another key",
    )
    .await;
    refused(&enroll, "--key").await;
    refused(
        &[&enroll[..], &["--key", &key, "--id", "found"]].concat(),
        "is for lost, not for found",
    )
    .await;
    refused(
        &[&register[..], &["--out", &sealed, "lost"]].concat(),
        "already registered",
    )
    .await;
    refused(&["device", "register", "--org", ORG, "plain"], "--public-key").await;
    let url = bench.edge.url();
    let fetch = [
        "device",
        "enroll",
        "--fetch",
        &url,
        "--id",
        "nobody",
        "--tls-roots",
        &roots,
    ];
    refused(
        &[&fetch[..], &["--key", &key, "--msp", &msp]].concat(),
        "no sealed secret waits for nobody",
    )
    .await;
    refused(&["device", "key", "--key", "pkcs11:object=x"], "module-path").await;
    // The secret itself only when asked for.
    let shown = bench
        .run(&["device", "register", "--org", ORG, "--show-secret", "plain"])
        .await;
    let command = [
        "device",
        "enroll",
        "--ca-url",
        &bench.network.certificate_authority(ORG).url,
        "--ca-name",
    ];
    let name = bench.network.certificate_authority(ORG).name;
    let plain = bench.file("plain-msp");
    let with = [
        &name,
        "--tls-roots",
        &roots,
        "--id",
        "plain",
        "--secret",
        shown.trim(),
        "--msp",
        &plain,
    ];
    bench.run(&[&command[..], &with].concat()).await;
}

/// The key is made in the token, signs the request there, and then signs the gateway's transactions.
async fn a_key_that_never_leaves_its_token(bench: &Bench, tokens: &Path) {
    let pin = bench.file("pin");
    std::fs::write(&pin, format!("{}\n", softhsm::PIN)).unwrap();
    let library = softhsm::library();
    let uri = format!("pkcs11:token=truck-17;object=selvedge?module-path={library}&pin-source=file:{pin}");
    bench.public_key(&uri, true, "token.pub").await;
    // A token does not open sealed secrets, so a key for that is made beside it.
    let opening = bench.file("opening.pem");
    let public = bench.public_key(&opening, false, "opening.pub").await;
    let (sealed, msp, roots) = (bench.file("truck.sealed"), bench.file("truck-msp"), bench.roots());
    let register = [
        "device",
        "register",
        "--org",
        ORG,
        "--public-key",
        &public,
        "--out",
        &sealed,
    ];
    bench.run(&[&register[..], &["truck-17"]].concat()).await;
    let enroll = [
        "device",
        "enroll",
        "--sealed",
        &sealed,
        "--opening-key",
        &opening,
        "--key",
        &uri,
    ];
    bench
        .run(&[&enroll[..], &["--tls-roots", &roots, "--msp", &msp]].concat())
        .await;

    let certificate = std::fs::read(Path::new(&msp).join("signcerts/cert.pem")).unwrap();
    let certificate = Certificate::from_pem(&certificate).unwrap();
    let token_key = std::fs::read(bench.file("token.pub")).unwrap();
    assert_eq!(
        certificate.public_key(),
        Some(&selvedge_msp::PublicKey::from_pem(&token_key).unwrap())
    );
    for file in files(Path::new(&msp)).into_iter().chain(files(tokens)) {
        let text = std::fs::read(&file).unwrap();
        assert!(!contains(&text, b"PRIVATE KEY"), "{}", file.display());
    }

    let device = Device {
        name: "truck-17".to_owned(),
        msp_id: "Org1MSP".to_owned(),
        msp_dir: msp.into(),
    };
    let address = bench.network.address(ORG1_PEER);
    let gateway = Edge::start_in(&bench.network, "token-edge", &device, &[(ORG1_PEER, &address)]).await;
    transacts(&gateway, "truck").await;
    let renewed = bench.file("truck-msp");
    let authority = bench.network.certificate_authority(ORG);
    let reenroll = [
        "device",
        "reenroll",
        "--ca-url",
        &authority.url,
        "--ca-name",
        &authority.name,
    ];
    bench
        .run(&[&reenroll[..], &["--tls-roots", &roots, "--msp", &renewed]].concat())
        .await;
    let again = std::fs::read(Path::new(&renewed).join("signcerts/cert.pem")).unwrap();
    assert_ne!(
        Certificate::from_pem(&again).unwrap().serial(),
        certificate.serial()
    );
}

/// What the gateway accepts is committed.
async fn transacts(gateway: &Edge, key: &str) {
    let request =
        value!({ "channel": CHANNEL, "chaincode": "probe", "function": "put", "args": [key, "17"] });
    let url = format!("{}/v1/transactions", gateway.url());
    let answer = http(Method::POST, &url, &request).await.unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status.as_u16(), 202, "{text}");
    let entry: serde_json::Value = serde_json::from_str(&text).unwrap();
    let url = format!("{url}/{}", entry["id"]);
    eventually(
        "the transaction is committed",
        Duration::from_secs(60),
        || async {
            let answer = http(Method::GET, &url, &value!(null)).await?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            if text.contains("\"committed\"") {
                Ok(())
            } else {
                Err(text)
            }
        },
    )
    .await;
}

/// A gateway that is switched on for the first time gets its secret through its own REST interface.
async fn a_gateway_enrols_itself(bench: &Bench) {
    let device = Device {
        name: "edge-2".to_owned(),
        msp_id: "Org1MSP".to_owned(),
        msp_dir: bench.file("edge-2-msp").into(),
    };
    let address = bench.network.address(ORG1_PEER);
    let more = value!({ "id": "edge-2", "enrollment": { "key": bench.file("edge-2.pem"), "tls_roots": bench.roots() } });
    let gateway = Edge::start_with(
        &bench.network,
        "new-edge",
        &device,
        &[(ORG1_PEER, &address)],
        &more,
    )
    .await;
    let get = async |path: &str| {
        http(Method::GET, &format!("{}{path}", gateway.url()), &value!(null))
            .await
            .unwrap()
    };
    assert_eq!(get("/v1/status").await.status.as_u16(), 503);
    let public = bench.file("edge-2.pub");
    std::fs::write(&public, get("/v1/enrollment/public-key").await.body).unwrap();

    // What a stranger leaves there is found out, and does no harm.
    let key = selvedge_msp::PublicKey::from_pem(&std::fs::read(&public).unwrap()).unwrap();
    let authority = bench.network.certificate_authority(ORG);
    let forged = SealedSecret::seal(&key, "edge-2", &authority.url, &authority.name, "guess").unwrap();
    let place = EnrollmentBox::new(&gateway.url(), ClientTls::default());
    let stranger = bench.network.identity("User1@org2.example.com");
    place.put(&forged, &stranger).await.unwrap();
    let for_another = SealedSecret::seal(&key, "edge-3", &authority.url, &authority.name, "guess").unwrap();
    let why = place.put(&for_another, &stranger).await.unwrap_err().to_string();
    assert!(why.contains("edge-2"), "{why}");
    eventually(
        "the forged secret is refused",
        Duration::from_secs(30),
        || async {
            let about: serde_json::Value = serde_json::from_slice(&get("/v1/enrollment").await.body).unwrap();
            if about["problem"].is_string() {
                Ok(())
            } else {
                Err(about.to_string())
            }
        },
    )
    .await;

    let register = [
        "device",
        "register",
        "--org",
        ORG,
        "--attribute",
        "selvedge.gateway=true",
    ];
    let deliver = ["--public-key", &public, "--deliver", &gateway.url(), "edge-2"];
    bench.run(&[&register[..], &deliver].concat()).await;
    eventually(
        "the gateway is enrolled and serves",
        Duration::from_secs(30),
        || async {
            // While it waits it answers 503.
            let url = format!("{}/v1/status", gateway.url());
            let answer = http(Method::GET, &url, &value!(null)).await?;
            if answer.status.as_u16() == 200 {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&answer.body).into_owned())
            }
        },
    )
    .await;
    transacts(&gateway, "edge-2").await;
    let identity = ClientIdentity::from_msp_dir("Org1MSP", &device.msp_dir).unwrap();
    assert_eq!(identity.certificate().common_name(), Some("edge-2"));
}

async fn in_the_child(tokens: &Path) {
    let options = Options {
        orderers: 1,
        one_process: true,
        authorities: true,
        contracts: false,
        ..Options::default()
    };
    let network = Network::up(options).await;
    let gateway = network.enroll_device(ORG, "edge-1").await;
    let address = network.address(ORG1_PEER);
    let edge = Edge::start(&network, &gateway, &[(ORG1_PEER, &address)]).await;
    let dir = network.scratch().join("device");
    std::fs::create_dir_all(&dir).unwrap();
    let bench = Bench { network, edge, dir };
    case(
        "a secret that only the device reads",
        a_secret_that_only_the_device_reads(&bench),
    )
    .await;
    case("mistakes are explained", mistakes_are_explained(&bench)).await;
    case("a new gateway", a_gateway_enrols_itself(&bench)).await;
    case(
        "a key in a token",
        a_key_that_never_leaves_its_token(&bench, tokens),
    )
    .await;
    let Bench { network, edge, .. } = bench;
    drop(edge);
    checker::check(&network).await;
    network.down().await;
}

/// SoftHSM's library takes its configuration from the environment, which the commands inherit from this process.
#[test]
fn devices_get_their_identity() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    if let Some(tokens) = std::env::var_os(TOKENS) {
        return runtime().block_on(in_the_child(Path::new(&tokens)));
    }
    let folder = tempfile::tempdir().unwrap();
    let config = softhsm::token(folder.path(), "truck-17");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "devices_get_their_identity", "--nocapture"])
        .env("SOFTHSM2_CONF", &config)
        .env(TOKENS, folder.path().join("tokens"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    print!("{said}");
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}
