//! Ports for nodes that are killed and restarted.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the system takes ports for outgoing connections: one of those could take the port of a
/// node that is down for a moment.
const FIRST: u16 = 12_000;
const LAST: u16 = 31_900;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port on loopback that nobody listens on. Two test processes start at different places.
pub(crate) fn free() -> u16 {
    let span = LAST - FIRST;
    if NEXT.load(Ordering::Relaxed) == 0 {
        let start = FIRST + rand::random::<u16>() % span;
        // Another thread may have been first: then its place counts.
        let _ = NEXT.compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed);
    }
    for _ in 0..span {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + port.saturating_sub(FIRST) % span;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port between {FIRST} and {LAST} is free");
}

/// An address to listen on.
pub fn listen() -> String {
    format!("127.0.0.1:{}", free())
}
