use std::fs;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use selvedge_proto::kvrwset::{
    HashedRwSet, KvMetadataEntry, KvMetadataWriteHash, KvWrite, KvWriteHash, KvrwSet,
};
use selvedge_proto::{common, lifecycle, new_block, protos, rwset};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::mvcc::{self, TxInput};
use crate::rwset::ParsedRwset;
use crate::{HistoryEntry, KeyRef, StateReader, UpdateBatch, Version, VersionedValue};

fn sha(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(bytes))
}

/// A serialised envelope of the given type.
fn envelope(kind: common::HeaderType, tx_id: &str, data: Vec<u8>) -> Bytes {
    let channel_header = common::ChannelHeader {
        r#type: kind as i32,
        channel_id: "trade".into(),
        tx_id: tx_id.into(),
        timestamp: Some(prost_types::Timestamp {
            seconds: 77,
            nanos: 5,
        }),
        ..Default::default()
    };
    let signature_header = common::SignatureHeader {
        creator: Bytes::from_static(b"creator"),
        nonce: Bytes::from_static(b"nonce"),
    };
    let payload = common::Payload {
        header: Some(common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: data.into(),
    };
    let envelope = common::Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::from_static(b"signature"),
    };
    envelope.encode_to_vec().into()
}

/// One private collection in a transaction: plain writes, and metadata for key hashes.
#[derive(Default)]
struct Private {
    writes: Vec<KvWrite>,
    purge: bool,
    metadata: Vec<&'static str>,
}

fn results(public: &KvrwSet, private: Option<&Private>) -> Bytes {
    let collections = private.map(|p| {
        let hashed = HashedRwSet {
            hashed_writes: p
                .writes
                .iter()
                .map(|w| KvWriteHash {
                    key_hash: sha(&w.key),
                    is_delete: w.is_delete,
                    value_hash: if w.is_delete { Bytes::new() } else { sha(&w.value) },
                    is_purge: p.purge,
                })
                .collect(),
            metadata_writes: p
                .metadata
                .iter()
                .map(|key| KvMetadataWriteHash {
                    key_hash: sha(key),
                    entries: vec![KvMetadataEntry {
                        name: "M".into(),
                        value: Bytes::from_static(b"m"),
                    }],
                })
                .collect(),
            ..Default::default()
        };
        rwset::CollectionHashedReadWriteSet {
            collection_name: "coll".into(),
            hashed_rwset: hashed.encode_to_vec().into(),
            pvt_rwset_hash: if p.writes.is_empty() {
                Bytes::new()
            } else {
                sha(plain(p))
            },
        }
    });
    let set = rwset::TxReadWriteSet {
        data_model: 0,
        ns_rwset: vec![rwset::NsReadWriteSet {
            namespace: "cc".into(),
            rwset: public.encode_to_vec().into(),
            collection_hashed_rwset: collections.into_iter().collect(),
        }],
    };
    set.encode_to_vec().into()
}

fn plain(private: &Private) -> Vec<u8> {
    KvrwSet {
        writes: private.writes.clone(),
        ..Default::default()
    }
    .encode_to_vec()
}

fn endorsed(tx_id: &str, results: Bytes) -> Bytes {
    let action = protos::ChaincodeAction {
        results,
        ..Default::default()
    };
    let response = protos::ProposalResponsePayload {
        extension: action.encode_to_vec().into(),
        ..Default::default()
    };
    let payload = protos::ChaincodeActionPayload {
        action: Some(protos::ChaincodeEndorsedAction {
            proposal_response_payload: response.encode_to_vec().into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let transaction = protos::Transaction {
        actions: vec![protos::TransactionAction {
            payload: payload.encode_to_vec().into(),
            ..Default::default()
        }],
    };
    envelope(
        common::HeaderType::EndorserTransaction,
        tx_id,
        transaction.encode_to_vec(),
    )
}

fn put(key: &str, value: &str) -> KvWrite {
    KvWrite {
        key: key.into(),
        is_delete: value.is_empty(),
        value: value.to_owned().into(),
    }
}

fn writes(pairs: &[(&str, &str)]) -> KvrwSet {
    KvrwSet {
        writes: pairs.iter().map(|(k, v)| put(k, v)).collect(),
        ..Default::default()
    }
}

fn tx(id: &str, pairs: &[(&str, &str)]) -> Bytes {
    endorsed(id, results(&writes(pairs), None))
}

fn genesis() -> common::Block {
    let config = envelope(common::HeaderType::Config, "genesis", b"the config".to_vec());
    new_block(0, Bytes::new(), vec![config])
}

fn next_block(ledger: &Ledger, data: Vec<Bytes>) -> common::Block {
    new_block(ledger.height(), ledger.blocks().last_hash().unwrap(), data)
}

/// Judges and commits a block; `bad` transactions come with that code.
fn commit(ledger: &Ledger, data: Vec<Bytes>, bad: &[usize], private: Vec<PrivateWrites>) {
    let (block, updates) = judged(ledger, data, bad);
    ledger.commit(block, updates, private).unwrap();
}

fn judged(ledger: &Ledger, data: Vec<Bytes>, bad: &[usize]) -> (common::Block, UpdateBatch) {
    let mut block = next_block(ledger, data);
    let envelopes = contents::envelopes(&block).to_vec();
    let number = ledger.height();
    let sets: Vec<Option<ParsedRwset>> = envelopes
        .iter()
        .enumerate()
        .map(|(i, e)| match contents::body(number, i, e) {
            Ok(contents::Body::Endorser(rwset)) => Some(rwset),
            _ => None,
        })
        .collect();
    let inputs: Vec<TxInput<'_>> = sets
        .iter()
        .map(|s| TxInput {
            rwset: s.as_ref(),
            config: None,
        })
        .collect();
    let mut codes = vec![TxValidationCode::Valid; envelopes.len()];
    bad.iter()
        .for_each(|i| codes[*i] = TxValidationCode::EndorsementPolicyFailure);
    let (updates, _) = mvcc::judge(number, &inputs, &mut codes, &ledger.state()).unwrap();
    ledger.prepare(&mut block, &codes, &updates);
    (block, updates)
}

fn new_ledger() -> (TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::create(dir.path(), &genesis()).unwrap();
    (dir, ledger)
}

fn everything(ledger: &Ledger) -> Vec<(String, Bytes, VersionedValue)> {
    ledger.snapshot().unwrap().entries().map(Result::unwrap).collect()
}

fn value(ledger: &Ledger, key: &str) -> Option<Bytes> {
    ledger.state().get("cc", key).unwrap().map(|e| e.value)
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_new_ledger_holds_its_configuration() {
    let (dir, ledger) = new_ledger();
    assert_eq!((ledger.channel_id(), ledger.height()), ("trade", 1));
    let entry = ledger
        .state()
        .get(crate::CONFIG_NAMESPACE, crate::CONFIG_KEY)
        .unwrap()
        .unwrap();
    assert_eq!(
        (entry.value.as_ref(), entry.version),
        (&b"the config"[..], Version::new(0, 0))
    );
    assert!(ledger.commit_hash().is_empty());
    assert!(ledger.contains_tx("genesis").unwrap());
    drop(ledger);
    assert!(matches!(
        Ledger::create(dir.path(), &genesis()),
        Err(LedgerError::AlreadyExists(_))
    ));
    assert!(matches!(
        Ledger::open(dir.path(), "other"),
        Err(LedgerError::WrongChannel { .. })
    ));
    let ledger = Ledger::open(dir.path(), "trade").unwrap();
    assert_eq!(ledger.height(), 1);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        Ledger::open(empty.path(), "trade"),
        Err(LedgerError::NoGenesis(_))
    ));
}

#[test]
fn state_history_and_indexes_follow_the_blocks() {
    let (dir, ledger) = new_ledger();
    let watch = ledger.watch();
    commit(
        &ledger,
        vec![tx("t1", &[("a", "1"), ("b", "1")]), tx("t2", &[("a", "2")])],
        &[],
        vec![],
    );
    let old = ledger.snapshot().unwrap();
    commit(
        &ledger,
        vec![tx("t3", &[("a", ""), ("c", "3")]), tx("t4", &[("a", "bad")])],
        &[1],
        vec![],
    );
    commit(
        &ledger,
        vec![tx("t5", &[("a", "5")]), tx("t4", &[("d", "late")])],
        &[1],
        vec![],
    );
    assert_eq!(*watch.borrow(), 4);

    assert_eq!(value(&ledger, "a").unwrap().as_ref(), b"5");
    assert_eq!(old.height(), 2);
    assert_eq!(old.get("cc", "a").unwrap().unwrap().value.as_ref(), b"2");
    assert_eq!(old.get("cc", "c").unwrap(), None);
    let keys = |state: &dyn StateReader, from: &str, to: &str| -> Vec<String> {
        state.range("cc", from, to).map(|r| r.unwrap().0).collect()
    };
    assert_eq!(keys(&old, "", ""), ["a", "b"]);
    let now = ledger.snapshot().unwrap();
    assert_eq!(keys(&now, "", ""), ["a", "b", "c"]);
    assert_eq!(keys(&now, "b", "c"), ["b"]);
    assert!(keys(&now, "c", "b").is_empty());
    assert!(keys(&now, "d", "").is_empty());
    let missing = KeyRef::Public {
        ns: "cc",
        key: "none",
    };
    let a = KeyRef::Public { ns: "cc", key: "a" };
    assert_eq!(
        now.versions(&[missing, a]).unwrap(),
        [None, Some(Version::new(3, 0))]
    );

    let told = |h: Vec<HistoryEntry>| -> Vec<_> {
        h.into_iter()
            .map(|e| (e.tx_id, e.value, e.is_delete, e.version))
            .collect()
    };
    let whole = told(ledger.history("cc", "a").unwrap());
    let entry = |id: &str, value: &'static str, delete, block, tx| {
        (
            id.to_owned(),
            Bytes::from_static(value.as_bytes()),
            delete,
            Version::new(block, tx),
        )
    };
    let wanted = [
        entry("t5", "5", false, 3, 0),
        entry("t3", "", true, 2, 0),
        entry("t2", "2", false, 1, 1),
        entry("t1", "1", false, 1, 0),
    ];
    assert_eq!(whole, wanted);
    let page = ledger
        .history_before("cc", "a", Some(Version::new(2, 0)), 1)
        .unwrap();
    assert_eq!(page[0].timestamp.unwrap().seconds, 77);
    assert_eq!(told(page), wanted[2..3]);
    assert!(ledger.history("cc", "none").unwrap().is_empty());

    let location = ledger.transaction("t4").unwrap().unwrap();
    assert_eq!(
        (location.block, location.index),
        (2, 1),
        "the first occurrence stays"
    );
    assert_eq!(location.code, TxValidationCode::EndorsementPolicyFailure);
    assert_eq!(
        ledger.contains_txs(&["t5", "t6", "t1"]).unwrap(),
        [true, false, true]
    );
    let hash = ledger.blocks().last_hash().unwrap();
    assert_eq!(ledger.block_by_hash(&hash).unwrap(), Some(3));
    assert_eq!(ledger.block_by_hash(b"none").unwrap(), None);

    let before = (everything(&ledger), ledger.commit_hash());
    drop((old, now, ledger));
    let ledger = Ledger::open(dir.path(), "trade").unwrap();
    assert_eq!((everything(&ledger), ledger.commit_hash()), before);
    assert_eq!(told(ledger.history("cc", "a").unwrap()), wanted);
}

#[test]
fn ids_are_indexed_as_they_stand_or_computed() {
    let (_dir, ledger) = new_ledger();
    let no_id = tx("", &[("k", "v")]);
    let junk = Bytes::from_static(&[0xff, 0xff]);
    commit(
        &ledger,
        vec![no_id, tx("odd id", &[("k", "w")]), junk],
        &[1, 2],
        vec![],
    );
    let computed = selvedge_proto::compute_tx_id(b"nonce", b"creator");
    assert_eq!(ledger.transaction(&computed).unwrap().unwrap().index, 0);
    assert_eq!(ledger.transaction("odd id").unwrap().unwrap().index, 1);
    assert_eq!(ledger.transaction("").unwrap(), None);
}

#[test]
fn incomplete_or_wrong_blocks_change_nothing() {
    let (_dir, ledger) = new_ledger();
    let block = next_block(&ledger, vec![tx("t", &[("k", "v")])]);
    let refused = ledger.commit(block.clone(), UpdateBatch::new(), vec![]);
    assert!(matches!(refused, Err(LedgerError::BadBlock { .. })), "no filter");
    let mut undecided = block;
    ledger.prepare(
        &mut undecided,
        &[TxValidationCode::NotValidated],
        &UpdateBatch::new(),
    );
    assert!(ledger.commit(undecided, UpdateBatch::new(), vec![]).is_err());
    let (mut late, updates) = judged(&ledger, vec![], &[]);
    late.header.as_mut().unwrap().number = 5;
    assert!(matches!(
        ledger.commit(late, updates, vec![]),
        Err(LedgerError::OutOfOrder { expected: 1, got: 5 })
    ));
    assert_eq!((ledger.height(), ledger.blocks().height()), (1, 1));
    assert!(!ledger.contains_tx("t").unwrap());
}

/// The state is lost, or an older copy of it comes back: what the block files hold is redone.
#[test]
fn the_state_is_rolled_forward_from_the_block_files() {
    let (dir, ledger) = new_ledger();
    let state = dir.path().join("state");
    let old = tempfile::tempdir().unwrap();
    let mut ledger = Some(ledger);
    for round in 0..12 {
        let l = ledger.as_ref().unwrap();
        let (a, b) = (format!("a{}", round % 5), format!("v{round}"));
        let first = tx(&format!("x{round}"), &[(&a, &b), ("same", &b)]);
        let second = tx(
            &format!("y{round}"),
            &[(&a, if round % 3 == 0 { "" } else { "w" })],
        );
        let metadata = endorsed(
            &format!("z{round}"),
            results(
                &KvrwSet {
                    metadata_writes: vec![selvedge_proto::kvrwset::KvMetadataWrite {
                        key: "same".into(),
                        entries: vec![KvMetadataEntry {
                            name: "M".into(),
                            value: b.clone().into(),
                        }],
                    }],
                    ..Default::default()
                },
                None,
            ),
        );
        commit(l, vec![first, second, metadata], &[round % 3], vec![]);
        if round == 5 {
            drop(ledger.take());
            copy_dir(&state, old.path());
            ledger = Some(Ledger::open(dir.path(), "trade").unwrap());
        }
    }
    let ledger = ledger.unwrap();
    let entries = everything(&ledger);
    let hash = ledger.commit_hash();
    let history = ledger.history("cc", "same").unwrap();
    drop(ledger);
    let check = |ledger: &Ledger| {
        assert_eq!(ledger.height(), 13);
        assert_eq!(everything(ledger), entries);
        assert_eq!(ledger.commit_hash(), hash);
        assert_eq!(ledger.history("cc", "same").unwrap(), history);
        assert_eq!(ledger.transaction("x7").unwrap().unwrap().block, 8);
    };
    fs::remove_dir_all(&state).unwrap();
    let ledger = Ledger::open(dir.path(), "trade").unwrap();
    check(&ledger);
    commit(&ledger, vec![tx("more", &[("k", "v")])], &[], vec![]);
    drop(ledger);
    // Take the last block away again, then put the old state in place.
    fs::remove_dir_all(&state).unwrap();
    copy_dir(old.path(), &state);
    let ledger = Ledger::open(dir.path(), "trade").unwrap();
    assert_eq!(ledger.height(), 14);
    assert_eq!(value(&ledger, "k").unwrap().as_ref(), b"v");
}

/// The process dies after the block reached its file and before the state was written.
#[test]
fn a_block_in_the_file_but_not_in_the_state() {
    let (dir, ledger) = new_ledger();
    commit(&ledger, vec![tx("t1", &[("k", "1")])], &[], vec![]);
    let (block, _) = judged(&ledger, vec![tx("t2", &[("k", "2")])], &[]);
    ledger.blocks().append(&block).unwrap();
    assert_eq!(ledger.height(), 2, "not committed yet");
    drop(ledger);
    let ledger = Ledger::open(dir.path(), "trade").unwrap();
    assert_eq!(
        (ledger.height(), value(&ledger, "k").unwrap().as_ref()),
        (3, &b"2"[..])
    );
    // The same without a restart: the next commit completes it first, and then finds that its own number is taken.
    let (block, updates) = judged(&ledger, vec![tx("t3", &[("k", "3")])], &[]);
    ledger.blocks().append(&block).unwrap();
    assert!(matches!(
        ledger.commit(block, updates, vec![]),
        Err(LedgerError::OutOfOrder { expected: 4, got: 3 })
    ));
    assert_eq!(
        (ledger.height(), value(&ledger, "k").unwrap().as_ref()),
        (4, &b"3"[..])
    );
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let (dir, ledger) = new_ledger();
    commit(&ledger, vec![tx("t1", &[("k", "1")])], &[], vec![]);
    drop(ledger);
    let other = tempfile::tempdir().unwrap();
    let ledger = Ledger::create(other.path(), &genesis()).unwrap();
    for n in 0..2 {
        commit(&ledger, vec![tx(&format!("u{n}"), &[("k", "else")])], &[], vec![]);
    }
    drop(ledger);
    let state = |dir: &TempDir| dir.path().join("state");
    fs::remove_dir_all(state(&dir)).unwrap();
    copy_dir(&state(&other), &state(&dir));
    assert!(matches!(
        Ledger::open(dir.path(), "trade"),
        Err(LedgerError::StateAhead { state: 3, blocks: 2 })
    ));
    fs::remove_dir_all(state(&dir)).unwrap();
    Ledger::open(dir.path(), "trade").unwrap();
}

fn private_of(ledger: &Ledger, key: &str) -> Option<(Bytes, Version)> {
    ledger
        .state()
        .get_private("cc", "coll", key)
        .unwrap()
        .map(|e| (e.value, e.version))
}

fn hashed_of(ledger: &Ledger, key: &str) -> Option<(Bytes, Version)> {
    ledger
        .state()
        .get_hashed("cc", "coll", &sha(key))
        .unwrap()
        .map(|e| (e.value, e.version))
}

fn supplied(tx: u64, private: &Private) -> PrivateWrites {
    PrivateWrites {
        tx,
        namespace: "cc".into(),
        collection: "coll".into(),
        rwset: plain(private).into(),
    }
}

fn private_puts(pairs: &[(&str, &str)]) -> Private {
    Private {
        writes: pairs.iter().map(|(k, v)| put(k, v)).collect(),
        ..Private::default()
    }
}

fn private_tx(id: &str, private: &Private) -> Bytes {
    endorsed(id, results(&KvrwSet::default(), Some(private)))
}

#[test]
fn private_data_follows_its_hashes() {
    let (dir, ledger) = new_ledger();
    let first = private_puts(&[("p", "one"), ("q", "two")]);
    let overwritten = private_puts(&[("p", "later")]);
    let lie = PrivateWrites {
        rwset: plain(&private_puts(&[("p", "lie")])).into(),
        ..supplied(0, &first)
    };
    let data = vec![
        private_tx("t1", &first),
        private_tx("t2", &overwritten),
        private_tx("t3", &first),
    ];
    let given = vec![
        supplied(0, &first),
        supplied(1, &overwritten),
        supplied(2, &first),
        lie,
    ];
    commit(&ledger, data, &[2], given);
    let v = |block, tx| Version::new(block, tx);
    assert_eq!(
        private_of(&ledger, "p"),
        Some((Bytes::from_static(b"later"), v(1, 1)))
    );
    assert_eq!(
        private_of(&ledger, "q"),
        Some((Bytes::from_static(b"two"), v(1, 0)))
    );
    assert_eq!(hashed_of(&ledger, "p"), Some((sha("later"), v(1, 1))));
    assert_eq!(
        ledger.private_writes(1).unwrap().len(),
        2,
        "neither the lie nor the invalid one"
    );

    let metadata = Private {
        metadata: vec!["p"],
        ..Private::default()
    };
    commit(&ledger, vec![private_tx("t4", &metadata)], &[], vec![]);
    assert_eq!(
        private_of(&ledger, "p"),
        Some((Bytes::from_static(b"later"), v(2, 0))),
        "it carries the new version"
    );

    // A value that this peer does not get: the old plain text stays under its old version.
    commit(
        &ledger,
        vec![private_tx("t5", &private_puts(&[("p", "unknown")]))],
        &[],
        vec![],
    );
    assert_eq!(private_of(&ledger, "p").unwrap().1, v(2, 0));
    assert_eq!(hashed_of(&ledger, "p").unwrap().1, v(3, 0));
    commit(
        &ledger,
        vec![private_tx("t6", &private_puts(&[("q", "")]))],
        &[],
        vec![],
    );
    assert_eq!(
        (private_of(&ledger, "q"), hashed_of(&ledger, "q")),
        (None, None),
        "deleted by the hash alone"
    );

    let entries = everything(&ledger);
    drop(ledger);
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let ledger = Ledger::open(dir.path(), "trade").unwrap();
    assert_eq!(
        everything(&ledger),
        entries,
        "plain text survives the loss of the state"
    );
}

#[test]
fn a_purge_removes_every_trace() {
    let (_dir, ledger) = new_ledger();
    let both = private_puts(&[("p", "one"), ("q", "two")]);
    commit(
        &ledger,
        vec![private_tx("t1", &both)],
        &[],
        vec![supplied(0, &both)],
    );
    let again = private_puts(&[("p", "three")]);
    commit(
        &ledger,
        vec![private_tx("t2", &again)],
        &[],
        vec![supplied(0, &again)],
    );
    let purge = Private {
        writes: vec![put("p", "")],
        purge: true,
        metadata: vec![],
    };
    commit(&ledger, vec![private_tx("t3", &purge)], &[], vec![]);
    assert_eq!((private_of(&ledger, "p"), hashed_of(&ledger, "p")), (None, None));
    let keys = |block| -> Vec<String> {
        let writes = ledger.private_writes(block).unwrap();
        writes
            .iter()
            .flat_map(|w| KvrwSet::decode(w.rwset.clone()).unwrap().writes)
            .map(|w| w.key)
            .collect()
    };
    assert_eq!(keys(1), ["q"]);
    assert!(keys(2).is_empty());
    assert!(private_of(&ledger, "q").is_some());
}

/// A definition of `cc` whose collection lives for two blocks.
fn definition() -> Bytes {
    let package = protos::CollectionConfigPackage {
        config: vec![protos::CollectionConfig {
            payload: Some(protos::collection_config::Payload::StaticCollectionConfig(
                protos::StaticCollectionConfig {
                    name: "coll".into(),
                    block_to_live: 2,
                    ..Default::default()
                },
            )),
        }],
    };
    let value = lifecycle::StateData {
        r#type: Some(lifecycle::state_data::Type::Bytes(package.encode_to_vec().into())),
    };
    let set = rwset::TxReadWriteSet {
        data_model: 0,
        ns_rwset: vec![rwset::NsReadWriteSet {
            namespace: "_lifecycle".into(),
            rwset: KvrwSet {
                writes: vec![KvWrite {
                    key: "namespaces/fields/cc/Collections".into(),
                    is_delete: false,
                    value: value.encode_to_vec().into(),
                }],
                ..Default::default()
            }
            .encode_to_vec()
            .into(),
            collection_hashed_rwset: vec![],
        }],
    };
    endorsed("definition", set.encode_to_vec().into())
}

#[test]
fn private_data_expires() {
    let (dir, ledger) = new_ledger();
    commit(&ledger, vec![definition()], &[], vec![]);
    let both = private_puts(&[("p", "one"), ("q", "two")]);
    commit(
        &ledger,
        vec![private_tx("t2", &both)],
        &[],
        vec![supplied(0, &both)],
    );
    let again = private_puts(&[("q", "three")]);
    commit(
        &ledger,
        vec![private_tx("t3", &again)],
        &[],
        vec![supplied(0, &again)],
    );
    commit(&ledger, vec![], &[], vec![]);
    assert!(
        private_of(&ledger, "p").is_some() && hashed_of(&ledger, "p").is_some(),
        "block 4 = 2 + block_to_live"
    );
    let before = ledger.commit_hash();
    commit(&ledger, vec![], &[], vec![]);
    assert_eq!(
        ledger.commit_hash(),
        crate::commit_hash::next(&before, &[], &UpdateBatch::new())
    );
    assert_eq!(
        (private_of(&ledger, "p"), hashed_of(&ledger, "p")),
        (None, None),
        "gone with block 5"
    );
    assert!(ledger.private_writes(2).unwrap().is_empty());
    assert!(
        private_of(&ledger, "q").is_some(),
        "it was written again in block 3"
    );
    let entries = everything(&ledger);
    drop(ledger);
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let ledger = Ledger::open(dir.path(), "trade").unwrap();
    assert_eq!(everything(&ledger), entries);
    commit(&ledger, vec![], &[], vec![]);
    assert_eq!(
        (private_of(&ledger, "q"), hashed_of(&ledger, "q")),
        (None, None),
        "gone with block 6"
    );
}
