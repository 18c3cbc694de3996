//! The recorded chain of a real Fabric network gets the same verdicts, hashes and state here (see tests/golden/A/README.md).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says that it fails by panicking, also in its helpers"
)]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvedge_peer::replay::{self, BlockReport, StateReport};
use selvedge_peer::{PeerChannel, ValidatorPool};
use selvedge_proto::common;
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/A")
}

fn blocks() -> Vec<common::Block> {
    let files = replay::block_files(&golden().join("blocks")).unwrap();
    files
        .iter()
        .map(|file| replay::read_block(file).unwrap())
        .collect()
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden().join(name)).unwrap()).unwrap()
}

/// The recorded report without what only the recording knows.
fn expected_blocks() -> Vec<Value> {
    let mut blocks = json("expected.json")["blocks"].as_array().unwrap().clone();
    for block in &mut blocks {
        block.as_object_mut().unwrap().remove("title");
        for tx in block["txs"].as_array_mut().unwrap() {
            tx.as_object_mut()
                .unwrap()
                .retain(|name, _| name != "via" && name != "note");
        }
    }
    blocks
}

fn without_reasons(report: &BlockReport) -> Value {
    let mut value = serde_json::to_value(report).unwrap();
    for tx in value["txs"].as_array_mut().unwrap() {
        tx.as_object_mut().unwrap().remove("reason");
    }
    value
}

/// Entries by namespace and key; the private plaintext of the recording peer was never on the wire.
fn comparable(entries: &[Value]) -> BTreeMap<(String, String), Value> {
    let name = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
    entries
        .iter()
        .filter(|entry| !name(entry, "ns").contains("$$p"))
        .map(|entry| ((name(entry, "ns"), name(entry, "key_hex")), entry.clone()))
        .collect()
}

fn assert_state(found: &StateReport) {
    let recorded = json("state.json");
    let found = serde_json::to_value(found).unwrap();
    assert_eq!(found["channel"], recorded["channel"]);
    assert_eq!(found["savepoint"], recorded["savepoint"]);
    let wanted = comparable(recorded["entries"].as_array().unwrap());
    let got = comparable(found["entries"].as_array().unwrap());
    for (key, entry) in &wanted {
        assert_eq!(got.get(key), Some(entry), "{key:?}");
    }
    for key in got.keys() {
        assert!(wanted.contains_key(key), "{key:?} should not exist");
    }
    assert_eq!(wanted.len(), 357 - 31);
}

#[test]
fn replay_gives_what_fabric_recorded() {
    let work = tempfile::tempdir().unwrap();
    let replay = replay::replay_dir(&golden().join("blocks"), work.path()).unwrap();
    let expected = json("expected.json");
    assert_eq!(replay.report.channel, expected["channel"].as_str().unwrap());
    assert_eq!(Value::from(replay.report.height), expected["height"]);
    let wanted = expected_blocks();
    assert_eq!(replay.report.blocks.len(), wanted.len());
    for (found, wanted) in replay.report.blocks.iter().zip(&wanted) {
        for (index, tx) in found.txs.iter().enumerate() {
            assert_eq!(
                tx.code_name,
                wanted["txs"][index]["code_name"].as_str().unwrap(),
                "block {} tx {index}: {:?}",
                found.number,
                tx.reason
            );
        }
        assert_eq!(&without_reasons(found), wanted);
    }
    assert_state(&replay::state(&replay.channel).unwrap());
}

#[test]
fn every_refusal_says_why() {
    let work = tempfile::tempdir().unwrap();
    let replay = replay::replay_dir(&golden().join("blocks"), work.path()).unwrap();
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for tx in replay.report.blocks.iter().flat_map(|b| &b.txs) {
        // Ids that come again hide the refusal of their first bearer.
        if tx.code != 0
            && let Some(reason) = &tx.reason
        {
            assert!(!reason.is_empty());
            reasons
                .entry(tx.code_name.clone())
                .or_default()
                .push(reason.clone());
        }
    }
    let any = |code: &str, part: &str| {
        let all = reasons.get(code).map(Vec::as_slice).unwrap_or_default();
        assert!(
            all.iter().any(|reason| reason.contains(part)),
            "no {code} with {part:?} in {all:#?}"
        );
    };
    any("ENDORSEMENT_POLICY_FAILURE", "Org2MSP");
    any("ENDORSEMENT_POLICY_FAILURE", "validation parameters for key");
    any("MVCC_READ_CONFLICT", "transaction");
    any("INVALID_CHAINCODE", "chaincode");
    any("BAD_CREATOR_SIGNATURE", "creator");
}

#[test]
fn the_same_with_a_reopen_after_every_block() {
    let work = tempfile::tempdir().unwrap();
    let wanted = expected_blocks();
    let mut blocks = blocks().into_iter();
    let channel = PeerChannel::create(work.path(), blocks.next().unwrap()).unwrap();
    let id = channel.id().to_owned();
    drop(channel);
    for (block, wanted) in blocks.zip(&wanted[1..]) {
        let channel = PeerChannel::open(work.path(), &id).unwrap();
        let committed = replay::step(&channel, block).unwrap();
        assert_eq!(&without_reasons(&replay::report(&channel, &committed)), wanted);
    }
    let channel = PeerChannel::open(work.path(), &id).unwrap();
    assert_eq!(channel.height(), 96);
    assert_state(&replay::state(&channel).unwrap());
    for (number, wanted) in (0u64..).zip(&wanted) {
        let block = channel.committed_block(number).unwrap().unwrap();
        assert_eq!(&without_reasons(&replay::report(&channel, &block)), wanted);
    }
}

/// A crash after a block reached the block file, but before the state followed: the state folder is older than the blocks.
#[test]
fn a_state_that_lags_behind_is_rolled_forward() {
    let work = tempfile::tempdir().unwrap();
    let replay = replay::replay_dir(&golden().join("blocks"), work.path()).unwrap();
    let id = replay.channel.id().to_owned();
    drop(replay);
    std::fs::remove_dir_all(work.path().join("ledger/state")).unwrap();
    let channel = PeerChannel::open(work.path(), &id).unwrap();
    assert_eq!(channel.height(), 96);
    assert_eq!(channel.bundle().sequence(), 4);
    assert_state(&replay::state(&channel).unwrap());
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A crash in the middle of every single block: the block is in its file, the state is still the one before it.
#[test]
fn the_same_with_a_crash_in_the_middle_of_every_block() {
    let work = tempfile::tempdir().unwrap();
    let before = tempfile::tempdir().unwrap();
    let state = work.path().join("ledger/state");
    let wanted = expected_blocks();
    let mut blocks = blocks().into_iter();
    let channel = PeerChannel::create(work.path(), blocks.next().unwrap()).unwrap();
    let id = channel.id().to_owned();
    drop(channel);
    for (block, wanted) in blocks.zip(&wanted[1..]) {
        let kept = before.path().join("state");
        drop(std::fs::remove_dir_all(&kept));
        copy_dir(&state, &kept);

        let channel = PeerChannel::open(work.path(), &id).unwrap();
        let height = channel.height();
        drop(replay::step(&channel, block).unwrap());
        drop(channel);
        std::fs::remove_dir_all(&state).unwrap();
        copy_dir(&kept, &state);

        let channel = PeerChannel::open(work.path(), &id).unwrap();
        assert_eq!(channel.height(), height + 1);
        let committed = channel.committed_block(height).unwrap().unwrap();
        assert_eq!(&without_reasons(&replay::report(&channel, &committed)), wanted);
    }
    let channel = PeerChannel::open(work.path(), &id).unwrap();
    assert_eq!(channel.height(), 96);
    assert_state(&replay::state(&channel).unwrap());
}

#[test]
fn two_channels_at_once_do_not_disturb_each_other() {
    let works = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let blocks = blocks();
    let channels: Vec<Arc<PeerChannel>> = works
        .iter()
        .map(|work| PeerChannel::create(work.path(), blocks[0].clone()).unwrap())
        .collect();
    let wanted = expected_blocks();
    std::thread::scope(|scope| {
        for channel in &channels {
            scope.spawn(|| {
                for (block, wanted) in blocks[1..].iter().zip(&wanted[1..]) {
                    let committed = channel.process_block(block.clone()).unwrap();
                    assert_eq!(&without_reasons(&replay::report(channel, &committed)), wanted);
                }
            });
        }
    });
    for channel in &channels {
        assert_state(&replay::state(channel).unwrap());
    }
}

#[test]
fn one_thread_and_many_give_the_same_verdicts() {
    let blocks = blocks();
    for threads in [1, 8] {
        let work = tempfile::tempdir().unwrap();
        let channel = PeerChannel::create(work.path(), blocks[0].clone()).unwrap();
        let pool = ValidatorPool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
        channel.validate_on(pool);
        for (block, wanted) in blocks[1..].iter().zip(&expected_blocks()[1..]) {
            let committed = channel.process_block(block.clone()).unwrap();
            assert_eq!(
                &without_reasons(&replay::report(&channel, &committed)),
                wanted,
                "{threads} threads"
            );
        }
        assert_state(&replay::state(&channel).unwrap());
    }
}

/// Signatures are checked ahead of the chain, across config blocks too.
#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_gives_the_same_verdicts() {
    for threads in [None, NonZeroUsize::new(1), NonZeroUsize::new(8)] {
        by_the_pipeline(threads).await;
    }
}

async fn by_the_pipeline(threads: Option<NonZeroUsize>) {
    let work = tempfile::tempdir().unwrap();
    let mut blocks = blocks().into_iter();
    let channel = PeerChannel::create(work.path(), blocks.next().unwrap()).unwrap();
    if let Some(threads) = threads {
        channel.validate_on(ValidatorPool::new(threads).unwrap());
    }
    let mut commits = channel.commits();
    let pipeline = selvedge_peer::pipeline::CommitPipeline::start(Arc::clone(&channel)).unwrap();
    for block in blocks {
        pipeline.submit(block).await.unwrap();
    }
    pipeline.finish().await.unwrap();
    for wanted in &expected_blocks()[1..] {
        let committed = commits.recv().await.unwrap();
        assert_eq!(&without_reasons(&replay::report(&channel, &committed)), wanted);
    }
    assert_state(&replay::state(&channel).unwrap());
}

#[test]
fn a_block_out_of_order_is_not_committed() {
    let work = tempfile::tempdir().unwrap();
    let blocks = blocks();
    let channel = PeerChannel::create(work.path(), blocks[0].clone()).unwrap();
    assert!(channel.process_block(blocks[2].clone()).is_err());
    assert!(channel.process_block(blocks[0].clone()).is_err());
    assert_eq!(channel.height(), 1);
    channel.process_block(blocks[1].clone()).unwrap();
    assert!(PeerChannel::create(work.path(), blocks[0].clone()).is_err());
    assert!(PeerChannel::create(&work.path().join("other"), blocks[1].clone()).is_err());
}
