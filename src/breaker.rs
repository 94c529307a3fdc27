//! A circuit breaker: whoever fails several times in a row is left alone for a while.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What a breaker does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It lets every call through.
    Closed,
    /// It has let one call through to see.
    Trying,
    /// It lets none through.
    Open,
}

/// A circuit breaker. The time comes from the caller.
#[derive(Debug)]
pub struct Breaker {
    failures_max: u32,
    cooldown: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Trying,
}

/// Leave for one call, to be given back with what became of it.
#[derive(Debug)]
#[must_use]
pub struct Leave {
    trial: bool,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Success,
    /// It failed; the service may have asked to be left alone for some time.
    Failure(Option<Duration>),
    /// Nobody waited for the end of it.
    Abandoned,
}

impl Breaker {
    /// Opens after `failures_max` failures in a row, for `cooldown`; then one call is tried.
    #[must_use]
    pub fn new(failures_max: u32, cooldown: Duration) -> Self {
        Self { failures_max, cooldown, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Asks for leave to make a call; none while the circuit is open.
    pub fn admit(&self, now: Instant) -> Option<Leave> {
        let mut state = self.state();
        match *state {
            State::Closed { .. } => Some(Leave { trial: false }),
            State::Open { until } if now >= until => {
                *state = State::Trying;
                Some(Leave { trial: true })
            }
            State::Open { .. } | State::Trying => None,
        }
    }

    /// Gives a leave back.
    #[expect(clippy::needless_pass_by_value, reason = "a leave is good for one call")]
    pub fn settle(&self, leave: Leave, outcome: Outcome, now: Instant) {
        let mut state = self.state();
        let pause = |asked: Option<Duration>| State::Open { until: now + asked.unwrap_or_default().max(self.cooldown) };
        *state = match (&*state, outcome) {
            (State::Trying, Outcome::Success) if leave.trial => State::Closed { failures: 0 },
            (State::Trying, Outcome::Failure(asked)) if leave.trial => pause(asked),
            // Whether it works is still unknown: the next call may find out.
            (State::Trying, Outcome::Abandoned) if leave.trial => State::Open { until: now },
            (State::Closed { .. }, Outcome::Success) => State::Closed { failures: 0 },
            (State::Closed { failures }, Outcome::Failure(asked)) => {
                let failures = failures + 1;
                if failures >= self.failures_max || asked.is_some() { pause(asked) } else { State::Closed { failures } }
            }
            // A call from before the circuit opened says nothing about now.
            _ => return,
        };
    }

    /// How long it lets no call through yet; zero if the next one may be let through.
    pub fn rests(&self, now: Instant) -> Duration {
        match *self.state() {
            State::Open { until } => until.saturating_duration_since(now),
            State::Closed { .. } | State::Trying => Duration::ZERO,
        }
    }

    /// What it does at the moment.
    pub fn condition(&self) -> Condition {
        match *self.state() {
            State::Closed { .. } => Condition::Closed,
            State::Trying => Condition::Trying,
            State::Open { .. } => Condition::Open,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(30);

    fn call(breaker: &Breaker, outcome: Outcome, now: Instant) -> bool {
        let leave = breaker.admit(now);
        let admitted = leave.is_some();
        if let Some(leave) = leave {
            breaker.settle(leave, outcome, now);
        }
        admitted
    }

    #[test]
    fn opens_after_failures_in_a_row_and_tries_once_after_a_while() {
        let (breaker, start) = (Breaker::new(3, COOLDOWN), Instant::now());
        call(&breaker, Outcome::Failure(None), start);
        call(&breaker, Outcome::Failure(None), start);
        call(&breaker, Outcome::Success, start);
        for _ in 0..3 {
            assert!(call(&breaker, Outcome::Failure(None), start), "a success in between starts the count again");
        }
        assert_eq!(breaker.condition(), Condition::Open);
        assert!(breaker.admit(start + COOLDOWN - Duration::from_millis(1)).is_none());
        let trial = breaker.admit(start + COOLDOWN).unwrap();
        assert_eq!(breaker.condition(), Condition::Trying);
        assert!(breaker.admit(start + COOLDOWN).is_none(), "one is tried and no more");
        breaker.settle(trial, Outcome::Failure(None), start + COOLDOWN);
        assert!(breaker.admit(start + COOLDOWN).is_none());
        assert!(call(&breaker, Outcome::Success, start + 2 * COOLDOWN));
        assert_eq!(breaker.condition(), Condition::Closed);
    }

    #[test]
    fn a_service_that_asks_to_be_left_alone_is() {
        let (breaker, start) = (Breaker::new(3, COOLDOWN), Instant::now());
        call(&breaker, Outcome::Failure(Some(2 * COOLDOWN)), start);
        assert!(breaker.admit(start + COOLDOWN).is_none());
        assert!(breaker.admit(start + 2 * COOLDOWN).is_some());
    }

    #[test]
    fn a_trial_that_nobody_waited_for_is_made_again() {
        let (breaker, start) = (Breaker::new(1, COOLDOWN), Instant::now());
        call(&breaker, Outcome::Failure(None), start);
        assert!(call(&breaker, Outcome::Abandoned, start + COOLDOWN));
        assert!(call(&breaker, Outcome::Success, start + COOLDOWN));
        assert_eq!(breaker.condition(), Condition::Closed);
    }

    #[test]
    fn a_call_from_before_the_circuit_opened_does_not_close_it() {
        let (breaker, start) = (Breaker::new(1, COOLDOWN), Instant::now());
        let early = breaker.admit(start).unwrap();
        call(&breaker, Outcome::Failure(None), start);
        breaker.settle(early, Outcome::Success, start);
        assert_eq!(breaker.condition(), Condition::Open);
    }
}
