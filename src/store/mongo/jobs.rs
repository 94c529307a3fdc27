//! Jobs.

use async_trait::async_trait;
use mongodb::{
    ClientSession,
    bson::{Document, doc, oid::ObjectId},
    options::{FindOptions, ReturnDocument},
};
use protocol::Timestamp;

use super::{
    Mongo,
    db::Db,
    document::{date, time},
    fault::Fault,
};
use crate::store::{
    JobStore, StoreError,
    archive::JobRow,
    jobs::{Job, JobChanges, TakenJob},
    turns::{Caller, Turn},
};

fn job(document: &Document) -> Option<Job> {
    serde_json::from_str(document.get_str("body").ok()?).ok()
}

fn body(job: Job) -> Result<String, Fault> {
    serde_json::to_string(&job).map_err(|error| Fault::Data(error.to_string()))
}

/// Of a kind that this server knows.
fn known() -> Document {
    doc! { "kind": { "$in": Job::KINDS.to_vec() } }
}

/// A revision: an id that is used once, shortened.
fn drawn() -> i64 {
    let [_, _, _, _, rest @ ..] = ObjectId::new().bytes();
    i64::from_be_bytes(rest)
}

fn attempts(document: &Document) -> u32 {
    u32::try_from(document.get_i64("attempts").unwrap_or(0)).unwrap_or(u32::MAX)
}

/// Writes a job, in a transaction if there is one.
async fn add(db: &Db, job: Job, due: Timestamp, session: Option<&mut ClientSession>) -> Result<(), Fault> {
    let merge = if job.is_put_off() { "$max" } else { "$min" };
    let write = doc! {
        merge: { "due": date(due) },
        "$set": { "revision": drawn() },
        "$setOnInsert": { "kind": job.kind(), "body": body(job)?, "attempts": 0_i64 },
    };
    let jobs = db.collection::<Document>("jobs");
    let update = jobs.update_one(doc! { "_id": job.key() }, write).upsert(true);
    match session {
        Some(session) => update.session(session).await?,
        None => update.await?,
    };
    Ok(())
}

/// Writes what a change does to the jobs; those that it adds are due at once.
pub(super) async fn apply(
    db: &Db,
    session: &mut ClientSession,
    changes: &JobChanges,
    at: Timestamp,
) -> Result<(), Fault> {
    if !changes.cancelled.is_empty() {
        let keys: Vec<String> = changes.cancelled.iter().map(Job::key).collect();
        let jobs = db.collection::<Document>("jobs");
        jobs.delete_many(doc! { "_id": { "$in": keys } }).session(&mut *session).await?;
    }
    for job in &changes.added {
        add(db, *job, at, Some(&mut *session)).await?;
    }
    Ok(())
}

pub(super) fn record(document: &Document) -> Option<JobRow> {
    let due = time(*document.get_datetime("due").ok()?);
    Some(JobRow { job: job(document)?, due, attempts: attempts(document) })
}

pub(super) fn document(row: &JobRow) -> Result<Document, Fault> {
    Ok(doc! {
        "_id": row.job.key(),
        "body": body(row.job)?,
        "due": date(row.due),
        "attempts": i64::from(row.attempts),
        "kind": row.job.kind(),
        "revision": drawn(),
    })
}

async fn take(db: &Db, now: Timestamp, until: Timestamp) -> Result<Option<TakenJob>, Fault> {
    let mut due = known();
    due.insert("due", doc! { "$lte": date(now) });
    let take = doc! { "$set": { "due": date(until) }, "$inc": { "attempts": 1_i64 } };
    let taken = db
        .collection::<Document>("jobs")
        .find_one_and_update(due, take)
        .sort(doc! { "due": 1 })
        .return_document(ReturnDocument::After)
        .max_time(db.max_time)
        .await?;
    let Some(taken) = taken else { return Ok(None) };
    let revision = taken.get_i64("revision").map_err(|error| Fault::Data(error.to_string()))?;
    Ok(job(&taken).map(|job| TakenJob { job, attempts: attempts(&taken), revision }))
}

/// The same job, unless it was written again since it was taken.
fn still(taken: &TakenJob) -> Document {
    doc! { "_id": taken.job.key(), "revision": taken.revision }
}

#[async_trait]
impl JobStore for Mongo {
    async fn add(&self, job: Job, due: Timestamp) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| add(&db, job, due, None).await).await
    }

    async fn take(&self, now: Timestamp, until: Timestamp) -> Result<Option<TakenJob>, StoreError> {
        self.write(Caller::System, async move |_, db| take(&db, now, until).await).await
    }

    async fn finish(&self, taken: TakenJob) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| {
            db.collection::<Document>("jobs").delete_one(still(&taken)).await?;
            Ok(())
        })
        .await
    }

    async fn postpone(&self, taken: TakenJob, due: Timestamp) -> Result<(), StoreError> {
        self.write(Caller::System, async move |_, db| {
            let due = doc! { "$set": { "due": date(due) } };
            db.collection::<Document>("jobs").update_one(still(&taken), due).await?;
            Ok(())
        })
        .await
    }

    async fn waiting(&self, limit: usize) -> Result<Vec<(Job, Timestamp)>, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let options = FindOptions::builder().sort(doc! { "due": 1 }).limit(limit).build();
            let found: Vec<Document> = db.all("jobs", known(), options).await?;
            Ok(found.iter().filter_map(record).map(|row| (row.job, row.due)).collect())
        })
        .await
    }
}
