//! Taking in blocks.

use rusqlite::params;

use super::Index;
use crate::ApiError;
use crate::read::BlockView;

/// SQLite's integers are signed; block numbers never get there.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn size(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Index {
    /// Takes in a block, whole or not at all. One that is there already changes nothing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn add(&self, block: &BlockView) -> Result<(), ApiError> {
        let mut writer = self.writer.lock();
        let mut add = || -> rusqlite::Result<()> {
            let tx = writer.transaction()?;
            let channel = block.channel.as_str();
            let number = signed(block.number);
            tx.prepare_cached("INSERT OR REPLACE INTO block VALUES (?,?,?,?,?,?,?,?,?)")?
                .execute(params![
                    channel,
                    number,
                    block.hash,
                    block.milliseconds,
                    size(block.bytes),
                    size(block.transactions.len()),
                    size(block.valid()),
                    block.orderer.msp_id,
                    block.orderer.name
                ])?;
            for t in &block.transactions {
                let position = size(t.position);
                let (chaincode, function) = t
                    .call()
                    .map_or(("", ""), |c| (c.chaincode.as_str(), c.function.as_str()));
                tx.prepare_cached("INSERT OR REPLACE INTO tx VALUES (?,?,?,?,?,?,?,?,?,?,?)")?
                    .execute(params![
                        channel,
                        number,
                        position,
                        t.id,
                        t.kind,
                        t.validation.code,
                        t.milliseconds,
                        t.creator.msp_id,
                        t.creator.name,
                        chaincode,
                        function
                    ])?;
                if !t.validation.valid {
                    continue;
                }
                for call in &t.calls {
                    for write in call.writes.iter().filter(|w| w.collection.is_none()) {
                        tx.prepare_cached("INSERT OR REPLACE INTO state VALUES (?,?,?,?,?,?)")?
                            .execute(params![
                                channel,
                                write.namespace,
                                write.raw_key,
                                number,
                                position,
                                write.deleted
                            ])?;
                    }
                    if let Some(event) = &call.event {
                        tx.prepare_cached("INSERT OR REPLACE INTO event VALUES (?,?,?,?,?,?,?)")?
                            .execute(params![
                                channel,
                                number,
                                position,
                                t.id,
                                call.chaincode,
                                event.name,
                                event.raw.as_ref()
                            ])?;
                    }
                }
            }
            tx.commit()
        };
        add().map_err(|e| self.error(&e))
    }

    /// Forgets a channel.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn forget(&self, channel: &str) -> Result<(), ApiError> {
        let mut writer = self.writer.lock();
        let mut forget = || -> rusqlite::Result<()> {
            let tx = writer.transaction()?;
            for table in ["block", "tx", "state", "event"] {
                tx.execute(&format!("DELETE FROM {table} WHERE channel = ?"), [channel])?;
            }
            tx.commit()
        };
        forget().map_err(|e| self.error(&e))
    }
}
