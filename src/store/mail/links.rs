//! Links in mails: what they do, how they are recognised, and how many there are.
//!
//! Whoever asks for a link may be a stranger, and asks in the member's name. So asking never ends a link that was sent before, and never
//! leaves the member without one ([`NewLink::issue`]):
//!
//! - while one is good for a while yet ([`LINK_AGAIN`]) the same one is sent again, a few times ([`LINK_SENDINGS`]);
//! - after that there is another one, until mails with a link were sent as often as they are in a day ([`LINKS_MAX`], [`LINKS_FROM`]);
//! - a link whose mail was given up, because it was refused or could not be sent in time, was not sent, and is the next time;
//! - after that whoever asks has no mail sent, but the link that was mailed last is good for its whole time again.
//!
//! However often strangers ask, and from however many networks, the newest link in the member's mailbox is good after the member has asked,
//! and the mails that come of it are bounded. What is over, because it was used or the password has changed, counts for nothing: what the
//! member does has a mail sent again. Links that change the address have rules of their own ([`NewChange`](super::NewChange)).

use std::{fmt, time::Duration};

use protocol::{MemberId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Claim, Mail};
use crate::store::{archive::LinkRow, members::MemberRecord};

/// How long a link is good, and how long its mail is tried to be sent.
pub const LINK_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// A link that is good for longer than this is sent again instead of another one.
pub const LINK_AGAIN: Duration = Duration::from_secs(10 * 60);
/// How often one link is sent.
pub const LINK_SENDINGS: u32 = 2;
/// Mails with a link to one member in [`LINKS_WITHIN`], whoever asks: strangers must not fill an inbox.
pub const LINKS_MAX: u32 = 12;
/// As many of them are sent for who asks from one network: it does not use up what is asked for from elsewhere.
pub const LINKS_FROM: u32 = 6;
/// The same to a member who has not shown that the address is theirs: whoever registers somebody else's address.
pub const UNVERIFIED_LINKS_FROM: u32 = 3;
/// See [`LINKS_MAX`]. What is known of a link that has ended is forgotten after that.
pub const LINKS_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

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
        credentials: None,
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
            credentials: None,
        }
    }

    /// As it is stored where the address is another's: over from the beginning, so good for nothing but to be known, with what is to be kept
    /// of that.
    pub(in crate::store) fn row_of_nobody(&self, claim: Option<Claim>) -> LinkRow {
        LinkRow { is_over: true, claim, ..self.row() }
    }

    /// What comes of asking for it, of a member with these links: those of the time that is not forgotten, and those that are good.
    pub(in crate::store) fn issue(&self, must_verify: bool, theirs: &[LinkRow]) -> Issue {
        let same = |link: &&LinkRow| link.purpose == self.purpose && !link.is_over;
        // Those that were handed out are in nobody's mailbox.
        let mailed = theirs.iter().filter(same).filter_map(|link| Some((link, link.token?)));
        let Some((newest, token)) = mailed.max_by_key(|(link, _)| link.made_at) else { return Issue::New };
        if newest.sent == 0 {
            return Issue::Unsent(newest.hash, token);
        }
        let is_good = newest.expires_at > self.at.after(LINK_AGAIN);
        if is_good && newest.sent >= LINK_SENDINGS {
            return Issue::Nothing;
        }
        match (self.is_too_much(must_verify, theirs), is_good) {
            (true, true) => Issue::Nothing,
            (true, false) => Issue::Longer(newest.hash, token),
            (false, true) => Issue::Again(newest.hash, token),
            (false, false) => Issue::New,
        }
    }

    /// Whether as many mails were sent as there are in a day.
    fn is_too_much(&self, must_verify: bool, theirs: &[LinkRow]) -> bool {
        let since = forgotten_at(self.at);
        // Those that change the address have gone to another one.
        let is_counted =
            |link: &&LinkRow| link.purpose != Purpose::ChangeEmail && !link.is_over && link.made_at > since;
        let counted = || theirs.iter().filter(is_counted);
        let sent: u32 = counted().map(|link| link.sent).sum();
        let from_here = counted().flat_map(|link| &link.asked).filter(|asked| **asked == self.asked).count();
        let most_from_here = if must_verify { UNVERIFIED_LINKS_FROM } else { LINKS_FROM };
        sent >= LINKS_MAX || !u32::try_from(from_here).is_ok_and(|from_here| from_here < most_from_here)
    }

    /// Until when a link is good that is asked for now.
    pub(in crate::store) fn good_until(&self) -> Timestamp {
        self.at.after(LINK_LIFETIME)
    }
}

/// What comes of asking for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Issue {
    /// It is made.
    New,
    /// One of before is sent again: it is recognised by this, and its token is derived from this.
    Again(LinkHash, TokenId),
    /// One of before, whose mail was given up, is sent after all, and good for its whole time: there is nothing in the mailbox that could be.
    Unsent(LinkHash, TokenId),
    /// One of before, which was mailed, is good for its whole time again. Its mail is written again only if it still waits.
    Longer(LinkHash, TokenId),
    /// Nothing: one of before was sent often enough, and is good for a while yet.
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
    /// The [`MemberRecord::credentials`] that its member had when they asked for it, of one that changes the address.
    pub credentials: Option<u64>,
}

impl GoodLink {
    /// Whether it is good for its member, as they are at a time. One that changes the address is good for who has shown who they are and may
    /// sign in: with other credentials, or while they are suspended, it is not.
    #[must_use]
    pub fn is_for(&self, record: &MemberRecord, at: Timestamp) -> bool {
        let is_theirs = self.member == record.profile.id;
        let is_proved = self.credentials == Some(record.credentials) && record.profile.may_sign_in(at);
        is_theirs && (self.email.is_none() || is_proved)
    }
}

/// Links made at this time or before count for nobody any more. They are forgotten once they have ended.
#[must_use]
pub(in crate::store) fn forgotten_at(now: Timestamp) -> Timestamp {
    now.before(LINKS_WITHIN)
}
