//! Since when work may be half done: batches that are under way, and what was abandoned, by this node or by one that died.
//!
//! The first two are said with each beat, so that whoever finds this node dead looks far enough back: a batch that waited for a
//! database that was away may be much older than the last beat. What was abandoned is looked for twice ([`super::recovery`]): at once, and
//! when all that had been sent must have ended, because it may be stored late.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::Timestamp;
use tokio::time::Instant;

/// Times from which something was abandoned that are told apart. Of more, the oldest ones are one.
const ABANDONED: usize = 16;

/// What may be half done.
pub(super) struct Unsettled {
    /// All that this node has sent ends within this time.
    settled: Duration,
    work: Mutex<Work>,
}

#[derive(Default)]
struct Work {
    /// When each batch under way began, by our clock, as the ids of its messages say, and its number.
    open: BTreeSet<(Timestamp, u64)>,
    number: u64,
    /// In the order in which it was abandoned.
    abandoned: Vec<Abandoned>,
}

/// Something that ended without a known outcome.
#[derive(Clone, Copy)]
struct Abandoned {
    /// When it began.
    since: Timestamp,
    /// What it had sent was sent by then.
    ended: Instant,
    /// And ends within this time.
    settled: Duration,
    /// It was looked for.
    looked: bool,
}

impl Abandoned {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.ended) >= self.settled
    }
}

impl Work {
    fn abandon(&mut self, abandoned: Abandoned) {
        self.abandoned.push(abandoned);
        if self.abandoned.len() > ABANDONED {
            let first = self.abandoned.remove(0);
            if let Some(next) = self.abandoned.first_mut() {
                next.since = next.since.min(first.since);
                next.looked &= first.looked;
                next.settled = next.settled.max(first.settled);
            }
        }
    }
}

/// A batch that is under way, until it is dropped.
pub(super) struct Batch<'a> {
    unsettled: &'a Unsettled,
    place: (Timestamp, u64),
}

impl Unsettled {
    /// Nothing is half done. All that this node sends ends within a time.
    pub(super) fn new(settled: Duration) -> Self {
        Self { settled, work: Mutex::default() }
    }

    /// A batch begins.
    pub(super) fn batch(&self, now: Timestamp) -> Batch<'_> {
        let mut work = self.lock();
        work.number += 1;
        let place = (now, work.number);
        work.open.insert(place);
        Batch { unsettled: self, place }
    }

    /// When the oldest began of what is under way, or was abandoned.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let work = self.lock();
        let open = work.open.first().map(|(at, _)| *at);
        open.into_iter().chain(work.abandoned.iter().map(|abandoned| abandoned.since)).min()
    }

    /// Since when it is to be looked now for what was abandoned.
    pub(super) fn due(&self, now: Instant) -> Option<Timestamp> {
        let work = self.lock();
        let due = work.abandoned.iter().filter(|abandoned| !abandoned.looked || abandoned.is_over(now));
        due.map(|abandoned| abandoned.since).min()
    }

    /// What was due at a moment was looked for, and is finished.
    pub(super) fn finished(&self, looked: Instant) {
        let mut work = self.lock();
        work.abandoned.retain(|abandoned| !abandoned.is_over(looked));
        for abandoned in work.abandoned.iter_mut().filter(|abandoned| abandoned.ended <= looked) {
            abandoned.looked = true;
        }
    }

    /// The work of a node that died was looked for at a moment: it is to be looked for once more when all that it had sent has ended.
    pub(super) fn inherit(&self, since: Timestamp, looked: Instant, settled: Duration) {
        self.lock().abandon(Abandoned { since, ended: looked, settled, looked: true });
    }

    /// Held for some instructions, and never across a call that could panic.
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch<'_> {
    /// It ends, and what became of it is not known.
    pub(super) fn abandon(self) {
        self.record_abandoned();
    }

    fn record_abandoned(&self) {
        let (since, _) = self.place;
        let settled = self.unsettled.settled;
        self.unsettled.lock().abandon(Abandoned { since, ended: Instant::now(), settled, looked: false });
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.record_abandoned();
        }
        self.unsettled.lock().open.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLED: Duration = Duration::from_secs(10);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn due(unsettled: &Unsettled) -> Option<Timestamp> {
        unsettled.due(Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_abandoned_is_looked_for_at_once_and_when_it_must_have_ended() {
        let unsettled = Unsettled::new(SETTLED);
        let (first, second) = (unsettled.batch(at(5)), unsettled.batch(at(9)));
        assert_eq!((unsettled.since(), due(&unsettled)), (Some(at(5)), None));
        drop(first);
        second.abandon();
        assert_eq!((unsettled.since(), due(&unsettled)), (Some(at(9)), Some(at(9))));
        let looked = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        unsettled.batch(at(12)).abandon();
        unsettled.finished(looked);
        assert_eq!(due(&unsettled), Some(at(12)), "the first was looked for");
        unsettled.finished(Instant::now());
        assert_eq!((unsettled.since(), due(&unsettled)), (Some(at(9)), None));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(due(&unsettled), Some(at(9)), "it may have been stored late");
        unsettled.finished(Instant::now());
        assert_eq!(unsettled.since(), Some(at(12)), "the older one holds nothing back any more");
        tokio::time::advance(Duration::from_secs(9)).await;
        unsettled.finished(Instant::now());
        assert_eq!(unsettled.since(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_work_of_a_dead_node_is_looked_for_once_more() {
        let unsettled = Unsettled::new(SETTLED);
        // Its commands may take longer than ours.
        unsettled.inherit(at(5), Instant::now(), 3 * SETTLED);
        assert_eq!(due(&unsettled), None);
        tokio::time::advance(2 * SETTLED).await;
        assert_eq!(due(&unsettled), None);
        tokio::time::advance(SETTLED).await;
        assert_eq!(due(&unsettled), Some(at(5)));
        unsettled.finished(Instant::now());
        assert_eq!(due(&unsettled), None);
    }

    #[tokio::test(start_paused = true)]
    async fn however_often_something_is_abandoned_it_is_bounded() {
        let unsettled = Unsettled::new(SETTLED);
        for number in 0..100 {
            unsettled.batch(at(100 - number)).abandon();
        }
        assert_eq!(unsettled.lock().abandoned.len(), ABANDONED);
        assert_eq!(due(&unsettled), Some(at(1)));
    }
}
