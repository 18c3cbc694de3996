//! `selvedge ledger replay` on the recorded chain of a real Fabric network (see golden/A/README.md).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use prost::Message;
use selvedge_proto::common::{Block, BlockMetadataIndex};
use selvedge_system_tests::binary;
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/A").join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn replay(blocks: &Path, more: &[&Path]) -> Output {
    let mut command = Command::new(binary());
    command
        .args(["ledger", "replay", "--blocks"])
        .arg(blocks)
        .args(more);
    command.output().unwrap()
}

fn report(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Leaves of a report what both sides must have: only the recording has titles and notes, and only a replay has reasons.
fn common(report: &Value) -> Value {
    let mut report = report.clone();
    for block in report["blocks"].as_array_mut().unwrap() {
        block.as_object_mut().unwrap().remove("title");
        for tx in block["txs"].as_array_mut().unwrap() {
            tx.as_object_mut()
                .unwrap()
                .retain(|name, _| !["via", "note", "reason"].contains(&name.as_str()));
        }
    }
    report
}

/// Entries by namespace and key; the private plaintext of the recording peer was never on the wire.
fn entries(state: &Value) -> BTreeMap<(String, String), Value> {
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
    let all = state["entries"].as_array().unwrap().iter();
    all.filter(|entry| !text(entry, "ns").contains("$$p"))
        .map(|entry| ((text(entry, "ns"), text(entry, "key_hex")), entry.clone()))
        .collect()
}

#[test]
fn the_command_gives_what_fabric_recorded() {
    let work = tempfile::tempdir().unwrap();
    let state = work.path().join("state.json");
    let found = report(&replay(
        &golden("blocks"),
        &[Path::new("--state-out"), state.as_path()],
    ));
    let recorded = json(&golden("expected.json"));
    assert_eq!(found["channel"], recorded["channel"]);
    assert_eq!(found["height"], recorded["height"]);
    let (got, wanted) = (common(&found), common(&recorded));
    let wanted = wanted["blocks"].as_array().unwrap();
    assert_eq!(wanted.len(), 96);
    assert_eq!(got["blocks"].as_array().unwrap().len(), wanted.len());
    for (number, block) in wanted.iter().enumerate() {
        assert_eq!(&got["blocks"][number], block);
    }

    let (state, recorded) = (json(&state), json(&golden("state.json")));
    assert_eq!(state["channel"], recorded["channel"]);
    assert_eq!(state["savepoint"], recorded["savepoint"]);
    let (got, wanted) = (entries(&state), entries(&recorded));
    assert!(wanted.len() > 300);
    assert_eq!(got, wanted);
}

#[test]
fn verdicts_in_the_files_are_not_believed_and_chains_must_hold() {
    let work = tempfile::tempdir().unwrap();
    let copy = |number: u64, to: u64| {
        let from = golden("blocks").join(format!("{number:03}.block"));
        std::fs::copy(from, work.path().join(format!("{to:03}.block"))).unwrap();
    };
    let recorded = common(&json(&golden("expected.json")));
    for number in 0..4 {
        copy(number, number);
    }
    // The orderer's signatures do not cover verdicts: these say that the last block's transactions are not valid.
    let last = work.path().join("003.block");
    let mut block = Block::decode(std::fs::read(&last).unwrap().as_slice()).unwrap();
    let count = block.data.as_ref().unwrap().data.len();
    let metadata = &mut block.metadata.as_mut().unwrap().metadata;
    metadata[BlockMetadataIndex::TransactionsFilter as usize] = vec![11; count].into();
    std::fs::write(&last, block.encode_to_vec()).unwrap();
    let found = common(&report(&replay(work.path(), &[])));
    assert_eq!(found["height"], 4);
    assert_eq!(found["blocks"][3], recorded["blocks"][3]);

    // A block out of order, and a byte of a transaction changed.
    copy(5, 4);
    let refused = replay(work.path(), &[]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(
        text.contains("block 4 is refused: expected block 4, got block 5"),
        "{text}"
    );
    copy(4, 4);
    let last = work.path().join("004.block");
    let mut bytes = std::fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&last, bytes).unwrap();
    let refused = replay(work.path(), &[]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(text.contains("block 4"), "{text}");
    let nothing = tempfile::tempdir().unwrap();
    let refused = replay(nothing.path(), &[]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && text.contains("holds no blocks"),
        "{text}"
    );
    assert!(refused.stdout.is_empty());
}
