//! What devices are to be told.

use protocol::{MemberId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    super::row::{optional_time, time},
    device_id, key_of, member_id,
};
use crate::store::push::{
    BULK_MAX, Ended, NewTask, Settled, StoredTask, Subject, TASKS_MAX, TakenTask, merged, surplus,
};

/// The revision of a task that is written anew.
fn drawn(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT random()")?.query_row([], |row| row.get(0))
}

/// A row of `push_tasks`, with its device and the id of its member.
pub(in crate::store::sqlite) fn task(row: &Row<'_>) -> rusqlite::Result<StoredTask> {
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
    let (unsettled, failures) = (row.get("unsettled")?, row.get("failures")?);
    Ok(StoredTask { attempts, next_due, unsettled, failures, ..StoredTask::new(task, row.get("revision")?) })
}

/// The task of a device about something, with the columns that [`task`] reads.
pub(in crate::store::sqlite) const TASK: &str = "SELECT t.*, d.device AS name, m.id AS member_id FROM push_tasks t
    CROSS JOIN push_devices d ON d.key = t.device CROSS JOIN members m ON m.key = d.member
    WHERE t.device = ? AND t.subject = ?";

fn find(connection: &Connection, device: i64, subject: Subject) -> rusqlite::Result<Option<StoredTask>> {
    connection.prepare_cached(TASK)?.query_row(params![device, subject.key()], task).optional()
}

fn write(connection: &Connection, device: i64, stored: &StoredTask) -> rusqlite::Result<()> {
    let StoredTask { task, attempts, next_due, unsettled, failures, revision } = stored;
    let NewTask { subject, first, last, at, due, .. } = task;
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO push_tasks (device, subject, first, last, at, due, attempts, next_due, revision, unsettled,
             failures)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let next_due = next_due.map(Timestamp::as_millis);
    let (at, due) = (at.as_millis(), due.as_millis());
    let values =
        params![device, subject.key(), first, last, at, due, attempts, next_due, revision, unsettled, failures];
    insert.execute(values).map(drop)
}

/// Stores a task of another store, unless it is there.
pub(in crate::store::sqlite) fn restore_task(connection: &Connection, stored: &StoredTask) -> rusqlite::Result<()> {
    let Some(device) = key_of(connection, stored.task.device_key())? else { return Ok(()) };
    if find(connection, device, stored.task.subject)?.is_some() {
        return Ok(());
    }
    write(connection, device, &StoredTask { revision: drawn(connection)?, ..stored.clone() })
}

pub(super) fn add(connection: &Connection, tasks: Vec<NewTask>) -> rusqlite::Result<()> {
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

/// Where tasks are that are due, along their index.
pub(in crate::store::sqlite) const DUE: &str =
    "SELECT device, subject FROM push_tasks INDEXED BY push_tasks_by_due WHERE due <= ? ORDER BY due LIMIT ?";

pub(in crate::store::sqlite) fn take(
    connection: &Connection,
    now: Timestamp,
    until: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<TakenTask>> {
    let mut query = connection.prepare_cached(DUE)?;
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

pub(super) fn settle(connection: &Connection, settled: &[(TakenTask, Settled)]) -> rusqlite::Result<()> {
    for (taken, settled) in settled {
        let Some(device) = key_of(connection, taken.task.device_key())? else { continue };
        if let Settled::Finished { badge: Some(told) } = settled {
            let mut query = connection.prepare_cached("SELECT badge FROM push_devices WHERE key = ?")?;
            let kept = query.query_row([device], |row| row.get(0))?;
            let mut update = connection.prepare_cached("UPDATE push_devices SET badge = ? WHERE key = ?")?;
            update.execute(params![told.shown(kept), device])?;
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

/// What is put off until a moment is due at another one, of the devices of a member: of all members together there may be many.
pub(in crate::store::sqlite) const HURRY: &str =
    "UPDATE push_tasks SET due = ?1, at = max(at, ?1) WHERE +due = ?2 AND device IN (
         SELECT d.key FROM members m CROSS JOIN push_devices d ON d.member = m.key WHERE m.id = ?3)";

/// What quiet hours have put off is due now.
pub(super) fn hurry(connection: &Connection, member: MemberId, Ended { until, now }: Ended) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(HURRY)?;
    update.execute(params![now.as_millis(), until.as_millis(), member.as_bytes()]).map(drop)
}

pub(super) fn rouse(
    connection: &Connection,
    due: Timestamp,
    beyond: Timestamp,
    stored_after: Timestamp,
) -> rusqlite::Result<usize> {
    let mut update = connection.prepare_cached(
        "UPDATE push_tasks SET due = ?1, next_due = NULL WHERE (device, subject) IN (
             SELECT device, subject FROM push_tasks WHERE due > ?2 AND at > ?3 LIMIT ?4)",
    )?;
    update.execute(params![due.as_millis(), beyond.as_millis(), stored_after.as_millis(), BULK_MAX])
}

pub(super) fn expire(connection: &Connection, before: Timestamp) -> rusqlite::Result<usize> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM push_tasks WHERE (device, subject) IN (SELECT device, subject FROM push_tasks WHERE at < ? LIMIT ?)",
    )?;
    delete.execute(params![before.as_millis(), BULK_MAX])
}
