//! Three nodes: agreement, loss of the leader, restart, wiped and lagging nodes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use selvedge_orderer::Orderer;
use selvedge_proto::common;

use crate::support::{Network, broadcast, contents, hashes, height, leader, transaction, until};

async fn three(network: &Network) -> Vec<Option<Orderer>> {
    let mut nodes = Vec::new();
    for i in 0..3 {
        nodes.push(Some(network.start_joined(i).await));
    }
    nodes
}

/// Submits `count` transactions through a node, several streams at a time; each must be answered with SUCCESS.
async fn submit(network: &Network, through: usize, label: &str, count: usize) -> Vec<Bytes> {
    let signer = network.members.client();
    let all: Vec<Bytes> = (0..count).map(|n| Bytes::from(format!("{label} {n}"))).collect();
    let mut streams = tokio::task::JoinSet::new();
    for part in all.chunks(count.div_ceil(4)) {
        let mut client = network.broadcaster(through);
        let envelopes: Vec<_> = part.iter().map(|c| transaction(&signer, c)).collect();
        streams.spawn(async move { broadcast(&mut client, envelopes).await });
    }
    let mut answered = 0;
    while let Some(answers) = streams.join_next().await {
        for (status, info) in answers.unwrap() {
            assert_eq!(status, common::Status::Success, "{info}");
            answered += 1;
        }
    }
    assert_eq!(answered, count);
    all
}

async fn same_height(nodes: &[Option<Orderer>]) -> u64 {
    until("all nodes at the same height", || {
        let heights: BTreeSet<u64> = nodes.iter().flatten().map(height).collect();
        (heights.len() == 1).then(|| heights.into_iter().next().unwrap())
    })
    .await
}

async fn assert_agreement(network: &Network, nodes: &[Option<Orderer>], expected: &[Bytes]) {
    let height = same_height(nodes).await;
    let mut first: Option<Vec<Bytes>> = None;
    for i in (0..nodes.len()).filter(|i| nodes[*i].is_some()) {
        let blocks = network.blocks(i, height - 1).await;
        let found: BTreeSet<Bytes> = contents(&blocks).into_iter().collect();
        for one in expected {
            assert!(found.contains(one), "node {i} lacks {one:?}");
        }
        let hashes = hashes(&blocks);
        match &first {
            None => first = Some(hashes),
            Some(first) => assert_eq!(*first, hashes, "node {i}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_takes_submissions_and_nothing_acknowledged_is_lost() {
    let network = Network::new(3, 3, |_| {});
    let mut nodes = three(&network).await;
    let mut sent = Vec::new();
    for i in 0..3 {
        sent.extend(submit(&network, i, &format!("through {i}"), 500).await);
    }
    assert_agreement(&network, &nodes, &sent).await;

    // The leader goes away while transactions are on their way through another node.
    let first = leader(&nodes).await;
    let other = (first + 1) % 3;
    let (more, ()) = tokio::join!(submit(&network, other, "during the change", 400), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        nodes[first].take().unwrap().stop().await;
    });
    sent.extend(more);
    sent.extend(submit(&network, other, "without it", 50).await);
    assert_agreement(&network, &nodes, &sent).await;

    // It comes back with what it had.
    nodes[first] = Some(network.start(first).await);
    assert_agreement(&network, &nodes, &sent).await;

    // A node loses its disk, joins again and gets everything from the others.
    let wiped = (leader(&nodes).await + 1) % 3;
    nodes[wiped].take().unwrap().stop().await;
    std::fs::remove_dir_all(&network.configs[wiped].data_dir).unwrap();
    nodes[wiped] = Some(network.start_joined(wiped).await);
    sent.extend(submit(&network, wiped, "after the loss", 50).await);
    assert_agreement(&network, &nodes, &sent).await;

    // It is a full voter again: it and one other are enough.
    let gone = (wiped + 1) % 3;
    nodes[gone].take().unwrap().stop().await;
    sent.extend(submit(&network, wiped, "with two", 20).await);
    assert_agreement(&network, &nodes, &sent).await;
    for node in nodes.into_iter().flatten() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_far_behind_pulls_blocks_because_the_log_is_gone() {
    let mut network = Network::new(3, 3, |profile| profile.batch_size.max_message_count = 1);
    for config in &mut network.configs {
        config.raft.snapshot_bytes = 20_000;
    }
    let mut nodes = three(&network).await;
    let mut sent = submit(&network, 0, "before", 10).await;
    same_height(&nodes).await;
    let behind = (leader(&nodes).await + 1) % 3;
    nodes[behind].take().unwrap().stop().await;
    let through = (behind + 1) % 3;
    sent.extend(submit(&network, through, "meanwhile", 300).await);
    // The log is cut in the background.
    let log = network.configs[through]
        .data_dir
        .join("channels/trade/raft/purged");
    until("the log to be cut", || if log.exists() { Some(()) } else { None }).await;
    nodes[behind] = Some(network.start(behind).await);
    sent.extend(submit(&network, behind, "after", 10).await);
    assert_agreement(&network, &nodes, &sent).await;
    for node in nodes.into_iter().flatten() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_the_submitter_waits_and_is_told_why() {
    let mut network = Network::new(3, 3, |_| {});
    for config in &mut network.configs {
        config.raft.submit_timeout = Duration::from_secs(2);
    }
    let mut nodes = three(&network).await;
    submit(&network, 0, "all there", 5).await;
    let alone = leader(&nodes).await;
    for i in (0..3).filter(|i| *i != alone) {
        nodes[i].take().unwrap().stop().await;
    }
    let signer = network.members.client();
    let mut client = network.broadcaster(alone);
    let answers = broadcast(&mut client, vec![transaction(&signer, b"alone")]).await;
    assert_eq!(answers[0].0, common::Status::ServiceUnavailable);
    assert!(answers[0].1.contains("majority"), "{}", answers[0].1);
    // One of them comes back, and the work goes on.
    let back = (alone + 1) % 3;
    nodes[back] = Some(network.start(back).await);
    until("a leader", || {
        nodes.iter().flatten().any(|n| n.leads("trade")).then_some(())
    })
    .await;
    let mut accepted = false;
    for _ in 0..10 {
        let answers = broadcast(&mut client, vec![transaction(&signer, b"two")]).await;
        accepted = answers[0].0 == common::Status::Success;
        if accepted {
            break;
        }
    }
    assert!(accepted);
    for node in nodes.into_iter().flatten() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass_though_they_take_longer_than_a_heartbeat() {
    let mut network = Network::new(3, 3, |_| {});
    for config in &mut network.configs {
        config.raft.heartbeat = Duration::from_millis(20);
    }
    let nodes = three(&network).await;
    let signer = network.members.client();
    let mut sent = Vec::new();
    for i in 0..3 {
        let large = vec![u8::try_from(i).unwrap(); 9 << 20];
        let answers = broadcast(&mut network.broadcaster(i), vec![transaction(&signer, &large)]).await;
        assert_eq!(answers[0].0, common::Status::Success, "{}", answers[0].1);
        sent.push(Bytes::from(large));
    }
    assert_agreement(&network, &nodes, &sent).await;
    for node in nodes.into_iter().flatten() {
        node.stop().await;
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_on_disk_at_that_moment() {
    let mut network = Network::new(1, 1, |_| {});
    let node = network.start_joined(0).await;
    let mut sent = Vec::new();
    for round in 0..3 {
        sent.extend(submit(&network, 0, &format!("round {round}"), 40).await);
        // As after a power cut: nothing that the running node would still have written.
        let survived = network.root.path().join(format!("survived {round}"));
        copy(&network.configs[0].data_dir, &survived);
        let mut config = network.configs[0].clone();
        config.data_dir = survived;
        config.listen = "127.0.0.1:0".into();
        let reborn = Orderer::start(config.clone()).await.unwrap();
        config.listen = reborn.address().to_string();
        let original = std::mem::replace(&mut network.configs[0], config);
        let last = height(&reborn) - 1;
        let found: BTreeSet<Bytes> = contents(&network.blocks(0, last).await).into_iter().collect();
        assert!(sent.iter().all(|s| found.contains(s)));
        submit(&network, 0, "afterwards", 3).await;
        reborn.stop().await;
        network.configs[0] = original;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_restored_from_an_old_backup_is_brought_up_to_date() {
    let network = Network::new(3, 3, |_| {});
    let mut nodes = three(&network).await;
    let mut sent = submit(&network, 0, "early", 50).await;
    same_height(&nodes).await;
    let old = (leader(&nodes).await + 1) % 3;
    nodes[old].take().unwrap().stop().await;
    let data = &network.configs[old].data_dir;
    let backup = network.root.path().join("backup");
    copy(data, &backup);
    nodes[old] = Some(network.start(old).await);
    sent.extend(submit(&network, old, "late", 200).await);
    same_height(&nodes).await;
    nodes[old].take().unwrap().stop().await;
    std::fs::remove_dir_all(data).unwrap();
    copy(&backup, data);
    nodes[old] = Some(network.start(old).await);
    sent.extend(submit(&network, old, "restored", 20).await);
    assert_agreement(&network, &nodes, &sent).await;
    for node in nodes.into_iter().flatten() {
        node.stop().await;
    }
}
