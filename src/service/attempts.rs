//! Passwords and codes that are tried by who is signed in.
//!
//! One that was right costs nothing, nor does one that could not be made; one that was wrong is charged to the session, or to the device that
//! had proved itself at its login, and to its member. The last is for who has found a device unlocked or copied a token, and for who knows the
//! password and signs in again and again to try codes. It is not charged by who was there before: a device that had proved itself, or that has
//! been signed in for a day. So whoever knows the password does not keep its member from changing it.

use std::{
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::{ErrorCode, MemberId, SessionId};
use quick_cache::unsync::Cache;
use tokio::time::Instant;

use super::{
    accounts::{Accounts, Authorized},
    audit::{AuditTrail, Tried, WrongFactor},
    limiter::{Limiter, Rate},
};
use crate::{
    auth::{Familiar, device::DeviceNumber},
    clock::Clock,
    failure::Failure,
    store::members::MemberRecord,
    telemetry::Metrics,
};

/// Wrong ones of one session or known device: whoever has taken it over must not find a password or a code out by it.
const OF_ONE: Rate = Rate { per_period: 10, period: Duration::from_secs(3_600), burst: 10 };
/// Wrong ones of all sessions of a member together that were not there before: more than one session has, so that who has taken one over
/// leaves some to the member.
const OF_MEMBER: Rate = Rate { per_period: 30, period: Duration::from_secs(3_600), burst: 30 };
/// All of one session or known device, right ones too: each costs a hash, or a write.
const AT_ALL: Rate = Rate { per_period: 60, period: Duration::from_secs(3_600), burst: 60 };
/// Allowances of a kind that are remembered, about 50 bytes each; the oldest unused ones are forgotten.
const REMEMBERED: usize = 100_000;

/// Whose tries are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    /// A session's.
    Session(SessionId),
    /// A device's, whatever sessions it has.
    Device(DeviceNumber),
}

/// A password, a code, or both, that somebody tries.
pub(super) struct Try<'a> {
    /// Who.
    pub(super) who: &'a Authorized,
    /// Their record.
    pub(super) record: &'a MemberRecord,
    /// From where.
    pub(super) from: IpAddr,
    /// What for.
    pub(super) what_for: Tried,
}

/// How many may be tried, at each node.
pub(super) struct Attempts {
    name: &'static str,
    of_one: Allowances<Whose>,
    of_member: Allowances<MemberId>,
    at_all: Limiter<Whose>,
    audit: Arc<AuditTrail>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Attempts {
    /// With this name in the metrics.
    pub(super) fn new(name: &'static str, accounts: &Accounts, metrics: &Arc<Metrics>) -> Self {
        Self {
            name,
            of_one: Allowances::new(OF_ONE),
            of_member: Allowances::new(OF_MEMBER),
            at_all: Limiter::new(name, AT_ALL, Arc::clone(metrics)),
            audit: Arc::clone(&accounts.audit),
            clock: Arc::clone(&accounts.clock),
            metrics: Arc::clone(metrics),
        }
    }

    /// Makes a try: `check` says what was wrong, if something was. It is charged before it is made, and given back if nothing was wrong, it
    /// could not be made, or whoever makes it is gone before there is an answer: they learn nothing, and a device that loses its network must not
    /// use up its own. What was wrong of an administrator's is in the audit log.
    ///
    /// # Errors
    /// `rate_limited`; what `wrong` says of what was wrong; or those of `check`.
    pub(super) async fn make<T>(
        &self,
        Try { who, record, from, what_for }: Try<'_>,
        wrong: impl FnOnce(WrongFactor) -> Failure,
        check: impl Future<Output = Result<Result<T, WrongFactor>, Failure>>,
    ) -> Result<T, Failure> {
        let whose = who.known_device.map_or(Whose::Session(who.session), Whose::Device);
        self.at_all.check(&whose)?;
        let was_there = who.known_device.is_some() || Familiar::is_old_enough(who.signed_in_at, self.clock.now());
        let member = (!was_there).then_some(who.member);
        let charged = self.charge(whose, member).map_err(|wait| {
            self.metrics.rate_limit_hit(self.name);
            Failure::of(ErrorCode::RateLimited).retry_after(wait)
        })?;
        match check.await? {
            Ok(value) => Ok(value),
            Err(factor) => {
                charged.stays();
                self.audit.try_failed(record, factor, what_for, from);
                Err(wrong(factor))
            }
        }
    }

    /// Charges both, or none.
    fn charge(&self, whose: Whose, member: Option<MemberId>) -> Result<Charge<'_>, Duration> {
        let now = Instant::now();
        self.of_one.take(whose, now)?;
        if let Some(member) = member {
            self.of_member.take(member, now).inspect_err(|_| self.of_one.give_back(&whose))?;
        }
        Ok(Charge { attempts: self, whose, member, stays: false })
    }

    /// Forgets who has their whole allowance. To be called now and then.
    pub(super) fn tidy(&self) {
        self.at_all.tidy();
    }
}

/// What a try was charged; given back when this is dropped, unless it stays.
struct Charge<'a> {
    attempts: &'a Attempts,
    whose: Whose,
    member: Option<MemberId>,
    stays: bool,
}

impl Charge<'_> {
    /// Nothing is given back.
    fn stays(mut self) {
        self.stays = true;
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        self.attempts.of_one.give_back(&self.whose);
        if let Some(member) = self.member {
            self.attempts.of_member.give_back(&member);
        }
    }
}

/// Allowances of which something can be given back.
struct Allowances<K> {
    /// How long it takes until there is another one.
    cell: Duration,
    /// How many there are at once.
    burst: u32,
    /// When each has its whole allowance again.
    whole_at: Mutex<Cache<K, Instant>>,
}

impl<K: Hash + Eq + Copy> Allowances<K> {
    fn new(Rate { per_period, period, burst }: Rate) -> Self {
        Self { cell: period / per_period.max(1), burst, whole_at: Mutex::new(Cache::new(REMEMBERED)) }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long to wait.
    fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut known = self.lock();
        let whole_at = known.get(&key).copied().map_or(now, |whole_at| whole_at.max(now)) + self.cell;
        let too_far = whole_at.saturating_duration_since(now + self.cell * self.burst);
        if !too_far.is_zero() {
            return Err(too_far);
        }
        known.insert(key, whole_at);
        Ok(())
    }

    /// Gives one back that was taken.
    fn give_back(&self, key: &K) {
        let mut known = self.lock();
        let Some(whole_at) = known.get(key).copied().and_then(|whole_at| whole_at.checked_sub(self.cell)) else {
            return;
        };
        known.insert(*key, whole_at);
    }

    /// Held for a few instructions that do not panic.
    fn lock(&self) -> MutexGuard<'_, Cache<K, Instant>> {
        self.whole_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again_and_what_is_not_comes_back_with_time() {
        let (allowances, start) = (Allowances::<u8>::new(OF_ONE), Instant::now());
        for _ in 0..100 {
            assert_eq!(allowances.take(1, start), Ok(()));
            allowances.give_back(&1);
        }
        for _ in 0..10 {
            assert_eq!(allowances.take(1, start), Ok(()));
        }
        let cell = Duration::from_secs(360);
        assert_eq!(allowances.take(1, start), Err(cell));
        assert_eq!(allowances.take(2, start), Ok(()), "another one's");
        assert_eq!(allowances.take(1, start + cell), Ok(()));
        assert!(allowances.take(1, start + cell).is_err());
        allowances.give_back(&1);
        assert_eq!(allowances.take(1, start + cell), Ok(()));
        let later = start + Duration::from_secs(86_400);
        assert_eq!((0..20).filter(|_| allowances.take(1, later).is_ok()).count(), 10, "never more than all");
    }
}
