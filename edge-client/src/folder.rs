//! Watched folders: files of readings are taken, and moved to `done` or `failed`.
//!
//! A file is taken when it has been of the same size and age at two looks; still, write it under a name that begins with a
//! dot or ends in `.tmp` or `.part` and rename it, since a writer may pause for longer. The folder is looked at and not
//! subscribed to: that works on network shares too, where the kernel tells nothing.
//!
//! A file is taken as a whole or not at all: each row is checked before the first one is handed over. How many rows were
//! taken is on disk; after a crash, or when the buffer was full, the file goes on from there. What was taken behind that has the
//! same identity again, so nothing is twice.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::config::duration_text;
use crate::intake::Intake;
use crate::intake::arrival::Arrival;
use crate::intake::reading::{self, Position, SentReading};
use crate::intake::sources::Sender;
use crate::intake::time;
use crate::state_log::StateLog;

/// Largest file taken, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// Readings handed over at once.
const BATCH: usize = 500;
/// Bytes of a file's name in the name of the stream that is made from it.
const MAX_STEM: usize = 55;
/// Bytes of the content's hash in it.
const TAG: usize = 4;

/// A folder to take files from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// The folder; `done` and `failed` are made in it.
    pub path: PathBuf,
    /// The source of readings that name none.
    pub source: String,
    /// The stream of readings that name none. If absent, it is made from the file's name and content, and rows are numbered in
    /// it, so that rows of two files are different readings.
    #[serde(default)]
    pub stream: Option<String>,
    /// How often the folder is looked at.
    #[serde(default = "every", with = "duration_text")]
    pub every: Duration,
    /// Files in `done` are removed after so long.
    #[serde(default = "keep", with = "duration_text")]
    pub keep: Duration,
}

fn every() -> Duration {
    Duration::from_secs(2)
}

fn keep() -> Duration {
    Duration::from_secs(7 * 24 * 3600)
}

/// What a file looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    length: u64,
    modified: SystemTime,
}

/// Why a file was not taken.
enum NotTaken {
    /// It is not right: it goes to `failed`.
    Bad(String),
    /// Later.
    Later(String),
}

/// How much of a file was taken.
#[derive(Serialize, Deserialize)]
struct Progress {
    /// Hash of its content.
    content: String,
    rows: usize,
}

/// A folder that is watched.
pub(crate) struct Folder {
    config: FolderConfig,
    intake: Arc<Intake>,
    /// [`Progress`] by path, of all folders.
    progress: Arc<StateLog>,
    seen: HashMap<PathBuf, Look>,
    /// The last trouble that was told, so that it is told once.
    told: Option<String>,
}

fn is_wanted(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
        return false;
    };
    !name.starts_with('.')
        && matches!(
            path.extension().and_then(|e| e.to_str()),
            Some("csv" | "json" | "jsonl")
        )
}

impl Folder {
    pub(crate) fn new(
        config: FolderConfig,
        intake: Arc<Intake>,
        progress: Arc<StateLog>,
    ) -> std::io::Result<Self> {
        for name in ["done", "failed"] {
            std::fs::create_dir_all(config.path.join(name))?;
        }
        // A file may have been moved, and the power gone before that was noted.
        for (name, _) in progress.with_prefix(&format!("{}/", config.path.display())) {
            if !Path::new(&name).exists() {
                drop(progress.set(&name, None));
            }
        }
        Ok(Self {
            config,
            intake,
            progress,
            seen: HashMap::new(),
            told: None,
        })
    }

    /// Watches until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.config.every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look() => {}
            }
        }
    }

    fn tell(&mut self, trouble: Option<String>) {
        if trouble != self.told
            && let Some(why) = &trouble
        {
            tracing::warn!(folder = %self.config.path.display(), %why, "files wait");
        }
        self.told = trouble;
    }

    async fn look(&mut self) {
        let found = match self.stable_files() {
            Ok(found) => found,
            Err(error) => {
                self.tell(Some(format!("the folder cannot be read: {error}")));
                return;
            }
        };
        let mut trouble = None;
        for (path, look) in found {
            match self.take(&path, look).await {
                Ok(count) => {
                    tracing::info!(file = %path.display(), readings = count, "file taken");
                    self.settle(&path, "done", None);
                }
                Err(NotTaken::Bad(why)) => {
                    tracing::warn!(file = %path.display(), %why, "file refused");
                    self.settle(&path, "failed", Some(&why));
                }
                Err(NotTaken::Later(why)) => {
                    trouble = Some(why);
                    break;
                }
            }
        }
        self.tell(trouble);
        self.remove_old();
    }

    /// Files that have not changed since the last look, in the order of their names.
    fn stable_files(&mut self) -> std::io::Result<Vec<(PathBuf, Look)>> {
        let mut now = HashMap::new();
        let mut stable = Vec::new();
        for entry in std::fs::read_dir(&self.config.path)? {
            let entry = entry?;
            let path = entry.path();
            let metadata = entry.metadata()?;
            if !metadata.is_file() || !is_wanted(&path) {
                continue;
            }
            let look = Look {
                length: metadata.len(),
                modified: metadata.modified()?,
            };
            if self.seen.get(&path) == Some(&look) {
                stable.push((path.clone(), look));
            }
            now.insert(path, look);
        }
        self.seen = now;
        stable.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(stable)
    }

    async fn take(&self, path: &Path, look: Look) -> Result<usize, NotTaken> {
        if look.length > MAX_FILE {
            let why = format!("it has {} bytes; at most {MAX_FILE} are taken", look.length);
            return Err(NotTaken::Bad(why));
        }
        let bytes = tokio::fs::read(path)
            .await
            .map_err(|e| NotTaken::Later(format!("{}: {e}", path.display())))?;
        let rows = match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => read_csv(&bytes),
            Some("jsonl") => read_lines(&bytes).map(numbered),
            _ => reading::parse(&bytes, usize::MAX).map(|(readings, _)| numbered(readings)),
        };
        let rows = rows.map_err(NotTaken::Bad)?;
        if rows.is_empty() {
            return Err(NotTaken::Bad("it holds no readings".to_owned()));
        }
        // The file's own time stands for those that are missing: it is the same when the file is read again.
        let at = look
            .modified
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        let readings = self.complete(path, &bytes, rows, at).map_err(NotTaken::Bad)?;
        let content = hex::encode(Sha256::digest(&bytes));
        drop(bytes);
        self.hand_over(path, content, readings, Arrival { at, number: at })
            .await
    }

    /// Fills in what rows leave out, and checks them.
    fn complete(
        &self,
        path: &Path,
        bytes: &[u8],
        rows: Vec<(u64, SentReading)>,
        at: u64,
    ) -> Result<Vec<SentReading>, String> {
        let has_times = rows.iter().all(|(_, reading)| reading.time.is_some());
        let own_stream = stream_of(path, bytes, (!has_times).then_some(at));
        let sender = Sender::Own(self.config.source.clone());
        let mut by_time: HashMap<(Option<String>, String, u64), (u64, SentReading)> = HashMap::new();
        let mut readings = Vec::with_capacity(rows.len());
        for (row, mut reading) in rows {
            let named = reading.stream.take().or_else(|| self.config.stream.clone());
            let stream = named.clone().unwrap_or_else(|| own_stream.clone());
            reading.stream = Some(stream.clone());
            match (&reading.time, named.is_some()) {
                _ if reading.sequence.is_some() => {}
                (_, false) => reading.sequence = Some(row),
                // In a stream that other files may have as well, a row's number says nothing.
                (None, true) => reading.sequence = Some(at.saturating_mul(1000).saturating_add(row)),
                (Some(time), true) => {
                    let key = time::parse(time)
                        .ok()
                        .map(|at| (reading.source.clone(), stream, at));
                    let earlier = key.and_then(|key| by_time.insert(key, (row, reading.clone())));
                    if let Some((earlier, _)) = earlier.filter(|(_, other)| *other != reading) {
                        return Err(format!(
                            "rows {earlier} and {row} of one stream have the same time; give them a sequence, or leave \
                             the stream to the file"
                        ));
                    }
                }
            }
            reading.time.get_or_insert_with(|| time::format(at));
            self.intake
                .check(&sender, &reading)
                .map_err(|e| format!("row {row}: {e}"))?;
            readings.push(reading);
        }
        Ok(readings)
    }

    /// Hands over what was not taken before.
    async fn hand_over(
        &self,
        path: &Path,
        content: String,
        readings: Vec<SentReading>,
        arrived: Arrival,
    ) -> Result<usize, NotTaken> {
        let sender = Sender::Own(self.config.source.clone());
        let name = path.display().to_string();
        let count = readings.len();
        let mut done = self
            .progress
            .get(&name)
            .and_then(|bytes| serde_json::from_slice::<Progress>(&bytes).ok())
            .filter(|progress| progress.content == content)
            .map_or(0, |progress| progress.rows);
        let mut rest = readings.into_iter().skip(done).peekable();
        while rest.peek().is_some() {
            let batch: Vec<SentReading> = rest.by_ref().take(BATCH).collect();
            let taken = self.intake.readings(sender.clone(), batch, arrived).await;
            let results = taken.unwrap_or_else(|refusal| vec![Err(refusal)]);
            let rows = results.iter().take_while(|result| result.is_ok()).count();
            done += rows;
            let refused = results.into_iter().find_map(Result::err);
            if rows > 0 && (refused.is_some() || rest.peek().is_some()) {
                let content = content.clone();
                let progress = serde_json::to_vec(&Progress { content, rows: done }).unwrap_or_default();
                if let Err(error) = self.progress.set(&name, Some(progress)).durable().await {
                    drop(self.progress.recover().await);
                    return Err(NotTaken::Later(error.to_string()));
                }
            }
            match refused {
                None => {}
                Some(refusal) if refusal.retry_after().is_some() => {
                    return Err(NotTaken::Later(refusal.to_string()));
                }
                Some(refusal) => return Err(NotTaken::Bad(refusal.to_string())),
            }
        }
        Ok(count)
    }

    /// Moves a file, with a note of the reason beside it if there is one.
    fn settle(&mut self, path: &Path, place: &str, reason: Option<&str>) {
        let moved = || -> std::io::Result<PathBuf> {
            let folder = self.config.path.join(place);
            let name = path.file_name().unwrap_or_default();
            let mut target = folder.join(name);
            let mut number = 1;
            while target.exists() {
                let mut other = std::ffi::OsString::from(format!("{number}-"));
                other.push(name);
                target = folder.join(other);
                number += 1;
            }
            if let Some(reason) = reason {
                let mut note = target.clone().into_os_string();
                note.push(".reason.txt");
                std::fs::write(note, format!("{reason}\n"))?;
            }
            std::fs::rename(path, &target)?;
            std::fs::File::open(&folder)?.sync_all()?;
            Ok(target)
        };
        match moved() {
            Ok(_) => drop(self.progress.set(&path.display().to_string(), None)),
            // It is taken again at the next look, which changes nothing on the ledger.
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "the file cannot be moved to '{place}'");
            }
        }
        self.seen.remove(path);
    }

    fn remove_old(&self) {
        let Ok(entries) = std::fs::read_dir(self.config.path.join("done")) else {
            return;
        };
        for entry in entries.flatten() {
            let age = entry
                .metadata()
                .and_then(|m| m.modified())
                .ok()
                .and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age > self.config.keep)
                && let Err(error) = std::fs::remove_file(entry.path())
            {
                tracing::warn!(file = %entry.path().display(), %error, "an old file cannot be removed");
            }
        }
    }
}

/// A stream's name from a file's name and content, and its time where that stands for those of rows: what contracts take for an
/// id. The same file again has the same; another one under its name has not.
fn stream_of(path: &Path, content: &[u8], time: Option<u64>) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let clean = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            c
        } else {
            '_'
        }
    };
    let mut hash = Sha256::new_with_prefix(content);
    if let Some(time) = time {
        hash.update(time.to_le_bytes());
    }
    let stem: String = stem.chars().map(clean).take(MAX_STEM).collect();
    format!("{stem}-{}", hex::encode(&hash.finalize()[..TAG]))
}

fn numbered(readings: Vec<SentReading>) -> Vec<(u64, SentReading)> {
    (1..).zip(readings).collect()
}

fn read_lines(bytes: &[u8]) -> Result<Vec<SentReading>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("it is not UTF-8: {e}"))?;
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| serde_json::from_str(line).map_err(|e| format!("line {number}: {e}")))
        .collect()
}

/// Reads a table with a head line. The columns `time` (or `time_utc`), `source`, `stream`, `sequence`, `lat`, `lon` and
/// `accuracy` have their meaning, `label.NAME` is a label; every other one is a value. Empty cells are left out; a row with
/// nothing but a time tells nothing and is left out as well.
fn read_csv(bytes: &[u8]) -> Result<Vec<(u64, SentReading)>, String> {
    let mut table = csv::Reader::from_reader(bytes);
    let names: Vec<String> = table
        .headers()
        .map_err(|e| e.to_string())?
        .iter()
        .map(|name| name.trim().to_owned())
        .collect();
    let mut readings = Vec::new();
    for (row, record) in (1_u64..).zip(table.records()) {
        let record = record.map_err(|e| e.to_string())?;
        let mut reading = SentReading::default();
        let (mut lat, mut lon, mut accuracy) = (None, None, None);
        for (name, cell) in names.iter().zip(&record) {
            let cell = cell.trim();
            if cell.is_empty() {
                continue;
            }
            let value = Value::from(cell);
            match name.as_str() {
                "time" | "time_utc" => reading.time = Some(cell.to_owned()),
                "source" => reading.source = Some(cell.to_owned()),
                "stream" => reading.stream = Some(cell.to_owned()),
                "sequence" => {
                    let number = cell
                        .parse()
                        .map_err(|_| format!("row {row}: '{cell}' is no sequence number"))?;
                    reading.sequence = Some(number);
                }
                "lat" => lat = Some(value),
                "lon" => lon = Some(value),
                "accuracy" => accuracy = Some(value),
                other => match other.strip_prefix("label.") {
                    Some(label) => drop(reading.labels.insert(label.to_owned(), cell.to_owned())),
                    None => drop(reading.values.insert(other.to_owned(), value)),
                },
            }
        }
        if let (Some(lat), Some(lon)) = (lat, lon) {
            reading.position = Some(Position { lat, lon, accuracy });
        }
        if !reading.values.is_empty() || reading.position.is_some() {
            readings.push((row, reading));
        }
    }
    Ok(readings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_become_readings() {
        let table = "time_utc,lat,lon,accuracy,temperature,label.shipment\n\
                     2016-01-21T09:26:40Z,51.3,12.4,cellid,-12.50,S-1\n\
                     2016-01-21T09:27:40Z,,,,,\n\
                     2016-01-21T09:28:40Z,51.3,,,4,\n";
        let readings = read_csv(table.as_bytes()).unwrap();
        assert_eq!(readings.len(), 2);
        let (row, first) = &readings[0];
        assert_eq!((*row, first.values["temperature"].clone()), (1, json!("-12.50")));
        assert_eq!(first.position.as_ref().unwrap().accuracy, Some(json!("cellid")));
        assert_eq!(first.labels["shipment"], "S-1");
        assert_eq!((readings[1].0, readings[1].1.position.is_none()), (3, true));
        assert!(read_csv(b"a,b\n1\n").is_err());
        assert!(read_csv(b"sequence,t\nx,1\n").unwrap_err().contains("row 1"));
    }

    #[test]
    fn lines_become_readings() {
        let lines = "{\"values\":{\"t\":1}}\n\n{\"values\":{\"t\":2},\"sequence\":9}\n";
        let readings = read_lines(lines.as_bytes()).unwrap();
        assert_eq!((readings.len(), readings[1].sequence), (2, Some(9)));
        assert!(read_lines(b"{}\n{").unwrap_err().contains("line 2"));
    }

    #[test]
    fn only_finished_files_are_wanted() {
        for (name, expected) in [
            ("a.csv", true),
            ("a.json", true),
            ("a.jsonl", true),
            (".a.csv", false),
            ("a.csv.tmp", false),
            ("a.part", false),
            ("a", false),
        ] {
            assert_eq!(is_wanted(Path::new(name)), expected, "{name}");
        }
        let of = |content: &[u8], time| stream_of(Path::new("x/trip 7 (old).csv"), content, time);
        assert!(of(b"1", None).starts_with("trip_7__old_-"));
        assert_eq!(of(b"1", None), of(b"1", None));
        assert_ne!(of(b"1", None), of(b"2", None));
        assert_ne!(of(b"1", Some(1)), of(b"1", Some(2)));
        assert!(stream_of(Path::new(&"n".repeat(200)), b"", None).len() <= 64);
    }
}
