//! Members.

use async_trait::async_trait;
use mongodb::{
    bson::{Document, doc},
    options::{FindOneOptions, FindOptions, ReturnDocument},
};
use protocol::{
    MemberId, Timestamp,
    rest::{Member, MemberPatch},
};

use super::{
    Mongo,
    document::{Fault, MemberDoc, among, date, is_duplicate, member_oid, text, time},
    link::Db,
    receipts, sessions,
};
use crate::store::{
    MemberStore, StoreError,
    members::{EmailTaken, LastSeen, MemberRecord, NewMember, email_key},
};

pub(super) async fn by_id(db: &Db, id: MemberId) -> Result<Option<MemberRecord>, Fault> {
    find(db, doc! { "_id": member_oid(id) }).await
}

async fn find(db: &Db, filter: Document) -> Result<Option<MemberRecord>, Fault> {
    let found = db.one("members", filter, FindOneOptions::default()).await?;
    found.map(MemberDoc::into_record).transpose()
}

async fn insert(db: &Db, member: NewMember) -> Result<Result<MemberRecord, EmailTaken>, Fault> {
    let record = member.into_record();
    match db.collection::<MemberDoc>("members").insert_one(MemberDoc::of(record.clone(), None)).await {
        Ok(_) => Ok(Ok(record)),
        // Unless it is ours, of an attempt whose answer was lost.
        Err(error) if is_duplicate(&error) => Ok(by_id(db, record.profile.id).await?.ok_or(EmailTaken)),
        Err(error) => Err(error.into()),
    }
}

async fn update(db: &Db, id: MemberId, patch: MemberPatch, at: Timestamp) -> Result<Option<MemberRecord>, Fault> {
    let Some(mut record) = by_id(db, id).await? else { return Ok(None) };
    let before = record.profile.clone();
    record.profile.apply(patch);
    if record.profile == before {
        return Ok(Some(record));
    }
    let Member { name, contact_info, profile_image_url, .. } = &record.profile;
    // Only what this patch changes: another one may change something else at the same moment.
    let fields = [
        ("name", name != &before.name, text(Some(name))),
        ("contact_info.phone", contact_info.phone != before.contact_info.phone, text(contact_info.phone.as_ref())),
        (
            "contact_info.company",
            contact_info.company != before.contact_info.company,
            text(contact_info.company.as_ref()),
        ),
        (
            "contact_info.position",
            contact_info.position != before.contact_info.position,
            text(contact_info.position.as_ref()),
        ),
        ("profile_image_url", profile_image_url != &before.profile_image_url, text(profile_image_url.as_ref())),
    ];
    let set: Document = fields
        .into_iter()
        .filter(|(_, changed, _)| *changed)
        .map(|(name, _, value)| (name.to_owned(), value))
        .collect();
    modify(db, id, doc! { "$set": set, "$max": { "updated_at": date(at) } }).await
}

/// Changes a member and returns what it is then.
async fn modify(db: &Db, id: MemberId, update: Document) -> Result<Option<MemberRecord>, Fault> {
    let members = db.collection::<MemberDoc>("members");
    let changed = members
        .find_one_and_update(doc! { "_id": member_oid(id) }, update)
        .return_document(ReturnDocument::After)
        .max_time(db.max_time);
    changed.await?.map(MemberDoc::into_record).transpose()
}

async fn set_active(db: &Db, id: MemberId, active: bool, at: Timestamp) -> Result<Option<MemberRecord>, Fault> {
    let update = doc! { "$set": { "is_active": active }, "$max": { "updated_at": date(at) } };
    let changed = modify(db, id, update).await?;
    if !active {
        // After the member: a session that starts in between is not missed.
        sessions::revoke_all(db, id, at).await?;
    }
    Ok(changed)
}

async fn record_last_seen(db: &Db, seen: Vec<(MemberId, Timestamp)>) -> Result<(), Fault> {
    let updates = seen.into_iter().map(|(member, at)| {
        // The larger of a time and nothing is the time, except for a field that is null.
        let q =
            doc! { "_id": member_oid(member), "$or": [{ "last_seen": null }, { "last_seen": { "$lt": date(at) } }] };
        doc! { "q": q, "u": { "$set": { "last_seen": date(at) } } }
    });
    receipts::run_updates(db, "members", updates.collect()).await
}

async fn last_seen(db: &Db, members: Vec<MemberId>) -> Result<Vec<LastSeen>, Fault> {
    let fields = FindOptions::builder().projection(doc! { "last_seen": 1, "is_active": 1 }).build();
    let found: Vec<Document> = db.all("members", among(members.iter().copied().map(member_oid)), fields).await?;
    let seen = members.into_iter().filter_map(|member| {
        let found = found.iter().find(|found| found.get_object_id("_id").is_ok_and(|id| id == member_oid(member)))?;
        let at = found.get_datetime("last_seen").ok().map(|at| time(*at));
        found.get_bool("is_active").unwrap_or(false).then_some(LastSeen { member, at })
    });
    Ok(seen.collect())
}

#[async_trait]
impl MemberStore for Mongo {
    async fn insert(&self, member: NewMember) -> Result<Result<MemberRecord, EmailTaken>, StoreError> {
        self.call(async move |_, db| insert(&db, member).await).await
    }

    async fn by_id(&self, id: MemberId) -> Result<Option<MemberRecord>, StoreError> {
        self.read(async move |_, db| by_id(&db, id).await).await
    }

    async fn by_email(&self, email: &str) -> Result<Option<MemberRecord>, StoreError> {
        let filter = doc! { "email_key": email_key(email) };
        self.read(async move |_, db| find(&db, filter).await).await
    }

    async fn update(
        &self,
        id: MemberId,
        patch: MemberPatch,
        at: Timestamp,
    ) -> Result<Option<MemberRecord>, StoreError> {
        self.call(async move |_, db| update(&db, id, patch, at).await).await
    }

    async fn set_active(&self, id: MemberId, active: bool, at: Timestamp) -> Result<Option<MemberRecord>, StoreError> {
        let changed = self.call(async move |_, db| set_active(&db, id, active, at).await).await;
        // The log remembers whether a member may be written to.
        self.core.members.remove(&id);
        changed
    }

    async fn record_last_seen(&self, seen: Vec<(MemberId, Timestamp)>) -> Result<(), StoreError> {
        self.call(async move |_, db| record_last_seen(&db, seen).await).await
    }

    async fn last_seen(&self, members: Vec<MemberId>) -> Result<Vec<LastSeen>, StoreError> {
        self.read(async move |_, db| last_seen(&db, members).await).await
    }
}
