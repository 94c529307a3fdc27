//! So many messages a second, whoever sends them.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Spreads what is sent over time.
#[derive(Debug)]
pub(super) struct Pace {
    each: Duration,
    /// When the next one may go.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// So many a second.
    pub(super) fn new(per_second: u32) -> Self {
        Self { each: Duration::from_secs(1) / per_second.max(1), next: Mutex::new(None) }
    }

    /// Waits until so many may go.
    pub(super) async fn wait(&self, count: usize) {
        let at = self.reserve(count, Instant::now());
        sleep_until(at).await;
    }

    fn reserve(&self, count: usize, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.map_or(now, |next| next.max(now));
        *next = Some(at + self.each * u32::try_from(count).unwrap_or(u32::MAX));
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_hundred_a_second_are_six_requests_of_a_hundred() {
        let (pace, start) = (Pace::new(600), Instant::now());
        let at: Vec<u128> = (0..7).map(|_| pace.reserve(100, start).duration_since(start).as_millis()).collect();
        assert_eq!(at, [0, 166, 333, 499, 666, 833, 999]);
        let later = start + Duration::from_secs(5);
        assert_eq!(pace.reserve(1, later), later, "what was not used is not saved");
    }
}
