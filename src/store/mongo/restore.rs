//! Ending what a restored backup has brought back.
//!
//! Nobody waits for it but who has called it, and no server may start before it is done: it takes the time that it needs. What is there is
//! gone through in the order of ids and changed some documents at a time, so that no command is a long one, and a command that failed in
//! passing is sent again. None of it is in a transaction: each document ends for itself, and who is interrupted runs it again.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use mongodb::{
    bson::{Bson, Document, doc},
    options::{Acknowledgment, WriteConcern},
};
use tokio::time::sleep;

use super::{audit, db::Db, document::date, fault::Fault, invitations::can_open, link::Link};
use crate::store::{
    StoreError,
    audit::AuditRecord,
    restore::{Ended, Ending},
};

/// Documents that are changed by one command.
const BATCH: i64 = 1_000;
/// How often a command is sent that fails in passing: as while the replica set has no primary.
const ATTEMPTS: u32 = 30;
/// The pause before it is sent again.
const PAUSE: Duration = Duration::from_secs(2);

/// Ends it, one after the other, and last writes what the audit log keeps of that. May be made again.
pub(super) async fn end(link: &Link, ending: Ending) -> Result<Ended, Fault> {
    let at = ending.at;
    let revoke = || Some(doc! { "$set": { "revoked_at": date(at) } });
    let good = doc! { "is_over": false, "expires_at": { "$gt": date(at) } };
    let ended = Ended {
        sessions: each(link, "sessions", doc! { "revoked_at": null }, revoke()).await?,
        links: each(link, "links", good, Some(doc! { "$set": { "is_over": true } })).await?,
        mails: each(link, "mail", doc! {}, None).await?,
        invitations: if ending.invitations {
            Some(each(link, "invitations", can_open(at), revoke()).await?)
        } else {
            None
        },
    };
    // What is registered for pushes goes with its session, and what hangs on it: last what says whose that is.
    for collection in ["push_tasks", "push_marks", "push_devices"] {
        each(link, collection, doc! {}, None).await?;
    }
    let entry = ended.audit(at);
    patiently(link, |db| append_once(db, entry.clone())).await?;
    Ok(ended)
}

/// Changes every document that is meant, or removes it if there is no change. Returns how many: each was found as it was before, and is
/// known to be changed.
async fn each(link: &Link, collection: &'static str, meant: Document, change: Option<Document>) -> Result<u64, Fault> {
    let (mut next, mut ended) = (meant.clone(), 0);
    loop {
        let ids = patiently(link, |db| batch(db, collection, next.clone())).await?;
        let Some(last) = ids.last().cloned() else { return Ok(ended) };
        patiently(link, |db| end_those(db, collection, ids.clone(), change.clone())).await?;
        ended += u64::try_from(ids.len()).unwrap_or(u64::MAX);
        next.clone_from(&meant);
        next.insert("_id", doc! { "$gt": last });
    }
}

/// The ids of the first ones. Without a limit of time: there may be many before them that are not meant.
async fn batch(db: Db, collection: &'static str, meant: Document) -> Result<Vec<Bson>, Fault> {
    let documents = db.collection::<Document>(collection);
    let found = documents.find(meant).sort(doc! { "_id": 1 }).limit(BATCH).projection(doc! { "_id": 1 }).await?;
    let found: Vec<Document> = found.try_collect().await?;
    Ok(found.into_iter().filter_map(|mut found| found.remove("_id")).collect())
}

/// Changes those, or removes them. May be made again.
async fn end_those(db: Db, collection: &'static str, ids: Vec<Bson>, change: Option<Document>) -> Result<(), Fault> {
    let (documents, those) = (db.collection::<Document>(collection), doc! { "_id": { "$in": ids } });
    // Durable as ever, but the other servers of the replica set may take their time.
    let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    match change {
        Some(change) => documents.update_many(those, change).write_concern(durable).await.map(drop)?,
        None => documents.delete_many(those).write_concern(durable).await.map(drop)?,
    }
    Ok(())
}

/// Appends an entry, unless an attempt has done so whose answer was lost.
async fn append_once(db: Db, entry: AuditRecord) -> Result<(), Fault> {
    let same = doc! { "action": entry.action.as_str(), "at": date(entry.at) };
    match db.collection::<Document>("audit").find_one(same).await? {
        Some(_) => Ok(()),
        None => audit::append(&db, &entry, None).await,
    }
}

/// Makes a call that may be made again, until it succeeds or fails for good.
async fn patiently<T, F>(link: &Link, call: impl Fn(Db) -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut attempt = 1;
    loop {
        let done = match link.db().await {
            Ok(db) => call(db).await.map_err(Fault::of_write),
            Err(error) => Err(error.into()),
        };
        match done {
            Err(fault) if fault.is_passing() && attempt < ATTEMPTS => {
                let error = StoreError::from(fault);
                tracing::warn!(%error, attempt, "the database did not do what was asked; it is asked again");
                sleep(PAUSE).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}
