//! The audit log. `_id` is the place: a number that grows by one with every entry.

use std::{collections::BTreeMap, net::IpAddr};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Bson, Document, doc, oid::ObjectId},
    options::{FindOptions, ReturnDocument},
};
use protocol::{MemberId, Timestamp, rest::AuditAction};
use tokio_util::sync::CancellationToken;

use super::{
    Mongo,
    db::Db,
    document::{date, member_oid, signed, time, unsigned},
    fault::Fault,
    members::{overtaken, transaction},
};
use crate::store::{
    AuditStore, StoreError,
    audit::{
        AuditFilter, AuditFound, AuditIndex, AuditMoment, AuditPlace, AuditRecord, FORGOTTEN_AT_ONCE, REASON,
        forgotten_up_to,
    },
    changes::{Actor, Overtaken},
    turns::{Caller, Turn},
};

/// Appends an entry, in a transaction if there is one.
///
/// Outside of one, a place whose entry was not stored stays empty; nobody counts them.
pub(super) async fn append(db: &Db, entry: &AuditRecord, session: Option<&mut ClientSession>) -> Result<(), Fault> {
    let (meta, audit) = (db.collection::<Document>("meta"), db.collection::<Document>("audit"));
    let next = meta
        .find_one_and_update(doc! { "_id": "audit" }, doc! { "$inc": { "place": 1_i64 } })
        .upsert(true)
        .return_document(ReturnDocument::After);
    match session {
        Some(session) => {
            let place = place_of(next.session(&mut *session).await?)?;
            audit.insert_one(document(place, entry)).session(session).await?;
        }
        None => {
            let place = place_of(next.await?)?;
            audit.insert_one(document(place, entry)).await?;
        }
    }
    Ok(())
}

async fn append_order(db: &Db, entry: AuditRecord, by: Actor) -> Result<Option<Overtaken>, Fault> {
    let own = db.clone();
    let never = CancellationToken::new();
    let appended = transaction(db, &never, move |session| {
        let (db, entry) = (own.clone(), entry.clone());
        async move {
            let overtaken = overtaken(&db, session, by, true, entry.at).await?;
            if overtaken.is_none() {
                append(&db, &entry, Some(session)).await?;
            }
            Ok(overtaken)
        }
        .boxed()
    });
    // Nobody gives it up.
    appended.await?.ok_or_else(|| StoreError::Timeout.into())
}

fn place_of(meta: Option<Document>) -> Result<i64, Fault> {
    let place = meta.and_then(|meta| meta.get_i64("place").ok());
    place.ok_or_else(|| Fault::Data("the audit log has no place to go on from".to_owned()))
}

pub(super) fn document(place: i64, entry: &AuditRecord) -> Document {
    doc! {
        "_id": place,
        "at": date(entry.at),
        "actor_id": entry.actor.map(member_oid),
        "action": entry.action.as_str(),
        "target_id": member_oid(entry.stored_target()),
        // As text: names of fields in it have dots.
        "details": entry.details.to_string(),
        "address": entry.address.map(|address| address.to_string()),
    }
}

pub(super) fn record(document: &Document) -> Option<(AuditPlace, AuditRecord)> {
    let action = document.get_str("action").ok()?;
    let address = match document.get("address") {
        Some(Bson::String(address)) => Some(address.parse::<IpAddr>().ok()?),
        _ => None,
    };
    let member = |id: ObjectId| MemberId::from_bytes(id.bytes());
    let record = AuditRecord {
        at: document.get_datetime("at").ok().map(|at| time(*at)).unwrap_or(Timestamp::from_millis(0)),
        actor: document.get_object_id("actor_id").ok().map(member),
        action: *AuditAction::ALL.iter().find(|known| known.as_str() == action)?,
        target: AuditRecord::target_of(member(document.get_object_id("target_id").ok()?)),
        details: serde_json::from_str(document.get_str("details").ok()?).ok()?,
        address,
    };
    Some((AuditPlace(unsigned(document.get_i64("_id").ok()?)), record))
}

/// Entries of a filter before a moment, the newest first, along an index in that order.
async fn page(db: &Db, filter: &AuditFilter, before: Option<AuditMoment>, limit: usize) -> Result<AuditFound, Fault> {
    let is_in = match filter.index() {
        AuditIndex::Actor(actor) => doc! { "actor_id": member_oid(actor) },
        AuditIndex::Target(target) => doc! { "target_id": member_oid(target) },
        AuditIndex::Action(action) => doc! { "action": action.as_str() },
        AuditIndex::All => doc! {},
    };
    let bound = filter.bound(before);
    let mut read = Vec::new();
    // The rest of the moment, and what was before it: each is one walk along the index.
    if let Some((at, place)) = bound.filter(|(at, place)| place.0 > 0 && filter.since.is_none_or(|since| since <= *at))
    {
        let mut same = is_in.clone();
        same.extend(doc! { "at": date(at), "_id": { "$lt": AuditPlace::bound(Some(place)) } });
        read = newest(db, same, filter.examined(limit)).await?;
    }
    let left = filter.examined(limit).saturating_sub(read.len());
    if left > 0 {
        let mut earlier = doc! {};
        earlier.extend(bound.map(|(at, _)| ("$lt".to_owned(), date(at).into())));
        earlier.extend(filter.since.map(|since| ("$gte".to_owned(), date(since).into())));
        let mut within = is_in;
        if !earlier.is_empty() {
            within.insert("at", earlier);
        }
        read.extend(newest(db, within, left).await?);
    }
    Ok(filter.page(read, limit))
}

async fn newest(db: &Db, filter: Document, limit: usize) -> Result<Vec<(AuditPlace, AuditRecord)>, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let newest_first = FindOptions::builder().sort(doc! { "at": -1, "_id": -1 }).limit(limit).build();
    read(&db.all("audit", filter, newest_first).await?)
}

/// Entries of a filter before a place, the newest first.
async fn before_place(
    db: &Db,
    mut filter: Document,
    before: Option<AuditPlace>,
    limit: usize,
) -> Result<Vec<(AuditPlace, AuditRecord)>, Fault> {
    filter.insert("_id", doc! { "$lt": AuditPlace::bound(before) });
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let newest_first = FindOptions::builder().sort(doc! { "_id": -1 }).limit(limit).build();
    read(&db.all("audit", filter, newest_first).await?)
}

/// Entries after a place, the oldest first.
async fn after(db: &Db, after: AuditPlace, limit: usize) -> Result<Vec<(AuditPlace, AuditRecord)>, Fault> {
    let later = doc! { "_id": { "$gt": AuditPlace::bound(Some(after)) } };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let oldest_first = FindOptions::builder().sort(doc! { "_id": 1 }).limit(limit).build();
    read(&db.all("audit", later, oldest_first).await?)
}

fn read(found: &[Document]) -> Result<Vec<(AuditPlace, AuditRecord)>, Fault> {
    found.iter().map(|found| record(found).ok_or_else(|| Fault::Data("an audit entry".to_owned()))).collect()
}

/// Entries about a member or by them: each along its index.
async fn of_member(
    db: &Db,
    member: MemberId,
    before: Option<AuditPlace>,
    limit: usize,
) -> Result<Vec<(AuditPlace, AuditRecord)>, Fault> {
    let mut found = BTreeMap::new();
    for field in ["actor_id", "target_id"] {
        found.extend(before_place(db, doc! { field: member_oid(member) }, before, limit).await?);
    }
    Ok(found.into_iter().rev().take(limit).collect())
}

async fn forget_addresses(db: &Db, member: MemberId, after: AuditPlace) -> Result<Option<AuditPlace>, Fault> {
    let after = AuditPlace::bound(Some(after));
    let places = async |field: &str| -> Result<Vec<u64>, Fault> {
        let next = FindOptions::builder()
            .sort(doc! { "_id": 1 })
            .limit(i64::try_from(FORGOTTEN_AT_ONCE).unwrap_or(i64::MAX))
            .projection(doc! { "_id": 1 })
            .build();
        let theirs = doc! { field: member_oid(member), "_id": { "$gt": after } };
        let found: Vec<Document> = db.all("audit", theirs, next).await?;
        Ok(found.iter().filter_map(|found| found.get_i64("_id").ok()).map(unsigned).collect())
    };
    let next = forgotten_up_to(&places("actor_id").await?, &places("target_id").await?);
    let part = doc! { "$gt": after, "$lte": AuditPlace::bound(next) };
    let acted = doc! { "actor_id": member_oid(member), "_id": part.clone() };
    let failed = doc! { "target_id": member_oid(member), "_id": part, "action": AuditAction::LoginFailed.as_str() };
    for mut theirs in [acted, failed] {
        theirs.insert("address", doc! { "$ne": null });
        let forget = doc! { "$set": { "address": null } };
        db.collection::<Document>("audit").update_many(theirs, forget).await?;
    }
    let suspended = doc! {
        "target_id": member_oid(member),
        "_id": { "$gt": after, "$lte": AuditPlace::bound(next) },
        "action": AuditAction::SuspensionChanged.as_str(),
    };
    for found in db.all::<Document>("audit", suspended, FindOptions::default()).await? {
        let Some((place, mut entry)) = record(&found) else { continue };
        if entry.details.as_object_mut().and_then(|details| details.remove(REASON)).is_some() {
            let forget = doc! { "$set": { "details": entry.details.to_string() } };
            db.collection::<Document>("audit").update_one(doc! { "_id": signed(place.0) }, forget).await?;
        }
    }
    Ok(next)
}

#[async_trait]
impl AuditStore for Mongo {
    async fn append(&self, entry: AuditRecord) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| append(&db, &entry, None).await).await
    }

    async fn append_order(&self, entry: AuditRecord, by: Actor) -> Result<Option<Overtaken>, StoreError> {
        self.write(Caller::System, async move |_, db| append_order(&db, entry, by).await).await
    }

    async fn entries(
        &self,
        before: Option<AuditPlace>,
        limit: usize,
    ) -> Result<Vec<(AuditPlace, AuditRecord)>, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| before_place(&db, doc! {}, before, limit).await).await
    }

    async fn page(
        &self,
        filter: AuditFilter,
        before: Option<AuditMoment>,
        limit: usize,
    ) -> Result<AuditFound, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| page(&db, &filter, before, limit).await).await
    }

    async fn after(&self, after: AuditPlace, limit: usize) -> Result<Vec<(AuditPlace, AuditRecord)>, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| self::after(&db, after, limit).await).await
    }

    async fn of_member(
        &self,
        member: MemberId,
        before: Option<AuditPlace>,
        limit: usize,
    ) -> Result<Vec<(AuditPlace, AuditRecord)>, StoreError> {
        self.read(Turn::light(member), async move |_, db| of_member(&db, member, before, limit).await).await
    }

    async fn forget_addresses(&self, member: MemberId, after: AuditPlace) -> Result<Option<AuditPlace>, StoreError> {
        self.write(Caller::System, async move |_, db| forget_addresses(&db, member, after).await).await
    }
}
