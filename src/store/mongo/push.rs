//! Push: devices, what they have acknowledged, and what they are to be told.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`devices`] | registrations, and what members have chosen |
//! | [`marks`] | what devices have acknowledged |
//! | [`tasks`] | what they are to be told |
//! | [`left`] | what a node that is gone has stored and not looked through |
//!
//! The `_id` of a device is its [`DeviceKey`]; those of its marks and tasks begin with it, and a conversation follows. What hangs on a device
//! is found and removed by that. Where somebody writes it while the device goes it is nobody's: it is never told, and removed when it is found.

mod devices;
mod left;
mod marks;
mod tasks;

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use mongodb::{
    bson::{Binary, Bson, Document, doc, oid::ObjectId},
    options::FindOptions,
};
use protocol::{ConversationId, DeviceId, MemberId, Timestamp};

pub(super) use self::{
    devices::{choice_document, choice_of, document as device_document, forget, record, remove_in, remove_of_sessions},
    marks::document as mark_document,
    tasks::{document as task_document, drawn},
};
use super::{
    Mongo, conversations,
    db::Db,
    document::{binary, bytes_of, date, unsigned},
    fault::{DUPLICATE_KEY, Fault},
    receipts::check,
};
use crate::{
    position::Position,
    store::{
        PushStore, StoreError,
        archive::{Key, Part, Row},
        push::{
            AddressHash, DeviceKey, DeviceMark, DeviceRecord, Ended, NewTask, Progress, PushChoice, RegistrationId,
            Settled, Stretch, Subject, TakenTask, UNREAD_MAX, Unlooked, WaitingTasks,
        },
        turns::{Caller, Turn},
    },
};

/// Ids that are looked up with one query.
const LOOKED_UP: usize = 1_000;

/// The `_id` of what hangs on a device.
fn id_of(DeviceKey(device): DeviceKey, about: [u8; 12]) -> Binary {
    binary(&[&device[..], &about[..]].concat())
}

/// What an `_id` says.
fn parts_of(document: &Document) -> Option<(DeviceKey, [u8; 12])> {
    let id: [u8; 28] = bytes_of(document, "_id")?;
    Some((DeviceKey(*id.first_chunk()?), *id.last_chunk()?))
}

/// All that hangs on a device: which `_id`s it has.
fn ids_of(device: DeviceKey) -> Document {
    doc! { "$gte": id_of(device, [0; 12]), "$lte": id_of(device, [u8::MAX; 12]) }
}

/// Which of some devices are registered.
async fn registered(db: &Db, devices: impl IntoIterator<Item = DeviceKey>) -> Result<HashSet<DeviceKey>, Fault> {
    let devices: HashSet<DeviceKey> = devices.into_iter().collect();
    let ids: Vec<Binary> = devices.into_iter().map(|DeviceKey(key)| binary(&key)).collect();
    let mut found = HashSet::new();
    for some in ids.chunks(LOOKED_UP) {
        let fields = FindOptions::builder().projection(doc! { "_id": 1 }).build();
        let known: Vec<Document> = db.all("push_devices", doc! { "_id": { "$in": some } }, fields).await?;
        found.extend(known.iter().filter_map(|known| bytes_of(known, "_id").map(DeviceKey)));
    }
    Ok(found)
}

/// Whose some devices are, and what they are called.
async fn owners(
    db: &Db,
    devices: impl IntoIterator<Item = DeviceKey>,
) -> Result<HashMap<DeviceKey, (MemberId, DeviceId)>, Fault> {
    let devices: HashSet<DeviceKey> = devices.into_iter().collect();
    let ids: Vec<Binary> = devices.into_iter().map(|DeviceKey(key)| binary(&key)).collect();
    let mut found = HashMap::new();
    for some in ids.chunks(LOOKED_UP) {
        let fields = FindOptions::builder().projection(doc! { "member_id": 1, "device": 1 }).build();
        let known: Vec<Document> = db.all("push_devices", doc! { "_id": { "$in": some } }, fields).await?;
        found.extend(known.iter().filter_map(|known| Some((DeviceKey(bytes_of(known, "_id")?), owner(known)?))));
    }
    Ok(found)
}

fn owner(device: &Document) -> Option<(MemberId, DeviceId)> {
    let member = MemberId::from_bytes(device.get_object_id("member_id").ok()?.bytes());
    Some((member, device.get_str("device").ok()?.parse().ok()?))
}

/// What statements are to do.
#[derive(Debug, Clone, Copy)]
enum Command {
    Insert,
    Update,
    Delete,
}

/// Runs statements with one command; returns how many of them found, or made, what they are about.
async fn run(db: &Db, command: Command, collection: &str, statements: Vec<Document>) -> Result<usize, Fault> {
    if statements.is_empty() {
        return Ok(0);
    }
    let (name, field) = match command {
        Command::Insert => ("insert", "documents"),
        Command::Update => ("update", "updates"),
        Command::Delete => ("delete", "deletes"),
    };
    let command = db.bounded(doc! { name: collection, field: statements, "ordered": false });
    let reply = db.database.run_command(command).await?;
    // Another node was first.
    check(&reply, |code| code == DUPLICATE_KEY)?;
    let done = match reply.get("n") {
        Some(Bson::Int32(done)) => unsigned(i64::from(*done)),
        Some(Bson::Int64(done)) => unsigned(*done),
        _ => 0,
    };
    Ok(usize::try_from(done).unwrap_or(usize::MAX))
}

/// Rows of what hangs on devices. What hangs on none is nobody's, and left out.
pub(super) async fn rows(db: &Db, part: Part, mut after: Option<Key>, limit: usize) -> Result<Vec<Row>, Fault> {
    let name = if part == Part::PushMarks { "push_marks" } else { "push_tasks" };
    loop {
        let filter = match after {
            Some(Key::OfDevice(device, about)) => doc! { "_id": { "$gt": id_of(device, about) } },
            _ => doc! {},
        };
        let options = FindOptions::builder().sort(doc! { "_id": 1 }).limit(i64::try_from(limit).unwrap_or(i64::MAX));
        let found: Vec<Document> = db.all(name, filter, options.build()).await?;
        let owners = owners(db, found.iter().filter_map(parts_of).map(|(device, _)| device)).await?;
        let mut rows = Vec::with_capacity(found.len());
        for document in &found {
            let Some((device, about)) = parts_of(document) else { continue };
            let Some((member, device)) = owners.get(&device).cloned() else { continue };
            rows.extend(if part == Part::PushMarks {
                let (conversation, seq) = (ConversationId::from_bytes(about), marks::seq(document));
                Some(Row::PushMark(DeviceMark { member, device, conversation, seq }))
            } else {
                tasks::stored(document, member, device).map(|stored| Row::PushTask(Box::new(stored)))
            });
        }
        let last = found.last().and_then(parts_of);
        match last {
            Some((device, about)) if rows.is_empty() && found.len() >= limit => {
                after = Some(Key::OfDevice(device, about));
            }
            _ => return Ok(rows),
        }
    }
}

/// The key of the last of what hangs on devices.
pub(super) fn key_of(document: &Document) -> Option<Key> {
    parts_of(document).map(|(device, about)| Key::OfDevice(device, about))
}

#[async_trait]
impl PushStore for Mongo {
    async fn register(&self, record: DeviceRecord, good_from: u64) -> Result<bool, StoreError> {
        let by = Caller::Member(record.member);
        let epoch = self.core.link.horizon.now().epoch;
        self.write(by, async move |_, db| devices::register(&db, record, (epoch, good_from)).await).await
    }

    async fn unregister(&self, member: MemberId, device: &DeviceId) -> Result<bool, StoreError> {
        let DeviceKey(key) = DeviceKey::of(member, device);
        self.write(Caller::Member(member), async move |_, db| {
            Ok(devices::remove(&db, doc! { "_id": binary(&key) }).await? > 0)
        })
        .await
    }

    async fn address_gone(&self, address: AddressHash, registration: RegistrationId) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| {
            devices::remove(&db, devices::registered_as(address, registration)).await.map(drop)
        })
        .await
    }

    async fn devices(&self, by: Caller, members: Vec<MemberId>) -> Result<Vec<DeviceRecord>, StoreError> {
        let epoch = self.core.link.horizon.now().epoch;
        self.read(Turn::look_ups(by, members.len()), async move |_, db| devices::of(&db, &members, epoch).await).await
    }

    async fn choice(&self, by: Caller, member: MemberId) -> Result<PushChoice, StoreError> {
        self.read(Turn::of(by), async move |_, db| devices::choice(&db, member).await).await
    }

    async fn choose(&self, member: MemberId, choice: PushChoice, ended: Option<Ended>) -> Result<(), StoreError> {
        self.write(Caller::Member(member), async move |_, db| devices::choose(&db, member, choice, ended).await).await
    }

    async fn acknowledge(&self, marks: Vec<DeviceMark>) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| marks::acknowledge(&db, marks).await).await
    }

    async fn progress(&self, of: Vec<(MemberId, ConversationId)>) -> Result<Vec<Progress>, StoreError> {
        self.read(Turn::look_ups(Caller::System, of.len()), async move |_, db| marks::progress(&db, of).await).await
    }

    async fn unread(&self, member: MemberId) -> Result<u32, StoreError> {
        self.read(Turn::heavy(member), async move |_, db| conversations::unread_in_all(&db, member, UNREAD_MAX).await)
            .await
    }

    async fn add(&self, tasks: Vec<NewTask>, place: Option<Position>) -> Result<(), StoreError> {
        self.write(Caller::System, async move |core, db| {
            tasks::add(&db, tasks).await?;
            // Last: it says that they are there.
            match place {
                Some(place) => left::reach(&db, core.link.identity.node, place).await,
                None => Ok(()),
            }
        })
        .await
    }

    async fn unlooked(&self, now: Timestamp, until: Timestamp) -> Result<Option<Unlooked>, StoreError> {
        self.write(Caller::System, async move |core, db| left::unlooked(&core, &db, now, until).await).await
    }

    async fn looked(&self, unlooked: Unlooked) -> Result<(), StoreError> {
        self.write(Caller::System, async move |core, db| left::looked(&core, &db, unlooked).await).await
    }

    async fn stored(
        &self,
        after: Position,
        until: Position,
        limit: usize,
    ) -> Result<(Vec<Stretch>, Position), StoreError> {
        let horizon = &self.core.link.horizon;
        // Before anything is read: what is stamped up to here is visible from now on.
        let (until, window) = (until.min(horizon.now().position).max(after), horizon.window());
        self.unhurried(async move |db| left::stored(&db, (after, until), window, limit).await).await
    }

    async fn newest(&self, of: Vec<ConversationId>) -> Result<Vec<(ConversationId, Position)>, StoreError> {
        self.read(Turn::look_ups(Caller::System, of.len()), async move |_, db| left::newest(&db, &of).await).await
    }

    async fn take(&self, now: Timestamp, until: Timestamp, limit: usize) -> Result<Vec<TakenTask>, StoreError> {
        self.write(Caller::System, async move |_, db| tasks::take(&db, now, until, limit).await).await
    }

    async fn settle(&self, settled: Vec<(TakenTask, Settled)>) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| tasks::settle(&db, settled).await).await
    }

    async fn waiting(&self) -> Result<WaitingTasks, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| tasks::waiting(&db).await).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| tasks::next_due(&db).await).await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| {
            let devices = db.collection::<Document>("push_devices");
            // From what the database keeps of the collection, which may not be right after a crash.
            match devices.estimated_document_count().await? {
                0 => Ok(u64::from(devices.find_one(doc! {}).projection(doc! { "_id": 1 }).await?.is_some())),
                count => Ok(count),
            }
        })
        .await
    }

    async fn rouse(&self, due: Timestamp, beyond: Timestamp, stored_after: Timestamp) -> Result<u64, StoreError> {
        self.write(Caller::System, async move |_, db| {
            let late = doc! { "due": { "$gt": date(beyond) }, "at": { "$gt": date(stored_after) } };
            let now = doc! { "$set": { "due": date(due) }, "$unset": { "next_due": "" } };
            Ok(db.collection::<Document>("push_tasks").update_many(late, now).await?.modified_count)
        })
        .await
    }

    async fn with_badge(&self, after: Option<DeviceKey>) -> Result<Vec<(MemberId, DeviceId)>, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| devices::with_badge(&db, after).await).await
    }

    async fn expire(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.write(Caller::System, async move |_, db| {
            let old = doc! { "at": { "$lt": date(before) } };
            Ok(db.collection::<Document>("push_tasks").delete_many(old).await?.deleted_count)
        })
        .await
    }
}

/// The `_id` of what hangs on a device about a subject.
fn id_about(device: DeviceKey, subject: Subject) -> Binary {
    id_of(device, subject.key())
}

/// A number that is used once.
fn token() -> ObjectId {
    ObjectId::new()
}
