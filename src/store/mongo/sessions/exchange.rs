//! Exchanging a refresh token for its successor.

use mongodb::{
    bson::{Document, doc, oid::ObjectId},
    options::FindOptions,
};
use protocol::{MemberId, SessionId, Timestamp};

use super::{PURGE, Stored, find_session, hash, revoke_many, store_token, token_hash};
use crate::store::{
    StoreError,
    mongo::{
        db::Db,
        document::{date, member_oid, time},
        fault::Fault,
        members,
    },
    sessions::{
        AHEAD, AttemptHash, Exchange, NewToken, Presented, Renewal, Rotation, TokenFacts, TokenHash, TokenOwner,
        USED_TOKENS_OF_MEMBER, USED_TOKENS_OF_SESSION, end, presented,
    },
};

/// How often it is looked again at a session in which another exchange of the same token was faster. The second look finds what it did.
const LOOKS: usize = 4;

pub(super) async fn owner(db: &Db, exchange: &Exchange) -> Result<Option<TokenOwner>, Fault> {
    let found = find_token(db, exchange.used).await?;
    let Some(token) = found.filter(|found| found.expires_at > exchange.at) else { return Ok(None) };
    let found = find_session(db, token.session).await?.filter(|found| found.revoked_at.is_none());
    Ok(found.and_then(|stored| match presented(exchange, facts(&token, &stored)) {
        Presented::Late => None,
        presented => Some(TokenOwner { member: stored.member, spent: presented == Presented::Spent }),
    }))
}

/// What [`presented`] decides from.
fn facts(token: &StoredToken, stored: &Stored) -> TokenFacts {
    let Stored { newest, confirmed_at, made_by, .. } = *stored;
    TokenFacts { used: token.used, used_by: token.used_by, newest, confirmed_at, made_by }
}

/// A refresh token as stored.
struct StoredToken {
    session: ObjectId,
    expires_at: Timestamp,
    used: bool,
    used_by: Option<AttemptHash>,
}

async fn find_token(db: &Db, token: TokenHash) -> Result<Option<StoredToken>, Fault> {
    let tokens = db.collection::<Document>("refresh_tokens");
    let Some(token) = tokens.find_one(doc! { "_id": hash(token) }).max_time(db.max_time).await? else {
        return Ok(None);
    };
    let (Ok(session), Ok(expires_at)) = (token.get_object_id("session_id"), token.get_datetime("expires_at")) else {
        return Err(Fault::Data("a token without session_id or expires_at".to_owned()));
    };
    let (used, used_by) = (token.get_datetime("used_at").is_ok(), token_hash(&token, "attempt"));
    Ok(Some(StoredToken { session, expires_at: time(*expires_at), used, used_by }))
}

pub(super) async fn rotate(db: &Db, exchange: &Exchange) -> Result<Rotation, Fault> {
    for _ in 0..LOOKS {
        if let Some(rotation) = try_rotate(db, exchange).await? {
            return Ok(rotation);
        }
    }
    // It may be made again.
    Err(StoreError::Timeout.into())
}

/// Exchanges a token, unless another exchange has changed the session since it was looked at.
async fn try_rotate(db: &Db, exchange: &Exchange) -> Result<Option<Rotation>, Fault> {
    let Exchange { used, at, .. } = *exchange;
    let Some(token) = find_token(db, used).await? else { return Ok(Some(Rotation::Invalid)) };
    let Some(stored) = find_session(db, token.session).await? else { return Ok(Some(Rotation::Invalid)) };
    let Stored { newest, generation, .. } = stored;
    let presented = presented(exchange, facts(&token, &stored));
    // By this very attempt, whose answer was late.
    let revoked_just_now = presented == Presented::Spent && stored.revoked_at == Some(at);
    let ends_at = end(stored.created_at, stored.ends_at, exchange.session_lifetime);
    let is_over = (stored.revoked_at.is_some() && !revoked_just_now) || token.expires_at <= at || ends_at <= at;
    if is_over || presented == Presented::Late {
        return Ok(Some(Rotation::Invalid));
    }
    let session = SessionId::from_bytes(token.session.bytes());
    if presented == Presented::Spent {
        revoke_many(db, stored.member, vec![session], at).await?;
        return Ok(Some(Rotation::Reused { session, member: stored.member }));
    }
    let member = members::by_id(db, stored.member).await?;
    let member = member.ok_or_else(|| Fault::Data("a session of a member who does not exist".to_owned()))?;
    if !member.profile.may_sign_in(at) {
        return Ok(Some(Rotation::Deactivated));
    }
    let (successor, expires_at, generation, again) = match presented {
        Presented::Again(successor) => {
            let Some(newest) = find_token(db, successor).await? else { return Ok(Some(Rotation::Invalid)) };
            (successor, newest.expires_at, generation, true)
        }
        _ => {
            let expires_at = at.after(exchange.token_lifetime).min(ends_at);
            let next = NewToken { hash: exchange.successor, expires_at };
            if !replace(db, exchange, &token, newest, next, ends_at).await? {
                return Ok(None);
            }
            (next.hash, expires_at, generation.saturating_add(1), false)
        }
    };
    // The token is used up: whatever fails from here on must not let its client believe that it is not.
    let marked = if token.used { Ok(()) } else { mark_used(db, exchange).await };
    let tidied = match marked {
        Ok(()) if !again => forget_used(db, stored.member, token.session, at).await,
        other => other,
    };
    if let Err(fault) = tidied {
        tracing::debug!(%session, error = %StoreError::from(fault), "used tokens are kept for longer");
    }
    Ok(Some(Rotation::Rotated(Box::new(Renewal {
        session,
        member,
        successor,
        expires_at,
        generation,
        ends_at,
        again,
    }))))
}

/// Makes `next` the newest token of a session, if that is still the one that is presented. Says whether it was.
async fn replace(
    db: &Db,
    exchange: &Exchange,
    token: &StoredToken,
    newest: Option<TokenHash>,
    next: NewToken,
    ends_at: Timestamp,
) -> Result<bool, Fault> {
    store_token(db, token.session, next).await?;
    let current = doc! { "_id": token.session, "revoked_at": null, "newest": newest.map(hash) };
    let replaced = doc! {
        "$set": {
            "newest": hash(next.hash),
            "attempt": exchange.attempt.map(hash),
            // A node of a former version leaves both as they are.
            "attempt_of": hash(next.hash),
            "confirmed_at": null,
            "ends_at": date(ends_at),
            "last_address": exchange.address.map(|address| address.to_string()),
        },
        "$inc": { "generation": 1_i64 },
        "$max": { "last_used_at": date(exchange.at) },
    };
    Ok(db.collection::<Document>("sessions").update_one(current, replaced).await?.matched_count > 0)
}

async fn mark_used(db: &Db, exchange: &Exchange) -> Result<(), Fault> {
    let unused = doc! { "_id": hash(exchange.used), "used_at": null };
    let used = doc! { "$set": { "used_at": date(exchange.at), "attempt": exchange.attempt.map(hash) } };
    db.collection::<Document>("refresh_tokens").update_one(unused, used).await?;
    Ok(())
}

/// Removes used tokens beyond those that are kept. Those of a time that is not yet, when the clock was ahead, are the first to go.
async fn forget_used(db: &Db, member: MemberId, session: ObjectId, at: Timestamp) -> Result<(), Fault> {
    let latest = date(at.after(AHEAD));
    let id_only = FindOptions::builder().projection(doc! { "_id": 1 }).build();
    let sessions: Vec<Document> = db.all("sessions", doc! { "member_id": member_oid(member) }, id_only).await?;
    let sessions: Vec<ObjectId> = sessions.iter().filter_map(|session| session.get_object_id("_id").ok()).collect();
    for (sessions, kept) in [(vec![session], USED_TOKENS_OF_SESSION), (sessions, USED_TOKENS_OF_MEMBER)] {
        let used = doc! { "session_id": { "$in": sessions }, "used_at": { "$ne": null } };
        let most = PURGE.saturating_add(i64::try_from(kept).unwrap_or(i64::MAX));
        let newest_first = FindOptions::builder()
            .projection(doc! { "_id": 1, "used_at": 1 })
            .sort(doc! { "used_at": -1 })
            .limit(most)
            .build();
        let mut found: Vec<Document> = db.all("refresh_tokens", used, newest_first).await?;
        found.sort_by_key(|token| token.get_datetime("used_at").is_ok_and(|used_at| *used_at > latest));
        let older: Vec<_> = found.into_iter().skip(kept).filter_map(|mut token| token.remove("_id")).collect();
        if !older.is_empty() {
            db.collection::<Document>("refresh_tokens").delete_many(doc! { "_id": { "$in": older } }).await?;
        }
    }
    Ok(())
}
