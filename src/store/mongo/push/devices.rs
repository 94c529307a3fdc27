//! Devices that are registered, and what members have chosen.

use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Document, doc, oid::ObjectId},
    options::{FindOneOptions, FindOptions},
};
use protocol::{DeviceId, MemberId, SessionId, Timestamp, rest::QuietHours};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        db::Db,
        document::{binary, bytes_of, date, member_oid, millis, signed, time},
        fault::Fault,
        members::transaction,
    },
    ids_of, owner,
    tasks::drawn,
};
use crate::{
    position::{Epoch, Position},
    store::{
        push::{
            AddressHash, BULK_MAX, CONTENTS, DEVICES_MAX, DeviceKey, DeviceRecord, Ended, PushChoice, RegistrationId,
            surplus,
        },
        sessions::{PLATFORMS, platform_word},
    },
};

/// A device as a document.
pub(in crate::store::mongo) fn document(record: &DeviceRecord) -> Result<Document, Fault> {
    let mut document = doc! { "_id": binary(&DeviceKey::of(record.member, &record.device).0) };
    document.extend(fields(record)?);
    Ok(document)
}

/// What a registration says anew.
fn fields(record: &DeviceRecord) -> Result<Document, Fault> {
    let DeviceRecord { member, device, session, address, platform, registered_at, badge, .. } = record;
    let mut fields = doc! {
        "member_id": member_oid(*member),
        "device": device.as_str(),
        "session_id": ObjectId::from_bytes(*session.as_bytes()),
        "hash": binary(&AddressHash::of(address).0),
        "address": serde_json::to_string(address).map_err(|error| Fault::Data(error.to_string()))?,
        "platform": platform_word(*platform),
        "registered_at": date(*registered_at),
    };
    fields.extend(badge.map(|badge| ("badge".to_owned(), i64::from(badge).into())));
    Ok(fields)
}

/// The device in a document.
pub(in crate::store::mongo) fn record(document: &Document) -> Option<DeviceRecord> {
    let (member, device) = owner(document)?;
    let platform = document.get_str("platform").ok()?;
    let registered_at = time(*document.get_datetime("registered_at").ok()?);
    Some(DeviceRecord {
        member,
        device,
        session: SessionId::from_bytes(document.get_object_id("session_id").ok()?.bytes()),
        address: serde_json::from_str(document.get_str("address").ok()?).ok()?,
        platform: PLATFORMS.iter().find(|(known, _)| *known == platform)?.1,
        registered_at,
        since: Position::default(),
        badge: badge(document),
        revision: RegistrationId(document.get_i64("revision").unwrap_or(0)),
    })
}

/// The number at the icon of a device.
pub(super) fn badge(device: &Document) -> Option<u32> {
    device.get_i64("badge").ok().and_then(|badge| u32::try_from(badge).ok())
}

/// A choice as a document.
pub(in crate::store::mongo) fn choice_document(member: MemberId, choice: &PushChoice) -> Document {
    let PushChoice { content, quiet_hours } = choice;
    let mut document = doc! { "_id": member_oid(member), "content": content.as_str() };
    document.extend(quiet_hours.as_ref().map(|QuietHours { from, until, time_zone }| {
        ("quiet_hours".to_owned(), doc! { "from": from, "until": until, "time_zone": time_zone }.into())
    }));
    document
}

/// The choice in a document, and whose it is.
pub(in crate::store::mongo) fn choice_of(document: &Document) -> Option<(MemberId, PushChoice)> {
    let text = |hours: &Document, name| hours.get_str(name).ok().map(ToOwned::to_owned);
    let quiet_hours = match document.get_document("quiet_hours") {
        Ok(hours) => Some(QuietHours {
            from: text(hours, "from")?,
            until: text(hours, "until")?,
            time_zone: text(hours, "time_zone")?,
        }),
        Err(_) => None,
    };
    let content = document.get_str("content").ok()?;
    let content = CONTENTS.iter().find(|(known, _)| *known == content)?.1;
    let member = MemberId::from_bytes(document.get_object_id("_id").ok()?.bytes());
    Some((member, PushChoice { content, quiet_hours }))
}

/// Whether a member is there. What is written for one in a transaction meets what else is, and an erasure.
async fn meet(db: &Db, session: &mut ClientSession, member: MemberId) -> Result<bool, Fault> {
    let there = doc! { "_id": member_oid(member), "is_erased": { "$ne": true } };
    let members = db.collection::<Document>("members");
    let met = members.find_one_and_update(there, doc! { "$inc": { "met": 1_i64 } }).session(session).await?;
    Ok(met.is_some())
}

/// Whether a session goes on, with tokens that are good from this generation on. One that is not there has said nothing against it: who pushes
/// looks for it. What ends a session writes it, in a transaction or not, and so does this: of both one comes after the other.
async fn is_good(db: &Db, session: &mut ClientSession, id: SessionId, good_from: u64) -> Result<bool, Fault> {
    let own = doc! { "_id": ObjectId::from_bytes(*id.as_bytes()) };
    let is_over = doc! { "$or": [{ "revoked_at": { "$ne": null } }, { "good_from": { "$gt": signed(good_from) } }] };
    let goes_on = doc! { "$and": [own.clone(), { "$nor": [is_over] }] };
    let sessions = db.collection::<Document>("sessions");
    let met = sessions.update_one(goes_on, doc! { "$inc": { "met": 1_i64 } }).session(&mut *session).await?;
    if met.matched_count > 0 {
        return Ok(true);
    }
    Ok(sessions.find_one(own).projection(doc! { "_id": 1 }).session(session).await?.is_none())
}

pub(super) async fn register(db: &Db, record: DeviceRecord, (epoch, good_from): (Epoch, u64)) -> Result<bool, Fault> {
    let (own, never) = (db.clone(), CancellationToken::new());
    let registered = transaction(db, &never, move |session| {
        let (db, record) = (own.clone(), record.clone());
        async move { register_in(&db, session, &record, (epoch, good_from)).await }.boxed()
    });
    Ok(registered.await?.unwrap_or(false))
}

async fn register_in(
    db: &Db,
    session: &mut ClientSession,
    record: &DeviceRecord,
    (epoch, good_from): (Epoch, u64),
) -> Result<bool, Fault> {
    if !meet(db, session, record.member).await? {
        // They have left meanwhile.
        return Ok(true);
    }
    if !is_good(db, session, record.session, good_from).await? {
        return Ok(false);
    }
    let own = binary(&DeviceKey::of(record.member, &record.device).0);
    let hash = binary(&AddressHash::of(&record.address).0);
    remove_in(db, session, doc! { "hash": hash, "_id": { "$ne": &own } }).await?;
    // What is not named stays: the number that it shows, its marks, its tasks. It is the same installation.
    let devices = db.collection::<Document>("push_devices");
    // By the clock of the database, too, it is known which of a member's was registered first.
    let mut write = fields(record)?;
    write.insert("revision", drawn());
    let write = doc! { "$set": write, "$currentDate": { "renewed": true } };
    let written = devices.update_one(doc! { "_id": &own }, write).upsert(true).session(&mut *session).await?;
    if written.upserted_id.is_some() {
        // By the clock of the database, as the stamps of what is stored from now on.
        let begun = doc! { "$currentDate": { "begun": true }, "$set": { "epoch": binary(&epoch.0) } };
        devices.update_one(doc! { "_id": &own }, begun).session(&mut *session).await?;
    }
    let others = doc! { "member_id": member_oid(record.member), "_id": { "$ne": own } };
    let fields = doc! { "renewed": 1, "registered_at": 1 };
    let mut found = devices.find(others).projection(fields).session(&mut *session).await?;
    let mut others = Vec::new();
    while let Some(other) = found.next(&mut *session).await.transpose()? {
        others.extend(bytes_of(&other, "_id").map(|key| (age(&other), DeviceKey(key))));
    }
    remove_all(db, session, surplus(others, DEVICES_MAX - 1)).await?;
    Ok(true)
}

/// What devices of a member are put in order by: when they were registered, by the clock of the database. Those of former versions, and those that
/// were copied, are older, and in the order of their own times.
fn age(device: &Document) -> (Option<Timestamp>, Option<Timestamp>) {
    let at = |name| device.get_datetime(name).ok().map(|at| time(*at));
    (at("renewed"), at("registered_at"))
}

/// The device that was registered with an address, if that was not registered again since.
pub(super) fn registered_as(AddressHash(hash): AddressHash, RegistrationId(revision): RegistrationId) -> Document {
    // Former versions have written none.
    let revision = if revision == 0 {
        doc! { "$in": [null, 0_i64] }
    } else {
        doc! { "$eq": revision }
    };
    doc! { "hash": binary(&hash), "revision": revision }
}

/// Removes devices, and what hangs on them.
async fn remove_all(db: &Db, session: &mut ClientSession, devices: Vec<DeviceKey>) -> Result<(), Fault> {
    if devices.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = devices.iter().map(|DeviceKey(key)| binary(key)).collect();
    let (registered, tasks) = (db.collection::<Document>("push_devices"), db.collection::<Document>("push_tasks"));
    registered.delete_many(doc! { "_id": { "$in": &ids } }).session(&mut *session).await?;
    tasks.delete_many(doc! { "device": { "$in": ids } }).session(&mut *session).await?;
    for device in devices {
        let marks = db.collection::<Document>("push_marks");
        marks.delete_many(doc! { "_id": ids_of(device) }).session(&mut *session).await?;
    }
    Ok(())
}

/// Removes the devices that match, and what hangs on them, in a transaction that is under way.
pub(in crate::store::mongo) async fn remove_in(
    db: &Db,
    session: &mut ClientSession,
    which: Document,
) -> Result<usize, Fault> {
    let devices = db.collection::<Document>("push_devices");
    let mut found = devices.find(which).projection(doc! { "_id": 1 }).session(&mut *session).await?;
    let mut keys = Vec::new();
    while let Some(device) = found.next(&mut *session).await.transpose()? {
        keys.extend(bytes_of(&device, "_id").map(DeviceKey));
    }
    let removed = keys.len();
    remove_all(db, session, keys).await.map(|()| removed)
}

/// The same in a transaction of its own, if there are any.
pub(super) async fn remove(db: &Db, which: Document) -> Result<usize, Fault> {
    let any: Option<Document> = db.one("push_devices", which.clone(), FindOneOptions::default()).await?;
    if any.is_none() {
        return Ok(0);
    }
    let (own, never) = (db.clone(), CancellationToken::new());
    let removed = transaction(db, &never, move |session| {
        let (db, which) = (own.clone(), which.clone());
        async move { remove_in(&db, session, which).await }.boxed()
    });
    Ok(removed.await?.unwrap_or(0))
}

/// Removes the devices of sessions that are over, after those have ended: until then, and if this fails, they are registered still, and who
/// pushes looks at the session.
pub(in crate::store::mongo) async fn remove_of_sessions(db: &Db, sessions: &[ObjectId]) -> Result<(), Fault> {
    remove(db, doc! { "session_id": { "$in": sessions } }).await.map(drop)
}

/// Removes the devices of a member who is gone, and what they have chosen.
pub(in crate::store::mongo) async fn forget(
    db: &Db,
    session: &mut ClientSession,
    member: MemberId,
) -> Result<(), Fault> {
    remove_in(db, session, doc! { "member_id": member_oid(member) }).await?;
    let choices = db.collection::<Document>("push_choices");
    choices.delete_one(doc! { "_id": member_oid(member) }).session(session).await?;
    Ok(())
}

/// From which position on a device is registered. From the beginning, if it was by a former version, or in a former epoch: its clock says
/// nothing of what was stored in this one.
fn since(device: &Document, epoch: Epoch) -> Position {
    let is_current = bytes_of(device, "epoch") == Some(epoch.0);
    Position(device.get_datetime("begun").ok().filter(|_| is_current).map_or(0, |begun| millis(*begun)))
}

/// The devices of members, the one that was registered last first.
pub(super) async fn of(db: &Db, members: &[MemberId], epoch: Epoch) -> Result<Vec<DeviceRecord>, Fault> {
    let members: Vec<ObjectId> = members.iter().copied().map(member_oid).collect();
    let theirs = doc! { "member_id": { "$in": members } };
    let found: Vec<Document> = db.all("push_devices", theirs, FindOptions::default()).await?;
    let device = |found| Some((age(found), DeviceRecord { since: since(found, epoch), ..record(found)? }));
    let mut devices: Vec<_> = found.iter().filter_map(device).collect();
    devices.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    Ok(devices.into_iter().map(|(_, device)| device).collect())
}

/// Those that show a number at their icons, after a key.
pub(super) async fn with_badge(db: &Db, after: Option<DeviceKey>) -> Result<Vec<(MemberId, DeviceId)>, Fault> {
    let mut shows = doc! { "badge": { "$gt": 0_i64 } };
    shows.extend(after.map(|DeviceKey(after)| ("_id".to_owned(), doc! { "$gt": binary(&after) }.into())));
    let fields = doc! { "member_id": 1, "device": 1 };
    let limit = i64::try_from(BULK_MAX).unwrap_or(i64::MAX);
    let options = FindOptions::builder().projection(fields).sort(doc! { "_id": 1 }).limit(limit).build();
    let found: Vec<Document> = db.all("push_devices", shows, options).await?;
    Ok(found.iter().filter_map(owner).collect())
}

pub(super) async fn choice(db: &Db, member: MemberId) -> Result<PushChoice, Fault> {
    let found = db.one("push_choices", doc! { "_id": member_oid(member) }, FindOneOptions::default()).await?;
    Ok(found.as_ref().and_then(choice_of).map(|(_, choice)| choice).unwrap_or_default())
}

/// What quiet hours have put off is due now.
async fn hurry(
    db: &Db,
    session: &mut ClientSession,
    member: MemberId,
    Ended { until, now }: Ended,
) -> Result<(), Fault> {
    let theirs = doc! { "member_id": member_oid(member) };
    let devices = db.collection::<Document>("push_devices");
    let mut found = devices.find(theirs).projection(doc! { "_id": 1 }).session(&mut *session).await?;
    let mut keys = Vec::new();
    while let Some(device) = found.next(&mut *session).await.transpose()? {
        keys.extend(bytes_of(&device, "_id").map(|key: [u8; 16]| binary(&key)));
    }
    let put_off = doc! { "device": { "$in": keys }, "due": date(until) };
    let hurry = doc! { "$set": { "due": date(now) }, "$max": { "at": date(now) } };
    db.collection::<Document>("push_tasks").update_many(put_off, hurry).session(session).await?;
    Ok(())
}

/// Stores what a member has chosen, and has what was put off due; of one who has left nothing is kept.
pub(super) async fn choose(db: &Db, member: MemberId, choice: PushChoice, ended: Option<Ended>) -> Result<(), Fault> {
    let (own, never) = (db.clone(), CancellationToken::new());
    let chosen = transaction(db, &never, move |session| {
        let (db, choice) = (own.clone(), choice_document(member, &choice));
        async move {
            if meet(&db, session, member).await? {
                let choices = db.collection::<Document>("push_choices");
                let theirs = doc! { "_id": member_oid(member) };
                choices.replace_one(theirs, choice).upsert(true).session(&mut *session).await?;
                if let Some(ended) = ended {
                    hurry(&db, session, member, ended).await?;
                }
            }
            Ok(())
        }
        .boxed()
    });
    chosen.await.map(drop)
}
