//! Members.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    FutureExt as _, TryStreamExt as _,
    future::{BoxFuture, join_all},
};
use mongodb::{
    ClientSession,
    bson::{Document, doc},
    error::{TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT},
    options::{FindOneOptions, FindOptions, ReadConcern},
};
use protocol::{MemberId, Timestamp, rest::MemberStatus};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Core, Mongo, addresses, audit,
    db::Db,
    document::{MemberDoc, SeenDoc, among, date, member_oid, time, unsigned},
    fault::{Fault, is_duplicate},
    invitations, jobs, mail, push, receipts, recommendations, registration, sessions, settings,
};
use crate::store::{
    MemberStore, StoreError,
    addresses::{AddressKey, Allowed, barred_by},
    changes::{Actor, Change, Changed, Overtaken, creation, rejection},
    jobs::of_change,
    members::{
        DirectoryPosition, EmailTaken, Filter, LastSeen, MemberCounts, MemberRecord, NewMember, NotFirst,
        NotRegistered, Registration, Rejected, cost_of, email_key, hashes, hashes_above,
    },
    second_factor::CodeUse,
    turns::{Caller, Turn},
};

pub(super) async fn by_id(db: &Db, id: MemberId) -> Result<Option<MemberRecord>, Fault> {
    find(db, doc! { "_id": member_oid(id) }).await
}

async fn find(db: &Db, filter: Document) -> Result<Option<MemberRecord>, Fault> {
    let found = db.one("members", filter, FindOneOptions::default()).await?;
    found.map(MemberDoc::into_record).transpose()
}

/// Four looks at once, one for each version.
async fn highest_cost(db: &Db) -> Result<Option<u32>, Fault> {
    let versions = hashes().map(|(from, to)| async move {
        let of_version = doc! { "password_hash": { "$gte": from, "$lt": to } };
        let only = doc! { "_id": 0, "password_hash": 1 };
        let highest = FindOneOptions::builder().sort(doc! { "password_hash": -1 }).projection(only).build();
        let found: Option<Document> = db.one("members", of_version, highest).await?;
        Ok(found.and_then(|found| found.get_str("password_hash").ok().and_then(cost_of)))
    });
    let found: Vec<Result<_, Fault>> = join_all(versions).await;
    found.into_iter().try_fold(None, |highest, found| Ok(highest.max(found?)))
}

async fn count_costlier(db: &Db, than: u32, most: u64) -> Result<u64, Fault> {
    let mut count = 0;
    for (from, to) in hashes_above(than) {
        let costlier = doc! { "password_hash": { "$gte": from, "$lt": to } };
        let members = db.collection::<Document>("members");
        count += members.count_documents(costlier).limit(most).max_time(db.max_time).await?;
    }
    Ok(count.min(most))
}

async fn insert(
    db: &Db,
    member: NewMember,
    created_by: Option<Actor>,
) -> Result<Result<MemberRecord, EmailTaken>, Fault> {
    let record = member.into_record();
    let document = MemberDoc::of(record.clone(), None);
    let inserted = match created_by {
        None => db.collection::<MemberDoc>("members").insert_one(document).await.map(drop).map_err(Fault::from),
        Some(by) => {
            let entry = creation(record.profile.id, by, record.profile.created_at);
            let own = db.clone();
            let never = CancellationToken::new();
            let made = transaction(db, &never, move |session| {
                let (db, document, entry) = (own.clone(), document.clone(), entry.clone());
                async move {
                    let members = db.collection::<MemberDoc>("members");
                    members.insert_one(document).session(&mut *session).await?;
                    audit::append(&db, &entry, Some(session)).await
                }
                .boxed()
            });
            made.await.map(drop)
        }
    };
    match inserted {
        Ok(()) => Ok(Ok(record)),
        // Unless it is ours, of an attempt whose answer was lost.
        Err(Fault::Driver(error)) if is_duplicate(&error) => Ok(by_id(db, record.profile.id).await?.ok_or(EmailTaken)),
        Err(fault) => Err(fault),
    }
}

async fn insert_first_admin(
    db: &Db,
    member: NewMember,
    created_by: Actor,
) -> Result<Result<MemberRecord, NotFirst>, Fault> {
    let record = member.into_record();
    let id = record.profile.id;
    let (document, entry) = (MemberDoc::of(record.clone(), None), creation(id, created_by, record.profile.created_at));
    let own = db.clone();
    let at = record.profile.created_at;
    let never = CancellationToken::new();
    let made = transaction(db, &never, move |session| {
        let (db, document, entry) = (own.clone(), document.clone(), entry.clone());
        async move {
            // Two that find nobody at the same moment must meet.
            meet_about_admins(&db, session).await?;
            if has_other_admin(&db, session, id, at).await? {
                return Ok(false);
            }
            let members = db.collection::<MemberDoc>("members");
            members.insert_one(document).session(&mut *session).await?;
            audit::append(&db, &entry, Some(session)).await.map(|()| true)
        }
        .boxed()
    });
    match made.await {
        Ok(Some(true)) => Ok(Ok(record)),
        Ok(_) => Ok(Err(NotFirst::HasAdmin)),
        // Unless it is ours, of an attempt whose answer was lost.
        Err(Fault::Driver(error)) if is_duplicate(&error) => Ok(by_id(db, id).await?.ok_or(NotFirst::EmailTaken)),
        Err(fault) => Err(fault),
    }
}

/// Has a transaction that decides about administrators meet every other one that does.
async fn meet_about_admins(db: &Db, session: &mut ClientSession) -> Result<(), Fault> {
    let meta = db.collection::<Document>("meta");
    let meet = meta.update_one(doc! { "_id": "admins" }, doc! { "$inc": { "changes": 1_i64 } }).upsert(true);
    meet.session(session).await?;
    Ok(())
}

/// Whether there is another administrator who may sign in.
async fn has_other_admin(db: &Db, session: &mut ClientSession, id: MemberId, at: Timestamp) -> Result<bool, Fault> {
    for until in [doc! { "suspended_until": null }, doc! { "suspended_until": { "$lte": date(at) } }] {
        let mut others = doc! { "user_type": "admin", "is_active": true, "_id": { "$ne": member_oid(id) } };
        others.extend(until);
        if db.collection::<Document>("members").find_one(others).session(&mut *session).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn has_admin(db: &Db) -> Result<bool, Fault> {
    let options = FindOneOptions::builder().projection(doc! { "_id": 1 }).build();
    let found: Option<Document> = db.one("members", doc! { "user_type": "admin", "is_active": true }, options).await?;
    Ok(found.is_some())
}

/// Has a transaction that depends on the state of a member meet every other one that changes it.
pub(super) async fn meet(db: &Db, session: &mut ClientSession, id: MemberId) -> Result<(), Fault> {
    let meet = doc! { "$inc": { "met": 1_i64 } };
    db.collection::<Document>("members").update_one(doc! { "_id": member_oid(id) }, meet).session(session).await?;
    Ok(())
}

/// Who waits for an administrator.
pub(super) fn waiting() -> Document {
    doc! { "is_pending": true, "must_verify": { "$ne": true } }
}

/// Whether what somebody asks for was overtaken by what became of who asks. If not, and only administrators may, whoever puts them out, or
/// takes their role, and this transaction meet.
pub(super) async fn overtaken(
    db: &Db,
    session: &mut ClientSession,
    by: Actor,
    needs_admin: bool,
    at: Timestamp,
) -> Result<Option<Overtaken>, Fault> {
    let Some(asking) = by.session else { return Ok(None) };
    let overtaken = by.overtaken(needs_admin, sessions::view_in(db, session, asking.id).await?.as_ref(), at);
    if let Some(member) = by.member.filter(|_| overtaken.is_none() && needs_admin) {
        meet(db, session, member).await?;
    }
    Ok(overtaken)
}

async fn reject(db: &Db, id: MemberId, by: Actor, at: Timestamp) -> Result<Rejected, Fault> {
    let own = db.clone();
    let never = CancellationToken::new();
    let rejected = transaction(db, &never, move |session| {
        let db = own.clone();
        async move {
            let overtaken = overtaken(&db, session, by, by.is_other_than(id), at).await?;
            if overtaken.is_none() && remove_waiting(&db, session, id).await? {
                audit::append(&db, &rejection(id, by, at), Some(session)).await?;
                return Ok(Rejected::Done);
            }
            let members = db.collection::<Document>("members");
            let found = members.find_one(doc! { "_id": member_oid(id) }).session(session).await?;
            // Nobody knows yet that it was they who applied, if they have to verify the address.
            let is_one =
                |found: &Document| !["is_erased", "must_verify"].iter().any(|is| found.get_bool(is).unwrap_or(false));
            let Some(found) = found.filter(is_one) else { return Ok(Rejected::NotFound) };
            let waits = found.get_bool("is_pending").unwrap_or(false);
            Ok(overtaken.filter(|_| waits).map_or(Rejected::Decided, Rejected::Overtaken))
        }
        .boxed()
    });
    Ok(rejected.await?.unwrap_or(Rejected::NotFound))
}

/// Removes the record of somebody who waits, their links and the mail to them. False: they do not.
async fn remove_waiting(db: &Db, session: &mut ClientSession, id: MemberId) -> Result<bool, Fault> {
    let mut own = waiting();
    own.insert("_id", member_oid(id));
    let members = db.collection::<Document>("members");
    let Some(removed) = members.find_one_and_delete(own).session(&mut *session).await? else { return Ok(false) };
    mail::forget(db, session, id, removed.get_str("email").unwrap_or_default()).await?;
    Ok(true)
}

/// One after the other: each goes with what is left of them, and none who is approved meanwhile.
async fn purge_waiting(db: &Db, before: Timestamp) -> Result<usize, Fault> {
    let mut old = waiting();
    old.insert("created_at", doc! { "$lt": date(before) });
    let options = FindOptions::builder().projection(doc! { "_id": 1 }).build();
    let old: Vec<Document> = db.all("members", old, options).await?;
    let never = CancellationToken::new();
    let mut purged = 0;
    for found in old {
        let Ok(id) = found.get_object_id("_id") else { continue };
        let (own, id) = (db.clone(), MemberId::from_bytes(id.bytes()));
        let removed = transaction(db, &never, move |session| {
            let db = own.clone();
            async move { remove_waiting(&db, session, id).await }.boxed()
        });
        purged += usize::from(removed.await?.unwrap_or(false));
    }
    Ok(purged)
}

async fn count_waiting(db: &Db) -> Result<u64, Fault> {
    let members = db.collection::<Document>("members");
    Ok(members.count_documents(waiting()).max_time(db.max_time).await?)
}

async fn admins(db: &Db, limit: usize, with_factor: bool) -> Result<Vec<MemberId>, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let options = FindOptions::builder().projection(doc! { "_id": 1 }).limit(limit).build();
    let mut admins = doc! { "user_type": "admin", "is_active": true };
    if with_factor {
        admins.insert("second_factor", doc! { "$exists": true });
    }
    let found: Vec<Document> = db.all("members", admins, options).await?;
    Ok(found.iter().filter_map(|found| Some(MemberId::from_bytes(found.get_object_id("_id").ok()?.bytes()))).collect())
}

/// How often a transaction that met another one is tried.
const ATTEMPTS: u32 = 20;
/// How long it waits before that, once more for each time.
const MET_PAUSE: Duration = Duration::from_millis(10);

/// Runs `work` in a transaction that a majority has when this returns. Repeated when another one was faster. Nothing is committed
/// once it was `given_up`: what `work` has written is locked against others until then, so that a later decision about the same
/// comes after this one or instead of it.
pub(super) async fn transaction<T, W>(db: &Db, given_up: &CancellationToken, work: W) -> Result<Option<T>, Fault>
where
    W: for<'s> Fn(&'s mut ClientSession) -> BoxFuture<'s, Result<T, Fault>>,
{
    let mut session = db.database.client().start_session().await?;
    let durable = db.database.write_concern().cloned();
    let mut attempt = 1;
    loop {
        let mut start = session.start_transaction().read_concern(ReadConcern::majority());
        if let Some(durable) = &durable {
            start = start.write_concern(durable.clone());
        }
        start.await?;
        let done = match work(&mut session).await {
            Ok(value) if !given_up.is_cancelled() => {
                commit(&mut session).await.map(|()| Some(value)).map_err(Fault::from)
            }
            done => {
                // It ends by itself if this does not reach the server.
                let _ = session.abort_transaction().await;
                done.map(|_| None)
            }
        };
        match done {
            Err(Fault::Driver(error)) if error.contains_label(TRANSIENT_TRANSACTION_ERROR) && attempt < ATTEMPTS => {
                sleep(MET_PAUSE * attempt).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

/// Commits; asks again when it is unknown whether that has happened.
async fn commit(session: &mut ClientSession) -> mongodb::error::Result<()> {
    let mut attempt = 1;
    loop {
        match session.commit_transaction().await {
            Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) && attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

async fn change(
    db: &Db,
    id: MemberId,
    wanted: Change,
    by: Actor,
    at: Timestamp,
    (given_up, drawn): (&CancellationToken, AddressKey),
) -> Result<Changed, Fault> {
    let (own, gives_email) = (db.clone(), wanted.new_email().is_some());
    let changed = transaction(db, given_up, move |session| {
        let (db, wanted) = (own.clone(), wanted.clone());
        async move { change_in(&db, session, id, &wanted, by, (at, drawn)).await }.boxed()
    });
    match changed.await {
        // Somebody else has come by it since it was looked at.
        Err(Fault::Driver(error)) if gives_email && is_duplicate(&error) => Ok(Changed::EmailTaken),
        changed => Ok(changed?.unwrap_or(Changed::GivenUp)),
    }
}

/// Uses a code of the second factor of a member up, within a transaction of something else.
pub(super) async fn use_code(
    db: &Db,
    session: &mut ClientSession,
    id: MemberId,
    code: &CodeUse,
    (by, at): (Actor, Timestamp),
) -> Result<Changed, Fault> {
    // No address is barred by it, so no key is needed.
    change_in(db, session, id, &Change::UseCode(code.clone()), by, (at, AddressKey::default())).await
}

/// The record of a member, as a transaction sees it.
pub(super) async fn by_id_in(
    db: &Db,
    session: &mut ClientSession,
    id: MemberId,
) -> Result<Option<MemberRecord>, Fault> {
    let found = db.collection::<MemberDoc>("members").find_one(doc! { "_id": member_oid(id) }).session(session).await?;
    found.map(MemberDoc::into_record).transpose()
}

/// Whether a member may have the address that a change gives them, if it gives one.
enum Availability {
    Free,
    /// Somebody has it, or, for who is kept out by that, it is one that nobody registers with.
    Taken,
    /// Somebody has registered with it who gives way: they have not verified it, and nobody has written to them.
    Unverified(MemberId),
}

impl Availability {
    /// Removes who gives way. Should they verify it at the same moment, the two meet, and the change is tried again.
    async fn take(self, db: &Db, session: &mut ClientSession, at: Timestamp) -> Result<(), Fault> {
        let Self::Unverified(owner) = self else { return Ok(()) };
        registration::remove(db, session, doc! { "_id": member_oid(owner), "must_verify": true }, at).await.map(drop)
    }
}

async fn availability(
    db: &Db,
    session: &mut ClientSession,
    id: MemberId,
    change: &Change,
) -> Result<Availability, Fault> {
    let Some((email, is_kept_out)) = change.new_email() else { return Ok(Availability::Free) };
    if is_kept_out && addresses::is_barred(db, session, email).await? {
        return Ok(Availability::Taken);
    }
    let others = doc! { "email_key": email_key(email), "_id": { "$ne": member_oid(id) } };
    let owner = db.collection::<MemberDoc>("members").find_one(others).session(&mut *session).await?;
    let Some(owner) = owner.map(MemberDoc::into_record).transpose()? else { return Ok(Availability::Free) };
    let (owner, must_verify) = (owner.profile.id, owner.profile.must_verify);
    let gives_way = must_verify && change.displaces_unverified() && !registration::has_talked(db, owner).await?;
    Ok(if gives_way { Availability::Unverified(owner) } else { Availability::Taken })
}

/// Removes what there is of a member who has left, beside their record.
async fn forget(db: &Db, session: &mut ClientSession, id: MemberId) -> Result<(), Fault> {
    recommendations::forget(db, session, id).await?;
    push::forget(db, session, id).await?;
    settings::forget(db, session, id).await?;
    let (theirs, forgotten) = sessions::forgetting(id);
    db.collection::<Document>("sessions").update_many(theirs, forgotten).session(session).await?;
    Ok(())
}

async fn change_in(
    db: &Db,
    session: &mut ClientSession,
    id: MemberId,
    change: &Change,
    by: Actor,
    (at, drawn): (Timestamp, AddressKey),
) -> Result<Changed, Fault> {
    let members = db.collection::<MemberDoc>("members");
    let found = members.find_one(doc! { "_id": member_oid(id) }).session(&mut *session).await?;
    let Some(found) = found else { return Ok(Changed::NotFound) };
    let last_seen = found.last_seen;
    let before = found.into_record()?;
    if !change.finds(&before) {
        return Ok(Changed::NotFound);
    }
    if change.is_stale(&before) {
        return Ok(Changed::Stale);
    }
    let availability = availability(db, session, id, change).await?;
    if matches!(availability, Availability::Taken) {
        return Ok(Changed::EmailTaken);
    }
    if !mail::use_up(db, session, change, &before, at).await? {
        return Ok(Changed::Stale);
    }
    if change.takes_admin(&before, at) {
        // Two that take the last two away at the same moment must meet.
        meet_about_admins(db, session).await?;
        if !has_other_admin(db, session, id, at).await? {
            return Ok(Changed::LastAdmin);
        }
    }
    let Some(after) = change.apply(&before, at) else {
        // A decision that is being committed must meet this one, or it would undo what was acknowledged here.
        meet(db, session, id).await?;
        return Ok(Changed::Done { after: Box::new(before.clone()), before: Box::new(before), ended: Vec::new() });
    };
    if let Some(overtaken) = overtaken(db, session, by, by.is_other_than(id), at).await? {
        return Ok(Changed::Overtaken(overtaken));
    }
    availability.take(db, session, at).await?;
    let last_seen = last_seen.filter(|_| !after.is_erased).map(time);
    let document = MemberDoc::of(after.clone(), last_seen);
    members.replace_one(doc! { "_id": member_oid(id) }, document).session(&mut *session).await?;
    if after.is_erased {
        forget(db, session, id).await?;
    }
    let ended = sessions::revoke_by_change(db, session, id, (change.revokes(), at)).await?;
    if let Some(kept) = change.keeps() {
        sessions::replace_tokens(db, session, id, kept, at).await?;
    }
    if let Some((valid, proved)) = change.proves().map(|proving| sessions::proof(id, proving, at)) {
        db.collection::<Document>("sessions").update_one(valid, proved).session(&mut *session).await?;
    }
    if let Some(entry) = change.audit(&before, &after, by, at) {
        audit::append(db, &entry, Some(&mut *session)).await?;
    }
    if let Some(email) = barred_by(change, &before) {
        addresses::bar(db, session, email, drawn).await?;
    }
    invitations::follow(db, session, change, &before, by, at).await?;
    jobs::apply(db, session, &of_change(&before, &after), at).await?;
    mail::follow(db, session, change, &before, &after, at).await?;
    Ok(Changed::Done { before: Box::new(before), after: Box::new(after), ended })
}

/// What makes a member one of a status, and whether such a one is active. What [`Standing::at`](crate::store::members::Standing::at)
/// says, in the words of the database.
fn of_status(status: Option<(MemberStatus, Timestamp)>) -> (Document, Option<bool>) {
    match status {
        None => (doc! { "is_pending": { "$ne": true }, "must_verify": { "$ne": true } }, None),
        Some((MemberStatus::Unverified, _)) => (doc! { "must_verify": true }, Some(false)),
        Some((MemberStatus::Pending, _)) => (waiting(), Some(false)),
        Some((MemberStatus::Deactivated, _)) => {
            (doc! { "is_pending": { "$ne": true }, "must_verify": { "$ne": true } }, Some(false))
        }
        Some((MemberStatus::Suspended, at)) => (doc! { "suspended_until": { "$gt": date(at) } }, Some(true)),
        Some((MemberStatus::Active, at)) => (doc! { "suspended_until": { "$not": { "$gt": date(at) } } }, Some(true)),
    }
}

/// Members by name. Those of the same name as the last one come first, then the names after it: each along the index.
async fn list(
    db: &Db,
    filter: Filter,
    after: Option<DirectoryPosition>,
    limit: usize,
) -> Result<Vec<MemberRecord>, Fault> {
    let mut wanted = doc! { "is_erased": { "$ne": true } };
    wanted.extend(filter.tier.map(|tier| ("tier".to_owned(), tier.as_str().into())));
    wanted.extend(filter.user_type.map(|user_type| ("user_type".to_owned(), user_type.as_str().into())));
    let (of_status, active) = of_status(filter.status);
    if active.zip(filter.is_active).is_some_and(|(of_status, asked)| of_status != asked) {
        return Ok(Vec::new());
    }
    wanted.extend(of_status);
    wanted.extend(active.or(filter.is_active).map(|is_active| ("is_active".to_owned(), is_active.into())));
    let mut ranges = Vec::new();
    match after {
        Some(DirectoryPosition { name_key, id }) => {
            ranges.push(doc! { "name_key": &name_key, "_id": { "$gt": member_oid(id) } });
            ranges.push(doc! { "name_key": { "$gt": name_key } });
        }
        None => ranges.push(doc! { "name_key": { "$gte": "" } }),
    }
    let mut found: Vec<MemberDoc> = Vec::new();
    for mut range in ranges {
        range.extend(wanted.clone());
        let room = limit.saturating_sub(found.len());
        if room > 0 {
            let limit = i64::try_from(room).unwrap_or(i64::MAX);
            let options = FindOptions::builder().sort(doc! { "name_key": 1, "_id": 1 }).limit(limit).build();
            found.extend(db.all::<MemberDoc>("members", range, options).await?);
        }
    }
    found.into_iter().map(MemberDoc::into_record).collect()
}

/// Members with the longest of the words, of whom a search looks whether they have the others too.
const CANDIDATES: i64 = 5_000;

/// Members of whom each word is a whole word in the index, then those of whom it is a beginning; no more than `limit`.
async fn search(db: &Db, words: Vec<String>, limit: usize) -> Result<Vec<MemberRecord>, Fault> {
    // The longest one is shared by the fewest members, as a rule.
    let Some(longest) = words.iter().max_by_key(|word| word.len()) else { return Ok(Vec::new()) };
    let whole = |word: &String| doc! { "words": word };
    // A range rather than a pattern: every server finds it in the index.
    let begins =
        |word: &String| doc! { "words": { "$elemMatch": { "$gte": word, "$lt": format!("{word}\u{10ffff}") } } };
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for matches in [&whole as &(dyn Fn(&String) -> Document + Sync), &begins] {
        let all: Vec<Document> = words.iter().map(matches).collect();
        let pipeline = [
            doc! { "$match": matches(longest) },
            doc! { "$limit": CANDIDATES },
            doc! { "$match": { "$and": all } },
            doc! { "$limit": i64::try_from(limit).unwrap_or(i64::MAX) },
        ];
        let members = db.collection::<Document>("members");
        let found_here = members.aggregate(pipeline).max_time(db.max_time).with_type::<MemberDoc>().await?;
        let found_here: Vec<MemberDoc> = found_here.try_collect().await?;
        for member in found_here {
            if found.len() < limit && seen.insert(member.id) {
                found.push(member.into_record()?);
            }
        }
    }
    Ok(found)
}

async fn count(db: &Db, at: Timestamp) -> Result<MemberCounts, Fault> {
    let members = db.collection::<Document>("members");
    let waiting = count_waiting(db).await?;
    let unverified = members.count_documents(doc! { "must_verify": true }).max_time(db.max_time).await?;
    let all = members.estimated_document_count().max_time(db.max_time).await?;
    let all = all.saturating_sub(waiting).saturating_sub(unverified);
    let active = doc! { "user_type": { "$in": ["member", "admin"] }, "is_active": true };
    let active = members.count_documents(active).max_time(db.max_time).await?;
    let suspended = doc! { "is_active": true, "suspended_until": { "$gt": date(at) } };
    let suspended = members.count_documents(suspended).max_time(db.max_time).await?;
    Ok(MemberCounts { all, active: active.saturating_sub(suspended), waiting })
}

async fn record_last_seen(db: &Db, seen: Vec<(MemberId, Timestamp)>) -> Result<(), Fault> {
    let updates = seen.into_iter().map(|(member, at)| {
        // The larger of a time and nothing is the time, except for a field that is null.
        // One who has left is not seen any more.
        let q = doc! { "_id": member_oid(member), "is_erased": { "$ne": true }, "$or": [{ "last_seen": null }, { "last_seen": { "$lt": date(at) } }] };
        doc! { "q": q, "u": { "$set": { "last_seen": date(at) } } }
    });
    receipts::run_updates(db, "members", updates.collect()).await
}

async fn last_seen(db: &Db, members: Vec<MemberId>) -> Result<Vec<LastSeen>, Fault> {
    let fields = doc! { "last_seen": 1, "is_active": 1, "visibility": 1, "version": 1 };
    let fields = FindOptions::builder().projection(fields).build();
    let found: Vec<SeenDoc> = db.all("members", among(members.iter().copied().map(member_oid)), fields).await?;
    let found: HashMap<_, _> = found.into_iter().map(|seen| (seen.id, seen)).collect();
    let seen = members.into_iter().filter_map(|member| {
        let SeenDoc { last_seen, is_active, visibility, version, .. } = found.get(&member_oid(member))?;
        let (at, audience, version) = (last_seen.map(time), visibility.presence, unsigned(*version));
        is_active.then_some(LastSeen { member, at, audience, version })
    });
    Ok(seen.collect())
}

#[async_trait]
impl MemberStore for Mongo {
    async fn insert(
        &self,
        member: NewMember,
        created_by: Option<Actor>,
    ) -> Result<Result<MemberRecord, EmailTaken>, StoreError> {
        self.write(Caller::System, async move |_, db| insert(&db, member, created_by).await).await
    }

    async fn register(&self, new: Registration) -> Result<Result<MemberRecord, NotRegistered>, StoreError> {
        let by = Caller::Address(new.from);
        let registered = async move |core: Arc<Core>, db: Db| {
            registration::register(&db, &core.metrics, core.ids.secret(), new).await
        };
        self.write(by, registered).await?.ok_or(StoreError::Overloaded)
    }

    async fn purge_unverified(&self, before: Timestamp, at: Timestamp) -> Result<usize, StoreError> {
        let purge = async move |_, db: Db| registration::purge_unverified(&db, before, at).await;
        self.write(Caller::System, purge).await
    }

    async fn allow_address(&self, email: &str, by: Actor, at: Timestamp) -> Result<Allowed, StoreError> {
        let (email, caller) = (email.to_owned(), by.member.map_or(Caller::System, Caller::Member));
        self.write(caller, async move |_, db| addresses::allow(&db, email, by, at).await).await
    }

    async fn reject(&self, id: MemberId, by: Actor, at: Timestamp) -> Result<Rejected, StoreError> {
        self.write(Caller::Member(id), async move |_, db| reject(&db, id, by, at).await).await
    }

    async fn purge_waiting(&self, before: Timestamp) -> Result<usize, StoreError> {
        self.write(Caller::System, async move |_, db| purge_waiting(&db, before).await).await
    }

    async fn count_waiting(&self, by: Caller) -> Result<u64, StoreError> {
        self.read(Turn::of(by), async move |_, db| count_waiting(&db).await).await
    }

    async fn admins(&self, limit: usize, with_factor: bool) -> Result<Vec<MemberId>, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| admins(&db, limit, with_factor).await).await
    }

    async fn insert_first_admin(
        &self,
        member: NewMember,
        created_by: Actor,
    ) -> Result<Result<MemberRecord, NotFirst>, StoreError> {
        self.write(Caller::System, async move |_, db| insert_first_admin(&db, member, created_by).await).await
    }

    async fn has_admin(&self) -> Result<bool, StoreError> {
        self.read(Turn::HEAVY_SYSTEM, async move |_, db| has_admin(&db).await).await
    }

    async fn by_id(&self, by: Caller, id: MemberId) -> Result<Option<MemberRecord>, StoreError> {
        self.read(Turn::of(by), async move |_, db| by_id(&db, id).await).await
    }

    async fn by_email(&self, by: Caller, email: &str) -> Result<Option<MemberRecord>, StoreError> {
        let filter = doc! { "email_key": email_key(email) };
        self.read(Turn::of(by), async move |_, db| find(&db, filter).await).await
    }

    async fn change(
        &self,
        id: MemberId,
        wanted: Change,
        by: Actor,
        at: Timestamp,
        given_up: CancellationToken,
    ) -> Result<Changed, StoreError> {
        let change =
            async move |core: Arc<Core>, db| change(&db, id, wanted, by, at, (&given_up, core.ids.secret())).await;
        let changed = self.write(Caller::Member(id), change).await;
        // The log remembers whether a member may be written to.
        self.core.members.remove(&id);
        changed
    }

    async fn replace_hash(&self, id: MemberId, from: String, to: String) -> Result<bool, StoreError> {
        self.write(Caller::Member(id), async move |_, db| {
            let members = db.collection::<Document>("members");
            let still = doc! { "_id": member_oid(id), "password_hash": from };
            let replaced = members.update_one(still, doc! { "$set": { "password_hash": to } }).await?;
            Ok(replaced.matched_count == 1)
        })
        .await
    }

    async fn highest_cost(&self, by: Caller) -> Result<Option<u32>, StoreError> {
        self.read(Turn::of(by), async move |_, db| highest_cost(&db).await).await
    }

    async fn count_costlier(&self, than: u32, most: u64) -> Result<u64, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| count_costlier(&db, than, most).await).await
    }

    async fn list(
        &self,
        by: Caller,
        filter: Filter,
        after: Option<DirectoryPosition>,
        limit: usize,
    ) -> Result<Vec<MemberRecord>, StoreError> {
        self.read(filter.turn(by), async move |_, db| list(&db, filter, after, limit).await).await
    }

    async fn search(&self, by: MemberId, words: Vec<String>, limit: usize) -> Result<Vec<MemberRecord>, StoreError> {
        self.read(Turn::heavy(by), async move |_, db| search(&db, words, limit).await).await
    }

    async fn count(&self, at: Timestamp) -> Result<MemberCounts, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| count(&db, at).await).await
    }

    async fn record_last_seen(&self, seen: Vec<(MemberId, Timestamp)>) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| record_last_seen(&db, seen).await).await
    }

    async fn last_seen(&self, by: Caller, members: Vec<MemberId>) -> Result<Vec<LastSeen>, StoreError> {
        self.read(Turn::look_ups(by, members.len()), async move |_, db| last_seen(&db, members).await).await
    }
}
