//! What a member proves who they are with, and where mail reaches them: changing the password, and the e-mail address.

use std::{net::IpAddr, sync::Arc};

use protocol::{
    ErrorCode,
    rest::{AuthResponse, EmailChange, Member, PasswordChange},
};

use super::{
    accounts::{Accounts, Authorized},
    attempts::Attempts,
    profiles::Profiles,
    second_factor::wrong_code,
    views,
};
use crate::{
    auth::{common::weakness, password::Verdict},
    failure::Failure,
    sources::subscriber,
    store::{
        changes::{Actor, Change, EmailProof},
        members::MemberRecord,
    },
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

    /// Changes the member's e-mail address. Where mail is sent, or written to the log, a link goes to the new one, and nothing changes before
    /// it is used ([`Recovery::verify_email`](super::recovery::Recovery::verify_email)); nobody learns by that whether somebody has it. Without
    /// mail there is nobody to ask: it is changed at once, and not verified.
    ///
    /// Returns the member with their version if it is changed, nothing if a link is on its way. Sessions stay.
    ///
    /// # Errors
    /// `validation_failed` for a password that is wrong, for a code of the second factor that lacks or is not good, for the address that the member has or one that no mail reaches; without mail `email_taken`; `rate_limited`,
    /// `overloaded`, or the store.
    pub async fn change_email(
        &self,
        who: &Authorized,
        from: IpAddr,
        request: EmailChange,
    ) -> Result<Option<(Member, u64)>, Failure> {
        let EmailChange { email, password, code } = request;
        let email = email.trim().to_owned();
        let (accounts, member) = (&self.accounts, who.member);
        let record = self.profiles.present(member).await?;
        if record.profile.email == email {
            return Err(Failure::field(ErrorCode::ValidationFailed, "email", "this is your address already"));
        }
        accounts.can_be_written_to(&email)?;
        let is_mailed = accounts.post.available().is_ok();
        if is_mailed {
            accounts.registrations.check(&subscriber(from))?;
        }
        self.attempts.check(who)?;
        let source = accounts.source_of(&record, from);
        let hash = Some(record.password_hash.clone());
        if accounts.enrolment.passwords.verify(password, hash, source).await? == Verdict::Wrong {
            return Err(wrong_password("password"));
        }
        self.use_code(&record, code, who.asks_from(from)).await?;
        if is_mailed {
            accounts.post.send_email_change(member, email, accounts.post.asked(from)).await?;
            return Ok(None);
        }
        let change = Change::Email { email, proof: EmailProof::Password(record.credentials) };
        let changed = self.profiles.apply(member, change, who.asks_from(from)).await;
        let stale =
            |failure: Failure| if failure.code == ErrorCode::Stale { wrong_password("password") } else { failure };
        let changed = changed.map_err(stale)?;
        tracing::info!(%member, "e-mail address changed");
        Ok(Some((views::member(changed.profile, self.profiles.clock.now()), changed.version)))
    }

    /// Uses a code of the second factor up, of who has one: whoever has the address has the account, with a forgotten password.
    async fn use_code(&self, record: &MemberRecord, code: Option<String>, by: Actor) -> Result<(), Failure> {
        if record.second_factor.is_none() {
            return Ok(());
        }
        let required = || Failure::field(ErrorCode::ValidationFailed, "code", "required");
        let code = code.filter(|code| !code.trim().is_empty()).ok_or_else(required)?;
        if !self.accounts.codes.use_up(record, &code, by).await? {
            return Err(wrong_code());
        }
        self.accounts.post.wake();
        Ok(())
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
