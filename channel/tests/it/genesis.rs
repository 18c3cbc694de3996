//! The first block of a channel.

use std::collections::HashMap;

use selvedge_channel::genesis::{GenesisError, OrgProfile, genesis_block, genesis_block_at};
use selvedge_channel::{Bundle, ConfigError, ConsensusError, verify};
use selvedge_proto::{
    Bytes, Message, block_data_hash, block_last_config_index, common, compute_tx_id, open_envelope,
};

use crate::network::{CHANNEL, Network, Org};

#[test]
fn block_has_the_form_of_spec_02_9() {
    let network = Network::new();
    let timestamp = prost_types::Timestamp { seconds: 7, nanos: 9 };
    let block = genesis_block_at(&network.profile, timestamp, [5; 24]).unwrap();
    let header = block.header.as_ref().unwrap();
    assert_eq!((header.number, header.previous_hash.len()), (0, 0));
    let data = &block.data.as_ref().unwrap().data;
    assert_eq!(header.data_hash, block_data_hash(data));
    let slots: Vec<String> = block
        .metadata
        .as_ref()
        .unwrap()
        .metadata
        .iter()
        .map(hex::encode)
        .collect();
    // The recorded Fabric chain has the same five slots.
    assert_eq!(slots, ["0a020a00", "", "", "", ""]);
    assert_eq!(block_last_config_index(&block).unwrap(), 0);

    let envelope = common::Envelope::decode(data[0].clone()).unwrap();
    assert!(envelope.signature.is_empty());
    let open = open_envelope(&envelope).unwrap();
    let header = open.channel_header;
    assert_eq!(header.r#type, common::HeaderType::Config as i32);
    assert_eq!((header.version, header.epoch), (1, 0));
    assert_eq!(header.channel_id, CHANNEL);
    assert_eq!(header.timestamp, Some(timestamp));
    assert_eq!(header.tx_id, compute_tx_id(&[5; 24], &[]));
    assert!(open.signature_header.creator.is_empty());
    assert_eq!(open.signature_header.nonce, Bytes::from_static(&[5; 24]));
    assert!(verify::is_config_block(&block));
    let content = verify::config_envelope(&block).unwrap();
    assert!(content.last_update.is_none());
    assert_eq!(content.config.unwrap().sequence, 0);
}

#[test]
fn configuration_says_what_the_profile_says() {
    let network = Network::new();
    let bundle = &network.bundle;
    let orderer = bundle.orderer().unwrap();
    assert_eq!(orderer.batch_size, network.profile.batch_size);
    assert_eq!(orderer.batch_timeout, network.profile.batch_timeout);
    assert_eq!(orderer.consenters, network.profile.consenters);
    assert_eq!(orderer.raft_options.as_ref().unwrap().tick_interval, "500ms");
    assert!(!orderer.in_maintenance());
    let application = bundle.application().unwrap();
    assert_eq!(application.orgs["Org1"].msp_id, "Org1MSP");
    assert_eq!(
        application.orgs["Org1"].anchor_peers,
        [("peer0.org1.example.com".to_owned(), 7051)]
    );
    assert_eq!(application.org_by_msp("Org2MSP").unwrap().0, "Org2");
    assert_eq!(
        application.orgs["Org1"].policies,
        ["Admins", "Endorsement", "Readers", "Writers"]
    );
    for path in [
        "/Channel/Readers",
        "/Channel/Writers",
        "/Channel/Admins",
        "/Channel/Orderer/BlockValidation",
        "/Channel/Application/Endorsement",
        "/Channel/Application/LifecycleEndorsement",
        "/Channel/Application/Org1/Endorsement",
        "/Channel/Orderer/Orderer/Admins",
    ] {
        assert!(bundle.policy(path).is_some(), "{path}");
    }
    assert_eq!(bundle.tls_roots("Org2MSP"), [network.org2.tls_root()]);
    assert!(bundle.tls_roots("Org9MSP").is_empty());
    let root = bundle.config().channel_group.as_ref().unwrap();
    assert_eq!(
        root.values["OrdererAddresses"].mod_policy,
        "/Channel/Orderer/Admins"
    );
}

#[test]
fn v3_channels_have_no_global_addresses() {
    let mut profile = Network::new().profile;
    profile.channel_capabilities = vec!["V3_0".to_owned()];
    let bundle = Bundle::from_config_block(&genesis_block(&profile).unwrap()).unwrap();
    assert!(
        !bundle
            .config()
            .channel_group
            .as_ref()
            .unwrap()
            .values
            .contains_key("OrdererAddresses")
    );
    assert_eq!(bundle.orderer_endpoints().len(), 1);
}

#[test]
fn acls_of_the_profile_replace_the_defaults() {
    let mut profile = Network::new().profile;
    profile.acls = HashMap::from([("peer/Propose".to_owned(), "Endorsement".to_owned())]);
    let bundle = Bundle::from_config_block(&genesis_block(&profile).unwrap()).unwrap();
    assert_eq!(
        bundle.acl_policy("peer/Propose").unwrap(),
        "/Channel/Application/Endorsement"
    );
    assert_eq!(
        bundle.acl_policy("event/Block").unwrap(),
        "/Channel/Application/Readers"
    );
    assert_eq!(bundle.acl_policy("nothing/Known"), None);
}

#[test]
fn unusable_profiles_give_no_block() {
    let network = Network::new();
    let refused = |edit: &dyn Fn(&mut selvedge_channel::genesis::ChannelProfile)| {
        let mut profile = network.profile.clone();
        edit(&mut profile);
        genesis_block(&profile).unwrap_err()
    };
    assert!(matches!(
        refused(&|p| p.channel_id = "Trade".to_owned()),
        GenesisError::Config(ConfigError::Name(_))
    ));
    assert!(matches!(
        refused(&|p| p.consenters.clear()),
        GenesisError::Consensus(ConsensusError::NoConsenters)
    ));
    assert!(matches!(
        refused(&|p| p.consenters[1] = p.consenters[0].clone()),
        GenesisError::Consensus(ConsensusError::Duplicate { .. })
    ));
    let stranger = Org::new("StrangerMSP");
    assert!(matches!(
        refused(&|p| p.consenters[0] = stranger.consenter("o.example.com", 1)),
        GenesisError::Consensus(ConsensusError::Consenter { .. })
    ));
    assert!(matches!(
        refused(&|p| p.raft.election_tick = 1),
        GenesisError::Consensus(ConsensusError::Option {
            option: "election_tick",
            ..
        })
    ));
    assert!(matches!(
        refused(&|p| p.batch_size.preferred_max_bytes = u32::MAX),
        GenesisError::Config(ConfigError::Invalid { .. })
    ));
    assert!(matches!(
        refused(&|p| p.batch_timeout = std::time::Duration::ZERO),
        GenesisError::Config(ConfigError::Invalid { .. })
    ));
    assert!(matches!(
        refused(&|p| p.application_orgs[1].name = "Org1".to_owned()),
        GenesisError::DuplicateOrg { .. }
    ));
    assert!(matches!(
        refused(&|p| p.application_orgs[1].msp_id = "Other".to_owned()),
        GenesisError::MspId { .. }
    ));
    assert!(matches!(
        refused(&|p| p.application_capabilities = vec!["V9_9".to_owned()]),
        GenesisError::Config(ConfigError::UnsupportedCapability { .. })
    ));
    let impostor = Org::new("Org1MSP");
    assert!(matches!(
        refused(&|p| p.orderer_orgs.push(OrgProfile {
            name: "Shadow".to_owned(),
            ..impostor.profile()
        })),
        GenesisError::Config(ConfigError::MspConflict { .. })
    ));
}
