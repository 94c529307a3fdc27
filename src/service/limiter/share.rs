//! What makes a limit one of all nodes together, and not of each for itself.
//!
//! Nothing is asked for before something is allowed: each node charges what it allows, and tells the others, which charge it as
//! well. What they have no allowance left for is a *debt*, paid before they allow anything. So over any time longer than the way
//! between nodes all of them together allow as much as one would, and in between a whole burst each at most. While nodes do not
//! hear each other, each gives only its part: one costs as many as there are nodes.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use dashmap::{DashMap, Entry};

/// How many nodes there are that do not hear of what the others allow, this one included; one, while all do.
#[derive(Debug, Clone)]
pub struct Parts(Arc<AtomicU32>);

impl Default for Parts {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }
}

impl Parts {
    /// Sets it.
    pub fn set(&self, nodes: u32) {
        self.0.store(nodes.max(1), Ordering::Relaxed);
    }

    /// What something costs this node that costs so much.
    pub(in crate::service) fn cost(&self, count: u32) -> u32 {
        count.saturating_mul(self.0.load(Ordering::Relaxed))
    }
}

/// Tells other nodes what was taken from the allowance of a key.
pub type Tell<K> = dyn Fn(&K) + Send + Sync;

/// One limit's share of what all nodes allow.
pub(super) struct Share<K: Hash + Eq + Clone> {
    pub(super) parts: Parts,
    pub(super) tell: Option<Box<Tell<K>>>,
    /// What others have allowed, and this node could not charge yet: a burst at most.
    debts: DashMap<K, u32>,
}

impl<K: Hash + Eq + Clone> Share<K> {
    pub(super) fn new(parts: Parts, tell: Option<Box<Tell<K>>>) -> Self {
        Self { parts, tell, debts: DashMap::new() }
    }

    /// Pays what a key owes, and `more`, as far as `pay` takes one after the other. Returns what is left, and keeps that.
    pub(super) fn settle(&self, key: &K, more: u32, burst: u32, mut pay: impl FnMut() -> bool) -> u32 {
        if more == 0 && self.debts.is_empty() {
            return 0;
        }
        // Under the lock of the entry, so that nothing is paid twice.
        match self.debts.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                let owed = pay_off(entry.get().saturating_add(more), burst, &mut pay);
                if owed == 0 {
                    entry.remove();
                } else {
                    entry.insert(owed);
                }
                owed
            }
            Entry::Vacant(entry) => {
                let owed = pay_off(more, burst, &mut pay);
                if owed > 0 {
                    entry.insert(owed);
                }
                owed
            }
        }
    }

    /// Who owes something.
    pub(super) fn debtors(&self) -> Vec<K> {
        self.debts.iter().map(|entry| entry.key().clone()).collect()
    }
}

fn pay_off(owed: u32, burst: u32, pay: &mut impl FnMut() -> bool) -> u32 {
    let mut owed = owed.min(burst);
    while owed > 0 && pay() {
        owed -= 1;
    }
    owed
}
