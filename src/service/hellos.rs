//! How often a connection may be opened: by address, by session, by member.
//!
//! A hello costs reads of the store, and a full sync many. The address is charged first, then the token's signature says whose
//! hello it is; nothing is read before both are.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use protocol::{ErrorCode, MemberId, SessionId};
use tokio::time::Instant;

use super::{catch_up::Start, limiter::Limiter};
use crate::{
    auth::{AccessTokens, Known, Stale, access::Verified},
    failure::Failure,
    sources::subscriber,
};

/// What a hello with a full sync costs; one with a cursor costs 1.
const FULL_COST: u32 = 3;
/// Members who are kept out at the same time; more are only limited.
const PENALTIES_MAX: usize = 10_000;

/// The limits of hellos.
pub struct Hellos {
    /// From one address (IPv6: /64).
    pub by_address: Limiter<IpAddr>,
    /// Of one session: a device, as a rule.
    pub by_session: Limiter<SessionId>,
    /// Of one member.
    pub by_member: Limiter<MemberId>,
    /// Until when members are kept out whose connection was closed with 4429.
    penalties: Mutex<HashMap<MemberId, Instant>>,
}

/// A hello that is not one too many.
pub struct Admitted {
    /// What its token is, found out once.
    pub verified: Result<Verified, ErrorCode>,
    /// Where its sync starts.
    pub start: Start,
}

impl Hellos {
    /// These limits, and nobody kept out.
    #[must_use]
    pub fn new(by_address: Limiter<IpAddr>, by_session: Limiter<SessionId>, by_member: Limiter<MemberId>) -> Self {
        Self { by_address, by_session, by_member, penalties: Mutex::default() }
    }

    /// Charges a hello, and says what its token is and where its sync starts; `start` is asked for its member. A token that is not good is charged
    /// to its address only, one that was replaced or is of a session that is over to that session as well, and both are refused later. One of which
    /// nothing is known yet is charged as a good one.
    ///
    /// # Errors
    /// `rate_limited` with the time to wait.
    pub fn admit(
        &self,
        (tokens, stale): (&AccessTokens, &Stale),
        token: &str,
        from: IpAddr,
        start: impl FnOnce(MemberId) -> Start,
    ) -> Result<Admitted, Failure> {
        self.by_address.check(&subscriber(from))?;
        let verified = tokens.verify(token);
        let admitted = |start| Admitted { verified, start };
        let Ok(token) = verified else { return Ok(admitted(Start::Full)) };
        if stale.known(&token) == Known::Stale {
            return self.by_session.check_many(&token.session, 1).map(|()| admitted(Start::Full));
        }
        if let Some(wait) = self.kept_out(token.member, Instant::now()) {
            return Err(Failure::of(ErrorCode::RateLimited).retry_after(wait));
        }
        let start = start(token.member);
        let cost = if matches!(start, Start::Full | Start::Reset) { FULL_COST } else { 1 };
        // The session first: a device that is refused here costs the member's other devices nothing.
        self.by_session.check_many(&token.session, cost)?;
        self.by_member.check_many(&token.member, cost)?;
        Ok(admitted(start))
    }

    /// Keeps a member out for so long.
    pub fn keep_out(&self, member: MemberId, wait: Duration) {
        self.keep_out_until(member, Instant::now(), wait);
    }

    /// Forgets who has their whole allowance. To be called now and then.
    pub fn tidy(&self) {
        self.by_address.tidy();
        self.by_session.tidy();
        self.by_member.tidy();
        let now = Instant::now();
        let mut penalties = self.penalties();
        penalties.retain(|_, until| *until > now);
        penalties.shrink_to_fit();
    }

    fn keep_out_until(&self, member: MemberId, now: Instant, wait: Duration) {
        let mut penalties = self.penalties();
        if penalties.len() >= PENALTIES_MAX {
            penalties.retain(|_, until| *until > now);
        }
        if penalties.len() < PENALTIES_MAX || penalties.contains_key(&member) {
            // A shorter wait never takes the place of a longer one.
            penalties.entry(member).and_modify(|until| *until = (*until).max(now + wait)).or_insert(now + wait);
        }
    }

    fn kept_out(&self, member: MemberId, now: Instant) -> Option<Duration> {
        let until = self.penalties().get(&member).copied()?;
        Some(until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// Held for a few instructions and never across a call that could panic.
    fn penalties(&self) -> std::sync::MutexGuard<'_, HashMap<MemberId, Instant>> {
        self.penalties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        auth::{access, keys},
        clock::{Clock, SystemClock},
        ids::{Ids, SystemEntropy},
        position::StreamPosition,
        service::limiter::Rate,
        telemetry::Metrics,
    };

    fn hellos() -> Hellos {
        let none = Rate { per_period: 0, period: Duration::from_secs(60), burst: 0 };
        let metrics = Arc::new(Metrics::new());
        Hellos::new(
            Limiter::new("a", none, Arc::clone(&metrics)),
            Limiter::new("b", none, Arc::clone(&metrics)),
            Limiter::new("c", none, metrics),
        )
    }

    fn member(number: u32) -> MemberId {
        let mut id = [0; 12];
        id[..4].copy_from_slice(&number.to_be_bytes());
        MemberId::from_bytes(id)
    }

    #[test]
    fn a_member_is_kept_out_until_the_time_is_over() {
        let (hellos, now, wait) = (hellos(), Instant::now(), Duration::from_secs(10));
        hellos.keep_out_until(member(1), now, wait);
        assert_eq!(hellos.kept_out(member(1), now), Some(wait));
        assert_eq!(hellos.kept_out(member(2), now), None);
        assert_eq!(hellos.kept_out(member(1), now + wait), None);
    }

    #[test]
    fn another_device_that_is_cut_for_less_does_not_shorten_the_wait() {
        let (hellos, now, wait) = (hellos(), Instant::now(), Duration::from_secs(60));
        hellos.keep_out_until(member(1), now, wait);
        hellos.keep_out_until(member(1), now, wait / 6);
        assert_eq!(hellos.kept_out(member(1), now), Some(wait));
        hellos.keep_out_until(member(1), now, wait * 2);
        assert_eq!(hellos.kept_out(member(1), now), Some(wait * 2));
    }

    #[test]
    fn every_hello_is_charged_to_its_address_and_a_good_token_to_its_session() {
        let metrics = Arc::new(Metrics::new());
        let rate = |burst| Rate { per_period: 1, period: Duration::from_secs(3600), burst };
        let hellos = Hellos::new(
            Limiter::new("address", rate(5), Arc::clone(&metrics)),
            Limiter::new("session", rate(4), Arc::clone(&metrics)),
            Limiter::new("member", Rate { per_period: 0, ..rate(0) }, metrics),
        );
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let options = access::Options {
            secrets: keys::ring("0123456789abcdef0123456789abcdef", &[]).secrets().clone(),
            issuer: "i".to_owned(),
            audience: "a".to_owned(),
            lifetime: Duration::from_secs(900),
        };
        let ids = Arc::new(Ids::new(Arc::clone(&clock), Arc::new(SystemEntropy)));
        let tokens = AccessTokens::new(&options, clock, ids);
        let (session, until) = (SessionId::from_bytes([1; 12]), protocol::Timestamp::from_millis(1 << 42));
        let grant = access::Grant { member: member(1), session, generation: 0, until };
        let (token, stale) = (tokens.issue(grant).unwrap().token, Stale::default());
        let admit = |token: &str, from: &str, full| {
            let start = if full { Start::Full } else { Start::Since(StreamPosition::NOWHERE) };
            hellos.admit((&tokens, &stale), token, from.parse().unwrap(), |_| start).is_ok()
        };
        assert!(admit(&token, "192.0.2.1", true), "costs three");
        assert!(!admit(&token, "192.0.2.1", true), "one is left");
        assert!(admit(&token, "192.0.2.1", false));
        assert!(!admit(&token, "192.0.2.1", false) && admit("nobody's", "192.0.2.1", true));
        assert!(!admit("nobody's", "192.0.2.1", true), "the address has nothing left");
        assert!(admit("nobody's", "192.0.2.2", true));
    }

    #[test]
    fn those_who_are_kept_out_are_bounded() {
        let (hellos, now, wait) = (hellos(), Instant::now(), Duration::from_secs(10));
        let many = u32::try_from(PENALTIES_MAX).unwrap() + 10;
        for number in 0..many {
            hellos.keep_out_until(member(number), now, wait);
        }
        assert_eq!(hellos.penalties().len(), PENALTIES_MAX);
        hellos.keep_out_until(member(many), now + wait, wait);
        assert_eq!(hellos.penalties().len(), 1, "those whose time is over make room");
    }
}
