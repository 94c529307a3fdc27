//! What a connection is typing in, and until when.

use std::time::Duration;

use protocol::limits::{TYPING_MAX, TYPING_TTL_MS};
use tokio::time::Instant;

use crate::service::messaging::Target;

/// Where the member at this connection is typing. Allocates with the first place.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "8 bytes instead of 24, for every idle connection")]
pub(super) struct Typing(Option<Box<Vec<(Target, Instant)>>>);

impl Typing {
    /// The member types; returns where they have to stop typing because it is one place too many.
    pub(super) fn start(&mut self, target: Target, now: Instant) -> Option<Target> {
        self.stop(target);
        let places = self.0.get_or_insert_default();
        let oldest = (places.len() >= TYPING_MAX).then(|| places.remove(0).0);
        places.push((target, now + Duration::from_millis(TYPING_TTL_MS)));
        oldest
    }

    /// The member has stopped typing there.
    pub(super) fn stop(&mut self, target: Target) {
        if let Some(places) = &mut self.0 {
            places.retain(|(known, _)| *known != target);
        }
    }

    /// Takes out where the member has not repeated it in time.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Target> {
        self.take(|until| until <= now)
    }

    /// Takes everything out: the connection has ended.
    pub(super) fn end(&mut self) -> Vec<Target> {
        self.take(|_| true)
    }

    /// When the next one expires.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref()?.iter().map(|(_, until)| *until).min()
    }

    fn take(&mut self, which: impl Fn(Instant) -> bool) -> Vec<Target> {
        let Some(places) = &mut self.0 else { return Vec::new() };
        let taken = places.extract_if(.., |(_, until)| which(*until)).map(|(target, _)| target).collect();
        if places.is_empty() {
            // Given back until it is needed again.
            self.0 = None;
        }
        taken
    }
}
