use super::*;
use proptest::prelude::*;

fn reads(count: usize) -> Vec<KvRead> {
    (0..count)
        .map(|i| KvRead {
            key: format!("key{i:06}"),
            version: Some(selvedge_proto::kvrwset::Version {
                block_num: 3,
                tx_num: i as u64,
            }),
        })
        .collect()
}

fn summary(count: usize, max_degree: u32) -> Option<ReadsInfo> {
    let mut hasher = RangeHasher::new(max_degree).unwrap();
    for read in reads(count) {
        hasher.add(read);
    }
    hasher.finish()
}

fn sha(parts: &[Bytes]) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(parts.concat()))
}

/// The closed form of spec 03 §6. With m leaves in groups of g = degree + 1, level k holds the nodes over g^(k-1) leaves
/// that did not complete a group; at the end each level's remainder goes up as one hash.
fn by_definition(count: usize, degree: usize) -> Option<ReadsInfo> {
    let reads = reads(count);
    if reads.is_empty() {
        return None;
    }
    if reads.len() <= degree {
        return Some(ReadsInfo::RawReads(QueryReads { kv_reads: reads }));
    }
    let group = degree + 1;
    let leaf = |chunk: &[KvRead]| {
        let message = QueryReads {
            kv_reads: chunk.to_vec(),
        };
        sha(&[message.encode_to_vec().into()])
    };
    // nodes[k - 1] are all nodes that ever stood on level k.
    let mut nodes: Vec<Vec<Bytes>> = vec![reads.chunks(group).map(leaf).collect()];
    while nodes.last().unwrap().len() >= group {
        let above = nodes.last().unwrap().chunks_exact(group).map(sha).collect();
        nodes.push(above);
    }
    let mut carry: Vec<Bytes> = Vec::new();
    let top = nodes.len();
    for (below, level) in nodes.iter().enumerate() {
        let mut left = level[level.len() / group * group..].to_vec();
        left.append(&mut carry);
        let here = below + 1;
        if here == top {
            let (max_level, max_level_hashes) = if left.len() > degree {
                (here + 1, vec![sha(&left)])
            } else {
                (here, left)
            };
            return Some(ReadsInfo::ReadsMerkleHashes(QueryReadsMerkleSummary {
                max_degree: u32::try_from(degree).unwrap(),
                max_level: u32::try_from(max_level).unwrap(),
                max_level_hashes,
            }));
        }
        carry = match left.len() {
            0 | 1 => left,
            _ => vec![sha(&left)],
        };
    }
    unreachable!("the top level returns")
}

#[test]
fn few_results_stay_raw() {
    assert_eq!(summary(0, 50), None);
    let Some(ReadsInfo::RawReads(raw)) = summary(50, 50) else {
        panic!("50 results are raw");
    };
    assert_eq!(raw.kv_reads.len(), 50);
}

/// Seen on a real chain (spec 03 §6): 101 results give two hashes, of 51 and of 50 reads, at level 1.
#[test]
fn a_hundred_and_one() {
    let Some(ReadsInfo::ReadsMerkleHashes(merkle)) = summary(101, 50) else {
        panic!("101 results are summarised");
    };
    let all = reads(101);
    let leaf = |part: &[KvRead]| {
        let message = QueryReads {
            kv_reads: part.to_vec(),
        };
        Bytes::copy_from_slice(&Sha256::digest(message.encode_to_vec()))
    };
    assert_eq!((merkle.max_degree, merkle.max_level), (50, 1));
    assert_eq!(merkle.max_level_hashes, [leaf(&all[..51]), leaf(&all[51..])]);
}

#[test]
fn the_degree_must_make_a_tree() {
    assert_eq!(RangeHasher::new(1).unwrap_err(), DegreeError(1));
    assert!(RangeHasher::new(0).is_err());
}

/// Every shape of a small tree by hand: degree 2, so groups of three.
#[test]
fn small_trees_by_hand() {
    let all = reads(9);
    let leaf = |part: &[KvRead]| {
        let message = QueryReads {
            kv_reads: part.to_vec(),
        };
        Bytes::copy_from_slice(&Sha256::digest(message.encode_to_vec()))
    };
    let merkle = |count| match summary(count, 2) {
        Some(ReadsInfo::ReadsMerkleHashes(m)) => (m.max_level, m.max_level_hashes),
        other => panic!("{other:?}"),
    };
    assert_eq!(merkle(3), (1, vec![leaf(&all[..3])]));
    assert_eq!(merkle(4), (1, vec![leaf(&all[..3]), leaf(&all[3..4])]));
    assert_eq!(merkle(6), (1, vec![leaf(&all[..3]), leaf(&all[3..6])]));
    let three = [leaf(&all[..3]), leaf(&all[3..6]), leaf(&all[6..7])];
    assert_eq!(
        merkle(7),
        (2, vec![sha(&three)]),
        "the last leaf completes a group"
    );
    let three = [leaf(&all[..3]), leaf(&all[3..6]), leaf(&all[6..9])];
    assert_eq!(merkle(9), (2, vec![sha(&three)]));
}

proptest! {
    #[test]
    fn equals_the_definition(count in 0usize..900, degree in 2u32..9) {
        prop_assert_eq!(summary(count, degree), by_definition(count, degree as usize));
    }

    #[test]
    fn any_change_shows(count in 1usize..300, at: prop::sample::Index, degree in 2u32..20) {
        let mut changed = reads(count);
        let place = at.index(count);
        changed[place].version = None;
        let mut hasher = RangeHasher::new(degree).unwrap();
        changed.into_iter().for_each(|r| hasher.add(r));
        prop_assert_ne!(hasher.finish(), summary(count, degree));
    }
}
