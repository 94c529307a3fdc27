//! Whether the wall clock of this machine is right: against the clock that all nodes share, and against the time that passes.
//!
//! When mails, links, tokens, proofs and suspensions begin and end is by the clocks of the nodes. One that is wrong ends them too early, or
//! too late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use protocol::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, store::FleetStore, telemetry::Metrics};

/// By how much a clock may be off, or step.
const TOLERATED: Duration = Duration::from_secs(5);
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is said that a clock is off.
const REMIND: Duration = Duration::from_secs(60);

/// Watches the wall clock.
pub struct ClockWatch {
    clock: Arc<dyn Clock>,
    shared: Option<Arc<dyn FleetStore>>,
    metrics: Arc<Metrics>,
    is_off: AtomicBool,
}

impl ClockWatch {
    /// Of this clock; `shared` tells the one of all nodes, where there is one.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, shared: Option<Arc<dyn FleetStore>>, metrics: Arc<Metrics>) -> Self {
        Self { clock, shared, metrics, is_off: AtomicBool::new(false) }
    }

    /// Whether the clock differs by more than 5 s from the one that all nodes share.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// Looks every second, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut interval = interval(LOOK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut steps, mut skew) = (Steps::new(self.clock.now(), Instant::now()), Skew::default());
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            let (own, now) = (self.clock.now(), Instant::now());
            if let Some(milliseconds) = steps.look(own, now) {
                tracing::warn!(milliseconds, "the clock of this machine stepped, or the machine slept");
            }
            // Nothing is known of it before the first beat.
            let Some(shared) = self.shared.as_ref().filter(|shared| shared.listing().borrow().is_some()) else {
                continue;
            };
            let shared = Timestamp::from_millis(i64::try_from(shared.now()).unwrap_or(i64::MAX));
            let warns = skew.look(own, shared, now);
            self.is_off.store(skew.is_off, Ordering::Relaxed);
            self.metrics.clock_skew.set(difference(own, shared));
            if warns {
                let seconds = difference(own, shared);
                tracing::warn!(seconds, "the clock of this machine is not that of the database: is NTP running?");
            }
        }
    }
}

/// By how many seconds the first is ahead.
fn difference(own: Timestamp, other: Timestamp) -> f64 {
    own.since(other).as_secs_f64() - other.since(own).as_secs_f64()
}

/// Steps of the wall clock.
struct Steps {
    wall: Timestamp,
    at: Instant,
}

impl Steps {
    const fn new(wall: Timestamp, at: Instant) -> Self {
        Self { wall, at }
    }

    /// By how many milliseconds the wall clock has stepped since it was looked at last, if that is much. One that is brought into line slowly
    /// does not step.
    fn look(&mut self, wall: Timestamp, at: Instant) -> Option<i64> {
        let expected = self.wall.after(at.saturating_duration_since(self.at));
        *self = Self::new(wall, at);
        let is_much = wall.since(expected).max(expected.since(wall)) > TOLERATED;
        is_much.then(|| wall.as_millis().saturating_sub(expected.as_millis()))
    }
}

/// How far the wall clock is from the shared one.
#[derive(Default)]
struct Skew {
    is_off: bool,
    warned: Option<Instant>,
}

impl Skew {
    /// Takes notice of both, and says whether to warn.
    fn look(&mut self, own: Timestamp, shared: Timestamp, now: Instant) -> bool {
        self.is_off = own.since(shared).max(shared.since(own)) > TOLERATED;
        if !self.is_off {
            self.warned = None;
            return false;
        }
        let warns = self.warned.is_none_or(|warned| now.saturating_duration_since(warned) >= REMIND);
        if warns {
            self.warned = Some(now);
        }
        warns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_795_370_633_000 + millis)
    }

    #[test]
    fn a_step_is_noticed_once_and_time_that_passes_is_none() {
        let start = Instant::now();
        let mut steps = Steps::new(at(0), start);
        let mut look = |wall, passed| steps.look(at(wall), start + Duration::from_millis(passed));
        assert_eq!(look(60_000, 60_000), None);
        assert_eq!(look(66_000, 61_000), None, "5 s are nothing");
        assert_eq!(look(73_001, 63_000), Some(5_001));
        assert_eq!(look(74_001, 64_000), None, "it was told");
        assert_eq!(look(14_001, 64_000), Some(-60_000));
        assert_eq!(look(15_001, 65_000), None);
    }

    #[test]
    fn a_clock_that_is_off_is_told_once_a_minute() {
        let (mut skew, start) = (Skew::default(), Instant::now());
        let mut look = |own, passed| (skew.look(at(own), at(0), start + Duration::from_secs(passed)), skew.is_off);
        assert_eq!(look(5_000, 0), (false, false));
        assert_eq!(look(5_001, 1), (true, true));
        assert_eq!(look(-6_000, 60), (false, true));
        assert_eq!(look(-6_000, 61), (true, true));
        assert_eq!(look(0, 62), (false, false));
        assert_eq!(look(6_000, 63), (true, true), "it was right meanwhile");
    }
}
