//! The clock that decides which links are good and which mails are due: the one that all nodes share, where there is one.
//!
//! By its own a node that is behind would take what others have in hand for late, and links of others for good that have ended; one that is
//! ahead would take it from them, and refuse links that are good. So does a command that makes a link beside servers.

use std::sync::Arc;

use protocol::Timestamp;
use tokio::time::Instant;

use crate::{clock::Clock, store::FleetStore};

/// The clock that all nodes share, or the own one.
pub struct SharedClock {
    own: Arc<dyn Clock>,
    shared: Option<Arc<dyn FleetStore>>,
}

impl SharedClock {
    /// That of a store which others may use too, or this one.
    #[must_use]
    pub fn new(own: Arc<dyn Clock>, shared: Option<Arc<dyn FleetStore>>) -> Self {
        Self { own, shared }
    }

    /// When it is. Its own time until the store has answered once.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let shared = self.shared.as_ref().and_then(|shared| shared.reading());
        shared.map_or_else(|| self.own.now(), |reading| reading.shows_at(Instant::now()))
    }

    /// Whether no other process uses the store.
    #[must_use]
    pub const fn is_alone(&self) -> bool {
        self.shared.is_none()
    }
}
