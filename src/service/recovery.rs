//! What links in mails do: a new password for who has forgotten theirs, and showing that an address is a member's.
//!
//! Nobody learns from any of it whether an address is a member's: asking for a link writes down the address, whoever has it, and is
//! answered; only the worker that sends mail looks it up (`service::post`). Registering does the same work for an address that is
//! free and for one that is taken.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{
    ErrorCode, MemberId,
    rest::{AuthResponse, DeviceInfo, Language, RegisterRequest, ResetPasswordRequest},
};

use tokio::time::sleep;

use super::{
    accounts::{Accounts, Authorized},
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
        sessions::platform_word,
        turns::Caller,
    },
};

/// How long after the answer of a login its link is sent again.
const REMINDED_AFTER: Duration = Duration::from_millis(100);

/// What links in mails do.
pub struct Recovery {
    /// Accounts.
    pub accounts: Arc<Accounts>,
    /// Members' records.
    pub profiles: Arc<Profiles>,
}

impl Recovery {
    /// Has a link that sets a new password sent to an address, if a member has it who may sign in.
    ///
    /// # Errors
    /// `mail_unavailable`, a rate limit, `overloaded` when too many mails wait, or the store.
    pub async fn forgot_password(&self, email: &str, from: IpAddr) -> Result<(), Failure> {
        let accounts = &self.accounts;
        accounts.post.available()?;
        accounts.registrations.check(&subscriber(from))?;
        accounts.post.send(Mail::ForgotPassword { email: email.trim().to_owned() }).await
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
        accounts.post.wake();
        accounts.devices.end_revoked(member).await;
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
        accounts.post.send_link(who.member, Purpose::VerifyEmail).await
    }

    /// Whose link a token is of. One answer for whatever is wrong with it, and with its member.
    async fn owner(&self, token: &str, purpose: Purpose, address: IpAddr) -> Result<(LinkHash, MemberRecord), Failure> {
        let (link, by) = (tokens::hash(token.trim()), Caller::Address(address));
        let accounts = &self.accounts;
        let invalid = || accounts.denied(ErrorCode::LinkInvalid);
        let member = accounts.post.store.link(by, link, purpose, accounts.clock.now()).await?.ok_or_else(invalid)?;
        let record = accounts.members.by_id(by, member).await?;
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
    /// can see who does not read its mail: it is looked up, the password is hashed, and two writes are committed.
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
        let made = match self.members.by_email(Caller::Address(from.address), &email).await? {
            None => self.enrolment.register(request, way, (language, true), from).await,
            // Not even tried: that would be one write more.
            Some(_) => self.enrolment.rehearse(request, from).await.and(Err(ErrorCode::EmailTaken.into())),
        };
        match made {
            Ok(member) => {
                self.metrics.registration(way.name());
                if member.profile.is_pending {
                    self.registration.applications.changed();
                }
                tracing::info!(member = %member.profile.id, "member registered; the address is to be verified");
                self.post.send_link(member.profile.id, Purpose::VerifyEmail).await
            }
            Err(failure) if failure.code == ErrorCode::EmailTaken => {
                let notice = Mail::AddressTaken { email };
                // In place of the member who is not stored; nobody is woken, so the second write takes its place and one mail is sent.
                self.post.store.add(notice.clone(), self.clock.now()).await?;
                self.post.send(notice).await
            }
            Err(failure) => Err(failure),
        }
    }

    /// Logs a member in who has shown that they are who they say, and tells them by mail of a device that has no proof that it was
    /// there before (`is_known`), and that none of their sessions that are still known was on. Not of the first one of all. Nothing, if
    /// the password is another one by now.
    ///
    /// # Errors
    /// Those of [`Self::start_session`].
    pub(super) async fn log_in_from(
        &self,
        member: MemberRecord,
        device: Option<DeviceInfo>,
        is_known: bool,
        from: IpAddr,
    ) -> Result<Option<AuthResponse>, Failure> {
        let id = member.profile.id;
        let new = stored_device(device.clone());
        let known = if self.post.is_sent() && !is_known { self.sessions.of_member(id).await? } else { Vec::new() };
        let is_new = !known.is_empty() && known.iter().all(|session| session.device != new);
        let Some(answer) = self.start_session(member, device, from).await? else { return Ok(None) };
        if is_new {
            let device = new.name.unwrap_or_else(|| new.platform.map_or("?", platform_word).to_owned());
            let notice = Mail::NewDevice { member: id, device, at: self.clock.now() };
            if let Err(failure) = self.post.send(notice).await {
                // They are logged in all the same.
                tracing::warn!(member = %id, problem = failure.message, "a member is not told of a new device");
            }
        }
        Ok(Some(answer))
    }

    /// Whether a member may not sign in before they have shown that the address is theirs.
    pub(super) fn has_to_verify(&self, member: &MemberRecord) -> bool {
        member.must_verify && self.post.is_sent()
    }

    /// What a login is answered that is not let in, whatever the reason. Were somebody told that only the link is missing, they could
    /// register with an address and log in with the password of that: it would say whether a member has the address already.
    pub(super) fn unknown(&self) -> Failure {
        let failure = self.denied(ErrorCode::InvalidCredentials);
        if !self.post.is_sent() {
            return failure;
        }
        let message = "There is no member with this e-mail address and password, or the address is not confirmed yet. If you have \
            registered, open the link in the mail that was sent to it; then log in. It was sent again if the password is right.";
        Failure::new(failure.code, message)
    }

    /// Has the link sent again to somebody who has logged in with the right password before they used one. Nobody waits for it: the
    /// answer takes as long as with a wrong password.
    pub(super) fn remind_to_verify(self: &Arc<Self>, member: &MemberRecord) {
        if !may_be_written_to(member) {
            return;
        }
        let Ok(place) = Arc::clone(&self.reminding).try_acquire_owned() else { return };
        let (accounts, member) = (Arc::clone(self), member.profile.id);
        tokio::spawn(async move {
            let _place = place;
            // The store, and the processor, have nothing of it to do before the answer is there.
            sleep(REMINDED_AFTER).await;
            if let Err(failure) = accounts.post.send_link(member, Purpose::VerifyEmail).await {
                tracing::warn!(%member, problem = failure.message, "a member does not get the link again that verifies the address");
            }
        });
    }
}
