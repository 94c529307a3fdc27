//! Sessions and their refresh tokens.
//!
//! No step needs a transaction: each leaves something that is safe if the next one does not happen. A token's successor
//! is stored before the token is used up, and nobody knows it before both were done.

use std::collections::HashMap;

use async_trait::async_trait;
use mongodb::{
    bson::{Binary, DateTime, Document, doc, oid::ObjectId, spec::BinarySubtype},
    options::{FindOneOptions, FindOptions},
};
use protocol::{MemberId, SessionId, Timestamp};

use super::{
    Mongo,
    db::Db,
    document::{date, member_oid, time, user_type},
    fault::{Fault, is_duplicate},
    members,
};
use crate::store::{
    SessionStore, StoreError,
    sessions::{
        NewToken, Rotation, SESSIONS_OF_MEMBER, SESSIONS_REMOVED, SessionRecord, SessionView, TokenHash, TokenOwner,
        USED_TOKENS_OF_MEMBER, USED_TOKENS_OF_SESSION,
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

async fn store_token(db: &Db, session: ObjectId, token: NewToken) -> Result<(), Fault> {
    let token =
        doc! { "_id": hash(token.hash), "session_id": session, "expires_at": date(token.expires_at), "used_at": null };
    match db.collection::<Document>("refresh_tokens").insert_one(token).await {
        // Of an attempt whose answer was lost.
        Err(error) if is_duplicate(&error) => Ok(()),
        stored => Ok(stored.map(drop)?),
    }
}

async fn start(
    db: &Db,
    session: SessionId,
    member: MemberId,
    token: NewToken,
    at: Timestamp,
) -> Result<Option<Vec<SessionId>>, Fault> {
    let (member, id) = (member_oid(member), session_oid(session));
    let session = doc! { "_id": id, "member_id": member, "created_at": date(at), "revoked_at": null };
    match db.collection::<Document>("sessions").insert_one(session).await {
        Err(error) if !is_duplicate(&error) => return Err(error.into()),
        _ => {}
    }
    store_token(db, id, token).await?;
    // Last: whoever deactivates the member writes the same document, and either finds the session or is found here.
    if !record_login(db, member, at).await? {
        db.collection::<Document>("refresh_tokens").delete_many(doc! { "session_id": id }).await?;
        db.collection::<Document>("sessions").delete_one(doc! { "_id": id }).await?;
        return Ok(None);
    }
    remove_oldest(db, member, id).await.map(Some)
}

/// Records a login at its member, who may sign in; a suspension that is over leaves nothing. False: they may not.
async fn record_login(db: &Db, member: ObjectId, at: Timestamp) -> Result<bool, Fault> {
    let members = db.collection::<Document>("members");
    for (until, more) in [
        (doc! { "suspended_until": null }, doc! {}),
        (doc! { "suspended_until": { "$lte": date(at) } }, doc! { "suspended_until": null, "suspension_reason": null }),
    ] {
        let (mut active, mut login) = (doc! { "_id": member, "is_active": true }, doc! { "last_login": date(at) });
        active.extend(until);
        login.extend(more);
        if members.update_one(active, doc! { "$set": login }).await?.matched_count > 0 {
            return Ok(true);
        }
    }
    Ok(false)
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
    db.collection::<Document>("sessions").delete_many(doc! { "_id": { "$in": ids } }).await?;
    let valid = beyond.into_iter().filter(|(revoked, _)| !revoked);
    Ok(valid.map(|(_, id)| SessionId::from_bytes(id.bytes())).collect())
}

/// A session as stored.
struct Stored {
    member: MemberId,
    revoked_at: Option<DateTime>,
}

async fn find_session(db: &Db, id: ObjectId) -> Result<Option<Stored>, Fault> {
    let found = db.one("sessions", doc! { "_id": id }, FindOneOptions::default()).await?;
    let found: Option<Document> = found;
    found.as_ref().map(stored).transpose()
}

async fn owner(db: &Db, token: TokenHash, at: Timestamp) -> Result<Option<TokenOwner>, Fault> {
    let good = doc! { "_id": hash(token), "expires_at": { "$gt": date(at) } };
    let tokens = db.collection::<Document>("refresh_tokens");
    let Some(token) = tokens.find_one(good).max_time(db.max_time).await? else { return Ok(None) };
    let used = token.get_datetime("used_at").is_ok();
    let session = token.get_object_id("session_id").map_err(|error| Fault::Data(error.to_string()))?;
    let found = find_session(db, session).await?.filter(|found| found.revoked_at.is_none());
    Ok(found.map(|Stored { member, .. }| TokenOwner { member, used }))
}

async fn rotate(db: &Db, presented: TokenHash, next: NewToken, at: Timestamp) -> Result<Rotation, Fault> {
    let tokens = db.collection::<Document>("refresh_tokens");
    let Some(token) = tokens.find_one(doc! { "_id": hash(presented) }).max_time(db.max_time).await? else {
        return Ok(Rotation::Invalid);
    };
    let (Ok(session_id), Ok(expires_at)) = (token.get_object_id("session_id"), token.get_datetime("expires_at")) else {
        return Err(Fault::Data("a token without session_id or expires_at".to_owned()));
    };
    let Some(stored) = find_session(db, session_id).await? else { return Ok(Rotation::Invalid) };
    let used = token.get_datetime("used_at").is_ok();
    // By this very attempt, whose answer was late.
    let revoked_just_now = used && stored.revoked_at == Some(date(at));
    if (stored.revoked_at.is_some() && !revoked_just_now) || *expires_at <= date(at) {
        return Ok(Rotation::Invalid);
    }
    let session = SessionId::from_bytes(session_id.bytes());
    let member = members::by_id(db, stored.member).await?;
    let member = member.ok_or_else(|| Fault::Data("a session of a member who does not exist".to_owned()))?;
    let by_this_attempt = token.get_binary_generic("next").is_ok_and(|successor| *successor == next.hash);
    let mut reused = used && !by_this_attempt;
    if !used {
        if !member.profile.may_sign_in(at) {
            return Ok(Rotation::Deactivated);
        }
        store_token(db, session_id, next).await?;
        let unused = doc! { "_id": hash(presented), "used_at": null };
        let using = tokens.update_one(unused, doc! { "$set": { "used_at": date(at), "next": hash(next.hash) } });
        if using.await?.matched_count == 0 {
            // Somebody was faster, unless that was an attempt of ours whose answer was lost.
            let token = tokens.find_one(doc! { "_id": hash(presented) }).max_time(db.max_time).await?;
            let successor = token.as_ref().and_then(|token| token.get_binary_generic("next").ok());
            reused = successor.is_none_or(|successor| *successor != next.hash);
        }
    }
    if reused {
        if !used {
            // Nobody was told of this successor.
            tokens.delete_one(doc! { "_id": hash(next.hash) }).await?;
        }
        revoke(db, session, at).await?;
        return Ok(Rotation::Reused { session, member: stored.member });
    }
    // The token is used up: whatever fails from here on must not let its client believe that it is not.
    if let Err(fault) = forget_used(db, stored.member, session_id).await {
        tracing::debug!(%session, error = %StoreError::from(fault), "used tokens are kept for longer");
    }
    Ok(Rotation::Rotated { session, member: Box::new(member) })
}

/// Removes used tokens beyond those that are kept.
async fn forget_used(db: &Db, member: MemberId, session: ObjectId) -> Result<(), Fault> {
    let id_only = FindOptions::builder().projection(doc! { "_id": 1 }).build();
    let sessions: Vec<Document> = db.all("sessions", doc! { "member_id": member_oid(member) }, id_only).await?;
    let sessions: Vec<ObjectId> = sessions.iter().filter_map(|session| session.get_object_id("_id").ok()).collect();
    for (sessions, kept) in [(vec![session], USED_TOKENS_OF_SESSION), (sessions, USED_TOKENS_OF_MEMBER)] {
        let used = doc! { "session_id": { "$in": sessions }, "used_at": { "$ne": null } };
        let older = FindOptions::builder()
            .projection(doc! { "_id": 1 })
            .sort(doc! { "used_at": -1 })
            .skip(u64::try_from(kept).unwrap_or(u64::MAX))
            .limit(PURGE)
            .build();
        let older: Vec<Document> = db.all("refresh_tokens", used, older).await?;
        let older: Vec<_> = older.into_iter().filter_map(|mut token| token.remove("_id")).collect();
        if !older.is_empty() {
            db.collection::<Document>("refresh_tokens").delete_many(doc! { "_id": { "$in": older } }).await?;
        }
    }
    Ok(())
}

fn stored(found: &Document) -> Result<Stored, Fault> {
    let member = found.get_object_id("member_id").map_err(|error| Fault::Data(error.to_string()))?;
    let revoked_at = found.get_datetime("revoked_at").ok().copied();
    Ok(Stored { member: MemberId::from_bytes(member.bytes()), revoked_at })
}

/// A session and the state of its member.
fn view_of(Stored { member, revoked_at }: &Stored, found: &Document) -> Result<SessionView, Fault> {
    let user_type = user_type(found.get_str("user_type").unwrap_or_default())?;
    let is_active = found.get_bool("is_active").unwrap_or(false);
    let suspended_until = found.get_datetime("suspended_until").ok().map(|until| time(*until));
    Ok(SessionView { member: *member, user_type, is_active, suspended_until, revoked: revoked_at.is_some() })
}

/// What [`view_of`] needs of a member.
fn member_fields() -> Document {
    doc! { "user_type": 1, "is_active": 1, "suspended_until": 1 }
}

async fn view(db: &Db, session: SessionId) -> Result<Option<SessionView>, Fault> {
    let Some(stored) = find_session(db, session_oid(session)).await? else { return Ok(None) };
    let fields = FindOneOptions::builder().projection(member_fields()).build();
    let found: Option<Document> = db.one("members", doc! { "_id": member_oid(stored.member) }, fields).await?;
    found.map(|found| view_of(&stored, &found)).transpose()
}

/// The sessions before the members, as [`view`] does it: whoever deactivates a member changes both.
async fn views(db: &Db, sessions: &[SessionId]) -> Result<Vec<Option<SessionView>>, Fault> {
    let by_id = |found: Vec<Document>| -> HashMap<ObjectId, Document> {
        found.into_iter().filter_map(|found| Some((found.get_object_id("_id").ok()?, found))).collect()
    };
    let ids: Vec<ObjectId> = sessions.iter().copied().map(session_oid).collect();
    let fields = FindOptions::builder().projection(doc! { "member_id": 1, "revoked_at": 1 }).build();
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
    let sessions = found.iter().map(|session| SessionRecord {
        id: SessionId::from_bytes(id_of(session).bytes()),
        created_at: session.get_datetime("created_at").map_or(Timestamp::from_millis(0), |at| time(*at)),
        revoked_at: session.get_datetime("revoked_at").ok().map(|at| time(*at)),
    });
    Ok(sessions.collect())
}

async fn revoke(db: &Db, session: SessionId, at: Timestamp) -> Result<(), Fault> {
    let valid = doc! { "_id": session_oid(session), "revoked_at": null };
    let sessions = db.collection::<Document>("sessions");
    let revoked = sessions.update_one(valid, doc! { "$set": { "revoked_at": date(at) } });
    revoked.await?;
    Ok(())
}

async fn revoke_many(db: &Db, member: MemberId, sessions: Vec<SessionId>, at: Timestamp) -> Result<(), Fault> {
    let (mut valid, revoked) = revocation(member, at);
    let sessions: Vec<ObjectId> = sessions.into_iter().map(session_oid).collect();
    valid.insert("_id", doc! { "$in": sessions });
    db.collection::<Document>("sessions").update_many(valid, revoked).await?;
    Ok(())
}

/// What revokes every session of a member: which, and how.
pub(super) fn revocation(member: MemberId, at: Timestamp) -> (Document, Document) {
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
            }
        }
    }
}

#[async_trait]
impl SessionStore for Mongo {
    async fn start(
        &self,
        session: SessionId,
        member: MemberId,
        token: NewToken,
        at: Timestamp,
    ) -> Result<Option<Vec<SessionId>>, StoreError> {
        self.write(Caller::Member(member), async move |_, db| start(&db, session, member, token, at).await).await
    }

    async fn owner(&self, by: Caller, token: TokenHash, at: Timestamp) -> Result<Option<TokenOwner>, StoreError> {
        self.read(Turn::of(by), async move |_, db| owner(&db, token, at).await).await
    }

    async fn rotate(
        &self,
        member: MemberId,
        used: TokenHash,
        next: NewToken,
        at: Timestamp,
    ) -> Result<Rotation, StoreError> {
        self.write(Caller::Member(member), async move |_, db| rotate(&db, used, next, at).await).await
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
