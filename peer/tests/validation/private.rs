//! Private data between endorsement and commit, and its end.

use selvedge_ledger::StateReader;
use selvedge_proto::protos::TxValidationCode as Code;
use selvedge_proto::{Bytes, Message, kvrwset, protos, rwset};
use sha2::{Digest, Sha256};

use crate::network::Chain;
use crate::transaction::{Tx, Writes};

const EITHER: &str = "OR('Org1MSP.peer','Org2MSP.peer')";

fn chain(block_to_live: u64) -> Chain {
    let chain = Chain::new(2);
    let config = protos::StaticCollectionConfig {
        name: "c".into(),
        block_to_live,
        ..Default::default()
    };
    let collections = protos::CollectionConfigPackage {
        config: vec![protos::CollectionConfig {
            payload: Some(protos::collection_config::Payload::StaticCollectionConfig(config)),
        }],
    };
    let define = chain.network.define("cc", EITHER, collections);
    assert_eq!(chain.codes(&[&define]), [Code::Valid]);
    chain
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// A transaction that writes one private key, and its plaintext.
fn private<'a>(chain: &'a Chain, key: &str, value: &[u8]) -> (Tx<'a>, rwset::TxPvtReadWriteSet) {
    let plain: Bytes = kvrwset::KvrwSet {
        writes: vec![kvrwset::KvWrite {
            key: key.into(),
            is_delete: false,
            value: Bytes::copy_from_slice(value),
        }],
        ..Default::default()
    }
    .encode_to_vec()
    .into();
    let mut writes = Writes::new().put_hashed("cc", "c", &hash(key.as_bytes()), &hash(value));
    writes.hashed.get_mut(&("cc".into(), "c".into())).unwrap().1 = hash(&plain).into();
    let set = rwset::TxPvtReadWriteSet {
        data_model: 0,
        ns_pvt_rwset: vec![rwset::NsPvtReadWriteSet {
            namespace: "cc".into(),
            collection_pvt_rwset: vec![rwset::CollectionPvtReadWriteSet {
                collection_name: "c".into(),
                rwset: plain,
            }],
        }],
    };
    (chain.tx(writes), set)
}

fn plain_value(chain: &Chain, key: &str) -> Option<Bytes> {
    chain
        .channel
        .ledger()
        .state()
        .get_private("cc", "c", key)
        .unwrap()
        .map(|entry| entry.value)
}

fn has_hash(chain: &Chain, key: &str) -> bool {
    chain
        .channel
        .ledger()
        .state()
        .get_hashed("cc", "c", &hash(key.as_bytes()))
        .unwrap()
        .is_some()
}

#[test]
fn what_fits_the_hash_reaches_the_private_state_also_after_a_restart() {
    let mut chain = chain(0);
    let (first, second, third) = {
        let (tx, plain) = private(&chain, "k1", b"secret");
        chain.channel.keep_private(&tx.id(), &plain).unwrap();
        let (other, _) = private(&chain, "k2", b"unknown here");
        let (lying, wrong) = (private(&chain, "k3", b"right"), private(&chain, "k3", b"wrong").1);
        chain.channel.keep_private(&lying.0.id(), &wrong).unwrap();
        (tx.envelope(), other.envelope(), lying.0.envelope())
    };
    chain.reopen();
    assert_eq!(chain.commit_codes(vec![first, second, third]), [Code::Valid; 3]);
    assert_eq!(plain_value(&chain, "k1").unwrap().as_ref(), b"secret");
    assert_eq!(plain_value(&chain, "k2"), None);
    assert_eq!(plain_value(&chain, "k3"), None);
    assert!(has_hash(&chain, "k1") && has_hash(&chain, "k2") && has_hash(&chain, "k3"));
    let waiting = std::fs::read_dir(chain.dir.path().join("transient"))
        .unwrap()
        .count();
    assert_eq!(waiting, 0, "nothing waits after the commit");
    chain.reopen();
    assert_eq!(plain_value(&chain, "k1").unwrap().as_ref(), b"secret");
}

#[test]
fn an_invalid_transaction_leaves_no_private_data() {
    let chain = chain(0);
    let (tx, plain) = private(&chain, "k", b"secret");
    let tx = tx.endorsed_by(vec![]);
    chain.channel.keep_private(&tx.id(), &plain).unwrap();
    assert_eq!(chain.codes(&[&tx]), [Code::EndorsementPolicyFailure]);
    assert_eq!(plain_value(&chain, "k"), None);
    assert!(!has_hash(&chain, "k"));
}

#[test]
fn private_data_expires_with_its_hashes() {
    let chain = chain(2);
    let (tx, plain) = private(&chain, "k", b"secret");
    chain.channel.keep_private(&tx.id(), &plain).unwrap();
    assert_eq!(chain.codes(&[&tx]), [Code::Valid]);
    // Committed in block 2, it goes at block 2 + 2 + 1.
    for number in 3..=5u64 {
        assert!(
            has_hash(&chain, "k") && plain_value(&chain, "k").is_some(),
            "before block {number}"
        );
        let other = chain.tx(Writes::new().put("cc", "public", &number.to_be_bytes()));
        assert_eq!(chain.codes(&[&other]), [Code::Valid]);
    }
    assert!(!has_hash(&chain, "k"));
    assert_eq!(plain_value(&chain, "k"), None);
}
