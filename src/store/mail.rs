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
use protocol::{MemberId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

use super::{
    StoreError,
    archive::LinkRow,
    changes::Change,
    members::{MemberRecord, email_key},
    second_factor::StoredFactor,
    turns::Caller,
};

/// Mails that wait at a time, over all nodes. With more nothing is taken in.
pub const WAITING_MAX: u64 = 10_000;
/// Links for one member in [`LINKS_WITHIN`].
pub const LINKS_MAX: u32 = 5;
/// See [`LINKS_MAX`].
pub const LINKS_WITHIN: Duration = Duration::from_secs(60 * 60);
/// Links for a member who has not shown that the address is theirs, in [`UNVERIFIED_LINKS_WITHIN`]: whoever registers somebody else's
/// address must not fill their inbox.
pub const UNVERIFIED_LINKS_MAX: u32 = 3;
/// See [`UNVERIFIED_LINKS_MAX`]. What is known of a link is forgotten after that.
pub const UNVERIFIED_LINKS_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a link is good, and how long its mail is tried to be sent.
pub const LINK_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How long a mail that only tells something is tried to be sent.
pub const NOTICE_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The hash of the token of a link.
pub type LinkHash = [u8; 32];

/// What a token is derived from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId(pub [u8; 16]);

impl fmt::Display for TokenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TokenId({self})")
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom("32 hexadecimal digits"))
    }
}

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Shows that the address is its member's.
    VerifyEmail,
    /// Sets the password.
    ResetPassword,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::VerifyEmail, Self::ResetPassword];

    /// The name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
        }
    }

    /// The mail that brings it.
    #[must_use]
    pub const fn mail(self, member: MemberId, token: TokenId) -> Mail {
        match self {
            Self::VerifyEmail => Mail::VerifyEmail { member, token },
            Self::ResetPassword => Mail::ResetPassword { member, token },
        }
    }
}

/// A mail, or something that may become one. The form in which it is stored: a kind is never changed, only added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mail {
    /// Somebody says that they have forgotten the password of this address. Whether anybody has it is looked up when it is taken.
    ForgotPassword {
        /// The address, as it was given.
        email: String,
    },
    /// Somebody has registered with an address that a member has already.
    AddressTaken {
        /// The address, as it was given.
        email: String,
    },
    /// A link that shows that the address is the member's.
    VerifyEmail {
        /// The member.
        member: MemberId,
        /// What the token is derived from.
        token: TokenId,
    },
    /// A link that sets the password.
    ResetPassword {
        /// The member.
        member: MemberId,
        /// What the token is derived from.
        token: TokenId,
    },
    /// The password was changed by a member who was signed in.
    PasswordChanged {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    },
    /// The password was set with a link.
    PasswordReset {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    },
    /// A device signed in that had not before.
    NewDevice {
        /// The member.
        member: MemberId,
        /// The name of the device, as it gave it.
        device: String,
        /// When.
        at: Timestamp,
    },
    /// The second factor was turned on.
    SecondFactorEnabled {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    },
    /// The second factor was turned off.
    SecondFactorDisabled {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    },
    /// The second factor was removed by somebody else.
    SecondFactorReset {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    },
    /// The recovery codes were replaced.
    RecoveryCodesReplaced {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    },
    /// A recovery code was used.
    RecoveryCodeUsed {
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
        /// How many are left.
        left: u32,
    },
}

impl Mail {
    /// All kinds.
    pub(super) const KINDS: [&str; 12] = [
        "forgot_password",
        "address_taken",
        "verify_email",
        "reset_password",
        "password_changed",
        "password_reset",
        "new_device",
        "second_factor_enabled",
        "second_factor_disabled",
        "second_factor_reset",
        "recovery_codes_replaced",
        "recovery_code_used",
    ];

    /// Its kind, for logs and metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ForgotPassword { .. } => "forgot_password",
            Self::AddressTaken { .. } => "address_taken",
            Self::VerifyEmail { .. } => "verify_email",
            Self::ResetPassword { .. } => "reset_password",
            Self::PasswordChanged { .. } => "password_changed",
            Self::PasswordReset { .. } => "password_reset",
            Self::NewDevice { .. } => "new_device",
            Self::SecondFactorEnabled { .. } => "second_factor_enabled",
            Self::SecondFactorDisabled { .. } => "second_factor_disabled",
            Self::SecondFactorReset { .. } => "second_factor_reset",
            Self::RecoveryCodesReplaced { .. } => "recovery_codes_replaced",
            Self::RecoveryCodeUsed { .. } => "recovery_code_used",
        }
    }

    /// Whom it is for, as far as that is known.
    #[must_use]
    pub const fn member(&self) -> Option<MemberId> {
        match self {
            Self::ForgotPassword { .. } | Self::AddressTaken { .. } => None,
            Self::VerifyEmail { member, .. }
            | Self::ResetPassword { member, .. }
            | Self::PasswordChanged { member, .. }
            | Self::PasswordReset { member, .. }
            | Self::NewDevice { member, .. }
            | Self::SecondFactorEnabled { member, .. }
            | Self::SecondFactorDisabled { member, .. }
            | Self::SecondFactorReset { member, .. }
            | Self::RecoveryCodesReplaced { member, .. }
            | Self::RecoveryCodeUsed { member, .. } => Some(*member),
        }
    }

    /// How long it is tried to be sent.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        match self {
            Self::ForgotPassword { .. } | Self::VerifyEmail { .. } | Self::ResetPassword { .. } => LINK_LIFETIME,
            Self::AddressTaken { .. }
            | Self::PasswordChanged { .. }
            | Self::PasswordReset { .. }
            | Self::NewDevice { .. }
            | Self::SecondFactorEnabled { .. }
            | Self::SecondFactorDisabled { .. }
            | Self::SecondFactorReset { .. }
            | Self::RecoveryCodesReplaced { .. }
            | Self::RecoveryCodeUsed { .. } => NOTICE_LIFETIME,
        }
    }

    /// What it is stored under: what takes the place of one that was not sent yet has the same.
    #[must_use]
    pub fn key(&self) -> String {
        let kind = self.kind();
        match self {
            Self::ForgotPassword { email } | Self::AddressTaken { email } => of_address(kind, email),
            Self::VerifyEmail { member, .. }
            | Self::ResetPassword { member, .. }
            | Self::PasswordChanged { member, .. }
            | Self::PasswordReset { member, .. }
            | Self::NewDevice { member, .. }
            | Self::SecondFactorEnabled { member, .. }
            | Self::SecondFactorDisabled { member, .. }
            | Self::SecondFactorReset { member, .. }
            | Self::RecoveryCodesReplaced { member, .. }
            | Self::RecoveryCodeUsed { member, .. } => format!("{kind}/{member}"),
        }
    }
}

/// The key of what is about an address. A hash: keys are shown where bodies are not.
fn of_address(kind: &str, email: &str) -> String {
    use fmt::Write as _;
    let mut key = format!("{kind}/");
    for byte in Sha256::digest(email_key(email).as_bytes()).iter().take(16) {
        // Writing to a string does not fail.
        let _ = write!(key, "{byte:02x}");
    }
    key
}

/// The keys of what waits about the address of a member who leaves; what is about the member has their id.
#[must_use]
pub(super) fn keys_of_address(email: &str) -> [String; 2] {
    ["forgot_password", "address_taken"].map(|kind| of_address(kind, email))
}

/// A link to be written, with its mail. One of before for the same purpose is good no more.
#[derive(Debug, Clone, Copy)]
pub struct NewLink {
    /// For whom.
    pub member: MemberId,
    /// What it does.
    pub purpose: Purpose,
    /// What its token is derived from.
    pub token: TokenId,
    /// How its token is recognised.
    pub hash: LinkHash,
    /// Now.
    pub at: Timestamp,
}

impl NewLink {
    /// The mail that brings it.
    #[must_use]
    pub const fn mail(&self) -> Mail {
        self.purpose.mail(self.member, self.token)
    }

    /// As it is stored. One that is over is good for nothing.
    pub(super) fn row(&self, is_over: bool) -> LinkRow {
        let Self { member, purpose, hash, at, .. } = *self;
        LinkRow { hash, member, purpose, made_at: at, expires_at: at.after(LINK_LIFETIME), is_over }
    }
}

/// A mail that a worker has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenMail {
    /// The mail.
    pub mail: Mail,
    /// How often it was taken, this time included.
    pub attempts: u32,
    /// Until when it is tried.
    pub until: Timestamp,
    /// Which writing of it this is: what took its place meanwhile is not finished with it.
    pub revision: i64,
}

/// What waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaitingMail {
    /// How many.
    pub count: u64,
    /// When the first of them is due.
    pub next: Option<Timestamp>,
}

/// What a change tells its member by mail, who is `after` now.
#[must_use]
pub(super) fn notice_of(change: &Change, after: &MemberRecord, at: Timestamp) -> Option<Mail> {
    let member = after.profile.id;
    match change {
        Change::Password { .. } => Some(Mail::PasswordChanged { member, at }),
        Change::ResetPassword { .. } => Some(Mail::PasswordReset { member, at }),
        Change::EnableSecondFactor(_) => Some(Mail::SecondFactorEnabled { member, at }),
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

/// Whether the links of a member are good no more after a change: they were made for a password or an address of before, or for
/// somebody who may sign in.
#[must_use]
pub(super) fn ends_links(before: &MemberRecord, after: &MemberRecord) -> bool {
    before.password_hash != after.password_hash
        || before.profile.email != after.profile.email
        || (before.profile.is_active && !after.profile.is_active)
}

/// Mail to be sent, and the links in it.
#[async_trait]
pub trait MailStore: Send + Sync {
    /// Writes a mail, in place of one with the same [`Mail::key`], due now.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] when [`WAITING_MAX`] wait, or the store.
    async fn add(&self, mail: Mail, at: Timestamp) -> Result<(), StoreError>;

    /// Writes a link and its mail, together. False, and nothing is written, if the member has had [`LINKS_MAX`] of them in
    /// [`LINKS_WITHIN`], or [`UNVERIFIED_LINKS_MAX`] in [`UNVERIFIED_LINKS_WITHIN`] without having shown that the address is theirs.
    ///
    /// # Errors
    /// As [`Self::add`].
    async fn issue(&self, link: NewLink) -> Result<bool, StoreError>;

    /// Whose link this is, if it is still good. It is used up by [`Change::ResetPassword`] and [`Change::VerifyEmail`].
    ///
    /// # Errors
    /// The store.
    async fn link(
        &self,
        by: Caller,
        hash: LinkHash,
        purpose: Purpose,
        at: Timestamp,
    ) -> Result<Option<MemberId>, StoreError>;

    /// Takes the mail that has been due for longest, which is due again at `until`.
    ///
    /// # Errors
    /// The store.
    async fn take(&self, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, StoreError>;

    /// Removes a mail that was taken, unless another one has taken its place.
    ///
    /// # Errors
    /// The store.
    async fn finish(&self, taken: TakenMail) -> Result<(), StoreError>;

    /// Says when a mail that was taken is due again, unless another one has taken its place.
    ///
    /// # Errors
    /// The store.
    async fn postpone(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError>;

    /// What waits.
    ///
    /// # Errors
    /// The store.
    async fn waiting(&self) -> Result<WaitingMail, StoreError>;

    /// Removes what is tried no more. For a server that sends nothing: who sends finds that out when they take it. Returns how many.
    ///
    /// # Errors
    /// The store.
    async fn expire(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Forgets links from before [`UNVERIFIED_LINKS_WITHIN`]. Returns how many.
    ///
    /// # Errors
    /// The store.
    async fn purge_links(&self, now: Timestamp) -> Result<u64, StoreError>;
}

/// Links made at this time or before count for nobody any more.
#[must_use]
pub(super) fn forgotten_at(now: Timestamp) -> Timestamp {
    now.before(UNVERIFIED_LINKS_WITHIN)
}

/// How many links a member may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkAllowance {
    /// So many.
    pub(super) most: u32,
    /// Of those that were made after this.
    pub(super) since: Timestamp,
}

/// How many links may be made for a member.
#[must_use]
pub(super) fn allowance(must_verify: bool, now: Timestamp) -> LinkAllowance {
    let (most, within) =
        if must_verify { (UNVERIFIED_LINKS_MAX, UNVERIFIED_LINKS_WITHIN) } else { (LINKS_MAX, LINKS_WITHIN) };
    LinkAllowance { most, since: now.before(within) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: MemberId = MemberId::from_bytes([1; 12]);

    fn every_kind() -> Vec<Mail> {
        let (token, at) = (TokenId([0xab; 16]), Timestamp::from_millis(1_000));
        let email = "Ana@Example.com".to_owned();
        let device = "Firefox".to_owned();
        vec![
            Mail::ForgotPassword { email: email.clone() },
            Mail::AddressTaken { email },
            Mail::VerifyEmail { member: MEMBER, token },
            Mail::ResetPassword { member: MEMBER, token },
            Mail::PasswordChanged { member: MEMBER, at },
            Mail::PasswordReset { member: MEMBER, at },
            Mail::NewDevice { member: MEMBER, device, at },
            Mail::SecondFactorEnabled { member: MEMBER, at },
            Mail::SecondFactorDisabled { member: MEMBER, at },
            Mail::SecondFactorReset { member: MEMBER, at },
            Mail::RecoveryCodesReplaced { member: MEMBER, at },
            Mail::RecoveryCodeUsed { member: MEMBER, at, left: 9 },
        ]
    }

    #[test]
    fn a_mail_is_stored_as_it_ever_was() {
        for (mail, kind) in every_kind().into_iter().zip(Mail::KINDS) {
            assert_eq!(mail.kind(), kind);
            let stored = serde_json::to_string(&mail).unwrap();
            assert!(stored.starts_with(&format!(r#"{{"kind":"{kind}","#)), "{stored}");
            assert_eq!(serde_json::from_str::<Mail>(&stored).unwrap(), mail);
        }
        let stored =
            format!(r#"{{"kind":"reset_password","member":"{}","token":"{}"}}"#, "01".repeat(12), "ab".repeat(16));
        let mail = Mail::ResetPassword { member: MEMBER, token: TokenId([0xab; 16]) };
        assert_eq!(serde_json::from_str::<Mail>(&stored).unwrap(), mail);
        assert!(serde_json::from_str::<Mail>(&stored.replace("abab", "abxy")).is_err());
        assert!(serde_json::from_str::<Mail>(&stored.replace("abab", "ab")).is_err());
    }

    #[test]
    fn keys_say_nothing_about_addresses_and_are_the_same_in_any_case() {
        let [first, second] =
            ["Ana@Example.com", " ana@example.COM "].map(|email| Mail::ForgotPassword { email: email.into() });
        assert_eq!(first.key(), second.key());
        assert!(!first.key().to_lowercase().contains("ana"));
        assert!(keys_of_address("ana@example.com").contains(&first.key()));
    }
}
