//! Signing blocks, and verifying them.

use std::sync::Arc;

use selvedge_channel::verify::{
    BlockRefusal, BlockVerifier, CanonicalFault, JoinRefusal, check_join_block, sign_block,
};
use selvedge_channel::{Bundle, NodeRole, genesis};
use selvedge_msp::SigningIdentity;
use selvedge_proto::{
    Bytes, Message, block_data_hash, block_hash, block_header_bytes, block_last_config_index, common,
    etcdraft, msp, new_block,
};

use crate::network::{CHANNEL, Network, Org};

fn entry(payload: &[u8]) -> Bytes {
    common::Envelope {
        payload: Bytes::copy_from_slice(payload),
        signature: Bytes::from_static(b"s"),
    }
    .encode_to_vec()
    .into()
}

struct Chain {
    network: Network,
    previous: Bytes,
    node: SigningIdentity,
    verifier: BlockVerifier,
}

impl Chain {
    fn new() -> Self {
        let network = Network::new();
        let previous = block_hash(network.block.header.as_ref().unwrap());
        let node = network.orderer.identity("orderer");
        let bundle = Bundle::from_config_block(&network.block).unwrap();
        Self {
            network,
            previous,
            node,
            verifier: BlockVerifier::new(Arc::new(bundle)),
        }
    }

    fn unsigned(&self) -> common::Block {
        new_block(1, self.previous.clone(), vec![entry(b"one"), entry(b"two")])
    }

    fn signed(&self) -> common::Block {
        let mut block = self.unsigned();
        sign_block(&mut block, 0, b"", &self.node).unwrap();
        block
    }

    fn verify(&self, block: &common::Block) -> Result<(), BlockRefusal> {
        self.verifier.verify(block, 1, Some(&self.previous))
    }
}

#[test]
fn a_signed_block_is_accepted() {
    let chain = Chain::new();
    let block = chain.signed();
    chain.verify(&block).unwrap();
    let bytes = Bytes::from(block.encode_to_vec());
    assert_eq!(chain.verifier.verify_bytes(bytes, 1, None).unwrap(), block);
    assert!(
        chain
            .verifier
            .verify_bytes(Bytes::from_static(&[0xff]), 1, None)
            .is_err()
    );
}

#[test]
fn metadata_slots_are_those_of_fabric() {
    let chain = Chain::new();
    let mut block = chain.unsigned();
    let raft = etcdraft::BlockMetadata {
        consenter_ids: vec![1],
        next_consenter_id: 2,
        raft_index: 41,
    };
    sign_block(&mut block, 39, &raft.encode_to_vec(), &chain.node).unwrap();
    assert_eq!(block_last_config_index(&block).unwrap(), 39);
    let slots = block.metadata.as_ref().unwrap().metadata.clone();
    // As block 39 of the recorded chain has them.
    let metadata = common::Metadata::decode(slots[0].clone()).unwrap();
    assert_eq!(hex::encode(&metadata.value), "0a02082712090a070a010110021829");
    assert_eq!(hex::encode(&slots[1]), "0a020827");
    assert!(slots[2..].iter().all(Bytes::is_empty));
    assert_eq!(slots.len(), 5);
    chain.verify(&block).unwrap();
}

#[test]
fn checks_come_in_their_order() {
    let chain = Chain::new();
    let altered = |edit: &dyn Fn(&mut common::Block)| {
        let mut block = chain.signed();
        edit(&mut block);
        chain.verify(&block).unwrap_err()
    };
    assert!(matches!(altered(&|b| b.header = None), BlockRefusal::NoHeader));
    assert!(matches!(
        altered(&|b| b.header.as_mut().unwrap().number = 2),
        BlockRefusal::Number {
            expected: 1,
            found: 2
        }
    ));
    assert!(matches!(
        altered(&|b| b.header.as_mut().unwrap().previous_hash = Bytes::from_static(b"x")),
        BlockRefusal::PreviousHash { number: 1, .. }
    ));
    assert!(matches!(
        altered(&|b| b.metadata.as_mut().unwrap().metadata.truncate(4)),
        BlockRefusal::Metadata { found: 4, .. }
    ));
    assert!(matches!(
        altered(&|b| b.metadata = None),
        BlockRefusal::Metadata { found: 0, .. }
    ));
    assert!(matches!(altered(&|b| b.data = None), BlockRefusal::Empty(1)));
    assert!(matches!(
        altered(&|b| b.data.as_mut().unwrap().data[1] = Bytes::from_static(b"\x0a\x01a")),
        BlockRefusal::Transaction {
            index: 1,
            fault: CanonicalFault::NoSignature,
            ..
        }
    ));
    assert!(matches!(
        altered(&|b| b.data.as_mut().unwrap().data[1] = entry(b"three")),
        BlockRefusal::DataHash { .. }
    ));
    assert!(matches!(
        altered(&|b| b.metadata.as_mut().unwrap().metadata[0] = Bytes::from_static(&[0xff])),
        BlockRefusal::Signatures { .. }
    ));
    assert!(matches!(
        altered(&|b| b.metadata.as_mut().unwrap().metadata[0] = Bytes::new()),
        BlockRefusal::Policy { .. }
    ));
}

#[test]
fn the_signature_covers_header_and_metadata() {
    let chain = Chain::new();
    let mut block = chain.signed();
    // Other data with a hash that fits: the header is no longer the signed one.
    let data = vec![entry(b"forged")];
    block.header.as_mut().unwrap().data_hash = block_data_hash(&data);
    block.data = Some(common::BlockData { data });
    assert!(matches!(chain.verify(&block), Err(BlockRefusal::Policy { .. })));

    let mut block = chain.signed();
    let slot = &mut block.metadata.as_mut().unwrap().metadata[0];
    let mut metadata = common::Metadata::decode(slot.clone()).unwrap();
    let last_config = Some(common::LastConfig { index: 1 });
    metadata.value = common::OrdererBlockMetadata {
        last_config,
        ..Default::default()
    }
    .encode_to_vec()
    .into();
    *slot = metadata.encode_to_vec().into();
    assert!(matches!(chain.verify(&block), Err(BlockRefusal::Policy { .. })));
}

#[test]
fn only_the_ordering_organisations_may_sign() {
    let chain = Chain::new();
    let by = |node: &SigningIdentity| {
        let mut block = chain.unsigned();
        sign_block(&mut block, 0, b"", node).unwrap();
        chain.verify(&block)
    };
    by(&chain.network.orderer.identity("orderer")).unwrap();
    let text = by(&chain.network.org1.identity("peer")).unwrap_err().to_string();
    assert!(text.contains("/Channel/Orderer/BlockValidation"), "{text}");
    assert!(text.contains("peer.Org1MSP"), "{text}");
    // Right name, other authority.
    assert!(by(&Org::new("OrdererMSP").identity("orderer")).is_err());
}

#[test]
fn a_config_block_need_not_be_canonical() {
    let chain = Chain::new();
    let header = common::ChannelHeader {
        r#type: common::HeaderType::Config as i32,
        channel_id: CHANNEL.to_owned(),
        ..Default::default()
    };
    let payload = common::Payload {
        header: Some(common::Header {
            channel_header: header.encode_to_vec().into(),
            signature_header: Bytes::new(),
        }),
        data: Bytes::new(),
    };
    let unsigned = common::Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::new(),
    };
    let config: Bytes = unsigned.encode_to_vec().into();
    let verify = |data: Vec<Bytes>| {
        let mut block = new_block(1, chain.previous.clone(), data);
        sign_block(&mut block, 1, b"", &chain.node).unwrap();
        chain.verify(&block)
    };
    verify(vec![config.clone()]).unwrap();
    // Beside another transaction it is like any other.
    assert!(matches!(
        verify(vec![entry(b"one"), config]),
        Err(BlockRefusal::Transaction {
            index: 1,
            fault: CanonicalFault::NoSignature,
            ..
        })
    ));
}

/// Signatures of a BFT ordering service name their signer by the number of a consenter (spec 02 §2).
#[test]
fn bft_signatures_are_found_by_consenter() {
    let chain = Chain::new();
    let mut config = chain.verifier.bundle().config().clone();
    let group = config
        .channel_group
        .as_mut()
        .unwrap()
        .groups
        .get_mut("Orderer")
        .unwrap();
    let identity = msp::SerializedIdentity::decode(chain.node.creator().clone()).unwrap();
    let consenter = common::Consenter {
        id: 7,
        msp_id: identity.mspid,
        identity: identity.id_bytes,
        ..Default::default()
    };
    let orderers = common::Orderers {
        consenter_mapping: vec![consenter],
    };
    let value = common::ConfigValue {
        value: orderers.encode_to_vec().into(),
        ..Default::default()
    };
    group.values.insert("Orderers".to_owned(), value);
    let verifier = BlockVerifier::new(Arc::new(Bundle::from_config(CHANNEL, config).unwrap()));

    let verify = |identifier: u32| {
        let mut block = chain.unsigned();
        let identifier_header: Bytes = common::IdentifierHeader {
            identifier,
            nonce: Bytes::from_static(b"n"),
        }
        .encode_to_vec()
        .into();
        let value = Bytes::from_static(b"");
        let header = block_header_bytes(block.header.as_ref().unwrap());
        let signed = [value.as_ref(), &identifier_header, &header].concat();
        let signature = common::MetadataSignature {
            signature_header: Bytes::new(),
            signature: chain.node.sign(&signed).unwrap(),
            identifier_header,
        };
        let slot = common::Metadata {
            value,
            signatures: vec![signature],
        };
        block.metadata.as_mut().unwrap().metadata[0] = slot.encode_to_vec().into();
        verifier.verify(&block, 1, Some(&chain.previous))
    };
    verify(7).unwrap();
    assert!(matches!(verify(8), Err(BlockRefusal::Policy { .. })));
}

#[test]
fn every_genesis_block_is_another() {
    let network = Network::new();
    let other = genesis::genesis_block(&network.profile).unwrap();
    assert_ne!(
        block_hash(other.header.as_ref().unwrap()),
        block_hash(network.block.header.as_ref().unwrap())
    );
}

#[test]
fn a_node_joins_with_a_whole_config_block() {
    let chain = Chain::new();
    let refused = |edit: &dyn Fn(&mut common::Block)| {
        let mut block = chain.network.block.clone();
        edit(&mut block);
        check_join_block(NodeRole::Peer, &block).unwrap_err()
    };
    assert_eq!(
        check_join_block(NodeRole::Peer, &chain.network.block)
            .unwrap()
            .channel_id(),
        CHANNEL
    );
    assert!(matches!(
        refused(&|b| b.header = None),
        JoinRefusal::Missing("header")
    ));
    assert!(matches!(
        refused(&|b| b.data = None),
        JoinRefusal::Missing("data")
    ));
    assert!(matches!(
        refused(&|b| b.metadata = None),
        JoinRefusal::Missing("metadata")
    ));
    assert!(matches!(
        refused(&|b| b.header.as_mut().unwrap().data_hash = Bytes::new()),
        JoinRefusal::DataHash { .. }
    ));
    assert!(matches!(
        check_join_block(NodeRole::Peer, &chain.signed()),
        Err(JoinRefusal::Config(_))
    ));
}
