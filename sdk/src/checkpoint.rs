//! Where a listener has got to, so that it goes on there after a restart (spec 04 §7).

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::events::ChaincodeEvent;

/// The place after the last thing handled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The block to go on with.
    pub block_number: u64,
    /// The transaction in that block up to which all is done; none when the block is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
}

impl Checkpoint {
    /// After a whole block: the next one.
    pub fn after_block(number: u64) -> Self {
        Self {
            block_number: number.saturating_add(1),
            transaction_id: None,
        }
    }

    /// After an event: the same block, past its transaction.
    pub fn after_event(event: &ChaincodeEvent) -> Self {
        Self {
            block_number: event.block_number,
            transaction_id: Some(event.transaction_id.clone()),
        }
    }
}

/// Keeps a checkpoint in a file, replaced as a whole, so that a power cut leaves the old or the new one.
#[derive(Debug)]
pub struct FileCheckpointer {
    path: PathBuf,
    checkpoint: Option<Checkpoint>,
}

impl FileCheckpointer {
    /// Opens the file, or starts without a checkpoint when there is none.
    ///
    /// # Errors
    /// The file cannot be read or is not a checkpoint.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file_error = |source| Error::File {
            path: path.to_owned(),
            source,
        };
        let checkpoint = match std::fs::read(path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|e| {
                file_error(std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    format!("not a checkpoint ({e}); remove the file to start anew"),
                ))
            })?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(file_error(e)),
        };
        Ok(Self {
            path: path.to_owned(),
            checkpoint,
        })
    }

    /// The place to go on; none at the very first start.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Notes durably that everything before `checkpoint` is done.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&mut self, checkpoint: Checkpoint) -> Result<(), Error> {
        self.write(&checkpoint).map_err(|source| Error::File {
            path: self.path.clone(),
            source,
        })?;
        self.checkpoint = Some(checkpoint);
        Ok(())
    }

    fn write(&self, checkpoint: &Checkpoint) -> std::io::Result<()> {
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(checkpoint)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        if let Some(folder) = self.path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn places_follow_what_was_handled() {
        assert_eq!(
            Checkpoint::after_block(4),
            Checkpoint {
                block_number: 5,
                transaction_id: None
            }
        );
        let event = ChaincodeEvent {
            block_number: 9,
            transaction_id: "t".into(),
            chaincode: "cc".into(),
            name: "e".into(),
            payload: Bytes::new(),
        };
        assert_eq!(
            Checkpoint::after_event(&event),
            Checkpoint {
                block_number: 9,
                transaction_id: Some("t".into())
            }
        );
    }

    #[test]
    fn a_checkpoint_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.json");
        let mut file = FileCheckpointer::open(&path).unwrap();
        assert_eq!(file.checkpoint(), None);
        file.store(Checkpoint::after_block(7)).unwrap();
        file.store(Checkpoint::after_block(8)).unwrap();
        let again = FileCheckpointer::open(&path).unwrap();
        assert_eq!(again.checkpoint(), Some(&Checkpoint::after_block(8)));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.json");
        std::fs::write(&path, b"{").unwrap();
        let text = FileCheckpointer::open(&path).unwrap_err().to_string();
        assert!(
            text.contains("events.json") && text.contains("not a checkpoint"),
            "{text}"
        );
    }
}
