//! Counts, latencies, broken rules.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

/// Broken rules that are kept with their words; more are only counted.
const KEPT: usize = 20;

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Count {
    /// Connections that were opened.
    Connected,
    /// Connections that were dropped on purpose.
    Dropped,
    /// Connections that the server closed or that broke.
    Lost,
    /// Messages that were sent, retries not counted.
    Sent,
    /// Messages that were sent again after their connection was gone.
    Retried,
    /// Messages that were acknowledged.
    Acknowledged,
    /// Acknowledgements that said `duplicate`.
    Duplicate,
    /// Messages that were pushed to their receiver.
    Pushed,
    /// Entries that came by sync or history instead.
    CaughtUp,
    /// Receipts that reached the sender.
    Receipts,
    /// Requests that the server asked to send again later.
    PutOff,
}

/// Something whose time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timing {
    /// From the first attempt to send a message until its acknowledgement.
    Acknowledgement,
    /// From the first attempt to send a message until it is pushed to the receiver.
    Delivery,
    /// From opening a connection until the end of its sync.
    Sync,
}

/// What a run has found out.
pub(crate) struct Stats {
    counts: [AtomicU64; 11],
    timings: Mutex<BTreeMap<Timing, Histogram<u64>>>,
    broken: Mutex<(u64, Vec<String>)>,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self { counts: Default::default(), timings: Mutex::default(), broken: Mutex::default() }
    }

    pub(crate) fn count(&self, count: Count) {
        if let Some(counter) = self.counts.get(count as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn total(&self, count: Count) -> u64 {
        self.counts.get(count as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    pub(crate) fn time(&self, timing: Timing, took: Duration) {
        let mut timings = lock(&self.timings);
        // Microseconds, up to an hour, to three digits: a histogram like that can always be made.
        let histogram = timings.entry(timing).or_insert_with(|| {
            Histogram::new_with_max(3_600_000_000, 3).unwrap_or_else(|_| unreachable!("fixed bounds"))
        });
        histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// The distribution of a timing, in microseconds.
    pub(crate) fn distribution(&self, timing: Timing) -> Option<Histogram<u64>> {
        lock(&self.timings).get(&timing).cloned()
    }

    /// A rule was broken.
    pub(crate) fn broken(&self, rule: String) {
        let mut broken = lock(&self.broken);
        broken.0 += 1;
        if broken.1.len() < KEPT {
            broken.1.push(rule);
        }
    }

    /// How many rules were broken, and the first of them.
    pub(crate) fn violations(&self) -> (u64, Vec<String>) {
        lock(&self.broken).clone()
    }
}

/// Nothing panics while one of these is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
