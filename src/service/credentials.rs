//! What a member proves who they are with: changing the password.

use std::{net::IpAddr, sync::Arc};

use protocol::{
    ErrorCode,
    rest::{DeviceProof, PasswordChange},
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
    /// more, and this device gets another one.
    ///
    /// # Errors
    /// `validation_failed` for a present password that is wrong or a new one that is weak, `rate_limited`, `overloaded`, or the store.
    pub async fn change_password(
        &self,
        who: &Authorized,
        from: IpAddr,
        request: PasswordChange,
    ) -> Result<DeviceProof, Failure> {
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
        let change = Change::Password { credentials, hash, keep: Some(who.session) };
        // Another request has changed it meanwhile: what was given is the present one no more. Or it has ended this session.
        let changed = self.profiles.apply(who.member, change, by).await;
        let changed = changed.map_err(|failure| if failure.code == ErrorCode::Stale { wrong() } else { failure })?;
        tracing::info!(member = %who.member, "password changed");
        // One for each session, however often it does so.
        let device_proof = self.accounts.new_proof(&changed, *who.session.as_bytes());
        Ok(DeviceProof { device_proof })
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
