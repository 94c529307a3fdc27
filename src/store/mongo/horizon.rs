//! Positions without a common counter.
//!
//! Several nodes write at the same time, so no counter of ours can order all changes without becoming the one document
//! that everybody waits for. A position is a time instead, by the clock of the database, in milliseconds:
//!
//! 1. A change is *stamped* by the database (`$currentDate` in `conversations.changed`) while the command runs that
//!    records it. The server ends a command that runs longer than its `maxTimeMS`, so the change is applied at most
//!    `maxTimeMS` after its stamp.
//! 2. A *beat* is a write of the same kind that a majority has: at its stamp `at` the primary had applied every change
//!    stamped `maxTimeMS` or more before `at`; and when a majority has the beat, it has those too, since the log of
//!    the replica set is in order. Reads see what a majority has.
//! 3. So the *horizon*, `at` less the window, has everything stamped up to it behind it, visible, for ever; and every
//!    change that begins after the beat gets a later stamp. The window is `maxTimeMS` and [`SKEW`], which covers what
//!    the clocks of two database servers differ by when one takes over from the other.
//!
//! A cursor is the horizon at the moment of the read. It lies some seconds behind, so a sync may repeat what the client
//! knows: it is state, so that changes nothing. No clock of ours is in the argument, and no wait of ours: while the
//! database stands still no beat comes back, and the horizon stands still too.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mongodb::bson::DateTime;
use tokio::time::Instant;

use super::document::millis;

/// What the clocks of the servers of one replica set may differ by.
pub(super) const SKEW: Duration = Duration::from_secs(3);

/// How far the past is complete.
pub(super) struct Horizon {
    /// Milliseconds.
    window: u64,
    /// The latest beat, in milliseconds; 0 before the first.
    beat: AtomicU64,
    /// The latest beat and when we asked for it: what the database's clock shows about now.
    clock: Mutex<Option<(u64, Instant)>>,
}

impl Horizon {
    pub(super) fn new(window: Duration) -> Self {
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        Self { window, beat: AtomicU64::new(0), clock: Mutex::new(None) }
    }

    /// A beat with this stamp has a majority.
    pub(super) fn advance(&self, at: DateTime, asked: Instant) {
        let at = millis(at);
        self.beat.fetch_max(at, Ordering::AcqRel);
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, asked));
    }

    /// Everything stamped up to here is visible.
    pub(super) fn now(&self) -> u64 {
        self.beat.load(Ordering::Acquire).saturating_sub(self.window)
    }

    /// About what the database's clock shows. For what need not be exact.
    pub(super) fn estimate(&self) -> DateTime {
        let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, asked) = clock.unwrap_or((0, Instant::now()));
        let passed = u64::try_from(asked.elapsed().as_millis()).unwrap_or(0);
        DateTime::from_millis(super::document::signed(at.saturating_add(passed)))
    }

    /// Whether a position is of another time than ours: no node of this database can have given it yet. Another node's
    /// latest beat may be later than ours by a little.
    pub(super) fn is_beyond(&self, position: u64) -> bool {
        position > self.beat.load(Ordering::Acquire).saturating_add(self.window + BEYOND)
    }

    /// How much earlier than its stamp in the conversation an entry's own stamp may be, in milliseconds.
    pub(super) fn window(&self) -> u64 {
        self.window
    }
}

/// Milliseconds: many beats.
const BEYOND: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_horizon_lies_a_window_behind_the_latest_beat_and_never_goes_back() {
        let horizon = Horizon::new(Duration::from_secs(8));
        assert_eq!(horizon.now(), 0);
        horizon.advance(DateTime::from_millis(100_000), Instant::now());
        assert_eq!(horizon.now(), 92_000);
        // Another server with a slower clock has taken over.
        horizon.advance(DateTime::from_millis(99_000), Instant::now());
        assert_eq!(horizon.now(), 92_000);
        assert!(!horizon.is_beyond(101_000) && horizon.is_beyond(200_000));
    }
}
