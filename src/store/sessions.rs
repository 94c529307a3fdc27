//! Sessions: one login on one device, with its family of refresh tokens.

use async_trait::async_trait;
use protocol::{MemberId, SessionId, Timestamp, model::UserType};

use super::{
    StoreError,
    members::{MemberRecord, Standing},
    turns::Caller,
};

/// The SHA-256 hash of a refresh token: the token itself is never stored.
pub type TokenHash = [u8; 32];

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

/// A refresh token to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewToken {
    /// Its hash.
    pub hash: TokenHash,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Whose a refresh token is that can still tell something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenOwner {
    /// The member.
    pub member: MemberId,
    /// Whether it was used before, so that using it again gives a thief away.
    pub used: bool,
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
}

impl SessionView {
    /// Whether the member may sign in at a time, and why not.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        Standing::at(now, self.is_active, false, self.suspended_until)
    }
}

/// A session, as its member sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it was logged out or revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

/// What became of an attempt to use a refresh token.
pub enum Rotation {
    /// It was the newest one; now the new one is.
    Rotated {
        /// Its session.
        session: SessionId,
        /// Its member.
        member: Box<MemberRecord>,
    },
    /// Not one of ours, or expired, or of a session that was revoked.
    Invalid,
    /// It had been used before. The whole session is revoked now.
    Reused {
        /// The revoked session.
        session: SessionId,
        /// Its member.
        member: MemberId,
    },
    /// The member may not sign in any more.
    Deactivated,
}

/// Sessions.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Starts a session and records the login at its member. Returns the valid sessions that were removed for it, because the
    /// member has more than [`SESSIONS_OF_MEMBER`]: revoked ones go first, then the oldest. `None`: the member may not sign in
    /// any more, and there is no session.
    ///
    /// # Errors
    /// The store.
    async fn start(
        &self,
        session: SessionId,
        member: MemberId,
        token: NewToken,
        at: Timestamp,
    ) -> Result<Option<Vec<SessionId>>, StoreError>;

    /// Whose a refresh token is, used or not; `None` for one that is unknown, expired or of a session that was revoked.
    ///
    /// # Errors
    /// The store.
    async fn owner(&self, by: Caller, token: TokenHash, at: Timestamp) -> Result<Option<TokenOwner>, StoreError>;

    /// Uses a refresh token up and stores its successor, or revokes the session if it had been used before. Of used tokens
    /// the newest ones are kept ([`USED_TOKENS_OF_SESSION`], [`USED_TOKENS_OF_MEMBER`]).
    ///
    /// May be repeated with the same `next` and `at` while the outcome is unknown, and then has the same one. Its turn is that
    /// of `member`, whose the token is.
    ///
    /// # Errors
    /// The store.
    async fn rotate(
        &self,
        member: MemberId,
        used: TokenHash,
        next: NewToken,
        at: Timestamp,
    ) -> Result<Rotation, StoreError>;

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

    /// Revokes sessions of a member, those that are not revoked already.
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
