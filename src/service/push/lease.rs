//! For how long what a worker has taken is its own, if it says nothing: then other nodes take it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How often who has tasks in hand says so.
pub(super) const RENEW: Duration = Duration::from_secs(2);

/// How long tasks are in hand once that was said: what a server that died had in hand waits no longer. One call of the store may take all the
/// time that it has, or fail, and the next one is in time still.
pub(super) const fn length(store_timeout: Duration) -> Duration {
    store_timeout.saturating_add(RENEW.saturating_mul(2))
}

/// That tasks are in hand, as far as this node knows.
pub(super) struct Lease {
    length: Duration,
    until: Mutex<Instant>,
}

impl Lease {
    /// Of what was taken by a call that began then.
    pub(super) fn new(length: Duration, begun: Instant) -> Self {
        Self { length, until: Mutex::new(begun + length) }
    }

    /// It was said again, by a call that began then.
    pub(super) fn renew(&self, begun: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = begun + self.length;
    }

    /// Whether nobody else can have them by now: not if this process was paused, or the store too slow.
    pub(super) fn is_held(&self) -> bool {
        Instant::now() < *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What docs/push.md says.
    #[test]
    fn with_the_default_timeout_a_takeover_takes_less_than_ten_seconds_and_one_slow_call_is_none() {
        let timeout = Duration::from_secs(5);
        assert!(length(timeout) < Duration::from_secs(10));
        assert!(RENEW + timeout + RENEW <= length(timeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_over_unless_it_is_renewed() {
        let lease = Lease::new(Duration::from_secs(9), Instant::now());
        tokio::time::advance(Duration::from_millis(8_999)).await;
        assert!(lease.is_held());
        lease.renew(Instant::now());
        tokio::time::advance(Duration::from_millis(8_999)).await;
        assert!(lease.is_held());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!lease.is_held());
    }
}
