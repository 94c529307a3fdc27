//! Members.

use async_trait::async_trait;
use protocol::{
    MemberId, Timestamp,
    model::{Tier, UserType},
    rest::{ContactInfo, Member, MemberPatch},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Sqlite,
    row::{optional_time, time, word},
    writer::Tx,
};
use crate::store::{
    MemberStore, StoreError,
    members::{EmailTaken, LastSeen, MemberRecord, NewMember, email_key},
};

const TIERS: &[(&str, Tier)] = &[
    (Tier::Disruption.as_str(), Tier::Disruption),
    (Tier::Infinity.as_str(), Tier::Infinity),
    (Tier::Socio.as_str(), Tier::Socio),
];
pub(super) const USER_TYPES: &[(&str, UserType)] =
    &[(UserType::Member.as_str(), UserType::Member), (UserType::Admin.as_str(), UserType::Admin)];

/// Reads a member from a row of `SELECT * FROM members`.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<MemberRecord> {
    Ok(MemberRecord {
        profile: Member {
            id: MemberId::from_bytes(row.get("id")?),
            name: row.get("name")?,
            email: row.get("email")?,
            tier: word(row, "tier", TIERS)?,
            contact_info: ContactInfo {
                phone: row.get("phone")?,
                company: row.get("company")?,
                position: row.get("position")?,
            },
            profile_image_url: row.get("profile_image_url")?,
            user_type: word(row, "user_type", USER_TYPES)?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
            last_login: optional_time(row, "last_login")?,
            is_active: row.get("is_active")?,
        },
        password_hash: row.get("password_hash")?,
    })
}

fn by_id(connection: &Connection, id: MemberId) -> rusqlite::Result<Option<MemberRecord>> {
    let mut query = connection.prepare_cached("SELECT * FROM members WHERE id = ?")?;
    query.query_row([id.as_bytes()], record).optional()
}

fn by_email(connection: &Connection, key: &str) -> rusqlite::Result<Option<MemberRecord>> {
    let mut query = connection.prepare_cached("SELECT * FROM members WHERE email_key = ?")?;
    query.query_row([key], record).optional()
}

fn insert(tx: &Tx<'_>, member: NewMember) -> rusqlite::Result<Result<MemberRecord, EmailTaken>> {
    let key = email_key(&member.email);
    if by_email(tx.connection, &key)?.is_some() {
        return Ok(Err(EmailTaken));
    }
    let record = member.into_record();
    let Member { id, name, email, tier, user_type, created_at, updated_at, is_active, .. } = &record.profile;
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO members (id, name, email, email_key, password_hash, tier, user_type, created_at, updated_at, is_active)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert.execute(params![
        id.as_bytes(),
        name,
        email,
        key,
        record.password_hash,
        tier.as_str(),
        user_type.as_str(),
        created_at.as_millis(),
        updated_at.as_millis(),
        is_active,
    ])?;
    Ok(Ok(record))
}

fn update(tx: &Tx<'_>, id: MemberId, patch: MemberPatch, at: Timestamp) -> rusqlite::Result<Option<MemberRecord>> {
    let Some(mut record) = by_id(tx.connection, id)? else { return Ok(None) };
    let before = record.profile.clone();
    record.profile.apply(patch);
    if record.profile == before {
        return Ok(Some(record));
    }
    record.profile.updated_at = at.max(before.updated_at);
    let Member { name, contact_info, profile_image_url, updated_at, .. } = &record.profile;
    let mut update = tx.connection.prepare_cached(
        "UPDATE members SET name = ?, phone = ?, company = ?, position = ?, profile_image_url = ?, updated_at = ?
         WHERE id = ?",
    )?;
    update.execute(params![
        name,
        contact_info.phone,
        contact_info.company,
        contact_info.position,
        profile_image_url,
        updated_at.as_millis(),
        id.as_bytes(),
    ])?;
    Ok(Some(record))
}

fn set_active(tx: &mut Tx<'_>, id: MemberId, active: bool, at: Timestamp) -> rusqlite::Result<Option<MemberRecord>> {
    // The log remembers whether a member may be written to.
    tx.memory.members.remove(&id);
    tx.connection
        .prepare_cached("UPDATE members SET is_active = ?, updated_at = max(updated_at, ?) WHERE id = ?")?
        .execute(params![active, at.as_millis(), id.as_bytes()])?;
    if !active {
        super::sessions::revoke_all(tx.connection, id, at)?;
    }
    by_id(tx.connection, id)
}

fn last_seen(connection: &Connection, members: &[MemberId]) -> rusqlite::Result<Vec<LastSeen>> {
    let mut query = connection.prepare_cached("SELECT last_seen FROM members WHERE id = ? AND is_active = 1")?;
    let mut found = Vec::with_capacity(members.len());
    for &member in members {
        let at = query.query_row([member.as_bytes()], |row| optional_time(row, "last_seen")).optional()?;
        found.extend(at.map(|at| LastSeen { member, at }));
    }
    Ok(found)
}

#[async_trait]
impl MemberStore for Sqlite {
    async fn insert(&self, member: NewMember) -> Result<Result<MemberRecord, EmailTaken>, StoreError> {
        self.write(move |tx| insert(tx, member)).await
    }

    async fn by_id(&self, id: MemberId) -> Result<Option<MemberRecord>, StoreError> {
        self.read(move |connection| by_id(connection, id)).await
    }

    async fn by_email(&self, email: &str) -> Result<Option<MemberRecord>, StoreError> {
        let key = email_key(email);
        self.read(move |connection| by_email(connection, &key)).await
    }

    async fn update(
        &self,
        id: MemberId,
        patch: MemberPatch,
        at: Timestamp,
    ) -> Result<Option<MemberRecord>, StoreError> {
        self.write(move |tx| update(tx, id, patch, at)).await
    }

    async fn set_active(&self, id: MemberId, active: bool, at: Timestamp) -> Result<Option<MemberRecord>, StoreError> {
        self.write(move |tx| set_active(tx, id, active, at)).await
    }

    async fn record_last_seen(&self, seen: Vec<(MemberId, Timestamp)>) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut update = tx.connection.prepare_cached(
                "UPDATE members SET last_seen = ?1 WHERE id = ?2 AND (last_seen IS NULL OR last_seen < ?1)",
            )?;
            for (member, at) in seen {
                update.execute(params![at.as_millis(), member.as_bytes()])?;
            }
            Ok(())
        })
        .await
    }

    async fn last_seen(&self, members: Vec<MemberId>) -> Result<Vec<LastSeen>, StoreError> {
        self.read(move |connection| last_seen(connection, &members)).await
    }
}
