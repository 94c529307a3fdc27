//! What a member proves who they are with, and where mail reaches them: changing the password, and the e-mail address.

use std::{net::IpAddr, sync::Arc};

use protocol::{
    ErrorCode,
    rest::{AuthResponse, EmailChange, Member, PasswordChange},
};

use super::{
    accounts::{Accounts, Authorized},
    attempts::{Attempts, Try},
    audit::{Tried, WrongFactor},
    profiles::Profiles,
    second_factor::wrong_code,
    views,
};
use crate::{
    auth::common::weakness,
    failure::Failure,
    sources::subscriber,
    store::{
        changes::{Actor, Change, EmailProof},
        members::MemberRecord,
        second_factor::CodeUse,
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
        let attempts = Attempts::new("password_changes", &accounts, metrics);
        Self { accounts, profiles, attempts }
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
        let tried = Try { who, record: &record, from, what_for: Tried::Password };
        self.attempts.make(tried, |_| wrong(), self.accounts.verify_own(&record, from, current_password)).await?;
        let (source, credentials) = (self.accounts.source_of(&record, from), record.credentials);
        let hash = self.accounts.enrolment.passwords.hash(new_password, source).await?;
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
        let code = given_code(&record, code)?;
        let tried = Try { who, record: &record, from, what_for: Tried::Email };
        let stale =
            |failure: Failure| if failure.code == ErrorCode::Stale { wrong_password("password") } else { failure };
        let used =
            self.attempts.make(tried, wrong_factor, self.check(&record, from, password, code.as_deref())).await?;
        let by = who.asks_from(from);
        if is_mailed {
            let asked = (by, accounts.post.asked(from));
            let is_recovery = used.as_ref().map(CodeUse::is_recovery);
            accounts.post.send_email_change(&record, email, used, asked).await.map_err(stale)?;
            if is_recovery.is_some() {
                accounts.codes.count(is_recovery);
            }
            return Ok(None);
        }
        if let Some(code) = code {
            self.use_code(&record, &code, by).await?;
        }
        let change = Change::Email { email, proof: EmailProof::Password(record.credentials) };
        let changed = self.profiles.apply(member, change, by).await.map_err(stale)?;
        tracing::info!(%member, "e-mail address changed");
        Ok(Some((views::member(changed.profile, self.profiles.clock.now()), changed.version)))
    }

    /// Whether a password is right, and the code of who has a second factor: whoever has the address has the account, with a forgotten
    /// password. Returns the code, which is not used up yet.
    async fn check(
        &self,
        record: &MemberRecord,
        from: IpAddr,
        password: String,
        code: Option<&str>,
    ) -> Result<Result<Option<CodeUse>, WrongFactor>, Failure> {
        if let Err(wrong) = self.accounts.verify_own(record, from, password).await? {
            return Ok(Err(wrong));
        }
        let used = code.map(|code| self.accounts.codes.look_up(record, code).ok_or(WrongFactor::SecondFactor));
        Ok(used.transpose())
    }

    /// Uses up a code that is good.
    async fn use_code(&self, record: &MemberRecord, code: &str, by: Actor) -> Result<(), Failure> {
        if !self.accounts.codes.use_up(record, code, by).await? {
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

/// The code of who has a second factor.
fn given_code(record: &MemberRecord, code: Option<String>) -> Result<Option<String>, Failure> {
    if record.second_factor.is_none() {
        return Ok(None);
    }
    let code = code.filter(|code| !code.trim().is_empty());
    code.map(Some).ok_or_else(|| Failure::field(ErrorCode::ValidationFailed, "code", "required"))
}

fn wrong() -> Failure {
    wrong_password("current_password")
}

/// What is said of a password or a code that is wrong.
pub(super) fn wrong_factor(wrong: WrongFactor) -> Failure {
    match wrong {
        WrongFactor::Password => wrong_password("password"),
        WrongFactor::SecondFactor => wrong_code(),
    }
}

/// What is said of a field that should be the member's password, and is not.
pub(super) fn wrong_password(field: &str) -> Failure {
    Failure::field(ErrorCode::ValidationFailed, field, "this is not your present password")
}
