//! Bringing the state database up to the end of the block files.

use bytes::Bytes;
use rocksdb::WriteBatch;
use selvedge_proto::{block_hash, common};

use super::Ledger;
use crate::commit_hash;
use crate::contents;
use crate::error::LedgerError;
use crate::keys;
use crate::snapshot::decode_height;

impl Ledger {
    /// Refuses a database of another format or channel; marks a new one.
    pub(super) fn check_format(&self) -> Result<(), LedgerError> {
        let format = self.db.get(keys::META_FORMAT)?;
        let Some(format) = format else {
            let mut batch = WriteBatch::default();
            batch.put(keys::META_FORMAT, keys::FORMAT.to_be_bytes());
            batch.put(keys::META_CHANNEL, self.channel_id.as_bytes());
            return self.db.write(batch, false);
        };
        if format != keys::FORMAT.to_be_bytes() {
            return Err(LedgerError::Format {
                path: self.db.path().to_owned(),
                found: hex::encode(format),
                known: keys::FORMAT,
            });
        }
        let found = self.db.get(keys::META_CHANNEL)?.unwrap_or_default();
        if found != self.channel_id.as_bytes() {
            return Err(LedgerError::WrongChannel {
                path: self.db.path().to_owned(),
                found: String::from_utf8_lossy(&found).into_owned(),
                wanted: self.channel_id.clone(),
            });
        }
        Ok(())
    }

    /// Finds out how far the state is and completes it.
    pub(super) fn recover(&self) -> Result<(), LedgerError> {
        let state = match self.db.get(keys::META_HEIGHT)? {
            Some(height) => decode_height(&height)?,
            None => 0,
        };
        let blocks = self.blocks.height();
        if state > blocks {
            return Err(LedgerError::StateAhead { state, blocks });
        }
        let mut tip = self.tip.lock();
        if let Some(last) = state.checked_sub(1) {
            let block = self.stored_block(last)?;
            let hash = block_hash(&block.header.clone().unwrap_or_default());
            if self.block_by_hash(&hash)? != Some(last) {
                return Err(LedgerError::ForeignState { block: last });
            }
            *tip = commit_hash::stored(&block).unwrap_or_default();
            self.height.send_replace(state);
        }
        if state < blocks {
            tracing::info!(
                channel = self.channel_id,
                from = state,
                to = blocks,
                "rolling the state forward"
            );
            self.roll_forward(&mut tip)?;
        }
        Ok(())
    }

    /// Redoes the blocks that are in the files but not in the state. The commit hash of each proves that the result is
    /// what it was at first.
    pub(super) fn roll_forward(&self, tip: &mut Bytes) -> Result<(), LedgerError> {
        for number in self.height()..self.blocks.height() {
            let block = self.stored_block(number)?;
            let codes = contents::codes(&block)?;
            let updates = self.replayed(&block, &codes)?;
            if let Some(stored) = commit_hash::stored(&block) {
                let slot = common::BlockMetadataIndex::TransactionsFilter as usize;
                let filter = block.metadata.as_ref().and_then(|m| m.metadata.get(slot));
                let computed = commit_hash::next(tip, filter.map_or(&[], |f| f), &updates);
                if computed != stored {
                    return Err(LedgerError::Diverged {
                        block: number,
                        computed: hex::encode(&computed),
                        stored: hex::encode(&stored),
                    });
                }
            }
            let private: Vec<_> = self
                .private
                .of_block(number)?
                .into_iter()
                .map(|(writes, _)| writes)
                .collect();
            let batch = self.batch(&block, &codes, &updates, &private, &[])?;
            self.private.remove(number, updates.purges())?;
            self.db.write(batch, false)?;
            self.committed(&block, &updates, tip);
        }
        Ok(())
    }

    fn stored_block(&self, number: u64) -> Result<common::Block, LedgerError> {
        self.blocks.block(number)?.ok_or_else(|| LedgerError::BadBlock {
            number,
            why: "the block files do not hold it".into(),
        })
    }
}
