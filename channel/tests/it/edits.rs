//! Editing a configuration, and showing what an edit changes.

use std::time::Duration;

use selvedge_channel::update::diff::diff;
use selvedge_channel::update::edit::{ConfigTree, EditError};
use selvedge_channel::{BatchSize, Bundle};
use selvedge_msp::RevokedCertificate;
use selvedge_msp::policy::SignedData;
use selvedge_proto::Bytes;

use crate::network::{CHANNEL, Network, Org};

/// The configuration after an edit that the admins agreed to, and the lines that show it.
fn after(network: &Network, edit: impl Fn(&mut ConfigTree)) -> (Bundle, Vec<String>) {
    let proposed = network.change(edit, &network.admins()).unwrap();
    let next = network.bundle.validate_config_tx(&proposed).unwrap();
    let lines = diff(network.bundle.config(), next.config())
        .iter()
        .map(ToString::to_string)
        .collect();
    (next, lines)
}

#[test]
fn batches() {
    let network = Network::new();
    let size = BatchSize {
        max_message_count: 50,
        absolute_max_bytes: 10 * 1024 * 1024,
        preferred_max_bytes: 9,
    };
    let (next, lines) = after(&network, |tree| {
        tree.set_batch_size(&size).unwrap();
        tree.set_batch_timeout(Duration::from_millis(1500)).unwrap();
    });
    assert_eq!(next.orderer().unwrap().batch_size, size);
    assert_eq!(
        lines,
        [
            "~ /Channel/Orderer/BatchSize: max_message_count: 500 -> 50",
            "~ /Channel/Orderer/BatchSize: preferred_max_bytes: 2097152 -> 9",
            "~ /Channel/Orderer/BatchTimeout: 2s -> 1500ms",
        ]
    );
}

#[test]
fn organisations() {
    let network = Network::new();
    let org3 = Org::new("Org3MSP");
    let (next, lines) = after(&network, |tree| {
        tree.add_application_org(&org3.profile()).unwrap()
    });
    assert_eq!(
        next.application().unwrap().msp_ids(),
        ["Org1MSP", "Org2MSP", "Org3MSP"]
    );
    assert_eq!(
        lines,
        ["+ /Channel/Application/Org3: group with Admins, Endorsement, MSP, Readers, Writers"]
    );
    let mut tree = ConfigTree::from_config(next.config());
    assert!(matches!(
        tree.add_application_org(&org3.profile()),
        Err(EditError::Exists(_))
    ));
    tree.remove_application_org("Org3").unwrap();
    assert!(matches!(
        tree.remove_application_org("Org3"),
        Err(EditError::Missing(_))
    ));
    let mut bad = org3.profile();
    bad.name = "a/b".to_owned();
    assert!(matches!(tree.add_application_org(&bad), Err(EditError::Name(_))));
    // An ordering organisation brings its addresses.
    let mut second = org3.profile();
    second.endpoints = vec!["orderer9.example.com:7050".to_owned()];
    let (next, _) = after(&network, |tree| tree.add_orderer_org(&second).unwrap());
    assert_eq!(next.orderer_endpoints().len(), 2);
    assert_eq!(next.orderer_endpoints()[1].msp_id.as_deref(), Some("Org3MSP"));
    assert_eq!(next.orderer_endpoints()[1].tls_roots, [org3.tls_root()]);
}

#[test]
fn anchor_peers() {
    let network = Network::new();
    let anchors = [
        ("peer1.org1.example.com".to_owned(), 7051),
        ("peer2.org1.example.com".to_owned(), 7052),
    ];
    let (next, lines) = after(&network, |tree| tree.set_anchor_peers("Org1", &anchors).unwrap());
    assert_eq!(next.application().unwrap().orgs["Org1"].anchor_peers, anchors);
    assert_eq!(
        lines,
        [
            "- /Channel/Application/Org1/AnchorPeers: peer0.org1.example.com:7051",
            "+ /Channel/Application/Org1/AnchorPeers: peer1.org1.example.com:7051",
            "+ /Channel/Application/Org1/AnchorPeers: peer2.org1.example.com:7052",
        ]
    );
    let (next, _) = after(&network, |tree| tree.set_anchor_peers("Org1", &[]).unwrap());
    assert!(next.application().unwrap().orgs["Org1"].anchor_peers.is_empty());
    let mut tree = ConfigTree::from_config(network.bundle.config());
    assert!(matches!(
        tree.set_anchor_peers("Org9", &anchors),
        Err(EditError::Missing(_))
    ));
}

#[test]
fn revocation_lists_take_the_right_away() {
    let network = Network::new();
    let client = network.org1.identity("client");
    let signed = [SignedData {
        data: vec![Bytes::from_static(b"tx")],
        identity: client.creator().clone(),
        signature: client.sign(b"tx").unwrap(),
    }];
    network
        .bundle
        .evaluate_signed("/Channel/Writers", &signed)
        .unwrap();
    let revoked = RevokedCertificate {
        serial: client.certificate().serial().to_vec(),
        revoked_at: 1_750_000_000,
        reason: 0,
    };
    let crl: Bytes = network
        .org1
        .ca
        .crl(&[revoked], 1, 1_750_000_000, 1_760_000_000)
        .unwrap()
        .into();
    let (next, lines) = after(&network, |tree| {
        tree.set_msp_crls("/Channel/Application/Org1", std::slice::from_ref(&crl))
            .unwrap()
    });
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("+ /Channel/Application/Org1/MSP: revocation_list: #"),
        "{}",
        lines[0]
    );
    let text = next
        .evaluate_signed("/Channel/Writers", &signed)
        .unwrap_err()
        .to_string();
    assert!(text.contains("revoked"), "{text}");
}

#[test]
fn access_control() {
    let network = Network::new();
    let (next, lines) = after(&network, |tree| {
        tree.set_acl("event/Block", Some("Admins")).unwrap()
    });
    assert_eq!(
        next.acl_policy("event/Block").unwrap(),
        "/Channel/Application/Admins"
    );
    assert_eq!(
        lines,
        ["+ /Channel/Application/ACLs: event/Block = /Channel/Application/Admins"]
    );
    let mut tree = ConfigTree::from_config(next.config());
    tree.set_acl("event/Block", None).unwrap();
    let back = Bundle::from_config(CHANNEL, tree.into_config()).unwrap();
    assert_eq!(
        back.acl_policy("event/Block").unwrap(),
        "/Channel/Application/Readers"
    );
}

#[test]
fn consenters_and_endpoints() {
    let network = Network::new();
    let mut consenters = network.profile.consenters.clone();
    consenters.push(network.orderer.consenter("orderer3.example.com", 7050));
    let endpoints = ["orderer0.example.com:7050", "orderer3.example.com:7050"].map(str::to_owned);
    let (next, lines) = after(&network, |tree| {
        tree.set_consenters(&consenters).unwrap();
        tree.set_orderer_endpoints("Orderer", &endpoints).unwrap();
    });
    let orderer = next.orderer().unwrap();
    assert_eq!(orderer.consenters, consenters);
    assert_eq!(
        orderer.raft_options,
        network.bundle.orderer().unwrap().raft_options
    );
    assert_eq!(orderer.org_endpoints["OrdererMSP"], endpoints);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("consenters: ") && lines[0].contains("orderer3.example.com:7050 (client #"),
        "{lines:?}"
    );
}

#[test]
fn a_validated_update_changes_nothing() {
    let network = Network::new();
    let mut tree = ConfigTree::from_config(network.bundle.config());
    tree.set_batch_timeout(Duration::from_secs(3)).unwrap();
    let update =
        selvedge_channel::update::compute(CHANNEL, network.bundle.config(), &tree.into_config()).unwrap();
    let envelope = crate::network::update_envelope(&update, &network.admins());
    let next = network.bundle.validate_update(&envelope).unwrap();
    assert_eq!((next.sequence(), network.bundle.sequence()), (1, 0));
    assert_eq!(next.orderer().unwrap().batch_timeout, Duration::from_secs(3));
}
