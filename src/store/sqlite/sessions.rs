//! Sessions and their refresh tokens.

use async_trait::async_trait;
use protocol::{MemberId, SessionId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    Sqlite,
    members::{USER_TYPES, record},
    memory::Tx,
    row::{optional_time, time, word},
};
use crate::store::{
    SessionStore, StoreError,
    sessions::{
        NewToken, Rotation, SESSIONS_OF_MEMBER, SESSIONS_REMOVED, SessionRecord, SessionView, TokenHash, TokenOwner,
        USED_TOKENS_OF_MEMBER, USED_TOKENS_OF_SESSION,
    },
    turns::{Caller, Turn},
};

fn store_token(connection: &Connection, session: i64, token: NewToken) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO refresh_tokens (hash, session, expires_at) VALUES (?, ?, ?)")?;
    insert.execute(params![token.hash, session, token.expires_at.as_millis()]).map(drop)
}

fn start(
    tx: &Tx<'_>,
    session: SessionId,
    member: MemberId,
    token: NewToken,
    at: Timestamp,
) -> rusqlite::Result<Option<Vec<SessionId>>> {
    let active: Option<i64> = tx
        .connection
        // A suspension that is over leaves nothing.
        .prepare_cached(
            "UPDATE members SET last_login = ?1, suspended_until = NULL, suspension_reason = NULL
             WHERE id = ?2 AND is_active = 1 AND ifnull(suspended_until, 0) <= ?1 RETURNING key",
        )?
        .query_row(params![at.as_millis(), member.as_bytes()], |row| row.get(0))
        .optional()?;
    // Deactivated, or gone, since the password was looked at.
    let Some(member) = active else { return Ok(None) };
    let mut insert = tx.connection.prepare_cached("INSERT INTO sessions (id, member, created_at) VALUES (?, ?, ?)")?;
    let key = insert.insert(params![session.as_bytes(), member, at.as_millis()])?;
    store_token(tx.connection, key, token)?;
    remove_oldest(tx.connection, member).map(Some)
}

/// Removes a member's sessions beyond those that are kept, with their tokens. Returns those that were valid.
fn remove_oldest(connection: &Connection, member: i64) -> rusqlite::Result<Vec<SessionId>> {
    let mut beyond = connection.prepare_cached(
        "SELECT key, id, revoked_at FROM sessions WHERE member = ?
         ORDER BY revoked_at IS NOT NULL, key DESC LIMIT ? OFFSET ?",
    )?;
    let beyond = beyond.query_map(params![member, SESSIONS_REMOVED, SESSIONS_OF_MEMBER], |row| {
        let revoked = optional_time(row, "revoked_at")?.is_some();
        Ok((row.get::<_, i64>("key")?, SessionId::from_bytes(row.get("id")?), revoked))
    })?;
    let mut ended = Vec::new();
    let mut delete = connection.prepare_cached("DELETE FROM sessions WHERE key = ?")?;
    for session in beyond.collect::<rusqlite::Result<Vec<_>>>()? {
        let (key, id, revoked) = session;
        delete.execute([key])?;
        ended.extend((!revoked).then_some(id));
    }
    Ok(ended)
}

/// A refresh token with the session that it belongs to.
struct StoredToken {
    expires_at: Timestamp,
    used: bool,
    session_key: i64,
    session: SessionId,
    revoked_at: Option<Timestamp>,
    member_key: i64,
}

fn find_token(connection: &Connection, hash: TokenHash) -> rusqlite::Result<Option<StoredToken>> {
    let mut query = connection.prepare_cached(
        "SELECT t.expires_at, t.used_at, s.key, s.id, s.revoked_at, s.member
         FROM refresh_tokens t JOIN sessions s ON s.key = t.session WHERE t.hash = ?",
    )?;
    let token = query.query_row([hash], |row| {
        Ok(StoredToken {
            expires_at: time(row, "expires_at")?,
            used: optional_time(row, "used_at")?.is_some(),
            session_key: row.get("key")?,
            session: SessionId::from_bytes(row.get("id")?),
            revoked_at: optional_time(row, "revoked_at")?,
            member_key: row.get("member")?,
        })
    });
    token.optional()
}

fn rotate(tx: &Tx<'_>, used: TokenHash, next: NewToken, at: Timestamp) -> rusqlite::Result<Rotation> {
    let Some(token) = find_token(tx.connection, used)? else { return Ok(Rotation::Invalid) };
    // By this very attempt, whose answer was late.
    let revoked_just_now = token.used && token.revoked_at == Some(at);
    if (token.revoked_at.is_some() && !revoked_just_now) || token.expires_at <= at {
        return Ok(Rotation::Invalid);
    }
    let member =
        tx.connection.prepare_cached("SELECT * FROM members WHERE key = ?")?.query_row([token.member_key], record)?;
    if token.used && find_token(tx.connection, next.hash)?.is_some_and(|own| own.session == token.session) {
        return Ok(Rotation::Rotated { session: token.session, member: Box::new(member) });
    }
    if token.used {
        revoke(tx.connection, token.session, at)?;
        return Ok(Rotation::Reused { session: token.session, member: member.profile.id });
    }
    if !member.profile.may_sign_in(at) {
        return Ok(Rotation::Deactivated);
    }
    tx.connection
        .prepare_cached("UPDATE refresh_tokens SET used_at = ? WHERE hash = ?")?
        .execute(params![at.as_millis(), used])?;
    store_token(tx.connection, token.session_key, next)?;
    forget_used(tx.connection, &token)?;
    Ok(Rotation::Rotated { session: token.session, member: Box::new(member) })
}

/// The used tokens of a member beyond the newest; from the index of sessions on, whatever the planner thinks.
pub(super) const USED_OF_MEMBER: &str = "SELECT t.hash FROM sessions s CROSS JOIN refresh_tokens t ON t.session = s.key
    WHERE s.member = ? AND t.used_at IS NOT NULL ORDER BY t.used_at DESC LIMIT -1 OFFSET ?";

/// Removes used tokens beyond those that are kept.
fn forget_used(connection: &Connection, token: &StoredToken) -> rusqlite::Result<()> {
    let mut of_session = connection.prepare_cached(
        "DELETE FROM refresh_tokens WHERE hash IN (
            SELECT hash FROM refresh_tokens WHERE session = ? AND used_at IS NOT NULL
            ORDER BY used_at DESC LIMIT -1 OFFSET ?)",
    )?;
    of_session.execute(params![token.session_key, USED_TOKENS_OF_SESSION])?;
    let mut of_member =
        connection.prepare_cached(&format!("DELETE FROM refresh_tokens WHERE hash IN ({USED_OF_MEMBER})"))?;
    of_member.execute(params![token.member_key, USED_TOKENS_OF_MEMBER]).map(drop)
}

fn view(connection: &Connection, session: SessionId) -> rusqlite::Result<Option<SessionView>> {
    let mut query = connection.prepare_cached(
        "SELECT m.id, m.user_type, m.is_active, m.suspended_until, s.revoked_at
         FROM sessions s JOIN members m ON m.key = s.member WHERE s.id = ?",
    )?;
    let view = query.query_row([session.as_bytes()], |row| {
        Ok(SessionView {
            member: MemberId::from_bytes(row.get("id")?),
            user_type: word(row, "user_type", USER_TYPES)?,
            is_active: row.get("is_active")?,
            suspended_until: optional_time(row, "suspended_until")?,
            revoked: optional_time(row, "revoked_at")?.is_some(),
        })
    });
    view.optional()
}

fn revoke(connection: &Connection, session: SessionId, at: Timestamp) -> rusqlite::Result<()> {
    let mut update =
        connection.prepare_cached("UPDATE sessions SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL")?;
    update.execute(params![at.as_millis(), session.as_bytes()]).map(drop)
}

pub(super) fn revoke_all(connection: &Connection, member: MemberId, at: Timestamp) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE sessions SET revoked_at = ?
         WHERE member = (SELECT key FROM members WHERE id = ?) AND revoked_at IS NULL",
    )?;
    update.execute(params![at.as_millis(), member.as_bytes()]).map(drop)
}

fn owner(connection: &Connection, token: TokenHash, at: Timestamp) -> rusqlite::Result<Option<TokenOwner>> {
    let mut query = connection.prepare_cached(
        "SELECT m.id, t.used_at IS NOT NULL FROM refresh_tokens t CROSS JOIN sessions s ON s.key = t.session
         CROSS JOIN members m ON m.key = s.member WHERE t.hash = ? AND t.expires_at > ? AND s.revoked_at IS NULL",
    )?;
    let owner = query.query_row(params![token, at.as_millis()], |row| {
        Ok(TokenOwner { member: MemberId::from_bytes(row.get(0)?), used: row.get(1)? })
    });
    owner.optional()
}

fn purge(connection: &Connection, at: Timestamp) -> rusqlite::Result<usize> {
    let purged =
        connection.prepare_cached("DELETE FROM refresh_tokens WHERE expires_at < ?")?.execute([at.as_millis()])?;
    if purged > 0 {
        // Access tokens of such a session have long expired: they live shorter than refresh tokens.
        connection
            .prepare_cached(
                "DELETE FROM sessions WHERE NOT EXISTS (SELECT 1 FROM refresh_tokens t WHERE t.session = sessions.key)",
            )?
            .execute([])?;
    }
    Ok(purged)
}

fn of_member(connection: &Connection, member: MemberId) -> rusqlite::Result<Vec<SessionRecord>> {
    let mut query = connection.prepare_cached(
        "SELECT id, created_at, revoked_at FROM sessions WHERE member = (SELECT key FROM members WHERE id = ?) ORDER BY key",
    )?;
    let rows = query.query_map([member.as_bytes()], |row| {
        Ok(SessionRecord {
            id: SessionId::from_bytes(row.get("id")?),
            created_at: time(row, "created_at")?,
            revoked_at: optional_time(row, "revoked_at")?,
        })
    })?;
    rows.collect()
}

#[async_trait]
impl SessionStore for Sqlite {
    async fn start(
        &self,
        session: SessionId,
        member: MemberId,
        token: NewToken,
        at: Timestamp,
    ) -> Result<Option<Vec<SessionId>>, StoreError> {
        self.write(move |tx| start(tx, session, member, token, at)).await
    }

    async fn owner(&self, by: Caller, token: TokenHash, at: Timestamp) -> Result<Option<TokenOwner>, StoreError> {
        self.read(Turn::of(by), move |connection| owner(connection, token, at)).await
    }

    async fn rotate(
        &self,
        _: MemberId,
        used: TokenHash,
        next: NewToken,
        at: Timestamp,
    ) -> Result<Rotation, StoreError> {
        self.write(move |tx| rotate(tx, used, next, at)).await
    }

    async fn view(&self, session: SessionId) -> Result<Option<SessionView>, StoreError> {
        self.read(Turn::session(session), move |connection| view(connection, session)).await
    }

    async fn views(&self, sessions: Vec<SessionId>) -> Result<Vec<Option<SessionView>>, StoreError> {
        let turn = Turn::look_ups(Caller::System, sessions.len());
        self.read(turn, move |connection| sessions.iter().map(|session| view(connection, *session)).collect()).await
    }

    async fn of_member(&self, member: MemberId) -> Result<Vec<SessionRecord>, StoreError> {
        self.read(Turn::light(member), move |connection| of_member(connection, member)).await
    }

    async fn revoke_many(&self, _: MemberId, sessions: Vec<SessionId>, at: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            for session in &sessions {
                revoke(tx.connection, *session, at)?;
            }
            Ok(())
        })
        .await
    }

    async fn purge(&self, at: Timestamp) -> Result<usize, StoreError> {
        self.write(move |tx| purge(tx.connection, at)).await
    }
}
