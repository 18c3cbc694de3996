//! Single rules.

use selvedge_msp::policy::dsl;
use selvedge_proto::protos::TxValidationCode as Code;
use selvedge_proto::{Bytes, Message, common, protos};

use crate::network::{Chain, Network, identity};
use crate::transaction::{Tx, Writes};

const EITHER: &str = "OR('Org1MSP.peer','Org2MSP.peer')";
const BOTH: &str = "AND('Org1MSP.peer','Org2MSP.peer')";

fn collections(name: &str, policy: Option<protos::ApplicationPolicy>) -> protos::CollectionConfigPackage {
    let config = protos::StaticCollectionConfig {
        name: name.into(),
        endorsement_policy: policy,
        ..Default::default()
    };
    protos::CollectionConfigPackage {
        config: vec![protos::CollectionConfig {
            payload: Some(protos::collection_config::Payload::StaticCollectionConfig(config)),
        }],
    }
}

fn signature_policy(text: &str) -> protos::ApplicationPolicy {
    protos::ApplicationPolicy {
        r#type: Some(protos::application_policy::Type::SignaturePolicy(
            dsl::parse(text).unwrap(),
        )),
    }
}

#[test]
fn the_policy_decides_and_says_who_was_missing() {
    let chain = Chain::with_chaincode(2, BOTH);
    let one = chain
        .tx(Writes::new().put("cc", "k", b"v"))
        .endorsed_by(chain.network.peers(&[0]));
    let none = chain.tx(Writes::new().put("cc", "k", b"v")).endorsed_by(vec![]);
    let clients = vec![&chain.network.orgs[0].client, &chain.network.orgs[1].client];
    let by_clients = chain.tx(Writes::new().put("cc", "k", b"v")).endorsed_by(clients);
    let both = chain.tx(Writes::new().put("cc", "k", b"v"));
    let refused = Code::EndorsementPolicyFailure;
    assert_eq!(
        chain.codes(&[&one, &none, &by_clients, &both]),
        [refused, refused, refused, Code::Valid]
    );
    let why = chain.reason(&one);
    assert!(why.contains("Org2MSP") && why.contains("cc"), "{why}");
    assert!(
        chain.reason(&by_clients).contains("client.Org1MSP"),
        "{}",
        chain.reason(&by_clients)
    );
}

#[test]
fn an_endorser_counts_once_and_a_bad_signature_not_at_all() {
    let chain = Chain::with_chaincode(2, "OutOf(2,'Org1MSP.peer','Org1MSP.peer')");
    let tx = chain
        .tx(Writes::new().put("cc", "k", b"v"))
        .endorsed_by(chain.network.peers(&[0, 0]));
    assert_eq!(chain.codes(&[&tx]), [Code::EndorsementPolicyFailure]);
    let second = identity(&chain.network.orgs[0].ca, "Org1MSP", &["peer"]);
    let mut tx = chain.tx(Writes::new().put("cc", "k", b"v"));
    tx.endorsers = vec![&chain.network.orgs[0].peer, &second];
    // A bad signature does not use up its identity: the good one after it counts (spec 02 §14.1).
    let mut endorsements = tx.endorsements();
    let mut bad = endorsements[0].clone();
    bad.signature = endorsements[1].signature.clone();
    endorsements.insert(0, bad.clone());
    let good = tx.envelope_with(endorsements.clone());
    assert_eq!(chain.commit_codes(vec![good]), [Code::Valid]);

    let mut tx = chain.tx(Writes::new().put("cc", "k", b"v"));
    tx.endorsers = vec![&second];
    let mut endorsements = tx.endorsements();
    endorsements.push(bad);
    assert_eq!(
        chain.commit_codes(vec![tx.envelope_with(endorsements)]),
        [Code::EndorsementPolicyFailure]
    );
    assert!(
        chain.reason(&tx).contains("does not count"),
        "{}",
        chain.reason(&tx)
    );
}

#[test]
fn an_identity_has_exactly_one_role() {
    let chain = Chain::with_chaincode(2, "OR('Org1MSP.member')");
    let ca = &chain.network.orgs[0].ca;
    let two_roles = identity(ca, "Org1MSP", &["peer", "client"]);
    let no_role = identity(ca, "Org1MSP", &["warehouse"]);
    for odd in [&two_roles, &no_role] {
        let tx = chain
            .tx(Writes::new().put("cc", "k", b"v"))
            .endorsed_by(vec![odd]);
        assert_eq!(chain.codes(&[&tx]), [Code::EndorsementPolicyFailure]);
        let mut tx = chain.tx(Writes::new().put("cc", "k", b"v"));
        tx.creator = odd;
        assert_eq!(chain.codes(&[&tx]), [Code::BadCreatorSignature]);
    }
    let extra = identity(ca, "Org1MSP", &["peer", "warehouse"]);
    let tx = chain
        .tx(Writes::new().put("cc", "k", b"v"))
        .endorsed_by(vec![&extra]);
    assert_eq!(chain.codes(&[&tx]), [Code::Valid]);
}

#[test]
fn strangers_and_other_channels_are_no_creators() {
    let chain = Chain::with_chaincode(2, EITHER);
    let other = Network::usual(1);
    let mut tx = chain.tx(Writes::new().put("cc", "k", b"v"));
    tx.creator = &other.orgs[0].client;
    assert_eq!(chain.codes(&[&tx]), [Code::BadCreatorSignature]);
    let elsewhere = {
        let envelope = common::Envelope::decode(chain.tx(Writes::new()).envelope()).unwrap();
        let mut payload = common::Payload::decode(envelope.payload).unwrap();
        let header = payload.header.as_mut().unwrap();
        let mut channel_header = common::ChannelHeader::decode(header.channel_header.clone()).unwrap();
        channel_header.channel_id = "elsewhere".into();
        header.channel_header = channel_header.encode_to_vec().into();
        let payload: Bytes = payload.encode_to_vec().into();
        let signature = chain.network.orgs[0].client.sign(&payload).unwrap();
        Bytes::from(common::Envelope { payload, signature }.encode_to_vec())
    };
    assert_eq!(chain.commit_codes(vec![elsewhere]), [Code::BadCreatorSignature]);
}

#[test]
fn a_collection_may_have_a_policy_of_its_own() {
    let chain = Chain::new(2);
    let own = collections("own", Some(signature_policy("AND('Org2MSP.peer')")));
    let mut both = own.clone();
    both.config.extend(collections("plain", None).config);
    both.config
        .extend(collections("broken", Some(protos::ApplicationPolicy::default())).config);
    let define = chain.network.define("cc", BOTH, both);
    assert_eq!(chain.codes(&[&define]), [Code::Valid]);

    let hash = |n: u8| vec![n; 32];
    let tx = |collection: &str, orgs: &[usize]| {
        let writes = Writes::new().put_hashed("cc", collection, &hash(1), &hash(2));
        chain.tx(writes).endorsed_by(chain.network.peers(orgs))
    };
    let refused = Code::EndorsementPolicyFailure;
    assert_eq!(
        chain.codes(&[
            &tx("own", &[1]),
            &tx("own", &[0]),
            &tx("plain", &[1]),
            &tx("plain", &[0, 1])
        ]),
        [Code::Valid, refused, refused, Code::Valid]
    );
    assert_eq!(
        chain.codes(&[&tx("broken", &[0, 1]), &tx("unknown", &[0, 1])]),
        [refused, refused]
    );
    // A public write beside it asks the chaincode's policy too.
    let beside = Writes::new()
        .put_hashed("cc", "own", &hash(1), &hash(2))
        .put("cc", "k", b"v");
    let beside = chain.tx(beside).endorsed_by(chain.network.peers(&[1]));
    assert_eq!(chain.codes(&[&beside]), [refused]);
    // Implicit collections: the organisation's Endorsement policy, that is its peers.
    assert_eq!(
        chain.codes(&[
            &tx("_implicit_org_Org1MSP", &[0]),
            &tx("_implicit_org_Org1MSP", &[1]),
            &tx("_implicit_org_NobodyMSP", &[0, 1]),
        ]),
        [Code::Valid, refused, refused]
    );
}

#[test]
fn key_level_policies_of_hashed_keys_and_their_dependencies() {
    let chain = Chain::new(2);
    let define = chain.network.define("cc", EITHER, collections("c", None));
    assert_eq!(chain.codes(&[&define]), [Code::Valid]);
    let key = [7u8; 32];
    let set = Writes::new()
        .put_hashed("cc", "c", &key, &[1; 32])
        .hashed_policy("cc", "c", &key, BOTH);
    let set = chain.tx(set).endorsed_by(chain.network.peers(&[0]));
    let same_block = chain.tx(Writes::new().put_hashed("cc", "c", &key, &[2; 32]));
    let other_key = chain.tx(Writes::new().put_hashed("cc", "c", &[8; 32], &[2; 32]));
    let public = chain.tx(Writes::new().put("cc", std::str::from_utf8(&key).unwrap(), b"v"));
    let refused = Code::EndorsementPolicyFailure;
    assert_eq!(
        chain.codes(&[&set, &same_block, &other_key, &public]),
        [Code::Valid, refused, Code::Valid, Code::Valid]
    );
    assert!(
        chain
            .reason(&same_block)
            .contains("have been changed in transaction 0")
    );
    let one = chain
        .tx(Writes::new().put_hashed("cc", "c", &key, &[3; 32]))
        .endorsed_by(chain.network.peers(&[0]));
    let two = chain.tx(Writes::new().put_hashed("cc", "c", &key, &[3; 32]));
    assert_eq!(chain.codes(&[&one, &two]), [refused, Code::Valid]);
}

#[test]
fn what_an_earlier_transaction_of_the_block_leaves_to_later_ones() {
    let chain = Chain::with_chaincode(2, EITHER);
    // One that fails its policy introduces no dependency.
    let failing = chain
        .tx(Writes::new().policy("cc", "k", BOTH))
        .endorsed_by(vec![]);
    let write = chain.tx(Writes::new().put("cc", "k", b"v"));
    let refused = Code::EndorsementPolicyFailure;
    assert_eq!(chain.codes(&[&failing, &write]), [refused, Code::Valid]);
    // One that fails MVCC afterwards does.
    let stale = Writes::new()
        .read("cc", "k", Some((999, 0)))
        .policy("cc", "k", BOTH);
    let stale = chain.tx(stale);
    let write = chain.tx(Writes::new().put("cc", "k", b"v"));
    assert_eq!(chain.codes(&[&stale, &write]), [Code::MvccReadConflict, refused]);
    let why = chain.reason(&stale);
    assert!(why.contains("\"k\"") || why.contains("k "), "{why}");
    // One that fails in another namespace does, too: its own namespace passed.
    let half = Writes::new().policy("cc", "k", BOTH).put("undefined", "x", b"y");
    let half = chain.tx(half);
    let write = chain.tx(Writes::new().put("cc", "k", b"v"));
    assert_eq!(chain.codes(&[&half, &write]), [Code::InvalidChaincode, refused]);
    // Clearing counts as well.
    let clear = chain.tx(Writes::new().policy("cc", "k", ""));
    let write = chain.tx(Writes::new().put("cc", "k", b"v"));
    assert_eq!(chain.codes(&[&clear, &write]), [Code::Valid, refused]);
}

#[test]
fn a_key_policy_that_cannot_be_used_is_never_satisfied() {
    let chain = Chain::with_chaincode(2, EITHER);
    let with = |key: &str, value: Bytes| {
        let mut writes = Writes::new().put("cc", key, b"v").policy("cc", key, EITHER);
        writes.public.get_mut("cc").unwrap().metadata_writes[0].entries[0].value = value;
        chain.tx(writes)
    };
    let mut unusable = dsl::parse(EITHER).unwrap();
    unusable.identities.pop();
    for (key, value, free) in [
        ("a", Bytes::from_static(&[0xff]), false),
        ("b", unusable.encode_to_vec().into(), false),
        ("c", Bytes::new(), true),
    ] {
        let set = with(key, value);
        assert_eq!(chain.codes(&[&set]), [Code::Valid]);
        let write = chain.tx(Writes::new().put("cc", key, b"w"));
        let delete = chain.tx(Writes::new().delete("cc", key));
        let wanted = if free {
            Code::Valid
        } else {
            Code::EndorsementPolicyFailure
        };
        assert_eq!(chain.codes(&[&write, &delete]), [wanted, wanted], "{key}");
    }
}

#[test]
fn definitions_that_cannot_be_used() {
    let chain = Chain::new(2);
    let define = |name: &str, plugin: &str, policy: Bytes| {
        let tx = chain.network.define_raw(name, plugin, policy, Default::default());
        assert_eq!(chain.codes(&[&tx]), [Code::Valid]);
    };
    let good: Bytes = signature_policy(EITHER).encode_to_vec().into();
    define("noplugin", "", good.clone());
    define("nopolicy", "vscc", Bytes::new());
    define("junk", "vscc", Bytes::from_static(&[0xff]));
    let reference = |path: &str| -> Bytes {
        let r#type = protos::application_policy::Type::ChannelConfigPolicyReference(path.into());
        protos::ApplicationPolicy { r#type: Some(r#type) }
            .encode_to_vec()
            .into()
    };
    define("nowhere", "vscc", reference("/Channel/Application/Nowhere"));
    define(
        "endorsement",
        "vscc",
        reference("/Channel/Application/Endorsement"),
    );
    let code = |name: &str| {
        let tx = chain.network.tx(name, Writes::new().put(name, "k", b"v"));
        chain.codes(&[&tx])[0]
    };
    assert_eq!(code("noplugin"), Code::InvalidChaincode);
    assert_eq!(code("nopolicy"), Code::InvalidChaincode);
    assert_eq!(code("junk"), Code::EndorsementPolicyFailure);
    assert_eq!(code("nowhere"), Code::EndorsementPolicyFailure);
    assert_eq!(code("endorsement"), Code::Valid);
    assert_eq!(code("absent"), Code::InvalidChaincode);
    assert_eq!(code("lscc"), Code::InvalidChaincode);
    // Another plugin's verdict is not known here: stop rather than guess.
    define("custom", "theirs", good);
    let tx = chain.network.tx("custom", Writes::new().put("custom", "k", b"v"));
    let height = chain.channel.height();
    let error = chain
        .channel
        .process_block(chain.next_block(vec![tx.envelope()]))
        .unwrap_err();
    assert!(error.to_string().contains("theirs"), "{error}");
    assert_eq!(chain.channel.height(), height);
}

#[test]
fn the_lifecycle_namespace_needs_a_majority() {
    let chain = Chain::new(3);
    let define = |orgs: &[usize]| {
        chain
            .network
            .define("cc", EITHER, Default::default())
            .endorsed_by(chain.network.peers(orgs))
    };
    assert_eq!(
        chain.codes(&[&define(&[0]), &define(&[0, 1])]),
        [Code::EndorsementPolicyFailure, Code::Valid]
    );
}

/// Go decodes a field of zero length to nil, and nil is what Fabric asks for.
#[test]
fn an_explicitly_empty_extension_or_event_is_absent() {
    let chain = Chain::with_chaincode(2, EITHER);
    let with_payload = |tx: &Tx<'_>, payload: Bytes| {
        let endorser = &chain.network.orgs[0].peer;
        let signature = endorser
            .sign(&[payload.as_ref(), endorser.creator()].concat())
            .unwrap();
        let action = protos::ChaincodeActionPayload {
            chaincode_proposal_payload: Bytes::from_static(b"in"),
            action: Some(protos::ChaincodeEndorsedAction {
                proposal_response_payload: payload,
                endorsements: vec![protos::Endorsement {
                    endorser: endorser.creator().clone(),
                    signature,
                }],
            }),
        };
        let header = common::SignatureHeader {
            creator: tx.creator.creator().clone(),
            nonce: tx.nonce.clone(),
        };
        tx.envelope_of(vec![protos::TransactionAction {
            header: header.encode_to_vec().into(),
            payload: action.encode_to_vec().into(),
        }])
    };
    let code = |edit: &dyn Fn(&mut Vec<u8>)| {
        let tx = chain.tx(Writes::new().put("cc", "k", b"v"));
        let mut payload = protos::ProposalResponsePayload::decode(tx.response_payload()).unwrap();
        let mut extension = payload.extension.to_vec();
        edit(&mut extension);
        payload.extension = Bytes::new();
        let mut bytes = payload.encode_to_vec();
        bytes.push(0x12);
        selvedge_proto::prost::encoding::encode_varint(extension.len() as u64, &mut bytes);
        bytes.extend_from_slice(&extension);
        chain.commit_codes(vec![with_payload(&tx, bytes.into())])[0]
    };
    assert_eq!(code(&|_| {}), Code::Valid);
    assert_eq!(code(&Vec::clear), Code::BadResponsePayload);
    assert_eq!(
        code(&|extension| extension.extend_from_slice(&[0x12, 0x00])),
        Code::Valid
    );
    // An event that names no chaincode is one.
    assert_eq!(
        code(&|extension| extension.extend_from_slice(&[0x12, 0x02, 0x1a, 0x00])),
        Code::InvalidOtherReason
    );
    // A known field with another wire type is an unknown one: no events then.
    assert_eq!(
        code(&|extension| extension.extend_from_slice(&[0x10, 0x01])),
        Code::Valid
    );
    assert_eq!(
        code(&|extension| extension.extend_from_slice(&[0x13])),
        Code::BadResponsePayload
    );
    // Absent altogether.
    let tx = chain.tx(Writes::new().put("cc", "k", b"v"));
    let mut payload = protos::ProposalResponsePayload::decode(tx.response_payload()).unwrap();
    payload.extension = Bytes::new();
    let envelope = with_payload(&tx, payload.encode_to_vec().into());
    assert_eq!(chain.commit_codes(vec![envelope]), [Code::BadResponsePayload]);
}

#[test]
fn an_action_without_a_proposal_is_none() {
    let chain = Chain::with_chaincode(2, EITHER);
    let tx = chain.tx(Writes::new().put("cc", "k", b"v"));
    // Endorsers that sign a hash over the headers alone do not help.
    assert_eq!(
        chain.commit_codes(vec![tx.envelope_without_proposal()]),
        [Code::InvalidEndorserTransaction]
    );
}

#[test]
fn an_id_is_taken_by_a_transaction_whose_signature_header_does_not_decode() {
    let chain = Chain::with_chaincode(2, EITHER);
    let genuine = chain.tx(Writes::new().put("cc", "k", b"v"));
    let mut envelope = common::Envelope::decode(genuine.envelope()).unwrap();
    let mut payload = common::Payload::decode(envelope.payload).unwrap();
    payload.header.as_mut().unwrap().signature_header = Bytes::from_static(&[0xff]);
    envelope.payload = payload.encode_to_vec().into();
    let spoilt = Bytes::from(envelope.encode_to_vec());
    assert_eq!(chain.commit_codes(vec![spoilt]), [Code::BadCommonHeader]);
    assert_eq!(chain.codes(&[&genuine]), [Code::DuplicateTxid]);
}

#[test]
fn own_endorsements_are_not_verified_again_but_only_they() {
    let chain = Chain::with_chaincode(2, EITHER);
    let tx = chain
        .tx(Writes::new().put("cc", "k", b"v"))
        .endorsed_by(chain.network.peers(&[0]));
    let mut endorsements = tx.endorsements();
    // To be seen from outside, an endorsement that is remembered although its signature is junk.
    endorsements[0].signature = Bytes::from_static(b"junk");
    let envelope = tx.envelope_with(endorsements.clone());
    let endorsement = &endorsements[0];
    chain
        .channel
        .remember_endorsement(&tx.response_payload(), &endorsement.endorser, b"other");
    assert_eq!(
        chain.commit_codes(vec![envelope.clone()]),
        [Code::EndorsementPolicyFailure]
    );
    let tx = Tx {
        nonce: crate::transaction::rand_nonce(),
        ..tx
    };
    let envelope = tx.envelope_with(endorsements.clone());
    chain.channel.remember_endorsement(
        &tx.response_payload(),
        &endorsement.endorser,
        &endorsement.signature,
    );
    assert_eq!(chain.commit_codes(vec![envelope]), [Code::Valid]);
}

/// The transaction under another id.
fn with_tx_id(tx: &Tx<'_>, id: &str) -> Bytes {
    let envelope = common::Envelope::decode(tx.envelope()).unwrap();
    let mut payload = common::Payload::decode(envelope.payload).unwrap();
    let header = payload.header.as_mut().unwrap();
    let mut channel_header = common::ChannelHeader::decode(header.channel_header.clone()).unwrap();
    channel_header.tx_id = id.to_owned();
    header.channel_header = channel_header.encode_to_vec().into();
    let payload = Bytes::from(payload.encode_to_vec());
    let signature = tx.creator.sign(&payload).unwrap();
    common::Envelope { payload, signature }.encode_to_vec().into()
}

#[test]
fn events_are_announced_with_their_code() {
    let chain = Chain::with_chaincode(2, EITHER);
    let mut commits = chain.channel.commits();
    let event = protos::ChaincodeEvent {
        chaincode_id: "cc".into(),
        event_name: "moved".into(),
        payload: Bytes::from_static(b"p"),
        ..Default::default()
    };
    let mut good = chain.tx(Writes::new().put("cc", "k", b"v"));
    good.events = event.encode_to_vec().into();
    let mut bad = chain.tx(Writes::new().put("cc", "k", b"v")).endorsed_by(vec![]);
    bad.events = event.encode_to_vec().into();
    // Refused before anybody looks at the event.
    let mut unsound = chain.tx(Writes::new().put("cc", "k", b"v"));
    unsound.events = event.encode_to_vec().into();
    let mut renamed = chain.tx(Writes::new().put("cc", "k", b"v"));
    renamed.events = event.encode_to_vec().into();
    chain.commit_codes(vec![
        good.envelope(),
        bad.envelope(),
        unsound.envelope_without_proposal(),
        with_tx_id(&renamed, "another"),
    ]);
    let committed = commits.try_recv().unwrap();
    let seen: Vec<_> = committed
        .txs
        .iter()
        .map(|tx| (tx.code, tx.event.clone(), tx.tx_id.clone()))
        .collect();
    assert_eq!(
        seen,
        [
            (Code::Valid, Some(event.clone()), good.id()),
            (Code::EndorsementPolicyFailure, Some(event.clone()), bad.id()),
            (
                Code::InvalidEndorserTransaction,
                Some(event.clone()),
                unsound.id()
            ),
            (Code::BadProposalTxid, Some(event), "another".to_owned()),
        ]
    );
    let again = chain.channel.committed_block(committed.number).unwrap().unwrap();
    assert_eq!(again.txs[1].code, Code::EndorsementPolicyFailure);
    assert_eq!(again.block, committed.block);
}
