//! A small map that is there after a crash: names to bytes, each change a record of a [`Journal`].

use std::collections::BTreeMap;
use std::path::Path;

use parking_lot::Mutex;

use crate::journal::{Journal, JournalError, Pending};

/// The file is written anew when it has so many records more than four times the entries.
const SLACK: usize = 4096;
const PUT: u8 = 1;
const REMOVE: u8 = 0;

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<String, Vec<u8>>,
    records: usize,
}

/// The map.
#[derive(Debug)]
pub(crate) struct StateLog {
    inner: Mutex<Inner>,
    journal: Journal,
}

fn record(name: &str, value: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Names are made here, and far shorter than 64 KiB.
    bytes.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(if value.is_some() { PUT } else { REMOVE });
    bytes.extend_from_slice(value.unwrap_or_default());
    bytes
}

fn read(record: &[u8]) -> Option<(String, Option<Vec<u8>>)> {
    let (length, rest) = record.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let (kind, value) = rest.split_first()?;
    let name = std::str::from_utf8(name).ok()?.to_owned();
    Some((name, (*kind == PUT).then(|| value.to_vec())))
}

impl StateLog {
    /// Opens the file and reads what it holds.
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        let (journal, recovered) = Journal::open(path)?;
        for line in &recovered.damage {
            tracing::error!("{line}");
        }
        let mut inner = Inner::default();
        for bytes in &recovered.records {
            inner.records += 1;
            match read(bytes) {
                Some((name, Some(value))) => drop(inner.entries.insert(name, value)),
                Some((name, None)) => drop(inner.entries.remove(&name)),
                None => tracing::error!(path = %path.display(), "a record is not readable and left out"),
            }
        }
        Ok(Self {
            inner: Mutex::new(inner),
            journal,
        })
    }

    /// The value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.inner.lock().entries.get(name).cloned()
    }

    /// Names and values that begin with `prefix`.
    pub(crate) fn with_prefix(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let inner = self.inner.lock();
        inner
            .entries
            .range(prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Sets or removes a value. It counts at once; wait for the answer where it has to be there after a crash.
    pub(crate) fn set(&self, name: &str, value: Option<Vec<u8>>) -> Pending {
        let mut inner = self.inner.lock();
        let pending = self.journal.append(record(name, value.as_deref()));
        inner.records += 1;
        match value {
            Some(value) => drop(inner.entries.insert(name.to_owned(), value)),
            None => drop(inner.entries.remove(name)),
        }
        if inner.records > 4 * inner.entries.len() + SLACK {
            inner.records = inner.entries.len();
            let all = inner
                .entries
                .iter()
                .map(|(name, value)| record(name, Some(value)));
            // Its failure shows at the next append, which is waited for.
            drop(self.journal.replace(all.collect()));
        }
        pending
    }

    /// Reads the file again after a failed write: the memory then is what the file holds.
    pub(crate) async fn recover(&self) -> Result<(), JournalError> {
        let recovered = self.journal.reload().await?;
        let mut inner = self.inner.lock();
        *inner = Inner::default();
        for bytes in &recovered.records {
            inner.records += 1;
            match read(bytes) {
                Some((name, Some(value))) => drop(inner.entries.insert(name, value)),
                Some((name, None)) => drop(inner.entries.remove(&name)),
                None => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_value_of_each_name_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let log = StateLog::open(&path).unwrap();
        for n in 0..SLACK + 100 {
            drop(log.set("often", Some(n.to_string().into_bytes())));
        }
        log.set("once", Some(b"1".to_vec())).durable().await.unwrap();
        log.set("gone", Some(b"1".to_vec())).durable().await.unwrap();
        log.set("gone", None).durable().await.unwrap();
        drop(log);
        let size = std::fs::metadata(&path).unwrap().len();
        assert!(size < 10_000, "it was written anew: {size} bytes");
        let log = StateLog::open(&path).unwrap();
        assert_eq!(log.get("often").unwrap(), (SLACK + 99).to_string().into_bytes());
        assert_eq!(log.get("once").unwrap(), b"1");
        assert_eq!(log.get("gone"), None);
        assert_eq!(log.with_prefix("o").len(), 2);
        log.recover().await.unwrap();
        assert_eq!(log.get("once").unwrap(), b"1");
    }
}
