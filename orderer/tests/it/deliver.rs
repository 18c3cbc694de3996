//! Deliver: positions, waiting, refusals.

use bytes::Bytes;
use selvedge_channel::Bundle;
use selvedge_channel::verify::BlockVerifier;
use selvedge_proto::orderer::deliver_response::Type;
use selvedge_proto::orderer::seek_info::{SeekBehavior, SeekContentType};
use selvedge_proto::orderer::seek_position::Type as At;
use selvedge_proto::{common, orderer};

use crate::support::{
    CHANNEL, Network, Org, broadcast, clock, hashes, seek, seek_envelope, specified, transaction,
};

/// Numbers of the blocks that come for one request, and the status at the end.
async fn numbers(network: &Network, envelope: common::Envelope) -> (Vec<u64>, i32) {
    let mut answers = network.deliver(0, vec![envelope]).await;
    let mut numbers = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.r#type.unwrap() {
            Type::Block(block) => numbers.push(block.header.unwrap().number),
            Type::Status(status) => return (numbers, status),
        }
    }
    panic!("the stream ended without a status");
}

fn newest() -> At {
    At::Newest(orderer::SeekNewest {})
}

fn oldest() -> At {
    At::Oldest(orderer::SeekOldest {})
}

async fn with_blocks(count: usize) -> (Network, selvedge_orderer::Orderer) {
    let network = Network::new(1, 1, |profile| profile.batch_size.max_message_count = 1);
    let node = network.start_joined(0).await;
    let client = network.members.client();
    let envelopes = (0..count)
        .map(|n| transaction(&client, &[u8::try_from(n).unwrap()]))
        .collect();
    let answers = broadcast(&mut network.broadcaster(0), envelopes).await;
    assert!(
        answers.iter().all(|a| a.0 == common::Status::Success),
        "{answers:?}"
    );
    (network, node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_and_ends() {
    let (network, node) = with_blocks(4).await;
    let client = network.members.client();
    let not_ready = |mut s: orderer::SeekInfo| {
        s.behavior = SeekBehavior::FailIfNotReady as i32;
        s
    };
    let next = At::NextCommit(orderer::SeekNextCommit {});
    let mut from_nowhere = seek(oldest(), newest());
    from_nowhere.start = Some(orderer::SeekPosition::default());
    let cases: Vec<(&str, orderer::SeekInfo, Vec<u64>, i32)> = vec![
        ("all", seek(oldest(), newest()), vec![0, 1, 2, 3, 4], 200),
        ("newest alone", seek(newest(), newest()), vec![4], 200),
        ("oldest alone", seek(oldest(), oldest()), vec![0], 200),
        ("a range", seek(specified(1), specified(3)), vec![1, 2, 3], 200),
        ("backwards", seek(specified(3), specified(1)), vec![], 400),
        ("beyond the end", seek(specified(6), specified(9)), vec![], 404),
        (
            "beyond the end, backwards",
            seek(specified(1000), specified(5)),
            vec![],
            404,
        ),
        ("from nowhere", from_nowhere, vec![], 404),
        (
            "past the end, not waiting",
            not_ready(seek(specified(3), specified(9))),
            vec![3, 4],
            404,
        ),
        (
            "next, not waiting",
            not_ready(seek(next, specified(u64::MAX))),
            vec![],
            404,
        ),
        ("no positions", orderer::SeekInfo::default(), vec![], 400),
    ];
    for (name, seek, expected, status) in cases {
        let envelope = seek_envelope(&client, CHANNEL, &seek, Some(clock()), Bytes::new());
        assert_eq!(numbers(&network, envelope).await, (expected, status), "{name}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals() {
    let (network, node) = with_blocks(1).await;
    let client = network.members.client();
    let stranger = Org::new(&network.root.path().join("elsewhere"), "StrangerMSP").client();
    let expired = network.members.identity("expired", "client", -1000);
    let all = seek(oldest(), newest());
    let make = |signer, channel, at| seek_envelope(signer, channel, &all, at, Bytes::new());
    let mut forged = make(&client, CHANNEL, Some(clock()));
    forged.signature = Bytes::from_static(b"no");
    let cases = [
        ("no timestamp", make(&client, CHANNEL, None), 400),
        ("old", make(&client, CHANNEL, Some(clock() - 1000)), 400),
        (
            "from the future",
            make(&client, CHANNEL, Some(clock() + 1000)),
            400,
        ),
        ("channel", make(&client, "nowhere", Some(clock())), 404),
        ("stranger", make(&stranger, CHANNEL, Some(clock())), 403),
        ("expired", make(&expired, CHANNEL, Some(clock())), 403),
        ("forged", forged, 403),
        ("empty", common::Envelope::default(), 400),
    ];
    for (name, envelope, status) in cases {
        assert_eq!(numbers(&network, envelope).await, (vec![], status), "{name}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_waits_for_blocks_and_takes_further_requests() {
    let (network, node) = with_blocks(1).await;
    let client = network.members.client();
    let ask = |s: orderer::SeekInfo| seek_envelope(&client, CHANNEL, &s, Some(clock()), Bytes::new());
    let mut headers = seek(specified(0), specified(1));
    headers.content_type = SeekContentType::HeaderWithSig as i32;
    let mut answers = network
        .deliver(0, vec![ask(seek(specified(2), specified(3))), ask(headers)])
        .await;
    let envelopes = vec![transaction(&client, b"a"), transaction(&client, b"b")];
    broadcast(&mut network.broadcaster(0), envelopes).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(answers.message().await.unwrap().unwrap().r#type.unwrap());
    }
    let block = |t: &Type| match t {
        Type::Block(b) => Some((b.header.as_ref().unwrap().number, b.data.is_some())),
        Type::Status(status) => {
            assert_eq!(*status, 200);
            None
        }
    };
    let found: Vec<_> = seen.iter().map(block).collect();
    // Configuration blocks keep their data.
    assert_eq!(
        found,
        [
            Some((2, true)),
            Some((3, true)),
            None,
            Some((0, true)),
            Some((1, false)),
            None
        ]
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_what_a_peer_accepts() {
    let (network, node) = with_blocks(3).await;
    let blocks = network.blocks(0, 3).await;
    let bundle = std::sync::Arc::new(Bundle::from_config_block(&blocks[0]).unwrap());
    let verifier = BlockVerifier::new(bundle);
    let hashes = hashes(&blocks);
    for (i, block) in blocks.iter().enumerate().skip(1) {
        verifier.verify(block, i as u64, Some(&hashes[i - 1])).unwrap();
        assert_eq!(selvedge_proto::block_last_config_index(block).unwrap(), 0);
    }
    node.stop().await;
}
