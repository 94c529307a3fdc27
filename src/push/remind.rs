//! A line in the log that says what is so for hours, once a minute.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How often it is said at most.
const REMIND: Duration = Duration::from_secs(60);

/// When something was said last.
#[derive(Debug, Default)]
pub(crate) struct Reminder(Mutex<Option<Instant>>);

impl Reminder {
    /// Whether it is to be said now; then not again for a minute.
    pub(crate) fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said.is_none_or(|at| now.duration_since(at) >= REMIND);
        if is_due {
            *said = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_said_once_a_minute() {
        let reminder = Reminder::default();
        assert!(reminder.is_due() && !reminder.is_due());
        tokio::time::advance(REMIND).await;
        assert!(reminder.is_due());
    }
}
