//! Push: devices, what they have acknowledged, and what they are to be told.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`devices`] | registrations, and what members have chosen |
//! | [`tasks`] | what devices are to be told |
//! | [`left`] | what was stored and not looked through |
//!
//! Marks and tasks hang on the row of their device and go with it; the row goes with its session (triggers of the schema).

pub(super) mod devices;
mod left;
pub(super) mod tasks;

use std::sync::{MutexGuard, PoisonError, atomic::Ordering};

use async_trait::async_trait;
use protocol::{ConversationId, DeviceId, MemberId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

pub(super) use self::{
    devices::{choice_record, choose, forget, record, restore},
    left::{Former, place, reach},
    tasks::{restore_task, task},
};
use super::{
    Sqlite, conversations,
    readers::snapshot,
    row::{inconsistent, optional_time},
};
use crate::{
    position::Position,
    store::{
        PushStore, StoreError,
        push::{
            AddressHash, BULK_MAX, DeviceKey, DeviceMark, DeviceRecord, Ended, NewTask, Progress, PushChoice,
            RegistrationId, Settled, Stretch, TakenTask, UNREAD_MAX, Unlooked, WaitingTasks,
        },
        turns::{Caller, Turn},
    },
};

fn device_id(row: &Row<'_>) -> rusqlite::Result<DeviceId> {
    row.get_ref("name")?.as_str()?.parse().map_err(|_| inconsistent("the name of a device"))
}

fn member_id(row: &Row<'_>) -> rusqlite::Result<MemberId> {
    row.get("member_id").map(MemberId::from_bytes)
}

/// A row of `push_marks`, with its device and the id of its member.
pub(super) fn mark(row: &Row<'_>) -> rusqlite::Result<DeviceMark> {
    let conversation = ConversationId::from_bytes(row.get("conversation")?);
    Ok(DeviceMark { member: member_id(row)?, device: device_id(row)?, conversation, seq: row.get("seq")? })
}

/// The key of a device, if it is registered.
fn key_of(connection: &Connection, DeviceKey(id): DeviceKey) -> rusqlite::Result<Option<i64>> {
    let mut query = connection.prepare_cached("SELECT key FROM push_devices WHERE id = ?")?;
    query.query_row([id], |row| row.get(0)).optional()
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

impl Sqlite {
    fn former(&self) -> MutexGuard<'_, Former> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PushStore for Sqlite {
    async fn register(&self, record: DeviceRecord, good_from: u64) -> Result<bool, StoreError> {
        self.write(move |tx| {
            let is_good = devices::is_good(tx.connection, record.session, good_from)?;
            if is_good {
                // What is stored from now on is for it.
                let since = Position(tx.memory.position + 1);
                devices::register(tx.connection, &DeviceRecord { since, ..record })?;
            }
            Ok(is_good)
        })
        .await
    }

    async fn unregister(&self, member: MemberId, device: &DeviceId) -> Result<bool, StoreError> {
        let DeviceKey(id) = DeviceKey::of(member, device);
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM push_devices WHERE id = ?")?;
            delete.execute([id]).map(|removed| removed > 0)
        })
        .await
    }

    async fn address_gone(&self, address: AddressHash, registration: RegistrationId) -> Result<(), StoreError> {
        let (AddressHash(hash), RegistrationId(revision)) = (address, registration);
        self.write(move |tx| {
            let sql = "DELETE FROM push_devices WHERE hash = ? AND revision = ?";
            tx.connection.prepare_cached(sql)?.execute(params![hash, revision]).map(drop)
        })
        .await
    }

    async fn devices(&self, by: Caller, members: Vec<MemberId>) -> Result<Vec<DeviceRecord>, StoreError> {
        self.read(Turn::look_ups(by, members.len()), move |connection| {
            snapshot(connection, |connection| devices::devices(connection, &members))
        })
        .await
    }

    async fn choice(&self, by: Caller, member: MemberId) -> Result<PushChoice, StoreError> {
        self.read(Turn::of(by), move |connection| devices::choice(connection, member)).await
    }

    async fn choose(&self, member: MemberId, choice: PushChoice, ended: Option<Ended>) -> Result<(), StoreError> {
        self.write(move |tx| {
            choose(tx.connection, member, &choice)?;
            ended.map_or(Ok(()), |ended| tasks::hurry(tx.connection, member, ended))
        })
        .await
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
            tasks::add(tx.connection, tasks)?;
            place.map_or(Ok(()), |Position(position)| reach(tx.connection, position))
        })
        .await
    }

    async fn unlooked(&self, now: Timestamp, until: Timestamp) -> Result<Option<Unlooked>, StoreError> {
        if matches!(*self.former(), Former::Looked) || matches!(*self.former(), Former::InHand(until) if until > now) {
            return Ok(None);
        }
        let after = Position(self.read(Turn::SYSTEM, place).await?);
        // There is one who asks.
        *self.former() = Former::InHand(until);
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
            snapshot(connection, |connection| left::stored(connection, after, until, limit))
        })
        .await
    }

    async fn newest(&self, of: Vec<ConversationId>) -> Result<Vec<(ConversationId, Position)>, StoreError> {
        self.read_log(Turn::look_ups(Caller::System, of.len()), move |connection| left::newest(connection, &of)).await
    }

    async fn take(&self, now: Timestamp, until: Timestamp, limit: usize) -> Result<Vec<TakenTask>, StoreError> {
        self.write(move |tx| tasks::take(tx.connection, now, until, limit)).await
    }

    async fn settle(&self, settled: Vec<(TakenTask, Settled)>) -> Result<(), StoreError> {
        self.write(move |tx| tasks::settle(tx.connection, &settled)).await
    }

    async fn waiting(&self) -> Result<WaitingTasks, StoreError> {
        self.read(Turn::SYSTEM, |connection| {
            let mut query = connection.prepare_cached("SELECT count(*) AS waiting, min(due) AS due FROM push_tasks")?;
            query.query_row([], |row| Ok(WaitingTasks { count: row.get("waiting")?, next: optional_time(row, "due")? }))
        })
        .await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(Turn::SYSTEM, |connection| {
            let mut query = connection.prepare_cached("SELECT min(due) AS due FROM push_tasks")?;
            query.query_row([], |row| optional_time(row, "due"))
        })
        .await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.read(Turn::SYSTEM, |connection| {
            connection.prepare_cached("SELECT count(*) FROM push_devices")?.query_row([], |row| row.get(0))
        })
        .await
    }

    async fn rouse(&self, due: Timestamp, beyond: Timestamp, stored_after: Timestamp) -> Result<u64, StoreError> {
        let mut roused = 0;
        loop {
            let some = self.write(move |tx| tasks::rouse(tx.connection, due, beyond, stored_after)).await?;
            roused += u64::try_from(some).unwrap_or(0);
            if some < BULK_MAX {
                return Ok(roused);
            }
        }
    }

    async fn with_badge(&self, after: Option<DeviceKey>) -> Result<Vec<(MemberId, DeviceId)>, StoreError> {
        self.read(Turn::SYSTEM, move |connection| devices::with_badge(connection, after)).await
    }

    async fn expire(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut expired = 0;
        loop {
            // A part at a time: others write meanwhile.
            let some = self.write(move |tx| tasks::expire(tx.connection, before)).await?;
            expired += u64::try_from(some).unwrap_or(0);
            if some < BULK_MAX {
                return Ok(expired);
            }
        }
    }
}
