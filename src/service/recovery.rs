//! What links in mails do: a new password for who has forgotten theirs, showing that an address is a member's, and giving them a new one.
//!
//! Nobody learns from any of it whether an address is a member's: asking for a link writes down the address, whoever has it, and is
//! answered; only the worker that sends mail looks it up (`service::post`). Registering does the same work for an address that is
//! free and for one that is taken.

use std::{net::IpAddr, sync::Arc};

use protocol::{
    ErrorCode,
    rest::{DeviceProof, Language, RegisterRequest, ResetPasswordRequest, VerifyEmailRequest},
};

use super::{
    accounts::{Accounts, Authorized},
    guesses::Allowance,
    post::may_be_written_to,
    profiles::Profiles,
};
use crate::{
    auth::{Source, common::weakness, password::Verdict},
    failure::Failure,
    mail::tokens,
    sources::subscriber,
    store::{
        changes::{Actor, Change, EmailProof},
        mail::{GoodLink, LinkHash, Mail, Purpose},
        members::{MemberRecord, Way},
        turns::Caller,
    },
};

/// What a password is asked for that lacks or is wrong when an address is verified.
const OF_REGISTRATION: &str = "must be the password that this account was registered with; who does not know it has not registered, and sets a new one by way \
    of a forgotten password, or leaves the account to be removed";
/// The same when the address is changed.
const OF_CHANGE: &str = "must be the present password of the account that is to have this address";

/// What links in mails do.
pub struct Recovery {
    /// Accounts.
    pub accounts: Arc<Accounts>,
    /// Members' records.
    pub profiles: Arc<Profiles>,
}

impl Recovery {
    /// Has a link that sets a new password sent to an address, if a member has it: one who may sign in, now or later.
    ///
    /// # Errors
    /// `mail_unavailable`, a rate limit, `overloaded` when too many mails wait, or the store.
    pub async fn forgot_password(&self, email: &str, from: IpAddr) -> Result<(), Failure> {
        let accounts = &self.accounts;
        accounts.post.available()?;
        let address = subscriber(from);
        accounts.registrations.check(&address)?;
        let mail = Mail::ForgotPassword { email: email.trim().to_owned(), asked: accounts.post.asked(from) };
        accounts.post.send(Caller::Address(address), mail).await
    }

    /// Sets a password with a link, which is used up. Every session of the member ends, and their connections close. Wrong passwords of
    /// strangers are forgiven, and the device gets a proof, so that whoever has set the password logs in with it, whatever strangers try.
    ///
    /// # Errors
    /// `link_invalid`, `validation_failed` for a weak password, which leaves the link good, a rate limit, `overloaded`, or the store.
    pub async fn reset_password(&self, request: ResetPasswordRequest, from: IpAddr) -> Result<DeviceProof, Failure> {
        let ResetPasswordRequest { token, new_password } = request;
        let accounts = &self.accounts;
        let address = subscriber(from);
        accounts.logins.check(&address)?;
        let (link, record, good) = self.owner(&token, &[Purpose::ResetPassword], address).await?;
        let member = record.profile.id;
        if let Some(reason) = weakness(&new_password, &record.profile.name, &record.profile.email) {
            return Err(Failure::field(ErrorCode::ValidationFailed, "new_password", reason));
        }
        // Whoever has the link is who reads the member's mail: as good as one who was here before.
        let source = accounts.source_of(&record, from);
        let hash = accounts.enrolment.passwords.hash(new_password, source).await?;
        let changed =
            self.use_link(&record, Change::ResetPassword { link, hash, by_mail: good.was_mailed }, from).await?;
        tracing::info!(%member, "password reset");
        accounts.guesses.forgive(Allowance::of_strangers(&changed.profile.email));
        // One for whoever reads the member's mail, so that further links are no further codes of a second factor.
        let device_proof = accounts.new_proof(&changed, *member.as_bytes());
        Ok(DeviceProof { device_proof })
    }

    /// Shows that an address is its member's with a link, which is used up; one that was sent to a new address gives the member that one.
    /// Who has not signed in yet gives the password that they have registered with as well: otherwise whoever reads the mail would approve
    /// of a stranger who knows it. So does who gets a new address: were it mistyped, whoever reads the mail would have the account.
    ///
    /// # Errors
    /// `link_invalid`, `validation_failed` for a password that lacks or is wrong, `email_taken` when somebody else has come by the new
    /// address meanwhile, all but the first of which leave the link good; a rate limit, `overloaded`, or the store.
    pub async fn verify_email(&self, request: VerifyEmailRequest, from: IpAddr) -> Result<(), Failure> {
        let VerifyEmailRequest { token, password } = request;
        let address = subscriber(from);
        self.accounts.logins.check(&address)?;
        let (link, record, good) = self.owner(&token, &[Purpose::VerifyEmail, Purpose::ChangeEmail], address).await?;
        let (change, told) = match good.email {
            Some(email) => {
                self.check_password(&record, password, OF_CHANGE, (link, address)).await?;
                (Change::Email { email, proof: EmailProof::Link(link) }, "e-mail address changed")
            }
            None => {
                if record.profile.must_verify {
                    self.check_password(&record, password, OF_REGISTRATION, (link, address)).await?;
                }
                (Change::VerifyEmail { link }, "e-mail address verified")
            }
        };
        self.use_link(&record, change, from).await?;
        tracing::info!(member = %record.profile.id, "{told}");
        Ok(())
    }

    /// Whether whoever has a link knows its member's password; else they are told what it must be. Tries are counted for each link: who
    /// reads the mail is no stranger, and strangers do not keep them out.
    async fn check_password(
        &self,
        record: &MemberRecord,
        password: Option<String>,
        must_be: &'static str,
        (link, address): (LinkHash, IpAddr),
    ) -> Result<(), Failure> {
        let wrong = || Failure::field(ErrorCode::ValidationFailed, "password", must_be);
        let password = password.filter(|password| !password.is_empty()).ok_or_else(wrong)?;
        let (accounts, allowance) = (&self.accounts, Allowance::of_link(&link));
        let charged = accounts.guesses.take(allowance)?;
        let source = Source { address, familiar: false };
        let verified = accounts.enrolment.passwords.verify(password, Some(record.password_hash.clone()), source).await;
        // One that was right costs nothing: what follows may fail, and is tried again.
        if !matches!(verified, Ok(Verdict::Wrong)) {
            accounts.guesses.give_back(charged);
        }
        match verified? {
            Verdict::Wrong => Err(wrong()),
            Verdict::Right | Verdict::Outdated => Ok(()),
        }
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
        accounts
            .post
            .send_link(Caller::Member(who.member), who.member, Purpose::VerifyEmail, accounts.post.asked(from))
            .await
    }

    /// Whose link a token is of, and what it is good for, which is one of `purposes`. One answer for whatever is wrong with it, and with its
    /// member.
    async fn owner(
        &self,
        token: &str,
        purposes: &[Purpose],
        address: IpAddr,
    ) -> Result<(LinkHash, MemberRecord, GoodLink), Failure> {
        let (link, by) = (tokens::hash(token.trim()), Caller::Address(address));
        let accounts = &self.accounts;
        let invalid = || accounts.denied(ErrorCode::LinkInvalid);
        let mut found = None;
        for purpose in purposes {
            if found.is_none() {
                found = accounts.post.link(by, link, *purpose).await?;
            }
        }
        let good = found.ok_or_else(invalid)?;
        let record = accounts.members.by_id(by, good.member).await?;
        let record = record.filter(|record| may_be_written_to(record) && good.is_for(record, accounts.post.now()));
        Ok((link, record.ok_or_else(invalid)?, good))
    }

    /// Makes a change with a link. Administrators are told of who waits for them from then on. Returns the member after it.
    async fn use_link(&self, record: &MemberRecord, change: Change, from: IpAddr) -> Result<MemberRecord, Failure> {
        let member = record.profile.id;
        let by = Actor::without_session(member, Some(from));
        match self.profiles.commit_at(member, change, by, self.accounts.post.now()).await {
            Ok((_, after)) => {
                if record.profile.must_verify && after.profile.is_pending {
                    self.accounts.registration.applications.changed();
                }
                Ok(after)
            }
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
    /// can see who does not read its mail: the password is hashed, a use of the invitation is taken, and a mail is written.
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
        let asked = self.post.asked(from.address);
        let first_link = |member| self.post.new_link(member, Purpose::VerifyEmail, asked);
        match self.enrolment.register(request, way, (language, Some(&first_link)), from).await {
            Ok(member) => {
                self.metrics.registration(way.name());
                tracing::info!(member = %member.profile.id, "member registered; the address is to be verified");
            }
            Err(failure) if failure.code == ErrorCode::EmailTaken => {}
            Err(failure) => return Err(failure),
        }
        self.post.wake();
        Ok(())
    }
}
