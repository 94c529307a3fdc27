//! Rate limits: so many a second, or a minute, with a burst.
//!
//! A limit is of this node, or of all nodes together ([`share`]).

mod share;

use std::{hash::Hash, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use protocol::ErrorCode;

pub use share::{Parts, Tell};

use self::share::Share;
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
    /// Of what all nodes allow; nothing, if each counts for itself.
    share: Option<Share<K>>,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// A limit with this name in the metrics.
    #[must_use]
    pub fn new(name: &'static str, rate: Rate, metrics: Arc<Metrics>) -> Self {
        let quota = rate.period.checked_div(rate.per_period).and_then(Quota::with_period);
        let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
        let quota = quota.map(|quota| quota.allow_burst(burst));
        let limiter = quota.map(|quota| RateLimiter::dashmap(quota).with_middleware());
        Self { name, limiter, quota, clock: DefaultClock::default(), metrics, share: None }
    }

    /// The same as a limit of all nodes together. `tell` is called with what this node allows, unless others hear of that anyway.
    #[must_use]
    pub fn shared(self, parts: Parts, tell: Option<Box<Tell<K>>>) -> Self {
        Self { share: Some(Share::new(parts, tell)), ..self }
    }

    /// Another node has allowed one: it counts here too.
    pub fn taken_elsewhere(&self, key: &K) {
        self.settle(key, 1);
    }

    /// Charges what other nodes have allowed, and `more`. Returns how much could not be.
    fn settle(&self, key: &K, more: u32) -> u32 {
        let (Some(share), Some(limiter), Some(quota)) = (&self.share, &self.limiter, &self.quota) else { return 0 };
        share.settle(key, more, quota.burst_size().get(), || limiter.check_key(key).is_ok())
    }

    /// Takes some from the key's allowance, if nothing is owed: `Err` is how long to wait.
    fn charge(&self, limiter: &PerKey<K>, quota: Quota, key: &K, count: u32) -> Result<u32, Duration> {
        let burst = quota.burst_size();
        let cost = self.share.as_ref().map_or(count, |share| share.parts.cost(count));
        let Some(cost) = NonZeroU32::new(cost.min(burst.get())) else { return Ok(burst.get()) };
        // With debts there is nothing left now, and this tells from when on there is.
        let cost = cost.saturating_add(self.settle(key, 0)).min(burst);
        match limiter.check_key_n(key, cost) {
            Ok(Ok(state)) => {
                if let Some(tell) = self.share.as_ref().and_then(|share| share.tell.as_ref()) {
                    tell(key);
                }
                Ok(state.remaining_burst_capacity())
            }
            // Rounded up, so that whoever waits that long is not refused again by a millisecond.
            Ok(Err(not_until)) => Err(not_until.wait_time_from(self.clock.now()) + Duration::from_millis(1)),
            // Cannot be: the cost is at most the burst.
            Err(_) => Err(quota.replenish_interval()),
        }
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
        let (Some(limiter), Some(quota)) = (&self.limiter, self.quota) else { return Ok(()) };
        self.charge(limiter, quota, key, count).map(drop).map_err(|wait| self.refusal(wait))
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
        let (Some(limiter), Some(quota)) = (&self.limiter, self.quota) else { return (Ok(()), None) };
        let (cell, burst) = (quota.replenish_interval(), quota.burst_size().get());
        let allowance = |remaining, reset| Allowance { quota: burst, window: cell * burst, remaining, reset };
        match self.charge(limiter, quota, key, 1) {
            Ok(remaining) => (Ok(()), Some(allowance(remaining, cell * burst.saturating_sub(remaining)))),
            Err(wait) => (Err(self.refusal(wait)), Some(allowance(0, wait))),
        }
    }

    fn refusal(&self, wait: Duration) -> Failure {
        self.metrics.rate_limit_hit(self.name);
        Failure::of(ErrorCode::RateLimited).retry_after(wait)
    }

    /// Forgets keys that have their whole allowance. To be called now and then, or they add up.
    pub fn tidy(&self) {
        if let Some(limiter) = &self.limiter {
            for key in self.share.iter().flat_map(Share::debtors) {
                self.settle(&key, 0);
            }
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

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
    fn what_another_node_allowed_counts_and_what_is_left_of_it_is_paid_first() {
        let told = Arc::new(AtomicU32::new(0));
        let tell = {
            let told = Arc::clone(&told);
            Box::new(move |_: &u8| {
                told.fetch_add(1, Ordering::Relaxed);
            })
        };
        let limiter = limiter(60, 4).shared(Parts::default(), Some(tell));
        limiter.taken_elsewhere(&1);
        for _ in 0..3 {
            assert!(limiter.check(&1).is_ok());
        }
        for _ in 0..2 {
            limiter.taken_elsewhere(&1);
        }
        let wait = limiter.check(&1).unwrap_err().retry_after.unwrap();
        assert!(wait > Duration::from_secs(170) && wait <= Duration::from_secs(181), "two are owed, and one: {wait:?}");
        assert_eq!(told.load(Ordering::Relaxed), 3, "what was heard is not told again, nor what was refused");
        assert!(limiter.check(&2).is_ok());
        limiter.tidy();
        assert!(limiter.check(&1).is_err(), "a debt is not forgotten");
    }

    #[test]
    fn a_debt_ends_with_the_time_it_takes_to_pay_it() {
        let rate = Rate { per_period: 1000, period: Duration::from_secs(1), burst: 4 };
        let limiter = Limiter::new("test", rate, Arc::new(Metrics::new())).shared(Parts::default(), None);
        (0..1_000).for_each(|_| limiter.taken_elsewhere(&1));
        // A burst is used up, and one is owed: eight milliseconds for all of it.
        let wait = limiter.check(&1).map_or_else(|refused| refused.retry_after.unwrap(), |()| Duration::ZERO);
        assert!(wait <= Duration::from_millis(9), "{wait:?}");
        while limiter.check(&1).is_err() {}
    }

    #[test]
    fn each_of_those_who_do_not_hear_of_each_other_gives_its_part() {
        let parts = Parts::default();
        let limiter = limiter(60, 6).shared(parts.clone(), None);
        parts.set(3);
        assert!(limiter.check(&1).is_ok() && limiter.check(&1).is_ok());
        let wait = limiter.check(&1).unwrap_err().retry_after.unwrap();
        assert!(wait > Duration::from_secs(170) && wait <= Duration::from_secs(181), "{wait:?}");
        parts.set(100);
        assert!(limiter.check(&2).is_ok(), "one at least");
        parts.set(0);
        assert!((0..6).all(|_| limiter.check(&3).is_ok()));
    }

    #[test]
    fn zero_means_no_limit() {
        let limiter = limiter(0, 0);
        assert!((0..10_000).all(|_| limiter.check(&1).is_ok()));
    }
}
