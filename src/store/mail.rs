//! Mail that is to be sent, and the links in it that can be used once.
//!
//! What is stored of a mail is what it is about and to whom, never its text, and never what makes a link good: a link's token is
//! derived from its id, which waits here, and a secret, which does not. What can be used is recognised by a hash.
//!
//! A mail is written before whoever asked for it is answered, or in the transaction of the change that it tells of
//! ([`notice_of`]). A worker takes what is due, and what it takes is due again after a while unless it was finished: a mail is sent
//! at least once, or given up when its time is over.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use protocol::{MemberId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    StoreError,
    archive::LinkRow,
    audit::AuditRecord,
    changes::{Change, EmailProof},
    members::{MemberRecord, email_key},
    second_factor::StoredFactor,
    turns::Caller,
};

mod changes;
mod claims;
mod links;
mod room;

pub use changes::{Asked, AskedChange, CHANGES_LEFT, CHANGES_MAX, CHANGES_TO_MAX, CHANGES_WITHIN, NewChange};
pub use claims::{Claim, ClaimedAddress};
pub(super) use claims::{claimed, holds_use};
pub use links::{
    AskedFrom, GoodLink, LINK_AGAIN, LINK_LIFETIME, LINK_SENDINGS, LINKS_FROM, LINKS_MAX, LINKS_WITHIN, LinkHash,
    NewLink, Purpose, TokenId, UNVERIFIED_LINKS_FROM, handed_out,
};
pub(super) use links::{Issue, forgotten_at};
pub(super) use room::{Aside, DISPLACED, MADE, Part, Restored, Room, Sequence, better};
pub use room::{Lane, MEMBERS_MAX, SHARE_MAX, STRANGERS_MAX};

/// Notices of new devices that wait for one member at a time. One more is not written; the last one says that there were more.
pub const NEW_DEVICES_MAX: u64 = 5;
/// How long a mail that only tells something is tried to be sent.
pub const NOTICE_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Declares the kinds of mail, each in one place: the name of a kind is what stores, logs and metrics call it. What else there is to say
/// of each the compiler asks for.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal { $($(#[$meta:meta])+ $field:ident: $type:ty,)+ })+) => {
        /// A mail, or something that may become one. The form in which it is stored: a kind is never changed, only added.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Mail {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $kind { $($(#[$meta])+ $field: $type,)+ },)+
        }

        /// What a mail is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// Its name, in the database, for logs and for metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }

        impl Mail {
            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind { .. } => Kind::$kind,)+
                }
            }
        }
    };
}

kinds! {
    /// Somebody says that they have forgotten the password of this address. Whether anybody has it is looked up when it is taken.
    ForgotPassword = "forgot_password" {
        /// The address, as it was given.
        email: String,
        /// From where; unknown of one of before that was counted.
        #[serde(default)]
        asked: AskedFrom,
    }
    /// Somebody has registered with an address that a member has already.
    AddressTaken = "address_taken" {
        /// The address, as it was given.
        email: String,
        /// From where; unknown of one of before that was counted.
        #[serde(default)]
        asked: AskedFrom,
    }
    /// A link that shows that the address is the member's.
    VerifyEmail = "verify_email" {
        /// The member.
        member: MemberId,
        /// What the token is derived from.
        token: TokenId,
    }
    /// A link that sets the password.
    ResetPassword = "reset_password" {
        /// The member.
        member: MemberId,
        /// What the token is derived from.
        token: TokenId,
    }
    /// A link that changes the address of a member, to the new one, which is kept with the link.
    ChangeEmail = "change_email" {
        /// The member.
        member: MemberId,
        /// What the token is derived from.
        token: TokenId,
    }
    /// The address of a member was changed; to the former one.
    EmailChanged = "email_changed" {
        /// The member.
        member: MemberId,
        /// The former address.
        former: String,
        /// When.
        at: Timestamp,
    }
    /// A notice that waited when the address of its member was changed; to the former one, which it was for.
    FormerNotice = "former_notice" {
        /// The former address.
        former: String,
        /// The notice.
        notice: Box<Self>,
    }
    /// The password was changed by a member who was signed in.
    PasswordChanged = "password_changed" {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    }
    /// The password was set with a link.
    PasswordReset = "password_reset" {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    }
    /// A device signed in that has no proof that it had before. No more than [`NEW_DEVICES_MAX`] of one member wait.
    NewDevice = "new_device" {
        /// The member.
        member: MemberId,
        /// The session that it started.
        session: SessionId,
        /// The name of the device, as it gave it.
        device: String,
        /// When.
        at: Timestamp,
        /// Whether further ones signed in after it that no mail tells of.
        #[serde(default)]
        more: bool,
    }
    /// An administrator has let in who waited for that.
    Approved = "approved" {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    }
    /// The account was deleted. Never on its own: the member is gone, and it goes to the address that they had ([`Mail::FormerNotice`]).
    Left = "left" {
        /// Who was the member.
        member: MemberId,
        /// When.
        at: Timestamp,
    }
    /// The second factor was turned on.
    SecondFactorEnabled = "second_factor_enabled" {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    }
    /// The second factor was turned off.
    SecondFactorDisabled = "second_factor_disabled" {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    }
    /// The second factor was removed by somebody else.
    SecondFactorReset = "second_factor_reset" {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    }
    /// The recovery codes were replaced.
    RecoveryCodesReplaced = "recovery_codes_replaced" {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    }
    /// A recovery code was used.
    RecoveryCodeUsed = "recovery_code_used" {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
        /// How many are left.
        left: u32,
    }
}

impl Kind {
    /// The kind with a name, if there is one.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// Whether anybody who reaches the server has it written, as often as addresses can be made up. What concerns members goes before it:
    /// whoever fills the queue must not keep that from being sent.
    #[must_use]
    pub const fn is_of_strangers(self) -> bool {
        match self {
            Self::ForgotPassword | Self::AddressTaken | Self::VerifyEmail => true,
            Self::ResetPassword
            | Self::ChangeEmail
            | Self::EmailChanged
            | Self::FormerNotice
            | Self::PasswordChanged
            | Self::PasswordReset
            | Self::NewDevice
            | Self::Approved
            | Self::Left
            | Self::SecondFactorEnabled
            | Self::SecondFactorDisabled
            | Self::SecondFactorReset
            | Self::RecoveryCodesReplaced
            | Self::RecoveryCodeUsed => false,
        }
    }

    /// Whether it goes to an address that its member has no more: what is left of that once it is sent is to be gone.
    pub(super) const fn is_to_former(self) -> bool {
        matches!(self, Self::EmailChanged | Self::FormerNotice)
    }

    /// How long a mail of this kind is tried to be sent.
    #[must_use]
    pub const fn lifetime(self) -> Duration {
        match self {
            Self::ForgotPassword | Self::VerifyEmail | Self::ResetPassword | Self::ChangeEmail => LINK_LIFETIME,
            Self::AddressTaken
            | Self::EmailChanged
            | Self::FormerNotice
            | Self::PasswordChanged
            | Self::PasswordReset
            | Self::NewDevice
            | Self::Approved
            | Self::Left
            | Self::SecondFactorEnabled
            | Self::SecondFactorDisabled
            | Self::SecondFactorReset
            | Self::RecoveryCodesReplaced
            | Self::RecoveryCodeUsed => NOTICE_LIFETIME,
        }
    }

    /// The names of the kinds of which something holds, in their order.
    pub(super) fn names_of(holds: impl Fn(Self) -> bool) -> Vec<&'static str> {
        Self::ALL.iter().copied().filter(|kind| holds(*kind)).map(Self::as_str).collect()
    }

    /// When the oldest of some mails was written, given when the first of each lifetime is given up.
    pub(super) fn oldest(firsts: impl IntoIterator<Item = (Duration, Option<Timestamp>)>) -> Option<Timestamp> {
        firsts.into_iter().filter_map(|(lifetime, until)| until.map(|until| until.before(lifetime))).min()
    }
}

impl Mail {
    /// What the token is derived from of the link that it brings, and whose it is; nothing of a mail that brings none.
    #[must_use]
    pub(in crate::store) const fn link(&self) -> Option<(MemberId, TokenId)> {
        match self {
            &(Self::VerifyEmail { member, token }
            | Self::ResetPassword { member, token }
            | Self::ChangeEmail { member, token }) => Some((member, token)),
            _ => None,
        }
    }

    /// Whom it is for, as far as that is known.
    #[must_use]
    pub fn member(&self) -> Option<MemberId> {
        match self {
            Self::ForgotPassword { .. } | Self::AddressTaken { .. } => None,
            Self::FormerNotice { notice, .. } => notice.member(),
            Self::VerifyEmail { member, .. }
            | Self::ResetPassword { member, .. }
            | Self::ChangeEmail { member, .. }
            | Self::EmailChanged { member, .. }
            | Self::PasswordChanged { member, .. }
            | Self::PasswordReset { member, .. }
            | Self::NewDevice { member, .. }
            | Self::Approved { member, .. }
            | Self::Left { member, .. }
            | Self::SecondFactorEnabled { member, .. }
            | Self::SecondFactorDisabled { member, .. }
            | Self::SecondFactorReset { member, .. }
            | Self::RecoveryCodesReplaced { member, .. }
            | Self::RecoveryCodeUsed { member, .. } => Some(*member),
        }
    }

    /// From where it was asked for, if anybody can ask for it as often as addresses can be made up.
    #[must_use]
    pub const fn asked(&self) -> Option<AskedFrom> {
        match self {
            Self::ForgotPassword { asked, .. } | Self::AddressTaken { asked, .. } => Some(*asked),
            _ => None,
        }
    }

    /// How long it is tried to be sent.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        self.kind().lifetime()
    }

    /// What it is stored under: what takes the place of one that was not sent yet has the same. What strangers ask for about an address takes
    /// the place of nothing that is asked for from elsewhere.
    #[must_use]
    pub fn key(&self) -> String {
        let kind = self.kind();
        let name = kind.as_str();
        match self {
            Self::ForgotPassword { email, asked } | Self::AddressTaken { email, asked } => {
                format!("{}/{asked}", of_address(kind, email))
            }
            Self::VerifyEmail { member, .. }
            | Self::ResetPassword { member, .. }
            | Self::ChangeEmail { member, .. }
            | Self::PasswordChanged { member, .. }
            | Self::PasswordReset { member, .. }
            | Self::Approved { member, .. }
            | Self::Left { member, .. }
            | Self::SecondFactorEnabled { member, .. }
            | Self::SecondFactorDisabled { member, .. }
            | Self::SecondFactorReset { member, .. }
            | Self::RecoveryCodesReplaced { member, .. }
            | Self::RecoveryCodeUsed { member, .. } => format!("{name}/{member}"),
            // Who had each of several addresses is told of its change, and nobody by a mail that takes the place of theirs.
            Self::EmailChanged { member, former, .. } => format!("{}/{member}", of_address(kind, former)),
            Self::FormerNotice { former, notice } => format!("{}/{}", of_address(kind, former), notice.key()),
            // None takes the place of another one: each device is one that its member has to know of.
            Self::NewDevice { member, session, .. } => format!("{name}/{member}/{session}"),
        }
    }

    /// The notice for the address that its member had when it was written, now that they have another one. Nothing of what is not for that.
    #[must_use]
    pub(super) fn for_former(self, former: &str) -> Option<Self> {
        match self {
            Self::PasswordChanged { .. }
            | Self::PasswordReset { .. }
            | Self::NewDevice { .. }
            | Self::Approved { .. }
            | Self::Left { .. }
            | Self::SecondFactorEnabled { .. }
            | Self::SecondFactorDisabled { .. }
            | Self::SecondFactorReset { .. }
            | Self::RecoveryCodesReplaced { .. }
            | Self::RecoveryCodeUsed { .. } => {
                Some(Self::FormerNotice { former: former.to_owned(), notice: Box::new(self) })
            }
            Self::ForgotPassword { .. }
            | Self::AddressTaken { .. }
            | Self::VerifyEmail { .. }
            | Self::ResetPassword { .. }
            | Self::ChangeEmail { .. }
            | Self::EmailChanged { .. }
            | Self::FormerNotice { .. } => None,
        }
    }

    /// The last notice of a new device when there is no room for another one: it says that there were more. Nothing if it does already.
    #[must_use]
    pub(super) fn and_more(self) -> Option<Self> {
        match self {
            Self::NewDevice { member, session, device, at, more: false } => {
                Some(Self::NewDevice { member, session, device, at, more: true })
            }
            _ => None,
        }
    }
}

/// What the keys of what is about an address begin with. A hash: keys are shown where bodies are not.
fn of_address(kind: Kind, email: &str) -> String {
    use fmt::Write as _;
    let mut key = format!("{}/", kind.as_str());
    for byte in Sha256::digest(email_key(email).as_bytes()).iter().take(16) {
        // Writing to a string does not fail.
        let _ = write!(key, "{byte:02x}");
    }
    key
}

/// What the keys of what waits about the address of a member who leaves begin with; what is about the member has their id. A slash follows,
/// but in those of before it was counted from where something is asked for.
#[must_use]
pub(super) fn keys_of_address(email: &str) -> [String; 2] {
    [Kind::ForgotPassword, Kind::AddressTaken].map(|kind| of_address(kind, email))
}

/// The kinds that go to a former address of their member, and outlive them: whoever has taken an account must not keep its owner from knowing.
pub(super) const TO_FORMER: [&str; 2] = [Kind::EmailChanged.as_str(), Kind::FormerNotice.as_str()];

/// A mail that a worker has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenMail {
    /// What it is stored under.
    pub key: String,
    /// What it is about.
    pub kind: Kind,
    /// The mail. Nothing if what is stored cannot be read: it can only be finished with.
    pub mail: Option<Mail>,
    /// How often it was taken, this time included.
    pub attempts: u32,
    /// Until when it is tried.
    pub until: Timestamp,
    /// Which writing of it this is: what took its place meanwhile is not finished with it.
    pub revision: i64,
}

impl TakenMail {
    /// Until when it is tried, if that is longer than was written down: its time begins when it is taken for the first time. The node that
    /// wrote it may have a clock that is behind. What a link in it is good for does not change.
    #[must_use]
    pub fn longer_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = now.after(self.kind.lifetime());
        (self.attempts == 1 && self.until < until).then_some(until)
    }
}

/// What a change tells its member by mail, who was `before` and is `after` now.
#[must_use]
pub(crate) fn notice_of(change: &Change, before: &MemberRecord, after: &MemberRecord, at: Timestamp) -> Option<Mail> {
    let member = after.profile.id;
    match change {
        Change::Email { .. } if before.profile.email != after.profile.email => {
            Some(Mail::EmailChanged { member, former: before.profile.email.clone(), at })
        }
        Change::Password { .. } => Some(Mail::PasswordChanged { member, at }),
        Change::ResetPassword { .. } => Some(Mail::PasswordReset { member, at }),
        Change::Approve => Some(Mail::Approved { member, at }),
        Change::Erase => outlives(before).then(|| Mail::FormerNotice {
            former: before.profile.email.clone(),
            notice: Box::new(Mail::Left { member, at }),
        }),
        Change::EnableSecondFactor { .. } => Some(Mail::SecondFactorEnabled { member, at }),
        Change::DisableSecondFactor(_) => Some(Mail::SecondFactorDisabled { member, at }),
        Change::ResetSecondFactor => Some(Mail::SecondFactorReset { member, at }),
        Change::ReplaceRecoveryCodes { .. } => Some(Mail::RecoveryCodesReplaced { member, at }),
        Change::UseCode(used) if used.is_recovery() => {
            let left = after.second_factor.as_ref().map_or(0, StoredFactor::codes_left);
            Some(Mail::RecoveryCodeUsed { member, at, left })
        }
        _ => None,
    }
}

/// Whether what waits for a member who leaves is sent all the same, and that they have left: whoever has taken an account must not hide it by
/// deleting that. Not of who has not shown that the address is theirs, or was never let in.
#[must_use]
pub(super) fn outlives(before: &MemberRecord) -> bool {
    !before.is_erased && !before.profile.is_unknown()
}

/// Which links of a member are good no more after a change, by what they are for: all that were made for a password or an address of before, for
/// somebody who may sign in, or before the account was taken back; and one that changes the address with whatever its member proved who they are
/// with, and when they are suspended. A forgotten password can be set anew after those.
#[must_use]
pub(super) fn ended_links(change: &Change, before: &MemberRecord, after: &MemberRecord) -> &'static [Purpose] {
    let factor = |record: &MemberRecord| record.second_factor.as_ref().map(|factor| factor.enabled_at);
    let (old, new) = (&before.profile, &after.profile);
    let ends_all = before.password_hash != after.password_hash
        || old.email != new.email
        || (old.is_active && !new.is_active)
        || matches!(change, Change::Email { proof: EmailProof::TakenOver, .. });
    let ends_changes = before.credentials != after.credentials
        || factor(before) != factor(after)
        || (new.suspension.is_some() && old.suspension != new.suspension);
    match (ends_all, ends_changes) {
        (true, _) => &Purpose::ALL,
        (false, true) => &[Purpose::ChangeEmail],
        (false, false) => &[],
    }
}

/// Which mails are removed when their time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// All: for a server that sends nothing.
    All,
    /// Those of kinds that this server does not know, of a later version: nobody takes them here. Who takes one of the others finds out
    /// that its time is over, and says so.
    Unknown,
}

/// Mail to be sent, and the links in it.
#[async_trait]
pub trait MailStore: Send + Sync {
    /// Writes a mail, in place of one with the same [`Mail::key`], due now. Here and below, `by` is who asks for it.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] when there is no room for it ([`MEMBERS_MAX`], [`STRANGERS_MAX`], [`SHARE_MAX`]), or the store.
    async fn add(&self, by: Caller, mail: Mail, at: Timestamp) -> Result<(), StoreError>;

    /// Writes a link and its mail, together; or the mail of a link of before again; or has that be good for longer, without a mail. Which of
    /// these it is, is said where links are ([`NewLink::issue`]). What [`Caller::System`] asks for comes of a mail that waits, and takes its
    /// place: it is written whether there is room or not. False if no mail was written. No link of before ends.
    ///
    /// # Errors
    /// As [`Self::add`].
    async fn issue(&self, by: Caller, link: NewLink) -> Result<bool, StoreError>;

    /// Writes a link that changes the address of its member, its mail and the use of the code that was given for it, together; those of before
    /// end. It is looked at once more whether whoever asks may, and no code is used where they may not, or where there were too many lately. To
    /// an address [nobody registers with](super::addresses) no mail is written.
    ///
    /// # Errors
    /// As [`Self::add`].
    async fn issue_change(&self, change: NewChange) -> Result<Asked, StoreError>;

    /// The addresses that a member has asked for and that are known still, the newest first: those of [`LINKS_WITHIN`], whatever became of
    /// them. There are [`LINKS_MAX`] of a day.
    ///
    /// # Errors
    /// The store.
    async fn asked_changes(&self, member: MemberId) -> Result<Vec<AskedChange>, StoreError>;

    /// Writes a link that no mail brings, and what the audit log keeps of it, together.
    ///
    /// # Errors
    /// The store.
    async fn hand_out(&self, link: LinkRow, entry: AuditRecord) -> Result<(), StoreError>;

    /// The link that is recognised by this, if it is still good. It is used up by [`Change::ResetPassword`],
    /// [`Change::VerifyEmail`] and [`Change::Email`], and with it all others of its member and purpose.
    ///
    /// # Errors
    /// The store.
    async fn link(
        &self,
        by: Caller,
        hash: LinkHash,
        purpose: Purpose,
        at: Timestamp,
    ) -> Result<Option<GoodLink>, StoreError>;

    /// Takes the next mail of a lane that is due, which is due again at `until`. What strangers have asked for is taken in turns by their networks,
    /// and of what was [set aside](Self::set_aside) that goes first of whose network or member fewest were before it. A lane may have mails in
    /// several places, such as of what tells something and of links that were asked for: who counts `first` up has them take turns, however many
    /// wait in one.
    ///
    /// # Errors
    /// The store.
    async fn take(
        &self,
        lane: Lane,
        first: usize,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<TakenMail>, StoreError>;

    /// When the next mail of a lane is due.
    ///
    /// # Errors
    /// The store.
    async fn next(&self, lane: Lane) -> Result<Option<Timestamp>, StoreError>;

    /// Removes a mail that was taken, unless another one has taken its place.
    ///
    /// # Errors
    /// The store.
    async fn finish(&self, taken: TakenMail) -> Result<(), StoreError>;

    /// The same of one that nobody has got, together: the link that it was to bring counts as not sent ([`NewLink::issue`]).
    ///
    /// # Errors
    /// The store.
    async fn give_up(&self, taken: TakenMail) -> Result<(), StoreError>;

    /// Says when a mail that was taken is due again, and how often it was taken, unless another one has taken its place.
    ///
    /// # Errors
    /// The store.
    async fn postpone(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError>;

    /// The same, in the lane of what was set aside: it has failed, or would, and others are not to wait for it.
    ///
    /// # Errors
    /// The store.
    async fn set_aside(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError>;

    /// Has mails that are due after a time due at `now`: nobody has them in hand, and nobody waits that long. Those that nobody has taken
    /// yet, too, that are due after `untaken`: they are due a moment after they were written, by whatever clock. Writes only if there are any.
    /// Returns how many.
    ///
    /// # Errors
    /// The store.
    async fn hasten(&self, after: Timestamp, untaken: Timestamp, now: Timestamp) -> Result<u64, StoreError>;

    /// How many wait.
    ///
    /// # Errors
    /// The store.
    async fn waiting(&self) -> Result<u64, StoreError>;

    /// When the mail that has waited for longest was written, of kinds that this server knows.
    ///
    /// # Errors
    /// The store.
    async fn oldest(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Removes mails whose time is over. Returns how many.
    ///
    /// # Errors
    /// The store.
    async fn expire(&self, now: Timestamp, which: Expired) -> Result<u64, StoreError>;

    /// Forgets links from before [`LINKS_WITHIN`] that have ended, but for [claims](Claim), which end with registrations that are not verified
    /// ([`MemberStore::purge_unverified`](super::MemberStore::purge_unverified)). Returns how many.
    ///
    /// # Errors
    /// The store.
    async fn purge_links(&self, now: Timestamp) -> Result<u64, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: MemberId = MemberId::from_bytes([1; 12]);

    fn example(kind: Kind) -> Mail {
        let (token, at) = (TokenId([0xab; 16]), Timestamp::from_millis(1_000));
        let email = "Ana@Example.com".to_owned();
        let (session, device) = (SessionId::from_bytes([2; 12]), "Firefox".to_owned());
        match kind {
            Kind::ForgotPassword => Mail::ForgotPassword { email, asked: AskedFrom(7) },
            Kind::AddressTaken => Mail::AddressTaken { email, asked: AskedFrom(7) },
            Kind::VerifyEmail => Mail::VerifyEmail { member: MEMBER, token },
            Kind::ResetPassword => Mail::ResetPassword { member: MEMBER, token },
            Kind::ChangeEmail => Mail::ChangeEmail { member: MEMBER, token },
            Kind::EmailChanged => Mail::EmailChanged { member: MEMBER, former: email, at },
            Kind::FormerNotice => {
                Mail::FormerNotice { former: email, notice: Box::new(Mail::PasswordChanged { member: MEMBER, at }) }
            }
            Kind::PasswordChanged => Mail::PasswordChanged { member: MEMBER, at },
            Kind::PasswordReset => Mail::PasswordReset { member: MEMBER, at },
            Kind::NewDevice => Mail::NewDevice { member: MEMBER, session, device, at, more: false },
            Kind::Approved => Mail::Approved { member: MEMBER, at },
            Kind::Left => Mail::Left { member: MEMBER, at },
            Kind::SecondFactorEnabled => Mail::SecondFactorEnabled { member: MEMBER, at },
            Kind::SecondFactorDisabled => Mail::SecondFactorDisabled { member: MEMBER, at },
            Kind::SecondFactorReset => Mail::SecondFactorReset { member: MEMBER, at },
            Kind::RecoveryCodesReplaced => Mail::RecoveryCodesReplaced { member: MEMBER, at },
            Kind::RecoveryCodeUsed => Mail::RecoveryCodeUsed { member: MEMBER, at, left: 9 },
        }
    }

    #[test]
    fn a_mail_is_stored_as_it_ever_was() {
        for kind in Kind::ALL.iter().copied() {
            let (mail, name) = (example(kind), kind.as_str());
            assert_eq!((mail.kind(), Kind::of(name)), (kind, Some(kind)));
            let stored = serde_json::to_string(&mail).unwrap();
            assert!(stored.starts_with(&format!(r#"{{"kind":"{name}","#)), "{stored}");
            assert_eq!(serde_json::from_str::<Mail>(&stored).unwrap(), mail);
            assert!(mail.key().starts_with(&format!("{name}/")), "{}", mail.key());
        }
        let stored =
            format!(r#"{{"kind":"reset_password","member":"{}","token":"{}"}}"#, "01".repeat(12), "ab".repeat(16));
        let mail = Mail::ResetPassword { member: MEMBER, token: TokenId([0xab; 16]) };
        assert_eq!(serde_json::from_str::<Mail>(&stored).unwrap(), mail);
        let before = r#"{"kind":"forgot_password","email":"ana@example.com"}"#;
        let known = Mail::ForgotPassword { email: "ana@example.com".to_owned(), asked: AskedFrom::default() };
        assert_eq!(serde_json::from_str::<Mail>(before).unwrap(), known);
        assert!(serde_json::from_str::<Mail>(&stored.replace("abab", "abxy")).is_err());
        assert!(serde_json::from_str::<Mail>(&stored.replace("abab", "ab")).is_err());
    }

    #[test]
    fn keys_say_nothing_about_addresses_and_are_the_same_in_any_case() {
        let [first, second] = ["Ana@Example.com", " ana@example.COM "]
            .map(|email| Mail::ForgotPassword { email: email.into(), asked: AskedFrom(7) });
        assert_eq!(first.key(), second.key());
        assert!(!first.key().to_lowercase().contains("ana"));
        let [of_address, _] = keys_of_address("ana@example.com");
        assert_eq!(first.key(), format!("{of_address}/0000000000000007"));
        let elsewhere = Mail::ForgotPassword { email: "ana@example.com".into(), asked: AskedFrom(8) };
        assert_ne!(first.key(), elsewhere.key(), "one does not take the place of another's");
    }
}
