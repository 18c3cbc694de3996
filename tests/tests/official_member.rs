//! Fabric's official CA client and gateway client for Node, unmodified and together: who enrols with the one transacts
//! with the other, and a contract reads the attributes of the certificate.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::Path;

use selvedge_system_tests::{CHANNEL, Network, ORG1_PEER, Options, case, checker, npm};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_enrolled_by_the_official_client_transacts_with_the_other() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("node-member");
    let packages = npm::install(&sources, Path::new(env!("CARGO_TARGET_TMPDIR"))).await;
    let options = Options {
        orderers: 1,
        one_process: true,
        authorities: true,
        probe: false,
        ..Options::default()
    };
    let network = Network::up(options).await;
    let authority = network.certificate_authority("org1.example.com");
    let settings = json!({
        "caUrl": authority.url,
        "caName": authority.name,
        "secret": authority.admin_secret,
        "tlsRoot": network.tls_root_file("org1.example.com"),
        "address": network.address(ORG1_PEER),
        "serverName": ORG1_PEER,
        "mspId": "Org1MSP",
        "target": "Org2MSP",
        "channel": CHANNEL,
    });
    let file = network.scratch().join("settings.json");
    std::fs::write(&file, settings.to_string()).unwrap();
    case("the clients' own script", async {
        let said = npm::run_script(&sources, &packages, &file).await;
        print!("{said}");
        assert!(said.contains("all steps passed"), "{said}");
    })
    .await;
    let secret = authority.admin_secret.trim();
    assert!(
        !network.logs(usize::MAX).contains(secret),
        "no secret reaches a log"
    );
    checker::check(&network).await;
    network.down().await;
}
