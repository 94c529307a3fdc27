//! Mail that is to be sent, and the links in it.

use async_trait::async_trait;
use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Document, doc},
    options::{FindOneOptions, ReturnDocument},
};
use protocol::{MemberId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    Mongo,
    db::Db,
    document::{binary, bytes_of, date, member_oid, time, word},
    fault::Fault,
    members::transaction,
};
use crate::store::{
    MailStore, StoreError,
    archive::{LinkRow, MailRow},
    changes::Change,
    mail::{
        LinkAllowance, LinkHash, Mail, NewLink, Purpose, TakenMail, WAITING_MAX, WaitingMail, allowance, ends_links,
        forgotten_at, keys_of_address, notice_of,
    },
    members::MemberRecord,
    turns::{Caller, Turn},
};

fn mail(document: &Document) -> Option<Mail> {
    serde_json::from_str(document.get_str("body").ok()?).ok()
}

fn body(mail: &Mail) -> Result<String, Fault> {
    serde_json::to_string(mail).map_err(|error| Fault::Data(error.to_string()))
}

/// Of a kind that this server knows.
fn known() -> Document {
    doc! { "kind": { "$in": Mail::KINDS.to_vec() } }
}

/// A revision: an id that is used once, shortened.
fn drawn() -> i64 {
    let [_, _, _, _, rest @ ..] = mongodb::bson::oid::ObjectId::new().bytes();
    i64::from_be_bytes(rest)
}

fn attempts(document: &Document) -> u32 {
    u32::try_from(document.get_i64("attempts").unwrap_or(0)).unwrap_or(u32::MAX)
}

/// Whether there is room for a further mail. Several nodes that ask at the same moment may go a little beyond it.
pub(super) async fn has_room(db: &Db, key: &str) -> Result<bool, Fault> {
    let mail = db.collection::<Document>("mail");
    let waiting = mail.estimated_document_count().max_time(db.max_time).await?;
    if waiting < WAITING_MAX {
        return Ok(true);
    }
    let there: Option<Document> = db.one("mail", doc! { "_id": key }, FindOneOptions::default()).await?;
    Ok(there.is_some())
}

/// Writes a mail that is due now, in a transaction if there is one.
pub(super) async fn write(
    db: &Db,
    mail: &Mail,
    at: Timestamp,
    session: Option<&mut ClientSession>,
) -> Result<(), Fault> {
    let row = MailRow { mail: mail.clone(), due: at, until: at.after(mail.lifetime()), attempts: 0 };
    let document = document(&row)?;
    let collection = db.collection::<Document>("mail");
    let replace = collection.replace_one(doc! { "_id": mail.key() }, document).upsert(true);
    match session {
        Some(session) => replace.session(session).await?,
        None => replace.await?,
    };
    Ok(())
}

async fn add(db: &Db, mail: &Mail, at: Timestamp) -> Result<bool, Fault> {
    if !has_room(db, &mail.key()).await? {
        return Ok(false);
    }
    write(db, mail, at, None).await.map(|()| true)
}

/// Nothing if the queue is full, true if the link was written, false if the member had too many.
async fn issue(db: &Db, link: NewLink) -> Result<Option<bool>, Fault> {
    if !has_room(db, &link.mail().key()).await? {
        return Ok(None);
    }
    let own = db.clone();
    let never = CancellationToken::new();
    let issued = transaction(db, &never, move |session| {
        let db = own.clone();
        async move { issue_in(&db, session, &link).await }.boxed()
    });
    Ok(Some(issued.await?.unwrap_or(false)))
}

async fn issue_in(db: &Db, session: &mut ClientSession, link: &NewLink) -> Result<bool, Fault> {
    let NewLink { member, purpose, at, .. } = link;
    let member = member_oid(*member);
    // Two at the same moment must meet, and so must a change that ends links.
    let meet = doc! { "$inc": { "met": 1_i64 } };
    let members = db.collection::<Document>("members");
    let found = members.find_one_and_update(doc! { "_id": member }, meet).session(&mut *session).await?;
    let must_verify = found.is_some_and(|found| found.get_bool("must_verify").unwrap_or(false));
    let LinkAllowance { most, since } = allowance(must_verify, *at);
    let links = db.collection::<Document>("links");
    let since = doc! { "member_id": member, "made_at": { "$gt": date(since) } };
    if links.count_documents(since).session(&mut *session).await? >= u64::from(most) {
        return Ok(false);
    }
    let former = doc! { "member_id": member, "purpose": purpose.as_str() };
    links.update_many(former, doc! { "$set": { "is_over": true } }).session(&mut *session).await?;
    write_link(db, session, link, false).await?;
    write(db, &link.mail(), *at, Some(session)).await?;
    Ok(true)
}

/// Writes a link alone; one that is over from the beginning is good for nothing but to be known.
pub(super) async fn write_link(
    db: &Db,
    session: &mut ClientSession,
    link: &NewLink,
    is_over: bool,
) -> Result<(), Fault> {
    let links = db.collection::<Document>("links");
    links.insert_one(link_document(&link.row(is_over))).session(session).await?;
    Ok(())
}

/// Whether a link is known, good or not.
pub(super) async fn is_link(db: &Db, hash: LinkHash) -> Result<bool, Fault> {
    let found: Option<Document> = db.one("links", doc! { "_id": binary(&hash) }, FindOneOptions::default()).await?;
    Ok(found.is_some())
}

/// Removes the links of a member, and what waits for them.
pub(super) async fn forget(db: &Db, session: &mut ClientSession, member: MemberId) -> Result<(), Fault> {
    for name in ["links", "mail"] {
        let own = doc! { "member_id": member_oid(member) };
        db.collection::<Document>(name).delete_many(own).session(&mut *session).await?;
    }
    Ok(())
}

/// Which link is good.
fn good(hash: LinkHash, purpose: Purpose, at: Timestamp) -> Document {
    doc! { "_id": binary(&hash), "purpose": purpose.as_str(), "expires_at": { "$gt": date(at) }, "is_over": false }
}

async fn link(db: &Db, hash: LinkHash, purpose: Purpose, at: Timestamp) -> Result<Option<MemberId>, Fault> {
    let found: Option<Document> = db.one("links", good(hash, purpose, at), FindOneOptions::default()).await?;
    Ok(found.as_ref().and_then(link_record).map(|row| row.member))
}

/// Uses up the link that a change takes, if it takes one. False if that is not good, or another member's.
pub(super) async fn use_up(
    db: &Db,
    session: &mut ClientSession,
    change: &Change,
    member: MemberId,
    at: Timestamp,
) -> Result<bool, Fault> {
    let Some((hash, purpose)) = change.link() else { return Ok(true) };
    let mut own = good(hash, purpose, at);
    own.insert("member_id", member_oid(member));
    let links = db.collection::<Document>("links");
    let used = links.update_one(own, doc! { "$set": { "is_over": true } }).session(session).await?;
    Ok(used.matched_count == 1)
}

/// What a change of a member does to their links and their mail.
pub(super) async fn follow(
    db: &Db,
    session: &mut ClientSession,
    change: &Change,
    before: &MemberRecord,
    after: &MemberRecord,
    at: Timestamp,
) -> Result<(), Fault> {
    let member = after.profile.id;
    let own = doc! { "member_id": member_oid(member) };
    let (links, mail) = (db.collection::<Document>("links"), db.collection::<Document>("mail"));
    if after.is_erased {
        forget(db, session, member).await?;
        let keys = keys_of_address(&before.profile.email).to_vec();
        mail.delete_many(doc! { "_id": { "$in": keys } }).session(&mut *session).await?;
    } else if ends_links(before, after) {
        links.update_many(own, doc! { "$set": { "is_over": true } }).session(&mut *session).await?;
    }
    if let Some(notice) = notice_of(change, after, at)
        // Whether there is room for it or not, the change is made.
        && has_room(db, &notice.key()).await?
    {
        write(db, &notice, at, Some(session)).await?;
    }
    Ok(())
}

pub(super) fn record(document: &Document) -> Option<MailRow> {
    let at = |field| document.get_datetime(field).ok().map(|date| time(*date));
    Some(MailRow { mail: mail(document)?, due: at("due")?, until: at("until")?, attempts: attempts(document) })
}

pub(super) fn document(row: &MailRow) -> Result<Document, Fault> {
    let MailRow { mail, due, until, attempts } = row;
    let mut document = doc! {
        "_id": mail.key(),
        "kind": mail.kind(),
        "body": body(mail)?,
        "due": date(*due),
        "until": date(*until),
        "attempts": i64::from(*attempts),
        "revision": drawn(),
    };
    document.extend(mail.member().map(|member| ("member_id".to_owned(), member_oid(member).into())));
    Ok(document)
}

pub(super) fn link_record(document: &Document) -> Option<LinkRow> {
    let at = |field| document.get_datetime(field).ok().map(|date| time(*date));
    let purpose = word("purpose", document.get_str("purpose").ok()?, &Purpose::ALL, Purpose::as_str).ok()?;
    Some(LinkRow {
        hash: bytes_of(document, "_id")?,
        member: MemberId::from_bytes(document.get_object_id("member_id").ok()?.bytes()),
        purpose,
        made_at: at("made_at")?,
        expires_at: at("expires_at")?,
        is_over: document.get_bool("is_over").ok()?,
    })
}

pub(super) fn link_document(row: &LinkRow) -> Document {
    let LinkRow { hash, member, purpose, made_at, expires_at, is_over } = row;
    doc! {
        "_id": binary(hash),
        "member_id": member_oid(*member),
        "purpose": purpose.as_str(),
        "made_at": date(*made_at),
        "expires_at": date(*expires_at),
        "is_over": is_over,
    }
}

async fn take(db: &Db, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, Fault> {
    let mut due = known();
    due.insert("due", doc! { "$lte": date(now) });
    let take = doc! { "$set": { "due": date(until) }, "$inc": { "attempts": 1_i64 } };
    let taken = db
        .collection::<Document>("mail")
        .find_one_and_update(due, take)
        .sort(doc! { "due": 1 })
        .return_document(ReturnDocument::After)
        .max_time(db.max_time)
        .await?;
    let Some(taken) = taken else { return Ok(None) };
    let revision = taken.get_i64("revision").map_err(|error| Fault::Data(error.to_string()))?;
    let row = record(&taken).ok_or_else(|| Fault::Data("a document of mail lacks a field".to_owned()))?;
    let MailRow { mail, until, attempts, .. } = row;
    Ok(Some(TakenMail { mail, attempts, until, revision }))
}

async fn waiting(db: &Db) -> Result<WaitingMail, Fault> {
    let count = db.collection::<Document>("mail").estimated_document_count().max_time(db.max_time).await?;
    let first = FindOneOptions::builder().sort(doc! { "due": 1 }).projection(doc! { "due": 1 }).build();
    let first: Option<Document> = db.one("mail", known(), first).await?;
    let next = first.and_then(|first| first.get_datetime("due").ok().map(|due| time(*due)));
    Ok(WaitingMail { count, next })
}

/// The same mail, unless another one has taken its place since it was taken.
fn still(taken: &TakenMail) -> Document {
    doc! { "_id": taken.mail.key(), "revision": taken.revision }
}

#[async_trait]
impl MailStore for Mongo {
    async fn add(&self, mail: Mail, at: Timestamp) -> Result<(), StoreError> {
        let added = self.write(Caller::System, async move |_, db| add(&db, &mail, at).await).await?;
        if added { Ok(()) } else { Err(StoreError::Overloaded) }
    }

    async fn issue(&self, link: NewLink) -> Result<bool, StoreError> {
        let issued = self.write(Caller::System, async move |_, db| issue(&db, link).await).await?;
        issued.ok_or(StoreError::Overloaded)
    }

    async fn link(
        &self,
        by: Caller,
        hash: LinkHash,
        purpose: Purpose,
        at: Timestamp,
    ) -> Result<Option<MemberId>, StoreError> {
        self.read(Turn::of(by), async move |_, db| link(&db, hash, purpose, at).await).await
    }

    async fn take(&self, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, StoreError> {
        self.write(Caller::System, async move |_, db| take(&db, now, until).await).await
    }

    async fn finish(&self, taken: TakenMail) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| {
            db.collection::<Document>("mail").delete_one(still(&taken)).await?;
            Ok(())
        })
        .await
    }

    async fn postpone(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| {
            let later = doc! { "$set": { "due": date(due) } };
            db.collection::<Document>("mail").update_one(still(&taken), later).await?;
            Ok(())
        })
        .await
    }

    async fn waiting(&self) -> Result<WaitingMail, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| waiting(&db).await).await
    }

    async fn expire(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(Caller::System, async move |_, db| {
            let over = doc! { "until": { "$lte": date(now) } };
            Ok(db.collection::<Document>("mail").delete_many(over).await?.deleted_count)
        })
        .await
    }

    async fn purge_links(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(Caller::System, async move |_, db| {
            let old = doc! { "made_at": { "$lte": date(forgotten_at(now)) } };
            Ok(db.collection::<Document>("links").delete_many(old).await?.deleted_count)
        })
        .await
    }
}
