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
        let (own, renewed) = (Mutex::new(taken.iter().map(key).collect()), Mutex::new(taken.clone()));
        (Batch { held: self, own, renewed, lease, writing: tokio::sync::Mutex::default() }, taken, again)
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tasks that were taken together, as far as they are in hand.
pub(super) struct Batch<'a> {
    held: &'a Held,
    /// Those of which it is not stored yet what became of them.
    own: Mutex<HashSet<Key>>,
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
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        for taken in tasks {
            own.remove(&key(taken));
            held.remove(&key(taken));
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<TakenTask>> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever had them in hand has stopped.
impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let own = std::mem::take(self.own.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut held = self.held.keys();
        for key in own {
            held.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::Timestamp;
    use tokio::time::Instant;

    use super::*;
    use crate::store::push::NewTask;

    fn taken(device: &str, attempts: u32) -> TakenTask {
        let at = Timestamp::from_millis(0);
        let (member, device) = (MemberId::from_bytes([1; 12]), device.parse().unwrap());
        let task = NewTask { member, device, subject: Subject::Badge, first: 0, last: 0, at, due: at };
        TakenTask { task, attempts, failures: 0, is_in_doubt: false, revision: 1 }
    }

    fn lease() -> Lease {
        Lease::new(Duration::from_secs(9), Instant::now())
    }

    #[test]
    fn what_is_in_hand_is_not_taken_again_until_it_is_settled() {
        let (held, one, other) = (Held::default(), taken("one", 1), taken("other", 1));
        let (batch, mine, again) = held.hold(vec![one.clone(), other.clone()], lease());
        assert_eq!((mine.len(), again), (2, 0));
        // The store was away, and the lease ran out.
        let (second, mine, again) = held.hold(vec![taken("one", 2), taken("third", 1)], lease());
        assert_eq!((mine, again, second.renewed()), (vec![taken("third", 1)], 1, vec![taken("third", 1)]));
        batch.let_go([&other].into_iter());
        assert_eq!(batch.renewed(), std::slice::from_ref(&one), "it is not said that what was put off is under way");
        assert_eq!(held.hold(vec![other.clone()], lease()).2, 1, "but that is not stored yet");
        batch.settled([&one, &other].into_iter());
        assert_eq!(held.hold(vec![one, other], lease()).2, 0, "nor when whoever had them has stopped");
        drop((batch, second));
        assert!(held.keys().is_empty());
    }
}
