//! How far the lanes have come, and which of them wait for the store.

use std::{
    iter,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{position::StreamPosition, service::awaited::Awaited};

/// What the lanes tell everybody.
pub(super) struct Progress {
    /// For each lane, the store's horizon when its batch began: what the batch does gets larger positions, or is of
    /// another epoch. Nothing while it has none.
    floors: Box<[Mutex<Option<StreamPosition>>]>,
    /// For each lane, whether the store has not answered it in time; its new commands fail at once until it does.
    stalled: Box<[AtomicBool]>,
    /// Entries that may not have been published yet, though their lanes are beyond them.
    awaited: Arc<Awaited>,
}

impl Progress {
    /// Nothing is known of any lane yet.
    pub(super) fn new(lanes: usize, awaited: Arc<Awaited>) -> Self {
        Self {
            awaited,
            floors: (0..lanes).map(|_| Mutex::default()).collect(),
            stalled: (0..lanes).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    pub(super) fn floor(&self, lane: usize) -> Option<StreamPosition> {
        self.floors.get(lane).and_then(|floor| *floor.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_stalled(&self, lane: usize, stalled: bool) {
        if let Some(own) = self.stalled.get(lane) {
            own.store(stalled, Ordering::Relaxed);
        }
    }

    pub(super) fn is_stalled(&self, lane: usize) -> bool {
        self.stalled.get(lane).is_some_and(|stalled| stalled.load(Ordering::Relaxed))
    }

    /// Whether any lane waits for the store.
    pub(super) fn is_any_stalled(&self) -> bool {
        self.stalled.iter().any(|stalled| stalled.load(Ordering::Relaxed))
    }

    /// Everything up to here is durable and in the outboxes of those who are connected: the horizon, unless a lane is
    /// at work whose events may be earlier.
    ///
    /// The horizon is read first. A batch that begins after that gets larger positions, and one that began before
    /// shows in its floor until its events are out. While one is at work that began in another epoch, there is no place
    /// that would be right.
    pub(super) fn published(&self, horizon: StreamPosition) -> StreamPosition {
        let floors = self.floors.iter().filter_map(|floor| *floor.lock().unwrap_or_else(PoisonError::into_inner));
        // After those: a lane says what it waits for before it goes on.
        floors.chain(iter::once_with(|| self.awaited.floor()).flatten()).fold(horizon, |published, floor| {
            let position = published.position.min(floor.position);
            if floor.epoch == published.epoch {
                StreamPosition { position, ..published }
            } else {
                StreamPosition::NOWHERE
            }
        })
    }

    /// Sets the floor of a lane.
    pub(super) fn set_floor(&self, lane: usize, floor: Option<StreamPosition>) {
        if let Some(own) = self.floors.get(lane) {
            *own.lock().unwrap_or_else(PoisonError::into_inner) = floor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::Uplink,
        position::{Epoch, Position},
    };

    fn place(epoch: u8, position: u64) -> StreamPosition {
        StreamPosition { epoch: Epoch([epoch; 8]), position: Position(position) }
    }

    #[test]
    fn one_lane_that_hangs_is_not_forgotten_when_another_one_recovers() {
        let progress = Progress::new(3, Arc::new(Awaited::new(Uplink::default())));
        progress.set_stalled(0, true);
        progress.set_stalled(1, true);
        progress.set_stalled(0, false);
        assert!(progress.is_any_stalled());
        assert_eq!([0, 1, 2].map(|lane| progress.is_stalled(lane)), [false, true, false], "others are served");
        progress.set_stalled(1, false);
        assert!(!progress.is_any_stalled());
    }

    #[test]
    fn what_a_busy_lane_has_not_told_is_not_published() {
        let progress = |floors: &[Option<StreamPosition>]| Progress {
            floors: floors.iter().map(|floor| Mutex::new(*floor)).collect(),
            ..Progress::new(0, Arc::new(Awaited::new(Uplink::default())))
        };
        assert_eq!(progress(&[None, None]).published(place(1, 9)), place(1, 9));
        assert_eq!(progress(&[Some(place(1, 4)), Some(place(1, 7))]).published(place(1, 9)), place(1, 4));
        // The clock of the database has gone back: positions of before say nothing about those of now.
        assert_eq!(progress(&[None, Some(place(1, 40))]).published(place(2, 9)), StreamPosition::NOWHERE);
        assert_eq!(progress(&[Some(place(1, 40)), Some(place(2, 5))]).published(place(2, 9)), StreamPosition::NOWHERE);
    }
}
