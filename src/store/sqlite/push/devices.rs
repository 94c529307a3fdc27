//! Devices that are registered, and what members have chosen.

use protocol::{DeviceId, MemberId, SessionId, rest::QuietHours};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    super::row::{inconsistent, time, word},
    device_id, key_of, member_id,
};
use crate::{
    position::Position,
    store::{
        push::{
            AddressHash, BULK_MAX, CONTENTS, DEVICES_MAX, DeviceKey, DeviceRecord, PushChoice, RegistrationId, surplus,
        },
        sessions::{PLATFORMS, platform_word},
    },
};

/// A row of `push_devices`, with the id of its member.
pub(in crate::store::sqlite) fn record(row: &Row<'_>) -> rusqlite::Result<DeviceRecord> {
    let address = row.get_ref("address")?.as_str()?;
    Ok(DeviceRecord {
        member: member_id(row)?,
        device: device_id(row)?,
        session: SessionId::from_bytes(row.get("session")?),
        address: serde_json::from_str(address).map_err(|_| inconsistent("the address of a device"))?,
        platform: word(row, "platform", PLATFORMS)?,
        registered_at: time(row, "registered_at")?,
        since: Position(row.get("since")?),
        badge: row.get("badge")?,
        revision: RegistrationId(row.get("revision")?),
    })
}

/// A row of `push_choices`, with the id of its member.
pub(in crate::store::sqlite) fn choice_record(row: &Row<'_>) -> rusqlite::Result<(MemberId, PushChoice)> {
    Ok((member_id(row)?, choice_of(row)?))
}

fn choice_of(row: &Row<'_>) -> rusqlite::Result<PushChoice> {
    let from: Option<String> = row.get("quiet_from")?;
    let quiet_hours = match from {
        Some(from) => Some(QuietHours { from, until: row.get("quiet_until")?, time_zone: row.get("time_zone")? }),
        None => None,
    };
    Ok(PushChoice { content: word(row, "content", CONTENTS)?, quiet_hours })
}

/// Removes devices, and what hangs on them.
fn remove(connection: &Connection, devices: &[i64]) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM push_devices WHERE key = ?")?;
    devices.iter().try_for_each(|device| delete.execute([device]).map(drop))
}

/// Removes the devices of a member who is gone, and what they have chosen.
pub(in crate::store::sqlite) fn forget(connection: &Connection, member: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM push_devices WHERE member = ?")?.execute([member])?;
    connection.prepare_cached("DELETE FROM push_choices WHERE member = ?")?.execute([member]).map(drop)
}

/// Whether a session goes on, with tokens that are good from this generation on. One that is not there has said nothing against it: who pushes
/// looks for it.
pub(super) fn is_good(connection: &Connection, session: SessionId, good_from: u64) -> rusqlite::Result<bool> {
    let mut over = connection
        .prepare_cached("SELECT 1 FROM sessions WHERE id = ? AND (revoked_at IS NOT NULL OR good_from > ?)")?;
    Ok(!over.exists(params![session.as_bytes(), good_from])?)
}

pub(super) fn register(connection: &Connection, record: &DeviceRecord) -> rusqlite::Result<()> {
    let mut member = connection.prepare_cached("SELECT key FROM members WHERE id = ? AND is_erased = 0")?;
    let member: Option<i64> = member.query_row([record.member.as_bytes()], |row| row.get(0)).optional()?;
    // They have left meanwhile.
    let Some(member) = member else { return Ok(()) };
    let DeviceKey(id) = DeviceKey::of(record.member, &record.device);
    let AddressHash(hash) = AddressHash::of(&record.address);
    connection.prepare_cached("DELETE FROM push_devices WHERE hash = ? AND id <> ?")?.execute(params![hash, id])?;
    insert(connection, &DeviceRecord { revision: next_registration(connection)?, ..record.clone() }, member)?;
    let mut others = connection
        .prepare_cached("SELECT revision, registered_at, key FROM push_devices WHERE member = ? AND id <> ?")?;
    let others = others.query_map(params![member, id], |row| {
        // Those of former versions, and those that were copied, by their times.
        Ok(((row.get::<_, i64>("revision")?, time(row, "registered_at")?), row.get("key")?))
    })?;
    remove(connection, &surplus(others.collect::<rusqlite::Result<Vec<_>>>()?, DEVICES_MAX - 1))
}

fn next_registration(connection: &Connection) -> rusqlite::Result<RegistrationId> {
    let sql = "UPDATE push_place SET registrations = registrations + 1 RETURNING registrations";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0).map(RegistrationId))
}

/// Writes a device in the place of the one of the same member and id. What that has acknowledged stays good, and so do what it is to be told,
/// since when it is, and the number that it shows: it is the same installation.
fn insert(connection: &Connection, record: &DeviceRecord, member: i64) -> rusqlite::Result<()> {
    let DeviceRecord { device, session, address, platform, registered_at, since, badge, revision, .. } = record;
    let mut insert = connection.prepare_cached(
        "INSERT INTO push_devices (id, member, device, session, address, hash, platform, registered_at, since, badge, revision)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET session = excluded.session, address = excluded.address, hash = excluded.hash,
             platform = excluded.platform, registered_at = excluded.registered_at, badge = ifnull(excluded.badge, badge),
             revision = excluded.revision",
    )?;
    let values = params![
        DeviceKey::of(record.member, device).0,
        member,
        device.as_str(),
        session.as_bytes(),
        serde_json::to_string(address).map_err(|_| inconsistent("the address of a device"))?,
        AddressHash::of(address).0,
        platform_word(*platform),
        registered_at.as_millis(),
        since.0,
        badge,
        revision.0,
    ];
    insert.execute(values).map(drop)
}

/// Stores a device of another store, unless it is there.
pub(in crate::store::sqlite) fn restore(connection: &Connection, record: &DeviceRecord) -> rusqlite::Result<()> {
    let mut member = connection.prepare_cached("SELECT key FROM members WHERE id = ?")?;
    let member = member.query_row([record.member.as_bytes()], |row| row.get(0)).optional()?;
    let is_there = key_of(connection, DeviceKey::of(record.member, &record.device))?.is_some();
    // Positions of the other store say nothing here.
    let record = DeviceRecord { since: Position::default(), revision: RegistrationId::default(), ..record.clone() };
    member.filter(|_| !is_there).map_or(Ok(()), |member| insert(connection, &record, member))
}

/// The devices of a member; from the index on, whatever the planner thinks.
pub(in crate::store::sqlite) const DEVICES_OF: &str = "SELECT d.*, d.device AS name, m.id AS member_id
    FROM members m CROSS JOIN push_devices d ON d.member = m.key WHERE m.id = ?";

pub(super) fn devices(connection: &Connection, members: &[MemberId]) -> rusqlite::Result<Vec<DeviceRecord>> {
    let mut query = connection.prepare_cached(DEVICES_OF)?;
    let mut found = Vec::new();
    for member in members {
        for device in query.query_map([member.as_bytes()], record)? {
            found.push(device?);
        }
    }
    found.sort_by_key(|device| std::cmp::Reverse((device.revision.0, device.registered_at)));
    Ok(found)
}

/// Those that show a number at their icons, after a key.
pub(super) fn with_badge(
    connection: &Connection,
    after: Option<DeviceKey>,
) -> rusqlite::Result<Vec<(MemberId, DeviceId)>> {
    let mut query = connection.prepare_cached(
        "SELECT d.device AS name, m.id AS member_id FROM push_devices d CROSS JOIN members m ON m.key = d.member
         WHERE d.id > ? AND d.badge IS NOT NULL ORDER BY d.id LIMIT ?",
    )?;
    let after = after.map(|DeviceKey(id)| id.to_vec()).unwrap_or_default();
    query.query_map(params![after, BULK_MAX], |row| Ok((member_id(row)?, device_id(row)?)))?.collect()
}

pub(super) fn choice(connection: &Connection, member: MemberId) -> rusqlite::Result<PushChoice> {
    let mut query = connection
        .prepare_cached("SELECT * FROM push_choices WHERE member = (SELECT key FROM members WHERE id = ?)")?;
    Ok(query.query_row([member.as_bytes()], choice_of).optional()?.unwrap_or_default())
}

/// Stores what a member has chosen; of one who has left nothing is kept.
pub(in crate::store::sqlite) fn choose(
    connection: &Connection,
    member: MemberId,
    choice: &PushChoice,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO push_choices (member, content, quiet_from, quiet_until, time_zone)
         SELECT key, ?, ?, ?, ? FROM members WHERE id = ? AND is_erased = 0",
    )?;
    let quiet = choice.quiet_hours.as_ref();
    let (from, until) = (quiet.map(|quiet| &quiet.from), quiet.map(|quiet| &quiet.until));
    let time_zone = quiet.map(|quiet| &quiet.time_zone);
    insert.execute(params![choice.content.as_str(), from, until, time_zone, member.as_bytes()]).map(drop)
}
