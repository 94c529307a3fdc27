//! Who may come in: the decision of the club, made before anything is done for whoever asks.

use std::{net::IpAddr, sync::Arc};

use protocol::{ErrorCode, rest::RegistrationPolicy};

use super::{applications::Applications, invitations::Invitations};
use crate::{
    failure::Failure,
    sources::subscriber,
    store::{
        members::{NotRegistered, Way},
        turns::Caller,
    },
};

/// Registrations that wait for an administrator at the same time: as many as somebody may want to read through.
pub const WAITING_MAX: u64 = 1_000;

/// Who may come in.
pub struct Registration {
    /// The decision of the club.
    pub policy: RegistrationPolicy,
    /// Those who were invited.
    pub invitations: Arc<Invitations>,
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
            Failure::of(ErrorCode::ApplicationsFull).retry_after(std::time::Duration::from_secs(3_600))
        }
    }
}
