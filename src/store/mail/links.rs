//! Links in mails: what they do, how they are recognised, and how many there are.
//!
//! Whoever asks for a link may be a stranger, and asks in the member's name. So asking never ends a link that was sent before: while one
//! is good for a while yet ([`LINK_AGAIN`]) the same one is sent again, a few times ([`LINK_SENDINGS`]), and after that there is one that
//! was sent just now. However often strangers ask, the member has a link that is good in their mailbox, or gets one.

use std::{fmt, time::Duration};

use protocol::{MemberId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Claim, Mail};
use crate::store::archive::LinkRow;

/// Links for one member and one purpose that are made in [`LINKS_WITHIN`].
pub const LINKS_MAX: u32 = 5;
/// See [`LINKS_MAX`].
pub const LINKS_WITHIN: Duration = Duration::from_secs(60 * 60);
/// How long a link is good, and how long its mail is tried to be sent.
pub const LINK_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// A link that is good for longer than this is sent again instead of another one.
pub const LINK_AGAIN: Duration = Duration::from_secs(10 * 60);
/// How often one link is sent.
pub const LINK_SENDINGS: u32 = 2;
/// Mails with a link to a member who has not shown that the address is theirs, in [`UNVERIFIED_LINKS_WITHIN`]: whoever registers somebody
/// else's address must not fill their inbox.
pub const UNVERIFIED_LINKS_MAX: u32 = 12;
/// As many of them as are asked for from one network: a stranger does not use up what the one has whose address it is.
pub const UNVERIFIED_LINKS_FROM: u32 = 3;
/// See [`UNVERIFIED_LINKS_MAX`]. What is known of a link is forgotten after that.
pub const UNVERIFIED_LINKS_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// The hash of the token of a link.
pub type LinkHash = [u8; 32];

/// What a token is derived from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId(pub [u8; 16]);

/// The network that a link is asked for from, as far as that is known, as a number that says nothing about it to whoever has no key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AskedFrom(pub u64);

impl AskedFrom {
    /// Reads what [`fmt::Display`] has written, one after the other.
    pub(in crate::store) fn all_of(text: &str) -> Vec<Self> {
        let of = |digits: &[u8]| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().map(Self);
        text.as_bytes().chunks(16).filter_map(of).collect()
    }
}

impl fmt::Display for AskedFrom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

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
    /// Changes the address of its member to the one that it is sent to.
    ChangeEmail,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::VerifyEmail, Self::ResetPassword, Self::ChangeEmail];

    /// The name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::ChangeEmail => "change_email",
        }
    }

    /// The mail that brings it.
    #[must_use]
    pub const fn mail(self, member: MemberId, token: TokenId) -> Mail {
        match self {
            Self::VerifyEmail => Mail::VerifyEmail { member, token },
            Self::ResetPassword => Mail::ResetPassword { member, token },
            Self::ChangeEmail => Mail::ChangeEmail { member, token },
        }
    }
}

/// A link that sets the password of a member, to be handed out by whoever runs the server. Nothing is kept that its token could be made
/// of again, so no mail ever has it.
#[must_use]
pub fn handed_out(member: MemberId, hash: LinkHash, at: Timestamp) -> LinkRow {
    let purpose = Purpose::ResetPassword;
    LinkRow {
        hash,
        member,
        purpose,
        made_at: at,
        expires_at: at.after(LINK_LIFETIME),
        is_over: false,
        token: None,
        sent: 0,
        asked: Vec::new(),
        claim: None,
        email: None,
    }
}

/// A link to be written, with its mail, unless there is one that can be sent again.
#[derive(Debug, Clone)]
pub struct NewLink {
    /// For whom.
    pub member: MemberId,
    /// What it does.
    pub purpose: Purpose,
    /// What its token is derived from.
    pub token: TokenId,
    /// How its token is recognised.
    pub hash: LinkHash,
    /// From where it is asked for.
    pub asked: AskedFrom,
    /// The new address, of one that changes it.
    pub email: Option<String>,
    /// Now.
    pub at: Timestamp,
}

impl NewLink {
    /// The mail that brings it.
    #[must_use]
    pub const fn mail(&self) -> Mail {
        self.purpose.mail(self.member, self.token)
    }

    /// As it is stored when it was sent once.
    pub(in crate::store) fn row(&self) -> LinkRow {
        let Self { member, purpose, token, hash, asked, at, .. } = *self;
        let (made_at, expires_at, token) = (at, at.after(LINK_LIFETIME), Some(token));
        let (asked, email) = (vec![asked], self.email.clone());
        LinkRow {
            hash,
            member,
            purpose,
            made_at,
            expires_at,
            is_over: false,
            token,
            sent: 1,
            asked,
            claim: None,
            email,
        }
    }

    /// As it is stored where the address is another's: over from the beginning, so good for nothing but to be known, with what is to be kept
    /// of that.
    pub(in crate::store) fn row_of_nobody(&self, claim: Option<Claim>) -> LinkRow {
        LinkRow { is_over: true, claim, ..self.row() }
    }

    /// Whether it ends those of before for the same purpose. Strangers do not ask for one that changes an address but its member, who has
    /// thought better of the former address.
    pub(in crate::store) const fn ends_former(&self) -> bool {
        matches!(self.purpose, Purpose::ChangeEmail)
    }

    /// What comes of asking for it, of a member with these links of the time that is not forgotten.
    pub(in crate::store) fn issue(&self, must_verify: bool, theirs: &[LinkRow]) -> Issue {
        let sent: u32 = theirs.iter().map(|link| link.sent).sum();
        let asked = theirs.iter().flat_map(|link| &link.asked).filter(|asked| **asked == self.asked).count();
        let is_from_here = |most: u32| u32::try_from(asked).is_ok_and(|asked| asked < most);
        if must_verify && (sent >= UNVERIFIED_LINKS_MAX || !is_from_here(UNVERIFIED_LINKS_FROM)) {
            return Issue::Nothing;
        }
        let same = || theirs.iter().filter(|link| link.purpose == self.purpose);
        let is_good = |link: &&LinkRow| !link.is_over && link.expires_at > self.at.after(LINK_AGAIN);
        let since = self.at.before(LINKS_WITHIN);
        let made = same().filter(|link| link.made_at > since).count();
        let may_be_made = u32::try_from(made).is_ok_and(|made| made < LINKS_MAX);
        if self.ends_former() {
            // It goes to whatever address its member names, which may be anybody's.
            let named: u32 = same().map(|link| link.sent).sum();
            return if may_be_made && named < UNVERIFIED_LINKS_MAX { Issue::New } else { Issue::Nothing };
        }
        let former = same().filter(is_good).max_by_key(|link| link.made_at);
        if let Some((former, token)) = former.and_then(|former| Some((former, former.token?))) {
            return if former.sent < LINK_SENDINGS { Issue::Again(former.hash, token) } else { Issue::Nothing };
        }
        if may_be_made { Issue::New } else { Issue::Nothing }
    }
}

/// What comes of asking for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Issue {
    /// It is made.
    New,
    /// One of before is sent again: it is recognised by this, and its token is derived from this.
    Again(LinkHash, TokenId),
    /// Nothing: there were too many.
    Nothing,
}

/// A link that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodLink {
    /// Whose it is.
    pub member: MemberId,
    /// Until when it is good, unless it is used.
    pub until: Timestamp,
    /// Whether it came by mail; else it was handed out ([`handed_out`]).
    pub was_mailed: bool,
    /// The new address, of one that changes it.
    pub email: Option<String>,
}

/// Links made at this time or before count for nobody any more.
#[must_use]
pub(in crate::store) fn forgotten_at(now: Timestamp) -> Timestamp {
    now.before(UNVERIFIED_LINKS_WITHIN)
}
