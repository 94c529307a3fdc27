//! The audit log.

use std::net::IpAddr;

use async_trait::async_trait;
use protocol::{MemberId, Timestamp, rest::AuditAction};
use rusqlite::{Connection, Row, params, types::Value};

use super::{
    Sqlite,
    members::overtaken,
    row::{inconsistent, time},
};
use crate::store::{
    AuditStore, StoreError,
    audit::{
        AuditFilter, AuditFound, AuditIndex, AuditMoment, AuditPlace, AuditRecord, FORGOTTEN_AT_ONCE, REASON,
        forgotten_up_to,
    },
    changes::{Actor, Overtaken},
    turns::Turn,
};

pub(super) fn append(connection: &Connection, entry: &AuditRecord) -> rusqlite::Result<()> {
    let mut insert = connection
        .prepare_cached("INSERT INTO audit (at, actor, action, target, details, address) VALUES (?, ?, ?, ?, ?, ?)")?;
    insert
        .execute(params![
            entry.at.as_millis(),
            entry.actor.map(|actor| *actor.as_bytes()),
            entry.action.as_str(),
            entry.stored_target().as_bytes(),
            entry.details.to_string(),
            entry.address.map(|address| address.to_string()),
        ])
        .map(drop)
}

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<(AuditPlace, AuditRecord)> {
    let action: String = row.get("action")?;
    let action = AuditAction::ALL.iter().find(|known| known.as_str() == action);
    let details: String = row.get("details")?;
    let address: Option<String> = row.get("address")?;
    let address = address.map(|address| address.parse::<IpAddr>()).transpose();
    let record = AuditRecord {
        at: time(row, "at")?,
        actor: row.get::<_, Option<[u8; 12]>>("actor")?.map(MemberId::from_bytes),
        action: *action.ok_or_else(|| inconsistent("an unknown action in the audit log"))?,
        target: AuditRecord::target_of(MemberId::from_bytes(row.get("target")?)),
        details: serde_json::from_str(&details).map_err(|_| inconsistent("details in the audit log"))?,
        address: address.map_err(|_| inconsistent("an address in the audit log"))?,
    };
    Ok((AuditPlace(row.get("place")?), record))
}

/// Stores an entry of another store at its place, unless it is there.
pub(super) fn restore(connection: &Connection, place: AuditPlace, entry: &AuditRecord) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO audit (place, at, actor, action, target, details, address) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )?;
    insert
        .execute(params![
            place.0,
            entry.at.as_millis(),
            entry.actor.map(|actor| *actor.as_bytes()),
            entry.action.as_str(),
            entry.stored_target().as_bytes(),
            entry.details.to_string(),
            entry.address.map(|address| address.to_string()),
        ])
        .map(drop)
}

/// Entries before a place, the newest first: all of them, or those about a member or by them.
fn entries(
    connection: &Connection,
    member: Option<MemberId>,
    before: Option<AuditPlace>,
    limit: usize,
) -> rusqlite::Result<Vec<(AuditPlace, AuditRecord)>> {
    let before = AuditPlace::bound(before);
    if let Some(member) = member {
        let mut query = connection.prepare_cached(
            // Each half by its index, in the order of places: a page costs the same, however many there are.
            "SELECT * FROM (SELECT * FROM audit INDEXED BY audit_by_actor
                    WHERE actor = ?2 AND place < ?1 ORDER BY place DESC LIMIT ?3)
                UNION SELECT * FROM (SELECT * FROM audit INDEXED BY audit_by_target
                    WHERE target = ?2 AND place < ?1 ORDER BY place DESC LIMIT ?3)
                ORDER BY place DESC LIMIT ?3",
        )?;
        return query.query_map(params![before, member.as_bytes(), limit], record)?.collect();
    }
    let mut query = connection.prepare_cached("SELECT * FROM audit WHERE place < ? ORDER BY place DESC LIMIT ?")?;
    query.query_map(params![before, limit], record)?.collect()
}

/// Entries of a filter before a moment, the newest first, along an index in that order.
fn page(
    connection: &Connection,
    filter: &AuditFilter,
    before: Option<AuditMoment>,
    limit: usize,
) -> rusqlite::Result<AuditFound> {
    let (index, is_in, value): (_, _, Value) = match filter.index() {
        AuditIndex::Actor(actor) => ("audit_by_actor_at", "actor = ?1", actor.as_bytes().to_vec().into()),
        AuditIndex::Target(target) => ("audit_by_target_at", "target = ?1", target.as_bytes().to_vec().into()),
        AuditIndex::Action(action) => ("audit_by_action_at", "action = ?1", action.as_str().to_owned().into()),
        AuditIndex::All => ("audit_by_at", "?1 IS NULL", Value::Null),
    };
    let mut query = connection.prepare_cached(&format!(
        "SELECT * FROM audit INDEXED BY {index}
         WHERE {is_in} AND at >= ?2 AND at <= ?3 AND (at < ?3 OR place < ?4) ORDER BY at DESC, place DESC LIMIT ?5",
    ))?;
    let since = filter.since.map_or(i64::MIN, Timestamp::as_millis);
    let (at, place) = filter.bound(before).map_or((i64::MAX, None), |(at, place)| (at.as_millis(), Some(place)));
    let values = params![value, since, at, AuditPlace::bound(place), filter.examined(limit)];
    let read = query.query_map(values, record)?.collect::<rusqlite::Result<_>>()?;
    Ok(filter.page(read, limit))
}

fn forget_addresses(
    connection: &Connection,
    member: MemberId,
    after: AuditPlace,
) -> rusqlite::Result<Option<AuditPlace>> {
    let after = AuditPlace::bound(Some(after));
    let places = |field: &str| -> rusqlite::Result<Vec<u64>> {
        let sql = format!(
            "SELECT place FROM audit INDEXED BY audit_by_{field} WHERE {field} = ? AND place > ? ORDER BY place LIMIT ?"
        );
        let mut query = connection.prepare_cached(&sql)?;
        query.query_map(params![member.as_bytes(), after, FORGOTTEN_AT_ONCE], |row| row.get(0))?.collect()
    };
    let next = forgotten_up_to(&places("actor")?, &places("target")?);
    for (field, which) in [("actor", ""), ("target", "AND action = 'login_failed'")] {
        let sql = format!(
            "UPDATE audit INDEXED BY audit_by_{field} SET address = NULL
             WHERE {field} = ? AND place > ? AND place <= ? AND address IS NOT NULL {which}"
        );
        connection.prepare_cached(&sql)?.execute(params![member.as_bytes(), after, AuditPlace::bound(next)])?;
    }
    let sql = format!(
        "UPDATE audit INDEXED BY audit_by_target SET details = json_remove(details, '$.{REASON}')
         WHERE target = ? AND place > ? AND place <= ? AND action = 'suspension_changed'
             AND json_extract(details, '$.{REASON}') IS NOT NULL"
    );
    connection.prepare_cached(&sql)?.execute(params![member.as_bytes(), after, AuditPlace::bound(next)])?;
    Ok(next)
}

#[async_trait]
impl AuditStore for Sqlite {
    async fn append(&self, entry: AuditRecord) -> Result<(), StoreError> {
        self.write(move |tx| append(tx.connection, &entry)).await
    }

    async fn append_order(&self, entry: AuditRecord, by: Actor) -> Result<Option<Overtaken>, StoreError> {
        self.write(move |tx| {
            let overtaken = overtaken(tx.connection, by, true, entry.at)?;
            if overtaken.is_none() {
                append(tx.connection, &entry)?;
            }
            Ok(overtaken)
        })
        .await
    }

    async fn entries(
        &self,
        before: Option<AuditPlace>,
        limit: usize,
    ) -> Result<Vec<(AuditPlace, AuditRecord)>, StoreError> {
        self.read(Turn::SYSTEM, move |connection| entries(connection, None, before, limit)).await
    }

    async fn page(
        &self,
        filter: AuditFilter,
        before: Option<AuditMoment>,
        limit: usize,
    ) -> Result<AuditFound, StoreError> {
        self.read(Turn::SYSTEM, move |connection| page(connection, &filter, before, limit)).await
    }

    async fn after(&self, after: AuditPlace, limit: usize) -> Result<Vec<(AuditPlace, AuditRecord)>, StoreError> {
        self.read(Turn::SYSTEM, move |connection| {
            let mut query = connection.prepare_cached("SELECT * FROM audit WHERE place > ? ORDER BY place LIMIT ?")?;
            query.query_map(params![AuditPlace::bound(Some(after)), limit], record)?.collect()
        })
        .await
    }

    async fn of_member(
        &self,
        member: MemberId,
        before: Option<AuditPlace>,
        limit: usize,
    ) -> Result<Vec<(AuditPlace, AuditRecord)>, StoreError> {
        self.read(Turn::heavy(member), move |connection| entries(connection, Some(member), before, limit)).await
    }

    async fn forget_addresses(&self, member: MemberId, after: AuditPlace) -> Result<Option<AuditPlace>, StoreError> {
        self.write(move |tx| forget_addresses(tx.connection, member, after)).await
    }
}
