//! Who comes in, and who is removed because they have not shown that the address is theirs.

use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Document, doc},
    options::{FindOneOptions, FindOptions},
};
use protocol::{MemberId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    addresses, audit, claims,
    db::Db,
    document::{MemberDoc, date, member_oid},
    fault::{Fault, is_duplicate},
    invitations, mail,
    members::{by_id, transaction, waiting},
};
use crate::store::{
    addresses::AddressKey,
    changes::Actor,
    invitations::use_of,
    mail::{Claim, Mail, Room, holds_use},
    members::{MemberRecord, NotRegistered, PURGED_AT_ONCE, Registration, Way, email_key},
};
use crate::telemetry::Metrics;

/// What became of somebody who registers.
type Registered = Result<MemberRecord, NotRegistered>;

/// How often it is tried with an address that another one has taken at the same moment.
const ATTEMPTS: u32 = 3;

/// Nothing, and nothing is written, if a link is to be sent and there is no room for its mail, or for who has to follow it.
/// `drawn`: the key of addresses, if there is none yet.
pub(super) async fn register(
    db: &Db,
    metrics: &Metrics,
    drawn: AddressKey,
    new: Registration,
) -> Result<Option<Registered>, Fault> {
    let (id, link) = (new.member.id, new.link.clone());
    for _ in 0..ATTEMPTS {
        // Both by an attempt whose answer was lost.
        if let Some(done) = by_id(db, id).await? {
            return Ok(Some(Ok(done)));
        }
        if let Some(link) = &link {
            if mail::is_link(db, link.hash).await? {
                break;
            }
            // Strangers take nobody's place who was invited: invitations have bounds of their own.
            let is_invited = matches!(new.way, Way::Invitation(_));
            let is_full = !is_invited && count_unverified(db, new.most_unverified).await? >= new.most_unverified;
            let (first, room) = (link.mail(), Room::of_registration(is_invited, link.asked));
            if is_full || !mail::make_room(db, metrics, (first.kind(), &first.key()), room).await? {
                return Ok(None);
            }
        }
        let own = db.clone();
        let never = CancellationToken::new();
        let wanted = new.clone();
        let made = transaction(db, &never, move |session| {
            let (db, new) = (own.clone(), wanted.clone());
            async move { register_in(&db, session, drawn, new).await }.boxed()
        });
        match made.await {
            Ok(made) => return Ok(Some(made.unwrap_or(Err(NotRegistered::InvitationInvalid)))),
            // Taken meanwhile, or ours: it is looked at once more.
            Err(Fault::Driver(error)) if is_duplicate(&error) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(Some(Err(NotRegistered::EmailTaken)))
}

/// Up to so many, with those whose address is another's: nobody can tell by the bound which those are. Several that ask at the same moment may
/// go a little beyond it.
async fn count_unverified(db: &Db, most: u64) -> Result<u64, Fault> {
    let members = db.collection::<Document>("members");
    let count = members.count_documents(doc! { "must_verify": true }).limit(most).max_time(db.max_time).await?;
    // No limit is one of 0 to MongoDB.
    let left = most.saturating_sub(count);
    Ok(if left == 0 { count } else { count + claims::count(db, left).await? })
}

async fn register_in(
    db: &Db,
    session: &mut ClientSession,
    drawn: AddressKey,
    new: Registration,
) -> Result<Registered, Fault> {
    let Registration { member, way, from, link, .. } = new;
    let (id, at, email) = (member.id, member.created_at, member.email.clone());
    let is_invited = matches!(way, Way::Invitation(_));
    let members = db.collection::<MemberDoc>("members");
    let same = doc! { "email_key": email_key(&email) };
    // Both are looked at in any case: nobody can tell one from the other.
    let is_barred = addresses::is_barred(db, session, &email).await?;
    let owner = members.find_one(same).session(&mut *session).await?.map(MemberDoc::into_record).transpose()?;
    let displaced = match &owner {
        Some(owner) if !is_barred && way.displaces(owner) && !has_talked(db, owner.profile.id).await? => {
            Some(owner.profile.id)
        }
        _ => None,
    };
    let is_taken = (owner.is_some() && displaced.is_none()) || is_barred;
    if is_taken && link.is_none() {
        return Ok(Err(NotRegistered::EmailTaken));
    }
    let record = member.into_record();
    let mut claim = Some(Claim::default());
    let record = match way {
        Way::Free => record,
        Way::Application { most } => {
            if !has_room(db, session, most).await? {
                return Ok(Err(NotRegistered::TooManyWaiting));
            }
            record.waiting()
        }
        Way::Invitation(invitation) => {
            let holds_use = is_taken
                && (holds_use(owner.as_ref(), invitation) || claims::holds(db, session, invitation, &email).await?);
            let taken = if holds_use {
                invitations::open(db, session, invitation, at).await?
            } else {
                invitations::take(db, session, invitation, at).await?
            };
            let Some(invitation) = taken else { return Ok(Err(NotRegistered::InvitationInvalid)) };
            if !holds_use {
                let by = Actor { member: (!is_taken).then_some(id), session: None, address: Some(from) };
                audit::append(db, &use_of(&invitation, id, by, at), Some(&mut *session)).await?;
            }
            let key = addresses::drawn_key(db, session, drawn).await?;
            claim = (!holds_use).then(|| Claim::by_invitation(invitation.id, key, &email));
            record.invited(&invitation)
        }
    };
    if let Some(displaced) = displaced {
        // Who has verified the address meanwhile keeps it: it is looked at once more.
        remove(db, session, doc! { "_id": member_oid(displaced), "must_verify": true }, at).await?;
    }
    if !is_taken {
        members.insert_one(MemberDoc::of(record.clone(), None)).session(&mut *session).await?;
    }
    if let Some(link) = &link {
        // Where the address is taken it is nobody's: what is known of this attempt.
        let (first, row) = if is_taken {
            (Mail::AddressTaken { email, asked: link.asked }, link.row_of_nobody(claim))
        } else {
            (link.mail(), link.row())
        };
        mail::write_link(db, session, &row).await?;
        let room = Room::of_registration(is_invited, link.asked);
        mail::write(db, &first, room, at, Some(session)).await?;
    }
    Ok(if is_taken { Err(NotRegistered::EmailTaken) } else { Ok(record) })
}

/// Whether one more may wait for an administrator. Of those who find room for one more at the same moment, one is it.
async fn has_room(db: &Db, session: &mut ClientSession, most: u64) -> Result<bool, Fault> {
    let meta = db.collection::<Document>("meta");
    let meet = doc! { "$inc": { "changes": 1_i64 } };
    meta.update_one(doc! { "_id": "applications" }, meet).upsert(true).session(&mut *session).await?;
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let ids = db.collection::<Document>("members");
    let mut found = ids.find(waiting()).projection(doc! { "_id": 1 }).limit(limit).session(&mut *session).await?;
    let mut count = 0;
    while found.next(&mut *session).await.transpose()?.is_some() {
        count += 1;
    }
    Ok(count < most)
}

pub(super) async fn purge_unverified(db: &Db, before: Timestamp, at: Timestamp) -> Result<usize, Fault> {
    let old = doc! { "must_verify": true, "created_at": { "$lt": date(before) } };
    let oldest_first = FindOptions::builder().sort(doc! { "created_at": 1 }).projection(doc! { "_id": 1 }).build();
    let old: Vec<Document> = db.all("members", old, oldest_first).await?;
    let mut removed = 0;
    for id in old.iter().filter_map(|old| old.get_object_id("_id").ok()) {
        if removed >= PURGED_AT_ONCE {
            break;
        }
        if has_talked(db, MemberId::from_bytes(id.bytes())).await? {
            continue;
        }
        let own = db.clone();
        let never = CancellationToken::new();
        let done = transaction(db, &never, move |session| {
            let db = own.clone();
            async move { remove(&db, session, doc! { "_id": id, "must_verify": true }, at).await }.boxed()
        });
        removed += usize::from(done.await? == Some(true));
    }
    Ok(removed + claims::purge(db, before, PURGED_AT_ONCE - removed, at).await?)
}

/// Whether anybody has written to somebody, who is kept then.
pub(super) async fn has_talked(db: &Db, member: MemberId) -> Result<bool, Fault> {
    let talked = doc! { "participants.member_id": member_oid(member) };
    let talked: Option<Document> = db.one("conversations", talked, FindOneOptions::default()).await?;
    Ok(talked.is_some())
}

/// Removes the record of somebody who has to verify the address, with what there is of them; false if they have verified it meanwhile. The use
/// of an invitation comes back.
pub(super) async fn remove(
    db: &Db,
    session: &mut ClientSession,
    unverified: Document,
    at: Timestamp,
) -> Result<bool, Fault> {
    let members = db.collection::<MemberDoc>("members");
    let Some(found) = members.find_one_and_delete(unverified).session(&mut *session).await? else { return Ok(false) };
    let record = found.into_record()?;
    let id = record.profile.id;
    mail::forget(db, session, id, &record.profile.email).await?;
    if let Some(invited) = record.profile.invited {
        claims::give_back(db, session, &invited, id, at).await?;
    }
    Ok(true)
}
