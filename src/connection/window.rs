//! Counting events within a minute.

use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// How many events there were in the current minute. Allocates with the first, which most connections never have.
#[derive(Debug, Default)]
pub(super) struct Window(Option<Box<Minute>>);

#[derive(Debug)]
struct Minute {
    since: Instant,
    count: u32,
}

impl Window {
    /// Counts an event; true if there were more than `max` in this minute.
    pub(super) fn exceeds(&mut self, max: u32, now: Instant) -> bool {
        let minute = self.0.get_or_insert_with(|| Box::new(Minute { since: now, count: 0 }));
        if now.saturating_duration_since(minute.since) >= MINUTE {
            (minute.since, minute.count) = (now, 0);
        }
        minute.count += 1;
        minute.count > max
    }
}
