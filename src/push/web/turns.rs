//! Whose request is next: nobody's slow push service keeps others waiting.
//!
//! A member says where a push service is, and it may be their own, which answers as slowly as it likes. So a member has few requests at a time,
//! and a push service that is not known to be quick has few as well; those have places of their own, which the quick ones do not need.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use protocol::MemberId;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests of one member at a time.
const OF_MEMBER: usize = 2;
/// Requests to one push service at a time, unless it is quick.
const TO_SLOW: usize = 4;
/// The same if it is.
const TO_QUICK: usize = 32;
/// Requests at a time to all push services together that are not quick.
const SLOW: usize = 16;
/// The same for those that are.
const QUICK: usize = 64;
/// How soon a quick one answers, typically.
const QUICK_ANSWER: Duration = Duration::from_secs(1);
/// Parcels of one member that may wait for their turn.
const WAITING_OF_MEMBER: usize = 40;
/// Parcels of all members: with more of them each member has as many as requests.
const WAITING: usize = 1_000;
/// The most parcels whatsoever.
const WAITING_MAX: usize = 8_000;

/// How quick a push service is.
#[derive(Debug)]
pub(super) struct Pulse {
    /// In milliseconds, the last answers counting most; [`UNKNOWN`] before the first.
    typical: AtomicU32,
    was_quick: AtomicBool,
    slow: Semaphore,
    quick: Semaphore,
}

const UNKNOWN: u32 = u32::MAX;

impl Pulse {
    pub(super) const fn new() -> Self {
        let (slow, quick) = (Semaphore::const_new(TO_SLOW), Semaphore::const_new(TO_QUICK));
        Self { typical: AtomicU32::new(UNKNOWN), was_quick: AtomicBool::new(false), slow, quick }
    }

    /// It has answered, or has had its time.
    pub(super) fn answered(&self, after: Duration) {
        let after = u32::try_from(after.as_millis()).unwrap_or(UNKNOWN - 1);
        let typical = match self.typical.load(Ordering::Relaxed) {
            UNKNOWN => after,
            // A quarter each: some slow answers in a row are enough.
            typical => typical - typical / 4 + after / 4,
        };
        self.typical.store(typical, Ordering::Relaxed);
        self.was_quick.fetch_or(self.is_quick(), Ordering::Relaxed);
    }

    /// Whether it has ever answered quickly enough to be a push service and nothing else.
    pub(super) fn is_known(&self) -> bool {
        self.was_quick.load(Ordering::Relaxed)
    }

    pub(super) fn is_quick(&self) -> bool {
        u128::from(self.typical.load(Ordering::Relaxed)) <= QUICK_ANSWER.as_millis()
    }
}

/// Who waits, and the places of requests.
#[derive(Debug)]
pub(super) struct Turns {
    slow: Semaphore,
    quick: Semaphore,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    count: usize,
    members: HashMap<MemberId, (usize, Arc<Semaphore>)>,
}

/// That a parcel waits or is under way.
pub(super) struct Ticket<'a> {
    turns: &'a Turns,
    member: MemberId,
    own: Arc<Semaphore>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { slow: Semaphore::new(SLOW), quick: Semaphore::new(QUICK), waiting: Mutex::default() }
    }

    /// A parcel comes; nothing if too many of its member wait.
    pub(super) fn queue(&self, member: MemberId) -> Option<Ticket<'_>> {
        let mut waiting = self.waiting();
        let own = waiting.members.get(&member).map_or(0, |(count, _)| *count);
        let most = if waiting.count < WAITING { WAITING_OF_MEMBER } else { OF_MEMBER };
        if own >= most || waiting.count >= WAITING_MAX {
            return None;
        }
        waiting.count += 1;
        let (count, own) = waiting.members.entry(member).or_insert_with(|| (0, Arc::new(Semaphore::new(OF_MEMBER))));
        *count += 1;
        let own = Arc::clone(own);
        Some(Ticket { turns: self, member, own })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// Waits for its turn: of its member, then of its push service, then of all. Nobody holds a place for others while they wait.
    pub(super) async fn turn<'a>(&'a self, pulse: &'a Pulse) -> Option<[SemaphorePermit<'a>; 3]> {
        let member = self.own.acquire().await.ok()?;
        let (service, all) = match pulse.is_quick() {
            true => (&pulse.quick, &self.turns.quick),
            false => (&pulse.slow, &self.turns.slow),
        };
        let service = service.acquire().await.ok()?;
        Some([member, service, all.acquire().await.ok()?])
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.turns.waiting();
        waiting.count -= 1;
        if let Some((count, _)) = waiting.members.get_mut(&self.member) {
            *count -= 1;
            if *count == 0 {
                waiting.members.remove(&self.member);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_quick_when_it_has_shown_it_and_not_after_some_slow_answers() {
        let pulse = Pulse::new();
        assert!(!pulse.is_quick(), "nobody knows");
        pulse.answered(Duration::from_millis(80));
        assert!(pulse.is_quick());
        pulse.answered(Duration::from_secs(3));
        assert!(pulse.is_quick(), "one slow answer is none");
        (0..3).for_each(|_| pulse.answered(Duration::from_secs(3)));
        assert!(!pulse.is_quick());
    }

    #[test]
    fn when_many_wait_each_member_has_few() {
        let turns = Turns::new();
        let member = |number: u16| {
            let mut id = [0; 12];
            id[..2].copy_from_slice(&number.to_be_bytes());
            MemberId::from_bytes(id)
        };
        let queue = |number: u16| -> Vec<_> { (0..60).map_while(|_| turns.queue(member(number))).collect() };
        let first: Vec<Vec<Ticket<'_>>> = (0..26).map(queue).collect();
        assert!(first[..25].iter().all(|tickets| tickets.len() == WAITING_OF_MEMBER));
        assert_eq!(first[25].len(), OF_MEMBER);
        drop(first);
        let left = turns.waiting();
        assert_eq!((left.count, left.members.len()), (0, 0));
    }
}
