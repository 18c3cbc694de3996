//! What the server knows of the chains, so that it can search and count: an SQLite file that follows the peer.
//!
//! It holds nothing that the peer does not have. When it is lost, damaged, or of another chain, it is built again.

mod query;
mod schema;
mod write;

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::ApiError;

pub(crate) use query::{BlockRow, EventRow, Place, TransactionRow};

/// Connections for reading. SQLite in WAL mode lets them read while the follower writes.
const READERS: usize = 4;

/// The index of all channels.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Vec<Mutex<Connection>>,
}

impl Index {
    /// Opens the index in a folder; a file of another form is replaced.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn open(folder: &Path) -> Result<Self, ApiError> {
        let path = folder.join("index.sqlite");
        let failed = |e: rusqlite::Error| ApiError::Index {
            path: path.clone(),
            why: e.to_string(),
        };
        let writer = match schema::open(&path) {
            Ok(writer) => writer,
            Err(why) => {
                tracing::warn!(path = %path.display(), %why, "the index is built again");
                for suffix in ["", "-wal", "-shm"] {
                    let mut file = path.clone().into_os_string();
                    file.push(suffix);
                    // What is not there need not go.
                    drop(std::fs::remove_file(file));
                }
                schema::open(&path).map_err(failed)?
            }
        };
        let readers = (0..READERS)
            .map(|_| schema::reader(&path).map(Mutex::new).map_err(failed))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            path,
            writer: Mutex::new(writer),
            readers,
        })
    }

    fn error(&self, error: &rusqlite::Error) -> ApiError {
        ApiError::Index {
            path: self.path.clone(),
            why: error.to_string(),
        }
    }

    /// Runs a reading query on a connection that is free.
    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, ApiError> {
        let free = self.readers.iter().find_map(Mutex::try_lock);
        let connection = match free {
            Some(connection) => connection,
            None => self.readers[0].lock(),
        };
        query(&connection).map_err(|e| self.error(&e))
    }
}

#[cfg(test)]
mod tests;
