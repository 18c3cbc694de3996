//! What may follow on a configuration (spec 03 §10.2 step 7), and config transactions (§10.3).

use selvedge_channel::update::{self, edit::ConfigTree};
use selvedge_channel::{Bundle, ConfigError, ConsensusError, NodeRole, UpdateError, verify};
use selvedge_proto::{Message, common, orderer};

use crate::network::{CHANNEL, Network};
use crate::rules::timeout_update;

#[test]
fn unknown_capabilities_are_refused_by_those_they_concern() {
    let network = Network::new();
    let ask = |path: &'static str| {
        let names = vec!["V2_0".to_owned(), "V99_0".to_owned()];
        network.change(
            |tree| tree.set_capabilities(path, &names).unwrap(),
            &network.admins(),
        )
    };
    for path in ["/Channel", "/Channel/Orderer", "/Channel/Application"] {
        let text = ask(path).unwrap_err().to_string();
        assert!(text.contains("capability V99_0 is required by"), "{text}");
    }
    let mut tree = ConfigTree::from_config(network.bundle.config());
    tree.set_capabilities("/Channel/Orderer", &["V99_0".to_owned()])
        .unwrap();
    let config = tree.into_config();
    Bundle::from_config_as(NodeRole::Peer, CHANNEL, config.clone()).unwrap();
    assert!(Bundle::from_config_as(NodeRole::Orderer, CHANNEL, config).is_err());
    let mut tree = ConfigTree::from_config(network.bundle.config());
    tree.set_capabilities("/Channel/Application", &["V99_0".to_owned()])
        .unwrap();
    let config = tree.into_config();
    Bundle::from_config_as(NodeRole::Orderer, CHANNEL, config.clone()).unwrap();
    assert!(Bundle::from_config_as(NodeRole::Peer, CHANNEL, config).is_err());
}

#[test]
fn msp_ids_may_not_change() {
    let network = Network::new();
    for (path, org) in [
        ("/Channel/Application/Org1", "Org1MSP"),
        ("/Channel/Orderer/Orderer", "OrdererMSP"),
    ] {
        let rename = |tree: &mut ConfigTree| {
            tree.edit_msp(path, |msp| msp.name = "RenamedMSP".to_owned())
                .unwrap();
        };
        let error = network.change(rename, &network.admins()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&format!("attempted to change MSP ID from {org} to RenamedMSP")),
            "{text}"
        );
    }
}

#[test]
fn main_groups_may_not_go() {
    let network = Network::new();
    for group in ["Application", "Orderer"] {
        let drop_group = |tree: &mut ConfigTree| {
            tree.group_mut("/Channel").unwrap().groups.remove(group);
        };
        let error = network.change(drop_group, &network.admins()).unwrap_err();
        assert!(matches!(error, UpdateError::Immutable { .. }), "{group}: {error}");
    }
}

#[test]
fn results_that_no_node_could_use_are_refused() {
    let network = Network::new();
    let root_value = |name: &'static str| {
        network.change(
            move |tree| {
                tree.group_mut("/Channel/Orderer")
                    .unwrap()
                    .values
                    .get_mut(name)
                    .unwrap()
                    .value = vec![0xff].into();
            },
            &network.admins(),
        )
    };
    for name in ["BatchSize", "BatchTimeout", "ConsensusType", "Capabilities"] {
        let error = root_value(name).unwrap_err();
        assert!(
            matches!(error, UpdateError::Config(ConfigError::Undecodable { .. })),
            "{name}: {error}"
        );
    }
    let broken_policy = common::Policy {
        r#type: 2,
        value: Vec::new().into(),
    };
    let error = network
        .change(
            |tree| tree.set_policy("/Channel", "Odd", broken_policy).unwrap(),
            &network.admins(),
        )
        .unwrap_err();
    assert!(
        matches!(error, UpdateError::Config(ConfigError::PolicyForm { .. })),
        "{error}"
    );
}

#[test]
fn consensus_type_changes_in_maintenance_only() {
    let network = Network::new();
    let to_bft = |tree: &mut ConfigTree| {
        let value = tree
            .group_mut("/Channel/Orderer")
            .unwrap()
            .values
            .get_mut("ConsensusType")
            .unwrap();
        let mut consensus = orderer::ConsensusType::decode(value.value.clone()).unwrap();
        consensus.r#type = "BFT".to_owned();
        value.value = consensus.encode_to_vec().into();
    };
    let error = network.change(to_bft, &network.admins()).unwrap_err();
    assert!(
        matches!(error, UpdateError::Consensus(ConsensusError::TypeChange { .. })),
        "{error}"
    );
    let state = orderer::consensus_type::State::Maintenance;
    let proposed = network
        .change(|tree| tree.set_consensus_state(state).unwrap(), &network.admins())
        .unwrap();
    let resting = Network {
        bundle: network.bundle.validate_config_tx(&proposed).unwrap(),
        ..network
    };
    assert!(resting.bundle.orderer().unwrap().in_maintenance());
    // This ordering service does not run the other type itself.
    let error = resting.change(to_bft, &resting.admins()).unwrap_err();
    assert!(
        matches!(error, UpdateError::Consensus(ConsensusError::UnsupportedType(_))),
        "{error}"
    );
}

#[test]
fn consenters_change_one_at_a_time() {
    let network = Network::new();
    let now = network.profile.consenters.clone();
    let new = |i: u32| {
        network
            .orderer
            .consenter(&format!("orderer{i}.example.com"), 7050)
    };
    let set = |consenters: Vec<_>| {
        network.change(
            |tree| tree.set_consenters(&consenters).unwrap(),
            &network.admins(),
        )
    };
    set([now.clone(), vec![new(3)]].concat()).unwrap();
    set(now[1..].to_vec()).unwrap();
    let renewed = network.orderer.consenter("orderer0.example.com", 7050);
    set([vec![renewed], now[1..].to_vec()].concat()).unwrap();
    let error = set([now.clone(), vec![new(3), new(4)]].concat()).unwrap_err();
    assert!(
        matches!(
            error,
            UpdateError::Consensus(ConsensusError::ManyChanges { added: 2, removed: 0 })
        ),
        "{error}"
    );
    let error = set(now[2..].to_vec()).unwrap_err();
    assert!(
        matches!(
            error,
            UpdateError::Consensus(ConsensusError::ManyChanges { removed: 2, .. })
        ),
        "{error}"
    );
    assert!(set(Vec::new()).is_err());
}

#[test]
fn config_transactions_must_be_the_next_and_whole() {
    let network = Network::new();
    let proposed = network
        .propose(&timeout_update(&network), &network.admins())
        .unwrap();
    let refused = |edit: &dyn Fn(&mut common::ConfigEnvelope)| {
        let mut transaction = proposed.clone();
        edit(&mut transaction);
        network.bundle.validate_config_tx(&transaction).unwrap_err()
    };
    assert!(matches!(
        refused(&|t| t.config = None),
        UpdateError::Missing("config")
    ));
    assert!(matches!(
        refused(&|t| t.last_update = None),
        UpdateError::Missing("last_update")
    ));
    for sequence in [0, 2] {
        assert!(matches!(
            refused(&|t| t.config.as_mut().unwrap().sequence = sequence),
            UpdateError::Sequence { current: 0, .. }
        ));
    }
    let bumped = refused(&|t| t.config.as_mut().unwrap().channel_group.as_mut().unwrap().version = 5);
    assert!(matches!(bumped, UpdateError::ResultDiffers(_)), "{bumped}");
}

#[test]
fn orderers_config_transaction_reads_back() {
    let network = Network::new();
    let proposed = network
        .propose(&timeout_update(&network), &network.admins())
        .unwrap();
    let node = network.orderer.identity("orderer");
    let envelope = update::config_transaction(CHANNEL, &proposed, &node).unwrap();
    let open = selvedge_proto::open_envelope(&envelope).unwrap();
    assert_eq!(
        (open.channel_header.version, open.channel_header.tx_id.as_str()),
        (0, "")
    );
    assert_eq!(open.signature_header.creator, *node.creator());
    let block = selvedge_proto::new_block(1, Vec::new().into(), vec![envelope.encode_to_vec().into()]);
    assert_eq!(verify::config_envelope(&block).unwrap(), proposed);
    assert_eq!(
        network.bundle.validate_config_tx(&proposed).unwrap().sequence(),
        1
    );
}
