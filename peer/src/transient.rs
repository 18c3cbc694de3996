//! Private data in plain text between endorsement and commit.
//!
//! The endorser hands it in under the transaction id; when the transaction commits as VALID, what fits the hashes in the
//! block goes to the ledger. One file an entry, so that a restart in between loses nothing; the number of entries and
//! their size are bounded, the oldest go first.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use selvedge_proto::rwset::TxPvtReadWriteSet;
use sha2::{Digest, Sha256};

/// Most bytes kept in all.
const MOST_BYTES: usize = 256 * 1024 * 1024;
/// Most entries kept.
const MOST_ENTRIES: usize = 20_000;
/// Most entries of one transaction id: endorsed again on a newer state, it may write something else.
const MOST_PER_ID: usize = 8;
const HASH_LEN: usize = 32;

/// Why private data could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum TransientError {
    /// The id is not one that a transaction can have.
    #[error("{0:?} is no transaction id: 64 lowercase hexadecimal digits are expected")]
    BadId(String),
    /// It does not fit.
    #[error(
        "the private data of transaction {tx_id} has {bytes} bytes, more than the {MOST_BYTES} that are kept in all"
    )]
    TooLarge {
        /// The transaction.
        tx_id: String,
        /// Size.
        bytes: usize,
    },
    /// A file operation.
    #[error("could not {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Debug)]
pub(crate) struct TransientStore {
    dir: PathBuf,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<String, Vec<Entry>>,
    order: VecDeque<String>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    digest: [u8; HASH_LEN],
    content: Bytes,
}

fn is_tx_id(id: &str) -> bool {
    id.len() == 64
        && id
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl TransientStore {
    /// Opens the folder and reads what is there; files that a crash cut off are removed.
    pub(crate) fn open(dir: &Path) -> Result<Self, TransientError> {
        let store = Self {
            dir: dir.to_owned(),
            entries: Mutex::default(),
        };
        fs::create_dir_all(dir).map_err(|e| io_error("create", dir, e))?;
        for file in fs::read_dir(dir).map_err(|e| io_error("read", dir, e))? {
            let path = file.map_err(|e| io_error("read", dir, e))?.path();
            let bytes = Bytes::from(fs::read(&path).map_err(|e| io_error("read", &path, e))?);
            let id = path
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(|n| n.split_once('-'))
                .map(|(id, _)| id);
            match (id, verified(&bytes)) {
                (Some(id), Some(entry)) if is_tx_id(id) => store.insert(id, entry),
                _ => fs::remove_file(&path).map_err(|e| io_error("remove", &path, e))?,
            }
        }
        Ok(store)
    }

    /// Keeps the plaintext of a proposal's private writes; returns when it is on disk.
    pub(crate) fn keep(&self, tx_id: &str, private: &TxPvtReadWriteSet) -> Result<(), TransientError> {
        if !is_tx_id(tx_id) {
            return Err(TransientError::BadId(tx_id.chars().take(100).collect()));
        }
        let content = private.encode_to_vec();
        if content.len() > MOST_BYTES {
            return Err(TransientError::TooLarge {
                tx_id: tx_id.to_owned(),
                bytes: content.len(),
            });
        }
        let digest: [u8; HASH_LEN] = Sha256::digest(&content).into();
        if self
            .entries
            .lock()
            .by_id
            .get(tx_id)
            .is_some_and(|all| all.iter().any(|e| e.digest == digest))
        {
            return Ok(());
        }
        let path = self.path(tx_id, &digest);
        let write = || {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&path)?;
            file.write_all(&digest)?;
            file.write_all(&content)?;
            file.sync_data()
        };
        write().map_err(|e| io_error("write", &path, e))?;
        self.insert(
            tx_id,
            Entry {
                digest,
                content: content.into(),
            },
        );
        Ok(())
    }

    /// What is kept for a transaction, the latest first.
    pub(crate) fn get(&self, tx_id: &str) -> Vec<TxPvtReadWriteSet> {
        let entries = self.entries.lock().by_id.get(tx_id).cloned().unwrap_or_default();
        entries
            .into_iter()
            .rev()
            .filter_map(|e| TxPvtReadWriteSet::decode(e.content).ok())
            .collect()
    }

    /// Forgets a transaction that stands in a block now.
    pub(crate) fn remove(&self, tx_id: &str) {
        let mut entries = self.entries.lock();
        if let Some(gone) = entries.by_id.remove(tx_id) {
            entries.order.retain(|id| id != tx_id);
            self.discard(tx_id, gone, &mut entries);
        }
    }

    /// The transactions that something is kept for.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.entries.lock().order.iter().cloned().collect()
    }

    fn insert(&self, tx_id: &str, entry: Entry) {
        let mut entries = self.entries.lock();
        entries.bytes += entry.content.len();
        let all = entries.by_id.entry(tx_id.to_owned()).or_default();
        all.push(entry);
        let (first, surplus) = (all.len() == 1, (all.len() > MOST_PER_ID).then(|| all.remove(0)));
        if first {
            entries.order.push_back(tx_id.to_owned());
        }
        if let Some(surplus) = surplus {
            self.discard(tx_id, vec![surplus], &mut entries);
        }
        while entries.bytes > MOST_BYTES || entries.order.len() > MOST_ENTRIES {
            let Some(oldest) = entries.order.pop_front() else {
                break;
            };
            tracing::warn!(tx_id = %oldest, "private data of an endorsed transaction is dropped: too much is waiting for commit");
            let gone = entries.by_id.remove(&oldest).unwrap_or_default();
            self.discard(&oldest, gone, &mut entries);
        }
    }

    fn discard(&self, tx_id: &str, gone: Vec<Entry>, entries: &mut Entries) {
        for entry in gone {
            entries.bytes = entries.bytes.saturating_sub(entry.content.len());
            let path = self.path(tx_id, &entry.digest);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "could not remove committed private data from the waiting room");
            }
        }
    }

    fn path(&self, tx_id: &str, digest: &[u8; HASH_LEN]) -> PathBuf {
        self.dir.join(format!("{tx_id}-{}", hex::encode(&digest[..8])))
    }
}

fn verified(bytes: &Bytes) -> Option<Entry> {
    let digest: [u8; HASH_LEN] = bytes.get(..HASH_LEN)?.try_into().ok()?;
    let content = bytes.slice(HASH_LEN..);
    (Sha256::digest(&content).as_slice() == digest).then_some(Entry { digest, content })
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> TransientError {
    TransientError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_proto::rwset;

    fn private(value: u8) -> TxPvtReadWriteSet {
        TxPvtReadWriteSet {
            data_model: 0,
            ns_pvt_rwset: vec![rwset::NsPvtReadWriteSet {
                namespace: "cc".into(),
                collection_pvt_rwset: vec![rwset::CollectionPvtReadWriteSet {
                    collection_name: "c".into(),
                    rwset: vec![value; 40].into(),
                }],
            }],
        }
    }

    #[test]
    fn survives_a_restart_and_is_removed_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let id = "ab".repeat(32);
        let store = TransientStore::open(dir.path()).unwrap();
        store.keep(&id, &private(1)).unwrap();
        store.keep(&id, &private(1)).unwrap();
        store.keep(&id, &private(2)).unwrap();
        drop(store);
        let store = TransientStore::open(dir.path()).unwrap();
        assert_eq!(store.get(&id).len(), 2);
        assert!(store.get(&id).contains(&private(1)));
        store.remove(&id);
        assert!(store.get(&id).is_empty());
        assert!(TransientStore::open(dir.path()).unwrap().ids().is_empty());
    }

    #[test]
    fn a_torn_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let id = "cd".repeat(32);
        TransientStore::open(dir.path())
            .unwrap()
            .keep(&id, &private(1))
            .unwrap();
        let path = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(TransientStore::open(dir.path()).unwrap().ids().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn bounded_per_id_and_refuses_what_is_no_id() {
        let dir = tempfile::tempdir().unwrap();
        let store = TransientStore::open(dir.path()).unwrap();
        let id = "ef".repeat(32);
        for value in 0..20 {
            store.keep(&id, &private(value)).unwrap();
        }
        assert_eq!(store.get(&id).len(), MOST_PER_ID);
        assert_eq!(store.get(&id)[0], private(19));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), MOST_PER_ID);
        assert!(matches!(
            store.keep("../../etc/passwd", &private(1)),
            Err(TransientError::BadId(_))
        ));
    }
}
