//! Changes to a member: what each does, and what the audit log keeps of it. The same for every store.

use std::{net::IpAddr, time::Duration};

use protocol::{
    ErrorCode, MemberId, SessionId, Timestamp,
    model::{Tier, UserType},
    rest::{Audience, AuditAction, Language, SharedWith},
    shown::{FORMER_DOMAIN, FORMER_MEMBER},
};
use serde_json::{Value, json};

use super::{
    audit::{AuditRecord, REASON},
    mail::{LinkHash, Purpose},
    members::{Contact, MemberRecord, Standing, StoredProfile, StoredVisibility, Suspension, email_key},
    second_factor::{CodeUse, RecoveryHash, StoredFactor},
    sessions::{KeptSession, SessionView},
};
use crate::failure::Failure;

/// A change to a member.
#[derive(Debug, Clone)]
pub enum Change {
    /// The profile; refused if its version is not the expected one.
    Profile {
        /// What to change, checked.
        edit: ProfileEdit,
        /// The version that it was made for.
        expected: Option<u64>,
    },
    /// The tier.
    Tier(Tier),
    /// The role.
    Role(UserType),
    /// Whether the member may sign in. Deactivating revokes their sessions.
    Active(bool),
    /// The member may not sign in until a time, or may again. Suspending revokes their sessions.
    Suspended(Option<Suspension>),
    /// The member, who waits for that, may come in.
    Approve,
    /// The password. Revokes the sessions that were started with the former one, but for one. The profile stays as it is.
    Password {
        /// The [`MemberRecord::credentials`] of the record whose password was verified; refused if they are others by now.
        credentials: u64,
        /// The hash of the new one.
        hash: String,
        /// The session that stays.
        keep: Option<KeptSession>,
    },
    /// The password, with a link, which is used up; refused if it is not good. One that came by mail shows that the address is the member's.
    /// Revokes all of their sessions.
    ResetPassword {
        /// How the link is recognised.
        link: LinkHash,
        /// The hash of the new password.
        hash: String,
        /// Whether the link came by mail: one that was handed out says nothing about the address.
        by_mail: bool,
    },
    /// The member shows that the address is theirs with a link from a mail, which is used up; refused if it is not good.
    VerifyEmail {
        /// How the link is recognised.
        link: LinkHash,
    },
    /// The e-mail address; refused if it is another member's. Links of before end, and sessions stay, unless the account is taken back.
    Email {
        /// The new one.
        email: String,
        /// What lets it be changed.
        proof: EmailProof,
    },
    /// The second factor is turned on; refused if there is another one. Whoever does so has proved who they are.
    EnableSecondFactor {
        /// The [`MemberRecord::credentials`] of the record that was looked at; refused if they are others by now.
        credentials: u64,
        /// It.
        factor: StoredFactor,
        /// The session that stays: all others were started with a password alone.
        keep: KeptSession,
    },
    /// A code of the second factor is used up; refused if it is not good, or good no more. Tried once: a second attempt would find the
    /// code used.
    UseCode(CodeUse),
    /// The recovery codes, with a code, which is used up; refused as that.
    ReplaceRecoveryCodes {
        /// The code.
        used: CodeUse,
        /// The new ones.
        codes: Vec<RecoveryHash>,
    },
    /// The second factor is turned off, with a code; refused as that.
    DisableSecondFactor(CodeUse),
    /// The second factor of a member who has lost it is removed. Revokes all of their sessions.
    ResetSecondFactor,
    /// The member leaves for ever: nothing remains but the record that messages refer to. Revokes their sessions.
    Erase,
}

/// What lets the address of a member be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailProof {
    /// A link that was sent to the new address, which is used up; refused if it is not good. The address is verified by it.
    Link(LinkHash),
    /// Their password, where no mail is sent: the [`MemberRecord::credentials`] of the record whose password was verified; refused if
    /// they are others by now.
    Password(u64),
    /// Whoever runs the server.
    Command,
    /// Whoever runs the server, because somebody has taken the account: its password is good no more, until a link sets one, all of its
    /// sessions and links end, and so do the proofs of its devices.
    TakenOver,
}

impl EmailProof {
    /// Whether it is whoever runs the server.
    const fn is_of_operator(self) -> bool {
        matches!(self, Self::Command | Self::TakenOver)
    }
}

/// What to change of a profile. What is not there stays as it is; of what can be removed, `None` within removes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileEdit {
    /// The name to show.
    pub name: Option<String>,
    /// The phone number.
    pub phone: Option<Option<String>>,
    /// Where they work.
    pub company: Option<Option<String>>,
    /// What they do there.
    pub position: Option<Option<String>>,
    /// Where the picture is.
    pub profile_image_url: Option<Option<String>>,
    /// Who sees the e-mail address.
    pub email_to: Option<SharedWith>,
    /// Who sees the phone number.
    pub phone_to: Option<SharedWith>,
    /// Who sees where they work.
    pub company_to: Option<SharedWith>,
    /// Who sees what they do there.
    pub position_to: Option<SharedWith>,
    /// Who sees the presence.
    pub presence_to: Option<Audience>,
    /// The language of mails to them.
    pub language: Option<Option<Language>>,
}

impl ProfileEdit {
    fn apply(&self, profile: &mut StoredProfile) {
        set(&mut profile.name, self.name.as_ref());
        set(&mut profile.contact.phone, self.phone.as_ref());
        set(&mut profile.contact.company, self.company.as_ref());
        set(&mut profile.contact.position, self.position.as_ref());
        set(&mut profile.profile_image_url, self.profile_image_url.as_ref());
        set(&mut profile.visibility.email, self.email_to.as_ref());
        set(&mut profile.visibility.phone, self.phone_to.as_ref());
        set(&mut profile.visibility.company, self.company_to.as_ref());
        set(&mut profile.visibility.position, self.position_to.as_ref());
        set(&mut profile.visibility.presence, self.presence_to.as_ref());
        set(&mut profile.language, self.language.as_ref());
    }
}

fn set<T: Clone>(field: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}

/// Which sessions of a member a change ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// None.
    None,
    /// All.
    All,
    /// All but this one.
    AllBut(SessionId),
}

/// Who makes a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actor {
    /// The member; nobody for the command line.
    pub member: Option<MemberId>,
    /// What let them ask for it; nothing where that is something else than a session, such as a link.
    pub session: Option<Asking>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
}

/// The session in which somebody asks for a change, and what was found good of it then. It is looked at once more when the change is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asking {
    /// The session.
    pub id: SessionId,
    /// The generation of the access token that they asked with, as [`SessionView::takes`] takes it.
    pub generation: Option<u64>,
    /// Whether only who has a second factor is an administrator.
    pub demands_second_factor: bool,
}

/// What became of a change.
pub enum Changed {
    /// It is durable, or there was nothing to change.
    Done {
        /// The member before it.
        before: Box<MemberRecord>,
        /// The member now.
        after: Box<MemberRecord>,
        /// The sessions of the member that it ended ([`Change::revokes`]): those that were good, and this attempt revoked.
        ended: Vec<SessionId>,
    },
    /// There is no such member, or they have left. That they leave is no news then, but [`Self::Done`].
    NotFound,
    /// The profile has another version than the expected one.
    Stale,
    /// It would leave the club without an administrator.
    LastAdmin,
    /// The address is another member's, or one that nobody registers with.
    EmailTaken,
    /// Whoever wanted it had given it up when its turn came.
    GivenUp,
    /// Whoever wanted it may not make it any more.
    Overtaken(Overtaken),
}

/// Why a change is not made that could be when it was asked for: something else was decided meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overtaken {
    /// The session in which it was asked for is over, or its member may not sign in.
    SignedOut,
    /// The access token with which it was asked for was replaced: the member has another password, or a second factor.
    TokenReplaced,
    /// It is for administrators alone, and who asked for it is none.
    NoAdmin,
    /// It is for administrators alone, and who asked for it has no second factor any more, which the club demands of them.
    NoSecondFactor,
}

impl From<Overtaken> for Failure {
    fn from(why: Overtaken) -> Self {
        match why {
            Overtaken::SignedOut => ErrorCode::SessionRevoked.into(),
            Overtaken::TokenReplaced => ErrorCode::TokenExpired.into(),
            Overtaken::NoAdmin => ErrorCode::Forbidden.into(),
            Overtaken::NoSecondFactor => ErrorCode::SecondFactorMissing.into(),
        }
    }
}

impl Actor {
    /// A member, and what lets them is no session.
    #[must_use]
    pub const fn without_session(member: MemberId, address: Option<IpAddr>) -> Self {
        Self { member: Some(member), session: None, address }
    }

    /// Whether somebody else than a member asks for a change of theirs.
    #[must_use]
    pub fn is_other_than(self, target: MemberId) -> bool {
        self.member != Some(target)
    }

    /// Whether a change was overtaken by what became of who asks for it. `session`: theirs, in the transaction that makes it. Never of
    /// whom something else lets than a session.
    #[must_use]
    pub fn overtaken(self, needs_admin: bool, session: Option<&SessionView>, at: Timestamp) -> Option<Overtaken> {
        let asking = self.session?;
        let stands = session.filter(|session| {
            !session.revoked && Some(session.member) == self.member && session.standing(at) == Standing::Active
        });
        match stands {
            None => Some(Overtaken::SignedOut),
            Some(session) if !session.takes(asking.generation) => Some(Overtaken::TokenReplaced),
            Some(session) if needs_admin && session.user_type != UserType::Admin => Some(Overtaken::NoAdmin),
            Some(session) if needs_admin && asking.demands_second_factor && !session.has_second_factor => {
                Some(Overtaken::NoSecondFactor)
            }
            Some(_) => None,
        }
    }
}

impl Change {
    /// Which sessions of the member the change ends.
    #[must_use]
    pub fn revokes(&self) -> Revoked {
        match self {
            Self::Active(false)
            | Self::Suspended(Some(_))
            | Self::ResetPassword { .. }
            | Self::ResetSecondFactor
            | Self::Email { proof: EmailProof::TakenOver, .. }
            | Self::Erase => Revoked::All,
            Self::Password { keep, .. } => keep.map_or(Revoked::All, |kept| Revoked::AllBut(kept.id)),
            Self::EnableSecondFactor { keep, .. } => Revoked::AllBut(keep.id),
            Self::Profile { .. }
            | Self::Tier(_)
            | Self::Role(_)
            | Self::Active(true)
            | Self::Suspended(None)
            | Self::VerifyEmail { .. }
            | Self::Email { .. }
            | Self::UseCode(_)
            | Self::ReplaceRecoveryCodes { .. }
            | Self::DisableSecondFactor(_)
            | Self::Approve => Revoked::None,
        }
    }

    /// The link that it uses up, and what that has to be for.
    #[must_use]
    pub const fn link(&self) -> Option<(LinkHash, Purpose)> {
        match self {
            Self::ResetPassword { link, .. } => Some((*link, Purpose::ResetPassword)),
            Self::VerifyEmail { link } => Some((*link, Purpose::VerifyEmail)),
            Self::Email { proof: EmailProof::Link(link), .. } => Some((*link, Purpose::ChangeEmail)),
            _ => None,
        }
    }

    /// The address that it gives the member, and whether they are kept out with one that nobody registers with: all but whoever runs the
    /// server is.
    #[must_use]
    pub(super) fn new_email(&self) -> Option<(&str, bool)> {
        match self {
            Self::Email { email, proof } => Some((email, !proof.is_of_operator())),
            _ => None,
        }
    }

    /// Whether who has registered with the new address and has not verified it gives way: to who reads its mail, and to whoever runs the server.
    #[must_use]
    pub(super) const fn displaces_unverified(&self) -> bool {
        matches!(self, Self::Email { proof: EmailProof::Link(_) | EmailProof::Command | EmailProof::TakenOver, .. })
    }

    /// Whether the member may not sign in after it.
    #[must_use]
    pub const fn forbids_sign_in(&self) -> bool {
        matches!(self, Self::Active(false) | Self::Suspended(Some(_)) | Self::Erase)
    }

    /// Whether it was made for a state of the member that is past.
    #[must_use]
    pub fn is_stale(&self, before: &MemberRecord) -> bool {
        match self {
            Self::Profile { expected, .. } => expected.is_some_and(|expected| expected != before.version),
            // What is the new one already was changed by an attempt before.
            Self::Password { credentials, hash, .. } => {
                before.credentials != *credentials && before.password_hash != *hash
            }
            Self::Email { email, proof: EmailProof::Password(credentials) } => {
                before.credentials != *credentials && before.profile.email != *email
            }
            Self::EnableSecondFactor { credentials, factor, .. } => match &before.second_factor {
                Some(known) => known != factor,
                None => before.credentials != *credentials,
            },
            Self::UseCode(used) | Self::DisableSecondFactor(used) | Self::ReplaceRecoveryCodes { used, .. } => {
                before.second_factor.as_ref().is_none_or(|factor| used.of(factor).is_none())
            }
            _ => false,
        }
    }

    /// Whether the change takes an administrator away, if `record` is the only one who may sign in.
    #[must_use]
    pub fn takes_admin(&self, record: &MemberRecord, at: Timestamp) -> bool {
        let is_admin = record.profile.user_type == UserType::Admin && record.profile.may_sign_in(at);
        is_admin && (self.forbids_sign_in() || matches!(self, Self::Role(UserType::Member)))
    }

    /// Whether there is such a member for this change. Who has left can leave again: the first time may have been confirmed too
    /// late. Who waits can only be approved, and use the links of their mails; who has to verify the address can only do that.
    #[must_use]
    pub fn finds(&self, record: &MemberRecord) -> bool {
        (!record.is_erased || matches!(self, Self::Erase))
            && (!record.profile.is_unknown()
                || self.link().is_some()
                || (matches!(self, Self::Approve) && !record.profile.must_verify))
    }

    /// The member after the change; `None` if it changes nothing.
    #[must_use]
    pub fn apply(&self, before: &MemberRecord, at: Timestamp) -> Option<MemberRecord> {
        let mut after = before.clone();
        let profile = &mut after.profile;
        match self {
            Self::Profile { edit, .. } => edit.apply(profile),
            Self::Tier(tier) => profile.tier = *tier,
            Self::Role(user_type) => profile.user_type = *user_type,
            Self::Active(is_active) => profile.is_active = *is_active,
            Self::Suspended(suspension) => profile.suspension.clone_from(suspension),
            Self::Approve if profile.is_pending => {
                profile.is_pending = false;
                profile.is_active = true;
            }
            Self::Approve => {}
            Self::Password { hash, .. } => after.password_hash.clone_from(hash),
            Self::ResetPassword { hash, by_mail, .. } => {
                after.password_hash.clone_from(hash);
                if *by_mail {
                    verify(&mut after, at);
                }
            }
            Self::VerifyEmail { .. } => verify(&mut after, at),
            Self::Email { email, proof } => change_email(&mut after, email, *proof, at),
            Self::EnableSecondFactor { factor, .. } => after.second_factor = Some(factor.clone()),
            Self::UseCode(used) => use_code(&mut after, used),
            Self::ReplaceRecoveryCodes { used, codes } => {
                use_code(&mut after, used);
                if let Some(factor) = &mut after.second_factor {
                    factor.recovery_codes.clone_from(codes);
                }
            }
            Self::DisableSecondFactor(_) | Self::ResetSecondFactor => after.second_factor = None,
            Self::Erase => erase(&mut after),
        }
        after.credentials += u64::from(self.replaces_credentials(before, &after));
        if after.profile == before.profile && after.is_erased == before.is_erased {
            // What a member proves who they are with is nothing that anybody sees.
            let is_same = after.password_hash == before.password_hash && after.second_factor == before.second_factor;
            return (!is_same).then_some(after);
        }
        // Strictly later: by it the newer of two profiles is known.
        after.profile.updated_at = at.max(before.profile.updated_at.after(Duration::from_millis(1)));
        after.version = before.version + 1;
        Some(after)
    }

    /// Whether what the member proves who they are with is another thing after it: what others have learnt of it, and have by it, is worth
    /// nothing then. Turning a second factor off takes the password and a code, and leaves nobody in who was not.
    fn replaces_credentials(&self, before: &MemberRecord, after: &MemberRecord) -> bool {
        let replaces_factor = matches!(self, Self::EnableSecondFactor { .. } | Self::ResetSecondFactor)
            && before.second_factor != after.second_factor;
        replaces_factor || before.password_hash != after.password_hash
    }

    /// The session at whose device somebody proves by it who they are.
    #[must_use]
    pub const fn proves(&self) -> Option<SessionId> {
        match self {
            Self::EnableSecondFactor { keep, .. } => Some(keep.id),
            _ => None,
        }
    }

    /// The session that stays when it ends the others, with the token that it goes on with.
    #[must_use]
    pub const fn keeps(&self) -> Option<KeptSession> {
        match self {
            Self::Password { keep, .. } => *keep,
            Self::EnableSecondFactor { keep, .. } => Some(*keep),
            _ => None,
        }
    }

    /// What the audit log keeps of it. A member's change of their own profile is nobody's business.
    #[must_use]
    pub fn audit(&self, before: &MemberRecord, after: &MemberRecord, by: Actor, at: Timestamp) -> Option<AuditRecord> {
        let (old, new) = (&before.profile, &after.profile);
        let from_to = |from: Value, to: Value| json!({ "from": from, "to": to });
        let until = |profile: &StoredProfile| json!(profile.suspension.as_ref().map(|suspension| suspension.until));
        let details = match self {
            Self::Profile { .. } if by.member == Some(old.id) => return None,
            Self::Profile { .. } => json!({ "fields": changed_fields(before, after) }),
            Self::Tier(_) => from_to(json!(old.tier), json!(new.tier)),
            Self::Role(_) => from_to(json!(old.user_type), json!(new.user_type)),
            Self::Active(_) => from_to(json!(old.is_active), json!(new.is_active)),
            Self::Suspended(suspension) => {
                let mut details = from_to(until(old), until(new));
                let reason = suspension.as_ref().and_then(|suspension| suspension.reason.as_ref());
                if let (Some(reason), Some(details)) = (reason, details.as_object_mut()) {
                    details.insert(REASON.to_owned(), json!(reason));
                }
                details
            }
            // As with a profile: of the member alone.
            Self::VerifyEmail { .. } => return None,
            // No more than any login.
            Self::UseCode(used) if !used.is_recovery() => return None,
            Self::ReplaceRecoveryCodes { used, .. } | Self::DisableSecondFactor(used) if used.is_recovery() => {
                json!({ "recovery_code": true })
            }
            Self::Email { proof: EmailProof::TakenOver, .. } => json!({ "taken_over": true }),
            Self::Approve
            | Self::Password { .. }
            | Self::ResetPassword { .. }
            | Self::Email { .. }
            | Self::EnableSecondFactor { .. }
            | Self::UseCode(_)
            | Self::ReplaceRecoveryCodes { .. }
            | Self::DisableSecondFactor(_)
            | Self::ResetSecondFactor
            | Self::Erase => json!({}),
        };
        let action = self.action();
        // Nor does the address of who leaves outlive them.
        let leaves = matches!(self, Self::Erase) && by.member == Some(old.id);
        let address = by.address.filter(|_| !leaves);
        Some(AuditRecord { at, actor: by.member, action, target: Some(old.id), details, address })
    }
}

impl Change {
    /// What the audit log calls it.
    #[must_use]
    pub const fn action(&self) -> AuditAction {
        match self {
            Self::Profile { .. } => AuditAction::ProfileChanged,
            Self::Tier(_) => AuditAction::TierChanged,
            Self::Role(_) => AuditAction::RoleChanged,
            Self::Active(_) => AuditAction::ActiveChanged,
            Self::Suspended(_) => AuditAction::SuspensionChanged,
            Self::Approve => AuditAction::ApplicationApproved,
            Self::Password { .. } => AuditAction::PasswordChanged,
            Self::ResetPassword { .. } => AuditAction::PasswordReset,
            Self::Email { .. } => AuditAction::EmailChanged,
            // Never written: see `audit`.
            Self::VerifyEmail { .. } => AuditAction::ProfileChanged,
            Self::EnableSecondFactor { .. } => AuditAction::SecondFactorEnabled,
            Self::UseCode(_) => AuditAction::RecoveryCodeUsed,
            Self::ReplaceRecoveryCodes { .. } => AuditAction::RecoveryCodesReplaced,
            Self::DisableSecondFactor(_) => AuditAction::SecondFactorDisabled,
            Self::ResetSecondFactor => AuditAction::SecondFactorReset,
            Self::Erase => AuditAction::Erased,
        }
    }
}

/// What the audit log keeps of a registration that was rejected.
#[must_use]
pub fn rejection(member: MemberId, by: Actor, at: Timestamp) -> AuditRecord {
    let action = AuditAction::ApplicationRejected;
    AuditRecord { at, actor: by.member, action, target: Some(member), details: json!({}), address: by.address }
}

/// What the audit log keeps of a new member whom somebody created.
#[must_use]
pub fn creation(member: MemberId, by: Actor, at: Timestamp) -> AuditRecord {
    let action = AuditAction::AdminCreated;
    AuditRecord { at, actor: by.member, action, target: Some(member), details: json!({}), address: by.address }
}

/// The address is the member's, from now on if not since before. Who had to show it is in, or waits for an administrator from now on.
fn verify(record: &mut MemberRecord, at: Timestamp) {
    let profile = &mut record.profile;
    profile.email_verified_at.get_or_insert(at);
    if profile.must_verify {
        profile.must_verify = false;
        profile.is_active = !profile.is_pending;
    }
}

/// The address is another one: verified at this moment if a link that was sent to it says so. The same in another case stays as verified as it
/// was. Where the account is taken back no password is right any more.
fn change_email(record: &mut MemberRecord, email: &str, proof: EmailProof, at: Timestamp) {
    let profile = &mut record.profile;
    let is_same = email_key(&profile.email) == email_key(email);
    email.clone_into(&mut profile.email);
    if !is_same {
        profile.email_verified_at = None;
    }
    if matches!(proof, EmailProof::Link(_)) {
        verify(record, at);
    }
    if proof == EmailProof::TakenOver {
        record.password_hash = String::new();
    }
}

/// Uses a code up that is good.
fn use_code(record: &mut MemberRecord, used: &CodeUse) {
    if let Some(after) = record.second_factor.as_ref().and_then(|factor| used.of(factor)) {
        record.second_factor = Some(after);
    }
}

fn erase(record: &mut MemberRecord) {
    let profile = &mut record.profile;
    FORMER_MEMBER.clone_into(&mut profile.name);
    profile.email = format!("{}@{FORMER_DOMAIN}", profile.id);
    profile.contact = Contact::default();
    profile.visibility = StoredVisibility::default();
    profile.profile_image_url = None;
    profile.user_type = UserType::Member;
    profile.last_login = None;
    profile.is_active = false;
    profile.suspension = None;
    profile.invited = None;
    profile.language = None;
    profile.email_verified_at = None;
    profile.must_verify = false;
    record.second_factor = None;
    record.password_hash = String::new();
    record.is_erased = true;
}

/// The names of the fields that differ. Names only: the audit log outlives the member.
fn changed_fields(before: &MemberRecord, after: &MemberRecord) -> Vec<&'static str> {
    let (old, new) = (&before.profile, &after.profile);
    let differences = [
        ("name", old.name != new.name),
        ("contact_info.phone", old.contact.phone != new.contact.phone),
        ("contact_info.company", old.contact.company != new.contact.company),
        ("contact_info.position", old.contact.position != new.contact.position),
        ("visibility", old.visibility != new.visibility),
        ("profile_image_url", old.profile_image_url != new.profile_image_url),
        ("language", old.language != new.language),
    ];
    differences.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
