//! Sessions and their refresh tokens.

use std::net::IpAddr;

use async_trait::async_trait;
use protocol::{MemberId, SessionId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Sqlite, mail,
    members::{USER_TYPES, record},
    memory::Tx,
    row::{inconsistent, optional_time, time, word},
};
use crate::store::{
    SessionStore, StoreError,
    changes::Revoked,
    mail::Purpose,
    sessions::{
        AHEAD, Exchange, KeptSession, MadeBy, NewSession, NewToken, PLATFORMS, Presented, Renewal, Rotation,
        SESSIONS_OF_MEMBER, SESSIONS_REMOVED, SessionDevice, SessionRecord, SessionView, TokenFacts, TokenHash,
        TokenOwner, USED_TOKENS_OF_MEMBER, USED_TOKENS_OF_SESSION, end, platform_word, presented,
    },
    turns::{Caller, Turn},
};

fn store_token(connection: &Connection, session: i64, token: NewToken) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO refresh_tokens (hash, session, expires_at) VALUES (?, ?, ?)")?;
    insert.execute(params![token.hash, session, token.expires_at.as_millis()]).map(drop)
}

fn start(tx: &Tx<'_>, session: &NewSession) -> rusqlite::Result<Option<Vec<SessionId>>> {
    let NewSession { id, member, token, device, known_device, address, at, ends_at, credentials, .. } = session;
    let notice = match session.notice() {
        Some(notice) if has_logged_in(tx.connection, *member)? => Some(notice),
        _ => None,
    };
    let active: Option<i64> = tx
        .connection
        // A suspension that is over leaves nothing.
        .prepare_cached(
            "UPDATE members SET last_login = ?1, suspended_until = NULL, suspension_reason = NULL
             WHERE id = ?2 AND is_active = 1 AND ifnull(suspended_until, 0) <= ?1 AND credentials = ?3 RETURNING key",
        )?
        .query_row(params![at.as_millis(), member.as_bytes(), credentials], |row| row.get(0))
        .optional()?;
    // Deactivated, or gone, or with other credentials, since these were looked at.
    let Some(member) = active else { return Ok(None) };
    // Its first token has arrived, as far as that matters: there is none before it.
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO sessions (id, member, created_at, device_name, device_platform, address, last_used_at, ends_at,
             newest, confirmed_at, known_device)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?3, ?7, ?8, ?3, ?9)",
    )?;
    let key = insert.insert(params![
        id.as_bytes(),
        member,
        at.as_millis(),
        device.name,
        device.platform.map(platform_word),
        address.map(|address| address.to_string()),
        ends_at.as_millis(),
        token.hash,
        known_device,
    ])?;
    store_token(tx.connection, key, *token)?;
    if let Some(notice) = notice {
        mail::tell(tx.connection, &notice, *at)?;
    }
    let ended = remove_oldest(tx.connection, member)?;
    if !ended.is_empty() {
        mail::end_all(tx.connection, session.member, Purpose::ChangeEmail)?;
    }
    Ok(Some(ended))
}

/// Whether a member has ever logged in.
fn has_logged_in(connection: &Connection, member: MemberId) -> rusqlite::Result<bool> {
    let mut query = connection.prepare_cached("SELECT 1 FROM members WHERE id = ? AND last_login IS NOT NULL")?;
    query.exists([member.as_bytes()])
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
    facts: TokenFacts,
    session_key: i64,
    session: SessionId,
    revoked_at: Option<Timestamp>,
    member_key: i64,
    created_at: Timestamp,
    ends_at: Option<Timestamp>,
    generation: u64,
}

fn find_token(connection: &Connection, hash: TokenHash) -> rusqlite::Result<Option<StoredToken>> {
    let mut query = connection.prepare_cached(
        "SELECT t.expires_at, t.used_at, t.attempt AS used_by, s.key, s.id, s.revoked_at, s.member, s.created_at, s.ends_at, s.generation,
             s.newest, s.confirmed_at, s.attempt
         FROM refresh_tokens t JOIN sessions s ON s.key = t.session WHERE t.hash = ?",
    )?;
    let token = query.query_row([hash], |row| {
        let used = optional_time(row, "used_at")?.is_some();
        Ok(StoredToken {
            expires_at: time(row, "expires_at")?,
            facts: TokenFacts {
                used,
                used_by: row.get("used_by")?,
                newest: row.get("newest")?,
                confirmed_at: optional_time(row, "confirmed_at")?,
                made_by: MadeBy::Attempt(row.get("attempt")?),
            },
            session_key: row.get("key")?,
            session: SessionId::from_bytes(row.get("id")?),
            revoked_at: optional_time(row, "revoked_at")?,
            member_key: row.get("member")?,
            created_at: time(row, "created_at")?,
            ends_at: optional_time(row, "ends_at")?,
            generation: row.get("generation")?,
        })
    });
    token.optional()
}

fn rotate(tx: &Tx<'_>, exchange: &Exchange) -> rusqlite::Result<Rotation> {
    let Exchange { used, at, .. } = *exchange;
    let Some(token) = find_token(tx.connection, used)? else { return Ok(Rotation::Invalid) };
    let presented = presented(exchange, token.facts);
    // By this very attempt, whose answer was late.
    let revoked_just_now = presented == Presented::Spent && token.revoked_at == Some(at);
    let ends_at = end(token.created_at, token.ends_at, exchange.session_lifetime);
    let is_over = (token.revoked_at.is_some() && !revoked_just_now) || token.expires_at <= at || ends_at <= at;
    if is_over || presented == Presented::Late {
        return Ok(Rotation::Invalid);
    }
    let member =
        tx.connection.prepare_cached("SELECT * FROM members WHERE key = ?")?.query_row([token.member_key], record)?;
    if presented == Presented::Spent {
        revoke(tx.connection, token.session, at)?;
        mail::end_all(tx.connection, member.profile.id, Purpose::ChangeEmail)?;
        return Ok(Rotation::Reused { session: token.session, member: member.profile.id });
    }
    if !member.profile.may_sign_in(at) {
        return Ok(Rotation::Deactivated);
    }
    let renewal = |successor: NewToken, generation, again| {
        let NewToken { hash: successor, expires_at } = successor;
        Rotation::Rotated(Box::new(Renewal {
            session: token.session,
            member,
            successor,
            expires_at,
            generation,
            ends_at,
            again,
        }))
    };
    if let Presented::Again(hash) = presented {
        let Some(newest) = find_token(tx.connection, hash)? else { return Ok(Rotation::Invalid) };
        return Ok(renewal(NewToken { hash, expires_at: newest.expires_at }, token.generation, true));
    }
    let next = NewToken { hash: exchange.successor, expires_at: at.after(exchange.token_lifetime).min(ends_at) };
    tx.connection
        .prepare_cached("UPDATE refresh_tokens SET used_at = ?, attempt = ? WHERE hash = ?")?
        .execute(params![at.as_millis(), exchange.attempt, used])?;
    store_token(tx.connection, token.session_key, next)?;
    let mut replace = tx.connection.prepare_cached(
        "UPDATE sessions SET newest = ?, attempt = ?, generation = generation + 1, confirmed_at = NULL, ends_at = ?,
             last_used_at = max(coalesce(last_used_at, 0), ?), last_address = ? WHERE key = ?",
    )?;
    replace.execute(params![
        next.hash,
        exchange.attempt,
        ends_at.as_millis(),
        at.as_millis(),
        exchange.address.map(|address| address.to_string()),
        token.session_key
    ])?;
    forget_used(tx.connection, &token, at)?;
    Ok(renewal(next, token.generation + 1, false))
}

fn confirm(connection: &Connection, session: SessionId, generation: u64, at: Timestamp) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE sessions SET confirmed_at = ?1, last_used_at = max(coalesce(last_used_at, 0), ?1)
         WHERE id = ?2 AND generation = ?3 AND confirmed_at IS NULL",
    )?;
    update.execute(params![at.as_millis(), session.as_bytes(), generation]).map(drop)
}

/// Who is at the device of a session has proved who they are.
pub(super) fn prove(
    connection: &Connection,
    member: MemberId,
    session: SessionId,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE sessions SET proved_at =
             CASE WHEN ifnull(proved_at, created_at) > ?2 THEN ?1 ELSE max(ifnull(proved_at, created_at), ?1) END
         WHERE id = ?3 AND member = (SELECT key FROM members WHERE id = ?4) AND revoked_at IS NULL",
    )?;
    let latest = at.after(AHEAD).as_millis();
    update.execute(params![at.as_millis(), latest, session.as_bytes(), member.as_bytes()]).map(drop)
}

fn rename(connection: &Connection, member: MemberId, session: SessionId, name: &str) -> rusqlite::Result<bool> {
    let mut update = connection.prepare_cached(
        "UPDATE sessions SET device_name = ?
         WHERE id = ? AND member = (SELECT key FROM members WHERE id = ?) AND revoked_at IS NULL",
    )?;
    Ok(update.execute(params![name, session.as_bytes(), member.as_bytes()])? > 0)
}

/// The used tokens of a member beyond the newest; from the index of sessions on, whatever the planner thinks.
pub(super) const USED_OF_MEMBER: &str = "SELECT t.hash FROM sessions s CROSS JOIN refresh_tokens t ON t.session = s.key
    WHERE s.member = ?1 AND t.used_at IS NOT NULL ORDER BY t.used_at > ?2, t.used_at DESC LIMIT -1 OFFSET ?3";

/// Removes used tokens beyond those that are kept. Those of a time that is not yet, when the clock was ahead, are the first to go.
fn forget_used(connection: &Connection, token: &StoredToken, at: Timestamp) -> rusqlite::Result<()> {
    let latest = at.after(AHEAD).as_millis();
    let mut of_session = connection.prepare_cached(
        "DELETE FROM refresh_tokens WHERE hash IN (
            SELECT hash FROM refresh_tokens WHERE session = ?1 AND used_at IS NOT NULL
            ORDER BY used_at > ?2, used_at DESC LIMIT -1 OFFSET ?3)",
    )?;
    of_session.execute(params![token.session_key, latest, USED_TOKENS_OF_SESSION])?;
    let mut of_member =
        connection.prepare_cached(&format!("DELETE FROM refresh_tokens WHERE hash IN ({USED_OF_MEMBER})"))?;
    of_member.execute(params![token.member_key, latest, USED_TOKENS_OF_MEMBER]).map(drop)
}

/// A session and the state of its member.
pub(super) fn view(connection: &Connection, session: SessionId) -> rusqlite::Result<Option<SessionView>> {
    let mut query = connection.prepare_cached(
        "SELECT m.id, m.user_type, m.is_active, m.suspended_until, s.revoked_at, s.generation, s.good_from,
             s.confirmed_at, s.ends_at, ifnull(s.proved_at, s.created_at) AS proved_at, m.second_factor_at IS NOT NULL AS has_second_factor,
             s.created_at, s.known_device
         FROM sessions s JOIN members m ON m.key = s.member WHERE s.id = ?",
    )?;
    let view = query.query_row([session.as_bytes()], |row| {
        Ok(SessionView {
            member: MemberId::from_bytes(row.get("id")?),
            user_type: word(row, "user_type", USER_TYPES)?,
            is_active: row.get("is_active")?,
            suspended_until: optional_time(row, "suspended_until")?,
            revoked: optional_time(row, "revoked_at")?.is_some(),
            generation: row.get("generation")?,
            good_from: row.get("good_from")?,
            confirmed: optional_time(row, "confirmed_at")?.is_some(),
            ends_at: optional_time(row, "ends_at")?,
            proved_at: time(row, "proved_at")?,
            has_second_factor: row.get("has_second_factor")?,
            created_at: time(row, "created_at")?,
            known_device: row.get("known_device")?,
        })
    });
    view.optional()
}

fn revoke(connection: &Connection, session: SessionId, at: Timestamp) -> rusqlite::Result<()> {
    let mut update =
        connection.prepare_cached("UPDATE sessions SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL")?;
    update.execute(params![at.as_millis(), session.as_bytes()]).map(drop)
}

/// Forgets what sessions of a member say about devices and places: the member is gone.
pub(super) fn forget_devices(connection: &Connection, member: i64) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE sessions SET device_name = NULL, device_platform = NULL, address = NULL, last_address = NULL,
             known_device = NULL WHERE member = ?",
    )?;
    update.execute([member]).map(drop)
}

/// Revokes the sessions that a change of their member ends. Returns them.
pub(super) fn revoke_by_change(
    connection: &Connection,
    member: MemberId,
    revoked: Revoked,
    at: Timestamp,
) -> rusqlite::Result<Vec<SessionId>> {
    let kept = match revoked {
        Revoked::None => return Ok(Vec::new()),
        Revoked::All => None,
        Revoked::AllBut(session) => Some(session),
    };
    let mut update = connection.prepare_cached(
        "UPDATE sessions SET revoked_at = ?1
         WHERE member = (SELECT key FROM members WHERE id = ?2) AND revoked_at IS NULL AND id IS NOT ?3
         RETURNING id",
    )?;
    let values = params![at.as_millis(), member.as_bytes(), kept.as_ref().map(SessionId::as_bytes)];
    update.query_map(values, |row| row.get(0).map(SessionId::from_bytes))?.collect()
}

/// Ends the tokens of the session that stays, and stores the one that it goes on with. It has arrived, as far as that matters: there is
/// none before it.
pub(super) fn replace_tokens(
    connection: &Connection,
    member: MemberId,
    kept: KeptSession,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let mut replace = connection.prepare_cached(
        "UPDATE sessions SET newest = ?1, attempt = NULL, generation = generation + 1, good_from = generation + 1,
             confirmed_at = ?2, last_used_at = max(coalesce(last_used_at, 0), ?2)
         WHERE id = ?3 AND member = (SELECT key FROM members WHERE id = ?4) AND revoked_at IS NULL RETURNING key",
    )?;
    let values = params![kept.token.hash, at.as_millis(), kept.id.as_bytes(), member.as_bytes()];
    let Some(key) = replace.query_row(values, |row| row.get::<_, i64>(0)).optional()? else { return Ok(()) };
    connection.prepare_cached("DELETE FROM refresh_tokens WHERE session = ?")?.execute([key])?;
    // Whoever has copied a token may have registered a device with it. That of the member registers again, with its new tokens.
    connection.prepare_cached("DELETE FROM push_devices WHERE session = ?")?.execute([kept.id.as_bytes()])?;
    store_token(connection, key, kept.token)
}

fn owner(connection: &Connection, exchange: &Exchange) -> rusqlite::Result<Option<TokenOwner>> {
    let found = find_token(connection, exchange.used)?;
    let Some(token) = found.filter(|found| found.revoked_at.is_none() && found.expires_at > exchange.at) else {
        return Ok(None);
    };
    let presented = presented(exchange, token.facts);
    if presented == Presented::Late {
        return Ok(None);
    }
    let mut query = connection.prepare_cached("SELECT id FROM members WHERE key = ?")?;
    let member = query.query_row([token.member_key], |row| row.get(0).map(MemberId::from_bytes))?;
    Ok(Some(TokenOwner { member, spent: presented == Presented::Spent }))
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

/// What a session says about its device.
pub(super) fn device(row: &Row<'_>) -> rusqlite::Result<SessionDevice> {
    let platform: Option<String> = row.get("device_platform")?;
    let platform = platform.map(|_| word(row, "device_platform", PLATFORMS)).transpose()?;
    Ok(SessionDevice { name: row.get("device_name")?, platform })
}

/// Where a session was started from, or its token replaced from last.
pub(super) fn address(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<IpAddr>> {
    let address: Option<String> = row.get(column)?;
    let address = address.map(|address| address.parse()).transpose();
    address.map_err(|_| inconsistent("an address of a session"))
}

fn of_member(connection: &Connection, member: MemberId) -> rusqlite::Result<Vec<SessionRecord>> {
    let mut query = connection.prepare_cached(
        "SELECT id, created_at, revoked_at, device_name, device_platform, address, last_address, last_used_at,
             ends_at, (SELECT max(t.expires_at) FROM refresh_tokens t WHERE t.session = s.key AND t.used_at IS NULL) AS renewable
         FROM sessions s WHERE member = (SELECT key FROM members WHERE id = ?) ORDER BY key",
    )?;
    let rows = query.query_map([member.as_bytes()], |row| {
        let created_at = time(row, "created_at")?;
        Ok(SessionRecord {
            id: SessionId::from_bytes(row.get("id")?),
            created_at,
            revoked_at: optional_time(row, "revoked_at")?,
            device: device(row)?,
            address: address(row, "address")?,
            last_address: address(row, "last_address")?,
            last_used_at: optional_time(row, "last_used_at")?.unwrap_or(created_at),
            ends_at: optional_time(row, "ends_at")?,
            renewable_until: optional_time(row, "renewable")?,
        })
    })?;
    rows.collect()
}

#[async_trait]
impl SessionStore for Sqlite {
    async fn start(&self, session: NewSession) -> Result<Option<Vec<SessionId>>, StoreError> {
        self.write(move |tx| start(tx, &session)).await
    }

    async fn owner(&self, by: Caller, exchange: Exchange) -> Result<Option<TokenOwner>, StoreError> {
        self.read(Turn::of(by), move |connection| owner(connection, &exchange)).await
    }

    async fn rotate(&self, _: MemberId, exchange: Exchange) -> Result<Rotation, StoreError> {
        self.write(move |tx| rotate(tx, &exchange)).await
    }

    async fn confirm(&self, _: MemberId, session: SessionId, generation: u64, at: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| confirm(tx.connection, session, generation, at)).await
    }

    async fn prove(&self, member: MemberId, session: SessionId, at: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| prove(tx.connection, member, session, at)).await
    }

    async fn rename(&self, member: MemberId, session: SessionId, name: String) -> Result<bool, StoreError> {
        self.write(move |tx| rename(tx.connection, member, session, &name)).await
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

    async fn revoke_many(&self, member: MemberId, sessions: Vec<SessionId>, at: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            for session in &sessions {
                revoke(tx.connection, *session, at)?;
            }
            if sessions.is_empty() { Ok(()) } else { mail::end_all(tx.connection, member, Purpose::ChangeEmail) }
        })
        .await
    }

    async fn purge(&self, at: Timestamp) -> Result<usize, StoreError> {
        self.write(move |tx| purge(tx.connection, at)).await
    }
}
