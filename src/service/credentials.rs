//! What a member proves who they are with: changing the password.

use std::{net::IpAddr, sync::Arc};

use protocol::{
    ErrorCode,
    rest::{AuthResponse, PasswordChange},
};

use super::{
    accounts::{Accounts, Authorized},
    attempts::Attempts,
    profiles::Profiles,
};
use crate::{
    auth::{common::weakness, password::Verdict},
    failure::Failure,
    store::changes::Change,
    telemetry::Metrics,
};

/// Credentials.
pub struct Credentials {
    accounts: Arc<Accounts>,
    profiles: Arc<Profiles>,
    attempts: Attempts,
}

impl Credentials {
    /// With these.
    #[must_use]
    pub fn new(accounts: Arc<Accounts>, profiles: Arc<Profiles>, metrics: &Arc<Metrics>) -> Self {
        Self { accounts, profiles, attempts: Attempts::new("password_changes", metrics) }
    }

    /// Changes the member's password. Every other session of theirs ends, and its connections close; the proofs of their devices are good no
    /// more, and this device gets another one. So are the tokens of this session, which somebody may have copied: it goes on with those of
    /// the answer. Whoever loses that logs in with the new password.
    ///
    /// # Errors
    /// `validation_failed` for a present password that is wrong or a new one that is weak, `rate_limited`, `overloaded`, or the store.
    pub async fn change_password(
        &self,
        who: &Authorized,
        from: IpAddr,
        request: PasswordChange,
    ) -> Result<AuthResponse, Failure> {
        let PasswordChange { current_password, new_password } = request;
        let record = self.profiles.present(who.member).await?;
        if let Some(reason) = weakness(&new_password, &record.profile.name, &record.profile.email) {
            return Err(Failure::field(ErrorCode::ValidationFailed, "new_password", reason));
        }
        self.attempts.check(who)?;
        let source = self.accounts.source_of(&record, from);
        let passwords = &self.accounts.enrolment.passwords;
        let credentials = record.credentials;
        if passwords.verify(current_password, Some(record.password_hash), source).await? == Verdict::Wrong {
            return Err(wrong());
        }
        let hash = passwords.hash(new_password, source).await?;
        let by = who.asks_from(from);
        let fresh = self.accounts.fresh_token(who).await?;
        let change = Change::Password { credentials, hash, keep: Some(fresh.kept) };
        // Another request has changed it meanwhile: what was given is the present one no more. Or it has ended this session.
        let changed = self.profiles.apply(who.member, change, by).await;
        let changed = changed.map_err(|failure| if failure.code == ErrorCode::Stale { wrong() } else { failure })?;
        tracing::info!(member = %who.member, "password changed");
        self.accounts.go_on(changed, fresh).await
    }

    /// Forgets who has their whole allowance. To be called now and then.
    pub fn tidy(&self) {
        self.attempts.tidy();
    }
}

fn wrong() -> Failure {
    wrong_password("current_password")
}

/// What is said of a field that should be the member's password, and is not.
pub(super) fn wrong_password(field: &str) -> Failure {
    Failure::field(ErrorCode::ValidationFailed, field, "this is not your present password")
}
