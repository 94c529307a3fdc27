//! How long the other side may say nothing.

use std::time::Duration;

use tokio::time::Instant;

/// Until when the next frame has to come.
#[derive(Debug)]
pub(super) struct Silence {
    /// How long the other side may be silent, in milliseconds: half as large as a duration.
    allowed_ms: u32,
    due: Instant,
    /// No frame came until shortly before: what waits in the socket is read before the connection is given up.
    last_look: bool,
}

impl Silence {
    /// The first frame has to come within `first`.
    pub(super) fn new(first: Duration, allowed: Duration, now: Instant) -> Self {
        let allowed_ms = u32::try_from(allowed.as_millis()).unwrap_or(u32::MAX);
        Self { allowed_ms, due: now + before_last_look(first), last_look: false }
    }

    /// When [`Self::is_over`] is to be asked.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// A frame came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.due = now + before_last_look(self.allowed());
        self.last_look = false;
    }

    /// Time has passed. Whether it was silent for too long.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        if self.due > now {
            return false;
        }
        if std::mem::replace(&mut self.last_look, true) {
            return true;
        }
        // If the whole process stood still, this is late, and the frames that came in time are not read yet.
        self.due = now + last_look(self.allowed());
        false
    }

    fn allowed(&self) -> Duration {
        Duration::from_millis(self.allowed_ms.into())
    }
}

/// The part of a wait for a frame that is kept for reading what has arrived.
fn last_look(allowed: Duration) -> Duration {
    (allowed / 10).min(Duration::from_secs(1))
}

fn before_last_look(allowed: Duration) -> Duration {
    allowed.saturating_sub(last_look(allowed))
}
