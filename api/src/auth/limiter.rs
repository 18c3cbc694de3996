//! How often an address may ask, and how often it may fail to sign in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Addresses remembered at most; those that have not asked for longest go first.
const MAX_ADDRESSES: usize = 50_000;

/// What counts as one caller: an IPv4 address, or the /64 network that an IPv6 customer has at least.
fn caller(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        },
    }
}

fn make_room<T>(map: &mut HashMap<IpAddr, T>, last: impl Fn(&T) -> Instant) {
    if map.len() < MAX_ADDRESSES {
        return;
    }
    let mut times: Vec<Instant> = map.values().map(&last).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    map.retain(|_, entry| last(entry) > median);
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    last: Instant,
}

/// A bucket of requests for each address: it fills steadily and holds `burst`.
#[derive(Debug)]
pub(crate) struct Limiter {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl Limiter {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: f64::from(per_second),
            burst: f64::from(burst),
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one request; the error is how long to wait for the next.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock();
        make_room(&mut buckets, |bucket| bucket.last);
        let bucket = buckets.entry(caller(address)).or_insert(Bucket {
            tokens: self.burst,
            last: now,
        });
        let passed = now.saturating_duration_since(bucket.last).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.per_second).min(self.burst);
        bucket.last = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second))
    }
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Failed log-ins by address. After too many, further ones are refused until nothing has failed for a while.
#[derive(Debug)]
pub(crate) struct Attempts {
    allowed: u32,
    pause: Duration,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

impl Attempts {
    pub(crate) fn new(allowed: u32, pause: Duration) -> Self {
        Self {
            allowed,
            pause,
            failures: Mutex::new(HashMap::new()),
        }
    }

    /// Whether the address may try; the error is how long it has to wait.
    pub(crate) fn may_try(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let failures = self.failures.lock();
        let Some(entry) = failures.get(&caller(address)) else {
            return Ok(());
        };
        let waited = now.saturating_duration_since(entry.last);
        if entry.count < self.allowed || waited >= self.pause {
            return Ok(());
        }
        Err(self.pause.saturating_sub(waited))
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = self.failures.lock();
        make_room(&mut failures, |entry| entry.last);
        let entry = failures
            .entry(caller(address))
            .or_insert(Failures { count: 0, last: now });
        if now.saturating_duration_since(entry.last) >= self.pause {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
    }

    /// Forgets the failures of an address that has signed in.
    pub(crate) fn succeeded(&self, address: IpAddr) {
        self.failures.lock().remove(&caller(address));
    }
}

/// Open event streams by address.
#[derive(Debug)]
pub(crate) struct Streams {
    allowed: u32,
    open: Mutex<HashMap<IpAddr, u32>>,
}

/// One open stream; it ends with its value.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    streams: Arc<Streams>,
    address: IpAddr,
}

impl Streams {
    pub(crate) fn new(allowed: u32) -> Self {
        Self {
            allowed,
            open: Mutex::new(HashMap::new()),
        }
    }

    /// Opens a stream, if the address may have one more.
    pub(crate) fn open(self: &Arc<Self>, address: IpAddr) -> Option<StreamSlot> {
        let address = caller(address);
        let mut open = self.open.lock();
        let count = open.entry(address).or_insert(0);
        if *count >= self.allowed {
            return None;
        }
        *count += 1;
        Some(StreamSlot {
            streams: Arc::clone(self),
            address,
        })
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_then_a_steady_rate() {
        let limiter = Limiter::new(10, 3);
        let start = Instant::now();
        let a = ip("192.0.2.1");
        for _ in 0..3 {
            limiter.take(a, start).unwrap();
        }
        let wait = limiter.take(a, start).unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        limiter.take(ip("192.0.2.2"), start).unwrap();
        limiter.take(a, start + Duration::from_millis(101)).unwrap();
        assert!(limiter.take(a, start + Duration::from_millis(102)).is_err());
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller() {
        let limiter = Limiter::new(1, 1);
        let now = Instant::now();
        limiter.take(ip("2001:db8:1:2::1"), now).unwrap();
        assert!(limiter.take(ip("2001:db8:1:2:ffff::9"), now).is_err());
        limiter.take(ip("2001:db8:1:3::1"), now).unwrap();
        limiter.take(ip("::ffff:192.0.2.1"), now).unwrap();
        assert!(limiter.take(ip("192.0.2.1"), now).is_err(), "the same machine");
    }

    #[test]
    fn failures_are_counted_and_forgiven() {
        let attempts = Attempts::new(2, Duration::from_secs(60));
        let (a, start) = (ip("192.0.2.1"), Instant::now());
        attempts.failed(a, start);
        attempts.may_try(a, start).unwrap();
        attempts.failed(a, start);
        assert!(attempts.may_try(a, start).is_err());
        assert!(attempts.may_try(ip("192.0.2.2"), start).is_ok());
        attempts.may_try(a, start + Duration::from_secs(60)).unwrap();
        attempts.succeeded(a);
        attempts.may_try(a, start).unwrap();
    }

    #[test]
    fn streams_end_with_their_slots() {
        let streams = Arc::new(Streams::new(1));
        let slot = streams.open(ip("192.0.2.1")).unwrap();
        assert!(streams.open(ip("192.0.2.1")).is_none());
        drop(slot);
        assert!(streams.open(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::new(1, 1);
        let start = Instant::now();
        for n in 0..u32::try_from(MAX_ADDRESSES + 10).unwrap() {
            let address = IpAddr::V4(std::net::Ipv4Addr::from(n));
            let _ = limiter.take(address, start + Duration::from_micros(u64::from(n)));
        }
        assert!(limiter.buckets.lock().len() <= MAX_ADDRESSES);
    }
}
