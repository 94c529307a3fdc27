//! Sessions and their refresh tokens.
//!
//! No step needs a transaction, but for a login and the mail that tells of it: each leaves something that is safe if the next one does not happen. A token's successor
//! is stored before its session names it as the newest one, in one step that only one exchange of a token can make, and nobody
//! knows it before that. That the token was used is marked last: the session says so already.

mod exchange;

use std::{collections::HashMap, net::IpAddr};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Binary, Bson, Document, bson, doc, oid::ObjectId, spec::BinarySubtype},
    options::{FindOneOptions, FindOptions},
};
use protocol::{MemberId, SessionId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    Mongo,
    db::Db,
    document::{binary, bytes_of, date, member_oid, signed, time, unsigned, user_type},
    fault::{Fault, is_duplicate},
    mail, members, push,
};
use crate::store::{
    SessionStore, StoreError,
    changes::Revoked,
    mail::{Mail, Purpose},
    sessions::{
        AHEAD, Exchange, KeptSession, KnownDevice, MadeBy, NewSession, NewToken, PLATFORMS, Rotation,
        SESSIONS_OF_MEMBER, SESSIONS_REMOVED, SessionDevice, SessionRecord, SessionView, TokenHash, TokenOwner,
        platform_word,
    },
    turns::{Caller, Turn},
};

/// Tokens that are removed at a time.
const PURGE: i64 = 1_000;
fn session_oid(id: SessionId) -> ObjectId {
    ObjectId::from_bytes(*id.as_bytes())
}

fn hash(hash: TokenHash) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: hash.to_vec() }
}

fn token_document(session: ObjectId, token: NewToken) -> Document {
    doc! { "_id": hash(token.hash), "session_id": session, "expires_at": date(token.expires_at), "used_at": null }
}

async fn store_token(db: &Db, session: ObjectId, token: NewToken) -> Result<(), Fault> {
    match db.collection::<Document>("refresh_tokens").insert_one(token_document(session, token)).await {
        // Of an attempt whose answer was lost.
        Err(error) if is_duplicate(&error) => Ok(()),
        stored => Ok(stored.map(drop)?),
    }
}

async fn start(db: &Db, session: NewSession) -> Result<Option<Vec<SessionId>>, Fault> {
    let notice = session.notice();
    let NewSession { id, member, token, device, known_device, address, at, ends_at, credentials, .. } = session;
    let (whose, member, id) = (member, member_oid(member), session_oid(id));
    let mut session = doc! {
        "_id": id,
        "member_id": member,
        "created_at": date(at),
        "revoked_at": null,
        "device": device_document(device),
        "address": address.map(|address| address.to_string()),
        "last_used_at": date(at),
        "ends_at": date(ends_at),
        "generation": 0_i64,
        "newest": hash(token.hash),
        // Its first token has arrived, as far as that matters: there is none before it.
        "confirmed_at": date(at),
    };
    session.extend(known_device.map(|number| ("known_device".to_owned(), binary(&number).into())));
    match db.collection::<Document>("sessions").insert_one(session).await {
        Err(error) if !is_duplicate(&error) => return Err(error.into()),
        _ => {}
    }
    store_token(db, id, token).await?;
    // Last: whoever deactivates the member or replaces the credentials writes the same document, and either finds the session or is found
    // here.
    match log_in(db, member, credentials, at, notice).await {
        Ok(true) => {
            let ended = remove_oldest(db, member, id).await?;
            // Those are gone: what was asked for from one of them goes with them.
            revoke_many(db, whose, ended.clone(), at).await?;
            Ok(Some(ended))
        }
        Ok(false) => withdraw(db, id).await.map(|()| None),
        Err(error) => {
            // Nobody gets its tokens. What cannot be removed now is purged with them.
            if let Err(error) = withdraw(db, id).await.map_err(StoreError::from) {
                tracing::debug!(%error, "a session that was not started is left until it is purged");
            }
            Err(error)
        }
    }
}

/// Removes a session that was not started.
async fn withdraw(db: &Db, session: ObjectId) -> Result<(), Fault> {
    db.collection::<Document>("refresh_tokens").delete_many(doc! { "session_id": session }).await?;
    db.collection::<Document>("sessions").delete_one(doc! { "_id": session }).await?;
    Ok(())
}

pub(super) fn device_document(SessionDevice { name, platform }: SessionDevice) -> Document {
    doc! { "name": name, "platform": platform.map(platform_word) }
}

/// What a session says about its device. What it does not say, or says in words of a later version, is not known.
pub(super) fn device(session: &Document) -> SessionDevice {
    let Ok(device) = session.get_document("device") else { return SessionDevice::default() };
    let word = device.get_str("platform").unwrap_or_default();
    SessionDevice {
        name: device.get_str("name").ok().map(str::to_owned),
        platform: PLATFORMS.iter().find(|(known, _)| *known == word).map(|(_, platform)| *platform),
    }
}

/// Where a session was started from, or its token replaced from last.
pub(super) fn address(session: &Document, field: &str) -> Option<IpAddr> {
    session.get_str(field).ok()?.parse().ok()
}

/// The hash in a field.
pub(super) fn token_hash(document: &Document, field: &str) -> Option<TokenHash> {
    document.get_binary_generic(field).ok()?.as_slice().try_into().ok()
}

/// When the newest token of a session was confirmed. That of one of before is, as far as is known: it says nothing of it.
pub(super) fn confirmed_at(session: &Document, created_at: Timestamp) -> Option<Timestamp> {
    match session.get("confirmed_at") {
        None => Some(created_at),
        Some(_) => session.get_datetime("confirmed_at").ok().map(|at| time(*at)),
    }
}

/// Records a login at its member, and in one transaction writes the mail that tells of it, unless it is their first. False: they may
/// not sign in, or have other credentials.
async fn log_in(
    db: &Db,
    member: ObjectId,
    credentials: u64,
    at: Timestamp,
    notice: Option<Mail>,
) -> Result<bool, Fault> {
    let Some(notice) = notice else {
        return Ok(record_login(db, member, credentials, at, None).await?.is_some());
    };
    let own = db.clone();
    let never = CancellationToken::new();
    let logged_in = members::transaction(db, &never, move |session| {
        let (db, notice) = (own.clone(), notice.clone());
        async move {
            let login = record_login(&db, member, credentials, at, Some(&mut *session)).await?;
            if login == Some(Login::Further) {
                mail::tell(&db, session, &notice, at).await?;
            }
            Ok(login.is_some())
        }
        .boxed()
    });
    Ok(logged_in.await?.unwrap_or(false))
}

/// Which login of a member it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Login {
    /// The first one of all.
    First,
    /// Another one.
    Further,
}

/// The filter for a number of credentials. That of nearly everybody is not written.
fn same_credentials(credentials: u64) -> Bson {
    if credentials == 0 { bson!({ "$in": [0_i64, null] }) } else { Bson::Int64(signed(credentials)) }
}

/// Records a login at its member, who may sign in and has these credentials; a suspension that is over leaves nothing. Nothing: they may
/// not, or have others.
async fn record_login(
    db: &Db,
    member: ObjectId,
    credentials: u64,
    at: Timestamp,
    mut session: Option<&mut ClientSession>,
) -> Result<Option<Login>, Fault> {
    let members = db.collection::<Document>("members");
    for (until, more) in [
        (doc! { "suspended_until": null }, doc! {}),
        (doc! { "suspended_until": { "$lte": date(at) } }, doc! { "suspended_until": null, "suspension_reason": null }),
    ] {
        let (mut active, mut login) = (
            doc! { "_id": member, "is_active": true, "credentials": same_credentials(credentials) },
            doc! { "last_login": date(at) },
        );
        active.extend(until);
        login.extend(more);
        // A login of the same millisecond as the one before would change nothing, and meet nobody.
        let login = doc! { "$set": login, "$inc": { "met": 1_i64 } };
        let record = members.find_one_and_update(active, login).projection(doc! { "last_login": 1 });
        let before = match session.as_deref_mut() {
            Some(session) => record.session(session).await?,
            None => record.await?,
        };
        if let Some(before) = before {
            let has_before = before.get_datetime("last_login").is_ok();
            return Ok(Some(if has_before { Login::Further } else { Login::First }));
        }
    }
    Ok(None)
}

/// Removes a member's sessions beyond those that are kept, with their tokens, and never the `newest`. Returns those that were
/// valid.
async fn remove_oldest(db: &Db, member: ObjectId, newest: ObjectId) -> Result<Vec<SessionId>, Fault> {
    let fields = FindOptions::builder().projection(doc! { "revoked_at": 1 }).build();
    let sessions: Vec<Document> = db.all("sessions", doc! { "member_id": member }, fields).await?;
    let sessions = sessions.iter().filter_map(|session| session.get_object_id("_id").ok().map(|id| (session, id)));
    let is_revoked = |session: &Document| session.get_datetime("revoked_at").is_ok();
    let mut sessions: Vec<(bool, ObjectId)> = sessions.map(|(session, id)| (is_revoked(session), id)).collect();
    // Valid ones first, and of those the newest: ids grow with time, unless a clock was put back.
    sessions.sort_unstable_by_key(|(revoked, id)| (*id != newest, *revoked, std::cmp::Reverse(*id)));
    let beyond: Vec<(bool, ObjectId)> = sessions.into_iter().skip(SESSIONS_OF_MEMBER).take(SESSIONS_REMOVED).collect();
    if beyond.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<ObjectId> = beyond.iter().map(|(_, id)| *id).collect();
    // The sessions last: they end with the step whose outcome is told, and a session without tokens is removed the next time.
    db.collection::<Document>("refresh_tokens").delete_many(doc! { "session_id": { "$in": &ids } }).await?;
    db.collection::<Document>("sessions").delete_many(doc! { "_id": { "$in": &ids } }).await?;
    push::remove_of_sessions(db, &ids).await?;
    let valid = beyond.into_iter().filter(|(revoked, _)| !revoked);
    Ok(valid.map(|(_, id)| SessionId::from_bytes(id.bytes())).collect())
}

/// A session as stored.
struct Stored {
    member: MemberId,
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    generation: u64,
    good_from: u64,
    newest: Option<TokenHash>,
    confirmed_at: Option<Timestamp>,
    made_by: MadeBy,
    proved_at: Timestamp,
    known_device: Option<KnownDevice>,
}

async fn find_session(db: &Db, id: ObjectId) -> Result<Option<Stored>, Fault> {
    let found = db.one("sessions", doc! { "_id": id }, FindOneOptions::default()).await?;
    let found: Option<Document> = found;
    found.as_ref().map(stored).transpose()
}

async fn confirm(db: &Db, session: SessionId, generation: u64, at: Timestamp) -> Result<(), Fault> {
    let unconfirmed = doc! { "_id": session_oid(session), "generation": signed(generation), "confirmed_at": null };
    let confirmed = doc! { "$set": { "confirmed_at": date(at) }, "$max": { "last_used_at": date(at) } };
    db.collection::<Document>("sessions").update_one(unconfirmed, confirmed).await?;
    Ok(())
}

/// Who is at the device of a session has proved who they are: which document changes, and how.
pub(super) fn proof(member: MemberId, session: SessionId, at: Timestamp) -> (Document, Vec<Document>) {
    let valid = doc! { "_id": session_oid(session), "member_id": member_oid(member), "revoked_at": null };
    let is_wrong = doc! { "$gt": ["$proved_at", date(at.after(AHEAD))] };
    let latest = doc! { "$max": ["$proved_at", date(at)] };
    (valid, vec![doc! { "$set": { "proved_at": { "$cond": [is_wrong, date(at), latest] } } }])
}

async fn prove(db: &Db, member: MemberId, session: SessionId, at: Timestamp) -> Result<(), Fault> {
    let (valid, proved) = proof(member, session, at);
    db.collection::<Document>("sessions").update_one(valid, proved).await?;
    Ok(())
}

async fn rename(db: &Db, member: MemberId, session: SessionId, name: String) -> Result<bool, Fault> {
    let valid = doc! { "_id": session_oid(session), "member_id": member_oid(member), "revoked_at": null };
    let sessions = db.collection::<Document>("sessions");
    // One of before has no device yet: its parts are set, and what is above them is made.
    let renamed = sessions.update_one(valid, doc! { "$set": { "device.name": name } }).await?;
    Ok(renamed.matched_count > 0)
}

fn stored(found: &Document) -> Result<Stored, Fault> {
    let member = found.get_object_id("member_id").map_err(|error| Fault::Data(error.to_string()))?;
    let at = |field| found.get_datetime(field).ok().map(|at| time(*at));
    let created_at = at("created_at").unwrap_or(Timestamp::from_millis(0));
    let newest = token_hash(found, "newest");
    Ok(Stored {
        member: MemberId::from_bytes(member.bytes()),
        created_at,
        revoked_at: at("revoked_at"),
        ends_at: at("ends_at"),
        generation: found.get_i64("generation").map_or(0, unsigned),
        good_from: found.get_i64("good_from").map_or(0, unsigned),
        newest,
        confirmed_at: confirmed_at(found, created_at),
        made_by: if token_hash(found, "attempt_of").is_some_and(|of| Some(of) == newest) {
            MadeBy::Attempt(token_hash(found, "attempt"))
        } else {
            MadeBy::Unknown
        },
        proved_at: at("proved_at").unwrap_or(created_at),
        known_device: known_device(found),
    })
}

/// A session and the state of its member.
fn view_of(stored: &Stored, found: &Document) -> Result<SessionView, Fault> {
    let user_type = user_type(found.get_str("user_type").unwrap_or_default())?;
    let is_active = found.get_bool("is_active").unwrap_or(false);
    let Stored { member, created_at, revoked_at, ends_at, generation, good_from, confirmed_at, proved_at, .. } =
        *stored;
    let (revoked, confirmed) = (revoked_at.is_some(), confirmed_at.is_some());
    let suspended_until = found.get_datetime("suspended_until").ok().map(|until| time(*until));
    let has_second_factor = found.get_document("second_factor").is_ok();
    Ok(SessionView {
        member,
        user_type,
        is_active,
        suspended_until,
        revoked,
        generation,
        good_from,
        confirmed,
        ends_at,
        proved_at,
        has_second_factor,
        created_at,
        known_device: stored.known_device,
    })
}

/// The device of a session, if it had proved that its member had logged in on it before.
pub(super) fn known_device(found: &Document) -> Option<KnownDevice> {
    bytes_of(found, "known_device")
}

/// What [`view_of`] needs of a member.
fn member_fields() -> Document {
    doc! { "user_type": 1, "is_active": 1, "suspended_until": 1, "second_factor.enabled_at": 1 }
}

async fn view(db: &Db, session: SessionId) -> Result<Option<SessionView>, Fault> {
    let Some(stored) = find_session(db, session_oid(session)).await? else { return Ok(None) };
    let fields = FindOneOptions::builder().projection(member_fields()).build();
    let found: Option<Document> = db.one("members", doc! { "_id": member_oid(stored.member) }, fields).await?;
    found.map(|found| view_of(&stored, &found)).transpose()
}

/// The same, as a transaction sees it.
pub(super) async fn view_in(
    db: &Db,
    session: &mut ClientSession,
    wanted: SessionId,
) -> Result<Option<SessionView>, Fault> {
    let sessions = db.collection::<Document>("sessions");
    let found = sessions.find_one(doc! { "_id": session_oid(wanted) }).session(&mut *session).await?;
    let Some(stored) = found.as_ref().map(stored).transpose()? else { return Ok(None) };
    let member = doc! { "_id": member_oid(stored.member) };
    let members = db.collection::<Document>("members");
    let found = members.find_one(member).projection(member_fields()).session(session).await?;
    found.map(|found| view_of(&stored, &found)).transpose()
}

/// The sessions before the members, as [`view`] does it: whoever deactivates a member changes both.
async fn views(db: &Db, sessions: &[SessionId]) -> Result<Vec<Option<SessionView>>, Fault> {
    let by_id = |found: Vec<Document>| -> HashMap<ObjectId, Document> {
        found.into_iter().filter_map(|found| Some((found.get_object_id("_id").ok()?, found))).collect()
    };
    let ids: Vec<ObjectId> = sessions.iter().copied().map(session_oid).collect();
    let fields = doc! {
        "member_id": 1, "created_at": 1, "revoked_at": 1, "generation": 1, "good_from": 1, "confirmed_at": 1, "proved_at": 1,
        "ends_at": 1, "known_device": 1,
    };
    let fields = FindOptions::builder().projection(fields).build();
    let found = by_id(db.all("sessions", doc! { "_id": { "$in": &ids } }, fields).await?);
    let mut members: Vec<ObjectId> =
        found.values().filter_map(|session| session.get_object_id("member_id").ok()).collect();
    members.sort_unstable();
    members.dedup();
    let fields = FindOptions::builder().projection(member_fields()).build();
    let members = by_id(db.all("members", doc! { "_id": { "$in": members } }, fields).await?);
    let view = |id: &ObjectId| -> Result<Option<SessionView>, Fault> {
        let Some(session) = found.get(id).map(stored).transpose()? else { return Ok(None) };
        let member = members.get(&member_oid(session.member));
        member.map(|member| view_of(&session, member)).transpose()
    };
    ids.iter().map(view).collect()
}

async fn of_member(db: &Db, member: MemberId) -> Result<Vec<SessionRecord>, Fault> {
    let filter = doc! { "member_id": member_oid(member) };
    let mut found: Vec<Document> = db.all("sessions", filter, FindOptions::default()).await?;
    let id_of = |session: &Document| session.get_object_id("_id").unwrap_or_default();
    // Ids grow with time.
    found.sort_unstable_by_key(id_of);
    let ids: Vec<ObjectId> = found.iter().map(id_of).collect();
    let unused = doc! { "session_id": { "$in": ids }, "used_at": null };
    let fields = FindOptions::builder().projection(doc! { "session_id": 1, "expires_at": 1 }).build();
    let mut renewable: HashMap<ObjectId, Timestamp> = HashMap::new();
    for token in db.all::<Document>("refresh_tokens", unused, fields).await? {
        let (Ok(session), Ok(until)) = (token.get_object_id("session_id"), token.get_datetime("expires_at")) else {
            continue;
        };
        let until = time(*until);
        renewable.entry(session).and_modify(|known| *known = until.max(*known)).or_insert(until);
    }
    let sessions = found.iter().map(|session| {
        let at = |field| session.get_datetime(field).ok().map(|at| time(*at));
        let created_at = at("created_at").unwrap_or(Timestamp::from_millis(0));
        SessionRecord {
            id: SessionId::from_bytes(id_of(session).bytes()),
            created_at,
            revoked_at: at("revoked_at"),
            device: device(session),
            address: address(session, "address"),
            last_address: address(session, "last_address"),
            last_used_at: at("last_used_at").unwrap_or(created_at),
            ends_at: at("ends_at"),
            renewable_until: renewable.get(&id_of(session)).copied(),
        }
    });
    Ok(sessions.collect())
}

/// Revokes sessions of a member, with the links that change the address, in a transaction that whatever writes one of them meets.
async fn revoke_many(db: &Db, member: MemberId, sessions: Vec<SessionId>, at: Timestamp) -> Result<(), Fault> {
    if sessions.is_empty() {
        return Ok(());
    }
    let (own, never) = (db.clone(), CancellationToken::new());
    let sessions: Vec<ObjectId> = sessions.into_iter().map(session_oid).collect();
    let done = members::transaction(db, &never, move |session| {
        let (db, sessions) = (own.clone(), sessions.clone());
        async move {
            members::meet(&db, session, member).await?;
            let (mut valid, revoked) = revocation(member, at);
            valid.insert("_id", doc! { "$in": &sessions });
            db.collection::<Document>("sessions").update_many(valid, revoked).session(&mut *session).await?;
            mail::end_all(&db, session, member, Purpose::ChangeEmail).await?;
            push::remove_in(&db, session, doc! { "session_id": { "$in": sessions } }).await
        }
        .boxed()
    });
    done.await.map(drop)
}

/// Revokes the sessions that a change of their member ends, within its transaction. Returns them.
pub(super) async fn revoke_by_change(
    db: &Db,
    session: &mut ClientSession,
    member: MemberId,
    (which, at): (Revoked, Timestamp),
) -> Result<Vec<SessionId>, Fault> {
    let (mut valid, revoked) = revocation(member, at);
    match which {
        Revoked::None => return Ok(Vec::new()),
        Revoked::All => {}
        Revoked::AllBut(kept) => drop(valid.insert("_id", doc! { "$ne": session_oid(kept) })),
    }
    let sessions = db.collection::<Document>("sessions");
    let mut found = sessions.find(valid.clone()).projection(doc! { "_id": 1 }).session(&mut *session).await?;
    let mut ended = Vec::new();
    while let Some(one) = found.next(&mut *session).await.transpose()? {
        ended.push(SessionId::from_bytes(one.get_object_id("_id").unwrap_or_default().bytes()));
    }
    if !ended.is_empty() {
        sessions.update_many(valid, revoked).session(&mut *session).await?;
        let ids: Vec<ObjectId> = ended.iter().copied().map(session_oid).collect();
        push::remove_in(db, session, doc! { "session_id": { "$in": ids } }).await?;
    }
    Ok(ended)
}

/// Ends the tokens of the session that stays, and stores the one that it goes on with, within the transaction of the change. It has
/// arrived, as far as that matters: there is none before it. An exchange that is under way finds that the session has another one.
pub(super) async fn replace_tokens(
    db: &Db,
    session: &mut ClientSession,
    member: MemberId,
    kept: KeptSession,
    at: Timestamp,
) -> Result<(), Fault> {
    let (sessions, tokens) = (db.collection::<Document>("sessions"), db.collection::<Document>("refresh_tokens"));
    let valid = doc! { "_id": session_oid(kept.id), "member_id": member_oid(member), "revoked_at": null };
    let Some(found) = sessions.find_one(valid.clone()).session(&mut *session).await? else { return Ok(()) };
    let generation = signed(stored(&found)?.generation.saturating_add(1));
    let newest = hash(kept.token.hash);
    let replaced = doc! {
        "$set": {
            "newest": &newest,
            "attempt": null,
            "attempt_of": &newest,
            "generation": generation,
            "good_from": generation,
            "confirmed_at": date(at),
        },
        "$max": { "last_used_at": date(at) },
    };
    sessions.update_one(valid, replaced).session(&mut *session).await?;
    tokens.delete_many(doc! { "session_id": session_oid(kept.id) }).session(&mut *session).await?;
    tokens.insert_one(token_document(session_oid(kept.id), kept.token)).session(&mut *session).await?;
    // Whoever has copied a token may have registered a device with it. That of the member registers again, with its new tokens.
    push::remove_in(db, session, doc! { "session_id": session_oid(kept.id) }).await?;
    Ok(())
}

/// What forgets what sessions of a member say about devices and places: which, and how.
pub(super) fn forgetting(member: MemberId) -> (Document, Document) {
    (
        doc! { "member_id": member_oid(member) },
        doc! { "$unset": { "device": "", "known_device": "", "address": "", "last_address": "" } },
    )
}

/// What revokes every session of a member: which, and how.
fn revocation(member: MemberId, at: Timestamp) -> (Document, Document) {
    let valid = doc! { "member_id": member_oid(member), "revoked_at": null };
    (valid, doc! { "$set": { "revoked_at": date(at) } })
}

async fn purge(db: &Db, at: Timestamp) -> Result<usize, Fault> {
    let (tokens, sessions) = (db.collection::<Document>("refresh_tokens"), db.collection::<Document>("sessions"));
    let mut purged = 0;
    loop {
        let expired = doc! { "expires_at": { "$lt": date(at) } };
        let some = FindOptions::builder().projection(doc! { "session_id": 1 }).limit(PURGE).build();
        let found: Vec<Document> = db.all("refresh_tokens", expired, some).await?;
        if found.is_empty() {
            return Ok(purged);
        }
        let mut of: Vec<ObjectId> = found.iter().filter_map(|token| token.get_object_id("session_id").ok()).collect();
        of.sort_unstable();
        of.dedup();
        let ids: Vec<_> = found.into_iter().filter_map(|mut token| token.remove("_id")).collect();
        let deleted = tokens.delete_many(doc! { "_id": { "$in": ids } }).await?.deleted_count;
        purged += usize::try_from(deleted).unwrap_or(usize::MAX);
        for session in of {
            // Access tokens of such a session have long expired: they live shorter than refresh tokens.
            if tokens.find_one(doc! { "session_id": session }).max_time(db.max_time).await?.is_none() {
                sessions.delete_one(doc! { "_id": session }).await?;
                push::remove_of_sessions(db, &[session]).await?;
            }
        }
    }
}

#[async_trait]
impl SessionStore for Mongo {
    async fn start(&self, session: NewSession) -> Result<Option<Vec<SessionId>>, StoreError> {
        self.write(Caller::Member(session.member), async move |_, db| start(&db, session).await).await
    }

    async fn owner(&self, by: Caller, exchange: Exchange) -> Result<Option<TokenOwner>, StoreError> {
        self.read(Turn::of(by), async move |_, db| exchange::owner(&db, &exchange).await).await
    }

    async fn rotate(&self, member: MemberId, exchange: Exchange) -> Result<Rotation, StoreError> {
        self.write(Caller::Member(member), async move |_, db| exchange::rotate(&db, &exchange).await).await
    }

    async fn confirm(
        &self,
        member: MemberId,
        session: SessionId,
        generation: u64,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(Caller::Member(member), async move |_, db| confirm(&db, session, generation, at).await).await
    }

    async fn prove(&self, member: MemberId, session: SessionId, at: Timestamp) -> Result<(), StoreError> {
        self.write(Caller::Member(member), async move |_, db| prove(&db, member, session, at).await).await
    }

    async fn rename(&self, member: MemberId, session: SessionId, name: String) -> Result<bool, StoreError> {
        self.write(Caller::Member(member), async move |_, db| rename(&db, member, session, name).await).await
    }

    async fn view(&self, session: SessionId) -> Result<Option<SessionView>, StoreError> {
        self.read(Turn::session(session), async move |_, db| view(&db, session).await).await
    }

    async fn views(&self, sessions: Vec<SessionId>) -> Result<Vec<Option<SessionView>>, StoreError> {
        let turn = Turn::look_ups(Caller::System, sessions.len());
        self.read(turn, async move |_, db| views(&db, &sessions).await).await
    }

    async fn of_member(&self, member: MemberId) -> Result<Vec<SessionRecord>, StoreError> {
        self.read(Turn::light(member), async move |_, db| of_member(&db, member).await).await
    }

    async fn revoke_many(&self, member: MemberId, sessions: Vec<SessionId>, at: Timestamp) -> Result<(), StoreError> {
        self.write(Caller::Member(member), async move |_, db| revoke_many(&db, member, sessions, at).await).await
    }

    async fn purge(&self, at: Timestamp) -> Result<usize, StoreError> {
        // Without a turn: it is long, and there is one of it.
        self.call(async move |_, db| purge(&db, at).await).await
    }
}
