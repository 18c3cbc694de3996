//! Orderers come, go, and get new keys.

use std::time::Duration;

use selvedge_sdk::Invocation;
use selvedge_system_tests::load::Load;
use selvedge_system_tests::{CHANNEL, Network, ORG1_PEER, eventually};

use crate::{USERS, refuses, says, sequence};

/// Waits until an orderer takes part in the channel's consensus and has all of its blocks.
async fn takes_part(network: &Network, orderer: &str) {
    eventually("the orderer takes part", Duration::from_secs(30), || async {
        let info = network.cli(&["channel", "info"]).await?;
        let ready = info
            .lines()
            .any(|l| l.contains(orderer) && l.contains("consenter, active"));
        if ready { Ok(()) } else { Err(info) }
    })
    .await;
}

pub(crate) async fn orderer_comes(network: &Network, orderer: &str) {
    let words = ["consenters: ", "signed by Admin@example.com"];
    says(network, &["channel", "add-consenter", orderer], &words).await;
    refuses(
        network,
        &["channel", "add-consenter", orderer],
        &["is a consenter already"],
    )
    .await;
    takes_part(network, orderer).await;
}

pub(crate) async fn orderer_goes(network: &Network) {
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

/// A consenter gets a new key under load. `other` is another consenter, whose absence shows that the renewed one counts.
pub(crate) async fn orderer_gets_a_new_key(network: &Network, load: &Load, orderer: &str, other: &str) {
    network.remove_tls(orderer);
    network.bring_up().await;
    let before = sequence(network).await;
    let renew = ["channel", "renew-consenter", orderer];
    let address = network.address(orderer);
    let words = [
        "- /Channel/Orderer/ConsensusType: consenters: ",
        "+ /Channel/Orderer/ConsensusType: consenters: ",
        &address,
        "signed by Admin@example.com",
    ];
    let mut dry = renew.to_vec();
    dry.push("--dry-run");
    says(network, &dry, &words).await;
    assert_eq!(sequence(network).await, before);
    says(network, &renew, &words).await;
    assert_eq!(sequence(network).await, before + 1);
    says(network, &renew, &["nothing to do"]).await;
    network.kill(orderer);
    network.start(orderer);
    takes_part(network, orderer).await;
    load.progress(20).await;

    // Two of three consenters are a majority only if the renewed one is one of them.
    network.kill(other);
    load.progress(20).await;
    let put = Invocation::new(CHANNEL, "probe", "put").arg("renewed").arg("1");
    let done = network
        .gateway_at(USERS[0], ORG1_PEER)
        .submit_and_wait(&put)
        .await
        .unwrap();
    eventually(
        "the renewed consenter has the new block",
        Duration::from_secs(30),
        || async {
            let height = network.orderer_height(orderer).await?;
            if height > done.block_number {
                Ok(())
            } else {
                Err(format!("height {height}, block {}", done.block_number))
            }
        },
    )
    .await;
    network.start(other);
    takes_part(network, other).await;
}
