//! What this process has in hand: it is said again and again that it has, and what is in hand here is not taken again, whatever the store says.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use protocol::{DeviceId, MemberId};

use super::lease::Lease;
use crate::store::push::{Subject, TakenTask};

/// Tells tasks apart.
pub(super) type Key = (MemberId, DeviceId, Subject);

/// That of a task.
pub(super) fn key(taken: &TakenTask) -> Key {
    (taken.task.member, taken.task.device.clone(), taken.task.subject)
}

/// All that is in hand.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashSet<Key>>);

impl Held {
    /// Tasks that were taken together, without those that are in hand already: their lease has run out while the store was away, or while this
    /// process stood still, and what becomes of them is stored by who has them. Returns how many those are.
    pub(super) fn hold(&self, mut taken: Vec<TakenTask>, lease: Lease) -> (Batch<'_>, Vec<TakenTask>, usize) {
        let count = taken.len();
        {
            let mut held = self.keys();
            taken.retain(|taken| held.insert(key(taken)));
        }
        let again = count - taken.len();
        let renewed = Mutex::new(taken.clone());
        (Batch { held: self, renewed, lease, writing: tokio::sync::Mutex::default() }, taken, again)
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tasks that were taken together, as far as they are in hand.
pub(super) struct Batch<'a> {
    held: &'a Held,
    renewed: Mutex<Vec<TakenTask>>,
    pub(super) lease: Lease,
    /// Who writes that they are in hand, or what became of them: never both.
    pub(super) writing: tokio::sync::Mutex<()>,
}

impl Batch<'_> {
    /// Those of which it is to be said that they are under way.
    pub(super) fn renewed(&self) -> Vec<TakenTask> {
        self.tasks().clone()
    }

    /// It is not said any more that these are under way.
    pub(super) fn let_go<'a>(&self, tasks: impl Iterator<Item = &'a TakenTask>) {
        let keys: HashSet<Key> = tasks.map(key).collect();
        self.tasks().retain(|taken| !keys.contains(&key(taken)));
    }

    /// What became of these is stored.
    pub(super) fn settled<'a>(&self, tasks: impl Iterator<Item = &'a TakenTask> + Clone) {
        self.let_go(tasks.clone());
        let mut held = self.held.keys();
        for taken in tasks {
            held.remove(&key(taken));
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<TakenTask>> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
