//! The links in mails.

use std::sync::Arc;

use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Bson, Document, doc},
    options::FindOneOptions,
};
use protocol::{InvitationId, MemberId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        audit,
        db::Db,
        document::{binary, bytes_of, date, invitation_oid, member_oid, signed, time, unsigned, word},
        fault::Fault,
        members::transaction,
    },
    room::{is_there, make_room},
    write,
};
use crate::{
    store::{
        archive::LinkRow,
        audit::AuditRecord,
        changes::Change,
        mail::{AskedFrom, Claim, GoodLink, Issue, LinkHash, NewLink, Purpose, Room, TokenId, forgotten_at},
        members::{MemberRecord, email_key},
        turns::Caller,
    },
    telemetry::Metrics,
};

/// Nothing if the queue is full, true if a mail was written, false if none was.
pub(super) async fn issue(db: &Db, metrics: &Arc<Metrics>, by: Caller, link: NewLink) -> Result<Option<bool>, Fault> {
    let own = (db.clone(), Arc::clone(metrics));
    let never = CancellationToken::new();
    let issued = transaction(db, &never, move |session| {
        let ((db, metrics), link) = (own.clone(), link.clone());
        async move { issue_in(&db, &metrics, session, by, &link).await }.boxed()
    });
    Ok(issued.await?.unwrap_or(Some(false)))
}

pub(super) async fn issue_in(
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
pub(in crate::store::mongo) async fn links_of(
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
pub(in crate::store::mongo) async fn write_link(
    db: &Db,
    session: &mut ClientSession,
    row: &LinkRow,
) -> Result<(), Fault> {
    let links = db.collection::<Document>("links");
    links.insert_one(link_document(row)).session(session).await?;
    Ok(())
}

/// Whether a link is known, good or not.
pub(in crate::store::mongo) async fn is_link(db: &Db, hash: LinkHash) -> Result<bool, Fault> {
    let found: Option<Document> = db.one("links", doc! { "_id": binary(&hash) }, FindOneOptions::default()).await?;
    Ok(found.is_some())
}

/// Which link is good.
pub(super) fn good(hash: LinkHash, purpose: Purpose, at: Timestamp) -> Document {
    doc! { "_id": binary(&hash), "purpose": purpose.as_str(), "expires_at": { "$gt": date(at) }, "is_over": false }
}

pub(super) async fn link(db: &Db, hash: LinkHash, purpose: Purpose, at: Timestamp) -> Result<Option<GoodLink>, Fault> {
    let found: Option<Document> = db.one("links", good(hash, purpose, at), FindOneOptions::default()).await?;
    Ok(found.as_ref().and_then(good_link))
}

pub(super) fn good_link(document: &Document) -> Option<GoodLink> {
    let LinkRow { member, expires_at: until, token, email, credentials, .. } = link_record(document)?;
    Some(GoodLink { member, until, was_mailed: token.is_some(), email, credentials })
}

/// Uses up the link that a change of a member takes, if it takes one, and all others of its purpose. False if that is not good for them.
pub(in crate::store::mongo) async fn use_up(
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
pub(in crate::store::mongo) async fn end_all(
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

pub(in crate::store::mongo) fn link_record(document: &Document) -> Option<LinkRow> {
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

pub(in crate::store::mongo) fn link_document(row: &LinkRow) -> Document {
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

pub(super) async fn hand_out(db: &Db, link: LinkRow, entry: AuditRecord) -> Result<(), Fault> {
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
