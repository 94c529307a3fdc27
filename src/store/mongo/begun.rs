//! Since when this node may have work half done: batches that are under way, and those that ended without a known outcome.
//!
//! It is said with each beat, so that whoever finds this node dead looks far enough back: a batch that waited for a database that
//! was away may be much older than the last beat. What was left by a batch that ended, this node finishes itself ([`super::recovery`]).

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::Timestamp;
use tokio::time::Instant;

/// The batches that have begun.
#[derive(Default)]
pub(super) struct Begun(Mutex<Batches>);

#[derive(Default)]
struct Batches {
    /// When each of those under way began, by our clock, as the ids of its messages say, and its number.
    open: BTreeSet<(Timestamp, u64)>,
    number: u64,
    left: Option<Left>,
}

/// What batches have left that ended without a known outcome.
#[derive(Clone, Copy)]
struct Left {
    /// When the first of them began.
    since: Timestamp,
    /// When the last of them ended.
    ended: Instant,
}

/// A batch that is under way, until it is dropped.
pub(super) struct Batch<'a> {
    begun: &'a Begun,
    place: (Timestamp, u64),
}

impl Begun {
    /// A batch begins.
    pub(super) fn batch(&self, now: Timestamp) -> Batch<'_> {
        let mut batches = self.lock();
        batches.number += 1;
        let place = (now, batches.number);
        batches.open.insert(place);
        Batch { begun: self, place }
    }

    /// When the oldest began of what is under way, or was left.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let batches = self.lock();
        let open = batches.open.first().map(|(at, _)| *at);
        open.into_iter().chain(batches.left.map(|left| left.since)).min()
    }

    /// When the first began of what was left.
    pub(super) fn left(&self) -> Option<Timestamp> {
        self.lock().left.map(|left| left.since)
    }

    /// What was left has been finished, as it was found at this moment. It is forgotten, if all that it had sent had ended by then: it
    /// ends within `settled`.
    pub(super) fn finished(&self, found: Instant, settled: Duration) {
        let mut batches = self.lock();
        batches.left = batches.left.filter(|left| found.saturating_duration_since(left.ended) < settled);
    }

    /// Held for some instructions, and never across a call that could panic.
    fn lock(&self) -> MutexGuard<'_, Batches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch<'_> {
    /// It ends, and what became of it is not known.
    pub(super) fn leave(self) {
        self.leave_half_done();
    }

    fn leave_half_done(&self) {
        let (since, _) = self.place;
        let mut batches = self.begun.lock();
        let since = batches.left.map_or(since, |left| left.since.min(since));
        batches.left = Some(Left { since, ended: Instant::now() });
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.leave_half_done();
        }
        self.begun.lock().open.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_or_was_left_is_known_until_it_is_finished() {
        let (begun, at, settled) = (Begun::default(), Timestamp::from_millis, Duration::from_secs(10));
        assert_eq!((begun.since(), begun.left()), (None, None));
        let (first, second) = (begun.batch(at(5)), begun.batch(at(9)));
        assert_eq!(begun.since(), Some(at(5)));
        drop(first);
        assert_eq!(begun.since(), Some(at(9)));
        second.leave();
        begun.batch(at(12)).leave();
        assert_eq!(begun.since(), Some(at(9)));
        begun.finished(Instant::now(), settled);
        assert_eq!(begun.left(), Some(at(9)), "what was sent may still happen");
        tokio::time::advance(settled).await;
        begun.batch(at(20)).leave();
        begun.finished(Instant::now(), settled);
        assert_eq!(begun.left(), Some(at(9)), "something was left meanwhile");
        tokio::time::advance(settled).await;
        begun.finished(Instant::now(), settled);
        assert_eq!((begun.since(), begun.left()), (None, None));
    }
}
