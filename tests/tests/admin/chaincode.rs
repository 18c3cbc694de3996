//! The lifecycle of a chaincode under load, with what is refused on the way.

use std::time::Duration;

use selvedge_system_tests::{Network, eventually};

use crate::{ADMIN1, ADMIN2, ADMIN3, refuses, says};

/// The third organisation runs the load's own chaincode and endorses, too.
pub(crate) async fn upgrade(network: &Network) {
    let package = network.scratch().join("probe.tgz");
    let package = package.to_str().unwrap();
    let wasm = network.scratch().join("probe.wasm");
    let wasm = wasm.to_str().unwrap();
    let packed = says(
        network,
        &[
            "chaincode",
            "package",
            "--wasm",
            wasm,
            "--label",
            "probe_1.0",
            package,
        ],
        &[],
    )
    .await;
    let id = packed.trim();
    refuses(
        network,
        &["chaincode", "install", wasm, "--as", ADMIN3],
        &["is a wasm module, not a package"],
    )
    .await;
    let wrong = [
        "chaincode",
        "install",
        package,
        "--as",
        ADMIN3,
        "--expect",
        "probe_1.0:00",
    ];
    refuses(network, &wrong, &["it is another file"]).await;
    says(
        network,
        &["chaincode", "install", package, "--as", ADMIN3, "--expect", id],
        &[id],
    )
    .await;
    let policy = "OR('Org1MSP.peer','Org2MSP.peer','Org3MSP.peer')";
    let approve = |admin: &'static str| {
        [
            "chaincode",
            "approve",
            "-n",
            "probe",
            "--policy",
            policy,
            "--as",
            admin,
        ]
    };
    let commit = ["chaincode", "commit", "-n", "probe", "--policy", policy];
    let readiness = ["chaincode", "readiness", "-n", "probe", "--policy", policy];
    let wrong = ["chaincode", "approve", "-n", "probe", "--sequence", "7"];
    refuses(
        network,
        &wrong,
        &["the sequence must be 2 (or 1, to approve what is in force), not 7"],
    )
    .await;
    let wrong = [
        "chaincode",
        "approve",
        "-n",
        "probe",
        "--package-id",
        "probe_1.0:00",
    ];
    refuses(network, &wrong, &["its hash is another one"]).await;
    says(network, &approve(ADMIN3), &["Org3MSP approves", "sequence 2"]).await;
    says(
        network,
        &["chaincode", "approve", "-n", "probe", "--as", ADMIN2],
        &["Org2MSP approves"],
    )
    .await;
    let words = [
        "Org1MSP has approved nothing",
        "Org2MSP has approved another endorsement policy",
        "not ready",
    ];
    says(network, &readiness, &words).await;
    let mut refused: Vec<&str> = commit.to_vec();
    refused.extend(["--as", ADMIN3]);
    refuses(
        network,
        &refused,
        &["2 organisations must approve", "1 have", "Org1MSP"],
    )
    .await;
    says(network, &approve(ADMIN1), &[]).await;
    says(network, &readiness, &["ready to commit"]).await;
    says(network, &commit, &["sequence 2 is committed"]).await;
    says(
        network,
        &["chaincode", "list"],
        &["probe version 1.0 sequence 2", "Org3MSP.peer"],
    )
    .await;

    // Its user writes by its own peer.
    let invoke = [
        "chaincode",
        "invoke",
        "-n",
        "probe",
        "--as",
        "User1@org3.example.com",
        "put",
        "third",
        "3",
    ];
    eventually(
        "the new organisation's peer runs the chaincode",
        Duration::from_secs(20),
        || async { network.cli(&invoke).await },
    )
    .await;
}
