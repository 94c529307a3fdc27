//! One budget of memory for everything that waits for a client: outboxes, syncs, answers that are being written, uploads.
//!
//! Whoever holds such bytes charges them and gives them back; both are one atomic addition. Above [`Budget::mark`]
//! large answers and uploads are refused, and what holds most is cut until the rest is below it again: `app::relief`. What
//! the process needs anyway (code, caches of the store, a few KiB for each connection) is not in it.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::telemetry::Metrics;

/// The memory for what waits for clients.
pub struct Budget {
    mark: i64,
    pressed: Notify,
    /// Has the count, too: [`crate::telemetry::metrics::Metric::MemoryCharged`].
    metrics: Arc<Metrics>,
}

impl Budget {
    /// A budget of `max` bytes.
    #[must_use]
    pub fn new(max: usize, metrics: Arc<Metrics>) -> Self {
        Self { mark: count(max / 4 * 3), pressed: Notify::new(), metrics }
    }

    /// The counts of the server.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Bytes are being held. Never refused: who charges too much is cut.
    pub fn charge(&self, bytes: usize) {
        let bytes = count(bytes);
        let before = self.metrics.memory_charged.inc_by(bytes);
        if before.saturating_add(bytes) > self.mark {
            self.pressed.notify_one();
        }
    }

    /// Bytes are not held any more.
    pub fn release(&self, bytes: usize) {
        self.metrics.memory_charged.dec_by(count(bytes));
    }

    /// Whether so much is held that nothing large may be added.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.excess() > 0
    }

    /// How much more is held than three quarters of the budget, in bytes.
    #[must_use]
    pub fn excess(&self) -> usize {
        usize::try_from(self.metrics.memory_charged.get().saturating_sub(self.mark)).unwrap_or(0)
    }

    /// Waits until so much is held that something has to be cut. Only one task may wait.
    pub async fn pressed(&self) {
        self.pressed.notified().await;
    }
}

fn count(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task::spawn};

    use super::*;

    #[test]
    fn above_three_quarters_something_has_to_be_cut_and_nothing_large_is_added() {
        let budget = Budget::new(4000, Arc::new(Metrics::new()));
        let mut pressed = spawn(budget.pressed());
        budget.charge(3000);
        assert_pending!(pressed.poll());
        assert!(!budget.is_short());
        budget.charge(1);
        assert_ready!(pressed.poll());
        assert_eq!(budget.excess(), 1);
        assert!(budget.is_short());
        budget.release(1);
        assert!(!budget.is_short());
        budget.release(3000);
        assert_eq!(budget.metrics().memory_charged.get(), 0);
    }
}
