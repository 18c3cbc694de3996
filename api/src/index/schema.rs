//! The tables.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// Number of this form; a file with another one is built again.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE block (
    channel TEXT NOT NULL, number INTEGER NOT NULL, hash TEXT NOT NULL, time INTEGER, bytes INTEGER NOT NULL,
    transactions INTEGER NOT NULL, valid INTEGER NOT NULL, orderer_msp TEXT NOT NULL, orderer TEXT NOT NULL,
    PRIMARY KEY (channel, number)) WITHOUT ROWID;
CREATE INDEX block_hash ON block (hash);
CREATE INDEX block_time ON block (channel, time);
CREATE TABLE tx (
    channel TEXT NOT NULL, block INTEGER NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
    code INTEGER NOT NULL, time INTEGER, msp TEXT NOT NULL, creator TEXT NOT NULL, chaincode TEXT NOT NULL,
    function TEXT NOT NULL,
    PRIMARY KEY (channel, block, position)) WITHOUT ROWID;
CREATE INDEX tx_id ON tx (id);
CREATE INDEX tx_time ON tx (channel, time);
CREATE TABLE state (
    channel TEXT NOT NULL, namespace TEXT NOT NULL, key TEXT NOT NULL, block INTEGER NOT NULL, position INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    PRIMARY KEY (channel, namespace, key, block, position)) WITHOUT ROWID;
CREATE TABLE event (
    channel TEXT NOT NULL, block INTEGER NOT NULL, position INTEGER NOT NULL, tx TEXT NOT NULL, chaincode TEXT NOT NULL,
    name TEXT NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (channel, block, position)) WITHOUT ROWID;
";

/// Opens the file for writing, with its tables.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    // The peer has everything: a block lost in a power cut is fetched again, so no fsync for each.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        VERSION => {}
        0 => {
            connection.execute_batch(TABLES)?;
            connection.pragma_update(None, "user_version", VERSION)?;
        }
        _ => return Err(rusqlite::Error::InvalidQuery),
    }
    Ok(connection)
}

/// Opens the file for reading.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}
