//! A bounded map for values that can always be computed again: two generations, the older of which is dropped as a
//! whole when the younger is full. No clock and no order of access is involved, only hits and misses.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::RwLock;

pub(crate) struct Cache<K, V> {
    capacity: usize,
    generations: RwLock<Generations<K, V>>,
}

struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// Holds at most twice `capacity` entries.
    pub(crate) fn new(capacity: usize) -> Self {
        let generations = Generations {
            young: HashMap::new(),
            old: HashMap::new(),
        };
        Self {
            capacity,
            generations: RwLock::new(generations),
        }
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        {
            let generations = self.generations.read();
            if let Some(value) = generations.young.get(key) {
                return Some(value.clone());
            }
            generations.old.get(key)?;
        }
        let (key, value) = self.generations.write().old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        let mut generations = self.generations.write();
        if generations.young.len() >= self.capacity && !generations.young.contains_key(&key) {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_bounded_and_keeps_what_is_used() {
        let cache = Cache::new(10);
        cache.insert(0u32, 0u32);
        for n in 1..1_000u32 {
            cache.insert(n, n);
            assert_eq!(cache.get(&0), Some(0), "used after every insertion, lost at {n}");
        }
        let held = (0..1_000).filter(|n| cache.get(n).is_some()).count();
        assert!((1..=20).contains(&held), "{held}");
    }
}
