//! When the AI service is asked: so many questions at a time, each with a deadline, and none while it keeps failing.

use std::{sync::Arc, time::Duration};

use protocol::rest::ai::AdviceFallback;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::Trouble;
use crate::{
    breaker::{Breaker, Condition, Leave, Outcome},
    telemetry::Metrics,
};

/// Stands before the service.
pub struct Guard {
    breaker: Breaker,
    places: Semaphore,
    deadline: Duration,
    metrics: Arc<Metrics>,
}

/// A place for one question. Dropping it without asking is no failure.
pub struct Permit<'a> {
    guard: &'a Guard,
    leave: Option<Leave>,
    _permit: SemaphorePermit<'a>,
}

impl Guard {
    /// At most `places` questions at a time, each for at most `deadline`.
    #[must_use]
    pub fn new(breaker: Breaker, places: usize, deadline: Duration, metrics: Arc<Metrics>) -> Self {
        Self { breaker, places: Semaphore::new(places), deadline, metrics }
    }

    /// Takes a place, without waiting for one.
    ///
    /// # Errors
    /// `Busy` when none is free, `CircuitOpen` while the service is left alone.
    pub fn admit(&self) -> Result<Permit<'_>, AdviceFallback> {
        let permit = self.places.try_acquire().map_err(|_| AdviceFallback::Busy)?;
        let leave = self.breaker.admit(Instant::now()).ok_or(AdviceFallback::CircuitOpen)?;
        self.show();
        Ok(Permit { guard: self, leave: Some(leave), _permit: permit })
    }

    fn show(&self) {
        self.metrics.ai_circuit.set(match self.breaker.condition() {
            Condition::Closed => 0,
            Condition::Trying => 1,
            Condition::Open => 2,
        });
    }
}

impl Permit<'_> {
    /// Asks, and waits until the deadline.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask<T>(mut self, question: impl Future<Output = Result<T, Trouble>>) -> Result<T, AdviceFallback> {
        let started = Instant::now();
        let answer = timeout(self.guard.deadline, question).await.unwrap_or(Err(AdviceFallback::Timeout.into()));
        self.guard.metrics.ai_seconds.observe(started.elapsed().as_secs_f64());
        self.settle(match &answer {
            Ok(_) => Outcome::Success,
            Err(trouble) => Outcome::Failure(trouble.pause),
        });
        answer.map_err(|trouble| trouble.fallback)
    }

    fn settle(&mut self, outcome: Outcome) {
        let Some(leave) = self.leave.take() else { return };
        let before = self.guard.breaker.condition();
        self.guard.breaker.settle(leave, outcome, Instant::now());
        let after = self.guard.breaker.condition();
        match (before, after) {
            (Condition::Closed, Condition::Open) => {
                tracing::warn!("the AI service keeps failing and is left alone for a while");
            }
            (Condition::Trying, Condition::Closed) => tracing::info!("the AI service answers again"),
            _ => {}
        }
        self.guard.show();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.settle(Outcome::Abandoned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(places: usize) -> Guard {
        let breaker = Breaker::new(2, Duration::from_secs(30));
        Guard::new(breaker, places, Duration::from_secs(5), Arc::new(Metrics::new()))
    }

    async fn ask(guard: &Guard, answer: Result<(), Trouble>) -> Result<(), AdviceFallback> {
        guard.admit()?.ask(async { answer }).await
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_too_slow_is_not_waited_for() {
        let guard = guard(1);
        let started = Instant::now();
        let never = std::future::pending::<Result<(), Trouble>>();
        assert_eq!(guard.admit().ok().unwrap().ask(never).await, Err(AdviceFallback::Timeout));
        assert_eq!(started.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_places_and_nobody_waits_for_one() {
        let guard = guard(2);
        let (one, two) = (guard.admit().ok().unwrap(), guard.admit().ok().unwrap());
        assert_eq!(guard.admit().err(), Some(AdviceFallback::Busy));
        drop(one);
        assert!(ask(&guard, Ok(())).await.is_ok());
        drop(two);
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_failing_is_left_alone_until_a_trial_succeeds() {
        let guard = guard(1);
        let bad = || Err(Trouble::from(AdviceFallback::Unavailable));
        assert_eq!(ask(&guard, bad()).await, Err(AdviceFallback::Unavailable));
        assert_eq!(ask(&guard, bad()).await, Err(AdviceFallback::Unavailable));
        assert_eq!(ask(&guard, Ok(())).await, Err(AdviceFallback::CircuitOpen));
        assert_eq!(guard.metrics.ai_circuit.get(), 2);
        tokio::time::advance(Duration::from_secs(30)).await;
        // The place of a trial that is not used is given back.
        drop(guard.admit().ok().unwrap());
        assert_eq!(ask(&guard, Ok(())).await, Ok(()));
        assert_eq!(guard.metrics.ai_circuit.get(), 0);
    }
}
