//! Jobs.

use async_trait::async_trait;
use protocol::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Sqlite,
    row::{inconsistent, time},
};
use crate::store::{
    JobStore, StoreError,
    archive::JobRow,
    jobs::{Job, JobChanges, TakenJob},
    turns::Turn,
};

/// Of a kind that this server knows.
const KNOWN: &str = "substr(key, 1, instr(key, '/') - 1) IN ('delete_photo', 'check_upload', 'forget_addresses')";

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let body: String = row.get("body")?;
    serde_json::from_str(&body).map_err(|_| inconsistent("a job"))
}

fn body(job: Job) -> rusqlite::Result<String> {
    serde_json::to_string(&job).map_err(|_| inconsistent("a job"))
}

pub(super) fn add(connection: &Connection, job: Job, due: Timestamp) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO jobs (key, body, due, revision) VALUES (?, ?, ?, random())
         ON CONFLICT (key) DO UPDATE SET revision = excluded.revision,
             due = CASE WHEN ? THEN max(due, excluded.due) ELSE min(due, excluded.due) END",
    )?;
    insert.execute(params![job.key(), body(job)?, due.as_millis(), job.is_put_off()]).map(drop)
}

/// Writes what a change does to the jobs; those that it adds are due at once.
pub(super) fn apply(connection: &Connection, changes: &JobChanges, at: Timestamp) -> rusqlite::Result<()> {
    for job in &changes.cancelled {
        connection.prepare_cached("DELETE FROM jobs WHERE key = ?")?.execute([job.key()])?;
    }
    changes.added.iter().try_for_each(|job| add(connection, *job, at))
}

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow { job: job(row)?, due: time(row, "due")?, attempts: row.get("attempts")? })
}

/// Stores a job of another store, unless it is there.
pub(super) fn restore(connection: &Connection, row: &JobRow) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO jobs (key, body, due, attempts, revision) VALUES (?, ?, ?, ?, random()) ON CONFLICT DO NOTHING",
    )?;
    insert.execute(params![row.job.key(), body(row.job)?, row.due.as_millis(), row.attempts]).map(drop)
}

fn take(connection: &Connection, now: Timestamp, until: Timestamp) -> rusqlite::Result<Option<TakenJob>> {
    let mut take = connection.prepare_cached(&format!(
        "UPDATE jobs SET due = ?2, attempts = attempts + 1
         WHERE key = (SELECT key FROM jobs WHERE due <= ?1 AND {KNOWN} ORDER BY due LIMIT 1)
         RETURNING body, attempts, revision",
    ))?;
    let taken = take.query_row([now.as_millis(), until.as_millis()], |row| {
        Ok(TakenJob { job: job(row)?, attempts: row.get("attempts")?, revision: row.get("revision")? })
    });
    taken.optional()
}

#[async_trait]
impl JobStore for Sqlite {
    async fn add(&self, job: Job, due: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| add(tx.connection, job, due)).await
    }

    async fn take(&self, now: Timestamp, until: Timestamp) -> Result<Option<TakenJob>, StoreError> {
        self.write(move |tx| take(tx.connection, now, until)).await
    }

    async fn finish(&self, taken: TakenJob) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut delete = tx.connection.prepare_cached("DELETE FROM jobs WHERE key = ? AND revision = ?")?;
            delete.execute(params![taken.job.key(), taken.revision]).map(drop)
        })
        .await
    }

    async fn postpone(&self, taken: TakenJob, due: Timestamp) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut update = tx.connection.prepare_cached("UPDATE jobs SET due = ? WHERE key = ? AND revision = ?")?;
            update.execute(params![due.as_millis(), taken.job.key(), taken.revision]).map(drop)
        })
        .await
    }

    async fn waiting(&self, limit: usize) -> Result<Vec<(Job, Timestamp)>, StoreError> {
        self.read(Turn::SYSTEM, move |connection| {
            let sql = format!("SELECT body, due FROM jobs WHERE {KNOWN} ORDER BY due LIMIT ?");
            let mut query = connection.prepare_cached(&sql)?;
            query.query_map([limit], |row| Ok((job(row)?, time(row, "due")?)))?.collect()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known() {
        assert!(Job::KINDS.iter().all(|kind| KNOWN.contains(&format!("'{kind}'"))));
        assert_eq!(KNOWN.matches('\'').count(), 2 + 2 * Job::KINDS.len());
    }
}
