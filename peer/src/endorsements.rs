//! The endorsements that this peer made itself, which need no check when they come back in a block.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// How many endorsements are remembered: some blocks' worth at full load. One costs 64 bytes.
const CAPACITY: usize = 50_000;

type Fingerprint = [u8; 32];

/// A bounded set of endorsements, the oldest forgotten first.
#[derive(Debug, Default)]
pub(crate) struct OwnEndorsements(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    known: HashSet<Fingerprint>,
    order: VecDeque<Fingerprint>,
}

/// Lengths go in too, so that no two endorsements share a fingerprint.
fn fingerprint(payload: &[u8], endorser: &[u8], signature: &[u8]) -> Fingerprint {
    let mut hash = Sha256::new();
    for part in [payload, endorser, signature] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl OwnEndorsements {
    pub(crate) fn remember(&self, payload: &[u8], endorser: &[u8], signature: &[u8]) {
        let print = fingerprint(payload, endorser, signature);
        let mut inner = self.0.lock();
        if inner.known.insert(print) {
            inner.order.push_back(print);
            if inner.order.len() > CAPACITY
                && let Some(oldest) = inner.order.pop_front()
            {
                inner.known.remove(&oldest);
            }
        }
    }

    pub(crate) fn contains(&self, payload: &[u8], endorser: &[u8], signature: &[u8]) -> bool {
        if self.0.lock().known.is_empty() {
            return false;
        }
        let print = fingerprint(payload, endorser, signature);
        self.0.lock().known.contains(&print)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_endorsement_is_known() {
        let own = OwnEndorsements::default();
        assert!(!own.contains(b"p", b"e", b"s"));
        own.remember(b"p", b"e", b"s");
        assert!(own.contains(b"p", b"e", b"s"));
        assert!(!own.contains(b"p", b"e", b"t"));
        assert!(!own.contains(b"pe", b"", b"s"));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let own = OwnEndorsements::default();
        for i in 0..=CAPACITY {
            own.remember(&i.to_be_bytes(), b"e", b"s");
        }
        assert!(!own.contains(&0usize.to_be_bytes(), b"e", b"s"));
        assert!(own.contains(&CAPACITY.to_be_bytes(), b"e", b"s"));
        assert_eq!(own.0.lock().known.len(), CAPACITY);
    }
}
