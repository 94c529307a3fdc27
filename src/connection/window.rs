//! Counting events within a minute.

use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// How many events there were in the current minute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    since: Instant,
    count: u32,
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, count: 0 }
    }

    /// Counts an event; true if there were more than `max` in this minute.
    pub(super) fn exceeds(&mut self, max: u32, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= MINUTE {
            *self = Self::new(now);
        }
        self.count += 1;
        self.count > max
    }
}
