//! How the writer is: whether what it writes comes to the disk, and in time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::StoreError;

/// How the writer is.
#[derive(Default)]
pub(super) struct Health(Mutex<Wellbeing>);

pub(super) struct Wellbeing {
    /// The first failure since which nothing that was written has come to the disk.
    pub(super) last: Result<(), StoreError>,
    /// When the transaction that is under way, or is followed by a checkpoint, began.
    pub(super) busy_since: Option<Instant>,
}

impl Default for Wellbeing {
    fn default() -> Self {
        Self { last: Ok(()), busy_since: None }
    }
}

impl Health {
    /// Held for a few instructions and never across a call that could panic.
    pub(super) fn lock(&self) -> MutexGuard<'_, Wellbeing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs the first failure and the first success after it; remembers which it is. A transaction that wrote nothing
    /// says nothing about the disk.
    pub(super) fn note(&self, failure: Option<&StoreError>, wrote: bool) {
        let mut state = self.lock();
        match (failure, &state.last) {
            (Some(error), Ok(())) => tracing::error!(%error, "the store cannot be written; nothing is acknowledged"),
            (None, Err(_)) if wrote => tracing::info!("the store can be written again"),
            (Some(_), Err(_)) => {}
            (None, _) => return,
        }
        state.last = failure.map_or(Ok(()), |error| Err(error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::unavailable;

    #[test]
    fn only_what_was_written_shows_that_the_disk_takes_something_again() {
        let health = Health::default();
        let is_good = || health.lock().last.is_ok();
        health.note(Some(&unavailable("no space")), false);
        assert!(!is_good());
        // The purge that found nothing.
        health.note(None, false);
        assert!(!is_good());
        health.note(None, true);
        assert!(is_good());
    }
}
