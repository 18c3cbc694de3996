//! Who came first: a conflict found again from the chain alone, for when the peer has forgotten.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_ledger::rwset::ParsedRwset;
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::{common, kvrwset};
use selvedge_sdk::{ClientIdentity, PeerClient};

use super::story::{Key, Story, Version, read_write_set, transactions, verdict, version};
use crate::error::{CliError, During};

/// How many blocks before the transaction's own are looked at. A conflict is with something newer than the endorsement,
/// which is seconds old.
const BLOCKS: u64 = 200;

/// What a transaction had read: single keys with their versions, and ranges.
#[derive(Default)]
struct Read {
    keys: BTreeMap<Key, Option<Version>>,
    ranges: Vec<Range>,
}

struct Range {
    namespace: String,
    start: String,
    end: String,
    /// Keys found, if they are listed; otherwise only hashes of them are known.
    found: Option<BTreeMap<String, Option<Version>>>,
}

impl Read {
    fn of(sets: &[ParsedRwset]) -> Self {
        let mut read = Self::default();
        for ns in sets.iter().flat_map(|s| &s.namespaces) {
            let namespace = &ns.namespace;
            for r in &ns.public.reads {
                let key = Key {
                    namespace: namespace.clone(),
                    collection: None,
                    key: r.key.clone(),
                };
                read.keys.insert(key, version(r.version.as_ref()));
            }
            for collection in &ns.collections {
                for r in &collection.hashed.hashed_reads {
                    let key = Key {
                        namespace: namespace.clone(),
                        collection: Some(collection.collection.clone()),
                        key: hex::encode(&r.key_hash),
                    };
                    read.keys.insert(key, version(r.version.as_ref()));
                }
            }
            for query in &ns.public.range_queries_info {
                use kvrwset::range_query_info::ReadsInfo;
                let found = match &query.reads_info {
                    Some(ReadsInfo::RawReads(raw)) => {
                        let reads = raw.kv_reads.iter();
                        Some(
                            reads
                                .map(|r| (r.key.clone(), version(r.version.as_ref())))
                                .collect(),
                        )
                    }
                    Some(ReadsInfo::ReadsMerkleHashes(_)) => None,
                    None => Some(BTreeMap::new()),
                };
                read.ranges.push(Range {
                    namespace: namespace.clone(),
                    start: query.start_key.clone(),
                    end: query.end_key.clone(),
                    found,
                });
            }
        }
        read
    }

    /// The first block that can hold a newer write of anything that was read.
    fn earliest(&self, own: u64) -> u64 {
        let oldest = own.saturating_sub(BLOCKS);
        let ranges = self.ranges.iter().any(|r| r.found.is_some());
        if ranges || self.keys.values().any(Option::is_none) {
            return oldest;
        }
        self.keys
            .values()
            .flatten()
            .map(|(block, _)| *block)
            .min()
            .unwrap_or(own)
            .max(oldest)
    }
}

/// One write of a transaction that counts.
struct Write {
    key: Key,
    is_delete: bool,
}

fn writes(set: &ParsedRwset) -> Vec<Write> {
    let mut all = Vec::new();
    for ns in &set.namespaces {
        for w in &ns.public.writes {
            all.push(Write {
                key: Key {
                    namespace: ns.namespace.clone(),
                    collection: None,
                    key: w.key.clone(),
                },
                is_delete: selvedge_ledger::rwset::is_delete(w),
            });
        }
        for collection in &ns.collections {
            for w in &collection.hashed.hashed_writes {
                all.push(Write {
                    key: Key {
                        namespace: ns.namespace.clone(),
                        collection: Some(collection.collection.clone()),
                        key: hex::encode(&w.key_hash),
                    },
                    is_delete: selvedge_ledger::rwset::is_hashed_delete(w),
                });
            }
        }
    }
    all
}

/// Compares what was read with the writes that came before, newest first.
struct Search {
    read: Read,
    own: u64,
    seen: BTreeSet<Key>,
    found: Vec<String>,
}

impl Search {
    fn meet(&mut self, place: Version, tx_id: &str, write: Write) {
        if !self.seen.insert(write.key.clone()) {
            return;
        }
        let what = if write.is_delete { "deleted" } else { "written" };
        let winner = format!(
            "{what} by transaction {tx_id} (block {}, position {})",
            place.0, place.1
        );
        if let Some(known) = self.read.keys.get(&write.key)
            && *known != Some(place)
            && !(known.is_none() && write.is_delete)
        {
            let was = match known {
                Some((block, tx)) => format!("read as of block {block}, position {tx}"),
                None => "read as absent".to_owned(),
            };
            self.found.push(format!("{} was {was}, but {winner}", write.key));
        }
        for range in &self.read.ranges {
            let inside = write.key.collection.is_none()
                && write.key.namespace == range.namespace
                && write.key.key >= range.start
                && (range.end.is_empty() || write.key.key < range.end);
            let differs = match &range.found {
                // Of hashed results only a change within the same block is certain to have come later.
                None => place.0 == self.own,
                Some(found) => match found.get(&write.key.key) {
                    Some(known) => *known != Some(place),
                    None => !write.is_delete,
                },
            };
            if inside && differs {
                self.found
                    .push(format!("{} is in a range that was read, but {winner}", write.key));
            }
        }
    }

    fn block(&mut self, block: &common::Block, before: Option<usize>) {
        let number = block.header.as_ref().map_or(0, |h| h.number);
        let all: Vec<_> = transactions(block).enumerate().collect();
        for (index, transaction) in all.into_iter().rev() {
            if before.is_some_and(|end| index >= end)
                || verdict(block, index) != TxValidationCode::Valid as i32
            {
                continue;
            }
            let Some(transaction) = transaction else { continue };
            let Some(set) = read_write_set(&transaction) else {
                continue;
            };
            let position = u64::try_from(index).unwrap_or(u64::MAX);
            for write in writes(&set) {
                self.meet((number, position), &transaction.channel_header.tx_id, write);
            }
        }
    }
}

/// What the transaction had read and who changed it before.
pub(super) async fn find(
    peer: &PeerClient,
    identity: &ClientIdentity,
    story: &Story,
    own: &common::Block,
) -> Result<Vec<String>, CliError> {
    let mut search = Search {
        read: Read::of(&story.sets),
        own: story.block,
        seen: BTreeSet::new(),
        found: Vec::new(),
    };
    let earliest = search.read.earliest(story.block);
    search.block(own, Some(story.index));
    let mut number = story.block;
    while search.found.is_empty() && number > earliest {
        number -= 1;
        let block = peer
            .block(identity, &story.channel, number)
            .await
            .during(|| format!("cannot read block {number} of channel {}", story.channel))?;
        search.block(&block, None);
    }
    Ok(search.found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key {
            namespace: "cc".into(),
            collection: None,
            key: name.into(),
        }
    }

    fn search(read: Read) -> Search {
        Search {
            read,
            own: 9,
            seen: BTreeSet::new(),
            found: Vec::new(),
        }
    }

    fn write(name: &str, is_delete: bool) -> Write {
        Write {
            key: key(name),
            is_delete,
        }
    }

    #[test]
    fn a_newer_write_of_a_key_that_was_read_is_the_winner() {
        let keys = [
            (key("a"), Some((4, 0))),
            (key("b"), None),
            (key("c"), Some((8, 1))),
        ]
        .into();
        let mut search = search(Read {
            keys,
            ranges: Vec::new(),
        });
        search.meet((9, 2), "winner", write("a", false));
        // The same key again, further back: the newest counts.
        search.meet((9, 1), "earlier", write("a", false));
        search.meet((9, 0), "remover", write("b", true));
        search.meet((8, 1), "as read", write("c", false));
        search.meet((8, 0), "stranger", write("d", false));
        assert_eq!(search.found.len(), 1, "{:?}", search.found);
        assert!(
            search.found[0].contains("read as of block 4, position 0"),
            "{:?}",
            search.found
        );
        assert!(
            search.found[0].contains("transaction winner (block 9, position 2)"),
            "{:?}",
            search.found
        );
        assert_eq!(search.read.earliest(9), 0);
    }

    #[test]
    fn ranges_by_results_and_by_hashes() {
        let range = |found| Range {
            namespace: "cc".into(),
            start: "a".into(),
            end: "c".into(),
            found,
        };
        let known = Some([("a".to_owned(), Some((4, 0)))].into());
        let mut raw = search(Read {
            keys: BTreeMap::new(),
            ranges: vec![range(known)],
        });
        raw.meet((8, 0), "t1", write("b", false));
        raw.meet((4, 0), "t2", write("a", false));
        raw.meet((7, 0), "t3", write("c", false));
        assert_eq!(raw.found.len(), 1, "{:?}", raw.found);
        let mut hashed = search(Read {
            keys: BTreeMap::new(),
            ranges: vec![range(None)],
        });
        hashed.meet((8, 0), "t1", write("b", false));
        assert!(hashed.found.is_empty());
        hashed.meet((9, 0), "t2", write("a", false));
        assert_eq!(hashed.found.len(), 1);
    }
}
