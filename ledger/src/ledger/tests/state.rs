//! Blocks, state, history, indexes and recovery.

use std::sync::Arc;

use super::*;

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
    assert_eq!(keys(&*old, "", ""), ["a", "b"]);
    let now = ledger.snapshot().unwrap();
    assert!(Arc::ptr_eq(&now, &ledger.snapshot().unwrap()));
    assert_eq!(now.height(), 4);
    assert_eq!(keys(&*now, "", ""), ["a", "b", "c"]);
    assert_eq!(keys(&*now, "b", "c"), ["b"]);
    assert!(keys(&*now, "c", "b").is_empty());
    assert!(keys(&*now, "d", "").is_empty());
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
    drop(ledger);
    fs::remove_dir_all(&state).unwrap();
    copy_dir(old.path(), &state);
    let ledger = Ledger::open(dir.path(), "trade").unwrap();
    check(&ledger);
    commit(&ledger, vec![tx("more", &[("k", "v")])], &[], vec![]);
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
    let ledger = Ledger::open(dir.path(), "trade").unwrap();
    for n in 0..2 {
        commit(
            &ledger,
            vec![tx(&format!("t{}", n + 2), &[("k", "2")])],
            &[],
            vec![],
        );
    }
    drop(ledger);
    fs::remove_dir_all(state(&dir)).unwrap();
    copy_dir(&state(&other), &state(&dir));
    assert!(matches!(
        Ledger::open(dir.path(), "trade"),
        Err(LedgerError::ForeignState { block: 2 })
    ));
}

/// A state whose content is not what its height says shows when a block that builds on it is redone.
#[test]
fn a_state_that_was_altered_shows_in_the_commit_hash() {
    let (dir, ledger) = new_ledger();
    commit(&ledger, vec![tx("t1", &[("k", "1")])], &[], vec![]);
    let metadata = KvrwSet {
        metadata_writes: vec![selvedge_proto::kvrwset::KvMetadataWrite {
            key: "k".into(),
            entries: vec![KvMetadataEntry {
                name: "M".into(),
                value: Bytes::from_static(b"m"),
            }],
        }],
        ..Default::default()
    };
    let (block, _) = judged(&ledger, vec![endorsed("t2", results(&metadata, None))], &[]);
    ledger.blocks().append(&block).unwrap();
    let mut batch = rocksdb::WriteBatch::default();
    let name = keys::state_key(&KeyRef::Public { ns: "cc", key: "k" });
    batch.put(name, keys::encode_entry(Version::new(1, 0), &[], b"altered"));
    ledger.db().write(batch, false).unwrap();
    drop(ledger);
    assert!(matches!(
        Ledger::open(dir.path(), "trade"),
        Err(LedgerError::Diverged { block: 2, .. })
    ));
}
