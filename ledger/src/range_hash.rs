//! The summary of a range query's results (spec 03 §6): the reads themselves while they are few, else the top of a tree
//! of hashes over them. Simulator and validator use the same code.

use bytes::Bytes;
use prost::Message;
use selvedge_proto::kvrwset::{KvRead, QueryReads, QueryReadsMerkleSummary, range_query_info::ReadsInfo};
use sha2::{Digest, Sha256};

/// The degree that endorsers use.
pub const MAX_DEGREE: u32 = 50;

/// Collects the results of one range query, in order.
#[derive(Debug)]
pub struct RangeHasher {
    max_degree: u32,
    pending: Vec<KvRead>,
    /// `levels[0]` is level 1, the leaves.
    levels: Vec<Vec<Bytes>>,
}

/// A degree below two gives no tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a range query summary with max_degree {0} is impossible: the least is 2")]
pub struct DegreeError(pub u32);

impl Default for RangeHasher {
    fn default() -> Self {
        Self {
            max_degree: MAX_DEGREE,
            pending: Vec::new(),
            levels: Vec::new(),
        }
    }
}

impl RangeHasher {
    /// A hasher as a summary with this `max_degree` was made by; endorsers use [`RangeHasher::default`].
    ///
    /// # Errors
    /// `max_degree` is below 2.
    pub fn new(max_degree: u32) -> Result<Self, DegreeError> {
        if max_degree < 2 {
            return Err(DegreeError(max_degree));
        }
        Ok(Self {
            max_degree,
            ..Self::default()
        })
    }

    /// Adds the next result.
    pub fn add(&mut self, read: KvRead) {
        self.pending.push(read);
        if self.exceeds(self.pending.len()) {
            self.flush_leaf();
        }
    }

    /// The summary: raw reads where they never filled a leaf, else the Merkle summary. `None` where there were no results.
    pub fn finish(mut self) -> Option<ReadsInfo> {
        if self.levels.is_empty() {
            if self.pending.is_empty() {
                return None;
            }
            return Some(ReadsInfo::RawReads(QueryReads {
                kv_reads: self.pending,
            }));
        }
        if !self.pending.is_empty() {
            self.flush_leaf();
        }
        let mut level = 0;
        while level + 1 < self.levels.len() {
            let mut hashes = std::mem::take(&mut self.levels[level]);
            let up = match hashes.len() {
                0 => None,
                1 => hashes.pop(),
                _ => Some(combine(&hashes)),
            };
            level += 1;
            self.levels[level].extend(up);
        }
        if self.exceeds(self.levels[level].len()) {
            let combined = combine(&self.levels[level]);
            self.levels.push(vec![combined]);
        }
        Some(ReadsInfo::ReadsMerkleHashes(QueryReadsMerkleSummary {
            max_degree: self.max_degree,
            // One level per factor of at least two in the number of results: far below 2^32.
            max_level: u32::try_from(self.levels.len()).unwrap_or(u32::MAX),
            max_level_hashes: self.levels.pop().unwrap_or_default(),
        }))
    }

    fn exceeds(&self, len: usize) -> bool {
        u32::try_from(len).map_or(true, |len| len > self.max_degree)
    }

    fn flush_leaf(&mut self) {
        let reads = QueryReads {
            kv_reads: std::mem::take(&mut self.pending),
        };
        let mut hash = Bytes::copy_from_slice(&Sha256::digest(reads.encode_to_vec()));
        let mut level = 0;
        loop {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
            if !self.exceeds(self.levels[level].len()) {
                return;
            }
            hash = combine(&std::mem::take(&mut self.levels[level]));
            level += 1;
        }
    }
}

fn combine(hashes: &[Bytes]) -> Bytes {
    let mut hash = Sha256::new();
    for part in hashes {
        hash.update(part);
    }
    Bytes::copy_from_slice(&hash.finalize())
}

#[cfg(test)]
mod tests;
