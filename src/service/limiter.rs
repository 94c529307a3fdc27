//! Rate limits: so many a second, or a minute, with a burst.

use std::{hash::Hash, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use protocol::ErrorCode;

use crate::{failure::Failure, telemetry::Metrics};

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many in one period. Zero: no limit.
    pub per_period: u32,
    /// The period.
    pub period: Duration,
    /// How many at once, after a pause.
    pub burst: u32,
}

/// What a key has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// How many at once, after a pause.
    pub quota: u32,
    /// How long a key takes from nothing to its whole quota.
    pub window: Duration,
    /// How many are left now.
    pub remaining: u32,
    /// How long until the whole quota is there again, or until one is allowed if none is left.
    pub reset: Duration,
}

type PerKey<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// A rate limit for each key.
pub struct Limiter<K: Hash + Eq + Clone> {
    name: &'static str,
    limiter: Option<PerKey<K>>,
    quota: Option<Quota>,
    clock: DefaultClock,
    metrics: Arc<Metrics>,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// A limit with this name in the metrics.
    #[must_use]
    pub fn new(name: &'static str, rate: Rate, metrics: Arc<Metrics>) -> Self {
        let quota = rate.period.checked_div(rate.per_period).and_then(Quota::with_period);
        let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
        let quota = quota.map(|quota| quota.allow_burst(burst));
        let limiter = quota.map(|quota| RateLimiter::dashmap(quota).with_middleware());
        Self { name, limiter, quota, clock: DefaultClock::default(), metrics }
    }

    /// The name of the limit.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Takes one from the key's allowance.
    ///
    /// # Errors
    /// `rate_limited` with the time to wait.
    pub fn check(&self, key: &K) -> Result<(), Failure> {
        self.take(key).0
    }

    /// Takes several at once from the key's allowance, or none; never more than the burst, which would never be allowed.
    ///
    /// # Errors
    /// `rate_limited` with the time to wait.
    pub fn check_many(&self, key: &K, count: u32) -> Result<(), Failure> {
        let (Some(limiter), Some(quota)) = (&self.limiter, &self.quota) else { return Ok(()) };
        let Some(count) = NonZeroU32::new(count.min(quota.burst_size().get())) else { return Ok(()) };
        match limiter.check_key_n(key, count) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(not_until)) => {
                self.metrics.rate_limit_hit(self.name);
                let wait = not_until.wait_time_from(self.clock.now()) + Duration::from_millis(1);
                Err(Failure::of(ErrorCode::RateLimited).retry_after(wait))
            }
            // Cannot be: the count is at most the burst.
            Err(_) => Err(Failure::of(ErrorCode::RateLimited).retry_after(quota.replenish_interval())),
        }
    }

    /// Takes the rest of what something costs of which one was taken when it came, or none. Whoever waits as long as is said has
    /// all of it then.
    ///
    /// # Errors
    /// `rate_limited` with the time to wait.
    pub fn check_further(&self, key: &K, cost: u32) -> Result<(), Failure> {
        let (one, burst) =
            self.quota.map_or((Duration::ZERO, 1), |quota| (quota.replenish_interval(), quota.burst_size().get()));
        // Never more than a whole allowance: of that one was taken.
        self.check_many(key, cost.min(burst).saturating_sub(1)).map_err(|refused| {
            let rest = refused.retry_after.unwrap_or_default();
            refused.retry_after(rest + one)
        })
    }

    /// Takes one from the key's allowance, and tells what is left of it; nothing without a limit.
    pub fn take(&self, key: &K) -> (Result<(), Failure>, Option<Allowance>) {
        let (Some(limiter), Some(quota)) = (&self.limiter, &self.quota) else { return (Ok(()), None) };
        let (cell, burst) = (quota.replenish_interval(), quota.burst_size().get());
        let allowance = |remaining, reset| Allowance { quota: burst, window: cell * burst, remaining, reset };
        match limiter.check_key(key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                (Ok(()), Some(allowance(remaining, cell * burst.saturating_sub(remaining))))
            }
            Err(not_until) => {
                self.metrics.rate_limit_hit(self.name);
                // Rounded up, so that whoever waits that long is not refused again by a millisecond.
                let wait = not_until.wait_time_from(self.clock.now()) + Duration::from_millis(1);
                (Err(Failure::of(ErrorCode::RateLimited).retry_after(wait)), Some(allowance(0, wait)))
            }
        }
    }

    /// Forgets keys that have their whole allowance. To be called now and then, or they add up.
    pub fn tidy(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_period: u32, burst: u32) -> Limiter<u8> {
        let rate = Rate { per_period, period: Duration::from_secs(3600), burst };
        Limiter::new("test", rate, Arc::new(Metrics::new()))
    }

    #[test]
    fn a_burst_is_allowed_and_then_a_wait_is_told() {
        let limiter = limiter(60, 3);
        for _ in 0..3 {
            assert!(limiter.check(&1).is_ok());
        }
        let refused = limiter.check(&1).unwrap_err();
        assert_eq!(refused.code, ErrorCode::RateLimited);
        let wait = refused.retry_after.unwrap();
        assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(61), "{wait:?}");
        assert!(limiter.check(&2).is_ok(), "another key has an allowance of its own");
    }

    /// Found by reading: whoever waited as long as was said had one too few, again and again, for a retry costs the first one too.
    #[test]
    fn the_wait_for_the_rest_is_one_for_the_whole() {
        let limiter = limiter(60, 4);
        assert!(limiter.check(&1).is_ok() && limiter.check_further(&1, 3).is_ok());
        assert!(limiter.check(&1).is_ok());
        let wait = limiter.check_further(&1, 3).unwrap_err().retry_after.unwrap();
        assert!(wait > Duration::from_secs(175) && wait <= Duration::from_secs(181), "{wait:?}");
        assert!(limiter.check_further(&2, 1).is_ok(), "nothing further");
        assert!(limiter.check(&3).is_ok() && limiter.check_further(&3, 8).is_ok(), "all of it is enough for anything");
    }

    #[test]
    fn several_are_taken_together_or_not_at_all() {
        let limiter = limiter(60, 4);
        assert!(limiter.check_many(&1, 3).is_ok());
        let refused = limiter.check_many(&1, 3).unwrap_err();
        assert!(refused.retry_after.unwrap() > Duration::from_secs(100), "two more have to come");
        assert!(limiter.check(&1).is_ok(), "the last one is still there");
        assert!(limiter.check_many(&2, 100).is_ok(), "more than the burst counts as the burst");
    }

    #[test]
    fn zero_means_no_limit() {
        let limiter = limiter(0, 0);
        assert!((0..10_000).all(|_| limiter.check(&1).is_ok()));
    }
}
