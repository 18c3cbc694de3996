//! How fast the machine is now, by what limits a network: virtual machines differ from hour to hour, and figures of two
//! reports compare only as far as this one does.

use std::time::{Duration, Instant};

use selvedge_msp::PrivateKey;

/// About the size of an envelope with one endorsement.
const MESSAGE_BYTES: usize = 3000;
const SPELL: Duration = Duration::from_millis(500);

/// Signatures (P-256 over SHA-256 of 3 KB) that one core checks in a second while all `cores` do so; 0 if that cannot be
/// measured.
pub(crate) fn checks_per_core(cores: usize) -> u64 {
    let done: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(check_for_a_while)).collect();
        threads.into_iter().map(|t| t.join().unwrap_or(0)).sum()
    });
    let rate = u128::from(done) * 1000 / SPELL.as_millis();
    u64::try_from(rate).unwrap_or(u64::MAX) / cores.max(1) as u64
}

fn check_for_a_while() -> u64 {
    let message = vec![7; MESSAGE_BYTES];
    let Ok(key) = PrivateKey::generate() else {
        return 0;
    };
    let Ok(signature) = key.sign(&message) else {
        return 0;
    };
    let started = Instant::now();
    let mut done = 0;
    while started.elapsed() < SPELL && key.public_key().verify(&message, &signature).is_ok() {
        done += 1;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_checked() {
        assert!(checks_per_core(1) > 0);
    }
}
