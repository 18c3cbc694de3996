//! What is kept of a subscription: a file with what it is, and one with its place.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use selvedge_sdk::FileCheckpointer;
use serde::{Deserialize, Serialize};

use crate::{CallbackError, EventFilter};

/// Why a subscription does not go on by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Halt {
    /// For people.
    pub(crate) why: String,
    /// The receiver said that it wants no more; otherwise it failed for too long.
    pub(crate) gone: bool,
}

/// A subscription as it lies on disk.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) filter: EventFilter,
    pub(crate) url: String,
    pub(crate) secret: String,
    /// Unix seconds.
    pub(crate) created_at: u64,
    /// Said by the program's configuration, not by a caller.
    #[serde(default)]
    pub(crate) fixed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) halt: Option<Halt>,
}

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    dir: PathBuf,
}

fn file_error(path: &Path) -> impl Fn(std::io::Error) -> CallbackError {
    move |e| CallbackError::File {
        path: path.to_owned(),
        why: e.to_string(),
    }
}

impl Store {
    /// Opens the folder and reads what is in it.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Vec<Stored>), CallbackError> {
        std::fs::create_dir_all(dir).map_err(file_error(dir))?;
        let mut all = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(file_error(dir))? {
            let path = entry.map_err(file_error(dir))?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let bytes = std::fs::read(&path).map_err(file_error(&path))?;
            let stored = serde_json::from_slice(&bytes).map_err(|e| CallbackError::File {
                path: path.clone(),
                why: format!("it is not a subscription ({e}); move it away to start without it"),
            })?;
            all.push(stored);
        }
        Ok((Self { dir: dir.to_owned() }, all))
    }

    fn file(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    pub(crate) fn place_file(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.place"))
    }

    /// Writes a subscription durably. It holds a secret, so it is for this user alone.
    pub(crate) fn save(&self, stored: &Stored) -> Result<(), CallbackError> {
        let path = self.file(&stored.id);
        let write = || -> std::io::Result<()> {
            let temporary = path.with_extension("new");
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&serde_json::to_vec(stored)?)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            std::fs::File::open(&self.dir)?.sync_all()
        };
        write().map_err(file_error(&path))
    }

    /// The subscription's place, as a file that can be moved on.
    pub(crate) fn place(&self, id: &str) -> Result<FileCheckpointer, CallbackError> {
        let path = self.place_file(id);
        FileCheckpointer::open(&path).map_err(|e| CallbackError::File {
            path,
            why: e.to_string(),
        })
    }

    /// Removes a subscription: first what it is, so that a crash in between leaves a place that nobody looks at.
    pub(crate) fn remove(&self, id: &str) -> Result<(), CallbackError> {
        self.delete(&self.file(id))?;
        self.delete(&self.place_file(id))
    }

    /// Removes a place that was left of an earlier subscription of this name.
    pub(crate) fn forget_place(&self, id: &str) -> Result<(), CallbackError> {
        self.delete(&self.place_file(id))
    }

    /// When this returns, the file is gone also after a power cut.
    fn delete(&self, path: &Path) -> Result<(), CallbackError> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed
                .and_then(|()| std::fs::File::open(&self.dir)?.sync_all())
                .map_err(file_error(path)),
        }
    }
}
