//! A disk that forgets what was not synced, tears sectors, fails and fills up; and a clock that stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use futures::FutureExt;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::Buffer;
use super::clock::{Clock, EARLIEST};
use super::core::Committed;
use super::disk::{Disk, RESERVE_BYTES};

const SECTOR: usize = 512;

#[derive(Debug, Default, Clone)]
struct FakeFile {
    /// As programs see it.
    seen: Vec<u8>,
    /// As it is after a power cut.
    durable: Vec<u8>,
    /// Sectors that the next sync makes durable.
    dirty: BTreeSet<usize>,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<u64, FakeFile>,
    reserve: bool,
    capacity: usize,
    calls: u64,
    /// The power fails at this call.
    power_fails_at: Option<u64>,
    off: bool,
    /// Each changing call fails with this probability.
    failing: f64,
    /// Segment and offset that cannot be read.
    unreadable: Option<(u64, u64)>,
    rng: SmallRng,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FakeDisk {
    state: Mutex<State>,
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a test's numbers are small")
}

fn power_cut() -> io::Error {
    io::Error::other("no power")
}

impl State {
    /// Counts a call that changes something; the error if it fails.
    fn change(&mut self) -> io::Result<()> {
        if self.off {
            return Err(power_cut());
        }
        self.calls += 1;
        if self.power_fails_at.is_some_and(|at| self.calls >= at) {
            self.off = true;
        }
        if self.failing > 0.0 && self.rng.random_bool(self.failing) {
            return Err(io::Error::other("EIO"));
        }
        Ok(())
    }

    fn used(&self) -> usize {
        let files: usize = self.files.values().map(|f| f.seen.len()).sum();
        files + if self.reserve { RESERVE_BYTES } else { 0 }
    }

    fn file(&mut self, segment: u64) -> io::Result<&mut FakeFile> {
        self.files
            .get_mut(&segment)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

impl FakeFile {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        self.seen[offset..end].copy_from_slice(bytes);
        self.dirty
            .extend(offset / SECTOR..=end.saturating_sub(1) / SECTOR);
    }

    fn sector(bytes: &[u8], index: usize, length: usize) -> Vec<u8> {
        let start = (index * SECTOR).min(length);
        let end = (start + SECTOR).min(length);
        let mut sector = vec![0; end - start];
        let there = bytes.get(start..bytes.len().min(end)).unwrap_or_default();
        sector[..there.len()].copy_from_slice(there);
        sector
    }

    fn synced(&mut self, sectors: &BTreeSet<usize>, length: usize) {
        self.durable.resize(length, 0);
        for index in sectors {
            let sector = Self::sector(&self.seen, *index, length);
            let start = (index * SECTOR).min(length);
            self.durable[start..start + sector.len()].copy_from_slice(&sector);
        }
    }
}

impl FakeDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                files: BTreeMap::new(),
                reserve: false,
                capacity: usize::MAX,
                calls: 0,
                power_fails_at: None,
                off: false,
                failing: 0.0,
                unreadable: None,
                rng: SmallRng::seed_from_u64(seed),
            }),
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    pub(crate) fn power_fails_at(&self, call: u64) {
        self.state.lock().power_fails_at = Some(call);
    }

    pub(crate) fn is_off(&self) -> bool {
        self.state.lock().off
    }

    pub(crate) fn set_failing(&self, probability: f64) {
        self.state.lock().failing = probability;
    }

    /// What lies there cannot be read.
    pub(crate) fn set_unreadable(&self, place: Option<(u64, u64)>) {
        self.state.lock().unreadable = place;
    }

    /// Leaves so many bytes free, or gives all the space back.
    pub(crate) fn leave_free(&self, free: Option<usize>) {
        let mut state = self.state.lock();
        state.capacity = free.map_or(usize::MAX, |free| state.used() + free);
    }

    /// The power comes back: of what was not synced, any sectors may have reached the disk.
    pub(crate) fn power_on(&self) {
        let mut state = self.state.lock();
        let State { files, rng, off, .. } = &mut *state;
        for file in files.values_mut() {
            let dirty: BTreeSet<usize> = file
                .dirty
                .iter()
                .copied()
                .filter(|_| rng.random_bool(0.5))
                .collect();
            let length = match rng.random_range(0..3) {
                0 => file.durable.len(),
                1 => file.seen.len(),
                _ => {
                    let (a, b) = (file.durable.len(), file.seen.len());
                    rng.random_range(a.min(b)..=a.max(b))
                }
            };
            file.synced(&dirty, length);
            file.seen = file.durable.clone();
            file.dirty.clear();
        }
        *off = false;
        state.power_fails_at = None;
        state.failing = 0.0;
        state.capacity = usize::MAX;
    }

    /// The bytes of a segment, to be damaged.
    pub(crate) fn damage(&self, segment: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.lock();
        let file = state.files.entry(segment).or_default();
        change(&mut file.durable);
        file.seen = file.durable.clone();
        file.dirty.clear();
    }
}

impl Disk for FakeDisk {
    fn list(&self) -> io::Result<Vec<u64>> {
        let state = self.state.lock();
        if state.off {
            return Err(power_cut());
        }
        Ok(state.files.keys().copied().collect())
    }

    fn create(&self, segment: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        if state.files.contains_key(&segment) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(segment, FakeFile::default());
        if state.off { Err(power_cut()) } else { Ok(()) }
    }

    fn length(&self, segment: u64) -> io::Result<u64> {
        Ok(self.state.lock().file(segment)?.seen.len() as u64)
    }

    fn write(&self, segment: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let failed = state.change().err();
        if state.off && failed.is_some() {
            return Err(power_cut());
        }
        let free = state.capacity.saturating_sub(state.used());
        let (off, offset) = (state.off, index(offset));
        // What fails may have been done in part.
        let part = if failed.is_some() || off {
            state.rng.random_range(0..=bytes.len())
        } else {
            bytes.len().min(free)
        };
        state.file(segment)?.put(offset, &bytes[..part]);
        match failed {
            Some(error) => Err(error),
            None if off => Err(power_cut()),
            None if part < bytes.len() => Err(io::ErrorKind::StorageFull.into()),
            None => Ok(()),
        }
    }

    fn sync(&self, segment: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.off {
            return Err(power_cut());
        }
        let failed = state.change().err();
        let cut = state.off;
        let file = state.file(segment)?;
        let dirty = std::mem::take(&mut file.dirty);
        if let Some(error) = failed {
            // The pages count as clean now, and are not on the disk: no later sync writes them.
            return Err(error);
        }
        if cut {
            file.dirty = dirty;
            return Err(power_cut());
        }
        let length = file.seen.len();
        file.synced(&dirty, length);
        Ok(())
    }

    fn truncate(&self, segment: u64, length: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let off = state.off;
        state.file(segment)?.seen.truncate(index(length));
        if off { Err(power_cut()) } else { Ok(()) }
    }

    fn read(&self, segment: u64, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut state = self.state.lock();
        if state.off {
            return Err(power_cut());
        }
        if state.unreadable == Some((segment, offset)) {
            return Err(io::Error::other("EIO"));
        }
        let file = state.file(segment)?;
        let start = index(offset).min(file.seen.len());
        let end = start.saturating_add(length).min(file.seen.len());
        Ok(file.seen[start..end].to_vec())
    }

    fn remove(&self, segment: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        // Whether the name was gone when the power went is open.
        if !state.off || state.rng.random_bool(0.5) {
            state.files.remove(&segment);
        }
        if state.off { Err(power_cut()) } else { Ok(()) }
    }

    fn has_reserve(&self) -> bool {
        self.state.lock().reserve
    }

    fn make_reserve(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        if state.off {
            return Err(power_cut());
        }
        if state.capacity.saturating_sub(state.used()) < RESERVE_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.reserve = true;
        Ok(())
    }

    fn free_reserve(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.reserve = false;
        Ok(())
    }
}

/// Does a piece of work with a buffer without a writer thread; of what is staged at most `most` things are written at a time.
pub(crate) fn drive<T>(buffer: &Buffer, most: usize, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        if let Some(done) = work.as_mut().now_or_never() {
            return done;
        }
        let written = buffer.core.commit(most);
        assert_ne!(
            written,
            Committed::Nothing,
            "nothing is staged that it could wait for"
        );
    }
}

/// A clock that is turned by hand.
#[derive(Debug, Default)]
pub(crate) struct FakeClock {
    millis: AtomicU64,
    /// What was set on top of the time, in seconds.
    set: AtomicI64,
}

impl FakeClock {
    pub(crate) fn advance(&self, millis: u64) {
        self.millis.fetch_add(millis, Ordering::Relaxed);
    }

    /// Sets the wall clock forward or back.
    pub(crate) fn set(&self, by_seconds: i64) {
        self.set.fetch_add(by_seconds, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn millis(&self) -> u64 {
        self.millis.load(Ordering::Relaxed)
    }

    fn unix_seconds(&self) -> u32 {
        let run = i64::try_from(self.millis() / 1000).expect("a test is short");
        let seconds = i64::from(EARLIEST) + 1 + run + self.set.load(Ordering::Relaxed);
        // As the real one: before this the time is unknown.
        u32::try_from(seconds)
            .ok()
            .filter(|s| *s >= EARLIEST)
            .unwrap_or(0)
    }
}
