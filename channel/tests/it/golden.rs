//! A channel recorded from Hyperledger Fabric: what its peers accepted, this crate must accept, and come to the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use selvedge_channel::verify::{self, BlockVerifier, check_envelope};
use selvedge_channel::{Bundle, NodeRole, UpdateError, update};
use selvedge_proto::{Bytes, Message, block_hash, common};

const BLOCKS: u64 = 96;
const CONFIG_BLOCKS: [u64; 4] = [39, 48, 67, 91];

fn block_bytes(number: u64) -> Bytes {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/golden/A/blocks/{number:03}.block"));
    std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .into()
}

fn block(number: u64) -> common::Block {
    common::Block::decode(block_bytes(number)).unwrap()
}

fn genesis() -> Bundle {
    Bundle::from_config_block(&block(0)).unwrap()
}

#[test]
fn genesis_says_what_the_recording_says() {
    let bundle = genesis();
    assert_eq!(bundle.channel_id(), "golden-a");
    assert_eq!(bundle.sequence(), 0);
    let orderer = bundle.orderer().unwrap();
    assert_eq!(orderer.batch_size.max_message_count, 10);
    assert_eq!(orderer.batch_timeout, Duration::from_millis(400));
    assert_eq!(orderer.consensus_type, "etcdraft");
    assert_eq!(orderer.consenters.len(), 1);
    assert_eq!(orderer.raft_options.as_ref().unwrap().election_tick, 10);
    let application = bundle.application().unwrap();
    assert_eq!(application.msp_ids(), ["Org1MSP", "Org2MSP"]);
    assert_eq!(application.orgs["Org1MSP"].anchor_peers.len(), 1);
    let endpoints = bundle.orderer_endpoints();
    assert_eq!(endpoints.len(), 1);
    assert_eq!(endpoints[0].address, "127.0.0.1:17050");
    assert_eq!(endpoints[0].msp_id.as_deref(), Some("OrdererMSP"));
    assert_eq!(endpoints[0].tls_roots.len(), 1);
    assert!(
        bundle
            .policy("/Channel/Application/LifecycleEndorsement")
            .is_some()
    );
    assert_eq!(
        bundle.acl_policy("peer/Propose").unwrap(),
        "/Channel/Application/Writers"
    );
}

#[test]
fn whole_chain_is_followed() {
    let mut bundle = Arc::new(Bundle::from_config_block_as(NodeRole::Peer, &block(0)).unwrap());
    let mut previous = block_hash(block(0).header.as_ref().unwrap());
    let mut config_blocks = Vec::new();
    for number in 1..BLOCKS {
        let verifier = BlockVerifier::new(bundle.clone());
        let block = verifier
            .verify_bytes(block_bytes(number), number, Some(&previous))
            .unwrap();
        previous = block_hash(block.header.as_ref().unwrap());
        if !verify::is_config_block(&block) {
            continue;
        }
        config_blocks.push(number);
        let transaction = verify::config_envelope(&block).unwrap();
        let proposed = bundle
            .propose_update(transaction.last_update.as_ref().unwrap())
            .unwrap();
        assert_eq!(proposed, transaction, "block {number}");
        let next = bundle.validate_config_tx(&transaction).unwrap();
        assert_eq!(next.config(), transaction.config.as_ref().unwrap());
        bundle = Arc::new(next);
    }
    assert_eq!(config_blocks, CONFIG_BLOCKS);
    assert_eq!(bundle.sequence(), 4);
    assert_eq!(
        bundle.orderer().unwrap().batch_timeout,
        Duration::from_millis(300)
    );
    assert_eq!(bundle.orderer().unwrap().batch_size.max_message_count, 12);
    assert_eq!(
        bundle.application().unwrap().msp_ids(),
        ["Org1MSP", "Org2MSP", "Org3MSP"]
    );
}

#[test]
fn config_transactions_are_not_accepted_out_of_their_order() {
    let bundle = genesis();
    let second = verify::config_envelope(&block(48)).unwrap();
    assert!(matches!(
        bundle.validate_config_tx(&second),
        Err(UpdateError::Sequence {
            current: 0,
            proposed: 2
        })
    ));
    // Its update reads nothing that block 39 changed, so it would do, at another sequence.
    let first = verify::config_envelope(&block(39)).unwrap();
    let after_first = bundle.validate_config_tx(&first).unwrap();
    assert!(after_first.validate_config_tx(&first).is_err());
    assert!(matches!(
        after_first.propose_update(first.last_update.as_ref().unwrap()),
        Err(UpdateError::ElementVersion { .. } | UpdateError::ReadSetVersion { .. })
    ));
}

#[test]
fn an_altered_config_transaction_is_refused() {
    let bundle = genesis();
    let mut transaction = verify::config_envelope(&block(39)).unwrap();
    let root = transaction
        .config
        .as_mut()
        .unwrap()
        .channel_group
        .as_mut()
        .unwrap();
    root.groups.get_mut("Application").unwrap().mod_policy = "Writers".to_owned();
    let error = bundle.validate_config_tx(&transaction).unwrap_err();
    assert!(
        matches!(&error, UpdateError::ResultDiffers(text) if text.contains("/Channel/Application: mod_policy")),
        "{error}"
    );
}

#[test]
fn updates_without_their_signatures_are_refused() {
    let bundle = genesis();
    let transaction = verify::config_envelope(&block(39)).unwrap();
    let mut envelope = transaction.last_update.unwrap();
    let mut payload = common::Payload::decode(envelope.payload.clone()).unwrap();
    let mut update = common::ConfigUpdateEnvelope::decode(payload.data.clone()).unwrap();
    update.signatures.clear();
    payload.data = update.encode_to_vec().into();
    envelope.payload = payload.encode_to_vec().into();
    let text = bundle.propose_update(&envelope).unwrap_err().to_string();
    assert!(
        text.starts_with("error validating DeltaSet: policy for [Value]  /Channel/Orderer/BatchSize"),
        "{text}"
    );
    assert!(
        text.contains("0 sub-policies were satisfied, but this policy requires 1 of the 'Admins'"),
        "{text}"
    );
    assert!(text.contains("/Channel/Orderer/OrdererOrg/Admins"), "{text}");
}

#[test]
fn updates_computed_here_say_what_fabrics_tools_said() {
    let mut bundle = genesis();
    for number in CONFIG_BLOCKS {
        let transaction = verify::config_envelope(&block(number)).unwrap();
        let updated = transaction.config.as_ref().unwrap();
        let ours = update::compute("golden-a", bundle.config(), updated).unwrap();
        let envelope = transaction.last_update.clone().unwrap();
        let payload = common::Payload::decode(envelope.payload).unwrap();
        let theirs = common::ConfigUpdateEnvelope::decode(payload.data)
            .unwrap()
            .config_update;
        assert_eq!(
            ours,
            common::ConfigUpdate::decode(theirs).unwrap(),
            "block {number}"
        );
        bundle = bundle.validate_config_tx(&transaction).unwrap();
    }
}

#[test]
fn differences_read_well() {
    let mut bundle = genesis();
    let mut lines = Vec::new();
    for number in CONFIG_BLOCKS {
        let transaction = verify::config_envelope(&block(number)).unwrap();
        let next = bundle.validate_config_tx(&transaction).unwrap();
        lines.extend(
            update::diff::diff(bundle.config(), next.config())
                .iter()
                .map(ToString::to_string),
        );
        bundle = next;
    }
    assert_eq!(
        lines,
        [
            "~ /Channel/Orderer/BatchSize: max_message_count: 10 -> 12",
            "~ /Channel/Application/Org1MSP/AnchorPeers: 127.0.0.1:17110 -> 127.0.0.1:17210",
            "+ /Channel/Application/Org3MSP: group with Admins, AnchorPeers, Endorsement, MSP, Readers, Writers",
            "~ /Channel/Orderer/BatchTimeout: 400ms -> 300ms",
        ]
    );
}

#[test]
fn every_envelope_of_the_chain_is_canonical() {
    for number in 1..BLOCKS {
        for entry in block(number).data.unwrap().data {
            assert_eq!(check_envelope(&entry), Ok(()), "block {number}");
        }
    }
}
