//! Asking the index.

use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use super::Index;
use super::write::signed;
use crate::ApiError;
use crate::read::{Signer, Verdict};

/// A block as lists show it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlockRow {
    pub(crate) channel: String,
    pub(crate) number: u64,
    pub(crate) hash: String,
    pub(crate) time: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) transactions: u64,
    pub(crate) valid: u64,
    pub(crate) orderer: Signer,
}

/// A transaction as lists show it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TransactionRow {
    pub(crate) channel: String,
    pub(crate) block: u64,
    pub(crate) position: u64,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) validation: Verdict,
    pub(crate) time: Option<String>,
    pub(crate) creator: Signer,
    pub(crate) chaincode: String,
    pub(crate) function: String,
}

/// An event of a valid transaction.
#[derive(Debug, Clone)]
pub(crate) struct EventRow {
    pub(crate) place: Place,
    pub(crate) transaction: String,
    pub(crate) chaincode: String,
    pub(crate) name: String,
    pub(crate) payload: Vec<u8>,
}

/// A transaction's place on its channel. `BLOCK.POSITION` as text, the form of an event's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) block: u64,
    pub(crate) position: u64,
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0))
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(row.get::<_, Option<i64>>(column)?.and_then(crate::read::rfc3339))
}

fn block(row: &Row<'_>) -> rusqlite::Result<BlockRow> {
    Ok(BlockRow {
        channel: row.get(0)?,
        number: number(row, 1)?,
        hash: row.get(2)?,
        time: time(row, 3)?,
        bytes: number(row, 4)?,
        transactions: number(row, 5)?,
        valid: number(row, 6)?,
        orderer: Signer {
            msp_id: row.get(7)?,
            name: row.get(8)?,
        },
    })
}

const TX: &str = "channel, block, position, id, kind, code, time, msp, creator, chaincode, function";

fn transaction(row: &Row<'_>) -> rusqlite::Result<TransactionRow> {
    Ok(TransactionRow {
        channel: row.get(0)?,
        block: number(row, 1)?,
        position: number(row, 2)?,
        id: row.get(3)?,
        kind: row.get(4)?,
        validation: Verdict::of(row.get(5)?),
        time: time(row, 6)?,
        creator: Signer {
            msp_id: row.get(7)?,
            name: row.get(8)?,
        },
        chaincode: row.get(9)?,
        function: row.get(10)?,
    })
}

impl Index {
    /// Number of blocks of a channel.
    pub(crate) fn height(&self, channel: &str) -> Result<u64, ApiError> {
        self.read(|c| {
            let top: Option<i64> = c.query_row(
                "SELECT MAX(number) FROM block WHERE channel = ?",
                [channel],
                |row| row.get(0),
            )?;
            Ok(top.map_or(0, |n| u64::try_from(n).unwrap_or(0) + 1))
        })
    }

    /// Blocks below `before`, newest first.
    pub(crate) fn blocks(&self, channel: &str, before: u64, limit: u32) -> Result<Vec<BlockRow>, ApiError> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT * FROM block WHERE channel = ? AND number < ? ORDER BY number DESC LIMIT ?",
            )?
            .query_map(params![channel, signed(before), limit], block)?
            .collect()
        })
    }

    /// Blocks from `from` on, oldest first.
    pub(crate) fn blocks_from(
        &self,
        channel: &str,
        from: u64,
        limit: u32,
    ) -> Result<Vec<BlockRow>, ApiError> {
        self.read(|c| {
            c.prepare_cached("SELECT * FROM block WHERE channel = ? AND number >= ? ORDER BY number LIMIT ?")?
                .query_map(params![channel, signed(from), limit], block)?
                .collect()
        })
    }

    /// One block.
    pub(crate) fn block(&self, channel: &str, number: u64) -> Result<Option<BlockRow>, ApiError> {
        self.read(|c| {
            c.query_row(
                "SELECT * FROM block WHERE channel = ? AND number = ?",
                params![channel, signed(number)],
                block,
            )
            .optional()
        })
    }

    /// Transactions of one block.
    pub(crate) fn transactions_of(
        &self,
        channel: &str,
        number: u64,
        from: u64,
        limit: u32,
    ) -> Result<Vec<TransactionRow>, ApiError> {
        self.read(|c| {
            c.prepare_cached(&format!(
                "SELECT {TX} FROM tx WHERE channel = ? AND block = ? AND position >= ? ORDER BY position LIMIT ?"
            ))?
            .query_map(params![channel, signed(number), signed(from), limit], transaction)?
            .collect()
        })
    }

    /// The newest transactions of a channel, optionally of one chaincode, below a block.
    pub(crate) fn transactions(
        &self,
        channel: &str,
        chaincode: Option<&str>,
        before: u64,
        limit: u32,
    ) -> Result<Vec<TransactionRow>, ApiError> {
        self.read(|c| {
            c.prepare_cached(&format!(
                "SELECT {TX} FROM tx WHERE channel = ?1 AND block < ?2 AND (?3 IS NULL OR chaincode = ?3) \
                 ORDER BY block DESC, position DESC LIMIT ?4"
            ))?
            .query_map(params![channel, signed(before), chaincode, limit], transaction)?
            .collect()
        })
    }

    /// Places of a transaction: more than one when it was refused as a duplicate. The one that counts comes first.
    pub(crate) fn places(&self, channel: &str, id: &str) -> Result<Vec<TransactionRow>, ApiError> {
        self.read(|c| {
            c.prepare_cached(&format!(
                "SELECT {TX} FROM tx WHERE id = ? AND channel = ? ORDER BY code <> 0, block, position LIMIT 100"
            ))?
            .query_map(params![id, channel], transaction)?
            .collect()
        })
    }

    /// Transactions whose id begins with `prefix`, on these channels.
    pub(crate) fn transactions_like(
        &self,
        channels: &[String],
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<TransactionRow>, ApiError> {
        let found: Vec<TransactionRow> = self.read(|c| {
            c.prepare_cached(&format!(
                "SELECT {TX} FROM tx WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT 100"
            ))?
            .query_map(params![prefix, format!("{prefix}g")], transaction)?
            .collect()
        })?;
        Ok(of_channels(found, channels, limit, |t| &t.channel))
    }

    /// Blocks whose hash begins with `prefix`, on these channels.
    pub(crate) fn blocks_like(
        &self,
        channels: &[String],
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<BlockRow>, ApiError> {
        let found: Vec<BlockRow> = self.read(|c| {
            c.prepare_cached("SELECT * FROM block WHERE hash >= ?1 AND hash < ?2 ORDER BY hash LIMIT 100")?
                .query_map(params![prefix, format!("{prefix}g")], block)?
                .collect()
        })?;
        Ok(of_channels(found, channels, limit, |b| &b.channel))
    }

    /// Who has written a key, newest first: the transaction and whether it deleted it.
    pub(crate) fn writers(
        &self,
        channel: &str,
        namespace: &str,
        key: &str,
        before: Place,
        limit: u32,
    ) -> Result<Vec<(TransactionRow, bool)>, ApiError> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT tx.channel, tx.block, tx.position, id, kind, code, time, msp, creator, chaincode, function, \
                 state.deleted FROM state JOIN tx ON tx.channel = state.channel AND tx.block = state.block AND \
                 tx.position = state.position WHERE state.channel = ?1 AND state.namespace = ?2 AND state.key = ?3 \
                 AND (state.block < ?4 OR (state.block = ?4 AND state.position < ?5)) \
                 ORDER BY state.block DESC, state.position DESC LIMIT ?6",
            )?
            .query_map(
                params![channel, namespace, key, signed(before.block), signed(before.position), limit],
                |row| Ok((transaction(row)?, row.get(11)?)),
            )?
            .collect()
        })
    }

    /// Events of one block behind a position, in their order.
    pub(crate) fn events_of(
        &self,
        channel: &str,
        block: u64,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<EventRow>, ApiError> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT block, position, tx, chaincode, name, payload FROM event WHERE channel = ?1 AND block = ?2 \
                 AND position > ?3 ORDER BY position LIMIT ?4",
            )?
            .query_map(
                params![channel, signed(block), after.map_or(-1, signed), limit],
                |row| {
                    Ok(EventRow {
                        place: Place {
                            block: number(row, 0)?,
                            position: number(row, 1)?,
                        },
                        transaction: row.get(2)?,
                        chaincode: row.get(3)?,
                        name: row.get(4)?,
                        payload: row.get(5)?,
                    })
                },
            )?
            .collect()
        })
    }

    /// Blocks, transactions and valid transactions in each of the `count` spans of `span` milliseconds that end at `now`,
    /// oldest first.
    pub(crate) fn activity(
        &self,
        channel: &str,
        now: i64,
        span: i64,
        count: usize,
    ) -> Result<Vec<(u64, u64, u64)>, ApiError> {
        let total = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(span);
        let start = now.saturating_sub(total);
        let mut spans = vec![(0, 0, 0); count];
        let rows: Vec<(i64, u64, u64, u64)> = self.read(|c| {
            c.prepare_cached(
                "SELECT (time - ?2) / ?3, COUNT(*), SUM(transactions), SUM(valid) FROM block \
                 WHERE channel = ?1 AND time > ?2 AND time <= ?4 GROUP BY 1",
            )?
            .query_map(params![channel, start, span, now], |row| {
                Ok((row.get(0)?, number(row, 1)?, number(row, 2)?, number(row, 3)?))
            })?
            .collect()
        })?;
        for (slot, blocks, transactions, valid) in rows {
            // What falls on the very end belongs to the last span.
            let slot = usize::try_from(slot).unwrap_or(0).min(count.saturating_sub(1));
            if let Some(span) = spans.get_mut(slot) {
                span.0 += blocks;
                span.1 += transactions;
                span.2 += valid;
            }
        }
        Ok(spans)
    }

    /// Blocks by the orderer that they came from, most first.
    pub(crate) fn per_orderer(&self, channel: &str) -> Result<Vec<(Signer, u64)>, ApiError> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT orderer_msp, orderer, COUNT(*) FROM block WHERE channel = ? GROUP BY 1, 2 ORDER BY 3 DESC, 2",
            )?
            .query_map([channel], |row| {
                let signer = Signer {
                    msp_id: row.get(0)?,
                    name: row.get(1)?,
                };
                Ok((signer, number(row, 2)?))
            })?
            .collect()
        })
    }

    /// All transactions of a channel, and how many of them are valid.
    pub(crate) fn totals(&self, channel: &str) -> Result<(u64, u64), ApiError> {
        self.read(|c| {
            c.query_row(
                "SELECT COALESCE(SUM(transactions), 0), COALESCE(SUM(valid), 0) FROM block WHERE channel = ?",
                [channel],
                |row| Ok((number(row, 0)?, number(row, 1)?)),
            )
        })
    }

    /// Transactions whose creators say to have made them after a time.
    pub(crate) fn since(&self, channel: &str, time: i64) -> Result<u64, ApiError> {
        self.read(|c| {
            c.query_row(
                "SELECT COUNT(*) FROM tx WHERE channel = ? AND time > ?",
                params![channel, time],
                |row| number(row, 0),
            )
        })
    }
}

fn of_channels<T>(found: Vec<T>, channels: &[String], limit: usize, of: impl Fn(&T) -> &String) -> Vec<T> {
    found
        .into_iter()
        .filter(|item| channels.contains(of(item)))
        .take(limit)
        .collect()
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.block, self.position)
    }
}

impl std::str::FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (block, position) = text.split_once('.').ok_or(())?;
        Ok(Self {
            block: block.parse().map_err(|_| ())?,
            position: position.parse().map_err(|_| ())?,
        })
    }
}
