//! What a connection is typing in, and until when.

use std::time::Duration;

use protocol::limits::{TYPING_MAX, TYPING_TTL_MS};
use tokio::time::Instant;

use crate::service::messaging::Target;

/// Where the member at this connection is typing. Allocates with the first place.
#[derive(Debug, Default)]
pub(super) struct Typing(Vec<(Target, Instant)>);

impl Typing {
    /// The member types; returns where they have to stop typing because it is one place too many.
    pub(super) fn start(&mut self, target: Target, now: Instant) -> Option<Target> {
        self.stop(target);
        let oldest = (self.0.len() >= TYPING_MAX).then(|| self.0.remove(0).0);
        self.0.push((target, now + Duration::from_millis(TYPING_TTL_MS)));
        oldest
    }

    /// The member has stopped typing there.
    pub(super) fn stop(&mut self, target: Target) {
        self.0.retain(|(known, _)| *known != target);
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
        self.0.iter().map(|(_, until)| *until).min()
    }

    fn take(&mut self, which: impl Fn(Instant) -> bool) -> Vec<Target> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let taken = self.0.extract_if(.., |(_, until)| which(*until)).map(|(target, _)| target).collect();
        if self.0.is_empty() {
            // Given back until it is needed again.
            self.0 = Vec::new();
        }
        taken
    }
}
