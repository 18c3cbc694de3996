//! The commands of docs/identities.md, run as the page shows them, from top to bottom.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use selvedge_msp::Certificate;
use selvedge_system_tests::{Edge, Network, ORG2_PEER, Options, binary, case, checker, eventually, softhsm};
use serde_json::json;

const PAGE: &str = include_str!("../../docs/identities.md");
/// Blocks that other tests run: the network of this one is up already, on ports of its own, and measuring takes minutes.
const ELSEWHERE: [&str; 2] = ["selvedge network up", "\"$CARGO_TARGET_DIR"];

/// The blocks of shell commands, each with the section that it is in.
fn blocks() -> Vec<(String, String)> {
    let (mut all, mut section, mut block) = (Vec::new(), String::new(), None::<String>);
    for line in PAGE.lines() {
        if let Some(text) = &mut block {
            if line == "```" {
                all.push((section.clone(), block.take().unwrap_or_default()));
            } else {
                text.push_str(line);
                text.push('\n');
            }
        } else if line == "```sh" {
            block = Some(String::new());
        } else if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
        }
    }
    all
}

struct Desk {
    network: Network,
    dir: PathBuf,
    /// What the page names, and what it is here.
    here: Vec<(String, String)>,
}

impl Desk {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn certificate(&self, name: &str) -> Certificate {
        Certificate::from_pem(&std::fs::read(self.file(name)).unwrap()).unwrap()
    }

    fn sh(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_owned();
        for (there, here) in &self.here {
            text = text.replace(there, here);
        }
        let path = format!(
            "{}:{}",
            self.file("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let done = Command::new("sh")
            .args(["-euc", &text])
            .current_dir(&self.dir)
            .env("PATH", path)
            .env("SELVEDGE_NETWORK", self.network.dir())
            .env("SOFTHSM2_CONF", self.file("softhsm2.conf"))
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
        if done.status.success() {
            Ok(said)
        } else {
            Err(format!("{text}\n{said}"))
        }
    }

    fn ok(&self, text: &str) -> String {
        self.sh(text).unwrap_or_else(|e| panic!("{e}"))
    }
}

async fn desk() -> (Desk, Edge) {
    let network = Network::up(Options {
        orderers: 1,
        authorities: true,
        certificates: Some(json!({ "check": "1s" })),
        ..Options::default()
    })
    .await;
    let gateway = network.enroll_device("org2.example.com", "edge0").await;
    let address = network.address(ORG2_PEER);
    let edge = Edge::start(&network, &gateway, &[(ORG2_PEER, &address)]).await;
    let dir = network.scratch().join("desk");
    std::fs::create_dir_all(dir.join("bin")).unwrap();
    std::os::unix::fs::symlink(binary().canonicalize().unwrap(), dir.join("bin/selvedge")).unwrap();
    let root = "tlsca.org2.example.com-cert.pem";
    std::fs::copy(network.tls_root_file("org2.example.com"), dir.join(root)).unwrap();
    let authority = network.certificate_authority("org2.example.com");
    let pairs = [
        ("http://edge0:8600", edge.url()),
        ("https://localhost:8054", authority.url),
        ("/usr/lib/softhsm/libsofthsm2.so", softhsm::library().to_owned()),
        ("/etc/selvedge/pin", dir.join("pin").display().to_string()),
    ];
    let here = pairs.map(|(there, here)| (there.to_owned(), here)).to_vec();
    assert_eq!(authority.name, "ca-org2", "the page's name");
    (Desk { network, dir, here }, edge)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_about_identities_tells_the_truth() {
    let (desk, edge) = desk().await;
    softhsm::token(&desk.dir, "truck-19");
    std::fs::write(desk.file("pin"), format!("{}\n", softhsm::PIN)).unwrap();
    let mut ran = 0;
    let blocks = blocks();
    for (section, block) in &blocks {
        if ELSEWHERE.iter().any(|begin| block.starts_with(begin)) {
            continue;
        }
        if section == "Existing material" && block.contains("identity import") {
            // Somebody's folders, as another client wrote them.
            desk.ok("selvedge identity export User1@org1.example.com -o fabric-ca-client");
        }
        if section.starts_with("Rotation") {
            // The third step waits until all have renewed.
            for line in block.lines() {
                let done = eventually(line, Duration::from_secs(90), || async { desk.sh(line) });
                case(line, done).await;
            }
        } else {
            case(section, async {
                println!("{}", desk.ok(block));
            })
            .await;
        }
        ran += 1;
    }
    assert_eq!(ran + ELSEWHERE.len(), blocks.len(), "the page was read whole");

    let device = desk.certificate("device/msp/signcerts/cert.pem");
    assert_eq!(device.common_name(), Some("truck-17"));
    assert_eq!(device.attributes()["hall"], "7");
    for (file, name) in [
        ("truck-18/msp/signcerts/cert.pem", "truck-18"),
        ("truck-19/msp/signcerts/cert.pem", "truck-19"),
        ("plc.pem", "plc-4"),
    ] {
        assert_eq!(desk.certificate(file).common_name(), Some(name));
    }
    assert!(desk.file("org1-all/ca/priv_sk").is_file());
    assert!(!desk.file("org1/ca/priv_sk").exists());
    // Revoked at the authority and in the channel.
    let again = "selvedge device reenroll --ca-url https://localhost:8054 --ca-name ca-org2 \
        --tls-roots tlsca.org2.example.com-cert.pem --msp device/msp";
    desk.sh(again).unwrap_err();
    let Desk { network, .. } = desk;
    drop(edge);
    network.still_works().await;
    checker::check(&network).await;
    network.down().await;
}
