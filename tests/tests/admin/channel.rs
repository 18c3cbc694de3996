//! Settings, policies, channels, and what a dry run shows of each change.

use selvedge_system_tests::{CHANNEL, Network, ORG1_PEER};

use crate::{ADMIN1, ADMIN2, refuses, says, sequence};

pub(crate) async fn settings(network: &Network) {
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

pub(crate) async fn by_mail(network: &Network) {
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

pub(crate) async fn second_channel(network: &Network) {
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

/// Every change of a channel can be looked at before it is made: the difference and the signers are shown, and nothing
/// happens. It is run while the orderers in question are consenters, or not.
pub(crate) async fn dry_runs(network: &Network, consenter: &str, follower: &str) {
    let peer = network.address(ORG1_PEER);
    let policy = "/Channel/Application/Endorsement";
    let runs: [(&[&str], &[&str]); 8] = [
        (
            &["set", "batch.max-messages=77", "batch.timeout=1s"],
            &[
                "max_message_count: 300 -> 77",
                "BatchTimeout: 200ms -> 1s",
                "signed by Admin@example.com",
            ],
        ),
        (
            &["set-policy", policy, "ALL Endorsement"],
            &[
                "~ /Channel/Application/Endorsement: ANY Endorsement -> ALL Endorsement",
                ADMIN1,
                ADMIN2,
            ],
        ),
        (
            &["set-anchor", "--org", "Org1", &peer, "localhost:7"],
            &[
                "/Channel/Application/Org1/AnchorPeers",
                "localhost:7",
                "signed by Admin@org1.example.com",
            ],
        ),
        (
            &["add-org", "Org9", "--msp", "MSP", "--msp-id", "Org9MSP"],
            &["+ /Channel/Application/Org9: group with"],
        ),
        (
            &["remove-org", "Org3"],
            &["- /Channel/Application/Org3", ADMIN1, ADMIN2],
        ),
        (
            &["add-consenter", follower],
            &["+ /Channel/Orderer/ConsensusType: consenters: "],
        ),
        (
            &["remove-consenter", consenter],
            &["- /Channel/Orderer/ConsensusType: consenters: "],
        ),
        // As the certificate in the folder is the one in force.
        (&["renew-consenter", consenter], &["nothing to do"]),
    ];
    let msp = network.org_dir("org2.example.com").join("msp");
    let msp = msp.to_str().unwrap();
    let before = sequence(network).await;
    for (arguments, words) in runs {
        let arguments = arguments.iter().map(|a| if *a == "MSP" { msp } else { a });
        let mut all = vec!["channel"];
        all.extend(arguments);
        all.push("--dry-run");
        let text = says(network, &all, words).await;
        assert!(
            text.contains("dry run: nothing was changed") || text.contains("nothing to do"),
            "{}: {text}",
            all.join(" ")
        );
        assert_eq!(sequence(network).await, before, "{}", all.join(" "));
    }
    // A channel that would be, and nodes that would come and go.
    says(
        network,
        &["channel", "create", "never", "--dry-run"],
        &["members: Org1, Org2, Org3", "nothing was changed"],
    )
    .await;
    says(
        network,
        &["channel", "leave", follower, "--dry-run"],
        &["would be deleted", "nothing was changed"],
    )
    .await;
    let list = says(network, &["channel", "list"], &[CHANNEL]).await;
    assert!(!list.contains("never"), "{list}");
    says(network, &["channel", "info"], &[&format!("{follower}: height")]).await;
}
