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

use crate::{
    clock::Clock,
    store::{FleetStore, fleet::ClockReading},
    telemetry::Metrics,
};

/// By how much a clock may be off, or step.
const TOLERATED: Duration = Duration::from_secs(5);
/// How long an answer of the database may take that tells the time. What a slower one tells is too vague: it is ignored.
const PROMPT: Duration = Duration::from_secs(1);
/// How many answers one after the other have to tell that a clock is off.
const IN_A_ROW: u32 = 3;
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
    /// Of this clock; `shared` reads the one of all nodes, where there is one.
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
            let reading = self.shared.as_ref().and_then(|shared| shared.reading());
            let Some(found) = reading.and_then(|reading| skew.look(own, reading, now)) else { continue };
            self.is_off.store(skew.is_off, Ordering::Relaxed);
            self.metrics.clock_skew.set(found.seconds);
            if found.warns {
                let seconds = found.seconds;
                tracing::warn!(seconds, "the clock of this machine is not that of the database: is NTP running?");
            }
        }
    }
}

/// Steps of the wall clock.
pub(super) struct Steps {
    wall: Timestamp,
    at: Instant,
}

impl Steps {
    pub(super) const fn new(wall: Timestamp, at: Instant) -> Self {
        Self { wall, at }
    }

    /// By how many milliseconds the wall clock has stepped since it was looked at last, if that is much. One that is brought into line slowly
    /// does not step.
    pub(super) fn look(&mut self, wall: Timestamp, at: Instant) -> Option<i64> {
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
    /// How many answers have told so, one after the other.
    in_a_row: u32,
    /// When the last one was asked for that was looked at.
    last: Option<Instant>,
    warned: Option<Instant>,
}

/// What an answer has told.
#[derive(Debug, PartialEq)]
struct Found {
    /// By how many seconds the wall clock is ahead, at the least: what the way to the database may account for is left out.
    seconds: f64,
    /// Whether to warn.
    warns: bool,
}

impl Skew {
    /// Takes notice of an answer; nothing of one that is known already or that was slow.
    fn look(&mut self, own: Timestamp, reading: ClockReading, now: Instant) -> Option<Found> {
        let unsure = reading.round_trip() / 2;
        if self.last.replace(reading.asked) == Some(reading.asked) || reading.round_trip() > PROMPT {
            return None;
        }
        let shared = reading.shows_at(now);
        let (ahead, behind) = (own.since(shared).saturating_sub(unsure), shared.since(own).saturating_sub(unsure));
        let seconds = ahead.as_secs_f64() - behind.as_secs_f64();
        if ahead.max(behind) <= TOLERATED {
            *self = Self { last: self.last, ..Self::default() };
            return Some(Found { seconds, warns: false });
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.is_off |= self.in_a_row >= IN_A_ROW;
        let is_time = self.warned.is_none_or(|warned| now.saturating_duration_since(warned) >= REMIND);
        let warns = self.is_off && is_time;
        if warns {
            self.warned = Some(now);
        }
        Some(Found { seconds, warns })
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

    /// Looks at the second `second`, at an answer that was asked for then and took so many milliseconds; the database's clock was read
    /// so many milliseconds after it was asked, and the own one is off by so many. Whether it warns, and is off.
    fn look(skew: &mut Skew, start: Instant, second: i64, (took, read, off): (u64, i64, i64)) -> (Option<bool>, bool) {
        let asked = start + Duration::from_secs(second.unsigned_abs());
        let answered = asked + Duration::from_millis(took);
        let reading = ClockReading { at: at(second * 1_000 + read), asked, answered };
        let own = at(second * 1_000 + took.cast_signed() + off);
        (skew.look(own, reading, answered).map(|found| found.warns), skew.is_off)
    }

    #[test]
    fn a_clock_that_is_off_is_told_once_a_minute_and_only_if_several_answers_say_so() {
        let (mut skew, start) = (Skew::default(), Instant::now());
        let mut look = |second, off| look(&mut skew, start, second, (0, 0, off));
        assert_eq!(look(0, 5_000), (Some(false), false));
        assert_eq!(look(1, 5_001), (Some(false), false));
        assert_eq!(look(2, 5_001), (Some(false), false));
        assert_eq!(look(3, 5_001), (Some(true), true));
        assert_eq!(look(62, -6_000), (Some(false), true));
        assert_eq!(look(63, -6_000), (Some(true), true));
        assert_eq!(look(63, -6_000), (None, true), "the same answer");
        assert_eq!(look(64, 0), (Some(false), false));
        for second in 65..67 {
            assert_eq!(look(second, 6_000), (Some(false), false), "it was right meanwhile");
        }
        assert_eq!(look(67, 6_000), (Some(true), true));
    }

    /// Found by reading: an answer that took 6 s was taken for a clock that is 6 s off, and balancers took the server out.
    #[test]
    fn a_slow_database_is_not_a_clock_that_is_off() {
        let start = Instant::now();
        for (took, read) in [(6_000, 0), (6_000, 6_000), (1_001, 1_001), (1_000, 0), (1_000, 1_000)] {
            for off in [0, -4_900, 4_900] {
                let mut skew = Skew::default();
                for second in 0..9 {
                    let (warns, is_off) = look(&mut skew, start, second * 10, (took, read, off));
                    assert_eq!((warns, is_off), ((took <= 1_000).then_some(false), false), "{took} {read} {off}");
                }
            }
        }
        let mut skew = Skew::default();
        let found: Vec<_> = (0..3).map(|second| look(&mut skew, start, second, (1_000, 0, 6_100)).1).collect();
        assert_eq!(found, [false, false, true], "what is beyond it counts");
    }
}
