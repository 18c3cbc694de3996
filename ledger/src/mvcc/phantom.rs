//! Range queries are run again at validation (spec 03 §6).

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;

use selvedge_proto::kvrwset::range_query_info::ReadsInfo;
use selvedge_proto::kvrwset::{KvRead, QueryReadsMerkleSummary, RangeQueryInfo};

use super::conflict::{ConflictKey, MvccConflict};
use crate::error::LedgerError;
use crate::range_hash::RangeHasher;
use crate::state::{RangeIter, StateReader};
use crate::updates::{Update, UpdateBatch};
use crate::version::Version;

/// Whether the query gives other results now.
pub(super) fn check(
    tx: u64,
    ns: &str,
    query: &RangeQueryInfo,
    state: &dyn StateReader,
    updates: &UpdateBatch,
) -> Result<Option<MvccConflict>, LedgerError> {
    let results = Results::new(ns, query, state, updates);
    match &query.reads_info {
        Some(ReadsInfo::ReadsMerkleHashes(summary)) => check_hashes(tx, ns, query, summary, results),
        Some(ReadsInfo::RawReads(raw)) => check_raw(tx, ns, query, &raw.kv_reads, results),
        None => check_raw(tx, ns, query, &[], results),
    }
}

fn check_raw(
    tx: u64,
    ns: &str,
    query: &RangeQueryInfo,
    reads: &[KvRead],
    mut results: Results<'_>,
) -> Result<Option<MvccConflict>, LedgerError> {
    let mut reads = reads.iter();
    loop {
        let (read, now) = (reads.next(), results.next().transpose()?);
        let (key, read, now) = match (read, now) {
            (None, None) => return Ok(None),
            (Some(read), None) => (read.key.clone(), read.version.as_ref().map(Version::from), None),
            (None, Some((key, version))) => (key, None, Some(version)),
            (Some(read), Some((key, version))) => {
                let as_read = read.version.as_ref().map(Version::from);
                match read.key.cmp(&key) {
                    std::cmp::Ordering::Equal if as_read == Some(version) => continue,
                    std::cmp::Ordering::Equal => (key, as_read, Some(version)),
                    std::cmp::Ordering::Less => (read.key.clone(), as_read, None),
                    std::cmp::Ordering::Greater => (key, None, Some(version)),
                }
            }
        };
        let pending = results.updates.and_then(|u| u.get(&key));
        let winner = pending.map(|u| u.version).or(now);
        let committed = if pending.is_some() { None } else { now };
        return Ok(Some(MvccConflict {
            read,
            committed,
            winner,
            ..stale(tx, ns, query, Some(key))
        }));
    }
}

fn check_hashes(
    tx: u64,
    ns: &str,
    query: &RangeQueryInfo,
    summary: &QueryReadsMerkleSummary,
    results: Results<'_>,
) -> Result<Option<MvccConflict>, LedgerError> {
    // No endorser makes a summary of such a degree, and no results could be found equal to it.
    let Ok(mut hasher) = RangeHasher::new(summary.max_degree) else {
        return Ok(Some(stale(tx, ns, query, None)));
    };
    for result in results {
        let (key, version) = result?;
        hasher.add(KvRead {
            key,
            version: Some(version.to_proto()),
        });
    }
    match hasher.finish() {
        Some(ReadsInfo::ReadsMerkleHashes(now)) if now == *summary => Ok(None),
        _ => Ok(Some(stale(tx, ns, query, None))),
    }
}

fn stale(tx: u64, ns: &str, query: &RangeQueryInfo, key: Option<String>) -> MvccConflict {
    MvccConflict {
        tx,
        key: ConflictKey::Range {
            namespace: ns.to_owned(),
            start: query.start_key.clone(),
            end: query.end_key.clone(),
            key,
        },
        read: None,
        committed: None,
        winner: None,
    }
}

/// The keys and versions of a range as they are now: the committed state overlaid by the block's updates. Where the query
/// was not exhausted its end key counts too, and comes last.
struct Results<'a> {
    committed: Peekable<RangeIter<'a>>,
    pending: Peekable<Box<dyn Iterator<Item = (&'a String, &'a Update)> + 'a>>,
    updates: Option<&'a BTreeMap<String, Update>>,
    /// Still to be served: the end key of a query that was not exhausted.
    last: Option<(&'a dyn StateReader, &'a str, &'a str)>,
}

impl<'a> Results<'a> {
    fn new(
        ns: &'a str,
        query: &'a RangeQueryInfo,
        state: &'a dyn StateReader,
        updates: &'a UpdateBatch,
    ) -> Self {
        let (start, end) = (query.start_key.as_str(), query.end_key.as_str());
        let updates = updates.namespaces().get(ns).map(|n| &n.public);
        let pending: Box<dyn Iterator<Item = _>> = match updates {
            Some(updates) => Box::new(
                updates
                    .range::<str, _>((Bound::Included(start), Bound::Unbounded))
                    .take_while(move |(key, _)| end.is_empty() || key.as_str() < end),
            ),
            None => Box::new(std::iter::empty()),
        };
        Self {
            committed: state.range(ns, start, end).peekable(),
            pending: pending.peekable(),
            updates,
            last: (!query.itr_exhausted).then_some((state, ns, end)),
        }
    }

    fn end_key(&mut self) -> Option<<Self as Iterator>::Item> {
        let (state, ns, key) = self.last.take()?;
        if let Some(update) = self.updates.and_then(|u| u.get(key)) {
            update.value.as_ref()?;
            return Some(Ok((key.to_owned(), update.version)));
        }
        match state.get(ns, key) {
            Ok(entry) => entry.map(|e| Ok((key.to_owned(), e.version))),
            Err(error) => Some(Err(error)),
        }
    }
}

impl Iterator for Results<'_> {
    type Item = Result<(String, Version), LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let take_pending = match (self.committed.peek(), self.pending.peek()) {
                (None, None) => return self.end_key(),
                (Some(Err(_)), _) | (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some(Ok((committed, _))), Some((pending, _))) => pending.as_str() <= committed.as_str(),
            };
            if !take_pending {
                return Some(self.committed.next()?.map(|(key, entry)| (key, entry.version)));
            }
            let (key, update) = self.pending.next()?;
            if matches!(self.committed.peek(), Some(Ok((committed, _))) if committed == key) {
                self.committed.next();
            }
            if update.value.is_some() {
                return Some(Ok((key.clone(), update.version)));
            }
        }
    }
}
