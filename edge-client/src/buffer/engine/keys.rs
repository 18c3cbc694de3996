//! Which request carries which key: 12 bytes for each, and a byte of the table's.

use std::collections::HashMap;

/// Names of keys and numbers of requests.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// The name in two halves, so that nothing is padded, and the lower half of the number: the upper one is that of the next
    /// number, or one less, since no request is open while four thousand million others come.
    numbers: HashMap<[u32; 2], u32>,
}

fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default()
}

fn halves(name: u64) -> [u32; 2] {
    [low(name), low(name >> 32)]
}

/// The last number before `next` that ends in this.
fn whole(half: u32, next: u64) -> u64 {
    next.saturating_sub(u64::from(low(next).wrapping_sub(half)))
}

impl Keys {
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The request that carries the key of this name; `next` is the next number that will be given.
    pub(crate) fn get(&self, name: u64, next: u64) -> Option<u64> {
        self.numbers.get(&halves(name)).map(|half| whole(*half, next))
    }

    pub(crate) fn insert(&mut self, name: u64, number: u64) {
        self.numbers.insert(halves(name), low(number));
    }

    /// Forgets those of requests that are not wanted.
    pub(crate) fn retain(&mut self, next: u64, mut wanted: impl FnMut(u64) -> bool) {
        self.numbers.retain(|_, half| wanted(whole(*half, next)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_whole() {
        let mut keys = Keys::default();
        let edge = 1_u64 << 32;
        for (name, number) in [
            (1, 1),
            (u64::MAX, 70),
            (edge, edge - 1),
            (7, edge),
            (8, 5 * edge + 3),
        ] {
            keys.insert(name, number);
            for next in [number + 1, number + 1000, number + edge - 1] {
                assert_eq!(keys.get(name, next), Some(number), "{name} {next}");
            }
        }
        assert_eq!(keys.get(2, 9), None);
        keys.retain(5 * edge + 9, |number| number == 5 * edge + 3);
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn a_key_costs_12_bytes() {
        assert_eq!(std::mem::size_of::<([u32; 2], u32)>(), 12);
    }
}
