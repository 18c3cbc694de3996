//! Fabric's official client for Node, unmodified, against a network of ours (spec 07 §1).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use selvedge_system_tests::{CHANNEL, Network, ORG1_PEER, Options, case, checker, within};
use serde_json::json;
use tokio::process::Command;

const USER: &str = "User1@org1.example.com";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("node")
}

async fn run(what: &str, command: &mut Command) -> String {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = within(what, Duration::from_secs(240), running).await;
    let output = output.unwrap_or_else(|e| panic!("{what}: {e}; Node 20 and npm are needed"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{what} ended with {}:\n{text}",
        output.status
    );
    text
}

/// Installs the client's packages into cargo's folder for tests, once for each state of the lock file.
async fn install() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("official-client");
    let lock = std::fs::read(sources().join("package-lock.json")).unwrap();
    let installed = dir.join("installed-lock.json");
    if std::fs::read(&installed).is_ok_and(|done| done == lock) {
        return dir;
    }
    std::fs::create_dir_all(&dir).unwrap();
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(sources().join(file), dir.join(file)).unwrap();
    }
    let mut npm = Command::new("npm");
    // Optional packages are for hardware keys and would be compiled; the others need no scripts.
    npm.args([
        "ci",
        "--omit=optional",
        "--ignore-scripts",
        "--prefer-offline",
        "--no-audit",
        "--no-fund",
    ])
    .current_dir(&dir);
    run("npm ci", &mut npm).await;
    // Last: an installation that was broken off is done again.
    std::fs::write(&installed, lock).unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_works_unmodified() {
    let packages = install().await;
    let options = Options {
        orderers: 1,
        ..Options::default()
    };
    let network = Network::up(options).await;
    let user = network.user_dir(USER);
    let only = |folder: &str| {
        let mut files = std::fs::read_dir(user.join("msp").join(folder)).unwrap();
        files.next().expect("one file").unwrap().path()
    };
    let settings = json!({
        "address": network.address(ORG1_PEER),
        "serverName": ORG1_PEER,
        "tlsRoot": network.tls_root_file("org1.example.com"),
        "mspId": "Org1MSP",
        "organisations": ["Org1MSP", "Org2MSP"],
        "certificate": only("signcerts"),
        "key": only("keystore"),
        "channel": CHANNEL,
    });
    let file = network.scratch().join("settings.json");
    std::fs::write(&file, settings.to_string()).unwrap();
    // Beside its packages, so that `require` finds them.
    let script = packages.join("client.js");
    std::fs::copy(sources().join("client.js"), &script).unwrap();

    case("the client's own script", async {
        let said = run("the script", Command::new("node").arg(&script).arg(&file)).await;
        print!("{said}");
        assert!(said.contains("all steps passed"), "{said}");
    })
    .await;
    network.still_works().await;
    checker::check(&network).await;
    network.down().await;
}
