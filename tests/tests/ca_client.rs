//! Fabric CA's official client for Node, unmodified, against our certificate authority (spec 07 §2).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::Path;

use selvedge_system_tests::{CaServer, INTERMEDIATE, ROOT, case, npm};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_ca_client_works_unmodified() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("node-ca");
    let packages = npm::install(&sources, Path::new(env!("CARGO_TARGET_TMPDIR"))).await;
    let server = CaServer::start().await;
    let (secret, other_secret) = (server.admin_secret(ROOT), server.admin_secret(INTERMEDIATE));
    let settings = json!({
        "url": server.url(),
        "tlsRoots": [server.tls_root()],
        "mspId": "Org1MSP",
        "caName": ROOT,
        "otherCaName": INTERMEDIATE,
        "admin": "admin",
        "secret": secret,
        "otherSecret": other_secret,
    });
    let file = server.dir().join("settings.json");
    std::fs::write(&file, settings.to_string()).unwrap();
    case("the client's own script", async {
        let said = npm::run_script(&sources, &packages, &file).await;
        print!("{said}");
        assert!(said.contains("all steps passed"), "{said}");
    })
    .await;
    let log = server.log();
    assert!(log.contains("certificate issued"), "{log}");
    for secret in [&secret, &other_secret, "changed-secret"] {
        assert!(!log.contains(secret), "no secret reaches the log");
    }
}
