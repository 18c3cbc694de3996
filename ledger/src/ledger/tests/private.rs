//! Private data: versions, loss of the state, purge and expiry.

use super::*;

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

/// Endorsers can sign the hash of anything.
#[test]
fn junk_with_the_right_hash_does_not_stop_the_chain() {
    let (_dir, ledger) = new_ledger();
    let junk = Bytes::from_static(&[0xff, 0xff]);
    let set = rwset::TxReadWriteSet {
        data_model: 0,
        ns_rwset: vec![rwset::NsReadWriteSet {
            namespace: "cc".into(),
            rwset: Bytes::new(),
            collection_hashed_rwset: vec![rwset::CollectionHashedReadWriteSet {
                collection_name: "coll".into(),
                hashed_rwset: Bytes::new(),
                pvt_rwset_hash: sha(&junk),
            }],
        }],
    };
    let given = PrivateWrites {
        rwset: junk,
        ..supplied(0, &private_puts(&[]))
    };
    commit(
        &ledger,
        vec![endorsed("t1", set.encode_to_vec().into())],
        &[],
        vec![given.clone()],
    );
    assert_eq!(ledger.private_writes(1).unwrap(), [given]);
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

#[test]
fn what_is_written_after_a_purge_stays() {
    let (dir, ledger) = new_ledger();
    let purge = Private {
        writes: vec![put("p", "")],
        purge: true,
        metadata: vec![],
    };
    let (before, after) = (private_puts(&[("p", "one")]), private_puts(&[("p", "two")]));
    // In the block of the purge, behind it and before it.
    commit(
        &ledger,
        vec![
            private_tx("t1", &before),
            private_tx("t2", &purge),
            private_tx("t3", &after),
        ],
        &[],
        vec![supplied(0, &before), supplied(2, &after)],
    );
    let kept = |ledger: &Ledger, block| -> Vec<(u64, usize)> {
        let writes = ledger.private_writes(block).unwrap().into_iter();
        let keys = |w: &PrivateWrites| KvrwSet::decode(w.rwset.clone()).unwrap().writes.len();
        writes.map(|w| (w.tx, keys(&w))).collect()
    };
    assert_eq!(kept(&ledger, 1), [(0, 0), (2, 1)]);
    let two = Some((Bytes::from_static(b"two"), Version::new(1, 2)));
    assert_eq!(private_of(&ledger, "p"), two);

    // The state is made again from what is kept; what block 3 wrote is there already when block 2 is redone.
    commit(&ledger, vec![private_tx("t4", &purge)], &[], vec![]);
    let last = private_puts(&[("p", "three")]);
    commit(
        &ledger,
        vec![private_tx("t5", &last)],
        &[],
        vec![supplied(0, &last)],
    );
    let entries = everything(&ledger);
    drop(ledger);
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let ledger = Ledger::open(dir.path(), "trade").unwrap();
    assert_eq!(everything(&ledger), entries);
    assert_eq!(kept(&ledger, 3), [(0, 1)]);
    let three = Some((Bytes::from_static(b"three"), Version::new(3, 0)));
    assert_eq!(private_of(&ledger, "p"), three);
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
