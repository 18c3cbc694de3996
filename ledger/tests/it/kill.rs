//! A process that commits is killed without warning; whatever it announced must be there afterwards.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use selvedge_ledger::mvcc::{self, TxInput};
use selvedge_ledger::{Ledger, StateReader};
use selvedge_proto::protos::TxValidationCode as Code;
use selvedge_proto::{Bytes, Message, common, kvrwset, new_block, protos, rwset};

const DIR: &str = "LEDGER_KILL_TEST_DIR";

fn envelope(kind: common::HeaderType, tx_id: &str, data: Vec<u8>) -> Bytes {
    let channel_header = common::ChannelHeader {
        r#type: kind as i32,
        channel_id: "kill".into(),
        tx_id: tx_id.into(),
        ..Default::default()
    };
    let payload = common::Payload {
        header: Some(common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: Bytes::new(),
        }),
        data: data.into(),
    };
    let envelope = common::Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::new(),
    };
    envelope.encode_to_vec().into()
}

/// A transaction that writes `key` and counts up `count`.
fn transaction(number: u64, index: u64) -> Bytes {
    let write = |key: String, value: String| kvrwset::KvWrite {
        key,
        is_delete: false,
        value: value.into(),
    };
    let public = kvrwset::KvrwSet {
        writes: vec![
            write(format!("key-{number}-{index}"), "x".repeat(500)),
            write("count".into(), format!("{number}")),
        ],
        ..Default::default()
    };
    let set = rwset::TxReadWriteSet {
        data_model: 0,
        ns_rwset: vec![rwset::NsReadWriteSet {
            namespace: "cc".into(),
            rwset: public.encode_to_vec().into(),
            collection_hashed_rwset: vec![],
        }],
    };
    let action = protos::ChaincodeAction {
        results: set.encode_to_vec().into(),
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
    let id = format!("tx-{number}-{index}");
    envelope(
        common::HeaderType::EndorserTransaction,
        &id,
        transaction.encode_to_vec(),
    )
}

fn rwset_of(envelope: &Bytes) -> selvedge_ledger::rwset::ParsedRwset {
    let opened = common::Envelope::decode(envelope.clone()).unwrap();
    let payload = common::Payload::decode(opened.payload).unwrap();
    let transaction = protos::Transaction::decode(payload.data).unwrap();
    let payload = protos::ChaincodeActionPayload::decode(transaction.actions[0].payload.clone()).unwrap();
    let response = payload.action.unwrap().proposal_response_payload;
    let response = protos::ProposalResponsePayload::decode(response).unwrap();
    let action = protos::ChaincodeAction::decode(response.extension).unwrap();
    selvedge_ledger::rwset::ParsedRwset::parse(action.results).unwrap()
}

fn commit_next(ledger: &Ledger) {
    let number = ledger.height();
    let data: Vec<Bytes> = (0..4).map(|i| transaction(number, i)).collect();
    let sets: Vec<_> = data.iter().map(rwset_of).collect();
    let inputs: Vec<_> = sets
        .iter()
        .map(|s| TxInput {
            rwset: Some(s),
            config: None,
        })
        .collect();
    let mut codes = vec![Code::Valid; data.len()];
    let (updates, _) = mvcc::judge(number, &inputs, &mut codes, &ledger.state()).unwrap();
    let mut block = new_block(number, ledger.blocks().last_hash().unwrap(), data);
    ledger.prepare(&mut block, &codes, &updates);
    ledger.commit(block, updates, Vec::new()).unwrap();
}

fn genesis() -> common::Block {
    new_block(
        0,
        Bytes::new(),
        vec![envelope(common::HeaderType::Config, "", vec![])],
    )
}

/// Not a test by itself: the process that is killed. It commits for ever and prints each height after the commit.
#[test]
#[ignore = "started and killed by the test below"]
fn writer() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let ledger = Ledger::open(Path::new(&dir), "kill").unwrap();
    loop {
        commit_next(&ledger);
        println!("committed {}", ledger.height());
    }
}

#[test]
fn nothing_announced_is_lost_to_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    drop(Ledger::create(dir.path(), &genesis()).unwrap());
    let mut height = 1;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "kill::writer",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut announced = 0;
        // Killed after a few commits, in the middle of whatever it does then.
        for line in lines.map_while(Result::ok) {
            let Some(told) = line
                .rsplit_once("committed ")
                .and_then(|(_, h)| h.parse::<u64>().ok())
            else {
                continue;
            };
            announced = told;
            if announced >= height + 5 + 17 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(announced > height);

        if round % 3 == 2 {
            // What a power cut can do on top: the write-ahead log loses its end.
            cut_logs(&dir.path().join("state"));
        }
        let ledger = Ledger::open(dir.path(), "kill").unwrap();
        assert!(ledger.height() >= announced, "{} of {announced}", ledger.height());
        height = ledger.height();
        let snapshot = ledger.snapshot().unwrap();
        assert_eq!(snapshot.height(), height);
        let count = snapshot.get("cc", "count").unwrap().unwrap();
        assert_eq!(count.value, (height - 1).to_string());
        assert_eq!(snapshot.range("cc", "key-", "").count() as u64, (height - 1) * 4);
        assert_eq!(
            ledger.history("cc", "count").unwrap().len() as u64,
            (height - 1) * 4
        );
        for number in 1..height {
            assert!(
                ledger
                    .contains_txs(&[format!("tx-{number}-0"), format!("tx-{number}-3")])
                    .unwrap()
                    == [true, true]
            );
        }
        assert_eq!(ledger.blocks().verify().unwrap(), height);
    }
}

fn cut_logs(state: &Path) {
    let mut cut = 0;
    for entry in std::fs::read_dir(state).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "log") {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            let len = file.metadata().unwrap().len();
            file.set_len(len * 2 / 3).unwrap();
            cut += 1;
        }
    }
    assert!(cut > 0);
}
