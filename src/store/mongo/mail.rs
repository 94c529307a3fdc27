//! Mail that is to be sent, and the links in it.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Bson, Document, doc},
    options::{FindOneOptions, ReturnDocument},
};
use protocol::{InvitationId, MemberId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    Mongo, audit, claims,
    db::Db,
    document::{binary, bytes_of, date, invitation_oid, member_oid, signed, time, unsigned, word},
    email_change,
    fault::Fault,
    members::transaction,
};
use crate::store::{
    MailStore, StoreError,
    archive::{LinkRow, MailRow},
    audit::AuditRecord,
    changes::Change,
    mail::{
        ASIDE_OF_MEMBERS, ASIDE_OF_STRANGERS, Asked, AskedChange, AskedFrom, Claim, DISPLACED, Expired, FIRST_TURN,
        GoodLink, Issue, Kind, LINK_LIFETIME, LinkHash, MEMBERS_MAX, Mail, NEW_DEVICES_MAX, NOTICE_LIFETIME, NewChange,
        NewLink, Part, Purpose, Room, SHARE_MAX, STRANGERS_MAX, TO_FORMER, TakenMail, TokenId, WaitingMail, aside,
        ended_links, forgotten_at, keys_of_address, notice_of, outlives, turn,
    },
    members::{MemberRecord, email_key},
    turns::{Caller, Turn},
};
use crate::telemetry::Metrics;

fn mail(document: &Document) -> Option<Mail> {
    serde_json::from_str(document.get_str("body").ok()?).ok()
}

fn body(mail: &Mail) -> Result<String, Fault> {
    serde_json::to_string(mail).map_err(|error| Fault::Data(error.to_string()))
}

/// Of a kind that this server knows.
fn known() -> Document {
    doc! { "kind": { "$in": Kind::names_of(|_| true) } }
}

/// A revision: an id that is used once, shortened.
fn drawn() -> i64 {
    let [_, _, _, _, rest @ ..] = mongodb::bson::oid::ObjectId::new().bytes();
    i64::from_be_bytes(rest)
}

fn attempts(document: &Document) -> u32 {
    u32::try_from(document.get_i64("attempts").unwrap_or(0)).unwrap_or(u32::MAX)
}

/// What strangers have written, with a turn from this one on.
fn of_strangers(turn: i64) -> Document {
    doc! { "kind": { "$in": Kind::names_of(Kind::is_of_strangers) }, "turn": { "$gte": turn } }
}

/// Whether there is room for a further mail of a kind, after another one has given way where that is what the room is for. Several nodes that
/// ask at the same moment may go a little beyond it.
pub(super) async fn make_room(
    db: &Db,
    metrics: &Metrics,
    (kind, key): (Kind, &str),
    Room { part, share }: Room,
) -> Result<bool, Fault> {
    let (mail, never_full) = (db.collection::<Document>("mail"), part == Part::Made);
    // All together are counted without looking at them.
    let most = if share.is_some() { STRANGERS_MAX } else { MEMBERS_MAX };
    let has_place = never_full || {
        let all = mail.estimated_document_count().max_time(db.max_time).await?;
        all < most || {
            let mut own = of_strangers(ASIDE_OF_STRANGERS);
            if share.is_none() {
                own = known();
                own.insert("turn", doc! { "$in": [Bson::Null, Bson::Int64(ASIDE_OF_MEMBERS)] });
            }
            mail.count_documents(own).limit(most).max_time(db.max_time).await? < most
        }
    };
    let Some(share) = share.filter(|_| !never_full) else {
        return Ok(has_place || is_there(db, key).await?);
    };
    let own = doc! { "share": share.to_string() };
    let has_share = mail.count_documents(own).limit(SHARE_MAX).max_time(db.max_time).await? < SHARE_MAX;
    if (has_place && has_share) || is_there(db, key).await? {
        return Ok(true);
    }
    if !has_share {
        return Ok(false);
    }
    let mut set_aside = of_strangers(ASIDE_OF_STRANGERS);
    set_aside.insert("turn", ASIDE_OF_STRANGERS);
    let set_aside: Option<Document> = db.one("mail", set_aside, by_turn(-1)).await?;
    let last = match set_aside {
        Some(set_aside) => set_aside,
        None => {
            let last: Option<Document> = db.one("mail", of_strangers(0), by_turn(-1)).await?;
            let Some(last) = last else { return Ok(true) };
            if turn_of(db, kind, share).await? >= last.get_i64("turn").unwrap_or(0) {
                return Ok(false);
            }
            last
        }
    };
    if let Some(gone) = mail.find_one_and_delete(doc! { "_id": last.get("_id") }).max_time(db.max_time).await? {
        if let Some((own, unsent)) = self::mail(&gone).as_ref().and_then(not_sent) {
            db.collection::<Document>("links").update_one(own, unsent).await?;
        }
        let kind = last.get_str("kind").ok().and_then(Kind::of);
        metrics.mail(kind.map_or("unknown", Kind::as_str), DISPLACED);
    }
    Ok(true)
}

/// Has the link that a mail was to bring which nobody gets count as not sent: which one, and what becomes of it.
fn not_sent(mail: &Mail) -> Option<(Document, Document)> {
    let (member, TokenId(token)) = mail.link()?;
    let own = doc! { "member_id": member_oid(member), "token": binary(&token) };
    Some((own, doc! { "$set": { "sent": 0_i64, "asked": Vec::<String>::new() } }))
}

async fn is_there(db: &Db, key: &str) -> Result<bool, Fault> {
    let found: Option<Document> = db.one("mail", doc! { "_id": key }, FindOneOptions::default()).await?;
    Ok(found.is_some())
}

fn by_turn(order: i32) -> FindOneOptions {
    FindOneOptions::builder().sort(doc! { "turn": order }).projection(doc! { "turn": 1, "kind": 1 }).build()
}

/// The turn of a mail that is of a share. Several that are written at the same moment may have the same.
async fn turn_of(db: &Db, kind: Kind, share: AskedFrom) -> Result<i64, Fault> {
    let turn_in = |found: Option<Document>| found.and_then(|found| found.get_i64("turn").ok());
    let own = doc! { "share": share.to_string(), "kind": { "$in": kind.in_turn_with() } };
    let last = turn_in(db.one("mail", own, by_turn(-1)).await?);
    let next = turn_in(db.one("mail", of_strangers(0), by_turn(1)).await?);
    Ok(turn(kind, last, next))
}

/// Writes a mail that is due now, in a transaction if there is one. One that takes the place of one that waits has its turn, so that whoever
/// else asks for it does not have it sent later.
pub(super) async fn write(
    db: &Db,
    mail: &Mail,
    room: Room,
    at: Timestamp,
    session: Option<&mut ClientSession>,
) -> Result<(), Fault> {
    let row = MailRow { mail: mail.clone(), due: at, until: at.after(mail.lifetime()), attempts: 0 };
    let mut document = document(&row, None)?;
    let mut former: Option<Document> = None;
    if room != Room::MEMBERS {
        former = db.one("mail", doc! { "_id": mail.key() }, FindOneOptions::default()).await?;
        // What was set aside has a place like others again.
        former = former.filter(|former| former.get_i64("turn").unwrap_or(0) >= 0);
    }
    match (former, room.share) {
        (Some(mut former), _) => {
            let place = ["share", "turn"].into_iter().filter_map(|field| Some((field, former.remove(field)?)));
            document.extend(place.map(|(field, value)| (field.to_owned(), value)));
        }
        (None, Some(share)) => {
            document.insert("share", share.to_string());
            document.insert("turn", turn_of(db, mail.kind(), share).await?);
        }
        (None, None) if room.part == Part::Made => drop(document.insert("turn", FIRST_TURN)),
        (None, None) => {}
    }
    let collection = db.collection::<Document>("mail");
    let replace = collection.replace_one(doc! { "_id": mail.key() }, document).upsert(true);
    match session {
        Some(session) => replace.session(session).await?,
        None => replace.await?,
    };
    Ok(())
}

async fn add(db: &Db, metrics: &Metrics, mail: &Mail, at: Timestamp) -> Result<bool, Fault> {
    let room = Room::of(mail);
    if !make_room(db, metrics, (mail.kind(), &mail.key()), room).await? {
        return Ok(false);
    }
    write(db, mail, room, at, None).await.map(|()| true)
}

/// Writes what something that happens tells its member, in the transaction of that, whether there is room or not: a queue that a
/// stranger has filled must not hide it. A member has one of each kind, and so many of new devices.
/// Whoever calls this has written the member's document, so that two of one member meet.
pub(super) async fn tell(db: &Db, session: &mut ClientSession, notice: &Mail, at: Timestamp) -> Result<(), Fault> {
    if let Mail::NewDevice { member, .. } = notice {
        let mail = db.collection::<Document>("mail");
        let theirs = doc! { "member_id": member_oid(*member), "kind": notice.kind().as_str() };
        let limit = i64::try_from(NEW_DEVICES_MAX).unwrap_or(i64::MAX);
        let newest = mail.find(theirs).sort(doc! { "until": -1, "_id": -1 }).limit(limit);
        let mut newest = newest.session(&mut *session).await?;
        let (mut waiting, mut last) = (0, None);
        while let Some(found) = newest.next(&mut *session).await.transpose()? {
            waiting += 1;
            last = last.or(Some(found));
        }
        if waiting >= NEW_DEVICES_MAX {
            let last = last.as_ref().and_then(self::mail).and_then(Mail::and_more);
            return match last {
                Some(last) => write(db, &last, Room::MEMBERS, at, Some(session)).await,
                None => Ok(()),
            };
        }
    }
    write(db, notice, Room::MEMBERS, at, Some(session)).await
}

/// Nothing if the queue is full, true if a mail was written, false if none was.
async fn issue(db: &Db, metrics: &Arc<Metrics>, by: Caller, link: NewLink) -> Result<Option<bool>, Fault> {
    let own = (db.clone(), Arc::clone(metrics));
    let never = CancellationToken::new();
    let issued = transaction(db, &never, move |session| {
        let ((db, metrics), link) = (own.clone(), link.clone());
        async move { issue_in(&db, &metrics, session, by, &link).await }.boxed()
    });
    Ok(issued.await?.unwrap_or(Some(false)))
}

async fn issue_in(
    db: &Db,
    metrics: &Metrics,
    session: &mut ClientSession,
    by: Caller,
    link: &NewLink,
) -> Result<Option<bool>, Fault> {
    let &NewLink { member, purpose, at, .. } = link;
    // Two at the same moment must meet, and so must a change that ends links.
    let meet = doc! { "$inc": { "met": 1_i64 } };
    let members = db.collection::<Document>("members");
    let found = members.find_one_and_update(doc! { "_id": member_oid(member) }, meet).session(&mut *session).await?;
    let must_verify = found.is_some_and(|found| found.get_bool("must_verify").unwrap_or(false));
    let links = db.collection::<Document>("links");
    let theirs = links_of(db, session, member, at).await?;
    let room = Room::of_link(by, must_verify, link.asked);
    let once_more = doc! { "$inc": { "sent": 1_i64 }, "$push": { "asked": link.asked.to_string() } };
    let (mail, again) = match link.issue(must_verify, &theirs) {
        Issue::Nothing => return Ok(Some(false)),
        Issue::New => (link.mail(), None),
        Issue::Again(hash, token) => (purpose.mail(member, token), Some((hash, once_more))),
        Issue::Unsent(hash, token) => {
            let asked = vec![link.asked.to_string()];
            let sent = doc! { "sent": 1_i64, "asked": asked, "expires_at": date(link.good_until()) };
            (purpose.mail(member, token), Some((hash, doc! { "$set": sent })))
        }
        Issue::Longer(hash, token) => {
            let longer = doc! { "$set": { "expires_at": date(link.good_until()) } };
            links.update_one(doc! { "_id": binary(&hash) }, longer).session(&mut *session).await?;
            let mail = purpose.mail(member, token);
            if is_there(db, &mail.key()).await? {
                write(db, &mail, room, at, Some(session)).await?;
            }
            return Ok(Some(false));
        }
    };
    if !make_room(db, metrics, (mail.kind(), &mail.key()), room).await? {
        return Ok(None);
    }
    match again {
        None => write_link(db, session, &link.row()).await?,
        Some((hash, change)) => {
            let own = doc! { "_id": binary(&hash) };
            links.update_one(own, change).session(&mut *session).await?;
        }
    }
    write(db, &mail, room, at, Some(session)).await.map(|()| Some(true))
}

/// The links of a member that count for something: those of the time that is not forgotten, and those that are good.
pub(super) async fn links_of(
    db: &Db,
    session: &mut ClientSession,
    member: MemberId,
    at: Timestamp,
) -> Result<Vec<LinkRow>, Fault> {
    let since = doc! {
        "member_id": member_oid(member),
        "$or": [{ "made_at": { "$gt": date(forgotten_at(at)) } }, { "expires_at": { "$gt": date(at) } }],
    };
    let mut found = db.collection::<Document>("links").find(since).session(&mut *session).await?;
    let mut theirs = Vec::new();
    while let Some(found) = found.next(&mut *session).await.transpose()? {
        theirs.extend(link_record(&found));
    }
    Ok(theirs)
}

/// Writes a link alone.
pub(super) async fn write_link(db: &Db, session: &mut ClientSession, row: &LinkRow) -> Result<(), Fault> {
    let links = db.collection::<Document>("links");
    links.insert_one(link_document(row)).session(session).await?;
    Ok(())
}

/// Whether a link is known, good or not.
pub(super) async fn is_link(db: &Db, hash: LinkHash) -> Result<bool, Fault> {
    let found: Option<Document> = db.one("links", doc! { "_id": binary(&hash) }, FindOneOptions::default()).await?;
    Ok(found.is_some())
}

/// Which link is good.
fn good(hash: LinkHash, purpose: Purpose, at: Timestamp) -> Document {
    doc! { "_id": binary(&hash), "purpose": purpose.as_str(), "expires_at": { "$gt": date(at) }, "is_over": false }
}

async fn link(db: &Db, hash: LinkHash, purpose: Purpose, at: Timestamp) -> Result<Option<GoodLink>, Fault> {
    let found: Option<Document> = db.one("links", good(hash, purpose, at), FindOneOptions::default()).await?;
    Ok(found.as_ref().and_then(good_link))
}

fn good_link(document: &Document) -> Option<GoodLink> {
    let LinkRow { member, expires_at: until, token, email, credentials, .. } = link_record(document)?;
    Some(GoodLink { member, until, was_mailed: token.is_some(), email, credentials })
}

/// Uses up the link that a change of a member takes, if it takes one, and all others of its purpose. False if that is not good for them.
pub(super) async fn use_up(
    db: &Db,
    session: &mut ClientSession,
    change: &Change,
    before: &MemberRecord,
    at: Timestamp,
) -> Result<bool, Fault> {
    let Some((hash, purpose)) = change.link() else { return Ok(true) };
    let links = db.collection::<Document>("links");
    let found = links.find_one(good(hash, purpose, at)).session(&mut *session).await?;
    let is_good = found.as_ref().and_then(good_link).is_some_and(|link| link.is_for(before, at));
    if is_good {
        // It is written, so that two with one link meet.
        end_all(db, session, before.profile.id, purpose).await?;
    }
    Ok(is_good)
}

/// Ends the links of a member for a purpose.
pub(super) async fn end_all(
    db: &Db,
    session: &mut ClientSession,
    member: MemberId,
    purpose: Purpose,
) -> Result<(), Fault> {
    let theirs = doc! { "member_id": member_oid(member), "purpose": purpose.as_str() };
    let over = doc! { "$set": { "is_over": true } };
    db.collection::<Document>("links").update_many(theirs, over).session(session).await?;
    Ok(())
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
    if after.is_erased {
        if outlives(before) {
            pin_notices(db, session, member, &before.profile.email, at).await?;
        }
        forget(db, session, member, &before.profile.email).await?;
        claims::forget(db, session, &before.profile.email).await?;
    } else {
        for purpose in ended_links(change, before, after) {
            end_all(db, session, member, *purpose).await?;
        }
    }
    if !after.is_erased && before.profile.email != after.profile.email {
        pin_notices(db, session, member, &before.profile.email, at).await?;
    }
    match notice_of(change, before, after, at) {
        Some(notice) => tell(db, session, &notice, at).await,
        None => Ok(()),
    }
}

/// Has the notices that wait for a member sent to the address that they were written for, though it is theirs no more. They are due at once: who
/// has one in hand does not finish with it any more.
async fn pin_notices(
    db: &Db,
    session: &mut ClientSession,
    member: MemberId,
    former: &str,
    at: Timestamp,
) -> Result<(), Fault> {
    let mails = db.collection::<Document>("mail");
    let mut found = mails.find(doc! { "member_id": member_oid(member) }).session(&mut *session).await?;
    let mut waiting = Vec::new();
    while let Some(found) = found.next(&mut *session).await.transpose()? {
        waiting.push(found);
    }
    for mut document in waiting {
        let Some(pinned) = mail(&document).and_then(|notice| notice.for_former(former)) else { continue };
        // What a document is found by cannot be changed.
        mails.delete_one(doc! { "_id": document.get("_id") }).session(&mut *session).await?;
        let key = pinned.key();
        document
            .extend(doc! { "_id": &key, "kind": pinned.kind().as_str(), "body": body(&pinned)?, "due": date(at), "revision": drawn() });
        mails.replace_one(doc! { "_id": key }, document).upsert(true).session(&mut *session).await?;
    }
    Ok(())
}

/// Removes the links of a member who is gone, and the mail to them and about their address; not what tells former addresses.
pub(super) async fn forget(db: &Db, session: &mut ClientSession, member: MemberId, email: &str) -> Result<(), Fault> {
    let own = doc! { "member_id": member_oid(member) };
    db.collection::<Document>("links").delete_many(own.clone()).session(&mut *session).await?;
    let mail = db.collection::<Document>("mail");
    let mut to_them = own;
    to_them.insert("kind", doc! { "$nin": TO_FORMER.to_vec() });
    mail.delete_many(to_them).session(&mut *session).await?;
    for key in keys_of_address(email) {
        // The zero is what comes after a slash.
        let about = doc! { "$gte": &key, "$lt": format!("{key}0") };
        mail.delete_many(doc! { "_id": about }).session(&mut *session).await?;
    }
    Ok(())
}

pub(super) fn record(document: &Document) -> Option<MailRow> {
    let at = |field| document.get_datetime(field).ok().map(|date| time(*date));
    Some(MailRow { mail: mail(document)?, due: at("due")?, until: at("until")?, attempts: attempts(document) })
}

/// A mail as it is stored, with its turn, if it is one that strangers have asked for. Without one it is sent before those that have one.
pub(super) fn document(row: &MailRow, turn: Option<i64>) -> Result<Document, Fault> {
    let MailRow { mail, due, until, attempts } = row;
    let mut document = doc! {
        "_id": mail.key(),
        "kind": mail.kind().as_str(),
        "body": body(mail)?,
        "due": date(*due),
        "until": date(*until),
        "attempts": i64::from(*attempts),
        "revision": drawn(),
    };
    document.extend(mail.member().map(|member| ("member_id".to_owned(), member_oid(member).into())));
    if let Some((turn, share)) = turn.zip(mail.asked()) {
        document.extend([("share".to_owned(), share.to_string().into()), ("turn".to_owned(), turn.into())]);
    }
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
        token: document
            .get_binary_generic("token")
            .ok()
            .and_then(|token| token.as_slice().try_into().ok())
            .map(TokenId),
        sent: document.get_i64("sent").map_or(1, |sent| u32::try_from(sent).unwrap_or(u32::MAX)),
        asked: document.get_array("asked").map_or_else(
            |_| Vec::new(),
            |asked| asked.iter().filter_map(Bson::as_str).flat_map(AskedFrom::all_of).collect(),
        ),
        claim: document.get_bool("is_claim").unwrap_or(false).then(|| Claim {
            invitation: document.get_object_id("invitation_id").ok().map(|id| InvitationId::from_bytes(id.bytes())),
            address: bytes_of(document, "address"),
        }),
        email: document.get_str("email").ok().map(str::to_owned),
        credentials: document.get_i64("credentials").ok().map(unsigned),
    })
}

pub(super) fn link_document(row: &LinkRow) -> Document {
    let LinkRow { hash, member, purpose, made_at, expires_at, is_over, token, sent, asked, .. } = row;
    let LinkRow { claim, email, credentials, .. } = row;
    let mut document = doc! {
        "_id": binary(hash),
        "member_id": member_oid(*member),
        "purpose": purpose.as_str(),
        "made_at": date(*made_at),
        "expires_at": date(*expires_at),
        "is_over": is_over,
        "token": token.map(|token| binary(&token.0)),
        "sent": i64::from(*sent),
        "asked": asked.iter().map(ToString::to_string).collect::<Vec<_>>(),
    };
    if let Some(email) = email {
        document.extend(doc! { "email": email, "email_key": email_key(email) });
    }
    document.extend(credentials.map(|credentials| ("credentials".to_owned(), signed(credentials).into())));
    if let Some(Claim { invitation, address }) = claim {
        document.insert("is_claim", true);
        document.extend(invitation.map(|id| ("invitation_id".to_owned(), invitation_oid(id).into())));
        document.extend(address.map(|address| ("address".to_owned(), binary(&address).into())));
    }
    document
}

async fn take(db: &Db, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, Fault> {
    let with_turn = || doc! { "$gte": 0_i64 }.into();
    let wanted = [
        (Kind::names_of(|_| true), Bson::Null),
        (Kind::names_of(|kind| !kind.is_of_strangers()), with_turn()),
        (Kind::names_of(Kind::is_of_strangers), with_turn()),
    ];
    for (names, turn) in wanted {
        let due = doc! { "kind": { "$in": names }, "turn": turn, "due": { "$lte": date(now) } };
        if let Some(taken) = take_first(db, due, doc! { "turn": 1, "due": 1 }, (now, until)).await? {
            return Ok(Some(taken));
        }
    }
    take_aside(db, now, until).await
}

/// Takes the first that is due of those that were set aside.
async fn take_aside(db: &Db, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, Fault> {
    let mut due = known();
    due.extend(doc! { "turn": { "$lt": 0_i64 }, "due": { "$lte": date(now) } });
    take_first(db, due, doc! { "due": 1 }, (now, until)).await
}

/// Takes the first of those that are due. The index has it for each kind, so that no others are looked at.
async fn take_first(
    db: &Db,
    due: Document,
    order: Document,
    (now, until): (Timestamp, Timestamp),
) -> Result<Option<TakenMail>, Fault> {
    let take = doc! { "$set": { "due": date(until) }, "$inc": { "attempts": 1_i64 } };
    let taken = db
        .collection::<Document>("mail")
        .find_one_and_update(due, take)
        .sort(order)
        .return_document(ReturnDocument::After)
        .max_time(db.max_time)
        .await?;
    let Some(taken) = taken else { return Ok(None) };
    let lacks = |field: &str| Fault::Data(format!("a document of mail lacks {field}"));
    let kind = taken.get_str("kind").ok().and_then(Kind::of).ok_or_else(|| lacks("its kind"))?;
    let key = taken.get_str("_id").map_err(|_| lacks("its key"))?.to_owned();
    let revision = taken.get_i64("revision").map_err(|_| lacks("its revision"))?;
    // What cannot be read must not stay the first that is due: it is taken like others.
    let row = record(&taken);
    let until = row.as_ref().map_or(now, |row| row.until);
    let mut taken = TakenMail { key, kind, mail: row.map(|row| row.mail), attempts: attempts(&taken), until, revision };
    if let Some(until) = taken.longer_until(now) {
        let prolong = doc! { "$set": { "until": date(until) } };
        db.collection::<Document>("mail").update_one(still(&taken), prolong).await?;
        taken.until = until;
    }
    Ok(Some(taken))
}

async fn hand_out(db: &Db, link: LinkRow, entry: AuditRecord) -> Result<(), Fault> {
    let (own, never) = (db.clone(), CancellationToken::new());
    let written = transaction(db, &never, move |session| {
        let (db, link, entry) = (own.clone(), link_document(&link), entry.clone());
        async move {
            db.collection::<Document>("links").insert_one(link).session(&mut *session).await?;
            audit::append(&db, &entry, Some(session)).await
        }
        .boxed()
    });
    written.await.map(drop)
}

async fn give_up(db: &Db, taken: TakenMail) -> Result<(), Fault> {
    let (own, never) = (db.clone(), CancellationToken::new());
    let done = transaction(db, &never, move |session| {
        let (db, taken) = (own.clone(), taken.clone());
        async move {
            let gone = db.collection::<Document>("mail").delete_one(still(&taken)).session(&mut *session).await?;
            let mail = taken.mail.as_ref().filter(|_| gone.deleted_count > 0);
            let Some((own, unsent)) = mail.and_then(not_sent) else { return Ok(()) };
            db.collection::<Document>("links").update_one(own, unsent).session(session).await?;
            Ok(())
        }
        .boxed()
    });
    done.await.map(drop)
}

async fn waiting(db: &Db) -> Result<WaitingMail, Fault> {
    let count = db.collection::<Document>("mail").estimated_document_count().max_time(db.max_time).await?;
    let first = FindOneOptions::builder().sort(doc! { "due": 1 }).projection(doc! { "due": 1 }).build();
    let first: Option<Document> = db.one("mail", known(), first).await?;
    let next = first.and_then(|first| first.get_datetime("due").ok().map(|due| time(*due)));
    Ok(WaitingMail { count, next })
}

async fn oldest(db: &Db) -> Result<Option<Timestamp>, Fault> {
    let mut firsts = Vec::new();
    for lifetime in [LINK_LIFETIME, NOTICE_LIFETIME] {
        let names = Kind::names_of(|kind| kind.lifetime() == lifetime);
        let first = FindOneOptions::builder().sort(doc! { "until": 1 }).projection(doc! { "until": 1 }).build();
        let first: Option<Document> = db.one("mail", doc! { "kind": { "$in": names } }, first).await?;
        let until = first.and_then(|first| first.get_datetime("until").ok().map(|until| time(*until)));
        firsts.push((lifetime, until));
    }
    Ok(Kind::oldest(firsts))
}

/// The same mail, unless another one has taken its place since it was taken.
fn still(taken: &TakenMail) -> Document {
    doc! { "_id": &taken.key, "revision": taken.revision }
}

#[async_trait]
impl MailStore for Mongo {
    async fn add(&self, by: Caller, mail: Mail, at: Timestamp) -> Result<(), StoreError> {
        let added = self.write(by, async move |core, db| add(&db, &core.metrics, &mail, at).await).await?;
        if added { Ok(()) } else { Err(StoreError::Overloaded) }
    }

    async fn issue(&self, by: Caller, link: NewLink) -> Result<bool, StoreError> {
        let issued = self.write(by, async move |core, db| issue(&db, &core.metrics, by, link).await).await?;
        issued.ok_or(StoreError::Overloaded)
    }

    async fn issue_change(&self, change: NewChange) -> Result<Asked, StoreError> {
        let by = Caller::Member(change.link.member);
        let issued =
            self.write(by, async move |core, db| email_change::issue(&db, &core.metrics, change).await).await?;
        issued.ok_or(StoreError::Overloaded)
    }

    async fn asked_changes(&self, member: MemberId) -> Result<Vec<AskedChange>, StoreError> {
        self.read(Turn::light(member), async move |_, db| email_change::asked(&db, member).await).await
    }

    async fn hand_out(&self, link: LinkRow, entry: AuditRecord) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| hand_out(&db, link, entry).await).await
    }

    async fn link(
        &self,
        by: Caller,
        hash: LinkHash,
        purpose: Purpose,
        at: Timestamp,
    ) -> Result<Option<GoodLink>, StoreError> {
        self.read(Turn::of(by), async move |_, db| link(&db, hash, purpose, at).await).await
    }

    async fn take(&self, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, StoreError> {
        self.write(Caller::System, async move |_, db| take(&db, now, until).await).await
    }

    async fn take_aside(&self, now: Timestamp, until: Timestamp) -> Result<Option<TakenMail>, StoreError> {
        self.write(Caller::System, async move |_, db| take_aside(&db, now, until).await).await
    }

    async fn finish(&self, taken: TakenMail) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| {
            db.collection::<Document>("mail").delete_one(still(&taken)).await?;
            Ok(())
        })
        .await
    }

    async fn give_up(&self, taken: TakenMail) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| give_up(&db, taken).await).await
    }

    async fn postpone(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| {
            let later = doc! { "$set": { "due": date(due) } };
            db.collection::<Document>("mail").update_one(still(&taken), later).await?;
            Ok(())
        })
        .await
    }

    async fn set_aside(&self, taken: TakenMail, due: Timestamp) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| {
            let found: Option<Document> = db.one("mail", still(&taken), FindOneOptions::default()).await?;
            let Some(found) = found else { return Ok(()) };
            let turn = aside(taken.kind, found.get_i64("turn").ok());
            let later = doc! { "$set": { "due": date(due), "turn": turn } };
            db.collection::<Document>("mail").update_one(still(&taken), later).await?;
            Ok(())
        })
        .await
    }

    async fn hasten(&self, after: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        // Of all kinds, so that the index has them; two commands, each along it.
        let names = Kind::names_of(|_| true);
        let late = doc! { "kind": { "$in": &names }, "due": { "$gt": date(after) } };
        let untaken = doc! { "kind": { "$in": names }, "due": { "$gt": date(now) }, "attempts": 0_i64 };
        let wanted = [late, untaken];
        let look = wanted.clone();
        let is_late = self.read(Turn::SYSTEM, async move |_, db| {
            for wanted in look {
                let only = FindOneOptions::builder().projection(doc! { "_id": 1 }).build();
                if db.one::<Document>("mail", wanted, only).await?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        if !is_late.await? {
            return Ok(0);
        }
        self.write(Caller::System, async move |_, db| {
            let (due, mut hastened) = (doc! { "$set": { "due": date(now) } }, 0);
            for wanted in wanted {
                hastened += db.collection::<Document>("mail").update_many(wanted, due.clone()).await?.modified_count;
            }
            Ok(hastened)
        })
        .await
    }

    async fn waiting(&self) -> Result<WaitingMail, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| waiting(&db).await).await
    }

    async fn oldest(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| oldest(&db).await).await
    }

    async fn expire(&self, now: Timestamp, which: Expired) -> Result<u64, StoreError> {
        self.write(Caller::System, async move |_, db| {
            let mut over = doc! { "until": { "$lte": date(now) } };
            if which == Expired::Unknown {
                over.insert("$nor", vec![known()]);
            }
            Ok(db.collection::<Document>("mail").delete_many(over).await?.deleted_count)
        })
        .await
    }

    async fn purge_links(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(Caller::System, async move |_, db| {
            let old = doc! {
                "made_at": { "$lte": date(forgotten_at(now)) },
                "expires_at": { "$lte": date(now) },
                "is_claim": { "$ne": true },
            };
            Ok(db.collection::<Document>("links").delete_many(old).await?.deleted_count)
        })
        .await
    }
}
