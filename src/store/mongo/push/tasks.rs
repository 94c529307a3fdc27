//! What devices are to be told.
//!
//! What becomes of a task is decided from what it was ([`StoredTask`]), and written if it is that still: of several nodes one is first, and the
//! others look again. All of that can be repeated.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt as _;
use mongodb::{
    bson::{Binary, Document, doc},
    options::{FindOneOptions, FindOptions},
};
use protocol::{DeviceId, MemberId, Timestamp};

use super::{
    super::{
        db::Db,
        document::{binary, bytes_of, date, signed, time, unsigned},
        fault::Fault,
        unavailable,
    },
    Command, LOOKED_UP,
    devices::badge,
    id_about, ids_of, owners, parts_of, registered, run, token,
};
use crate::store::push::{
    DeviceKey, NewTask, Settled, StoredTask, Subject, TASKS_MAX, TakenTask, ToldBadge, WaitingTasks, merged, surplus,
};

/// How often others may be first before it is given up.
const ATTEMPTS: usize = 20;
/// How often tasks are looked for that are due, if others have taken those that were found.
const LOOKS: usize = 3;

/// A task, by its device and subject.
type Place = (DeviceKey, Subject);

/// A revision: an id that is used once, shortened.
pub(in crate::store::mongo) fn drawn() -> i64 {
    let [_, _, _, _, rest @ ..] = token().bytes();
    i64::from_be_bytes(rest)
}

/// A task as a document.
pub(in crate::store::mongo) fn document(stored: &StoredTask) -> Document {
    let device = stored.task.device_key();
    let mut document = doc! { "_id": id_about(device, stored.task.subject), "device": binary(&device.0) };
    document.extend(fields(stored));
    document
}

fn fields(stored: &StoredTask) -> Document {
    let StoredTask { task: NewTask { first, last, at, due, .. }, attempts, next_due, unsettled, failures, revision } =
        stored;
    let mut fields = doc! {
        "first": signed(*first),
        "last": signed(*last),
        "at": date(*at),
        "due": date(*due),
        "attempts": i64::from(*attempts),
        "unsettled": i64::from(*unsettled),
        "failures": i64::from(*failures),
        "revision": *revision,
    };
    fields.extend(next_due.map(|next| ("next_due".to_owned(), date(next).into())));
    fields
}

/// The task in a document, of a device.
pub(super) fn stored(document: &Document, member: MemberId, device: DeviceId) -> Option<StoredTask> {
    let (_, subject) = parts_of(document)?;
    let number = |name| document.get_i64(name).ok();
    let at = |name| document.get_datetime(name).ok().map(|date| time(*date));
    let task = NewTask {
        member,
        device,
        subject: Subject::of(subject),
        first: unsigned(number("first")?),
        last: unsigned(number("last")?),
        at: at("at")?,
        due: at("due")?,
    };
    let attempts = u32::try_from(number("attempts")?).unwrap_or(u32::MAX);
    // Former versions have not written it: of what they had in hand nobody knows what became of it.
    let unsettled =
        number("unsettled").map_or(attempts.min(1), |unsettled| u32::try_from(unsettled).unwrap_or(u32::MAX));
    // Nor this: it counts anew.
    let failures = number("failures").map_or(0, |failures| u32::try_from(failures).unwrap_or(u32::MAX));
    Some(StoredTask {
        attempts,
        next_due: at("next_due"),
        unsettled,
        failures,
        ..StoredTask::new(task, number("revision")?)
    })
}

/// The task as it was found, and nothing else.
fn still(place: Place, found: &StoredTask) -> Document {
    let (device, subject) = place;
    doc! { "_id": id_about(device, subject), "revision": found.revision, "attempts": i64::from(found.attempts) }
}

/// What makes of a task that was found another one.
fn update(place: Place, found: &StoredTask, next: &StoredTask) -> Document {
    // Who has it in hand goes on to be known.
    let mut change = doc! { "$set": fields(next) };
    if next.next_due.is_none() {
        change.insert("$unset", doc! { "next_due": "" });
    }
    doc! { "q": still(place, found), "u": change }
}

/// The tasks that there are, of devices that are known by those who ask.
async fn find(db: &Db, asked: &HashMap<Place, (MemberId, DeviceId)>) -> Result<HashMap<Place, StoredTask>, Fault> {
    let ids: Vec<Binary> = asked.keys().map(|(device, subject)| id_about(*device, *subject)).collect();
    let mut tasks = HashMap::new();
    for some in ids.chunks(LOOKED_UP) {
        let found: Vec<Document> =
            db.all("push_tasks", doc! { "_id": { "$in": some } }, FindOptions::default()).await?;
        tasks.extend(found.iter().filter_map(|found| {
            let (device, subject) = parts_of(found)?;
            let place = (device, Subject::of(subject));
            let (member, device) = asked.get(&place)?.clone();
            Some((place, stored(found, member, device)?))
        }));
    }
    Ok(tasks)
}

fn contended() -> Fault {
    unavailable("too many nodes write the same tasks").into()
}

pub(super) async fn add(db: &Db, tasks: Vec<NewTask>) -> Result<(), Fault> {
    let mut tasks = merged(tasks);
    if tasks.is_empty() {
        return Ok(());
    }
    let there = registered(db, tasks.keys().map(|(device, _)| *device)).await?;
    tasks.retain(|(device, _), _| there.contains(device));
    let asked = tasks.iter().map(|(place, task)| (*place, (task.member, task.device.clone()))).collect();
    let mut grown = HashSet::new();
    for _ in 0..ATTEMPTS {
        let waiting = find(db, &asked).await?;
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for (place, task) in &tasks {
            if let Some(found) = waiting.get(place) {
                changed.push(update(*place, found, &found.clone().add(task, drawn())));
            } else {
                grown.insert(place.0);
                new.push(document(&StoredTask::new(task.clone(), drawn())));
            }
        }
        let wanted = new.len() + changed.len();
        let done = run(db, Command::Insert, "push_tasks", new).await?
            + run(db, Command::Update, "push_tasks", changed).await?;
        // What is added twice is the same.
        if done >= wanted {
            return remove_surplus(db, grown).await;
        }
    }
    Err(contended())
}

/// Removes the tasks of devices beyond those that each may have.
async fn remove_surplus(db: &Db, devices: HashSet<DeviceKey>) -> Result<(), Fault> {
    if devices.is_empty() {
        return Ok(());
    }
    let devices: Vec<Binary> = devices.iter().map(|DeviceKey(key)| binary(key)).collect();
    let most = i64::try_from(TASKS_MAX).unwrap_or(i64::MAX);
    let pipeline = [
        doc! { "$match": { "device": { "$in": devices } } },
        doc! { "$group": { "_id": "$device", "count": { "$sum": 1_i64 } } },
        doc! { "$match": { "count": { "$gt": most } } },
    ];
    let tasks = db.collection::<Document>("push_tasks");
    let full: Vec<Document> = tasks.aggregate(pipeline).max_time(db.max_time).await?.try_collect().await?;
    for device in full.iter().filter_map(|full| bytes_of(full, "_id").map(DeviceKey)) {
        let fields = FindOptions::builder().projection(doc! { "at": 1 }).build();
        let found: Vec<Document> = db.all("push_tasks", doc! { "_id": ids_of(device) }, fields).await?;
        let of_messages = found.iter().filter_map(|found| {
            let (_, subject) = parts_of(found)?;
            let at = time(*found.get_datetime("at").ok()?);
            (Subject::of(subject) != Subject::Badge).then_some((at, subject))
        });
        let gone = surplus(of_messages, TASKS_MAX);
        let gone: Vec<Binary> = gone.into_iter().map(|subject| id_about(device, Subject::of(subject))).collect();
        if !gone.is_empty() {
            tasks.delete_many(doc! { "_id": { "$in": gone } }).await?;
        }
    }
    Ok(())
}

pub(super) async fn take(db: &Db, now: Timestamp, until: Timestamp, limit: usize) -> Result<Vec<TakenTask>, Fault> {
    for _ in 0..LOOKS {
        let first = FindOptions::builder().sort(doc! { "due": 1 }).limit(i64::try_from(limit).unwrap_or(i64::MAX));
        let first = first.projection(doc! { "_id": 1 }).build();
        let due: Vec<Document> = db.all("push_tasks", doc! { "due": { "$lte": date(now) } }, first).await?;
        let ids: Vec<Binary> =
            due.iter().filter_map(parts_of).map(|(device, about)| super::id_of(device, about)).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let taken = take_of(db, ids, now, until).await?;
        if !taken.is_empty() {
            return Ok(taken);
        }
    }
    // They go on with it.
    Ok(Vec::new())
}

/// Takes those of some that are due still, in their order.
async fn take_of(db: &Db, ids: Vec<Binary>, now: Timestamp, until: Timestamp) -> Result<Vec<TakenTask>, Fault> {
    let (tasks, by) = (db.collection::<Document>("push_tasks"), token());
    let due = doc! { "_id": { "$in": &ids }, "due": { "$lte": date(now) } };
    // As `StoredTask::take` says.
    let known = doc! { "$ifNull": ["$unsettled", { "$min": ["$attempts", 1_i64] }] };
    let taken = doc! {
        "due": date(until),
        "taken": by,
        "attempts": { "$add": ["$attempts", 1_i64] },
        "unsettled": { "$add": [known, 1_i64] },
    };
    tasks.update_many(due, vec![doc! { "$set": taken }, doc! { "$unset": "next_due" }]).await?;
    let ours = doc! { "_id": { "$in": &ids }, "taken": by };
    let found: Vec<Document> = db.all("push_tasks", ours, FindOptions::default()).await?;
    let owners = owners(db, found.iter().filter_map(parts_of).map(|(device, _)| device)).await?;
    let (mut taken, mut nobodys) = (HashMap::new(), Vec::new());
    for document in &found {
        let Some((device, about)) = parts_of(document) else { continue };
        let id = super::id_of(device, about);
        let stored = owners.get(&device).cloned().and_then(|(member, device)| stored(document, member, device));
        match stored {
            Some(stored) => drop(taken.insert(id.bytes, stored.into_taken())),
            None => nobodys.push(id),
        }
    }
    if !nobodys.is_empty() {
        tasks.delete_many(doc! { "_id": { "$in": nobodys } }).await?;
    }
    Ok(ids.iter().filter_map(|id| taken.remove(&id.bytes)).collect())
}

pub(super) async fn settle(db: &Db, settled: Vec<(TakenTask, Settled)>) -> Result<(), Fault> {
    let place = |taken: &TakenTask| (taken.task.device_key(), taken.task.subject);
    let asked =
        settled.iter().map(|(taken, _)| (place(taken), (taken.task.member, taken.task.device.clone()))).collect();
    let badges = settled.iter().filter_map(|(taken, settled)| match settled {
        Settled::Finished { badge: Some(badge) } => Some((taken.task.device_key(), *badge)),
        _ => None,
    });
    keep_badges(db, &badges.collect::<Vec<_>>()).await?;
    for _ in 0..ATTEMPTS {
        let waiting = find(db, &asked).await?;
        let (mut over, mut changed) = (Vec::new(), Vec::new());
        for (taken, settled) in &settled {
            let place = place(taken);
            let Some(found) = waiting.get(&place) else { continue };
            match found.clone().settle(taken, settled) {
                None => over.push(doc! { "q": still(place, found), "limit": 1 }),
                Some(left) if left == *found => {}
                Some(left) => changed.push(update(place, found, &left)),
            }
        }
        let wanted = over.len() + changed.len();
        let done = run(db, Command::Delete, "push_tasks", over).await?
            + run(db, Command::Update, "push_tasks", changed).await?;
        // What is settled twice is the same.
        if done >= wanted {
            return Ok(());
        }
    }
    Err(contended())
}

/// Keeps which numbers devices were told to show.
async fn keep_badges(db: &Db, told: &[(DeviceKey, ToldBadge)]) -> Result<(), Fault> {
    let devices: HashSet<DeviceKey> = told.iter().map(|(device, _)| *device).collect();
    if devices.is_empty() {
        return Ok(());
    }
    let ids: Vec<Binary> = devices.iter().map(|DeviceKey(key)| binary(key)).collect();
    for _ in 0..ATTEMPTS {
        let fields = FindOptions::builder().projection(doc! { "badge": 1 }).build();
        let found: Vec<Document> = db.all("push_devices", doc! { "_id": { "$in": &ids } }, fields).await?;
        let changes = found.iter().filter_map(|found| {
            let device = DeviceKey(bytes_of(found, "_id")?);
            let kept = badge(found);
            let of_it = told.iter().filter(|(told, _)| *told == device);
            let shown = of_it.fold(kept, |kept, (_, told)| told.shown(kept));
            let change = match shown {
                Some(badge) => doc! { "$set": { "badge": i64::from(badge) } },
                None => doc! { "$unset": { "badge": "" } },
            };
            let still = doc! { "_id": binary(&device.0), "badge": kept.map(i64::from) };
            (shown != kept).then(|| doc! { "q": still, "u": change })
        });
        let changes: Vec<Document> = changes.collect();
        let wanted = changes.len();
        if run(db, Command::Update, "push_devices", changes).await? >= wanted {
            return Ok(());
        }
    }
    Err(contended())
}

pub(super) async fn waiting(db: &Db) -> Result<WaitingTasks, Fault> {
    let count = db.collection::<Document>("push_tasks").estimated_document_count().max_time(db.max_time).await?;
    Ok(WaitingTasks { count, next: next_due(db).await? })
}

pub(super) async fn next_due(db: &Db) -> Result<Option<Timestamp>, Fault> {
    let first = FindOneOptions::builder().sort(doc! { "due": 1 }).projection(doc! { "due": 1 }).build();
    let first: Option<Document> = db.one("push_tasks", doc! {}, first).await?;
    Ok(first.and_then(|first| first.get_datetime("due").ok().map(|due| time(*due))))
}
