//! Invitations.

use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Binary, Bson, Document, doc, spec::BinarySubtype},
    options::{FindOneOptions, FindOptions},
};
use protocol::{InvitationId, MemberId, Timestamp, model::Tier};
use tokio_util::sync::CancellationToken;

use super::{
    Mongo, audit, claims,
    db::Db,
    document::{MemberDoc, TIERS, date, invitation_oid, member_oid, time, word},
    fault::Fault,
    members::{meet, overtaken, transaction},
};
use crate::store::{
    InvitationStore, StoreError,
    changes::{Actor, Change},
    invitations::{
        CAME_BY_MAX, CameBy, CodeHash, Created, InvitationRecord, MADE_WITHIN, NewInvitation, Withdrawn, of_change,
        revocation, revoked_with,
    },
    members::MemberRecord,
    turns::{Caller, Turn},
};

/// A document of `invitations`.
pub(super) fn document(record: &InvitationRecord) -> Document {
    doc! {
        "_id": invitation_oid(record.id),
        "code": code(record.code),
        "tier": record.tier.as_str(),
        "uses": i64::from(record.uses),
        "used": i64::from(record.used),
        // So that who is open can be asked for.
        "left": i64::from(record.uses.saturating_sub(record.used)),
        "created_by": member_oid(record.created_by),
        "created_at": date(record.created_at),
        "expires_at": date(record.expires_at),
        "revoked_at": record.revoked_at.map(date),
        "note": record.note.as_deref(),
    }
}

fn code(code: CodeHash) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: code.to_vec() }
}

/// The invitation that a document is.
pub(super) fn record(document: &Document) -> Result<InvitationRecord, Fault> {
    let missing = || Fault::Data("a document of invitations lacks a field".to_owned());
    let fields = || {
        let number = |name| u32::try_from(document.get_i64(name).ok()?).ok();
        let at = |name| Some(time(*document.get_datetime(name).ok()?));
        Some((
            InvitationId::from_bytes(document.get_object_id("_id").ok()?.bytes()),
            document.get_binary_generic("code").ok()?.as_slice().try_into().ok()?,
            (number("uses")?, number("used")?),
            MemberId::from_bytes(document.get_object_id("created_by").ok()?.bytes()),
            (at("created_at")?, at("expires_at")?),
        ))
    };
    let (id, code, (uses, used), created_by, (created_at, expires_at)) = fields().ok_or_else(missing)?;
    Ok(InvitationRecord {
        id,
        code,
        tier: word("tier", document.get_str("tier").unwrap_or_default(), TIERS, Tier::as_str)?,
        uses,
        used,
        created_by,
        created_at,
        expires_at,
        revoked_at: document.get_datetime("revoked_at").ok().map(|at| time(*at)),
        note: document.get_str("note").ok().map(str::to_owned),
    })
}

/// Those by which somebody can come at a time.
fn is_open(at: Timestamp) -> Document {
    let mut open = can_open(at);
    open.insert("left", doc! { "$gt": 0_i64 });
    open
}

/// Those that [can open](InvitationRecord::can_open) at a time.
pub(super) fn can_open(at: Timestamp) -> Document {
    doc! { "revoked_at": null, "expires_at": { "$gt": date(at) } }
}

/// An invitation, if it is good.
pub(super) async fn open(
    db: &Db,
    session: &mut ClientSession,
    id: InvitationId,
    at: Timestamp,
) -> Result<Option<InvitationRecord>, Fault> {
    let mut good = is_open(at);
    good.insert("_id", invitation_oid(id));
    let found = db.collection::<Document>("invitations").find_one(good).session(session).await?;
    found.as_ref().map(record).transpose()
}

/// Takes one use of an invitation, if it is good.
pub(super) async fn take(
    db: &Db,
    session: &mut ClientSession,
    id: InvitationId,
    at: Timestamp,
) -> Result<Option<InvitationRecord>, Fault> {
    let invitations = db.collection::<Document>("invitations");
    let mut good = is_open(at);
    good.insert("_id", invitation_oid(id));
    let take = doc! { "$inc": { "used": 1_i64, "left": -1_i64 } };
    if invitations.update_one(good, take).session(&mut *session).await?.matched_count == 0 {
        return Ok(None);
    }
    let found = invitations.find_one(doc! { "_id": invitation_oid(id) }).session(session).await?;
    found.as_ref().map(record).transpose()
}

/// What a change of a member does to invitations.
pub(super) async fn follow(
    db: &Db,
    session: &mut ClientSession,
    change: &Change,
    before: &MemberRecord,
    by: Actor,
    at: Timestamp,
) -> Result<(), Fault> {
    let revocations = of_change(change, before);
    let invitations = db.collection::<Document>("invitations");
    let made = revocations.made_by.map(|maker| ("created_by", Bson::from(member_oid(maker))));
    let came = revocations.came_by.map(|id| ("_id", Bson::from(invitation_oid(id))));
    let mut count = 0;
    for (field, value) in made.into_iter().chain(came) {
        let mut ended = can_open(at);
        ended.insert(field, value);
        let revoke = doc! { "$set": { "revoked_at": date(at) } };
        count += invitations.update_many(ended, revoke).session(&mut *session).await?.modified_count;
    }
    if revocations.forgets_notes {
        let made = doc! { "created_by": member_oid(before.profile.id) };
        invitations.update_many(made, doc! { "$set": { "note": null } }).session(&mut *session).await?;
    }
    if count > 0 {
        let entry = revoked_with(before.profile.id, count, change.action(), by, at);
        audit::append(db, &entry, Some(session)).await?;
    }
    Ok(())
}

async fn create(db: &Db, new: NewInvitation) -> Result<Created, Fault> {
    let own = db.clone();
    let never = CancellationToken::new();
    let made = transaction(db, &never, move |session| {
        let (db, new) = (own.clone(), new.clone());
        async move { create_in(&db, session, &new).await }.boxed()
    });
    Ok(made.await?.unwrap_or(Created::NotAllowed))
}

async fn create_in(db: &Db, session: &mut ClientSession, new: &NewInvitation) -> Result<Created, Fault> {
    let invitations = db.collection::<Document>("invitations");
    let record = &new.record;
    let own = doc! { "_id": invitation_oid(record.id) };
    if invitations.find_one(own).session(&mut *session).await?.is_some() {
        // By an attempt whose answer was lost.
        return Ok(Created::Done);
    }
    // Two of one maker must meet, and whoever puts the maker out.
    meet(db, session, record.created_by).await?;
    if let Some(overtaken) = overtaken(db, session, new.by, new.needs_admin, record.created_at).await? {
        return Ok(Created::Overtaken(overtaken));
    }
    let maker = doc! { "_id": member_oid(record.created_by) };
    let maker = db.collection::<MemberDoc>("members").find_one(maker).session(&mut *session).await?;
    let maker = maker.map(MemberDoc::into_record).transpose()?;
    if !maker.is_some_and(|maker| new.may_be_made_by(&maker.profile)) {
        return Ok(Created::NotAllowed);
    }
    let made = doc! { "created_at": { "$gt": date(record.created_at.before(MADE_WITHIN)) } };
    for (mut others, most) in [(is_open(record.created_at), new.most_open), (made, new.most_made)] {
        others.insert("created_by", member_oid(record.created_by));
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let others = invitations.find(others).projection(doc! { "_id": 1 }).limit(limit);
        let (mut others, mut count) = (others.session(&mut *session).await?, 0);
        while others.next(&mut *session).await.transpose()?.is_some() {
            count += 1;
        }
        if count >= most {
            return Ok(Created::TooMany);
        }
    }
    invitations.insert_one(document(record)).session(&mut *session).await?;
    audit::append(db, &new.audit(), Some(session)).await?;
    Ok(Created::Done)
}

async fn find(db: &Db, filter: Document) -> Result<Option<InvitationRecord>, Fault> {
    let found: Option<Document> = db.one("invitations", filter, FindOneOptions::default()).await?;
    found.as_ref().map(record).transpose()
}

async fn list(
    db: &Db,
    made_by: Option<MemberId>,
    before: Option<InvitationId>,
    limit: usize,
) -> Result<Vec<InvitationRecord>, Fault> {
    let mut filter = doc! {};
    if let Some(maker) = made_by {
        filter.insert("created_by", member_oid(maker));
    }
    if let Some(before) = before {
        filter.insert("_id", doc! { "$lt": invitation_oid(before) });
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let options = FindOptions::builder().sort(doc! { "_id": -1 }).limit(limit).build();
    let found: Vec<Document> = db.all("invitations", filter, options).await?;
    found.iter().map(record).collect()
}

async fn came_by(db: &Db, ids: Vec<InvitationId>) -> Result<Vec<CameBy>, Fault> {
    let mut found = HashMap::new();
    for id in &ids {
        let limit = i64::try_from(CAME_BY_MAX).unwrap_or(i64::MAX);
        let options = FindOptions::builder().sort(doc! { "_id": -1 }).limit(limit).build();
        let came = doc! { "invitation_id": invitation_oid(*id), "must_verify": { "$ne": true } };
        let members: Vec<MemberDoc> = db.all("members", came, options).await?;
        let members: Vec<MemberRecord> = members.into_iter().map(MemberDoc::into_record).collect::<Result<_, _>>()?;
        let waiting = doc! { "invitation_id": invitation_oid(*id), "must_verify": true };
        let waiting = db.collection::<Document>("members").count_documents(waiting).max_time(db.max_time).await?;
        let unverified = waiting + claims::count_of(db, *id).await?;
        found.insert(*id, CameBy { members, unverified });
    }
    Ok(ids.iter().map(|id| found.remove(id).unwrap_or_default()).collect())
}

async fn revoke(db: &Db, id: InvitationId, by: Actor, at: Timestamp) -> Result<Withdrawn, Fault> {
    let own = db.clone();
    let never = CancellationToken::new();
    let revoked = transaction(db, &never, move |session| {
        let db = own.clone();
        async move {
            let invitations = db.collection::<Document>("invitations");
            let own = doc! { "_id": invitation_oid(id) };
            let found = invitations.find_one(own.clone()).session(&mut *session).await?;
            let Some(found) = found.as_ref().map(record).transpose()? else { return Ok(Withdrawn::NotFound) };
            if found.revoked_at.is_some() {
                return Ok(Withdrawn::Done);
            }
            let is_own = !by.is_other_than(found.created_by);
            if let Some(overtaken) = overtaken(&db, session, by, !is_own, at).await? {
                return Ok(Withdrawn::Overtaken(overtaken));
            }
            if is_own {
                // Whoever puts them out and this one meet.
                meet(&db, session, found.created_by).await?;
            }
            let end = doc! { "$set": { "revoked_at": date(at) } };
            invitations.update_one(own, end).session(&mut *session).await?;
            audit::append(&db, &revocation(&found, by, at), Some(session)).await?;
            Ok(Withdrawn::Done)
        }
        .boxed()
    });
    Ok(revoked.await?.unwrap_or(Withdrawn::NotFound))
}

#[async_trait]
impl InvitationStore for Mongo {
    async fn create(&self, new: NewInvitation) -> Result<Created, StoreError> {
        let maker = Caller::Member(new.record.created_by);
        self.write(maker, async move |_, db| create(&db, new).await).await
    }

    async fn by_code(&self, by: Caller, hash: CodeHash) -> Result<Option<InvitationRecord>, StoreError> {
        self.read(Turn::of(by), async move |_, db| find(&db, doc! { "code": code(hash) }).await).await
    }

    async fn by_id(&self, by: Caller, id: InvitationId) -> Result<Option<InvitationRecord>, StoreError> {
        self.read(Turn::of(by), async move |_, db| find(&db, doc! { "_id": invitation_oid(id) }).await).await
    }

    async fn list(
        &self,
        by: Caller,
        made_by: Option<MemberId>,
        before: Option<InvitationId>,
        limit: usize,
    ) -> Result<Vec<InvitationRecord>, StoreError> {
        self.read(Turn::of(by), async move |_, db| list(&db, made_by, before, limit).await).await
    }

    async fn came_by(&self, by: Caller, invitations: Vec<InvitationId>) -> Result<Vec<CameBy>, StoreError> {
        let turn = Turn::look_ups(by, invitations.len().saturating_mul(CAME_BY_MAX));
        self.read(turn, async move |_, db| came_by(&db, invitations).await).await
    }

    async fn revoke(&self, id: InvitationId, by: Actor, at: Timestamp) -> Result<Withdrawn, StoreError> {
        let caller = by.member.map_or(Caller::System, Caller::Member);
        self.write(caller, async move |_, db| revoke(&db, id, by, at).await).await
    }

    async fn purge(&self, expired: Timestamp) -> Result<usize, StoreError> {
        self.write(Caller::System, async move |_, db| {
            let over = doc! { "expires_at": { "$lt": date(expired) } };
            let purged = db.collection::<Document>("invitations").delete_many(over).await?;
            Ok(usize::try_from(purged.deleted_count).unwrap_or(usize::MAX))
        })
        .await
    }
}
