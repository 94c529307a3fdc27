//! Passwords and codes that are tried by who is signed in.

use std::{sync::Arc, time::Duration};

use protocol::{MemberId, SessionId};

use super::{
    accounts::Authorized,
    limiter::{Limiter, Rate},
};
use crate::{failure::Failure, telemetry::Metrics};

/// Those of one session: whoever has taken it over must not find a password or a code out by it.
const OF_SESSION: Rate = Rate { per_period: 10, period: Duration::from_secs(3_600), burst: 10 };
/// Those of all sessions of a member together: more than one session has, so that who has taken one over leaves some to the member.
const OF_MEMBER: Rate = Rate { per_period: 30, period: Duration::from_secs(3_600), burst: 30 };

/// How many may be tried, at each node.
pub(super) struct Attempts {
    of_session: Limiter<SessionId>,
    of_member: Limiter<MemberId>,
}

impl Attempts {
    /// With this name in the metrics.
    pub(super) fn new(name: &'static str, metrics: &Arc<Metrics>) -> Self {
        let (of_session, of_member) = (Arc::clone(metrics), Arc::clone(metrics));
        Self {
            of_session: Limiter::new(name, OF_SESSION, of_session),
            of_member: Limiter::new(name, OF_MEMBER, of_member),
        }
    }

    /// Charges one. What a session has too many of is not charged to its member.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(super) fn check(&self, who: &Authorized) -> Result<(), Failure> {
        self.of_session.check(&who.session)?;
        self.of_member.check(&who.member)
    }

    /// Forgets who has their whole allowance. To be called now and then.
    pub(super) fn tidy(&self) {
        self.of_session.tidy();
        self.of_member.tidy();
    }
}
