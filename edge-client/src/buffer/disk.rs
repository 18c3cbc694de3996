//! The files under the buffer, behind a trait: so that tests can take power away between any two calls.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Handles kept open for reading.
const OPEN_FILES: usize = 16;

/// A folder of segment files, named by their numbers, and one reserve file.
///
/// What was written is certain only after [`Disk::sync`] succeeded; after a failed one, nothing that was written since the
/// last success is.
pub(crate) trait Disk: Send + Sync + std::fmt::Debug + 'static {
    /// Numbers of the segments, in order.
    fn list(&self) -> io::Result<Vec<u64>>;
    /// Makes an empty segment whose name is durable when this returns.
    fn create(&self, segment: u64) -> io::Result<()>;
    /// Bytes in a segment.
    fn length(&self, segment: u64) -> io::Result<u64>;
    /// Writes at an offset, which is the end of the segment.
    fn write(&self, segment: u64, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes a segment's content durable.
    fn sync(&self, segment: u64) -> io::Result<()>;
    /// Cuts a segment.
    fn truncate(&self, segment: u64, length: u64) -> io::Result<()>;
    /// Reads; fewer bytes than asked for at the end of the segment.
    fn read(&self, segment: u64, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Deletes a segment.
    fn remove(&self, segment: u64) -> io::Result<()>;
    /// Whether the reserve file has its whole length.
    fn has_reserve(&self) -> bool;
    /// Fills the reserve file, durably.
    fn make_reserve(&self) -> io::Result<()>;
    /// Deletes the reserve file: its space may then be used.
    fn free_reserve(&self) -> io::Result<()>;
}

/// Bytes set aside for what must be noted while the disk is full.
pub(crate) const RESERVE_BYTES: usize = 256 * 1024;

/// A folder on a real disk.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    open: Mutex<BTreeMap<u64, std::sync::Arc<File>>>,
}

impl Folder {
    /// A folder, made if missing.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            open: Mutex::new(BTreeMap::new()),
        })
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment:012}.seg"))
    }

    fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn file(&self, segment: u64) -> io::Result<std::sync::Arc<File>> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(&segment) {
            return Ok(std::sync::Arc::clone(file));
        }
        let path = self.path(segment);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            // A worn-out card is often only readable: what it holds can still be sent.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(&path)?,
            opened => opened?,
        };
        let file = std::sync::Arc::new(file);
        if open.len() >= OPEN_FILES {
            // The oldest is the one that is least likely to be read or written again.
            open.pop_first();
        }
        open.insert(segment, std::sync::Arc::clone(&file));
        Ok(file)
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "seg")
                && let Some(number) = path
                    .file_stem()
                    .and_then(|s| s.to_str())
                    .and_then(|s| s.parse().ok())
            {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn create(&self, segment: u64) -> io::Result<()> {
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(self.path(segment))?
            .sync_all()?;
        self.sync_dir()
    }

    fn length(&self, segment: u64) -> io::Result<u64> {
        Ok(self.file(segment)?.metadata()?.len())
    }

    fn write(&self, segment: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(segment)?.write_all_at(bytes, offset)
    }

    fn sync(&self, segment: u64) -> io::Result<()> {
        self.file(segment)?.sync_data()
    }

    fn truncate(&self, segment: u64, length: u64) -> io::Result<()> {
        self.file(segment)?.set_len(length)
    }

    fn read(&self, segment: u64, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.file(segment)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn remove(&self, segment: u64) -> io::Result<()> {
        self.open.lock().remove(&segment);
        std::fs::remove_file(self.path(segment))?;
        self.sync_dir()
    }

    fn has_reserve(&self) -> bool {
        std::fs::metadata(self.reserve()).is_ok_and(|m| m.len() == RESERVE_BYTES as u64)
    }

    fn make_reserve(&self) -> io::Result<()> {
        let made = File::create(self.reserve()).and_then(|file| {
            file.write_all_at(&vec![0; RESERVE_BYTES], 0)?;
            file.sync_all()
        });
        if made.is_err() {
            // Half a reserve would only take space away.
            drop(std::fs::remove_file(self.reserve()));
        }
        made
    }

    fn free_reserve(&self) -> io::Result<()> {
        match std::fs::remove_file(self.reserve()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
