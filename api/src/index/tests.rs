//! The index with made-up blocks.

use super::*;
use crate::read::{BlockView, Signer};

fn block(channel: &str, number: u64, hash: &str, time: i64) -> BlockView {
    BlockView {
        channel: channel.into(),
        number,
        hash: hash.into(),
        previous_hash: String::new(),
        data_hash: String::new(),
        time: None,
        milliseconds: Some(time),
        orderer: Signer {
            msp_id: "OrdererMSP".into(),
            name: "orderer0".into(),
        },
        last_config: Some(0),
        bytes: 100,
        transactions: Vec::new(),
    }
}

#[test]
fn blocks_are_found_by_number_and_hash() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(folder.path()).unwrap();
    assert_eq!(index.height("trade").unwrap(), 0);
    for (number, hash) in [(0, "aa00"), (1, "ab11"), (2, "ac22")] {
        index.add(&block("trade", number, hash, 1000)).unwrap();
    }
    index.add(&block("other", 0, "ab99", 1000)).unwrap();
    assert_eq!(index.height("trade").unwrap(), 3);
    let newest: Vec<u64> = index
        .blocks("trade", u64::MAX, 2)
        .unwrap()
        .iter()
        .map(|b| b.number)
        .collect();
    assert_eq!(newest, [2, 1]);
    let mine = ["trade".to_owned()];
    let found = index.blocks_like(&mine, "ab", 10).unwrap();
    assert_eq!(found.len(), 1, "another channel's block is not told of");
    assert_eq!(found[0].number, 1);
    // The same block again changes nothing.
    index.add(&block("trade", 2, "ac22", 1000)).unwrap();
    assert_eq!(index.height("trade").unwrap(), 3);
    index.forget("trade").unwrap();
    assert_eq!(index.height("trade").unwrap(), 0);
    assert_eq!(index.height("other").unwrap(), 1);
}

#[test]
fn activity_falls_into_its_spans() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(folder.path()).unwrap();
    for (number, time) in [(0, 1), (1, 950), (2, 1000), (3, 1999), (4, 2000), (5, 2001)] {
        index.add(&block("trade", number, "", time)).unwrap();
    }
    let spans = index.activity("trade", 2000, 1000, 2).unwrap();
    let blocks: Vec<u64> = spans.iter().map(|s| s.0).collect();
    // From 0 (excluded) to 2000 (included): 1 and 950, then 1000, 1999 and 2000; 2001 is of the future.
    assert_eq!(blocks, [2, 3]);
}

#[test]
fn a_damaged_file_is_built_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.sqlite"), vec![7; 8192]).unwrap();
    let index = Index::open(folder.path()).unwrap();
    index.add(&block("trade", 0, "aa", 1)).unwrap();
    drop(index);
    let again = Index::open(folder.path()).unwrap();
    assert_eq!(again.height("trade").unwrap(), 1, "a good file is kept");
}

#[test]
fn places_are_written_and_read() {
    let place: Place = "12.3".parse().unwrap();
    assert_eq!(place.to_string(), "12.3");
    assert!("12".parse::<Place>().is_err());
}
