//! A bounded map that forgets what was not used lately: host descriptors by node.
//!
//! Two generations stand in for exact order: what is used moves to the young one, and when that
//! is full, the old one is dropped and the two change places. Hits allocate nothing.

use std::collections::HashMap;
use std::mem;

/// At most `capacity` values by node id.
pub struct Cache<T> {
    young: HashMap<u64, T>,
    old: HashMap<u64, T>,
    half: usize,
}

impl<T: Clone> Cache<T> {
    /// An empty cache. One of capacity 0 keeps nothing.
    pub fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: capacity.div_ceil(2),
        }
    }

    /// The value of `key`, which is now among the latest used.
    pub fn get(&mut self, key: u64) -> Option<T> {
        if let Some(value) = self.young.get(&key) {
            return Some(value.clone());
        }
        let value = self.old.remove(&key)?;
        self.put(key, value.clone());
        Some(value)
    }

    /// Keeps a value, perhaps in place of one not used lately.
    pub fn put(&mut self, key: u64, value: T) {
        if self.half == 0 {
            return;
        }
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, value);
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_used_stays() {
        let mut cache = Cache::new(8);
        cache.put(1, "one");
        for key in 100..200 {
            cache.put(key, "many");
            assert_eq!(cache.get(1), Some("one"));
        }
        assert_eq!(cache.get(100), None);
    }

    #[test]
    fn never_holds_more_than_its_capacity() {
        let mut cache = Cache::new(8);
        let value = Arc::new(());
        for key in 0..1000 {
            cache.put(key, value.clone());
            cache.get(key / 2);
            assert!(Arc::strong_count(&value) <= 8 + 1);
        }
        cache.clear();
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_cache_of_nothing_keeps_nothing() {
        let mut cache = Cache::new(0);
        cache.put(1, "one");
        assert_eq!(cache.get(1), None);
    }
}
