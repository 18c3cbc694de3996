//! What Fabric takes in a block is taken, and what is a mistake all the same is not proposed.

use selvedge_channel::update::edit::ConfigTree;
use selvedge_channel::update::{apply, compute};
use selvedge_channel::{Bundle, UpdateError};
use selvedge_proto::{Message, common, orderer, protos};

use crate::network::{CHANNEL, Network, update_envelope};
use crate::rules::timeout_update;

/// The config transaction that an ordering service would write that does not ask what ours asks.
fn ordered(network: &Network, update: &common::ConfigUpdate) -> common::ConfigEnvelope {
    common::ConfigEnvelope {
        config: Some(apply(network.bundle.config(), update).unwrap()),
        last_update: Some(update_envelope(update, &network.admins())),
    }
}

fn set<M: Message>(tree: &mut ConfigTree, path: &str, name: &str, message: &M) {
    let group = tree.group_mut(path).unwrap();
    let value = group.values.entry(name.to_owned()).or_default();
    value.value = message.encode_to_vec().into();
    value.mod_policy = "Admins".to_owned();
}

fn anchor(tree: &mut ConfigTree, host: &str, port: i32) {
    let good = protos::AnchorPeer {
        host: "good".to_owned(),
        port: 7051,
    };
    let bad = protos::AnchorPeer {
        host: host.to_owned(),
        port,
    };
    let anchors = protos::AnchorPeers {
        anchor_peers: vec![bad, good],
    };
    set(tree, "/Channel/Application/Org1", "AnchorPeers", &anchors);
}

fn consensus(tree: &mut ConfigTree, edit: impl FnOnce(&mut orderer::ConsensusType)) {
    let group = tree.group_mut("/Channel/Orderer").unwrap();
    let mut message = orderer::ConsensusType::decode(group.values["ConsensusType"].value.clone()).unwrap();
    edit(&mut message);
    set(tree, "/Channel/Orderer", "ConsensusType", &message);
}

fn unknown_rule(tree: &mut ConfigTree) {
    let meta = common::ImplicitMetaPolicy {
        sub_policy: "Readers".to_owned(),
        rule: 99,
    };
    let org = tree.group_mut("/Channel/Application/Org1").unwrap();
    org.policies.get_mut("Readers").unwrap().policy = Some(common::Policy {
        r#type: common::policy::PolicyType::ImplicitMeta as i32,
        value: meta.encode_to_vec().into(),
    });
}

type Edit = fn(&mut ConfigTree);

const MISTAKES: [(&str, Edit); 7] = [
    ("'good:0' is no host and port", |tree| anchor(tree, "good", 0)),
    ("':7051' is no host and port", |tree| anchor(tree, "", 7051)),
    ("'good:70000' is no host and port", |tree| {
        anchor(tree, "good", 70000)
    }),
    ("rule 99 is unknown", unknown_rule),
    ("'SHA3_256' is not supported", |tree| {
        let algorithm = common::HashingAlgorithm {
            name: "SHA3_256".to_owned(),
        };
        set(tree, "/Channel", "HashingAlgorithm", &algorithm);
    }),
    ("/Channel/Orderer/ConsensusType is missing", |tree| {
        let group = tree.group_mut("/Channel/Orderer").unwrap();
        group.values.remove("ConsensusType");
    }),
    ("state 7 is unknown", |tree| consensus(tree, |c| c.state = 7)),
];

#[test]
fn a_mistake_is_refused_when_proposed_but_not_in_a_block() {
    for (why, edit) in MISTAKES {
        let network = Network::new();
        let error = network.change(edit, &network.admins()).unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");

        let mut tree = ConfigTree::from_config(network.bundle.config());
        edit(&mut tree);
        let update = compute(CHANNEL, network.bundle.config(), &tree.into_config()).unwrap();
        let transaction = ordered(&network, &update);
        let next = network.bundle.validate_config_tx(&transaction).unwrap();
        // A node starts on it, too.
        Bundle::from_config(CHANNEL, next.config().clone()).unwrap();
        let anchors = &next.application().unwrap().orgs["Org1"].anchor_peers;
        assert!(anchors.iter().all(|(_, port)| *port == 7051), "{anchors:?}");
        assert!(!next.orderer().unwrap().in_maintenance());
    }
}

#[test]
fn a_mistake_that_is_there_already_stands_in_nobodys_way() {
    let mut network = Network::new();
    let mut tree = ConfigTree::from_config(network.bundle.config());
    anchor(&mut tree, "good", 0);
    let update = compute(CHANNEL, network.bundle.config(), &tree.into_config()).unwrap();
    let transaction = ordered(&network, &update);
    network.bundle = network.bundle.validate_config_tx(&transaction).unwrap();
    let proposed = network
        .propose(&timeout_update(&network), &network.admins())
        .unwrap();
    network.bundle = network.bundle.validate_config_tx(&proposed).unwrap();
    // Another one is still refused.
    let error = network
        .change(|tree| anchor(tree, "other", 0), &network.admins())
        .unwrap_err();
    assert!(error.to_string().contains("'other:0'"), "{error}");
}

#[test]
fn peers_do_not_ask_for_maintenance_when_the_consensus_type_changes() {
    let network = Network::new();
    let to_bft = |tree: &mut ConfigTree| consensus(tree, |c| c.r#type = "BFT".to_owned());
    let mut tree = ConfigTree::from_config(network.bundle.config());
    to_bft(&mut tree);
    let update = compute(CHANNEL, network.bundle.config(), &tree.into_config()).unwrap();
    let next = network
        .bundle
        .validate_config_tx(&ordered(&network, &update))
        .unwrap();
    assert_eq!(next.orderer().unwrap().consensus_type, "BFT");

    // Before the capability V1_4_2 the type is fixed. An MSP has to list its admins then.
    let mut tree = ConfigTree::from_config(network.bundle.config());
    tree.set_capabilities("/Channel", &["V1_3".to_owned()]).unwrap();
    let admins = network.admins();
    let orgs = [
        "/Channel/Orderer/Orderer",
        "/Channel/Application/Org1",
        "/Channel/Application/Org2",
    ];
    for (path, admin) in orgs.iter().zip(&admins) {
        tree.edit_msp(path, |msp| {
            msp.fabric_node_ous = None;
            msp.admins = vec![admin.certificate().to_pem().into()];
        })
        .unwrap();
    }
    let old = Bundle::from_config(CHANNEL, tree.into_config()).unwrap();
    let mut tree = ConfigTree::from_config(old.config());
    to_bft(&mut tree);
    let update = compute(CHANNEL, old.config(), &tree.into_config()).unwrap();
    let transaction = common::ConfigEnvelope {
        config: Some(apply(old.config(), &update).unwrap()),
        last_update: Some(update_envelope(&update, &admins)),
    };
    let error = old.validate_config_tx(&transaction).unwrap_err();
    assert!(matches!(error, UpdateError::Consensus(_)), "{error}");
}

#[test]
fn what_is_written_without_a_place_is_left_out() {
    let network = Network::new();
    let plain = timeout_update(&network);
    let mut stray = plain.clone();
    let root = network.bundle.config().channel_group.as_ref().unwrap();
    let orderer = stray.write_set.as_mut().unwrap().groups.get_mut("Orderer");
    orderer.unwrap().policies.insert(
        "Stray".to_owned(),
        common::ConfigPolicy {
            version: 0,
            ..root.policies["Admins"].clone()
        },
    );
    let envelope = update_envelope(&stray, &network.admins());
    assert!(matches!(
        network.bundle.propose_update(&envelope),
        Err(UpdateError::NotInResult { .. })
    ));
    let transaction = common::ConfigEnvelope {
        last_update: Some(envelope),
        ..ordered(&network, &plain)
    };
    let next = network.bundle.validate_config_tx(&transaction).unwrap();
    assert!(next.policy("/Channel/Orderer/Stray").is_none());
}

#[test]
fn without_a_read_set_nothing_is_read() {
    let network = Network::new();
    let root = |network: &Network| network.bundle.config().channel_group.clone().unwrap();
    let without_read_set = |write_set: common::ConfigGroup| common::ConfigUpdate {
        channel_id: CHANNEL.to_owned(),
        read_set: None,
        write_set: Some(write_set),
        ..Default::default()
    };
    // Nothing says that the root was read at version 0, so it counts as written, at a version that it has already.
    let mut value = root(&network).values["HashingAlgorithm"].clone();
    value.version += 1;
    let update = without_read_set(common::ConfigGroup {
        mod_policy: "Admins".to_owned(),
        values: [("HashingAlgorithm".to_owned(), value)].into(),
        ..Default::default()
    });
    let error = network.propose(&update, &network.admins()).unwrap_err();
    assert!(
        matches!(&error, UpdateError::ElementVersion { element, version: 0, .. } if element.path == "/Channel"),
        "{error}"
    );

    // Nor does it stand against an update that sets a root at version 1 to 2, and everything else likewise.
    let mut config = network.bundle.config().clone();
    config.channel_group.as_mut().unwrap().version = 1;
    let network = Network {
        bundle: Bundle::from_config(CHANNEL, config).unwrap(),
        ..network
    };
    let next = next_versions(&root(&network));
    let proposed = network
        .propose(&without_read_set(next.clone()), &network.admins())
        .unwrap();
    let after = network.bundle.validate_config_tx(&proposed).unwrap();
    assert_eq!(after.config().channel_group, Some(next));
}

fn next_versions(group: &common::ConfigGroup) -> common::ConfigGroup {
    let mut next = group.clone();
    next.version += 1;
    for value in next.values.values_mut() {
        value.version += 1;
    }
    for policy in next.policies.values_mut() {
        policy.version += 1;
    }
    for sub in next.groups.values_mut() {
        *sub = next_versions(sub);
    }
    next
}

#[test]
fn an_update_gives_elements_without_a_mod_policy_that_of_the_admins() {
    let network = Network::new();
    let mut config = network.bundle.config().clone();
    let root = config.channel_group.as_mut().unwrap();
    root.values
        .get_mut("HashingAlgorithm")
        .unwrap()
        .mod_policy
        .clear();
    let application = root.groups.get_mut("Application").unwrap();
    application.mod_policy.clear();
    application
        .policies
        .get_mut("Readers")
        .unwrap()
        .mod_policy
        .clear();
    let filled = |config: &common::Config| {
        let root = config.channel_group.as_ref().unwrap();
        let application = &root.groups["Application"];
        [
            root.values["HashingAlgorithm"].mod_policy.clone(),
            application.mod_policy.clone(),
            application.policies["Readers"].mod_policy.clone(),
        ]
    };
    let network = Network {
        bundle: Bundle::from_config(CHANNEL, config.clone()).unwrap(),
        ..network
    };
    let update = timeout_update(&network);
    let proposed = network.propose(&update, &network.admins()).unwrap();
    let next = network.bundle.validate_config_tx(&proposed).unwrap();
    assert_eq!(filled(next.config()), ["Admins"; 3]);

    // While the ordering service has no capabilities they stay as they are; an update that brings these fills them.
    let root = config.channel_group.as_mut().unwrap();
    let orderer = root.groups.get_mut("Orderer").unwrap();
    let capabilities = orderer.values.remove("Capabilities").unwrap();
    let after = apply(&config, &update).unwrap();
    assert_eq!(filled(&after), [""; 3]);
    let mut with = config.clone();
    let root = with.channel_group.as_mut().unwrap();
    let orderer = root.groups.get_mut("Orderer").unwrap();
    orderer.values.insert("Capabilities".to_owned(), capabilities);
    let after = apply(&config, &compute(CHANNEL, &config, &with).unwrap()).unwrap();
    assert_eq!(filled(&after), ["Admins"; 3]);
}
