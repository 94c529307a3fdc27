//! What links in mails do: a new password for who has forgotten theirs, and showing that an address is a member's.
//!
//! Nobody learns from any of it whether an address is a member's: asking for a link writes down the address, whoever has it, and is
//! answered; only the worker that sends mail looks it up (`service::post`). Registering does the same work for an address that is
//! free and for one that is taken.

use std::{net::IpAddr, sync::Arc};

use protocol::{
    ErrorCode, MemberId,
    rest::{AuthResponse, DeviceInfo, Language, RegisterRequest, ResetPasswordRequest},
};

use super::{
    accounts::{Accounts, Authorized},
    credentials::Credentials,
    post::may_be_written_to,
    profiles::Profiles,
    sessions::stored_device,
};
use crate::{
    auth::{Source, common::weakness},
    failure::Failure,
    mail::tokens,
    sources::subscriber,
    store::{
        changes::{Actor, Change},
        mail::{LinkHash, Mail, Purpose},
        members::{MemberRecord, Way},
        sessions::{SessionDevice, platform_word},
        turns::Caller,
    },
};

/// What links in mails do.
pub struct Recovery {
    /// Accounts.
    pub accounts: Arc<Accounts>,
    /// Members' records.
    pub profiles: Arc<Profiles>,
    /// Passwords.
    pub credentials: Arc<Credentials>,
}

impl Recovery {
    /// Has a link that sets a new password sent to an address, if a member has it who may sign in.
    ///
    /// # Errors
    /// `mail_unavailable`, a rate limit, `overloaded` when too many mails wait, or the store.
    pub async fn forgot_password(&self, email: &str, from: IpAddr) -> Result<(), Failure> {
        let accounts = &self.accounts;
        accounts.post.available()?;
        let address = subscriber(from);
        accounts.registrations.check(&address)?;
        accounts.post.send(Caller::Address(address), Mail::ForgotPassword { email: email.trim().to_owned() }).await
    }

    /// Sets a password with a link, which is used up. Every session of the member ends, and their connections close.
    ///
    /// # Errors
    /// `link_invalid`, `validation_failed` for a weak password, which leaves the link good, a rate limit, `overloaded`, or the store.
    pub async fn reset_password(&self, request: ResetPasswordRequest, from: IpAddr) -> Result<(), Failure> {
        let ResetPasswordRequest { token, new_password } = request;
        let accounts = &self.accounts;
        let address = subscriber(from);
        accounts.logins.check(&address)?;
        let (link, record) = self.owner(&token, Purpose::ResetPassword, address).await?;
        let member = record.profile.id;
        if let Some(reason) = weakness(&new_password, &record.profile.name, &record.profile.email) {
            return Err(Failure::field(ErrorCode::ValidationFailed, "new_password", reason));
        }
        // Whoever has the link is who reads the member's mail: as good as one who was here before.
        let hash = accounts.enrolment.passwords.hash(new_password, Source { address, familiar: true }).await?;
        self.apply(member, Change::ResetPassword { link, hash }, from).await?;
        tracing::info!(%member, "password reset");
        self.credentials.end_revoked(member).await;
        Ok(())
    }

    /// Shows that an address is its member's with a link, which is used up.
    ///
    /// # Errors
    /// `link_invalid`, a rate limit, or the store.
    pub async fn verify_email(&self, token: &str, from: IpAddr) -> Result<(), Failure> {
        self.accounts.logins.check(&subscriber(from))?;
        let (link, record) = self.owner(token, Purpose::VerifyEmail, subscriber(from)).await?;
        self.apply(record.profile.id, Change::VerifyEmail { link }, from).await?;
        tracing::info!(member = %record.profile.id, "e-mail address verified");
        Ok(())
    }

    /// Has a link that shows that the address is theirs sent to a member who has not done so yet.
    ///
    /// # Errors
    /// `mail_unavailable`, `member_not_found`, a rate limit, `overloaded` when too many mails wait, or the store.
    pub async fn send_verification(&self, who: &Authorized, from: IpAddr) -> Result<(), Failure> {
        let accounts = &self.accounts;
        accounts.post.available()?;
        accounts.registrations.check(&subscriber(from))?;
        let record = self.profiles.present(who.member).await?;
        if record.profile.email_verified_at.is_some() {
            return Ok(());
        }
        accounts.post.send_link(Caller::Member(who.member), who.member, Purpose::VerifyEmail).await
    }

    /// Whose link a token is of. One answer for whatever is wrong with it, and with its member.
    async fn owner(&self, token: &str, purpose: Purpose, address: IpAddr) -> Result<(LinkHash, MemberRecord), Failure> {
        let (link, by) = (tokens::hash(token.trim()), Caller::Address(address));
        let accounts = &self.accounts;
        let invalid = || accounts.denied(ErrorCode::LinkInvalid);
        let good = accounts.post.store.link(by, link, purpose, accounts.clock.now()).await?.ok_or_else(invalid)?;
        let record = accounts.members.by_id(by, good.member).await?;
        let record = record.filter(may_be_written_to);
        Ok((link, record.ok_or_else(invalid)?))
    }

    async fn apply(&self, member: MemberId, change: Change, from: IpAddr) -> Result<(), Failure> {
        let by = Actor { member: Some(member), address: Some(from) };
        match self.profiles.apply(member, change, by).await {
            Ok(_) => Ok(()),
            // Used meanwhile, or replaced.
            Err(failure) if [ErrorCode::Stale, ErrorCode::MemberNotFound].contains(&failure.code) => {
                Err(self.accounts.denied(ErrorCode::LinkInvalid))
            }
            Err(failure) => Err(failure),
        }
    }
}

impl Accounts {
    /// Registers a member who has to show that the address is theirs. The same happens for an address that is taken, as far as anybody
    /// can see who does not read its mail: the password is hashed, and two writes are committed.
    ///
    /// # Errors
    /// `invitation_invalid`, `applications_full`, `overloaded`, or the store.
    pub(super) async fn register_by_mail(
        &self,
        request: RegisterRequest,
        way: Way,
        language: Option<Language>,
        from: Source,
    ) -> Result<(), Failure> {
        let email = request.email.trim().to_owned();
        let by = Caller::Address(from.address);
        match self.enrolment.register(request, way, (language, true), from).await {
            Ok(member) => {
                self.metrics.registration(way.name());
                if member.profile.is_pending {
                    self.registration.applications.changed();
                }
                tracing::info!(member = %member.profile.id, "member registered; the address is to be verified");
                self.post.send_link(by, member.profile.id, Purpose::VerifyEmail).await
            }
            Err(failure) if failure.code == ErrorCode::EmailTaken => {
                let notice = Mail::AddressTaken { email };
                // In place of the member who is not stored. The second write takes its place, and one mail is sent.
                self.post.hold(by, notice.clone()).await?;
                self.post.send(by, notice).await
            }
            Err(failure) => Err(failure),
        }
    }

    /// Logs a member in who has shown that they are who they say, and tells them by mail of a device that has no proof that it was
    /// there before (`is_known`): what it says about itself, and where it is, proves nothing. Not of the first login of all.
    ///
    /// # Errors
    /// Those of [`Self::start_session`].
    pub(super) async fn log_in_from(
        &self,
        member: MemberRecord,
        device: Option<DeviceInfo>,
        is_known: bool,
        from: IpAddr,
    ) -> Result<AuthResponse, Failure> {
        let tell_of = (self.post.is_sent() && !is_known).then(|| {
            let SessionDevice { name, platform } = stored_device(device.clone());
            name.unwrap_or_else(|| platform.map_or("?", platform_word).to_owned())
        });
        self.start_session(member, device, tell_of, from).await
    }

    /// Refuses whoever has the right password and has not shown yet that the address is theirs, and sends them the link again.
    ///
    /// # Errors
    /// `email_unverified`, `overloaded` when too many mails wait, or the store.
    pub(super) async fn check_verified(&self, member: &MemberRecord) -> Result<(), Failure> {
        if !member.must_verify || !self.post.is_sent() {
            return Ok(());
        }
        // Whoever knows the password is the member, as far as anybody can tell.
        let member = member.profile.id;
        self.post.send_link(Caller::Member(member), member, Purpose::VerifyEmail).await?;
        Err(self.denied(ErrorCode::EmailUnverified))
    }
}
