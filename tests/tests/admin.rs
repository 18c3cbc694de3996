//! Administration of a running network: the worked example of `docs/operations.md` under load, updates that travel by
//! mail, consenters that come and go, and the story of a transaction.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::time::Duration;

use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::Invocation;
use selvedge_system_tests::load::{Load, Outcome};
use selvedge_system_tests::{CHANNEL, Network, ORG1_PEER, Options, case, checker, eventually};

const USERS: [&str; 2] = ["User1@org1.example.com", "User1@org2.example.com"];
const ADMIN1: &str = "Admin@org1.example.com";
const ADMIN2: &str = "Admin@org2.example.com";
const ADMIN3: &str = "Admin@org3.example.com";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_network_is_administered() {
    let options = Options {
        contracts: false,
        ..Options::default()
    };
    let mut network = Network::up(options).await;

    let load = Load::start(&network, &USERS, 2);
    load.progress(20).await;
    let peer = network.add_organization(3);
    network.bring_up().await;
    case("two become three", three(&network, &peer)).await;
    load.progress(20).await;
    case("settings", settings(&network)).await;
    case("an update by mail", by_mail(&network)).await;
    let orderer = network.add_orderer(3);
    network.bring_up().await;
    case("an orderer comes", orderer_comes(&network, &orderer)).await;
    load.progress(20).await;
    case("an orderer goes", orderer_goes(&network)).await;
    load.progress(20).await;
    case("a second channel", second_channel(&network)).await;
    let outcome = load.stop().await;

    case("stories", stories(&network)).await;
    let chain = checker::check(&network).await;
    nothing_was_lost(&network, &chain, &outcome).await;
    network.down().await;
}

/// Every acknowledged transaction is on the ledger once. Not valid are only those that had read the definition which the
/// upgrade replaced: that is Fabric's rule, and their clients are told.
async fn nothing_was_lost(network: &Network, chain: &checker::Chain, outcome: &Outcome) {
    assert!(!outcome.acknowledged.is_empty());
    let mut overtaken = 0;
    for id in &outcome.acknowledged {
        // A gateway whose orderer left without an answer submits the same envelope to another one; if both ordered it, the
        // ledger has it once, and the second is refused as a duplicate.
        let found: Vec<_> = chain
            .transactions
            .iter()
            .filter(|t| t.id == *id && t.code != TxValidationCode::DuplicateTxid)
            .collect();
        assert_eq!(found.len(), 1, "transaction {id} was acknowledged");
        if found[0].code != TxValidationCode::Valid {
            overtaken += 1;
            let words = [
                "MVCC_READ_CONFLICT",
                "conflict     _lifecycle \"namespaces/fields/probe/Sequence\"",
            ];
            says(network, &["explain", id], &words).await;
        }
    }
    println!(
        "{} acknowledged and found, {overtaken} of them overtaken by the upgrade, {} attempts failed on the way: {:?}",
        outcome.acknowledged.len(),
        outcome.failures.len(),
        outcome.failures.first()
    );
}

/// Runs a command that must succeed and say all of `words`.
async fn says(network: &Network, arguments: &[&str], words: &[&str]) -> String {
    let text = network.cli(arguments).await.unwrap_or_else(|why| panic!("{why}"));
    for word in words {
        assert!(
            text.contains(word),
            "selvedge {} should say '{word}':\n{text}",
            arguments.join(" ")
        );
    }
    text
}

/// Runs a command that must fail and say all of `words`.
async fn refuses(network: &Network, arguments: &[&str], words: &[&str]) {
    let text = network.cli(arguments).await.expect_err("this must be refused");
    for word in words {
        assert!(
            text.contains(word),
            "selvedge {} should say '{word}':\n{text}",
            arguments.join(" ")
        );
    }
}

async fn three(network: &Network, peer: &str) {
    // Before it is a member it can read nothing.
    refuses(network, &["channel", "join", peer], &["cannot read a block"]).await;
    let words = [
        "+ /Channel/Application/Org3: group with",
        ADMIN1,
        ADMIN2,
        "nothing was changed",
    ];
    says(network, &["channel", "add-org", "Org3", "--dry-run"], &words).await;
    let words = [
        "- ",
        "signed by Admin@org1.example.com, which is not enough",
        "Org2/Admins",
    ];
    refuses(
        network,
        &["channel", "add-org", "Org3", "--as", ADMIN1],
        &words[1..],
    )
    .await;
    says(network, &["channel", "add-org", "Org3"], &["has configuration 1"]).await;
    refuses(
        network,
        &["channel", "add-org", "Org3"],
        &["is a member of channel trade already"],
    )
    .await;
    says(
        network,
        &["channel", "join", peer],
        &["joined channel trade", "it has all"],
    )
    .await;

    // The new organisation runs the same package and endorses, too.
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

async fn settings(network: &Network) {
    let set = ["channel", "set", "batch.timeout=200ms", "batch.max-messages=300"];
    let words = [
        "/Channel/Orderer/BatchTimeout: 500ms -> 200ms",
        "500 -> 300",
        "signed by Admin@example.com",
    ];
    says(network, &set, &words).await;
    says(network, &set, &["nothing to do"]).await;
    refuses(
        network,
        &["channel", "set", "batch.timeout=soon"],
        &["no duration"],
    )
    .await;
    refuses(
        network,
        &["channel", "set", "colour=red"],
        &["batch.max-messages"],
    )
    .await;
    says(network, &["channel", "config"], &["timeout: 200ms", "Org3MSP"]).await;
    let json = says(network, &["channel", "config", "--json"], &[]).await;
    let config: serde_json::Value = serde_json::from_str(&json).unwrap();
    let size = &config["configuration"]["groups"]["Orderer"]["values"]["BatchSize"];
    assert_eq!(size["max_message_count"], 300);
    let anchor = network.address("peer0.org3.example.com");
    let set = ["channel", "set-anchor", "--org", "Org3", &anchor];
    says(network, &set, &["nothing to do"]).await;
    let block = network.scratch().join("genesis.block");
    says(
        network,
        &["channel", "fetch", "oldest", block.to_str().unwrap()],
        &["block 0 of channel trade"],
    )
    .await;
    assert!(std::fs::metadata(&block).unwrap().len() > 1000);
}

async fn by_mail(network: &Network) {
    let file = network.scratch().join("update.pb");
    let file = file.to_str().unwrap();
    let path = "/Channel/Application/Endorsement";
    let set = [
        "channel",
        "set-policy",
        path,
        "ANY Endorsement",
        "--as",
        ADMIN1,
        "--out",
        file,
    ];
    says(
        network,
        &set,
        &["MAJORITY Endorsement -> ANY Endorsement", "not enough yet"],
    )
    .await;
    refuses(
        network,
        &["channel", "submit", file],
        &["cannot be submitted yet", "1 of 2 needed Admins"],
    )
    .await;
    let sign = ["channel", "sign", file, "--as", ADMIN2];
    says(
        network,
        &sign,
        &["MAJORITY Endorsement -> ANY", "no further signature is needed"],
    )
    .await;
    says(network, &sign, &["has signed it before"]).await;
    says(
        network,
        &["channel", "submit", file, "--as", ADMIN2],
        &["has configuration"],
    )
    .await;
    refuses(network, &["channel", "submit", file], &["make it anew"]).await;
}

async fn orderer_comes(network: &Network, orderer: &str) {
    let words = ["consenters: ", "signed by Admin@example.com"];
    says(network, &["channel", "add-consenter", orderer], &words).await;
    refuses(
        network,
        &["channel", "add-consenter", orderer],
        &["is a consenter already"],
    )
    .await;
    eventually("the new orderer takes part", Duration::from_secs(30), || async {
        let info = network.cli(&["channel", "info"]).await?;
        let ready = info
            .lines()
            .any(|l| l.contains(orderer) && l.contains("consenter, active"));
        if ready { Ok(()) } else { Err(info) }
    })
    .await;
}

async fn orderer_goes(network: &Network) {
    let orderer = network.orderers().remove(1);
    says(
        network,
        &["channel", "remove-consenter", &orderer],
        &["signed by Admin@example.com"],
    )
    .await;
    refuses(
        network,
        &["channel", "remove-consenter", &orderer],
        &["is no consenter"],
    )
    .await;
    says(network, &["channel", "leave", &orderer], &["left channel trade"]).await;
    // It may follow the chain without a voice.
    says(network, &["channel", "join", &orderer], &["follower"]).await;
}

async fn second_channel(network: &Network) {
    says(
        network,
        &["channel", "create", "lab", "--orgs", "Org1", "--dry-run"],
        &["members: Org1", "peer0.org1.example.com", "nothing was changed"],
    )
    .await;
    says(
        network,
        &["channel", "create", "lab", "--orgs", "Org1"],
        &["peer0.org1.example.com joined"],
    )
    .await;
    refuses(network, &["channel", "create", "lab"], &["exists already"]).await;
    says(
        network,
        &["channel", "list"],
        &["lab: Org1 on", "trade: Org1, Org2, Org3 on"],
    )
    .await;
    refuses(
        network,
        &["channel", "info", "-C", "lab", "--as", ADMIN2],
        &["is no member of it"],
    )
    .await;
    refuses(
        network,
        &["channel", "join", "-C", "lab", "peer0.org2.example.com"],
        &["cannot read"],
    )
    .await;
    says(
        network,
        &["channel", "leave", "-C", "lab", ORG1_PEER, "--dry-run"],
        &["would be deleted", "nothing was changed"],
    )
    .await;
    says(
        network,
        &["channel", "join", "-C", "lab", ORG1_PEER, "--dry-run"],
        &["would join channel lab", "nothing was changed"],
    )
    .await;
    says(
        network,
        &["channel", "leave", "-C", "lab", ORG1_PEER],
        &["its ledger is deleted"],
    )
    .await;
    says(
        network,
        &["channel", "join", "-C", "lab", ORG1_PEER],
        &["joined channel lab"],
    )
    .await;
}

async fn stories(network: &Network) {
    let gateway = network.gateway(USERS[0]);
    let first = gateway
        .propose(&Invocation::new(CHANNEL, "probe", "add").arg("story").arg("1"))
        .unwrap();
    let second = gateway
        .propose(&Invocation::new(CHANNEL, "probe", "add").arg("story").arg("2"))
        .unwrap();
    let (first, second) = (
        gateway.endorse(&first).await.unwrap(),
        gateway.endorse(&second).await.unwrap(),
    );
    for transaction in [&first, &second] {
        gateway.submit(transaction).await.unwrap();
        gateway
            .commit_status(CHANNEL, transaction.transaction_id())
            .await
            .unwrap();
    }
    let (winner, loser) = (first.transaction_id(), second.transaction_id());
    let status = gateway.commit_status(CHANNEL, loser).await.unwrap();
    assert_eq!(status.code, TxValidationCode::MvccReadConflict);

    let words = [
        "VALID (0)",
        "probe 1.0 add story 1",
        "User1@org1.example.com (Org1MSP)",
        "wrote",
        "endorsed by",
    ];
    says(network, &["explain", winner], &words).await;
    let words = [
        "MVCC_READ_CONFLICT (11)",
        "was read as absent",
        winner,
        "as a new transaction",
    ];
    says(network, &["explain", loser], &words).await;
    let text = says(network, &["explain", loser, "--json"], &[]).await;
    let story: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(story["reason"].as_str().unwrap().contains("story"), "{story}");

    // A peer that was restarted has forgotten the reason; the chain has not.
    network.kill(ORG1_PEER);
    network.bring_up().await;
    let words = ["MVCC_READ_CONFLICT (11)", "keeps no more detail", winner];
    says(network, &["explain", loser], &words).await;
    refuses(network, &["explain", "00"], &["no block of channel trade"]).await;
}
