use std::fs;

use proptest::prelude::*;
use selvedge_proto::new_block;
use tempfile::TempDir;

use super::*;

/// A chain whose blocks hold the given bytes.
fn chain(contents: &[Vec<u8>]) -> Vec<common::Block> {
    let mut blocks: Vec<common::Block> = Vec::new();
    for (number, data) in (0u64..).zip(contents) {
        let previous = blocks
            .last()
            .and_then(|b| b.header.as_ref())
            .map(block_hash)
            .unwrap_or_default();
        blocks.push(new_block(number, previous, vec![Bytes::from(data.clone())]));
    }
    blocks
}

fn small_chain(count: u8) -> Vec<common::Block> {
    chain(
        &(1..=count)
            .map(|i| vec![i; 40 + usize::from(i)])
            .collect::<Vec<_>>(),
    )
}

fn filled(blocks: &[common::Block], segment_bytes: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = BlockStore::open_with(dir.path(), segment_bytes).unwrap();
    for block in blocks {
        store.append(block).unwrap();
    }
    dir
}

fn assert_holds(store: &BlockStore, blocks: &[common::Block]) {
    assert_eq!(store.height(), blocks.len() as u64);
    for (number, block) in (0u64..).zip(blocks) {
        assert_eq!(store.block(number).unwrap().as_ref(), Some(block));
    }
    assert_eq!(store.get(blocks.len() as u64).unwrap(), None);
    let last = blocks.last().and_then(|b| b.header.clone());
    assert_eq!(store.last_hash(), last.as_ref().map(block_hash));
    assert_eq!(store.last_header(), last);
    assert_eq!(store.verify().unwrap(), blocks.len() as u64);
}

#[test]
fn appends_are_kept_and_announced() {
    let blocks = small_chain(5);
    let dir = tempfile::tempdir().unwrap();
    let store = BlockStore::open(dir.path()).unwrap();
    assert_holds(&store, &[]);
    let watch = store.watch();
    for (number, block) in (1u64..).zip(&blocks) {
        store.append(block).unwrap();
        assert_eq!(*watch.borrow(), number);
    }
    assert_holds(&store, &blocks);
    drop(store);
    assert_holds(&BlockStore::open(dir.path()).unwrap(), &blocks);
}

#[test]
fn only_the_next_block_of_the_chain_is_taken() {
    let blocks = small_chain(3);
    let dir = filled(&blocks[..2], SEGMENT_BYTES);
    let store = BlockStore::open(dir.path()).unwrap();
    assert!(matches!(
        store.append(&blocks[1]),
        Err(BlockStoreError::OutOfOrder { expected: 2, got: 1 })
    ));
    let stranger = new_block(2, Bytes::from_static(&[9; 32]), vec![]);
    assert!(matches!(
        store.append(&stranger),
        Err(BlockStoreError::PreviousHash { number: 2, .. })
    ));
    assert!(matches!(
        store.append(&common::Block::default()),
        Err(BlockStoreError::NoHeader)
    ));
    store.append(&blocks[2]).unwrap();
    assert_holds(&store, &blocks);
}

#[test]
fn a_second_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlockStore::open(dir.path()).unwrap();
    assert!(matches!(
        BlockStore::open(dir.path()),
        Err(BlockStoreError::Locked(_))
    ));
    drop(store);
    BlockStore::open(dir.path()).unwrap();
}

#[test]
fn segments_roll_and_lost_indexes_are_made_again() {
    let blocks = small_chain(20);
    let dir = filled(&blocks, 600);
    let indexes: Vec<_> = segment_names(dir.path()).unwrap();
    assert!(indexes.len() > 3);
    assert_holds(&BlockStore::open_with(dir.path(), 600).unwrap(), &blocks);
    let index = |first: u64| dir.path().join(format!("{first:020}.idx"));
    fs::remove_file(index(indexes[0])).unwrap();
    let len = fs::metadata(index(indexes[1])).unwrap().len();
    fs::write(index(indexes[1]), vec![0; usize::try_from(len).unwrap()]).unwrap();
    fs::write(index(indexes[2]), [1]).unwrap();
    assert_holds(&BlockStore::open_with(dir.path(), 600).unwrap(), &blocks);
}

fn only_segment(dir: &Path) -> PathBuf {
    segment_path(dir, *segment_names(dir).unwrap().last().unwrap())
}

/// The bytes of a store's only file before and after `last` was appended.
fn before_and_after(blocks: &[common::Block], last: &common::Block) -> (Vec<u8>, Vec<u8>) {
    let dir = filled(blocks, SEGMENT_BYTES);
    let path = only_segment(dir.path());
    let before = fs::read(&path).unwrap();
    BlockStore::open(dir.path()).unwrap().append(last).unwrap();
    (before, fs::read(&path).unwrap())
}

/// A crash at any byte of the last record: the earlier blocks are there, and the chain goes on.
#[test]
fn a_torn_tail_is_cut_off_wherever_it_ends() {
    let blocks = small_chain(3);
    let (before, whole) = before_and_after(&blocks[..2], &blocks[2]);
    assert!(whole.starts_with(&before));
    for cut in before.len()..whole.len() {
        // A file that ends early, and one that has its length but not its bytes from a sector on.
        for zeros in [0, whole.len() - cut] {
            if zeros > 0 && !cut.is_multiple_of(512) {
                continue;
            }
            let dir = filled(&blocks[..2], SEGMENT_BYTES);
            let mut torn = whole[..cut].to_vec();
            torn.resize(cut + zeros, 0);
            fs::write(only_segment(dir.path()), torn).unwrap();
            let store = BlockStore::open(dir.path()).unwrap();
            assert_holds(&store, &blocks[..2]);
            store.append(&blocks[2]).unwrap();
            assert_holds(&store, &blocks);
            drop(store);
            assert_eq!(fs::read(only_segment(dir.path())).unwrap(), whole);
        }
    }
}

/// What a record of a later block looks like without a salt, as a client could write it into a transaction.
fn forged_record(number: u64, block: &[u8]) -> Vec<u8> {
    let mut record = 0x4b4c_42b5u32.to_le_bytes().to_vec();
    record.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
    record.extend(number.to_le_bytes());
    record.extend(crc32c::crc32c(block).to_le_bytes());
    record.extend(crc32c::crc32c(&record).to_le_bytes());
    record.extend(block);
    record
}

/// A file without a salt that holds these blocks, as older versions wrote it.
fn unsalted_file(blocks: &[common::Block]) -> Vec<u8> {
    let mut file = b"SLVGBLK1".to_vec();
    file.extend(0u64.to_le_bytes());
    file.extend(crc32c::crc32c(&file).to_le_bytes());
    file.extend([0; 4]);
    for (number, block) in (0u64..).zip(blocks) {
        file.extend(forged_record(number, &block.encode_to_vec()));
    }
    file
}

/// A crash that lost the header of a record is mended, whatever clients wrote into the block.
#[test]
fn what_a_client_sends_does_not_pass_for_a_record() {
    let mut blocks = small_chain(2);
    let previous = block_hash(blocks[1].header.as_ref().unwrap());
    let planted = [vec![7; 1200], forged_record(9, b"a block"), vec![7; 1200]].concat();
    blocks.push(new_block(2, previous, vec![planted.into()]));
    let dir = filled(&blocks[..2], SEGMENT_BYTES);
    let path = only_segment(dir.path());
    // The first sectors of the record never reached the disk, the later ones did.
    let torn = |before: &[u8], mut whole: Vec<u8>| {
        assert!(whole.starts_with(before) && before.len() < 512);
        whole[before.len()..1024].fill(0);
        fs::write(&path, whole).unwrap();
        BlockStore::open(dir.path())
    };
    let (before, whole) = before_and_after(&blocks[..2], &blocks[2]);
    let store = torn(&before, whole).unwrap();
    assert_holds(&store, &blocks[..2]);
    store.append(&blocks[2]).unwrap();
    assert_holds(&store, &blocks);
    drop(store);
    // Only the salt tells it apart.
    let refused = torn(&unsalted_file(&blocks[..2]), unsalted_file(&blocks));
    assert!(matches!(refused, Err(BlockStoreError::Corrupt { .. })));
}

#[test]
fn an_old_header_that_is_cut_short_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = segment_path(dir.path(), 0);
    for len in 0..24 {
        fs::write(&path, &unsalted_file(&[])[..len]).unwrap();
        let refused = SegmentFile::open(&path, 0);
        assert!(matches!(refused, Err(BlockStoreError::Corrupt { .. })), "{len}");
    }
}

#[test]
fn a_file_without_salt_is_read_and_continued() {
    let blocks = small_chain(3);
    let dir = tempfile::tempdir().unwrap();
    fs::write(segment_path(dir.path(), 0), unsalted_file(&blocks[..2])).unwrap();
    let store = BlockStore::open(dir.path()).unwrap();
    assert_holds(&store, &blocks[..2]);
    store.append(&blocks[2]).unwrap();
    drop(store);
    assert_holds(&BlockStore::open(dir.path()).unwrap(), &blocks);
}

#[test]
fn a_file_of_a_later_version_is_no_damage() {
    let dir = filled(&small_chain(1), SEGMENT_BYTES);
    let path = only_segment(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[7] = b'3';
    fs::write(&path, &bytes).unwrap();
    let refused = BlockStore::open(dir.path()).unwrap_err().to_string();
    assert!(refused.contains("has format 3"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

/// Sectors of a long last record that never reached the disk, in any order.
#[test]
fn unwritten_sectors_are_a_torn_tail() {
    let mut blocks = small_chain(2);
    let content: Vec<u8> = (0..3000u32).map(|i| (i % 251) as u8 + 1).collect();
    let previous = block_hash(blocks[1].header.as_ref().unwrap());
    blocks.push(new_block(2, previous, vec![content.into()]));
    let dir = filled(&blocks, SEGMENT_BYTES);
    let path = only_segment(dir.path());
    let whole = fs::read(&path).unwrap();
    let end = fs::read(only_segment(filled(&blocks[..2], SEGMENT_BYTES).path()))
        .unwrap()
        .len();
    for sector in end / 512..=(whole.len() - 1) / 512 {
        let mut torn = whole.clone();
        let (from, to) = ((sector * 512).max(end), (sector * 512 + 512).min(whole.len()));
        torn[from..to].fill(0);
        fs::write(&path, &torn).unwrap();
        let store = BlockStore::open(dir.path()).unwrap();
        assert_holds(&store, &blocks[..2]);
    }
}

/// Any flipped bit is found, and told with its file and the offset of its record; nothing is cut off.
#[test]
fn flipped_bits_are_damage() {
    let blocks = small_chain(3);
    let dir = filled(&blocks, SEGMENT_BYTES);
    let path = only_segment(dir.path());
    let whole = fs::read(&path).unwrap();
    let starts: Vec<u64> = SegmentFile::open(&path, 0).unwrap().scan(true).unwrap().offsets;
    for byte in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << (byte % 8);
        fs::write(&path, &flipped).unwrap();
        match BlockStore::open(dir.path()) {
            Err(BlockStoreError::Corrupt {
                path: told, offset, ..
            }) => {
                assert_eq!(told, path);
                let record = starts
                    .iter()
                    .rev()
                    .find(|s| **s <= byte as u64)
                    .copied()
                    .unwrap_or(0);
                assert_eq!(offset, record, "byte {byte}");
            }
            other => panic!("byte {byte}: {other:?}"),
        }
        assert_eq!(fs::read(&path).unwrap(), flipped, "the file is left alone");
    }
}

#[test]
fn a_zeroed_sector_in_the_middle_is_damage() {
    let blocks = chain(&vec![vec![7; 700]; 6]);
    let dir = filled(&blocks, SEGMENT_BYTES);
    let path = only_segment(dir.path());
    let whole = fs::read(&path).unwrap();
    for sector in 1..5 {
        let mut hole = whole.clone();
        hole[sector * 512..sector * 512 + 512].fill(0);
        fs::write(&path, hole).unwrap();
        assert!(
            matches!(BlockStore::open(dir.path()), Err(BlockStoreError::Corrupt { .. })),
            "sector {sector}"
        );
    }
}

#[test]
fn damage_while_running_is_found_by_the_read() {
    let blocks = small_chain(12);
    let dir = filled(&blocks, 600);
    let store = BlockStore::open_with(dir.path(), 600).unwrap();
    for first in segment_names(dir.path()).unwrap() {
        let path = segment_path(dir.path(), first);
        let mut bytes = fs::read(&path).unwrap();
        bytes[60] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(
            matches!(store.get(first), Err(BlockStoreError::Corrupt { .. })),
            "block {first}"
        );
    }
    assert!(matches!(store.verify(), Err(BlockStoreError::Corrupt { .. })));
}

#[test]
fn a_full_segment_must_be_whole() {
    let blocks = small_chain(12);
    let dir = filled(&blocks, 600);
    let first = segment_names(dir.path()).unwrap()[0];
    let path = segment_path(dir.path(), first);
    let len = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(len - 3)
        .unwrap();
    fs::remove_file(dir.path().join(format!("{first:020}.idx"))).unwrap();
    assert!(matches!(
        BlockStore::open_with(dir.path(), 600),
        Err(BlockStoreError::Corrupt { .. })
    ));
    fs::remove_file(path).unwrap();
    assert!(matches!(
        BlockStore::open_with(dir.path(), 600),
        Err(BlockStoreError::Corrupt { .. })
    ));
}

#[test]
fn a_segment_that_was_only_begun_is_begun_again() {
    let blocks = small_chain(12);
    for content in [vec![], vec![0; 24], record::segment_header(8, 7)[..10].to_vec()] {
        let dir = filled(&blocks[..8], 400);
        fs::write(segment_path(dir.path(), 8), content).unwrap();
        let store = BlockStore::open_with(dir.path(), 400).unwrap();
        assert_holds(&store, &blocks[..8]);
        blocks[8..].iter().for_each(|b| store.append(b).unwrap());
        assert_holds(&store, &blocks);
    }
}

proptest! {
    /// Whatever a file holds, opening it ends in a store or an error.
    #[test]
    fn junk_files_do_no_harm(junk in prop::collection::vec(any::<u8>(), 0..200), keep_header: bool) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = if keep_header { record::segment_header(0, 7).to_vec() } else { Vec::new() };
        bytes.extend(junk);
        fs::write(segment_path(dir.path(), 0), bytes).unwrap();
        if let Ok(store) = BlockStore::open(dir.path()) {
            prop_assert_eq!(store.height(), 0);
        }
    }
}

/// What a test does to a store.
#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Reopen,
    /// Crash while the next block, of this size, is written: so much of it reached the file.
    Crash(usize, prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![0usize..100, 400usize..1500];
    prop_oneof![
        5 => size.clone().prop_map(Step::Append),
        1 => Just(Step::Reopen),
        2 => (size, any::<prop::sample::Index>()).prop_map(|(size, at)| Step::Crash(size, at)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn equals_a_list_of_blocks(steps in prop::collection::vec(step(), 1..25), segment in 200u64..3000) {
        let dir = tempfile::tempdir().unwrap();
        let mut model: Vec<common::Block> = Vec::new();
        let mut store = Some(BlockStore::open_with(dir.path(), segment).unwrap());
        let next = |model: &[common::Block], size: usize| {
            let previous = model.last().and_then(|b| b.header.as_ref()).map(block_hash).unwrap_or_default();
            new_block(model.len() as u64, previous, vec![vec![0xa5; size].into()])
        };
        for step in steps {
            match step {
                Step::Append(size) => {
                    let block = next(&model, size);
                    store.as_ref().unwrap().append(&block).unwrap();
                    model.push(block);
                }
                Step::Reopen => {
                    drop(store.take());
                    store = Some(BlockStore::open_with(dir.path(), segment).unwrap());
                }
                Step::Crash(size, at) => {
                    let files = segment_names(dir.path()).unwrap();
                    let block = next(&model, size);
                    store.take().unwrap().append(&block).unwrap();
                    let path = only_segment(dir.path());
                    let len = fs::metadata(&path).unwrap().len();
                    let record = (RECORD_HEADER + block.encoded_len()) as u64;
                    let begun = segment_names(dir.path()).unwrap().len() > files.len();
                    let from = if begun { 0 } else { len - record };
                    let cut = from + at.index(usize::try_from(len - from).unwrap()) as u64;
                    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
                    store = Some(BlockStore::open_with(dir.path(), segment).unwrap());
                }
            }
            assert_holds(store.as_ref().unwrap(), &model);
        }
    }
}
