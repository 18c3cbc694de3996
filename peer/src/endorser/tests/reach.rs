//! Beyond the own public state: other channels, and private data.

use super::*;

#[test]
fn another_channel_is_read_and_never_written() {
    let mut world = World::new();
    let calls = contract(
        r#"(data (i32.const 128) "other/second")
        (func $main (export "selvedge_invoke")
          (call $answer (call $invoke (i32.const 128) (i32.const 12) (i32.const 48) (i32.const 12))))"#,
    );
    world.deploy("cc", &calls, false);
    let call = ask("trade", "cc", &[b"f"]);
    let text = |world: &World| {
        let payload = world.net.response(0, &world.user, &call).payload;
        String::from_utf8_lossy(&payload[8..]).into_owned()
    };
    assert!(
        text(&world).starts_with("channel 'second' not found"),
        "{}",
        text(&world)
    );
    let orderer = Org::new("OrdererMSP", "orderer");
    let block = crate::test_network::genesis("second", &orderer, &[&world.net.orgs[0], &world.net.orgs[1]]);
    for peer in &world.net.peers {
        peer.join_channel(block.clone()).unwrap();
    }
    assert!(
        text(&world).contains("chaincode other not found"),
        "{}",
        text(&world)
    );
    world.net.channel = "second".into();
    world.deploy("other", &invoking(PUT), false);
    assert_eq!(text(&world), "value");
    let set = world.rwset(&world.user, &call);
    let names: Vec<_> = set.ns_rwset.iter().map(|n| n.namespace.as_str()).collect();
    assert_eq!(
        names,
        [LIFECYCLE],
        "what was read and written on the other channel is not part of the transaction"
    );
    assert_eq!(
        public(&set, LIFECYCLE).0,
        reads(&[("namespaces/fields/cc/Sequence", "3.0")])
    );

    let system = contract(
        r#"(data (i32.const 128) "qscc")
        (func $main (export "selvedge_invoke")
          (call $answer (call $invoke (i32.const 128) (i32.const 4) (i32.const 48) (i32.const 12))))"#,
    );
    world.net.channel = "trade".into();
    world.deploy("nosy", &system, false);
    let payload = world
        .net
        .response(0, &world.user, &ask("trade", "nosy", &[b"f"]))
        .payload;
    let text = String::from_utf8_lossy(&payload[8..]).into_owned();
    assert_eq!(text, "system chaincode qscc cannot be called by a chaincode");
}

fn collection(required_peer_count: i32) -> protos::CollectionConfigPackage {
    collection_of("OR('Org1MSP.member')", required_peer_count)
}

fn collection_of(members: &str, required_peer_count: i32) -> protos::CollectionConfigPackage {
    let policy = selvedge_msp::policy::dsl::parse(members).unwrap();
    let config = protos::StaticCollectionConfig {
        name: "collection".into(),
        member_orgs_policy: Some(protos::CollectionPolicyConfig {
            payload: Some(protos::collection_policy_config::Payload::SignaturePolicy(policy)),
        }),
        required_peer_count,
        maximum_peer_count: 2,
        member_only_read: true,
        member_only_write: true,
        ..Default::default()
    };
    protos::CollectionConfigPackage {
        config: vec![protos::CollectionConfig {
            payload: Some(protos::collection_config::Payload::StaticCollectionConfig(config)),
        }],
    }
}

/// Writes a private key when the transient map has "key", else reads it.
const PRIVATE: &str = "(if (i32.eq (call $transient (i32.const 0) (i32.const 3)) (i32.const -1))
    (then (call $answer (call $get_private (i32.const 80) (i32.const 10) (i32.const 0) (i32.const 3))))
    (else (call $answer
      (call $put_private (i32.const 80) (i32.const 10) (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5)))))";

#[test]
fn private_data_is_kept_by_its_endorser_and_only_members_touch_it() {
    let world = World::new();
    world.deploy_with("cc", &invoking(PRIVATE), false, Some(collection(0)));
    let read = ask("trade", "cc", &[b"f"]);
    let write = Ask {
        transient: [("key".to_owned(), bytes::Bytes::from_static(b"x"))].into(),
        ..read.clone()
    };
    assert_eq!(world.net.response(0, &world.user, &read).status, 404);
    assert_eq!(world.net.submit(&[0, 1], &world.user, &write), VALID);
    let found = world.net.response(0, &world.user, &read);
    assert_eq!((found.status, found.payload.as_ref()), (200, b"value".as_ref()));
    let set = world.rwset(&world.user, &write);
    assert_eq!(public(&set, LIFECYCLE).0.len(), 5);
    let stranger = world.net.orgs[1].client("bob", &[]);
    let denied = world.net.response(0, &stranger, &read);
    assert!(
        denied
            .message
            .contains("does not have read access permission on privatedata"),
        "{}",
        denied.message
    );
    let denied = world.net.response(0, &stranger, &write);
    assert!(
        denied.message.contains("does not have write access permission"),
        "{}",
        denied.message
    );

    // Who becomes a member later does not get what was written before, and who is none any more keeps it.
    let channel = world.net.peers[0].channel("trade").unwrap();
    let block = channel.committed_block(channel.height() - 1).unwrap().unwrap();
    let delivered = |reader: &SigningIdentity| {
        let sent = crate::deliver::with_private_data(&channel, reader.creator(), &block).unwrap();
        sent.private_data_map.len()
    };
    assert_eq!((delivered(&world.user), delivered(&stranger)), (1, 0));
    world.define(&Deployment {
        name: "cc",
        version: "2.0",
        sequence: 2,
        init_required: false,
        package_id: "",
        collections: Some(collection_of("OR('Org2MSP.member')", 0)),
    });
    assert_eq!((delivered(&world.user), delivered(&stranger)), (1, 0));

    world.deploy_with("strict", &invoking(PRIVATE), false, Some(collection(1)));
    let write = Ask {
        chaincode: "strict".into(),
        ..write
    };
    let text = world.text(&write);
    assert!(
        text.starts_with("error in simulation: failed to distribute private collection, txID "),
        "{text}"
    );
}
