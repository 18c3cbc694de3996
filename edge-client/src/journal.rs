//! A small append-only file for state that must be there after a crash: what edge rules remember, what devices have
//! sent, where MQTT sessions are.
//!
//! A record is its length (u32 LE), CRC32C of those four bytes, CRC32C of the content (both u32 LE), and the content.
//! The first checksum is there so that a record whose content is damaged can be stepped over: its length is still known
//! to be right. Appends of many callers share one `fdatasync`. [`Journal::replace`] writes what is still needed to a
//! new file and goes on with that.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use tokio::sync::oneshot;

const HEADER_BYTES: usize = 12;
/// Longest content of a record in bytes.
const MAX_RECORD_BYTES: usize = 64 * 1024 * 1024;

/// Why a journal cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The file failed.
    #[error("{}: {why}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// An append failed before; nothing is taken until the file was read again.
    #[error("{}: an earlier write failed; nothing more is written until that is mended", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
    },
}

enum Command {
    Append(Vec<u8>, oneshot::Sender<Result<(), JournalError>>),
    Replace(Vec<Vec<u8>>, oneshot::Sender<Result<(), JournalError>>),
    Reload(oneshot::Sender<Result<Recovered, JournalError>>),
}

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// The contents in order.
    pub(crate) records: Vec<Vec<u8>>,
    /// What was wrong with it, for people.
    pub(crate) damage: Vec<String>,
    /// Bytes up to the end of the last whole record.
    good: u64,
}

/// A journal that is open for appending. Dropping it waits until what is queued is written.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// None only while it is dropped.
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(writer) = self.writer.take() {
            // A writer that has panicked has nothing left to write.
            drop(writer.join());
        }
    }
}

/// An append under way.
#[derive(Debug)]
pub(crate) struct Pending(PathBuf, oneshot::Receiver<Result<(), JournalError>>);

impl Pending {
    /// Waits until it is on disk.
    pub(crate) async fn durable(self) -> Result<(), JournalError> {
        self.1.await.unwrap_or(Err(JournalError::Broken { path: self.0 }))
    }
}

fn frame(content: &[u8], out: &mut Vec<u8>) {
    // Contents are bounded by the callers far below this.
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&crc32c::crc32c(&length).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
    out.extend_from_slice(content);
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads all records that are whole.
fn parse(path: &Path, bytes: &[u8]) -> Recovered {
    let mut recovered = Recovered::default();
    let mut at = 0;
    while at < bytes.len() {
        let (Some(length), Some(header), Some(sum)) =
            (word(bytes, at), word(bytes, at + 4), word(bytes, at + 8))
        else {
            break;
        };
        if crc32c::crc32c(&length.to_le_bytes()) != header || length as usize > MAX_RECORD_BYTES {
            recovered.damage.push(format!(
                "{}: damaged at byte {at}; what followed, {} bytes, is lost",
                path.display(),
                bytes.len() - at
            ));
            return recovered;
        }
        let start = at + HEADER_BYTES;
        let Some(content) = bytes.get(start..start + length as usize) else {
            break;
        };
        at = start + content.len();
        if crc32c::crc32c(content) == sum {
            recovered.records.push(content.to_vec());
        } else {
            recovered.damage.push(format!(
                "{}: the record that ends at byte {at} is damaged and left out",
                path.display()
            ));
        }
        recovered.good = at as u64;
    }
    recovered
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> JournalError {
    move |e| JournalError::Io {
        path: path.to_owned(),
        why: e.to_string(),
    }
}

fn open(path: &Path) -> Result<(File, Recovered), JournalError> {
    let failed = io_error(path);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(&failed)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(&failed)?;
    let recovered = parse(path, &bytes);
    // A torn tail is what a power cut leaves; it was never acknowledged.
    file.set_len(recovered.good).map_err(&failed)?;
    file.seek(SeekFrom::End(0)).map_err(&failed)?;
    Ok((file, recovered))
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The thread that writes.
struct Writer {
    path: PathBuf,
    file: File,
    broken: bool,
}

impl Writer {
    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut next = Some(first);
            while let Some(command) = next.take() {
                match command {
                    Command::Append(content, done) => {
                        // Whatever else waits for the disk shares the sync.
                        let (mut bytes, mut waiting) = (Vec::new(), vec![done]);
                        frame(&content, &mut bytes);
                        while let Ok(command) = commands.try_recv() {
                            match command {
                                Command::Append(content, done) => {
                                    frame(&content, &mut bytes);
                                    waiting.push(done);
                                }
                                other => {
                                    next = Some(other);
                                    break;
                                }
                            }
                        }
                        let result = self.append(&bytes);
                        for done in waiting {
                            // A caller that has gone does not need the answer.
                            drop(done.send(result.clone()));
                        }
                    }
                    Command::Replace(records, done) => drop(done.send(self.replace(&records))),
                    Command::Reload(done) => drop(done.send(self.reload())),
                }
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        if self.broken {
            return Err(JournalError::Broken {
                path: self.path.clone(),
            });
        }
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        written.map_err(|e| {
            self.broken = true;
            io_error(&self.path)(e)
        })
    }

    fn replace(&mut self, records: &[Vec<u8>]) -> Result<(), JournalError> {
        if self.broken {
            return Err(JournalError::Broken {
                path: self.path.clone(),
            });
        }
        let mut bytes = Vec::new();
        for record in records {
            frame(record, &mut bytes);
        }
        let temporary = self.path.with_extension("new");
        let write = || -> std::io::Result<File> {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)?;
            sync_folder(&self.path)?;
            Ok(file)
        };
        match write() {
            Ok(file) => {
                self.file = file;
                Ok(())
            }
            Err(e) => {
                // Either file may be the one of that name now.
                self.broken = true;
                Err(io_error(&self.path)(e))
            }
        }
    }

    fn reload(&mut self) -> Result<Recovered, JournalError> {
        let (file, recovered) = open(&self.path)?;
        file.sync_all().map_err(io_error(&self.path))?;
        self.file = file;
        self.broken = false;
        Ok(recovered)
    }
}

impl Journal {
    /// Opens a file, or makes it, and gives what it holds.
    pub(crate) fn open(path: &Path) -> Result<(Self, Recovered), JournalError> {
        let failed = io_error(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(&failed)?;
        }
        let (file, recovered) = open(path)?;
        sync_folder(path).map_err(&failed)?;
        let (commands, receiver) = mpsc::channel();
        let writer = Writer {
            path: path.to_owned(),
            file,
            broken: false,
        };
        let writer = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(&failed)?;
        let journal = Self {
            path: path.to_owned(),
            commands: Some(commands),
            writer: Some(writer),
        };
        Ok((journal, recovered))
    }

    fn send<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> oneshot::Receiver<T> {
        let (done, waiting) = oneshot::channel();
        // Without its thread the receiver's end is closed, which reads as broken.
        drop(
            self.commands
                .as_ref()
                .map(|commands| commands.send(command(done))),
        );
        waiting
    }

    /// Queues a record. Records lie in the file in the order of these calls.
    pub(crate) fn append(&self, content: Vec<u8>) -> Pending {
        Pending(
            self.path.clone(),
            self.send(|done| Command::Append(content, done)),
        )
    }

    /// Queues the replacement of everything before by `records`.
    pub(crate) fn replace(&self, records: Vec<Vec<u8>>) -> Pending {
        Pending(
            self.path.clone(),
            self.send(|done| Command::Replace(records, done)),
        )
    }

    /// Reads the file again after a failed write, without the part that failed.
    pub(crate) async fn reload(&self) -> Result<Recovered, JournalError> {
        self.send(Command::Reload).await.unwrap_or_else(|_| {
            Err(JournalError::Broken {
                path: self.path.clone(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn what_was_appended_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/journal");
        let (journal, recovered) = Journal::open(&path).unwrap();
        assert!(recovered.records.is_empty());
        let pending: Vec<_> = (0..50_u8)
            .map(|n| journal.append(vec![n; usize::from(n)]))
            .collect();
        for pending in pending {
            pending.durable().await.unwrap();
        }
        drop(journal);
        let (journal, recovered) = Journal::open(&path).unwrap();
        assert_eq!(recovered.records.len(), 50);
        assert_eq!(recovered.records[7], vec![7; 7]);
        journal
            .replace(vec![b"all of it".to_vec()])
            .durable()
            .await
            .unwrap();
        journal.append(b"more".to_vec()).durable().await.unwrap();
        let again = journal.reload().await.unwrap();
        assert_eq!(again.records, [b"all of it".to_vec(), b"more".to_vec()]);
        assert!(again.damage.is_empty());
    }

    #[tokio::test]
    async fn after_a_torn_tail_writing_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (journal, _) = Journal::open(&path).unwrap();
        journal.append(b"whole".to_vec()).durable().await.unwrap();
        journal.append(b"torn off".to_vec()).durable().await.unwrap();
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let (journal, recovered) = Journal::open(&path).unwrap();
        assert_eq!(recovered.records, [b"whole".to_vec()]);
        journal.append(b"next".to_vec()).durable().await.unwrap();
        let again = journal.reload().await.unwrap();
        assert_eq!(again.records, [b"whole".to_vec(), b"next".to_vec()]);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_costs_its_record_or_is_reported(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..12),
            place in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let mut bytes = Vec::new();
            let mut ends = Vec::new();
            for content in &contents {
                frame(content, &mut bytes);
                ends.push(bytes.len());
            }
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let hit = ends.iter().position(|end| at < *end).unwrap();
            let recovered = parse(Path::new("f"), &bytes);
            prop_assert_eq!(recovered.damage.len(), 1);
            prop_assert_eq!(&recovered.records[..hit], &contents[..hit]);
            let in_header = at - (if hit == 0 { 0 } else { ends[hit - 1] }) < 8;
            if !in_header {
                prop_assert_eq!(&recovered.records[hit..], &contents[hit + 1..]);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(Path::new("f"), &bytes);
        }
    }
}
