//! Nodes that are killed at the worst time: nothing acknowledged is lost, and all end up equal.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::time::Duration;

use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::{Deadlines, Invocation, lifecycle};
use selvedge_system_tests::checker::{self, Chain};
use selvedge_system_tests::load::{Load, Outcome};
use selvedge_system_tests::{CHANNEL, Network, ORG1_PEER, ORG2_PEER, Options, case, eventually};

const USERS: [&str; 2] = ["User1@org1.example.com", "User1@org2.example.com"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    let options = Options {
        contracts: false,
        max_message_count: 20,
        ..Options::default()
    };
    let network = Network::up(options).await;

    let orderers = case("each orderer in turn, and so a leader", kill_orderers(&network)).await;
    let peers = case("a peer, at random points", kill_peers(&network)).await;
    case(
        "two of three orderers: no answer without a majority",
        no_majority(&network),
    )
    .await;
    case("an orderer that lost its disk", wiped_orderer(&network)).await;
    case("a peer that lost its disk", wiped_peer(&network)).await;
    case("every process at once", power_cut(&network)).await;

    network.still_works().await;
    let chain = checker::check(&network).await;
    all_there(&chain, &orderers);
    all_there(&chain, &peers);
    network.down().await;
}

fn all_there(chain: &Chain, outcome: &Outcome) {
    assert!(
        !outcome.acknowledged.is_empty(),
        "nothing was acknowledged: {:?}",
        outcome.failures.first()
    );
    for id in &outcome.acknowledged {
        assert_eq!(chain.valid(id), 1, "transaction {id} was acknowledged");
    }
}

async fn kill_orderers(network: &Network) -> Outcome {
    let load = Load::start(network, &USERS, 4);
    load.progress(40).await;
    // The leader is unknown; whoever leads when its turn comes is killed as a leader, and one of the three turns must
    // meet one: leadership does not move by itself.
    for host in network.orderers() {
        network.kill(&host);
        load.progress(40).await;
        network.start(&host);
        load.progress(20).await;
    }
    let outcome = load.stop().await;
    println!(
        "{} acknowledged, {} attempts failed on the way",
        outcome.acknowledged.len(),
        outcome.failures.len()
    );
    let height = network.settled().await;
    assert!(height > 3, "the chain has {height} blocks");
    outcome
}

async fn kill_peers(network: &Network) -> Outcome {
    let load = Load::start(network, &USERS, 3);
    for round in 0..12 {
        // Either peer may be the one; the other goes on meanwhile.
        let host = if round % 3 == 2 { ORG1_PEER } else { ORG2_PEER };
        load.progress(usize::from(rand::random::<u8>() % 40) + 5).await;
        network.kill(host);
        load.progress(30).await;
        network.start(host);
        // Some kills come while it still catches up.
        if round % 2 == 1 {
            caught_up(network, host).await;
        }
    }
    let outcome = load.stop().await;
    println!(
        "{} acknowledged, {} attempts failed on the way",
        outcome.acknowledged.len(),
        outcome.failures.len()
    );
    network.settled().await;
    outcome
}

/// Waits until a peer has what the orderers had when this was called.
async fn caught_up(network: &Network, host: &str) {
    let goal = network.orderer_height(&network.orderers()[0]).await.unwrap();
    eventually("the peer has caught up", Duration::from_secs(30), || async {
        let height = network.peer_height(host).await?;
        if height >= goal {
            Ok(())
        } else {
            Err(format!("height {height} of {goal}"))
        }
    })
    .await;
}

async fn no_majority(network: &Network) {
    let orderers = network.orderers();
    network.kill(&orderers[0]);
    network.kill(&orderers[1]);
    let gateway = network.gateway(USERS[0]);
    let put = Invocation::new(CHANNEL, "probe", "put").arg("minority").arg("1");
    let transaction = gateway.endorse(&gateway.propose(&put).unwrap()).await.unwrap();
    let impatient = gateway.clone().with_deadlines(Deadlines {
        submit: Some(Duration::from_secs(3)),
        ..Deadlines::default()
    });
    let refused = impatient.submit(&transaction).await.unwrap_err().to_string();
    assert!(
        refused.contains("Unavailable") || refused.contains("DeadlineExceeded"),
        "an orderer alone cannot promise anything: {refused}"
    );
    network.start(&orderers[0]);
    network.start(&orderers[1]);
    eventually(
        "the orderers take transactions again",
        Duration::from_secs(30),
        || async { gateway.submit(&transaction).await },
    )
    .await;
    let status = gateway
        .commit_status(CHANNEL, transaction.transaction_id())
        .await
        .unwrap();
    // The first attempt may have been ordered after all; the id still counts once.
    assert_eq!(status.code, TxValidationCode::Valid);
    network.settled().await;
}

async fn wiped_orderer(network: &Network) {
    let host = network.orderers().pop().unwrap();
    network.kill(&host);
    let data = network.dir().join("nodes").join(&host).join("data");
    std::fs::remove_dir_all(&data).unwrap();
    network.start(&host);
    // It knows apart from its data which channels it was in, and joins them again without being told.
    let admin = network.orderer_admin(&host);
    eventually(
        "the wiped orderer is in its channel again",
        Duration::from_secs(20),
        || async {
            let listed = admin.list().await.map_err(|e| e.to_string())?;
            if listed.iter().any(|name| name == CHANNEL) {
                Ok(())
            } else {
                Err(format!("it lists {listed:?}"))
            }
        },
    )
    .await;
    network.settled().await;
    network.still_works().await;
}

async fn wiped_peer(network: &Network) {
    network.kill(ORG2_PEER);
    std::fs::remove_dir_all(network.dir().join("nodes").join(ORG2_PEER).join("data")).unwrap();
    // Starts it and lets it join the channel again; it replays the whole chain.
    network.bring_up().await;
    network.settled().await;
    checker::check(network).await;
    // It validates without the contract, and endorses once it has it again: the same module makes the same package.
    let package = network.scratch().join("probe.tar.gz");
    let (module, file) = (network.scratch().join("probe.wasm"), package.to_string_lossy());
    let arguments = [
        "chaincode",
        "package",
        "--wasm",
        &module.to_string_lossy(),
        "--label",
        "probe_1.0",
        &file,
    ];
    let id = network.cli(&arguments).await.unwrap_or_else(|e| panic!("{e}"));
    let admin = network.identity("Admin@org2.example.com");
    let bytes = std::fs::read(&package).unwrap();
    let installed = lifecycle::install(&network.peer(ORG2_PEER), &admin, bytes.into())
        .await
        .unwrap();
    assert_eq!(installed.id, id.trim());
    network.still_works().await;
}

async fn power_cut(network: &Network) {
    let load = Load::start(network, &USERS, 4);
    load.progress(30).await;
    let hosts: Vec<String> = network.orderers().into_iter().chain(network.peers()).collect();
    for host in &hosts {
        network.kill(host);
    }
    network.bring_up().await;
    load.progress(20).await;
    let outcome = load.stop().await;
    let chain = checker::check(network).await;
    all_there(&chain, &outcome);
}
