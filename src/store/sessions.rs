//! Sessions: one login on one device, with its family of refresh tokens.
//!
//! A session has one token that is the newest, and counts how often that was replaced: its *generation*. A token that was used
//! stays good until its successor is *confirmed*: used as a token, or by way of an access token that came with it. Successors
//! are derived from what they follow (`auth::refresh`), so that whoever has lost an answer gets the same one again. An exchange has a
//! name that its client draws before it asks, its *attempt*: what is repeated has the same one, and what a thief does with a copied
//! token has not.

use std::{net::IpAddr, time::Duration};

use async_trait::async_trait;
use protocol::{
    MemberId, SessionId, Timestamp,
    model::{Platform, UserType},
};

use super::{
    StoreError,
    mail::Mail,
    members::{MemberRecord, Standing},
    turns::Caller,
};

/// The SHA-256 hash of a refresh token: the token itself is never stored.
pub type TokenHash = [u8; 32];

/// The SHA-256 hash of an attempt to exchange a refresh token, of which the attempt itself is never stored.
pub type AttemptHash = [u8; 32];

/// The number of a device that proves itself (`auth::device`).
pub type KnownDevice = [u8; 12];

/// Used refresh tokens that are kept of a session, the newest: one of them that comes back gives a thief away. An older one
/// is refused like one that never was.
pub const USED_TOKENS_OF_SESSION: usize = 16;
/// Used refresh tokens that are kept of all sessions of a member together, the newest.
pub const USED_TOKENS_OF_MEMBER: usize = 256;

/// Sessions that are kept of a member, those that were revoked among them: a login beyond that ends the oldest. Without it
/// whoever logs in all day makes everything slow that goes through a member's sessions.
pub const SESSIONS_OF_MEMBER: usize = 100;
/// Sessions that one login removes at most.
pub const SESSIONS_REMOVED: usize = 1_000;

/// Sessions that are looked at in one call of [`SessionStore::views`].
pub const VIEWS_MAX: usize = 1_000;

/// How long a request to exchange a token may have been on its way when the successor is confirmed: it is answered as if it had come
/// in time. Times of several nodes are compared, and a clock may be put back: whatever is further off is spent.
pub const ON_ITS_WAY: Duration = Duration::from_secs(30);

/// How far the clocks of nodes may be apart: a proof of who is at a device that lies further in the future is of a clock that was wrong. It
/// counts for nothing, and the next one takes its place.
pub const AHEAD: Duration = Duration::from_secs(30);

/// A refresh token to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewToken {
    /// Its hash.
    pub hash: TokenHash,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// The session that stays when a change of its member ends the others, and the token that it goes on with: those of before are good for
/// nothing after it, neither the refresh tokens nor the access tokens. Somebody may have copied them.
#[derive(Debug, Clone, Copy)]
pub struct KeptSession {
    /// Which one.
    pub id: SessionId,
    /// The only refresh token that it has after the change.
    pub token: NewToken,
}

/// Whose a refresh token is that can still tell something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenOwner {
    /// The member.
    pub member: MemberId,
    /// Whether the exchange gives a thief away.
    pub spent: bool,
}

/// What a member calls the device that a session is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionDevice {
    /// Its name.
    pub name: Option<String>,
    /// What it is.
    pub platform: Option<Platform>,
}

/// What a platform is called in every store, which is what it is called on the wire.
pub(super) const PLATFORMS: &[(&str, Platform)] = &[
    ("ios", Platform::Ios),
    ("android", Platform::Android),
    ("web", Platform::Web),
    ("desktop", Platform::Desktop),
    ("other", Platform::Other),
];

/// The word for a platform.
#[must_use]
pub fn platform_word(platform: Platform) -> &'static str {
    PLATFORMS.iter().find(|(_, known)| *known == platform).map_or("other", |(word, _)| word)
}

/// A session that is to be started.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Who logs in.
    pub member: MemberId,
    /// Its first token.
    pub token: NewToken,
    /// The device.
    pub device: SessionDevice,
    /// The same, if it has proved that the member had logged in on it before.
    pub known_device: Option<KnownDevice>,
    /// Where the login came from.
    pub address: Option<IpAddr>,
    /// When.
    pub at: Timestamp,
    /// When it ends, whatever becomes of its tokens.
    pub ends_at: Timestamp,
    /// The [`MemberRecord::credentials`] of the record that was checked: whoever replaces what is proved with has ended this session too.
    pub credentials: u64,
    /// What to call the device in a mail to the member, who is told of it unless it is their first login of all. Nothing: they are not
    /// told, because the device has a proof that it was there before, or because no mail is sent.
    pub tell_of: Option<String>,
}

impl NewSession {
    /// The mail that tells its member of it, if they are to be told.
    pub(super) fn notice(&self) -> Option<Mail> {
        let device = self.tell_of.clone()?;
        Some(Mail::NewDevice { member: self.member, session: self.id, device, at: self.at, more: false })
    }
}

/// A refresh token that is presented, and what may follow it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The token.
    pub used: TokenHash,
    /// The successor that it gets.
    pub successor: TokenHash,
    /// What its successor would be under former secrets.
    pub former: Vec<TokenHash>,
    /// What its client calls the exchange; nothing of one that does not say.
    pub attempt: Option<AttemptHash>,
    /// Where it was presented from.
    pub address: Option<IpAddr>,
    /// When it was presented.
    pub at: Timestamp,
    /// How long a token lives.
    pub token_lifetime: Duration,
    /// How long a session lives that does not say so itself.
    pub session_lifetime: Duration,
}

impl Exchange {
    /// Whether a token follows the one that is presented.
    fn is_followed_by(&self, token: TokenHash) -> bool {
        self.successor == token || self.former.contains(&token)
    }
}

/// What is known of a session when a token of it is presented.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenFacts {
    /// Whether the presented token was used before.
    pub(super) used: bool,
    /// By which attempt it was, if that had a name and was written down.
    pub(super) used_by: Option<AttemptHash>,
    /// The newest token of the session. Nothing in one of before that was known: there it is the one that was not used.
    pub(super) newest: Option<TokenHash>,
    /// When the newest token was confirmed. Nothing: it was not, as far as anybody knows.
    pub(super) confirmed_at: Option<Timestamp>,
    /// By which attempt it was made.
    pub(super) made_by: MadeBy,
}

/// By which attempt the newest token of a session was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MadeBy {
    /// This one, if it had a name.
    Attempt(Option<AttemptHash>),
    /// A former version made it, beside this one, and did not write it down: whoever asks again is nobody's thief.
    Unknown,
}

/// What a token is that is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presented {
    /// The newest one: it gets a successor.
    Newest,
    /// The one before the newest, of which nobody is known to have got it: it is given again.
    Again(TokenHash),
    /// One that is used up, by the very attempt that used it up: a request that arrives late, and that a client has sent again since. It
    /// gets nothing, and gives nobody away.
    Late,
    /// One that somebody has used, and used what followed it, or that two have exchanged: each of them by an attempt of their own.
    Spent,
}

/// Decides what a token is. One that was presented before its successor was confirmed is good, if it was on its way ([`ON_ITS_WAY`]), for
/// whoever brings the attempt that made the successor. What was made without one is for those without one.
pub(super) fn presented(exchange: &Exchange, facts: TokenFacts) -> Presented {
    let TokenFacts { used, used_by, newest, confirmed_at, made_by } = facts;
    let is_same = [MadeBy::Attempt(exchange.attempt), MadeBy::Unknown].contains(&made_by);
    let was_on_its_way = |at: Timestamp| exchange.at < at && at.since(exchange.at) <= ON_ITS_WAY;
    let is_repeated = is_same && confirmed_at.is_none_or(was_on_its_way);
    // A thief has the token, and not the attempt.
    let has_name = exchange.attempt.is_some();
    match newest {
        Some(newest) if newest == exchange.used => Presented::Newest,
        None if !used => Presented::Newest,
        Some(newest) if is_repeated && exchange.is_followed_by(newest) => Presented::Again(newest),
        Some(newest) if has_name && made_by == MadeBy::Attempt(exchange.attempt) && exchange.is_followed_by(newest) => {
            Presented::Late
        }
        _ if has_name && used_by == exchange.attempt => Presented::Late,
        _ => Presented::Spent,
    }
}

/// When a session ends: when it says so, or so long after its start.
pub(super) fn end(created_at: Timestamp, ends_at: Option<Timestamp>, lifetime: Duration) -> Timestamp {
    ends_at.unwrap_or_else(|| created_at.after(lifetime))
}

/// A session as a request or a connection needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionView {
    /// Whose session it is.
    pub member: MemberId,
    /// What the member may do.
    pub user_type: UserType,
    /// Whether the member is active.
    pub is_active: bool,
    /// Until when the member may not sign in all the same.
    pub suspended_until: Option<Timestamp>,
    /// Whether the session was logged out or revoked.
    pub revoked: bool,
    /// How often its token was replaced.
    pub generation: u64,
    /// The generation from which on access tokens are good: those of before were ended ([`KeptSession`]).
    pub good_from: u64,
    /// Whether the newest token is known to have arrived.
    pub confirmed: bool,
    /// When it ends at the latest; nothing of one of before that was stored.
    pub ends_at: Option<Timestamp>,
    /// When who is at the device has proved last that they are the member: at the login, or since.
    pub proved_at: Timestamp,
    /// Whether the member has a second factor.
    pub has_second_factor: bool,
    /// When it was started.
    pub created_at: Timestamp,
    /// The device, if it had proved at the login that the member had logged in on it before.
    pub known_device: Option<KnownDevice>,
}

impl SessionView {
    /// Whether access tokens of a generation are good; those of before that was written down say none.
    #[must_use]
    pub fn takes(&self, generation: Option<u64>) -> bool {
        generation.unwrap_or(0) >= self.good_from
    }

    /// Whether the session has ended by a time: by its age, or because it was logged out or revoked.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.revoked || self.ends_at.is_some_and(|ends_at| ends_at <= now)
    }

    /// Whether the member may sign in at a time, and why not.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        Standing::at(now, self.is_active, (false, false), self.suspended_until)
    }
}

/// A session, as its member sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it was logged out or revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// The device.
    pub device: SessionDevice,
    /// Where it was started from.
    pub address: Option<IpAddr>,
    /// Where its token was replaced from last; nothing if that has not been, or not since this is stored.
    pub last_address: Option<IpAddr>,
    /// When its tokens were used last, to about the life of an access token.
    pub last_used_at: Timestamp,
    /// When it ends; nothing of one of before that was stored.
    pub ends_at: Option<Timestamp>,
    /// Until when a token of it can be exchanged; nothing if there is none any more.
    pub renewable_until: Option<Timestamp>,
}

impl SessionRecord {
    /// When it ends at the latest. `lifetime`: how long one lives that does not say so itself.
    #[must_use]
    pub fn ends(&self, lifetime: Duration) -> Timestamp {
        end(self.created_at, self.ends_at, lifetime)
    }

    /// Whether it is of use to anybody.
    #[must_use]
    pub fn is_good(&self, at: Timestamp, lifetime: Duration) -> bool {
        self.revoked_at.is_none() && self.ends(lifetime) > at && self.renewable_until.is_some_and(|until| until > at)
    }
}

/// What became of an attempt to use a refresh token.
pub enum Rotation {
    /// It is good, and was replaced: now, or before by somebody who may not have heard of it.
    Rotated(Box<Renewal>),
    /// Not one of ours, or expired, or of a session that was revoked or has ended, or used up by this very attempt.
    Invalid,
    /// It had been used before, and so had its successor. The whole session is revoked now.
    Reused {
        /// The revoked session.
        session: SessionId,
        /// Its member.
        member: MemberId,
    },
    /// The member may not sign in any more.
    Deactivated,
}

/// What followed a refresh token.
pub struct Renewal {
    /// Its session.
    pub session: SessionId,
    /// Its member.
    pub member: MemberRecord,
    /// The successor: one of those that the exchange names.
    pub successor: TokenHash,
    /// When that expires.
    pub expires_at: Timestamp,
    /// The generation of the session that it begins.
    pub generation: u64,
    /// When the session ends.
    pub ends_at: Timestamp,
    /// Whether it was given before.
    pub again: bool,
}

/// Sessions.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Starts a session, records the login at its member, and in the same transaction writes the mail that tells of it. Returns the
    /// valid sessions that were removed for it, because the member has more than [`SESSIONS_OF_MEMBER`]: revoked ones go first, then the oldest. `None`: the member may not sign in
    /// any more, or has other credentials than those of the session, and there is no session.
    ///
    /// # Errors
    /// The store.
    async fn start(&self, session: NewSession) -> Result<Option<Vec<SessionId>>, StoreError>;

    /// Whose the refresh token of an exchange is, used or not; `None` for one that is unknown, expired, of a session that was revoked, or
    /// used up by this very attempt.
    ///
    /// # Errors
    /// The store.
    async fn owner(&self, by: Caller, exchange: Exchange) -> Result<Option<TokenOwner>, StoreError>;

    /// Exchanges a refresh token: the newest one of a session is used up and gets its successor, the one before it gets the
    /// same successor again by the same attempt until that is confirmed, one that was used up by the same attempt gets nothing, and any other
    /// one revokes the session ([`presented`]). Of used tokens the
    /// newest ones are kept ([`USED_TOKENS_OF_SESSION`], [`USED_TOKENS_OF_MEMBER`]).
    ///
    /// May be repeated with the same `exchange` while the outcome is unknown, and then has the same one. Its turn is that
    /// of `member`, whose the token is.
    ///
    /// # Errors
    /// The store.
    async fn rotate(&self, member: MemberId, exchange: Exchange) -> Result<Rotation, StoreError>;

    /// The tokens of a generation of a session have arrived: they were used. Nothing happens if that is known, or if it is not
    /// the newest generation.
    ///
    /// # Errors
    /// The store.
    async fn confirm(
        &self,
        member: MemberId,
        session: SessionId,
        generation: u64,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Who is at the device of a session of a member has proved again that they are the member. Nothing happens if it was revoked, or if a
    /// later proof is known that is no more than [`AHEAD`] later.
    ///
    /// # Errors
    /// The store.
    async fn prove(&self, member: MemberId, session: SessionId, at: Timestamp) -> Result<(), StoreError>;

    /// Names the device of a session of a member, and says whether there is such a session that was not revoked.
    ///
    /// # Errors
    /// The store.
    async fn rename(&self, member: MemberId, session: SessionId, name: String) -> Result<bool, StoreError>;

    /// The session with this id and the state of its member.
    ///
    /// # Errors
    /// The store.
    async fn view(&self, session: SessionId) -> Result<Option<SessionView>, StoreError>;

    /// The same for many sessions, [`VIEWS_MAX`] at most, in their order. A read of the server itself, in nobody's turn.
    ///
    /// # Errors
    /// The store.
    async fn views(&self, sessions: Vec<SessionId>) -> Result<Vec<Option<SessionView>>, StoreError>;

    /// Every session of a member that is still known, the oldest first.
    ///
    /// # Errors
    /// The store.
    async fn of_member(&self, member: MemberId) -> Result<Vec<SessionRecord>, StoreError>;

    /// Revokes sessions of a member, those that are not revoked already, together with the links of the member that change the address: whoever ends
    /// a session may do so because somebody else has it.
    ///
    /// # Errors
    /// The store.
    async fn revoke_many(&self, member: MemberId, sessions: Vec<SessionId>, at: Timestamp) -> Result<(), StoreError>;

    /// Removes refresh tokens that expired before `at`, and sessions that have none left. Returns how many tokens.
    ///
    /// # Errors
    /// The store.
    async fn purge(&self, at: Timestamp) -> Result<usize, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn ask(used: u8) -> Exchange {
        Exchange {
            used: [used; 32],
            successor: [used + 1; 32],
            former: vec![[used + 101; 32]],
            attempt: None,
            address: None,
            at: at(10),
            token_lifetime: Duration::from_secs(1),
            session_lifetime: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_token_is_good_until_what_follows_it_was_used() {
        let decide = |used, newest: Option<u8>, confirmed_at: Option<i64>| {
            let newest = newest.map(|name| [name; 32]);
            presented(
                &ask(1),
                TokenFacts {
                    used,
                    used_by: None,
                    newest,
                    confirmed_at: confirmed_at.map(at),
                    made_by: MadeBy::Attempt(None),
                },
            )
        };
        assert_eq!(decide(false, Some(1), Some(1)), Presented::Newest);
        assert_eq!(decide(false, Some(1), None), Presented::Newest, "it confirms itself");
        assert_eq!(decide(true, Some(2), None), Presented::Again([2; 32]));
        assert_eq!(decide(true, Some(102), None), Presented::Again([102; 32]), "under a former secret");
        assert_eq!(decide(true, Some(2), Some(11)), Presented::Again([2; 32]), "asked for before that");
        assert_eq!(decide(true, Some(2), Some(10)), Presented::Spent);
        assert_eq!(decide(true, Some(3), None), Presented::Spent, "two tokens ago");
        assert_eq!(decide(false, Some(2), Some(9)), Presented::Spent, "it was used, whatever its mark says");
    }

    #[test]
    fn a_token_is_given_again_by_the_attempt_that_made_it() {
        let decide = |used, newest: u8, made_by: Option<Option<u8>>, brought: Option<u8>| {
            let facts = TokenFacts {
                used,
                used_by: None,
                newest: Some([newest; 32]),
                confirmed_at: None,
                made_by: made_by.map_or(MadeBy::Unknown, |made_by| MadeBy::Attempt(made_by.map(|name| [name; 32]))),
            };
            presented(&Exchange { attempt: brought.map(|name| [name; 32]), ..ask(1) }, facts)
        };
        for made_by in [None, Some(None), Some(Some(7)), Some(Some(8))] {
            for brought in [None, Some(7), Some(8)] {
                let again = if made_by.is_none_or(|made_by| made_by == brought) {
                    Presented::Again([2; 32])
                } else {
                    Presented::Spent
                };
                assert_eq!(decide(true, 2, made_by, brought), again, "made by {made_by:?}, asked for by {brought:?}");
                assert_eq!(decide(false, 1, made_by, brought), Presented::Newest, "how itself was made says nothing");
                assert_eq!(decide(true, 3, made_by, brought), Presented::Spent, "two tokens ago");
            }
        }
    }

    #[test]
    fn a_clock_that_was_put_back_makes_no_spent_token_good() {
        let decide = |confirmed_at| {
            let facts = TokenFacts {
                used: true,
                used_by: None,
                newest: Some([2; 32]),
                confirmed_at: Some(at(confirmed_at)),
                made_by: MadeBy::Attempt(None),
            };
            presented(&ask(1), facts)
        };
        assert_eq!(decide(10 + 30_000), Presented::Again([2; 32]), "it was on its way");
        assert_eq!(decide(10 + 30_001), Presented::Spent);
    }

    #[test]
    fn what_its_own_attempt_used_up_gives_nobody_away() {
        let decide = |newest: u8, used_by: Option<u8>, made_by: Option<u8>, brought: Option<u8>| {
            let name = |name: u8| [name; 32];
            let facts = TokenFacts {
                used: true,
                used_by: used_by.map(name),
                newest: Some([newest; 32]),
                confirmed_at: Some(at(10)),
                made_by: MadeBy::Attempt(made_by.map(name)),
            };
            presented(&Exchange { attempt: brought.map(name), ..ask(1) }, facts)
        };
        assert_eq!(decide(2, Some(7), Some(7), Some(7)), Presented::Late);
        assert_eq!(decide(2, None, Some(7), Some(7)), Presented::Late, "its mark was not written yet");
        assert_eq!(decide(3, Some(7), Some(8), Some(7)), Presented::Late, "its successor was exchanged, too");
        assert_eq!(decide(2, Some(7), Some(7), Some(8)), Presented::Spent, "by another one");
        assert_eq!(decide(3, Some(7), Some(8), Some(8)), Presented::Spent, "by that of its successor");
        assert_eq!(decide(2, Some(7), Some(7), None), Presented::Spent);
        assert_eq!(decide(2, None, None, None), Presented::Spent, "without a name there is nothing to know it by");
    }

    #[test]
    fn of_a_session_of_before_the_token_that_was_not_used_is_the_newest() {
        let decide = |used| {
            let (confirmed_at, made_by) = (Some(at(1)), MadeBy::Unknown);
            presented(&ask(1), TokenFacts { used, used_by: None, newest: None, confirmed_at, made_by })
        };
        assert_eq!((decide(false), decide(true)), (Presented::Newest, Presented::Spent));
    }

    #[test]
    fn a_session_is_good_while_it_lasts_and_can_be_renewed() {
        let good = SessionRecord {
            id: SessionId::from_bytes([1; 12]),
            created_at: at(0),
            revoked_at: None,
            device: SessionDevice::default(),
            address: None,
            last_address: None,
            last_used_at: at(0),
            ends_at: None,
            renewable_until: Some(at(50)),
        };
        let lifetime = Duration::from_millis(40);
        assert!(good.is_good(at(39), lifetime) && !good.is_good(at(40), lifetime));
        let long = SessionRecord { ends_at: Some(at(100)), ..good.clone() };
        assert!(long.is_good(at(49), lifetime) && !long.is_good(at(50), lifetime));
        assert!(!SessionRecord { renewable_until: None, ..long.clone() }.is_good(at(1), lifetime));
        assert!(!SessionRecord { revoked_at: Some(at(0)), ..long }.is_good(at(1), lifetime));
    }
}
