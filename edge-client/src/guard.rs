//! Addresses that have failed to prove who they are too often are not listened to for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures that are forgiven.
const FORGIVEN: u32 = 10;
/// A failure counts for so long.
const MEMORY: Duration = Duration::from_secs(60);
/// Addresses that are remembered; beyond it those whose failures do not count any more are forgotten.
const MAX_ADDRESSES: usize = 4096;

/// Failed attempts by address.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    failures: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

impl Guard {
    /// Whether an address may try at `now`.
    pub(crate) fn admits(&self, address: IpAddr, now: Instant) -> bool {
        let failures = self.failures.lock();
        failures
            .get(&address)
            .is_none_or(|(count, last)| *count < FORGIVEN || now.duration_since(*last) >= MEMORY)
    }

    /// Notes a failed attempt.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = self.failures.lock();
        if failures.len() >= MAX_ADDRESSES {
            failures.retain(|_, (_, last)| now.duration_since(*last) < MEMORY);
        }
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&address) {
            return;
        }
        let (count, last) = failures.entry(address).or_insert((0, now));
        if now.duration_since(*last) >= MEMORY {
            *count = 0;
        }
        *count = count.saturating_add(1);
        *last = now;
        if *count == FORGIVEN {
            tracing::warn!(%address, "too many failed attempts; this address has to wait a minute");
        }
    }

    /// Forgets the failures of an address that has proved itself.
    pub(crate) fn succeeded(&self, address: IpAddr) {
        self.failures.lock().remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_after_too_many_failures() {
        let guard = Guard::default();
        let (address, now) = (IpAddr::from([10, 0, 0, 1]), Instant::now());
        for _ in 0..FORGIVEN {
            assert!(guard.admits(address, now));
            guard.failed(address, now);
        }
        assert!(!guard.admits(address, now));
        assert!(guard.admits(IpAddr::from([10, 0, 0, 2]), now));
        assert!(guard.admits(address, now + MEMORY));
        guard.failed(address, now + MEMORY);
        assert!(guard.admits(address, now + MEMORY), "old failures do not count");
        guard.succeeded(address);
        assert!(guard.failures.lock().is_empty());
    }
}
