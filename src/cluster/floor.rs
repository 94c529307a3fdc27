//! The floor of a node, for everybody who makes cursors.

use std::sync::{PoisonError, RwLock};

use crate::position::StreamPosition;

/// Up to where everything that any node has stored has been delivered here ([`super::Roster::floor`]).
#[derive(Debug, Default)]
pub struct Floor(RwLock<Option<StreamPosition>>);

impl Floor {
    /// A floor for a store that other nodes share: nothing is known of it yet.
    #[must_use]
    pub fn shared() -> Self {
        Self(RwLock::new(Some(StreamPosition::NOWHERE)))
    }

    /// Moves it. Nothing happens for a store that no other node shares.
    pub fn set(&self, place: StreamPosition) {
        let mut floor = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *floor = floor.map(|_| place);
    }

    /// What this node has published, but no more than what it has heard of all others.
    #[must_use]
    pub fn limit(&self, published: StreamPosition) -> StreamPosition {
        let floor = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        match floor {
            None => published,
            Some(floor) if floor.epoch == published.epoch => {
                StreamPosition { position: published.position.min(floor.position), ..published }
            }
            Some(_) => StreamPosition::NOWHERE,
        }
    }
}
