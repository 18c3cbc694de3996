//! Time as the buffer sees it.
//!
//! Pauses run on a monotonic clock. Ages run on the machine's clock, which on a Raspberry Pi begins at nonsense until a time
//! server was reached: a time before [`EARLIEST`] is taken for "unknown", and nothing is dropped for its age then.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// 2024-01-01: no machine that runs this program has an earlier time.
pub(crate) const EARLIEST: u32 = 1_704_067_200;

/// A clock that tests can turn.
pub(crate) trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// Milliseconds that only ever grow.
    fn millis(&self) -> u64;
    /// Seconds since 1970, or 0 while the machine does not know the time.
    fn unix_seconds(&self) -> u32;
}

/// The machine's clocks.
#[derive(Debug)]
pub(crate) struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn unix_seconds(&self) -> u32 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
        if seconds < EARLIEST { 0 } else { seconds }
    }
}
