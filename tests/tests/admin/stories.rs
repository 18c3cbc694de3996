//! What `selvedge explain` tells.

use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::Invocation;
use selvedge_system_tests::{CHANNEL, Network, ORG1_PEER};

use crate::{USERS, refuses, says};

pub(crate) async fn stories(network: &Network) {
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
