//! Who may come in: the decision of the club, made before anything is done for whoever asks.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{ErrorCode, rest::RegistrationPolicy};

use super::{
    applications::Applications,
    invitations::Invitations,
    limiter::{Limiter, Rate},
};
use crate::{
    failure::Failure,
    sources::{network, subscriber},
    store::{
        members::{NotRegistered, Way},
        turns::Caller,
    },
    telemetry::Metrics,
};

/// Registrations that wait for an administrator at the same time: as many as somebody may want to read through.
pub const WAITING_MAX: u64 = 1_000;

/// Registrations without an invitation from one network that wait for an administrator, at once and within a day: a tenth of all that may
/// wait, so that no network fills the list.
const APPLICATIONS: Rate = Rate { per_period: 100, period: Duration::from_secs(86_400), burst: 100 };
/// Registrations without an invitation from one network whose address is not verified yet, at once and within the two days after which
/// they are removed: a tenth of all that there may be.
const UNVERIFIED: Rate = Rate { per_period: 1_000, period: Duration::from_secs(2 * 86_400), burst: 1_000 };

/// What one network (a /24 of IPv4, a /48 of IPv6) may have of what there is a bounded number of.
pub struct Shares {
    applications: Limiter<IpAddr>,
    unverified: Limiter<IpAddr>,
}

impl Shares {
    /// Whole shares.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            applications: Limiter::new("applications", APPLICATIONS, Arc::clone(metrics)),
            unverified: Limiter::new("unverified", UNVERIFIED, Arc::clone(metrics)),
        }
    }

    /// Takes the share of somebody who comes in, and has to verify the address or has not.
    ///
    /// # Errors
    /// `rate_limited` when their network has had as much as it may.
    pub fn take(&self, way: Way, must_verify: bool, from: IpAddr) -> Result<(), Failure> {
        let network = network(from);
        if matches!(way, Way::Invitation(_)) {
            return Ok(());
        }
        if must_verify {
            self.unverified.check(&network)?;
        }
        if matches!(way, Way::Application { .. }) { self.applications.check(&network) } else { Ok(()) }
    }

    /// Forgets who has their whole share. To be called now and then.
    pub fn tidy(&self) {
        self.applications.tidy();
        self.unverified.tidy();
    }
}

/// Who may come in.
pub struct Registration {
    /// The decision of the club.
    pub policy: RegistrationPolicy,
    /// Those who were invited.
    pub invitations: Arc<Invitations>,
    /// What one network may have.
    pub shares: Shares,
    /// Those who wait.
    pub applications: Arc<Applications>,
}

impl Registration {
    /// In which way somebody comes in who has the code of an invitation, or none. An empty code is none.
    ///
    /// # Errors
    /// `registration_closed`, `invitation_required`, `invitation_invalid`, `applications_full`, `rate_limited` when too many codes were
    /// tried, or the store.
    pub async fn way(&self, code: Option<&str>, from: IpAddr) -> Result<Way, Failure> {
        if self.policy == RegistrationPolicy::Closed {
            return Err(ErrorCode::RegistrationClosed.into());
        }
        if let Some(code) = code.filter(|code| !code.trim().is_empty()) {
            return Ok(Way::Invitation(self.invitations.find(code, from).await?.id));
        }
        match self.policy {
            RegistrationPolicy::Open => Ok(Way::Free),
            RegistrationPolicy::Invite => Err(ErrorCode::InvitationRequired.into()),
            RegistrationPolicy::Closed => Err(ErrorCode::RegistrationClosed.into()),
            // Before a password is hashed for nothing; the store decides once more.
            RegistrationPolicy::Approval
                if self.applications.waiting(Caller::Address(subscriber(from))).await? >= WAITING_MAX =>
            {
                Err(refusal(NotRegistered::TooManyWaiting))
            }
            RegistrationPolicy::Approval => Ok(Way::Application { most: WAITING_MAX }),
        }
    }
}

/// Why somebody was not stored, as they are told it.
pub(super) fn refusal(why: NotRegistered) -> Failure {
    match why {
        NotRegistered::EmailTaken => ErrorCode::EmailTaken.into(),
        NotRegistered::InvitationInvalid => ErrorCode::InvitationInvalid.into(),
        NotRegistered::TooManyWaiting => {
            // Not `overloaded`, after which a client tries again at once: a person has to decide about some first.
            Failure::of(ErrorCode::ApplicationsFull).retry_after(Duration::from_secs(3_600))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLICATION: Way = Way::Application { most: WAITING_MAX };

    /// Found by an attacker: 17 subscribers of one network filled the list of those who wait in 2.4 s.
    #[test]
    fn a_network_has_a_tenth_of_those_who_wait_and_of_those_who_have_to_verify() {
        let shares = Shares::new(&Arc::new(Metrics::new()));
        let from = |number: u64| format!("2001:db8:1:{number:x}::1").parse().unwrap();
        let taken = |way, must_verify| {
            (0..20_000).filter(|number| shares.take(way, must_verify, from(number % 4_096)).is_ok()).count()
        };
        assert_eq!(taken(APPLICATION, false), 100);
        assert_eq!(taken(Way::Free, true), 1_000);
        assert!(
            shares.take(APPLICATION, true, "2001:db8:2::1".parse().unwrap()).is_ok(),
            "another network has its own"
        );
        assert!(shares.take(Way::Free, false, from(1)).is_ok(), "nothing waits");
        let invitation = Way::Invitation(protocol::InvitationId::from_bytes([1; 12]));
        assert!(shares.take(invitation, true, from(1)).is_ok(), "somebody has invited them");
    }
}
