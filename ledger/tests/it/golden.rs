//! A chain recorded from a real Fabric network (tests/golden/A): with the verdicts of signatures and policies taken from the
//! recording, the ledger's own verdicts, the commit hashes and the state must come out as recorded.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use selvedge_ledger::rwset::ParsedRwset;
use selvedge_ledger::{Ledger, StateReader, mvcc};
use selvedge_proto::protos::TxValidationCode as Code;
use selvedge_proto::{Bytes, common, open_envelope, protos};
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/A")
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden().join(name)).unwrap()).unwrap()
}

/// What the mvcc stage gets of a transaction that passed the stages before.
enum Input {
    Rwset(ParsedRwset),
    Config(Bytes),
    Nothing,
}

fn input(envelope: &Bytes) -> Input {
    let opened = open_envelope(&common::Envelope::decode(envelope.clone()).unwrap()).unwrap();
    if opened.channel_header.r#type == common::HeaderType::Config as i32 {
        return Input::Config(opened.payload.data);
    }
    let transaction = protos::Transaction::decode(opened.payload.data).unwrap();
    let payload = protos::ChaincodeActionPayload::decode(transaction.actions[0].payload.clone()).unwrap();
    let response = payload.action.unwrap().proposal_response_payload;
    let response = protos::ProposalResponsePayload::decode(response).unwrap();
    let action = protos::ChaincodeAction::decode(response.extension).unwrap();
    Input::Rwset(ParsedRwset::parse(action.results).unwrap())
}

#[test]
fn a_recorded_chain_gives_the_recorded_codes_hashes_and_state() {
    let expected = json("expected.json");
    let dir = tempfile::tempdir().unwrap();
    let read = |number: usize| {
        let bytes = fs::read(golden().join(format!("blocks/{number:03}.block"))).unwrap();
        common::Block::decode(Bytes::from(bytes)).unwrap()
    };
    let ledger = Ledger::create(dir.path(), &read(0)).unwrap();
    let blocks = expected["blocks"].as_array().unwrap();
    let mut conflicts_told = 0;
    for (number, recorded) in blocks.iter().enumerate().skip(1) {
        let mut block = read(number);
        let filter = hex::decode(recorded["transactions_filter"].as_str().unwrap()).unwrap();
        let recorded_codes: Vec<Code> = filter
            .iter()
            .map(|c| Code::try_from(i32::from(*c)).unwrap())
            .collect();
        let mut codes = recorded_codes.clone();
        for code in &mut codes {
            if matches!(code, Code::MvccReadConflict | Code::PhantomReadConflict) {
                *code = Code::Valid;
            }
        }
        let data = block.data.clone().unwrap().data;
        let parsed: Vec<Input> = data
            .iter()
            .zip(&codes)
            .map(|(e, c)| {
                if *c == Code::Valid {
                    input(e)
                } else {
                    Input::Nothing
                }
            })
            .collect();
        let inputs: Vec<mvcc::TxInput<'_>> = parsed
            .iter()
            .map(|p| match p {
                Input::Rwset(rwset) => mvcc::TxInput {
                    rwset: Some(rwset),
                    config: None,
                },
                Input::Config(config) => mvcc::TxInput {
                    rwset: None,
                    config: Some(config.clone()),
                },
                Input::Nothing => mvcc::TxInput::default(),
            })
            .collect();
        let (updates, conflicts) = mvcc::judge(number as u64, &inputs, &mut codes, &ledger.state()).unwrap();
        assert_eq!(codes, recorded_codes, "block {number}");
        conflicts_told += conflicts.len();
        ledger.prepare(&mut block, &codes, &updates);
        ledger.commit(block, updates, Vec::new()).unwrap();
        assert_eq!(
            hex::encode(ledger.commit_hash()),
            recorded["commit_hash"].as_str().unwrap(),
            "block {number}"
        );
        let hash = ledger.blocks().last_hash().unwrap();
        assert_eq!(hex::encode(&hash), recorded["header_hash"].as_str().unwrap());
        assert_eq!(ledger.block_by_hash(&hash).unwrap(), Some(number as u64));
    }
    assert_eq!(conflicts_told, 21);

    let state = state_of(&ledger);
    assert_eq!(state, recorded_state());
    check_ids(&ledger, blocks);
    check_range(&ledger, "kv1", "range-kv1.json");
    check_range(&ledger, "kv2", "range-kv2.json");

    drop(ledger);
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let ledger = Ledger::open(dir.path(), "golden-a").unwrap();
    assert_eq!(state_of(&ledger), state, "rolled forward from the block files");
}

/// Namespace, key, value, version, metadata: all in hex but the first and the version.
type Entry = (String, String, String, String, String);

fn state_of(ledger: &Ledger) -> Vec<Entry> {
    let snapshot = ledger.snapshot().unwrap();
    snapshot
        .entries()
        .map(|found| {
            let (ns, key, entry) = found.unwrap();
            let version = format!("{}:{}", entry.version.block, entry.version.tx);
            (
                ns,
                hex::encode(key),
                hex::encode(entry.value),
                version,
                hex::encode(entry.metadata),
            )
        })
        .collect()
}

/// Without the plain private data, which is not in the blocks.
fn recorded_state() -> Vec<Entry> {
    let state = json("state.json");
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let mut entries: Vec<Entry> = state["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| !text(e, "ns").contains("$$p"))
        .map(|e| {
            (
                text(e, "ns"),
                text(e, "key_hex"),
                text(e, "value_hex"),
                text(e, "version"),
                text(e, "metadata_hex"),
            )
        })
        .collect();
    entries.sort();
    entries
}

/// The first transaction of each id is found, with its code.
fn check_ids(ledger: &Ledger, blocks: &[Value]) {
    let mut seen = std::collections::BTreeSet::new();
    for (number, block) in blocks.iter().enumerate() {
        for tx in block["txs"].as_array().unwrap() {
            let id = tx["txid"].as_str().unwrap_or_default();
            if id.is_empty() || !seen.insert(id) {
                continue;
            }
            let location = ledger.transaction(id).unwrap().unwrap();
            assert_eq!(
                (location.block, location.index),
                (number as u64, tx["index"].as_u64().unwrap()),
                "{id}"
            );
            assert_eq!(
                i64::from(location.code as i32),
                tx["code"].as_i64().unwrap(),
                "{id}"
            );
        }
    }
    assert!(seen.len() > 250);
}

fn check_range(ledger: &Ledger, ns: &str, recorded: &str) {
    let wanted: Vec<(String, String)> = serde_json::from_value(json(recorded)).unwrap();
    let found: Vec<(String, String)> = ledger
        .state()
        .range(ns, "\u{1}", "")
        .map(|r| {
            let (key, entry) = r.unwrap();
            (key, hex::encode(entry.value))
        })
        .collect();
    assert_eq!(found, wanted);
}
