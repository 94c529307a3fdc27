//! Push: devices, what they have acknowledged, and what they are to be told.
//!
//! Marks and tasks hang on the row of their device and go with it; the row goes with its session (triggers of the schema).

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::atomic::Ordering,
};

use async_trait::async_trait;
use protocol::{ConversationId, DeviceId, MemberId, SessionId, Timestamp, rest::QuietHours};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Sqlite, conversations,
    history::MemberIds,
    readers::snapshot,
    row::{inconsistent, optional_time, time, word},
};
use crate::{
    position::Position,
    store::{
        PushStore, StoreError,
        push::{
            AddressHash, BULK_MAX, CONTENTS, DEVICES_MAX, DeviceKey, DeviceMark, DeviceRecord, NewTask, Progress,
            PushChoice, Settled, StoredTask, Stretch, Subject, TASKS_MAX, TakenTask, UNREAD_MAX, Unlooked,
            WaitingTasks, merged, shown, surplus,
        },
        sessions::{PLATFORMS, platform_word},
        turns::{Caller, Turn},
    },
};

/// What is known of what was stored by the process before this one.
#[derive(Debug)]
pub(super) enum Former {
    /// Somebody has to look through it.
    Unlooked,
    /// Somebody does, until then.
    InHand(Timestamp),
    /// It was looked through.
    Looked,
}

impl Former {
    /// It was looked through up to a place, and stored up to a position.
    pub(super) const fn of(place: u64, position: u64) -> Self {
        if place < position { Self::Unlooked } else { Self::Looked }
    }
}

/// The revision of a task that is written anew.
fn drawn(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT random()")?.query_row([], |row| row.get(0))
}

fn device_id(row: &Row<'_>) -> rusqlite::Result<DeviceId> {
    row.get_ref("name")?.as_str()?.parse().map_err(|_| inconsistent("the name of a device"))
}

fn member_id(row: &Row<'_>) -> rusqlite::Result<MemberId> {
    row.get("member_id").map(MemberId::from_bytes)
}

/// A row of `push_devices`, with the id of its member.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<DeviceRecord> {
    let address = row.get_ref("address")?.as_str()?;
    Ok(DeviceRecord {
        member: member_id(row)?,
        device: device_id(row)?,
        session: SessionId::from_bytes(row.get("session")?),
        address: serde_json::from_str(address).map_err(|_| inconsistent("the address of a device"))?,
        platform: word(row, "platform", PLATFORMS)?,
        registered_at: time(row, "registered_at")?,
        badge: row.get("badge")?,
    })
}

/// A row of `push_marks`, with its device and the id of its member.
pub(super) fn mark(row: &Row<'_>) -> rusqlite::Result<DeviceMark> {
    let conversation = ConversationId::from_bytes(row.get("conversation")?);
    Ok(DeviceMark { member: member_id(row)?, device: device_id(row)?, conversation, seq: row.get("seq")? })
}

/// A row of `push_tasks`, with its device and the id of its member.
pub(super) fn task(row: &Row<'_>) -> rusqlite::Result<StoredTask> {
    let task = NewTask {
        member: member_id(row)?,
        device: device_id(row)?,
        subject: Subject::of(row.get("subject")?),
        first: row.get("first")?,
        last: row.get("last")?,
        at: time(row, "at")?,
        due: time(row, "due")?,
    };
    let (attempts, next_due) = (row.get("attempts")?, optional_time(row, "next_due")?);
    Ok(StoredTask { attempts, next_due, ..StoredTask::new(task, row.get("revision")?) })
}

/// A row of `push_choices`, with the id of its member.
pub(super) fn choice_record(row: &Row<'_>) -> rusqlite::Result<(MemberId, PushChoice)> {
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

/// The key of a device, if it is registered.
fn key_of(connection: &Connection, DeviceKey(id): DeviceKey) -> rusqlite::Result<Option<i64>> {
    let mut query = connection.prepare_cached("SELECT key FROM push_devices WHERE id = ?")?;
    query.query_row([id], |row| row.get(0)).optional()
}

/// Removes devices, and what hangs on them.
fn remove(connection: &Connection, devices: &[i64]) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM push_devices WHERE key = ?")?;
    devices.iter().try_for_each(|device| delete.execute([device]).map(drop))
}

/// Removes the devices of a member who is gone, and what they have chosen.
pub(super) fn forget(connection: &Connection, member: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM push_devices WHERE member = ?")?.execute([member])?;
    connection.prepare_cached("DELETE FROM push_choices WHERE member = ?")?.execute([member]).map(drop)
}

fn register(connection: &Connection, record: &DeviceRecord) -> rusqlite::Result<()> {
    let mut member = connection.prepare_cached("SELECT key FROM members WHERE id = ? AND is_erased = 0")?;
    let member: Option<i64> = member.query_row([record.member.as_bytes()], |row| row.get(0)).optional()?;
    // They have left meanwhile.
    let Some(member) = member else { return Ok(()) };
    let DeviceKey(id) = DeviceKey::of(record.member, &record.device);
    let AddressHash(hash) = AddressHash::of(&record.address);
    connection.prepare_cached("DELETE FROM push_devices WHERE hash = ? AND id <> ?")?.execute(params![hash, id])?;
    if let Some(key) = key_of(connection, DeviceKey(id))? {
        connection.prepare_cached("DELETE FROM push_tasks WHERE device = ?")?.execute([key])?;
    }
    insert(connection, record, member)?;
    let mut others =
        connection.prepare_cached("SELECT registered_at, key FROM push_devices WHERE member = ? AND id <> ?")?;
    let others = others.query_map(params![member, id], |row| Ok((time(row, "registered_at")?, row.get("key")?)))?;
    remove(connection, &surplus(others.collect::<rusqlite::Result<Vec<_>>>()?, DEVICES_MAX - 1))
}

/// Writes a device in the place of the one of the same member and id. What that has acknowledged stays good, and so does the number that it
/// shows: it is the same installation.
fn insert(connection: &Connection, record: &DeviceRecord, member: i64) -> rusqlite::Result<()> {
    let DeviceRecord { device, session, address, platform, registered_at, badge, .. } = record;
    let mut insert = connection.prepare_cached(
        "INSERT INTO push_devices (id, member, device, session, address, hash, platform, registered_at, badge)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET session = excluded.session, address = excluded.address, hash = excluded.hash,
             platform = excluded.platform, registered_at = excluded.registered_at, badge = ifnull(excluded.badge, badge)",
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
        badge,
    ];
    insert.execute(values).map(drop)
}

/// Stores a device of another store, unless it is there.
pub(super) fn restore(connection: &Connection, record: &DeviceRecord) -> rusqlite::Result<()> {
    let mut member = connection.prepare_cached("SELECT key FROM members WHERE id = ?")?;
    let member = member.query_row([record.member.as_bytes()], |row| row.get(0)).optional()?;
    let is_there = key_of(connection, DeviceKey::of(record.member, &record.device))?.is_some();
    member.filter(|_| !is_there).map_or(Ok(()), |member| insert(connection, record, member))
}

/// The devices of a member; from the index on, whatever the planner thinks.
pub(super) const DEVICES_OF: &str = "SELECT d.*, d.device AS name, m.id AS member_id
    FROM members m CROSS JOIN push_devices d ON d.member = m.key WHERE m.id = ?";

fn devices(connection: &Connection, members: &[MemberId]) -> rusqlite::Result<Vec<DeviceRecord>> {
    let mut query = connection.prepare_cached(DEVICES_OF)?;
    let mut found = Vec::new();
    for member in members {
        for device in query.query_map([member.as_bytes()], record)? {
            found.push(device?);
        }
    }
    found.sort_by_key(|device| std::cmp::Reverse(device.registered_at));
    Ok(found)
}

fn choice(connection: &Connection, member: MemberId) -> rusqlite::Result<PushChoice> {
    let mut query = connection
        .prepare_cached("SELECT * FROM push_choices WHERE member = (SELECT key FROM members WHERE id = ?)")?;
    Ok(query.query_row([member.as_bytes()], choice_of).optional()?.unwrap_or_default())
}

/// Stores what a member has chosen; of one who has left nothing is kept.
pub(super) fn choose(connection: &Connection, member: MemberId, choice: &PushChoice) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO push_choices (member, content, quiet_from, quiet_until, time_zone)
         SELECT key, ?, ?, ?, ? FROM members WHERE id = ? AND is_erased = 0",
    )?;
    let quiet = choice.quiet_hours.as_ref();
    let (from, until) = (quiet.map(|quiet| &quiet.from), quiet.map(|quiet| &quiet.until));
    let time_zone = quiet.map(|quiet| &quiet.time_zone);
    insert.execute(params![choice.content.as_str(), from, until, time_zone, member.as_bytes()]).map(drop)
}

/// Stores up to where a device has come, if it is registered.
pub(super) fn acknowledge(connection: &Connection, mark: &DeviceMark) -> rusqlite::Result<()> {
    let DeviceMark { member, device, conversation, seq } = mark;
    let Some(key) = key_of(connection, DeviceKey::of(*member, device))? else { return Ok(()) };
    let mut upsert = connection.prepare_cached(
        "INSERT INTO push_marks VALUES (?, ?, ?)
         ON CONFLICT DO UPDATE SET seq = excluded.seq WHERE excluded.seq > seq",
    )?;
    upsert.execute(params![key, conversation.as_bytes(), seq]).map(drop)
}

/// What the devices of a member have acknowledged in a conversation.
pub(super) const MARKS_OF: &str = "SELECT d.device AS name, k.seq FROM members m
    CROSS JOIN push_devices d ON d.member = m.key CROSS JOIN push_marks k ON k.device = d.key AND k.conversation = ?2
    WHERE m.id = ?1";

fn progress(connection: &Connection, member: MemberId, conversation: ConversationId) -> rusqlite::Result<Progress> {
    let values = [member.as_bytes(), conversation.as_bytes()];
    let mut read = connection.prepare_cached(
        "SELECT p.read FROM participants p
         WHERE p.member = (SELECT key FROM members WHERE id = ?) AND p.conversation = (SELECT key FROM conversations WHERE id = ?)",
    )?;
    let read = read.query_row(values, |row| row.get(0)).optional()?.unwrap_or(0);
    let mut marks = connection.prepare_cached(MARKS_OF)?;
    let devices = marks.query_map(values, |row| Ok((device_id(row)?, row.get("seq")?)))?;
    Ok(Progress { read, devices: devices.collect::<rusqlite::Result<_>>()? })
}

/// The task of a device about something, with the columns that [`task`] reads.
const TASK: &str = "SELECT t.*, d.device AS name, m.id AS member_id FROM push_tasks t
    CROSS JOIN push_devices d ON d.key = t.device CROSS JOIN members m ON m.key = d.member
    WHERE t.device = ? AND t.subject = ?";

fn find(connection: &Connection, device: i64, subject: Subject) -> rusqlite::Result<Option<StoredTask>> {
    connection.prepare_cached(TASK)?.query_row(params![device, subject.key()], task).optional()
}

fn write(connection: &Connection, device: i64, stored: &StoredTask) -> rusqlite::Result<()> {
    let StoredTask { task: NewTask { subject, first, last, at, due, .. }, attempts, next_due, revision } = stored;
    let mut insert =
        connection.prepare_cached("INSERT OR REPLACE INTO push_tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    let next_due = next_due.map(Timestamp::as_millis);
    let (at, due) = (at.as_millis(), due.as_millis());
    insert.execute(params![device, subject.key(), first, last, at, due, attempts, next_due, revision]).map(drop)
}

/// Stores a task of another store, unless it is there.
pub(super) fn restore_task(connection: &Connection, stored: &StoredTask) -> rusqlite::Result<()> {
    let Some(device) = key_of(connection, stored.task.device_key())? else { return Ok(()) };
    if find(connection, device, stored.task.subject)?.is_some() {
        return Ok(());
    }
    write(connection, device, &StoredTask { revision: drawn(connection)?, ..stored.clone() })
}

fn add(connection: &Connection, tasks: Vec<NewTask>) -> rusqlite::Result<()> {
    let mut grown = Vec::new();
    for ((id, subject), new) in merged(tasks) {
        let Some(device) = key_of(connection, id)? else { continue };
        let (waiting, revision) = (find(connection, device, subject)?, drawn(connection)?);
        if waiting.is_none() {
            grown.push(device);
        }
        let stored = match waiting {
            Some(waiting) => waiting.add(&new, revision),
            None => StoredTask::new(new, revision),
        };
        write(connection, device, &stored)?;
    }
    // They came in the order of their devices.
    grown.dedup();
    grown.into_iter().try_for_each(|device| remove_surplus(connection, device))
}

/// Removes the tasks of a device beyond those that it may have.
fn remove_surplus(connection: &Connection, device: i64) -> rusqlite::Result<()> {
    let mut query =
        connection.prepare_cached("SELECT at, subject FROM push_tasks WHERE device = ? AND subject <> ?")?;
    let subjects = query.query_map(params![device, Subject::Badge.key()], |row| {
        Ok((time(row, "at")?, row.get::<_, [u8; 12]>("subject")?))
    })?;
    let mut delete = connection.prepare_cached("DELETE FROM push_tasks WHERE device = ? AND subject = ?")?;
    let gone = surplus(subjects.collect::<rusqlite::Result<Vec<_>>>()?, TASKS_MAX);
    gone.into_iter().try_for_each(|subject| delete.execute(params![device, subject]).map(drop))
}

fn take(connection: &Connection, now: Timestamp, until: Timestamp, limit: usize) -> rusqlite::Result<Vec<TakenTask>> {
    let mut query = connection.prepare_cached(
        "SELECT device, subject FROM push_tasks INDEXED BY push_tasks_by_due WHERE due <= ? ORDER BY due LIMIT ?",
    )?;
    let due = query.query_map(params![now.as_millis(), limit], |row| {
        Ok((row.get::<_, i64>("device")?, Subject::of(row.get("subject")?)))
    })?;
    let mut taken = Vec::new();
    for (device, subject) in due.collect::<rusqlite::Result<Vec<_>>>()? {
        // What hangs on a device is not without it.
        let Some(stored) = find(connection, device, subject)? else { continue };
        let stored = stored.take(until);
        write(connection, device, &stored)?;
        taken.push(stored.into_taken());
    }
    Ok(taken)
}

fn settle(connection: &Connection, settled: &[(TakenTask, Settled)]) -> rusqlite::Result<()> {
    for (taken, settled) in settled {
        let Some(device) = key_of(connection, taken.task.device_key())? else { continue };
        if let Settled::Finished { badge: Some(badge) } = settled {
            let mut update = connection.prepare_cached("UPDATE push_devices SET badge = ? WHERE key = ?")?;
            update.execute(params![shown(*badge), device])?;
        }
        let subject = taken.task.subject;
        let Some(stored) = find(connection, device, subject)? else { continue };
        if let Some(left) = stored.settle(taken, settled) {
            write(connection, device, &left)?;
        } else {
            let mut delete = connection.prepare_cached("DELETE FROM push_tasks WHERE device = ? AND subject = ?")?;
            delete.execute(params![device, subject.key()])?;
        }
    }
    Ok(())
}

fn stored(
    connection: &Connection,
    Position(after): Position,
    Position(until): Position,
    limit: usize,
) -> rusqlite::Result<(Vec<Stretch>, Position)> {
    let mut entries = connection.prepare_cached(
        "SELECT position, conversation, seq, sender, at FROM entries WHERE position > ? AND position <= ?
         ORDER BY position LIMIT ?",
    )?;
    let (mut stretches, mut places) = (Vec::<Stretch>::new(), HashMap::new());
    let (mut ids, mut count, mut reached) = (MemberIds::of(None), 0, after);
    let mut rows = entries.query(params![after, until, limit])?;
    while let Some(row) = rows.next()? {
        let key = row.get::<_, i64>("conversation")?;
        let place = match places.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                stretches.push(stretch(connection, key)?);
                *new.insert(stretches.len() - 1)
            }
        };
        let entry = (row.get("seq")?, ids.get(connection, row.get("sender")?)?, time(row, "at")?);
        if let Some(stretch) = stretches.get_mut(place) {
            stretch.entries.push(entry);
        }
        (count, reached) = (count + 1, row.get("position")?);
    }
    // All there were.
    if count < limit {
        reached = reached.max(until);
    }
    Ok((stretches, Position(reached)))
}

/// The conversation with a key, and no entry yet.
fn stretch(connection: &Connection, key: i64) -> rusqlite::Result<Stretch> {
    let mut query = connection.prepare_cached("SELECT id FROM conversations WHERE key = ?")?;
    let conversation = query.query_row([key], |row| row.get(0).map(ConversationId::from_bytes))?;
    let mut members = connection.prepare_cached(
        "SELECT m.id FROM participants p CROSS JOIN members m ON m.key = p.member WHERE p.conversation = ? ORDER BY p.member",
    )?;
    let members = members.query_map([key], |row| row.get(0).map(MemberId::from_bytes))?;
    Ok(Stretch { conversation, members: members.collect::<rusqlite::Result<_>>()?, entries: Vec::new() })
}

/// Up to where everything is acknowledged, or a task.
pub(super) fn place(connection: &Connection) -> rusqlite::Result<u64> {
    connection.prepare_cached("SELECT position FROM push_place")?.query_row([], |row| row.get(0))
}

/// Everything that was stored up to there is acknowledged, or a task.
pub(super) fn reach(connection: &Connection, position: u64) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached("UPDATE push_place SET position = max(position, ?)")?;
    update.execute([position]).map(drop)
}

fn expire(connection: &Connection, before: Timestamp) -> rusqlite::Result<usize> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM push_tasks WHERE (device, subject) IN (SELECT device, subject FROM push_tasks WHERE at < ? LIMIT ?)",
    )?;
    delete.execute(params![before.as_millis(), BULK_MAX])
}

impl Sqlite {
    fn former(&self) -> std::sync::MutexGuard<'_, Former> {
        self.former.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl PushStore for Sqlite {
    async fn register(&self, record: DeviceRecord) -> Result<(), StoreError> {
        self.write(move |tx| register(tx.connection, &record)).await
    }

    async fn unregister(&self, member: MemberId, device: &DeviceId) -> Result<bool, StoreError> {
        let DeviceKey(id) = DeviceKey::of(member, device);
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM push_devices WHERE id = ?")?;
            delete.execute([id]).map(|removed| removed > 0)
        })
        .await
    }

    async fn address_gone(&self, AddressHash(hash): AddressHash, sent: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            let sql = "DELETE FROM push_devices WHERE hash = ? AND registered_at <= ?";
            tx.connection.prepare_cached(sql)?.execute(params![hash, sent.as_millis()]).map(drop)
        })
        .await
    }

    async fn devices(&self, by: Caller, members: Vec<MemberId>) -> Result<Vec<DeviceRecord>, StoreError> {
        self.read(Turn::look_ups(by, members.len()), move |connection| {
            snapshot(connection, |connection| devices(connection, &members))
        })
        .await
    }

    async fn choice(&self, by: Caller, member: MemberId) -> Result<PushChoice, StoreError> {
        self.read(Turn::of(by), move |connection| choice(connection, member)).await
    }

    async fn choose(&self, member: MemberId, choice: PushChoice) -> Result<(), StoreError> {
        self.write(move |tx| choose(tx.connection, member, &choice)).await
    }

    async fn acknowledge(&self, marks: Vec<DeviceMark>) -> Result<(), StoreError> {
        self.write(move |tx| marks.iter().try_for_each(|mark| acknowledge(tx.connection, mark))).await
    }

    async fn progress(&self, of: Vec<(MemberId, ConversationId)>) -> Result<Vec<Progress>, StoreError> {
        self.read_log(Turn::look_ups(Caller::System, of.len()), move |connection| {
            snapshot(connection, |connection| {
                of.into_iter().map(|(member, conversation)| progress(connection, member, conversation)).collect()
            })
        })
        .await
    }

    async fn unread(&self, member: MemberId) -> Result<u32, StoreError> {
        self.read_log(Turn::heavy(member), move |connection| {
            snapshot(connection, |connection| conversations::unread_in_all(connection, member, UNREAD_MAX))
        })
        .await
    }

    async fn add(&self, tasks: Vec<NewTask>, place: Option<Position>) -> Result<(), StoreError> {
        // Until what was stored before was looked through, the place stays before it.
        let place = place.filter(|_| matches!(*self.former(), Former::Looked));
        self.write(move |tx| {
            add(tx.connection, tasks)?;
            place.map_or(Ok(()), |Position(position)| reach(tx.connection, position))
        })
        .await
    }

    async fn unlooked(&self, now: Timestamp, until: Timestamp) -> Result<Option<Unlooked>, StoreError> {
        {
            let mut former = self.former();
            if matches!(*former, Former::Looked) || matches!(*former, Former::InHand(until) if until > now) {
                return Ok(None);
            }
            *former = Former::InHand(until);
        }
        let after = Position(self.read(Turn::SYSTEM, place).await?);
        Ok(Some(Unlooked { node: [0; 12], after }))
    }

    async fn looked(&self, _: Unlooked) -> Result<(), StoreError> {
        // That is written with the next place.
        *self.former() = Former::Looked;
        Ok(())
    }

    async fn stored(
        &self,
        after: Position,
        until: Position,
        limit: usize,
    ) -> Result<(Vec<Stretch>, Position), StoreError> {
        // What was committed before the read begins is in it.
        let until = until.min(Position(self.horizon.load(Ordering::Acquire)));
        self.read(Turn::HEAVY_SYSTEM, move |connection| {
            snapshot(connection, |connection| stored(connection, after, until, limit))
        })
        .await
    }

    async fn take(&self, now: Timestamp, until: Timestamp, limit: usize) -> Result<Vec<TakenTask>, StoreError> {
        self.write(move |tx| take(tx.connection, now, until, limit)).await
    }

    async fn settle(&self, settled: Vec<(TakenTask, Settled)>) -> Result<(), StoreError> {
        self.write(move |tx| settle(tx.connection, &settled)).await
    }

    async fn waiting(&self) -> Result<WaitingTasks, StoreError> {
        self.read(Turn::SYSTEM, |connection| {
            let mut query = connection.prepare_cached("SELECT count(*) AS waiting, min(due) AS due FROM push_tasks")?;
            query.query_row([], |row| Ok(WaitingTasks { count: row.get("waiting")?, next: optional_time(row, "due")? }))
        })
        .await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.read(Turn::SYSTEM, |connection| {
            connection.prepare_cached("SELECT count(*) FROM push_devices")?.query_row([], |row| row.get(0))
        })
        .await
    }

    async fn expire(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut expired = 0;
        loop {
            // A part at a time: others write meanwhile.
            let some = self.write(move |tx| expire(tx.connection, before)).await?;
            expired += u64::try_from(some).unwrap_or(0);
            if some < BULK_MAX {
                return Ok(expired);
            }
        }
    }
}
