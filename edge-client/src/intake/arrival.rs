//! When messages arrive, and a number for each that no other message ever has.
//!
//! The number stands for readings that have neither a time nor a sequence of their own. It looks like a time in milliseconds,
//! and is that as long as the clock goes forward. A machine without a clock of its own begins at the same time again and again,
//! though, and a clock may be set back: so the numbers that may have been given are on disk, a minute of them at a time.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::time;

/// So many numbers are set aside at a time: one write a minute.
const AHEAD: u64 = 60_000;
/// A failed write is tried again after so long.
const PAUSE: Duration = Duration::from_secs(5);

/// When a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Unix milliseconds, by this machine's clock.
    pub(crate) at: u64,
    /// Its number.
    pub(crate) number: u64,
}

impl Arrival {
    /// An arrival now, under a number that is known already: that of its first time, if it has come before.
    pub(crate) fn numbered(number: u64) -> Self {
        Self {
            at: time::now(),
            number,
        }
    }
}

#[derive(Debug)]
struct Given {
    /// The last number that was given.
    last: u64,
    /// Numbers up to this one are on disk as given.
    aside: u64,
    /// The last write failed then.
    failed: Option<Instant>,
}

/// Gives the numbers.
#[derive(Debug)]
pub(crate) struct Arrivals {
    path: PathBuf,
    given: Mutex<Given>,
}

fn read(path: &Path) -> std::io::Result<u64> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse().unwrap_or_else(|_| {
            tracing::error!(path = %path.display(), "it does not hold a number; readings without time and sequence may be taken for earlier ones");
            0
        })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, number: u64) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = std::fs::File::create(&temporary)?;
    writeln!(file, "{number}")?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

impl Arrivals {
    /// Goes on behind what may have been given before.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let last = read(path)?;
        Ok(Self {
            path: path.to_owned(),
            given: Mutex::new(Given {
                last,
                aside: last,
                failed: None,
            }),
        })
    }

    pub(crate) fn next(&self) -> Arrival {
        self.next_at(time::now())
    }

    fn next_at(&self, now: u64) -> Arrival {
        let mut given = self.given.lock();
        let number = now.max(given.last.saturating_add(1));
        given.last = number;
        if number > given.aside && given.failed.is_none_or(|failed| failed.elapsed() > PAUSE) {
            match write(&self.path, number.saturating_add(AHEAD)) {
                Ok(()) => {
                    given.aside = number.saturating_add(AHEAD);
                    given.failed = None;
                }
                Err(error) => {
                    // Where this cannot be written, the reading most likely cannot either, and is refused.
                    tracing::warn!(path = %self.path.display(), %error, "after a restart, readings without time and sequence may be taken for earlier ones");
                    given.failed = Some(Instant::now());
                }
            }
        }
        Arrival { at: now, number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrivals");
        let mut given = std::collections::BTreeSet::new();
        // Two boots at the same time, one after the clock was set right, one after it was set back.
        for start in [1_000, 1_000, 1_700_000_000_000, 1_600_000_000_000] {
            let arrivals = Arrivals::open(&path).unwrap();
            for n in 0..200 {
                let now = start + n / 2 * 1_000;
                let arrival = arrivals.next_at(now);
                assert_eq!(arrival.at, now, "the time is that of the clock");
                assert!(given.insert(arrival.number), "{arrival:?}");
            }
        }
    }

    #[test]
    fn a_disk_that_fails_or_a_file_that_is_damaged_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no-folder/arrivals");
        let arrivals = Arrivals::open(&missing).unwrap();
        assert!(arrivals.next_at(5).number < arrivals.next_at(5).number);
        let path = folder.path().join("arrivals");
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(Arrivals::open(&path).unwrap().next_at(5).number, 5);
    }
}
