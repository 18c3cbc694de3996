//! What is refused at Broadcast, with which status, and what the submitter reads.

use bytes::Bytes;
use selvedge_proto::common;

use crate::support::{CHANNEL, Network, Org, broadcast, contents, envelope, transaction};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_name_the_reason() {
    let network = Network::new(1, 1, |profile| {
        profile.batch_size.absolute_max_bytes = 20_000;
        profile.batch_size.preferred_max_bytes = 10_000;
    });
    let node = network.start_joined(0).await;
    let client = network.members.client();
    let stranger = Org::new(&network.root.path().join("elsewhere"), "StrangerMSP").client();
    let impostor = Org::new(&network.root.path().join("impostor"), "Org1MSP").client();
    let expired = network.members.identity("expired", "client", -1000);
    let peer = network.members.identity("peer", "peer", 1000);

    let of_type = |kind: common::HeaderType, channel: &str| {
        let header = common::ChannelHeader {
            r#type: kind as i32,
            channel_id: channel.to_owned(),
            ..Default::default()
        };
        envelope(&client, header, Bytes::from_static(b"x"))
    };
    let mut forged = transaction(&client, b"forged");
    forged.signature = transaction(&client, b"other").signature;
    let mut unsigned = transaction(&client, b"unsigned");
    unsigned.signature = Bytes::new();
    let junk = common::Envelope {
        payload: Bytes::from_static(b"\xff\xff"),
        signature: Bytes::from_static(b"s"),
    };
    use common::HeaderType::{Config, ConfigUpdate, EndorserTransaction, OrdererTransaction};
    use common::Status::{BadRequest, Forbidden};
    let cases = [
        (
            "empty",
            common::Envelope::default(),
            BadRequest,
            "Message was empty",
        ),
        ("junk", junk, BadRequest, "Payload does not decode"),
        (
            "oversize",
            transaction(&client, &[1; 30_000]),
            BadRequest,
            "exceeds maximum allowed 20000 bytes",
        ),
        (
            "expired",
            transaction(&expired, b"late"),
            BadRequest,
            "broadcast client identity expired",
        ),
        (
            "stranger",
            transaction(&stranger, b"who"),
            Forbidden,
            "permission denied",
        ),
        (
            "impostor",
            transaction(&impostor, b"who"),
            Forbidden,
            "permission denied",
        ),
        (
            "a peer is no writer",
            transaction(&peer, b"who"),
            Forbidden,
            "permission denied",
        ),
        ("forged", forged, Forbidden, "permission denied"),
        ("unsigned", unsigned, Forbidden, "permission denied"),
        (
            "channel",
            of_type(EndorserTransaction, "nowhere"),
            BadRequest,
            "channel does not exist",
        ),
        (
            "config",
            of_type(Config, CHANNEL),
            BadRequest,
            "cannot be processed directly",
        ),
        (
            "old",
            of_type(OrdererTransaction, CHANNEL),
            BadRequest,
            "no longer supported",
        ),
        (
            "update",
            of_type(ConfigUpdate, CHANNEL),
            BadRequest,
            "error applying config update",
        ),
    ];
    for (name, refused, status, text) in cases {
        // What comes behind a refused envelope is not looked at: the stream ends.
        let envelopes = vec![
            transaction(&client, b"good"),
            refused,
            transaction(&client, b"behind"),
        ];
        let answers = broadcast(&mut network.broadcaster(0), envelopes).await;
        assert_eq!(answers.len(), 2, "{name}: {answers:?}");
        assert_eq!(answers[0], (common::Status::Success, String::new()), "{name}");
        assert_eq!(answers[1].0, status, "{name}: {}", answers[1].1);
        assert!(answers[1].1.contains(text), "{name}: {}", answers[1].1);
    }
    let refusal = broadcast(&mut network.broadcaster(0), vec![transaction(&peer, b"who")]).await;
    assert!(
        refusal[0].1.contains("Writers") && refusal[0].1.contains("Org1MSP"),
        "{}",
        refusal[0].1
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_behind_a_refused_envelope_is_not_ordered() {
    let network = Network::new(1, 1, |profile| profile.batch_size.max_message_count = 1);
    let node = network.start_joined(0).await;
    let client = network.members.client();
    let stranger = Org::new(&network.root.path().join("elsewhere"), "StrangerMSP").client();
    let mut envelopes = vec![transaction(&stranger, b"who")];
    envelopes.extend((0..20).map(|n| transaction(&client, &[n])));
    let answers = broadcast(&mut network.broadcaster(0), envelopes).await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].0, common::Status::Forbidden);
    let last = transaction(&client, b"last");
    let answers = broadcast(&mut network.broadcaster(0), vec![last]).await;
    assert_eq!(answers[0].0, common::Status::Success, "{answers:?}");
    let found = contents(&network.blocks(0, 1).await);
    assert_eq!(found, [Bytes::from_static(b"last")]);
    node.stop().await;
}
