//! Every rule of spec 03 §10.2 steps 1 to 6, each with an update that breaks it and nothing else.

use std::time::Duration;

use selvedge_channel::update::{self, edit::ConfigTree};
use selvedge_channel::{ConfigError, UpdateError};
use selvedge_proto::{Message, common, orderer};

use crate::network::{CHANNEL, Network, Org, update_envelope};

/// The update to a batch timeout of 300 ms, for changing by hand.
pub(crate) fn timeout_update(network: &Network) -> common::ConfigUpdate {
    let mut tree = ConfigTree::from_config(network.bundle.config());
    tree.set_batch_timeout(Duration::from_millis(300)).unwrap();
    update::compute(CHANNEL, network.bundle.config(), &tree.into_config()).unwrap()
}

fn orderer_group(set: &mut Option<common::ConfigGroup>) -> &mut common::ConfigGroup {
    set.as_mut().unwrap().groups.get_mut("Orderer").unwrap()
}

fn timeout(update: &mut common::ConfigUpdate) -> &mut common::ConfigValue {
    orderer_group(&mut update.write_set)
        .values
        .get_mut("BatchTimeout")
        .unwrap()
}

#[test]
fn a_good_update_takes_effect() {
    let network = Network::new();
    let proposed = network
        .propose(&timeout_update(&network), &[network.orderer.identity("admin")])
        .unwrap();
    let next = network.bundle.validate_config_tx(&proposed).unwrap();
    assert_eq!(next.sequence(), 1);
    assert_eq!(next.orderer().unwrap().batch_timeout, Duration::from_millis(300));
    let root = next.config().channel_group.as_ref().unwrap();
    assert_eq!(root.groups["Orderer"].values["BatchTimeout"].version, 1);
    assert_eq!((root.version, root.groups["Orderer"].version), (0, 0));
}

#[test]
fn type_and_channel_must_be_right() {
    let network = Network::new();
    let admin = network.orderer.identity("admin");
    let mut update = timeout_update(&network);
    update.channel_id = "other".to_owned();
    let error = network
        .propose(&update, std::slice::from_ref(&admin))
        .unwrap_err();
    assert!(matches!(error, UpdateError::WrongChannel { .. }), "{error}");
    let config = common::ConfigEnvelope::default();
    let envelope = update::config_transaction(CHANNEL, &config, &admin).unwrap();
    assert!(matches!(
        network.bundle.propose_update(&envelope),
        Err(UpdateError::WrongType(1))
    ));
    assert!(
        network
            .bundle
            .propose_update(&common::Envelope::default())
            .is_err()
    );
}

#[test]
fn read_set_must_be_current() {
    let network = Network::new();
    let mut update = timeout_update(&network);
    orderer_group(&mut update.read_set).version = 3;
    orderer_group(&mut update.write_set).version = 3;
    let error = network.propose(&update, &network.admins()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "proposed update requires that key [Group]  /Channel/Orderer be at version 3, but it is currently at version \
         0: the configuration has changed since; fetch the current one and compute the update again"
    );
    let mut update = timeout_update(&network);
    let gone = common::ConfigValue::default();
    orderer_group(&mut update.read_set)
        .values
        .insert("Gone".to_owned(), gone);
    let error = network.propose(&update, &network.admins()).unwrap_err();
    assert!(matches!(error, UpdateError::ReadSetMissing { .. }), "{error}");
}

#[test]
fn something_must_change() {
    let network = Network::new();
    let mut update = timeout_update(&network);
    update.write_set.clone_from(&update.read_set);
    let error = network.propose(&update, &network.admins()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "delta set was empty -- update would have no effect"
    );
    let same = network.bundle.config();
    assert!(matches!(
        update::compute(CHANNEL, same, same),
        Err(UpdateError::NoEffect)
    ));
}

#[test]
fn mod_policy_must_be_a_policy_name() {
    let network = Network::new();
    for bad in ["", "/", "a b", "Admins/"] {
        let mut update = timeout_update(&network);
        timeout(&mut update).mod_policy = bad.to_owned();
        let error = network.propose(&update, &network.admins()).unwrap_err();
        assert!(
            matches!(error, UpdateError::BadModPolicy { .. }),
            "{bad}: {error}"
        );
    }
}

#[test]
fn changed_elements_take_the_next_version() {
    let network = Network::new();
    for version in [0, 2, u64::MAX] {
        let mut update = timeout_update(&network);
        timeout(&mut update).version = version;
        let error = network.propose(&update, &network.admins()).unwrap_err();
        assert!(
            matches!(error, UpdateError::ElementVersion { current: 0, .. }),
            "{version}: {error}"
        );
    }
}

#[test]
fn new_elements_start_at_version_0() {
    let network = Network::new();
    let org3 = Org::new("Org3MSP");
    let mut tree = ConfigTree::from_config(network.bundle.config());
    tree.add_application_org(&org3.profile()).unwrap();
    let mut update = update::compute(CHANNEL, network.bundle.config(), &tree.into_config()).unwrap();
    network.propose(&update, &network.admins()).unwrap();
    let application = update
        .write_set
        .as_mut()
        .unwrap()
        .groups
        .get_mut("Application")
        .unwrap();
    application.groups.get_mut("Org3").unwrap().version = 1;
    let error = network.propose(&update, &network.admins()).unwrap_err();
    assert!(
        matches!(error, UpdateError::NewElementVersion { version: 1, .. }),
        "{error}"
    );
}

#[test]
fn names_must_be_allowed() {
    let network = Network::new();
    let mut update = timeout_update(&network);
    let extra = common::ConfigGroup {
        mod_policy: "Admins".to_owned(),
        ..Default::default()
    };
    update
        .write_set
        .as_mut()
        .unwrap()
        .groups
        .insert("a/b".to_owned(), extra);
    let error = network.propose(&update, &network.admins()).unwrap_err();
    assert!(matches!(error, UpdateError::Name(_)), "{error}");
}

#[test]
fn members_join_only_through_their_group() {
    let network = Network::new();
    let mut update = timeout_update(&network);
    // A new member whose group keeps its version has no place in the result.
    let stray = common::ConfigPolicy {
        policy: network.bundle.config().channel_group.as_ref().unwrap().policies["Admins"]
            .policy
            .clone(),
        mod_policy: "Admins".to_owned(),
        version: 0,
    };
    orderer_group(&mut update.write_set)
        .policies
        .insert("Stray".to_owned(), stray);
    let error = network.propose(&update, &network.admins()).unwrap_err();
    assert!(
        matches!(&error, UpdateError::NotInResult { element } if element.path == "/Channel/Orderer/Stray"),
        "{error}"
    );
}

#[test]
fn values_must_have_a_meaning_where_they_stand() {
    let network = Network::new();
    let add = |path: &'static str| {
        network.change(
            move |tree| {
                let value = common::ConfigValue {
                    mod_policy: "Admins".to_owned(),
                    ..Default::default()
                };
                tree.group_mut(path)
                    .unwrap()
                    .values
                    .insert("Ghost".to_owned(), value);
            },
            &network.admins(),
        )
    };
    for path in [
        "/Channel",
        "/Channel/Orderer",
        "/Channel/Application",
        "/Channel/Application/Org1",
    ] {
        let error = add(path).unwrap_err();
        assert!(
            matches!(&error, UpdateError::Config(ConfigError::Misplaced { element, .. })
                if element.path == format!("{path}/Ghost")),
            "{error}"
        );
    }
    let nested = |tree: &mut ConfigTree| {
        let org = tree.group_mut("/Channel/Application/Org1").unwrap();
        let sub = common::ConfigGroup {
            mod_policy: "Admins".to_owned(),
            ..Default::default()
        };
        org.groups.insert("Sub".to_owned(), sub);
    };
    let error = network.change(nested, &network.admins()).unwrap_err();
    assert!(
        matches!(error, UpdateError::Config(ConfigError::Misplaced { .. })),
        "{error}"
    );
}

#[test]
fn removed_members_are_gone_and_the_others_stay() {
    let network = Network::new();
    let proposed = network
        .change(
            |tree| tree.remove_application_org("Org2").unwrap(),
            &network.admins(),
        )
        .unwrap();
    let next = network.bundle.validate_config_tx(&proposed).unwrap();
    let application = next.application().unwrap();
    assert_eq!(application.msp_ids(), ["Org1MSP"]);
    assert!(next.msps().get("Org2MSP").is_none());
    let before = &network.bundle.config().channel_group.as_ref().unwrap().groups["Application"];
    let after = &next.config().channel_group.as_ref().unwrap().groups["Application"];
    assert_eq!(after.version, before.version + 1);
    assert_eq!(after.groups["Org1"], before.groups["Org1"]);
    assert_eq!(after.policies, before.policies);
}

#[test]
fn unchanged_content_is_the_current_one_whatever_the_write_set_says() {
    let network = Network::new();
    let mut update = timeout_update(&network);
    let read = orderer_group(&mut update.read_set);
    read.values
        .insert("BatchSize".to_owned(), common::ConfigValue::default());
    let forged = orderer::BatchSize {
        max_message_count: 1,
        absolute_max_bytes: 1,
        preferred_max_bytes: 1,
    };
    let forged = common::ConfigValue {
        value: forged.encode_to_vec().into(),
        ..Default::default()
    };
    orderer_group(&mut update.write_set)
        .values
        .insert("BatchSize".to_owned(), forged);
    let proposed = network
        .propose(&update, &[network.orderer.identity("admin")])
        .unwrap();
    let next = network.bundle.validate_config_tx(&proposed).unwrap();
    assert_eq!(next.orderer().unwrap().batch_size, network.profile.batch_size);
}

#[test]
fn policies_in_force_before_the_change_decide() {
    let network = Network::new();
    let update = timeout_update(&network);
    let text = network
        .propose(&update, &[network.org1.identity("admin")])
        .unwrap_err()
        .to_string();
    for part in [
        "policy for [Value]  /Channel/Orderer/BatchTimeout (at version 0) not satisfied",
        "0 sub-policies were satisfied, but this policy requires 1 of the 'Admins' sub-policies",
        "/Channel/Orderer/Orderer/Admins",
        "OrdererMSP.admin",
        "admin.Org1MSP",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    // No admin, no right.
    assert!(
        network
            .propose(&update, &[network.orderer.identity("client")])
            .is_err()
    );
    // The mod_policy that the update brings along does not count for itself.
    let mut weakened = timeout_update(&network);
    timeout(&mut weakened).mod_policy = "/Channel/Application/Writers".to_owned();
    assert!(
        network
            .propose(&weakened, &[network.org1.identity("client")])
            .is_err()
    );
    // Once it is in force, it does.
    let proposed = network
        .propose(&weakened, &[network.orderer.identity("admin")])
        .unwrap();
    let weak = Network {
        bundle: network.bundle.validate_config_tx(&proposed).unwrap(),
        ..network
    };
    let client = weak.org1.identity("client");
    weak.change(
        |tree| tree.set_batch_timeout(Duration::from_secs(9)).unwrap(),
        &[client],
    )
    .unwrap();
}

#[test]
fn groups_ask_a_majority_for_their_membership() {
    let network = Network::new();
    let org3 = Org::new("Org3MSP");
    let add = |tree: &mut ConfigTree| tree.add_application_org(&org3.profile()).unwrap();
    let (one, two) = (network.org1.identity("admin"), network.org2.identity("admin"));
    let error = network.change(add, std::slice::from_ref(&one)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("[Group]  /Channel/Application"), "{text}");
    assert!(
        text.contains("1 sub-policies were satisfied, but this policy requires 2"),
        "{text}"
    );
    assert!(text.contains("/Channel/Application/Org2/Admins"), "{text}");
    assert!(!text.contains("/Channel/Application/Org1/Admins"), "{text}");
    network.change(add, &[one.clone(), two]).unwrap();
    // The same admin twice is one signer.
    assert!(network.change(add, &[one.clone(), one]).is_err());
}

#[test]
fn signatures_cover_the_update() {
    let network = Network::new();
    let admin = network.orderer.identity("admin");
    let update = timeout_update(&network);
    let other = update::sign(b"something else", &admin).unwrap();
    let bytes = update.encode_to_vec();
    let envelope = update::envelope(CHANNEL, bytes.into(), vec![other], &admin).unwrap();
    assert!(matches!(
        network.bundle.propose_update(&envelope),
        Err(UpdateError::NotAuthorised { .. })
    ));
    // Collected one by one, as an envelope that goes around.
    let unsigned = update_envelope(&update, &[]);
    assert!(network.bundle.propose_update(&unsigned).is_err());
    let signed = update::add_signature(&unsigned, &admin).unwrap();
    network.bundle.propose_update(&signed).unwrap();
}
