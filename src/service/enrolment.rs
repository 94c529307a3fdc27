//! Making a member, and an administrator of one: for who registers, and for the commands that make the first administrator.

use std::sync::Arc;

use protocol::{
    ErrorCode, MemberId,
    model::UserType,
    rest::{AuditAction, Language, RegisterRequest},
    shown,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{decisions::until_known, post::may_be_written_to, registration::refusal, shared_clock::SharedClock};
use crate::{
    auth::{Passwords, Source, common::weakness},
    clock::Clock,
    failure::Failure,
    ids::Ids,
    mail::tokens,
    store::{
        MailStore, MemberStore,
        audit::AuditRecord,
        changes::{Actor, Change, Changed, EmailProof},
        mail::{NewLink, handed_out},
        members::{EmailTaken, MemberRecord, NewMember, NotFirst, Registration, UNVERIFIED_MAX, Way},
        turns::Caller,
    },
};

/// Hashes that are counted at most when their number is said at the start.
const COSTLIER_MAX: u64 = 1_000;

/// Makes members.
pub struct Enrolment {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Links.
    pub links: Arc<dyn MailStore>,
    /// Passwords.
    pub passwords: Passwords,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// When it is, for what links are good.
    pub link_clock: SharedClock,
    /// Makes ids.
    pub ids: Arc<Ids>,
}

impl Enrolment {
    /// Creates a member of any type.
    ///
    /// # Errors
    /// `validation_failed` for a weak password, `email_taken`, `overloaded`, or the store.
    pub async fn create(
        &self,
        request: RegisterRequest,
        user_type: UserType,
        created_by: Option<Actor>,
        from: Source,
    ) -> Result<MemberRecord, Failure> {
        let member = self.prepare(request, user_type, from).await?;
        self.members.insert(member, created_by).await?.map_err(|EmailTaken| Failure::of(ErrorCode::EmailTaken))
    }

    /// Creates a member who registers, in the way that they come in; with the language of their mails, if it is known. With a maker of
    /// links they have to show that the address is theirs before they sign in, and the first link is stored with them; whoever has the
    /// address already is told in its place. Tried again while the outcome is unknown, so that what follows is not lost.
    ///
    /// # Errors
    /// `email_taken`, `invitation_invalid`, `applications_full`, `overloaded`, also when too many mails wait, or the store.
    pub async fn register(
        &self,
        request: RegisterRequest,
        way: Way,
        (language, first_link): (Option<Language>, Option<&(dyn Fn(MemberId) -> NewLink + Sync)>),
        from: Source,
    ) -> Result<MemberRecord, Failure> {
        let member = self.prepare(request, UserType::Member, from).await?;
        let link = first_link.map(|first_link| first_link(member.id));
        let member = NewMember { language, must_verify: link.is_some(), ..member };
        let new = Registration { member, way, from: from.address, link, most_unverified: UNVERIFIED_MAX };
        until_known(|_| self.members.register(new.clone())).await?.outcome.map_err(refusal)
    }

    /// Creates the first administrator, who is said to have done so themselves, from an address.
    ///
    /// # Errors
    /// `already_set_up` if there is one, `email_taken`, `overloaded`, or the store.
    pub async fn create_first_admin(&self, request: RegisterRequest, from: Source) -> Result<MemberRecord, Failure> {
        let member = self.prepare(request, UserType::Admin, from).await?;
        let by = Actor::without_session(member.id, Some(from.address));
        self.members.insert_first_admin(member, by).await?.map_err(|refused| match refused {
            NotFirst::EmailTaken => Failure::of(ErrorCode::EmailTaken),
            NotFirst::HasAdmin => Failure::of(ErrorCode::AlreadySetUp),
        })
    }

    /// A member to be stored, with their password hashed.
    async fn prepare(&self, request: RegisterRequest, user_type: UserType, from: Source) -> Result<NewMember, Failure> {
        let RegisterRequest { name, email, password, .. } = request;
        let (name, email) = (shown::normalized(name.trim()), email.trim().to_owned());
        if let Some(reason) = weakness(&password, &name, &email) {
            return Err(Failure::field(ErrorCode::ValidationFailed, "password", reason));
        }
        Ok(NewMember {
            id: self.ids.member(),
            name,
            email,
            password_hash: self.passwords.hash(password, from).await?,
            user_type,
            created_at: self.clock.now(),
            language: None,
            must_verify: false,
        })
    }

    /// Says in the log how many members have a hash of a password whose cost is higher than what an unknown address takes: until they have
    /// logged in, the time of a wrong password tells that they are there.
    pub async fn tell_costs(&self) {
        let most = self.passwords.most_masked();
        match self.members.count_costlier(most, COSTLIER_MAX).await {
            Ok(0) => {}
            Ok(hashes) => tracing::warn!(
                hashes,
                more = hashes == COSTLIER_MAX,
                above = most,
                "the hashes of some passwords cost more than is made up for: a wrong password of these members takes longer, until they \
                 have logged in once"
            ),
            Err(error) => tracing::warn!(%error, "the costs of the hashes of passwords are not known"),
        }
    }

    /// Makes the member with an address an administrator, in the name of nobody. A server that runs beside this knows it from
    /// the member's next request on; nobody is told.
    ///
    /// # Errors
    /// `member_not_found`, `email_unverified` for who has to show first that the address is theirs, or the store.
    pub async fn promote(&self, email: &str) -> Result<MemberRecord, Failure> {
        self.change(email, Change::Role(UserType::Admin)).await
    }

    /// Removes the second factor of the member with an address, in the name of nobody, and ends their sessions.
    ///
    /// # Errors
    /// `member_not_found`, or the store.
    pub async fn reset_second_factor(&self, email: &str) -> Result<MemberRecord, Failure> {
        self.change(email, Change::ResetSecondFactor).await
    }

    /// A link that sets the password of the member with an address, once, within [`LINK_LIFETIME`], in the name of nobody: for who has
    /// lost it where no mail is sent. Returns the member, and the token of the link.
    ///
    /// # Errors
    /// `member_not_found`, `member_deactivated` for who may not sign in anyway, or the store.
    ///
    /// [`LINK_LIFETIME`]: crate::store::mail::LINK_LIFETIME
    pub async fn reset_link(&self, email: &str) -> Result<(MemberRecord, String), Failure> {
        let found = self.members.by_email(Caller::System, email.trim()).await?;
        let record = found.filter(|record| !record.is_erased).ok_or(ErrorCode::MemberNotFound)?;
        if !may_be_written_to(&record) {
            return Err(ErrorCode::MemberDeactivated.into());
        }
        let token = self.hand_out_link(record.profile.id).await?;
        Ok((record, token))
    }

    /// Stores a link that sets the password of a member. Returns its token.
    async fn hand_out_link(&self, member: MemberId) -> Result<String, Failure> {
        let (token, at) = (tokens::random(self.ids.secret()), self.link_clock.now());
        let entry = AuditRecord {
            at,
            actor: None,
            action: AuditAction::ResetLinkMade,
            target: Some(member),
            details: json!({}),
            address: None,
        };
        self.links.hand_out(handed_out(member, tokens::hash(&token), at), entry).await?;
        Ok(token)
    }

    /// Gives the member with an address another one, in the name of nobody: for who has lost the former one and the way into the account.
    /// It is not verified; sessions stay, and a mail to the former address tells of it. An address with which nobody registers is no
    /// matter here.
    ///
    /// # Errors
    /// `member_not_found`, `email_taken`, or the store.
    pub async fn set_email(&self, email: &str, new: &str) -> Result<MemberRecord, Failure> {
        let change = Change::Email { email: new.trim().to_owned(), proof: EmailProof::Command };
        self.change(email, change).await
    }

    /// The same of an account that somebody has taken, and with the address that it has, too: its sessions and links and the proofs of its
    /// devices end, and nobody gets in with its password, all in one change. Returns the member, and the token of a link that sets a password;
    /// none of who is deactivated. When this ends before there is a link, nobody can sign in, and [`Self::reset_link`] makes one.
    ///
    /// # Errors
    /// `member_not_found`, `email_taken`, or the store.
    pub async fn take_back(&self, email: &str, new: &str) -> Result<(MemberRecord, Option<String>), Failure> {
        let change = Change::Email { email: new.trim().to_owned(), proof: EmailProof::TakenOver };
        let record = self.change(email, change).await?;
        if !may_be_written_to(&record) {
            return Ok((record, None));
        }
        let token = self.hand_out_link(record.profile.id).await?;
        Ok((record, Some(token)))
    }

    async fn change(&self, email: &str, change: Change) -> Result<MemberRecord, Failure> {
        let found = self.members.by_email(Caller::System, email.trim()).await?;
        let profile = found.ok_or(ErrorCode::MemberNotFound)?.profile;
        if profile.must_verify && matches!(change, Change::Role(_)) {
            return Err(ErrorCode::EmailUnverified.into());
        }
        let member = profile.id;
        let (by, at) = (Actor::default(), self.clock.now());
        match self.members.change(member, change, by, at, CancellationToken::new()).await? {
            Changed::Done { after, .. } => Ok(*after),
            Changed::NotFound => Err(ErrorCode::MemberNotFound.into()),
            Changed::EmailTaken => Err(ErrorCode::EmailTaken.into()),
            // What is changed here is neither, and it is not given up.
            Changed::Stale | Changed::LastAdmin | Changed::GivenUp | Changed::Overtaken(_) => {
                Err(ErrorCode::Internal.into())
            }
        }
    }
}
