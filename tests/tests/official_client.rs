//! Fabric's official client for Node, unmodified, against a network of ours (spec 07 §1).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::{Path, PathBuf};

use selvedge_system_tests::{CHANNEL, Network, ORG1_PEER, Options, case, checker, npm};
use serde_json::json;

const USER: &str = "User1@org1.example.com";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("node")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_works_unmodified() {
    let packages = npm::install(&sources(), Path::new(env!("CARGO_TARGET_TMPDIR"))).await;
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
    case("the client's own script", async {
        let said = npm::run_script(&sources(), &packages, &file).await;
        print!("{said}");
        assert!(said.contains("all steps passed"), "{said}");
    })
    .await;
    network.still_works().await;
    checker::check(&network).await;
    network.down().await;
}
