//! Configuration transactions, and what a new configuration means for blocks that are on their way already.

use selvedge_channel::NodeRole;
use selvedge_channel::update;
use selvedge_channel::update::edit::ConfigTree;
use selvedge_channel::verify::brought_config;
use selvedge_msp::{RevokedCertificate, SigningIdentity, Usage};
use selvedge_peer::ProcessError;
use selvedge_proto::protos::TxValidationCode as Code;
use selvedge_proto::{Bytes, Message, block_hash, common};

use crate::network::{CHANNEL, Chain, identity, request};
use crate::transaction::Writes;

const EITHER: &str = "OR('Org1MSP.peer','Org2MSP.peer')";

/// The configuration that follows from an edit, judged as an orderer does.
fn propose(
    chain: &Chain,
    signers: &[&SigningIdentity],
    edit: impl FnOnce(&mut ConfigTree),
) -> common::ConfigEnvelope {
    let bundle = chain.channel.bundle();
    let mut tree = ConfigTree::from_config(bundle.config());
    edit(&mut tree);
    let update = update::compute(CHANNEL, bundle.config(), &tree.into_config()).unwrap();
    let bytes: Bytes = update.encode_to_vec().into();
    let signatures = signers
        .iter()
        .map(|signer| update::sign(&bytes, signer).unwrap())
        .collect();
    let envelope = update::envelope(CHANNEL, bytes, signatures, signers[0]).unwrap();
    bundle.propose_update(&envelope).unwrap()
}

fn transaction(chain: &Chain, config: &common::ConfigEnvelope) -> Bytes {
    let envelope = update::config_transaction(CHANNEL, config, &chain.network.orderer).unwrap();
    envelope.encode_to_vec().into()
}

/// Org1's client is revoked.
fn revoke(chain: &Chain) -> common::ConfigEnvelope {
    let org = &chain.network.orgs[0];
    let revoked = RevokedCertificate {
        serial: org.client.certificate().serial().to_vec(),
        revoked_at: 1_800_000_000,
        reason: 0,
    };
    let list = org.ca.crl(&[revoked], 1, 1_800_000_000, 1_900_000_000).unwrap();
    propose(chain, &[&org.admin], |tree| {
        tree.set_msp_crls("/Channel/Application/Org1", &[list.clone().into()])
            .unwrap();
    })
}

#[test]
fn a_block_prepared_under_the_old_configuration_is_judged_under_the_new_one() {
    let chain = Chain::with_chaincode(2, EITHER);
    let config = revoke(&chain);
    let config_block = chain.next_block(vec![transaction(&chain, &config)]);
    let tx = chain.tx(Writes::new().put("cc", "k", b"v"));
    let before = chain.tx(Writes::new().put("cc", "k", b"u"));
    assert_eq!(chain.channel.bundle().sequence(), 0);
    let next = chain.network.block(
        config_block.header.as_ref().unwrap().number + 1,
        block_hash(config_block.header.as_ref().unwrap()),
        vec![tx.envelope()],
    );
    // Both blocks are prepared before either is committed, as a pipeline may do it.
    let prepared = [config_block, next].map(|block| chain.channel.prepare(block).unwrap());
    let codes = prepared.map(|block| chain.channel.commit(block).unwrap().txs[0].code);
    assert_eq!(codes, [Code::Valid, Code::BadCreatorSignature]);
    assert_eq!(chain.channel.bundle().sequence(), 1);
    assert!(chain.reason(&tx).contains("revoked"), "{}", chain.reason(&tx));
    assert_eq!(chain.codes(&[&before]), [Code::BadCreatorSignature]);
}

#[test]
fn the_configuration_is_there_again_after_a_restart() {
    let mut chain = Chain::with_chaincode(2, EITHER);
    let config = transaction(&chain, &revoke(&chain));
    assert_eq!(chain.commit_codes(vec![config]), [Code::Valid]);
    chain.reopen();
    assert_eq!(chain.channel.bundle().sequence(), 1);
    let tx = chain.tx(Writes::new().put("cc", "k", b"v"));
    assert_eq!(chain.codes(&[&tx]), [Code::BadCreatorSignature]);
    let mut tx = chain.tx(Writes::new().put("cc", "k", b"v"));
    tx.creator = &chain.network.orgs[1].client;
    assert_eq!(chain.codes(&[&tx]), [Code::Valid]);
}

#[test]
fn a_config_transaction_that_does_not_apply_halts_the_channel() {
    let chain = Chain::with_chaincode(2, EITHER);
    let good = revoke(&chain);
    let mut wrong_sequence = good.clone();
    wrong_sequence.config.as_mut().unwrap().sequence += 1;
    let mut no_update = good.clone();
    no_update.last_update = None;
    let mut unsigned = good.clone();
    {
        let last = unsigned.last_update.as_mut().unwrap();
        let mut payload = common::Payload::decode(last.payload.clone()).unwrap();
        let mut message = common::ConfigUpdateEnvelope::decode(payload.data.clone()).unwrap();
        message.signatures.clear();
        payload.data = message.encode_to_vec().into();
        last.payload = payload.encode_to_vec().into();
    }
    let height = chain.channel.height();
    for config in [&wrong_sequence, &no_update, &unsigned] {
        let block = chain.next_block(vec![transaction(&chain, config)]);
        let error = chain.channel.process_block(block).unwrap_err();
        assert!(
            matches!(error, ProcessError::ConfigTransaction { index: 0, .. }),
            "{error}"
        );
        assert_eq!(
            (chain.channel.height(), chain.channel.bundle().sequence()),
            (height, 0)
        );
    }
    // A signature in last_update's envelope is not looked at (spec 03 §10.3).
    let mut other_submitter = good;
    other_submitter.last_update.as_mut().unwrap().signature = Bytes::from_static(b"junk");
    assert_eq!(
        chain.commit_codes(vec![transaction(&chain, &other_submitter)]),
        [Code::Valid]
    );
}

/// Whatever else it holds is for the configuration to judge, and halts the channel if it does not apply.
#[test]
fn a_config_transaction_without_content_is_refused_by_itself() {
    let chain = Chain::with_chaincode(2, EITHER);
    let envelope = common::Envelope::decode(transaction(&chain, &Default::default())).unwrap();
    let block = |chain: &Chain| chain.next_block(vec![envelope.encode_to_vec().into()]);
    assert_eq!(
        brought_config(NodeRole::Peer, &block(&chain))
            .unwrap()
            .map(|_| ()),
        None
    );
    assert_eq!(
        chain.commit_codes(vec![envelope.encode_to_vec().into()]),
        [Code::InvalidConfigTransaction]
    );
    assert_eq!(chain.channel.bundle().sequence(), 0);
    let tx = chain.tx(Writes::new().put("cc", "k", b"v"));
    assert_eq!(chain.codes(&[&tx]), [Code::Valid]);
}

/// One organisation's admins alone can bring this about where another ordering service is in use.
#[test]
fn an_anchor_peer_without_a_port_does_not_halt_the_channel() {
    let chain = Chain::with_chaincode(2, EITHER);
    let bundle = chain.channel.bundle();
    let mut tree = ConfigTree::from_config(bundle.config());
    tree.set_anchor_peers("Org1", &[("peer0.org1".to_owned(), 0)])
        .unwrap();
    let update = update::compute(CHANNEL, bundle.config(), &tree.into_config()).unwrap();
    let bytes: Bytes = update.encode_to_vec().into();
    let admin = &chain.network.orgs[0].admin;
    let signature = update::sign(&bytes, admin).unwrap();
    let envelope = update::envelope(CHANNEL, bytes, vec![signature], admin).unwrap();
    bundle.propose_update(&envelope).unwrap_err();
    let config = common::ConfigEnvelope {
        config: Some(update::apply(bundle.config(), &update).unwrap()),
        last_update: Some(envelope),
    };
    assert_eq!(
        chain.commit_codes(vec![transaction(&chain, &config)]),
        [Code::Valid]
    );
    let bundle = chain.channel.bundle();
    assert!(bundle.application().unwrap().orgs["Org1"].anchor_peers.is_empty());
}

#[test]
fn an_organisation_that_is_removed_endorses_no_more() {
    let chain = Chain::with_chaincode(2, EITHER);
    let by_second = |chain: &Chain| {
        let tx = chain.tx(Writes::new().put("cc", "k", b"v"));
        chain.codes(&[&tx.endorsed_by(chain.network.peers(&[1]))])
    };
    assert_eq!(by_second(&chain), [Code::Valid]);
    let admins = [&chain.network.orgs[0].admin, &chain.network.orgs[1].admin];
    let config = propose(&chain, &admins, |tree| {
        tree.remove_application_org("Org2").unwrap()
    });
    assert_eq!(
        chain.commit_codes(vec![transaction(&chain, &config)]),
        [Code::Valid]
    );
    assert_eq!(by_second(&chain), [Code::EndorsementPolicyFailure]);
}

#[test]
fn identities_of_an_intermediate_ca_count_once_the_configuration_names_it() {
    let chain = Chain::with_chaincode(2, EITHER);
    let org = &chain.network.orgs[0];
    let key = selvedge_msp::PrivateKey::generate().unwrap();
    let certificate = org.ca.issue(&request(&key, "ica", &[], Usage::Ca)).unwrap();
    let intermediate = selvedge_msp::CertificateAuthority::new(certificate.clone(), key).unwrap();
    let peer = identity(&intermediate, "Org1MSP", &["peer"]);
    let code = || {
        let mut tx = chain
            .tx(Writes::new().put("cc", "k", b"v"))
            .endorsed_by(vec![&peer]);
        tx.creator = &chain.network.orgs[1].client;
        chain.codes(&[&tx])
    };
    assert_eq!(code(), [Code::EndorsementPolicyFailure]);
    let config = propose(&chain, &[&org.admin], |tree| {
        let add = |msp: &mut selvedge_proto::msp::FabricMspConfig| {
            msp.intermediate_certs.push(certificate.to_pem().into());
        };
        tree.edit_msp("/Channel/Application/Org1", add).unwrap();
    });
    assert_eq!(
        chain.commit_codes(vec![transaction(&chain, &config)]),
        [Code::Valid]
    );
    assert_eq!(code(), [Code::Valid]);
    // The root is an inner node of the tree now: what it issued itself is no identity any more (spec 02 §13.4).
    let mut tx = chain
        .tx(Writes::new().put("cc", "k", b"v"))
        .endorsed_by(vec![&org.peer]);
    assert_eq!(chain.codes(&[&tx]), [Code::BadCreatorSignature]);
    tx.creator = &chain.network.orgs[1].client;
    assert_eq!(chain.codes(&[&tx]), [Code::EndorsementPolicyFailure]);
}
