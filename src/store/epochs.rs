//! Epochs: parts of a store's life within which positions only grow.
//!
//! A position alone does not say that it is still good: a store that was restored from a backup gives the same
//! positions to other changes, and a clock of a database that goes back gives new changes positions that cursors have
//! passed already. So a cursor names the epoch that its position belongs to. A store begins a new epoch whenever it
//! cannot know what was told since it last recorded its position: each time a server opens an SQLite file, and on
//! MongoDB after a pause and after a step of the clock. What is kept of a former epoch is its last position that is
//! still good; a position beyond it is of a future that the store does not know (any more), and so is one of an epoch
//! that is not in the list at all.

use crate::position::{Epoch, Position, StreamPosition};

/// A former epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Former {
    /// Which.
    pub epoch: Epoch,
    /// Its last position that is still good.
    pub end: Position,
}

/// Most former epochs that a store knows; cursors of older ones lead to the full state.
pub const FORMER_MAX: usize = 256;

/// The epochs of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epochs {
    current: Epoch,
    /// The latest one last.
    former: Vec<Former>,
}

impl Epochs {
    /// The epochs that a store has recorded.
    #[must_use]
    pub fn new(current: Epoch, former: Vec<Former>) -> Self {
        Self { current, former }
    }

    /// The one of now.
    #[must_use]
    pub fn current(&self) -> Epoch {
        self.current
    }

    /// Those before, the latest one last.
    #[must_use]
    pub fn former(&self) -> &[Former] {
        &self.former
    }

    /// Whether a place is still good: of the current epoch, or of a former one and not beyond its end.
    #[must_use]
    pub fn accepts(&self, place: StreamPosition) -> bool {
        if place.epoch == Epoch::NONE {
            return false;
        }
        let in_former = |former: &Former| former.epoch == place.epoch && place.position <= former.end;
        place.epoch == self.current || self.former.iter().any(in_former)
    }

    /// These epochs with a new one after them, for a store in which nothing beyond `end` counts any more.
    #[must_use]
    pub fn with_new(&self, epoch: Epoch, end: Position) -> Self {
        let all = self.former.iter().copied().chain([Former { epoch: self.current, end }]);
        // What a store went back behind is gone for every epoch.
        let mut former: Vec<Former> = all.map(|former| Former { end: former.end.min(end), ..former }).collect();
        former.drain(..former.len().saturating_sub(FORMER_MAX));
        Self { current: epoch, former }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(epoch: u8, position: u64) -> StreamPosition {
        StreamPosition { epoch: Epoch([epoch; 8]), position: Position(position) }
    }

    fn first() -> Epochs {
        Epochs::new(Epoch([1; 8]), Vec::new())
    }

    #[test]
    fn a_position_beyond_the_end_of_its_epoch_is_of_a_lost_future() {
        // A backup of position 21, restored when 31 had been told.
        let restored = first().with_new(Epoch([2; 8]), Position(21));
        assert!(restored.accepts(place(1, 21)) && !restored.accepts(place(1, 22)) && !restored.accepts(place(1, 31)));
        assert!(restored.accepts(place(2, 31)));
        assert!(!restored.accepts(place(3, 1)), "an epoch that began after the backup was taken");
        assert!(!restored.accepts(StreamPosition::NOWHERE));
    }

    #[test]
    fn only_the_latest_epochs_are_kept() {
        let number = |number: usize| Epoch((number as u64 + 1).to_be_bytes());
        let many = (1..FORMER_MAX + 10).fold(Epochs::new(number(0), Vec::new()), |epochs, each| {
            epochs.with_new(number(each), Position(each as u64))
        });
        assert_eq!(many.former().len(), FORMER_MAX);
        assert!(!many.accepts(StreamPosition { epoch: number(0), position: Position(0) }));
    }

    proptest! {
        /// Against a plain model: each epoch told positions up to what it had reached; a place is good if nothing was
        /// taken back behind it afterwards.
        #[test]
        fn a_place_is_good_unless_the_store_went_back_behind_it(ends in prop::collection::vec(0_u64..50, 1..20)) {
            let mut epochs = first();
            for (number, end) in (2_u8..).zip(&ends) {
                epochs = epochs.with_new(Epoch([number; 8]), Position(*end));
            }
            for epoch in 1..=ends.len() {
                let lowest = ends[epoch - 1..].iter().copied().min().unwrap();
                for position in 0..60 {
                    let number = u8::try_from(epoch).unwrap();
                    prop_assert_eq!(epochs.accepts(place(number, position)), position <= lowest);
                }
            }
        }
    }
}
