//! Who asked for what: one JSON line a request.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Serialize;

use crate::ApiError;

/// A file of this size is put aside and a new one begun.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Files put aside that are kept.
const KEPT: u32 = 4;

/// One request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Access<'a> {
    pub(crate) time: String,
    pub(crate) address: String,
    /// None when nobody was signed in.
    pub(crate) user: Option<&'a str>,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) milliseconds: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

/// The access log: `access.log`, and older ones as `access.log.1` to `.4`.
#[derive(Debug)]
pub(crate) struct AccessLog {
    path: PathBuf,
    max_bytes: u64,
    open: Mutex<Open>,
}

fn open(path: &Path) -> std::io::Result<Open> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Open { file, bytes })
}

impl AccessLog {
    /// Opens the log in a folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn open(folder: &Path) -> Result<Self, ApiError> {
        Self::with_size(folder, MAX_BYTES)
    }

    fn with_size(folder: &Path, max_bytes: u64) -> Result<Self, ApiError> {
        let path = folder.join("access.log");
        let open = open(&path).map_err(|source| ApiError::ReadFile {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            path,
            max_bytes,
            open: Mutex::new(open),
        })
    }

    fn aside(&self, number: u32) -> PathBuf {
        self.path.with_extension(format!("log.{number}"))
    }

    /// Adds a line. A log that cannot be written is reported; the request goes on.
    pub(crate) fn note(&self, access: &Access<'_>) {
        let Ok(mut line) = serde_json::to_string(access) else {
            return;
        };
        line.push('\n');
        let mut current = self.open.lock();
        if let Err(error) = self.write(&mut current, line.as_bytes()) {
            tracing::error!(path = %self.path.display(), %error, "the access log cannot be written");
        }
    }

    fn write(&self, current: &mut Open, line: &[u8]) -> std::io::Result<()> {
        if current.bytes >= self.max_bytes {
            for number in (1..KEPT).rev() {
                if self.aside(number).exists() {
                    std::fs::rename(self.aside(number), self.aside(number + 1))?;
                }
            }
            std::fs::rename(&self.path, self.aside(1))?;
            *current = open(&self.path)?;
        }
        current.file.write_all(line)?;
        current.bytes += u64::try_from(line.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_are_put_aside_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let log = AccessLog::with_size(folder.path(), 1).unwrap();
        for n in 0..7 {
            log.note(&Access {
                time: String::new(),
                address: "192.0.2.1".into(),
                user: None,
                method: "GET",
                path: &format!("/{n}"),
                status: 200,
                milliseconds: 1,
            });
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(read("access.log").contains("/6"));
        assert!(read("access.log.1").contains("/5"));
        assert!(read("access.log.4").contains("/2"));
        assert!(!folder.path().join("access.log.5").exists());
    }
}
