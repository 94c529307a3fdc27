//! Positions in the stream of a store's changes: what cursors are made of.

/// A place in the order of all durable changes of a store; larger is later. What a cursor carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// Identifies an epoch; drawn at random, so unique among all stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub [u8; 8]);

impl Epoch {
    /// No epoch of any store: a cursor of it leads to the full state.
    pub const NONE: Self = Self([0; 8]);
}

/// A position of a certain epoch. What a cursor carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPosition {
    /// The epoch.
    pub epoch: Epoch,
    /// The position in it.
    pub position: Position,
}

impl StreamPosition {
    /// Nowhere: no store accepts it.
    pub const NOWHERE: Self = Self { epoch: Epoch::NONE, position: Position(0) };

    /// A place so much before this one.
    #[must_use]
    pub fn less(self, by: u64) -> Self {
        Self { position: Position(self.position.0.saturating_sub(by)), ..self }
    }
}
