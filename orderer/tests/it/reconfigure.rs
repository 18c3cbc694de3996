//! Config updates: batch settings, consenters that come and go, refused updates.

use bytes::Bytes;
use prost::Message;
use selvedge_channel::update;
use selvedge_channel::update::edit::ConfigTree;
use selvedge_channel::{BatchSize, Bundle};
use selvedge_proto::{common, etcdraft, orderer};

use crate::support::{
    CHANNEL, Network, Org, broadcast, clock, contents, hashes, height, leader, seek, seek_envelope,
    specified, transaction, until,
};

/// The configuration after the last config block of a node.
async fn config(network: &Network, index: usize, last: u64) -> common::Config {
    let blocks = network.blocks(index, last).await;
    let newest = blocks
        .iter()
        .rev()
        .find_map(|b| Bundle::from_config_block(b).ok())
        .unwrap();
    newest.config().clone()
}

async fn change(
    network: &Network,
    index: usize,
    last: u64,
    signer: &selvedge_msp::SigningIdentity,
    edit: impl FnOnce(&mut ConfigTree),
) -> (common::Status, String) {
    let old = config(network, index, last).await;
    let mut tree = ConfigTree::from_config(&old);
    edit(&mut tree);
    let update = update::compute(CHANNEL, &old, &tree.into_config()).unwrap();
    let bytes = Bytes::from(update.encode_to_vec());
    let signature = update::sign(&bytes, signer).unwrap();
    let envelope = update::envelope(CHANNEL, bytes, vec![signature], signer).unwrap();
    broadcast(&mut network.broadcaster(index), vec![envelope])
        .await
        .remove(0)
}

fn consenters(some: &[etcdraft::Consenter]) -> impl FnOnce(&mut ConfigTree) + '_ {
    |tree| tree.set_consenters(some).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_change_for_all_nodes_and_bad_updates_are_refused() {
    let network = Network::new(3, 3, |_| {});
    let mut nodes = Vec::new();
    for i in 0..3 {
        nodes.push(Some(network.start_joined(i).await));
    }
    let leading = leader(&nodes).await;
    let follower = (leading + 1) % 3;
    let admin = network.orderers.identity("admin", "admin", 1000);
    let client = network.members.client();
    let small = BatchSize {
        max_message_count: 1,
        absolute_max_bytes: 5_000,
        preferred_max_bytes: 5_000,
    };
    let (status, info) = change(&network, follower, 0, &client, |t| {
        t.set_batch_size(&small).unwrap()
    })
    .await;
    assert_eq!(status, common::Status::BadRequest);
    assert!(info.contains("Admins"), "{info}");

    let (status, info) = change(&network, follower, 0, &admin, |t| {
        t.set_batch_size(&small).unwrap()
    })
    .await;
    assert_eq!(status, common::Status::Success, "{info}");
    for (i, node) in nodes.iter().enumerate() {
        until("the config block", || {
            (height(node.as_ref().unwrap()) == 2).then_some(())
        })
        .await;
        let too_large = broadcast(
            &mut network.broadcaster(i),
            vec![transaction(&client, &[1; 6_000])],
        )
        .await;
        assert!(too_large[0].1.contains("maximum allowed 5000"), "{too_large:?}");
    }
    let envelopes = (0..5).map(|n| transaction(&client, &[n])).collect();
    let answers = broadcast(&mut network.broadcaster(leading), envelopes).await;
    assert!(
        answers.iter().all(|a| a.0 == common::Status::Success),
        "{answers:?}"
    );
    assert_eq!(
        height(nodes[leading].as_ref().unwrap()),
        7,
        "one message a block now"
    );
    let blocks = network.blocks(leading, 6).await;
    assert_eq!(selvedge_proto::block_last_config_index(&blocks[1]).unwrap(), 1);
    assert_eq!(selvedge_proto::block_last_config_index(&blocks[6]).unwrap(), 1);
    for node in nodes.into_iter().flatten() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_do_not_hear_of_a_channel_that_is_being_onboarded() {
    let network = Network::new(2, 1, |_| {});
    let first = network.start_joined(0).await;
    let admin = network.orderers.identity("admin", "admin", 1000);
    let edit = |tree: &mut ConfigTree| {
        tree.set_batch_timeout(std::time::Duration::from_millis(50))
            .unwrap()
    };
    let (status, info) = change(&network, 0, 0, &admin, edit).await;
    assert_eq!(status, common::Status::Success, "{info}");
    let block = network.blocks(0, 1).await.pop().unwrap();
    // Nobody is there to get the blocks from.
    first.stop().await;
    let second = network.start(1).await;
    second.join(block).await.unwrap();

    let (client, stranger) = (
        network.members.client(),
        Org::new(&network.root.path().join("elsewhere"), "StrangerMSP").client(),
    );
    let all = seek(specified(0), specified(0));
    for (signer, submitted, status) in [
        (&client, common::Status::ServiceUnavailable, 503),
        (&stranger, common::Status::Forbidden, 403),
    ] {
        let answers = broadcast(&mut network.broadcaster(1), vec![transaction(signer, b"t")]).await;
        assert_eq!(answers[0].0, submitted, "{answers:?}");
        let told = answers[0].1.contains("onboarded");
        assert_eq!(
            told,
            submitted == common::Status::ServiceUnavailable,
            "{answers:?}"
        );
        let request = seek_envelope(signer, CHANNEL, &all, Some(clock()), Bytes::new());
        let answer = network.deliver(1, vec![request]).await.message().await.unwrap();
        let expected = orderer::deliver_response::Type::Status(status);
        assert_eq!(answer.unwrap().r#type, Some(expected));
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consenter_joins_and_another_leaves() {
    let network = Network::new(4, 3, |_| {});
    let mut nodes = Vec::new();
    for i in 0..3 {
        nodes.push(Some(network.start_joined(i).await));
    }
    leader(&nodes).await;
    let admin = network.orderers.identity("admin", "admin", 1000);
    let client = network.members.client();
    let answers = broadcast(&mut network.broadcaster(0), vec![transaction(&client, b"first")]).await;
    assert_eq!(answers[0].0, common::Status::Success, "{answers:?}");

    // Node 3 follows first, with the genesis block of a channel that does not list it.
    nodes.push(Some(network.start_joined(3).await));
    let info = nodes[3].as_ref().unwrap().channels().remove(0);
    assert_eq!((info.consensus_relation, info.status), ("follower", "active"));
    until("the follower to have the block", || {
        (height(nodes[3].as_ref().unwrap()) == 2).then_some(())
    })
    .await;
    let refused = broadcast(&mut network.broadcaster(3), vec![transaction(&client, b"no")]).await;
    assert_eq!(refused[0].0, common::Status::ServiceUnavailable);

    let (status, info) = change(&network, 0, 1, &admin, consenters(&network.consenters)).await;
    assert_eq!(status, common::Status::Success, "{info}");
    until("node 3 to be a consenter", || {
        let info = nodes[3].as_ref().unwrap().channels().remove(0);
        (info.consensus_relation == "consenter").then_some(())
    })
    .await;
    let answers = broadcast(
        &mut network.broadcaster(3),
        vec![transaction(&client, b"through the new one")],
    )
    .await;
    assert_eq!(answers[0].0, common::Status::Success, "{answers:?}");

    // The leader itself is removed.
    let leaving = leader(&nodes).await;
    let rest: Vec<_> = (0..4).filter(|i| *i != leaving).collect();
    let remaining: Vec<_> = rest.iter().map(|i| network.consenters[*i].clone()).collect();
    let last = height(nodes[leaving].as_ref().unwrap()) - 1;
    let (status, info) = change(&network, rest[0], last, &admin, consenters(&remaining)).await;
    assert_eq!(status, common::Status::Success, "{info}");
    until("the removed node to follow", || {
        let info = nodes[leaving].as_ref().unwrap().channels().remove(0);
        (info.consensus_relation == "follower").then_some(())
    })
    .await;
    let answers = broadcast(
        &mut network.broadcaster(rest[1]),
        vec![transaction(&client, b"without it")],
    )
    .await;
    assert_eq!(answers[0].0, common::Status::Success, "{answers:?}");
    let tip = until("all at one height", || {
        let heights: std::collections::BTreeSet<u64> = nodes.iter().flatten().map(height).collect();
        (heights.len() == 1).then(|| *heights.iter().next().unwrap())
    })
    .await;
    let reference = network.blocks(rest[0], tip - 1).await;
    for i in 0..4 {
        assert_eq!(
            hashes(&network.blocks(i, tip - 1).await),
            hashes(&reference),
            "node {i}"
        );
    }
    assert!(contents(&reference).contains(&Bytes::from_static(b"without it")));
    for node in nodes.into_iter().flatten() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_consenter_joins_with_a_later_config_block() {
    let network = Network::new(2, 1, |_| {});
    let first = network.start_joined(0).await;
    let client = network.members.client();
    let admin = network.orderers.identity("admin", "admin", 1000);
    let envelopes = (0..20).map(|n| transaction(&client, &[n])).collect();
    broadcast(&mut network.broadcaster(0), envelopes).await;
    let last = height(&first) - 1;
    let (status, info) = change(&network, 0, last, &admin, consenters(&network.consenters)).await;
    assert_eq!(status, common::Status::Success, "{info}");
    let blocks = network.blocks(0, last + 1).await;
    let second = network.start(1).await;
    second.join(blocks.last().unwrap().clone()).await.unwrap();
    until("the new node to have the chain", || {
        (height(&second) > last + 1).then_some(())
    })
    .await;
    // Two of two are needed now.
    let answers = broadcast(&mut network.broadcaster(1), vec![transaction(&client, b"both")]).await;
    assert_eq!(answers[0].0, common::Status::Success, "{answers:?}");
    until("both at one height", || {
        (height(&first) == height(&second)).then_some(())
    })
    .await;
    let tip = height(&second) - 1;
    assert_eq!(
        hashes(&network.blocks(0, tip).await),
        hashes(&network.blocks(1, tip).await)
    );
    first.stop().await;
    second.stop().await;
}
