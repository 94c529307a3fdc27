//! Bounded concurrency: so many at a time in all, and so many of one key.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use crate::failure::Failure;

/// Slots for work of one kind. One key can never hold all of them.
pub struct Slots<K: Eq + Hash + Clone> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    total: usize,
    per_key: usize,
    taken: Mutex<Taken<K>>,
}

struct Taken<K> {
    all: usize,
    /// Only keys that hold a slot.
    by_key: HashMap<K, usize>,
}

/// A slot, given back when it is dropped.
pub struct Slot<K: Eq + Hash + Clone> {
    key: K,
    shared: Arc<Shared<K>>,
}

impl<K: Eq + Hash + Clone> Slots<K> {
    /// `total` slots, of which one key holds `per_key` at most.
    #[must_use]
    pub fn new(total: usize, per_key: usize) -> Self {
        let taken = Mutex::new(Taken { all: 0, by_key: HashMap::new() });
        Self { shared: Arc::new(Shared { total, per_key, taken }) }
    }

    /// Takes a slot for `key`. Never waits.
    ///
    /// # Errors
    /// `overloaded` when all are taken, or as many as one key may hold.
    pub fn take(&self, key: K) -> Result<Slot<K>, Failure> {
        let mut taken = self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_key = taken.by_key.get(&key).copied().unwrap_or(0);
        if taken.all >= self.shared.total || of_key >= self.shared.per_key {
            return Err(Failure::overloaded());
        }
        taken.all += 1;
        taken.by_key.insert(key.clone(), of_key + 1);
        drop(taken);
        Ok(Slot { key, shared: Arc::clone(&self.shared) })
    }
}

impl<K: Eq + Hash + Clone> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut taken = self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Entry::Occupied(mut of_key) = taken.by_key.entry(self.key.clone()) {
            *of_key.get_mut() -= 1;
            if *of_key.get() == 0 {
                of_key.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::ErrorCode;

    use super::*;

    #[test]
    fn one_key_cannot_hold_all_slots_and_a_dropped_slot_is_free_again() {
        let slots = Slots::new(3, 2);
        let (first, _second) = (slots.take("a").unwrap(), slots.take("a").unwrap());
        assert_eq!(slots.take("a").err().map(|failure| failure.code), Some(ErrorCode::Overloaded));
        let _other = slots.take("b").unwrap();
        assert!(slots.take("c").is_err(), "all are taken");
        drop(first);
        assert!(slots.take("c").is_ok());
        assert!(slots.take("a").is_ok());
        assert_eq!(slots.shared.taken.lock().unwrap().by_key.len(), 2, "keys without a slot are forgotten");
    }
}
