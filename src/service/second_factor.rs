//! The second factor of a member: turning it on and off, recovery codes, and proving again who is at a device.

use std::{net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::{
    ErrorCode, MemberId, Timestamp,
    model::UserType,
    rest::{
        RecoveryCodes, SecondFactor, SecondFactorConfirmation, SecondFactorDisabling, SecondFactorEnabled,
        SecondFactorEnrolment, StepUpRequest,
    },
};

use super::{
    accounts::{Accounts, Authorized},
    attempts::{Attempts, Try},
    audit::{Tried, WrongFactor},
    codes::Codes,
    credentials::wrong_factor,
    decisions::until_known,
    profiles::Profiles,
};
use crate::{
    auth::{totp, vault::Purpose},
    failure::Failure,
    store::{
        changes::Change,
        members::MemberRecord,
        second_factor::{CodeUse, StoredFactor},
    },
    telemetry::Metrics,
};

/// How long turning it on may be confirmed.
const ENROLMENT: Duration = Duration::from_secs(10 * 60);

/// Second factors.
pub struct SecondFactors {
    accounts: Arc<Accounts>,
    profiles: Arc<Profiles>,
    /// What authenticator apps call the club.
    issuer: String,
    attempts: Attempts,
}

impl SecondFactors {
    /// With these.
    #[must_use]
    pub fn new(accounts: Arc<Accounts>, profiles: Arc<Profiles>, issuer: String, metrics: &Arc<Metrics>) -> Self {
        let attempts = Attempts::new("second_factor", &accounts, metrics);
        Self { accounts, profiles, issuer, attempts }
    }

    /// Whether the member has one.
    ///
    /// # Errors
    /// `member_not_found`, or the store.
    pub async fn state(&self, who: &Authorized) -> Result<SecondFactor, Failure> {
        let record = self.profiles.present(who.member).await?;
        let factor = record.second_factor.as_ref();
        Ok(SecondFactor {
            enabled: factor.is_some(),
            enabled_at: factor.map(|factor| factor.enabled_at),
            recovery_codes_left: factor.map_or(0, StoredFactor::codes_left),
            required: self.accounts.demands_second_factor && record.profile.user_type == UserType::Admin,
        })
    }

    /// Begins to turn one on, for whoever knows the password. Nothing is stored: the secret is given to the client, sealed.
    ///
    /// # Errors
    /// `second_factor_enabled`, `validation_failed` for a wrong password, `rate_limited`, `overloaded`, or the store.
    pub async fn begin(
        &self,
        who: &Authorized,
        from: IpAddr,
        password: String,
    ) -> Result<SecondFactorEnrolment, Failure> {
        let record = self.profiles.present(who.member).await?;
        if record.second_factor.is_some() {
            return Err(ErrorCode::SecondFactorEnabled.into());
        }
        let tried = Try { who, record: &record, from, what_for: Tried::SecondFactor };
        self.attempts.make(tried, wrong_factor, self.accounts.verify_own(&record, from, password)).await?;
        let secret: [u8; totp::SECRET] = self.accounts.ids.secret();
        let expires_at = self.accounts.clock.now().after(ENROLMENT);
        let totp::Setup { secret: shown, uri, qr } = totp::setup(&secret, &self.issuer, &record.profile.email)?;
        let plain = [&expires_at.as_millis().to_be_bytes()[..], &record.credentials.to_be_bytes(), &secret].concat();
        let Codes { vault, ids, .. } = &self.accounts.codes;
        let sealed = vault.seal(ids, Purpose::Enrolment, who.member, &plain)?;
        Ok(SecondFactorEnrolment {
            secret: shown,
            uri,
            qr: format!("data:image/png;base64,{qr}"),
            enrolment: URL_SAFE_NO_PAD.encode(sealed),
            expires_at,
        })
    }

    /// Turns it on, with a code of the app that was given the secret. Who does so has proved who they are; every other session of the
    /// member ends, and the proofs of their devices are good no more: somebody who knew the password alone may have them. This session goes
    /// on with other tokens, and this device gets another proof.
    ///
    /// # Errors
    /// `second_factor_enabled`, `validation_failed` for a code that is wrong or an enrolment that is not good or has expired,
    /// `rate_limited`, or the store.
    pub async fn confirm(
        &self,
        who: &Authorized,
        from: IpAddr,
        request: SecondFactorConfirmation,
    ) -> Result<SecondFactorEnabled, Failure> {
        let SecondFactorConfirmation { enrolment, code } = request;
        let record = self.profiles.present(who.member).await?;
        if record.second_factor.is_some() {
            return Err(ErrorCode::SecondFactorEnabled.into());
        }
        let now = self.accounts.clock.now();
        let secret = self.enrolled(&record, &enrolment, now).ok_or_else(|| {
            let message = "one that was begun in the last 10 minutes, and since a second factor was turned off";
            Failure::field(ErrorCode::ValidationFailed, "enrolment", message)
        })?;
        let tried = Try { who, record: &record, from, what_for: Tried::SecondFactor };
        let step = async {
            let step = totp::typed(&code).and_then(|digits| totp::step(&secret, &digits, now));
            Ok(step.ok_or(WrongFactor::SecondFactor))
        };
        let step = self.attempts.make(tried, wrong_factor, step).await?;
        let (factor, recovery_codes) = self.accounts.codes.begin(who.member, &secret, step, now)?;
        let fresh = self.accounts.fresh_token(who).await?;
        let change = Change::EnableSecondFactor { credentials: record.credentials, factor, keep: fresh.kept };
        let changed = match self.profiles.apply(who.member, change, who.asks_from(from)).await {
            Err(failure) if failure.code == ErrorCode::Stale => return Err(self.overtaken(who.member).await?),
            changed => changed?,
        };
        tracing::info!(member = %who.member, "second factor turned on");
        if self.accounts.demands_second_factor && changed.profile.user_type == UserType::Admin {
            // From now on they are told who waits.
            self.accounts.registration.applications.changed();
        }
        let tokens = self.accounts.go_on(changed, fresh).await?;
        let device_proof = tokens.device_proof.clone().unwrap_or_default();
        Ok(SecondFactorEnabled { recovery_codes, device_proof, tokens })
    }

    /// Why a second factor was not turned on: another request was faster, or has ended this session with another password.
    async fn overtaken(&self, member: MemberId) -> Result<Failure, Failure> {
        let record = self.profiles.present(member).await?;
        Ok(match record.second_factor {
            Some(_) => ErrorCode::SecondFactorEnabled.into(),
            None => self.accounts.denied(ErrorCode::SessionRevoked),
        })
    }

    /// Replaces the recovery codes.
    ///
    /// # Errors
    /// `validation_failed` for a code that is not good, `rate_limited`, or the store.
    pub async fn replace_recovery_codes(
        &self,
        who: &Authorized,
        from: IpAddr,
        code: &str,
    ) -> Result<RecoveryCodes, Failure> {
        let record = self.profiles.present(who.member).await?;
        let tried = Try { who, record: &record, from, what_for: Tried::SecondFactor };
        let used = self.attempts.make(tried, wrong_factor, async { Ok(self.look_up(&record, code)) }).await?;
        let (recovery_codes, codes) = self.accounts.codes.recovery_codes();
        let change = Change::ReplaceRecoveryCodes { used: used.clone(), codes };
        self.change(who, from, &used, change).await?;
        tracing::info!(member = %who.member, "recovery codes replaced");
        Ok(RecoveryCodes { recovery_codes })
    }

    /// Turns it off, for whoever knows the password and has a code.
    ///
    /// # Errors
    /// `validation_failed` for a wrong password or a code that is not good, `rate_limited`, `overloaded`, or the store.
    pub async fn disable(&self, who: &Authorized, from: IpAddr, request: SecondFactorDisabling) -> Result<(), Failure> {
        let SecondFactorDisabling { code, password } = request;
        let record = self.profiles.present(who.member).await?;
        let tried = Try { who, record: &record, from, what_for: Tried::SecondFactor };
        let check = async {
            let checked = self.accounts.verify_own(&record, from, password).await?;
            Ok(checked.and_then(|()| self.look_up(&record, &code)))
        };
        let used = self.attempts.make(tried, wrong_factor, check).await?;
        self.change(who, from, &used, Change::DisableSecondFactor(used.clone())).await?;
        tracing::info!(member = %who.member, "second factor turned off");
        Ok(())
    }

    /// Proves again who is at the device: with a code by who has a second factor, with the password by who has none.
    ///
    /// # Errors
    /// `validation_failed` for the field that is needed or wrong, `rate_limited`, `overloaded`, or the store.
    pub async fn step_up(&self, who: &Authorized, from: IpAddr, request: StepUpRequest) -> Result<(), Failure> {
        let StepUpRequest { password, code } = request;
        let record = self.profiles.present(who.member).await?;
        let given = |field: &'static str, value: Option<String>| {
            let value = value.filter(|value| !value.is_empty());
            value.ok_or_else(|| Failure::field(ErrorCode::ValidationFailed, field, "required"))
        };
        let tried = Try { who, record: &record, from, what_for: Tried::StepUp };
        if record.second_factor.is_some() {
            let code = given("code", code)?;
            let check = async {
                let was_good = self.accounts.codes.use_up(&record, &code, who.asks_from(from)).await?;
                Ok(if was_good { Ok(()) } else { Err(WrongFactor::SecondFactor) })
            };
            self.attempts.make(tried, wrong_factor, check).await?;
            self.accounts.post.wake();
        } else {
            let password = given("password", password)?;
            self.attempts.make(tried, wrong_factor, self.accounts.verify_own(&record, from, password)).await?;
        }
        self.prove(who).await
    }

    /// Forgets who has their whole allowance. To be called now and then.
    pub fn tidy(&self) {
        self.attempts.tidy();
    }

    /// Applies a change that uses a code up.
    async fn change(&self, who: &Authorized, from: IpAddr, used: &CodeUse, change: Change) -> Result<(), Failure> {
        let changed = self.profiles.apply(who.member, change, who.asks_from(from)).await;
        // Another request has used it meanwhile.
        let changed = changed.map_err(|failure| if failure.code == ErrorCode::Stale { wrong_code() } else { failure });
        self.accounts.codes.count(changed.is_ok().then_some(used.is_recovery()));
        changed.map(drop)
    }

    async fn prove(&self, who: &Authorized) -> Result<(), Failure> {
        let (sessions, now) = (&self.accounts.sessions.store, self.accounts.clock.now());
        until_known(|_| sessions.prove(who.member, who.session, now)).await?;
        Ok(())
    }

    /// A code that is good, and not used up yet.
    fn look_up(&self, record: &MemberRecord, code: &str) -> Result<CodeUse, WrongFactor> {
        self.accounts.codes.look_up(record, code).ok_or(WrongFactor::SecondFactor)
    }

    /// The secret that was sealed for a member, if it may still be confirmed: not once another one was turned on since, even if it is off again.
    fn enrolled(&self, record: &MemberRecord, enrolment: &str, now: Timestamp) -> Option<Vec<u8>> {
        let sealed = URL_SAFE_NO_PAD.decode(enrolment.trim()).ok()?;
        let plain = self.accounts.codes.vault.open(Purpose::Enrolment, record.profile.id, &sealed)?.plain;
        let (expires_at, rest) = plain.split_first_chunk::<8>()?;
        let (credentials, secret) = rest.split_first_chunk::<8>()?;
        let is_good = now < Timestamp::from_millis(i64::from_be_bytes(*expires_at))
            && u64::from_be_bytes(*credentials) == record.credentials
            && secret.len() == totp::SECRET;
        is_good.then(|| secret.to_vec())
    }
}

/// What is said of a code that is not good.
pub(super) fn wrong_code() -> Failure {
    Failure::field(
        ErrorCode::ValidationFailed,
        "code",
        "must be a code of the authenticator app that was not used yet, or a recovery code",
    )
}
