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
//!    change that begins after the beat gets a later stamp. The window is `maxTimeMS` and [`super::beats::SKEW`], which covers what
//!    the clocks of two database servers differ by when one takes over from the other.
//!
//! Nodes may have different `maxTimeMS`, so the window is that of the node with the largest one. Whoever joins is listed by the others
//! within some beats, and what it stores has stamps that their horizons have not reached by then. A window that has been wide stays so
//! until the process ends: nobody has to find out when the last command of a node has ended that has left.
//!
//! The window is only as good as that clock: [`super::beats`] watches it, and a clock that goes back further begins a new
//! epoch, with a horizon of its own.
//!
//! A cursor is the horizon at the moment of the read. It lies some seconds behind, so a sync may repeat what the client
//! knows: it is state, so that changes nothing. No clock of ours is in the argument, and no wait of ours: while the
//! database stands still no beat comes back, and the horizon stands still too.

use std::{
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mongodb::bson::DateTime;
use protocol::Timestamp;
use tokio::time::Instant;

use super::document::{date, millis};
use crate::{
    position::{Epoch, Position, StreamPosition},
    store::{epochs::Epochs, fleet::ClockReading},
};

/// How far the past is complete, and in which epoch.
pub(super) struct Horizon {
    /// Milliseconds. Only grows.
    window: AtomicU64,
    /// Read with every pong, written with every beat.
    known: RwLock<Known>,
    /// The latest beat: what the database's clock shows about now.
    clock: Mutex<Option<ClockReading>>,
}

struct Known {
    epochs: Epochs,
    /// What cursors are made from, in milliseconds; 0 before the first beat of the epoch.
    believed: u64,
}

impl Horizon {
    pub(super) fn new(window: Duration) -> Self {
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let known = Known { epochs: Epochs::new(Epoch::NONE, Vec::new()), believed: 0 };
        Self { window: window.into(), known: RwLock::new(known), clock: Mutex::new(None) }
    }

    /// The commands of another node may take so long that its changes are visible only this far behind the clock. Returns by how many
    /// milliseconds that is further than what was known.
    pub(super) fn widen(&self, window: Duration) -> u64 {
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        window.saturating_sub(self.window.fetch_max(window, Ordering::AcqRel))
    }

    /// Everything stamped before this time of the database, less the window, is visible. Nothing happens if the epoch is
    /// another one by now.
    pub(super) fn advance(&self, epoch: Epoch, believed: u64) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.epochs.current() == epoch {
            known.believed = known.believed.max(believed);
        }
    }

    /// Goes on in other epochs, the current one of which has come to this time.
    pub(super) fn enter(&self, epochs: Epochs, believed: u64) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known { epochs, believed };
    }

    /// The epochs.
    pub(super) fn epochs(&self) -> Epochs {
        self.known.read().unwrap_or_else(PoisonError::into_inner).epochs.clone()
    }

    /// Everything stamped up to here is visible.
    pub(super) fn now(&self) -> StreamPosition {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let position = Position(known.believed.saturating_sub(self.window()));
        StreamPosition { epoch: known.epochs.current(), position }
    }

    /// Whether a place is one that a node of this database can have given, and that is still good.
    pub(super) fn accepts(&self, place: StreamPosition) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        // Another node's latest beat may be later than ours by a little.
        let beyond = known.believed.saturating_add(self.window() + BEYOND);
        place.position.0 <= beyond && known.epochs.accepts(place)
    }

    /// The database's clock was read.
    pub(super) fn saw(&self, reading: ClockReading) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
    }

    /// What the database's clock showed at the latest beat; nothing before the first.
    pub(super) fn reading(&self) -> Option<ClockReading> {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// About what the database's clock shows. For what need not be exact.
    pub(super) fn estimate(&self) -> DateTime {
        date(self.reading().map_or(Timestamp::from_millis(0), |reading| reading.shows_at(Instant::now())))
    }

    /// No change has a later stamp that was made before this was called, as far as the clock of the database goes on from its latest beat.
    pub(super) fn latest(&self) -> Position {
        // It may have been read as early as it was asked for.
        let shown = |reading: ClockReading| millis(date(reading.shows_at(Instant::now() + reading.round_trip() / 2)));
        Position(self.reading().map_or(u64::MAX >> 2, shown))
    }

    /// How much earlier than its stamp in the conversation an entry's own stamp may be, in milliseconds.
    pub(super) fn window(&self) -> u64 {
        self.window.load(Ordering::Acquire)
    }
}

/// Milliseconds: many beats.
const BEYOND: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_lies_a_window_behind_and_begins_anew_with_an_epoch() {
        let horizon = Horizon::new(Duration::from_secs(8));
        let (one, two) = (Epoch([1; 8]), Epoch([2; 8]));
        horizon.enter(Epochs::new(one, Vec::new()), 0);
        assert_eq!(horizon.now(), StreamPosition { epoch: one, position: Position(0) });
        horizon.advance(one, 100_000);
        horizon.advance(one, 99_000);
        assert_eq!(horizon.now(), StreamPosition { epoch: one, position: Position(92_000) });
        let at = |epoch, position| horizon.accepts(StreamPosition { epoch, position: Position(position) });
        assert!(at(one, 101_000) && !at(one, 200_000) && !at(two, 1));
        horizon.enter(horizon.epochs().with_new(two, Position(60_000)), 70_000);
        horizon.advance(one, 110_000);
        assert_eq!(
            horizon.now(),
            StreamPosition { epoch: two, position: Position(62_000) },
            "never a new epoch with an old time"
        );
        assert!(at(one, 60_000) && !at(one, 60_001) && at(two, 61_000));
        // Another node with longer commands is there.
        assert_eq!((horizon.widen(Duration::from_secs(33)), horizon.widen(Duration::from_secs(8))), (25_000, 0));
        assert_eq!(horizon.now(), StreamPosition { epoch: two, position: Position(37_000) });
    }
}
