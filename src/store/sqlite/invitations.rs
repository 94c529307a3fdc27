//! Invitations.

use async_trait::async_trait;
use protocol::{InvitationId, MemberId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Sqlite, audit, claims, members,
    members::TIERS,
    memory::Tx,
    row::{optional_time, time, word},
};
use crate::store::{
    InvitationStore, StoreError,
    changes::{Actor, Change},
    invitations::{
        CAME_BY_MAX, CameBy, CodeHash, Created, InvitationRecord, MADE_WITHIN, NewInvitation, Withdrawn, of_change,
        revocation, revoked_with,
    },
    members::MemberRecord,
    turns::{Caller, Turn},
};

/// Those that [can open](InvitationRecord::can_open) at the time that is the first parameter.
pub(super) const CAN_OPEN: &str = "revoked_at IS NULL AND expires_at > ?1";

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<InvitationRecord> {
    Ok(InvitationRecord {
        id: InvitationId::from_bytes(row.get("id")?),
        code: row.get("code")?,
        tier: word(row, "tier", TIERS)?,
        uses: row.get("uses")?,
        used: row.get("used")?,
        created_by: MemberId::from_bytes(row.get("created_by")?),
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
        note: row.get("note")?,
    })
}

pub(super) fn by_id(connection: &Connection, id: InvitationId) -> rusqlite::Result<Option<InvitationRecord>> {
    connection.prepare_cached("SELECT * FROM invitations WHERE id = ?")?.query_row([id.as_bytes()], record).optional()
}

/// Stores an invitation, unless it is there.
pub(super) fn insert(connection: &Connection, record: &InvitationRecord) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO invitations (id, code, tier, uses, used, created_by, created_at, expires_at, revoked_at, note)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )?;
    insert
        .execute(params![
            record.id.as_bytes(),
            record.code,
            record.tier.as_str(),
            record.uses,
            record.used,
            record.created_by.as_bytes(),
            record.created_at.as_millis(),
            record.expires_at.as_millis(),
            record.revoked_at.map(Timestamp::as_millis),
            record.note,
        ])
        .map(drop)
}

/// An invitation, if it is good.
pub(super) fn open(
    connection: &Connection,
    id: InvitationId,
    at: Timestamp,
) -> rusqlite::Result<Option<InvitationRecord>> {
    Ok(by_id(connection, id)?.filter(|found| found.is_open(at)))
}

/// Takes one use of an invitation, if it is good.
pub(super) fn take(
    connection: &Connection,
    id: InvitationId,
    at: Timestamp,
) -> rusqlite::Result<Option<InvitationRecord>> {
    let found = open(connection, id, at)?;
    if found.is_some() {
        let mut take = connection.prepare_cached("UPDATE invitations SET used = used + 1 WHERE id = ?")?;
        take.execute([id.as_bytes()])?;
    }
    Ok(found)
}

/// What a change of a member does to invitations.
pub(super) fn follow(
    connection: &Connection,
    change: &Change,
    before: &MemberRecord,
    by: Actor,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let revocations = of_change(change, before);
    let mut count = 0;
    if let Some(made_by) = revocations.made_by {
        let sql = format!("UPDATE invitations SET revoked_at = ?1 WHERE created_by = ?2 AND {CAN_OPEN}");
        count += connection.prepare_cached(&sql)?.execute(params![at.as_millis(), made_by.as_bytes()])?;
    }
    if let Some(came_by) = revocations.came_by {
        let sql = format!("UPDATE invitations SET revoked_at = ?1 WHERE id = ?2 AND {CAN_OPEN}");
        count += connection.prepare_cached(&sql)?.execute(params![at.as_millis(), came_by.as_bytes()])?;
    }
    if revocations.forgets_notes {
        let mut forget = connection
            .prepare_cached("UPDATE invitations SET note = NULL WHERE created_by = ? AND note IS NOT NULL")?;
        forget.execute([before.profile.id.as_bytes()])?;
    }
    if count > 0 {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        audit::append(connection, &revoked_with(before.profile.id, count, change.action(), by, at))?;
    }
    Ok(())
}

fn create(tx: &Tx<'_>, new: &NewInvitation) -> rusqlite::Result<Created> {
    let record = &new.record;
    if by_id(tx.connection, record.id)?.is_some() {
        // By an attempt whose answer was late.
        return Ok(Created::Done);
    }
    if let Some(overtaken) = members::overtaken(tx.connection, new.by, new.needs_admin, record.created_at)? {
        return Ok(Created::Overtaken(overtaken));
    }
    let maker = members::by_id(tx.connection, record.created_by)?;
    if !maker.is_some_and(|maker| new.may_be_made_by(&maker.profile)) {
        return Ok(Created::NotAllowed);
    }
    let sql = format!("SELECT count(*) FROM invitations WHERE created_by = ?2 AND used < uses AND {CAN_OPEN}");
    let mut open = tx.connection.prepare_cached(&sql)?;
    let open: usize =
        open.query_row(params![record.created_at.as_millis(), record.created_by.as_bytes()], |row| row.get(0))?;
    let mut made =
        tx.connection.prepare_cached("SELECT count(*) FROM invitations WHERE created_by = ? AND created_at > ?")?;
    let since = record.created_at.before(MADE_WITHIN).as_millis();
    let made: usize = made.query_row(params![record.created_by.as_bytes(), since], |row| row.get(0))?;
    if open >= new.most_open || made >= new.most_made {
        return Ok(Created::TooMany);
    }
    insert(tx.connection, record)?;
    audit::append(tx.connection, &new.audit())?;
    Ok(Created::Done)
}

fn list(
    connection: &Connection,
    made_by: Option<MemberId>,
    before: Option<InvitationId>,
    limit: usize,
) -> rusqlite::Result<Vec<InvitationRecord>> {
    let before = before.map_or([u8::MAX; 12], |before| *before.as_bytes());
    match made_by {
        Some(maker) => connection
            .prepare_cached("SELECT * FROM invitations WHERE created_by = ? AND id < ? ORDER BY id DESC LIMIT ?")?
            .query_map(params![maker.as_bytes(), before, limit], record)?
            .collect(),
        None => connection
            .prepare_cached("SELECT * FROM invitations WHERE id < ? ORDER BY id DESC LIMIT ?")?
            .query_map(params![before, limit], record)?
            .collect(),
    }
}

fn came_by(connection: &Connection, invitations: &[InvitationId]) -> rusqlite::Result<Vec<CameBy>> {
    let mut query = connection.prepare_cached(
        "SELECT * FROM members INDEXED BY members_by_invitation
         WHERE invitation = ? AND must_verify = 0 ORDER BY key DESC LIMIT ?",
    )?;
    let mut waiting = connection.prepare_cached(
        "SELECT count(*) FROM members INDEXED BY members_by_invitation WHERE invitation = ? AND must_verify = 1",
    )?;
    let mut all = Vec::with_capacity(invitations.len());
    for invitation in invitations {
        let came = query.query_map(params![invitation.as_bytes(), CAME_BY_MAX], members::record)?;
        let members = came.collect::<rusqlite::Result<_>>()?;
        let records: u64 = waiting.query_row([invitation.as_bytes()], |row| row.get(0))?;
        all.push(CameBy { members, unverified: records + claims::count_of(connection, *invitation)? });
    }
    Ok(all)
}

fn revoke(connection: &Connection, id: InvitationId, by: Actor, at: Timestamp) -> rusqlite::Result<Withdrawn> {
    let Some(record) = by_id(connection, id)? else { return Ok(Withdrawn::NotFound) };
    if record.revoked_at.is_none() {
        if let Some(overtaken) = members::overtaken(connection, by, by.is_other_than(record.created_by), at)? {
            return Ok(Withdrawn::Overtaken(overtaken));
        }
        let mut revoke = connection.prepare_cached("UPDATE invitations SET revoked_at = ? WHERE id = ?")?;
        revoke.execute(params![at.as_millis(), id.as_bytes()])?;
        audit::append(connection, &revocation(&record, by, at))?;
    }
    Ok(Withdrawn::Done)
}

#[async_trait]
impl InvitationStore for Sqlite {
    async fn create(&self, new: NewInvitation) -> Result<Created, StoreError> {
        self.write(move |tx| create(tx, &new)).await
    }

    async fn by_code(&self, by: Caller, code: CodeHash) -> Result<Option<InvitationRecord>, StoreError> {
        self.read(Turn::of(by), move |connection| {
            let mut query = connection.prepare_cached("SELECT * FROM invitations WHERE code = ?")?;
            query.query_row([code], record).optional()
        })
        .await
    }

    async fn by_id(&self, by: Caller, id: InvitationId) -> Result<Option<InvitationRecord>, StoreError> {
        self.read(Turn::of(by), move |connection| by_id(connection, id)).await
    }

    async fn list(
        &self,
        by: Caller,
        made_by: Option<MemberId>,
        before: Option<InvitationId>,
        limit: usize,
    ) -> Result<Vec<InvitationRecord>, StoreError> {
        self.read(Turn::of(by), move |connection| list(connection, made_by, before, limit)).await
    }

    async fn came_by(&self, by: Caller, invitations: Vec<InvitationId>) -> Result<Vec<CameBy>, StoreError> {
        let turn = Turn::look_ups(by, invitations.len().saturating_mul(CAME_BY_MAX));
        self.read(turn, move |connection| came_by(connection, &invitations)).await
    }

    async fn revoke(&self, id: InvitationId, by: Actor, at: Timestamp) -> Result<Withdrawn, StoreError> {
        self.write(move |tx| revoke(tx.connection, id, by, at)).await
    }

    async fn purge(&self, expired: Timestamp) -> Result<usize, StoreError> {
        self.write(move |tx| {
            let mut purge = tx.connection.prepare_cached("DELETE FROM invitations WHERE expires_at < ?")?;
            purge.execute([expired.as_millis()])
        })
        .await
    }
}
