//! Auditing chains: the recorded chain of a real Fabric network verifies, and a changed copy of it does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says that it fails by panicking, also in its helpers"
)]

use std::path::{Path, PathBuf};

use prost::Message;
use selvedge_ledger::BlockStore;
use selvedge_peer::audit::{self, AuditError, AuditReport, ChainFiles};
use selvedge_peer::replay;
use selvedge_proto::{block_data_hash, block_hash, common, put_metadata};
use tempfile::TempDir;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/A/blocks")
}

/// A folder with the recorded chain as a peer keeps it: with verdicts and commit hashes.
fn of_a_peer() -> TempDir {
    let (dir, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let channel = replay::replay_dir(&golden(), &work.path().join("c"))
        .unwrap()
        .channel;
    for number in 0..channel.height() {
        let committed = channel.committed_block(number).unwrap().unwrap();
        let file = dir.path().join(format!("{number:03}.block"));
        std::fs::write(file, committed.block.encode_to_vec()).unwrap();
    }
    dir
}

fn verify(dir: &Path) -> Result<AuditReport, AuditError> {
    let work = tempfile::tempdir().unwrap();
    let chains = audit::find_chains(dir)?;
    assert_eq!(chains.len(), 1);
    audit::verify(&chains[0], &work.path().join("c"), None, |_| {})
}

/// Changes one block of a copy, and writes it back.
fn change(dir: &Path, number: usize, how: impl FnOnce(&mut common::Block)) {
    let file = replay::block_files(dir).unwrap().remove(number);
    let mut block = replay::read_block(&file).unwrap();
    how(&mut block);
    std::fs::write(file, block.encode_to_vec()).unwrap();
}

fn filter_of(block: &common::Block) -> Vec<u8> {
    block.metadata.as_ref().unwrap().metadata[common::BlockMetadataIndex::TransactionsFilter as usize]
        .to_vec()
}

#[test]
fn a_real_chain_verifies_from_an_orderer_and_from_a_peer() {
    let ordered = verify(&golden()).unwrap();
    let blocks = replay::block_files(&golden()).unwrap().len() as u64;
    assert_eq!((ordered.height, ordered.compared), (blocks, 0));
    assert_eq!(ordered.transactions, ordered.verdicts.values().sum::<u64>());
    assert!(ordered.verdicts["VALID"] > 0 && ordered.verdicts.len() > 3);
    let committed = verify(of_a_peer().path()).unwrap();
    assert_eq!(committed.compared, blocks - 1);
    assert!(committed.commit_hash.is_some());
    assert_eq!(
        AuditReport {
            compared: 0,
            ..committed
        },
        ordered
    );
}

#[test]
fn a_forged_verdict_is_found_and_explained() {
    let dir = of_a_peer();
    change(dir.path(), 9, |block| {
        let mut filter = filter_of(block);
        filter[0] ^= 1;
        put_metadata(
            block,
            common::BlockMetadataIndex::TransactionsFilter,
            filter.into(),
        );
    });
    let error = verify(dir.path()).unwrap_err();
    assert!(
        matches!(&error, AuditError::Verdict { number: 9, index: 0, recorded, found, .. } if recorded != found),
        "{error}"
    );
}

#[test]
fn a_forged_commit_hash_is_found() {
    let dir = of_a_peer();
    change(dir.path(), 5, |block| {
        let forged = common::Metadata {
            value: vec![7; 32].into(),
            signatures: Vec::new(),
        };
        put_metadata(
            block,
            common::BlockMetadataIndex::CommitHash,
            forged.encode_to_vec().into(),
        );
    });
    let error = verify(dir.path()).unwrap_err();
    assert!(
        matches!(error, AuditError::CommitHash { number: 5, .. }),
        "{error}"
    );
}

#[test]
fn a_transaction_that_was_taken_out_is_found_even_when_the_hashes_are_made_to_fit() {
    let dir = of_a_peer();
    let files = replay::block_files(dir.path()).unwrap();
    let fat = (1..files.len())
        .find(|n| replay::read_block(&files[*n]).unwrap().data.unwrap().data.len() > 1)
        .unwrap();
    change(dir.path(), fat, |block| {
        block.data.as_mut().unwrap().data.pop();
    });
    let data_hash = verify(dir.path()).unwrap_err();
    assert!(
        matches!(data_hash, AuditError::Refused { number, .. } if number == fat as u64),
        "{data_hash}"
    );
    change(dir.path(), fat, |block| {
        block.header.as_mut().unwrap().data_hash = block_data_hash(&block.data.as_ref().unwrap().data);
    });
    let signature = verify(dir.path()).unwrap_err();
    assert!(
        matches!(&signature, AuditError::Refused { number, .. } if *number == fat as u64),
        "{signature}"
    );
    assert!(signature.to_string().contains("signed"), "{signature}");
}

#[test]
fn another_genesis_block_than_the_trusted_one_is_found() {
    let genesis = replay::read_block(&replay::block_files(&golden()).unwrap()[0]).unwrap();
    let right = block_hash(&genesis.header.unwrap());
    let verify = |trusted: &[u8]| {
        let work = tempfile::tempdir().unwrap();
        let files = ChainFiles::Exported(golden());
        audit::verify(&files, &work.path().join("c"), Some(trusted), |_| {})
    };
    assert!(verify(&right).is_ok());
    assert!(matches!(verify(&[1; 32]), Err(AuditError::OtherGenesis { .. })));
}

/// A node's own files are read while the node has them open, and nothing is changed in them.
#[test]
fn the_files_of_a_running_node_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = dir.path().join("channels/trade/ledger/blocks");
    let store = BlockStore::open(&blocks).unwrap();
    for file in replay::block_files(&golden()).unwrap() {
        store.append(&replay::read_block(&file).unwrap()).unwrap();
    }
    let file = blocks.join(format!("{:020}.blk", 0));
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.height, store.height());
    // A record that is being written is not there yet.
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 10]).unwrap();
    assert_eq!(verify(dir.path()).unwrap().height, store.height() - 1);
    assert_eq!(std::fs::read(&file).unwrap().len(), whole.len() - 10);
}

#[test]
fn a_folder_without_a_chain_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = audit::find_chains(dir.path()).unwrap_err();
    assert!(matches!(error, AuditError::Nothing(_)), "{error}");
    assert!(audit::find_chains(&dir.path().join("absent")).is_err());
}
