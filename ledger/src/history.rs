//! Who wrote a key, block by block (spec 03 §12).

use bytes::Bytes;
use prost_types::Timestamp;
use rocksdb::Direction;
use selvedge_proto::common;

use crate::contents;
use crate::error::LedgerError;
use crate::keys;
use crate::ledger::Ledger;
use crate::rwset::is_delete;
use crate::version::Version;

/// One valid transaction that wrote a key.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// Its id.
    pub tx_id: String,
    /// What it wrote; empty where it deleted the key.
    pub value: Bytes,
    /// The time that its client put into the channel header.
    pub timestamp: Option<Timestamp>,
    /// Whether it deleted the key.
    pub is_delete: bool,
    /// Where it stands.
    pub version: Version,
}

impl Ledger {
    /// Every valid transaction that wrote a public key, newest first.
    ///
    /// # Errors
    /// The database or the block files cannot be read.
    pub fn history(&self, ns: &str, key: &str) -> Result<Vec<HistoryEntry>, LedgerError> {
        self.history_before(ns, key, None, usize::MAX)
    }

    /// At most `limit` transactions that wrote a public key, newest first, beginning below `before` if that is given: for
    /// reading a long history in pieces.
    ///
    /// # Errors
    /// The database or the block files cannot be read.
    pub fn history_before(
        &self,
        ns: &str,
        key: &str,
        before: Option<Version>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, LedgerError> {
        let prefix = keys::history_prefix(ns, key);
        let first = keys::history_key(ns, key, Version::default());
        let mut end = keys::history_key(ns, key, before.unwrap_or(Version::new(u64::MAX, u64::MAX)));
        if before.is_none() {
            end.push(0);
        }
        let mut entries = Vec::new();
        let mut last: Option<(u64, common::Block)> = None;
        for found in self.db().scan(first, end, Direction::Reverse, None).take(limit) {
            let (name, _) = found?;
            let version = name
                .strip_prefix(prefix.as_slice())
                .and_then(keys::history_version);
            let version = version.ok_or_else(|| crate::snapshot::damaged(&name))?;
            let block = match last.take() {
                Some((number, block)) if number == version.block => block,
                _ => self
                    .blocks()
                    .block(version.block)?
                    .ok_or_else(|| LedgerError::BadBlock {
                        number: version.block,
                        why: "the history names it, but the block files do not hold it".into(),
                    })?,
            };
            let written = contents::written(&block, version.tx, ns, key)?;
            let is_delete = written.write.as_ref().is_none_or(is_delete);
            entries.push(HistoryEntry {
                tx_id: written.tx_id,
                value: written
                    .write
                    .map(|w| w.value)
                    .filter(|_| !is_delete)
                    .unwrap_or_default(),
                timestamp: written.timestamp,
                is_delete,
                version,
            });
            last = Some((version.block, block));
        }
        Ok(entries)
    }
}
