//! The embedded store: one SQLite file, in WAL mode, with every commit on disk before it is acknowledged.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`writer`], [`memory`], [`health`] | the one thread that writes, and commits what has gathered together; what it remembers; how it is |
//! | [`checkpoint`] | moving changes from the log into the file, beside the commits |
//! | [`readers`] | the threads that read beside it |
//! | [`migrations`] | the numbered schema changes |
//! | [`mod@file`] | who may read it and who has it open, its schema, and the connection that writes |
//! | [`epochs`] | which cursors are still good |
//! | [`members`], [`sessions`], [`audit`], [`recommendations`], [`jobs`], [`invitations`], [`mail`] | these aggregates |
//! | [`claims`] | registrations with an address that is another's |
//! | [`candidates`] | whom one could recommend |
//! | [`search`] | the search index of members |
//! | [`log`], [`state`] | appending messages and moving watermarks; what the writer knows of a conversation |
//! | [`flush`] | bringing the rows that follow from the log up to date, later and in order |
//! | [`keys`] | where entries are found by what their sender calls them, and by their id |
//! | [`conversations`], [`history`] | reading conversations and changes; the log of one |
//! | [`unread`], [`tally`], [`recent`] | what a member has not read; how many entries each participant has sent; who sent the newest |
//! | [`push`] | devices, what they have acknowledged, and what they are to be told |
//! | [`archive`] | everything as rows |
//! | [`restore`] | ending what a restored backup has brought back |
//! | [`row`] | columns to types and back |

mod addresses;
mod archive;
mod audit;
mod candidates;
mod checkpoint;
mod claims;
mod conversations;
mod email_change;
mod epochs;
mod file;
mod flush;
mod health;
mod history;
mod invitations;
mod jobs;
mod keys;
mod list;
mod log;
mod mail;
mod members;
mod memory;
mod migrations;
mod push;
mod readers;
mod recent;
mod recommendations;
mod registration;
mod restore;
mod row;
mod search;
mod sessions;
mod settings;
mod state;
mod tally;
mod unread;
mod writer;

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

pub use self::file::{has_file, migrate};
use self::{
    checkpoint::{Checkpoints, Scrubber},
    file::{connect, create_private, lock, of_file, place, prepare_once, refuse_foreign, update_schema},
    flush::{Flushed, Stuck},
    keys::Builder,
    memory::{Memory, Tx},
    push::Former,
    readers::Readers,
    writer::{Injected, Writer},
};
use super::{
    Backend, Store, StoreError,
    conversations::{ConversationCounts, StoreId},
    epochs::Epochs,
    restore::{Ended, Ending},
    turns::{Caller, Turn},
};
use crate::{clock::Clock, ids::Ids, supervisor::Supervisor, telemetry::Metrics};

/// How to open the store.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file. It and its folder are created when they are missing.
    pub path: PathBuf,
    /// Threads that read.
    pub readers: usize,
    /// How long a call waits for its answer.
    pub timeout: Duration,
    /// Whether no other server may have the file open. A command beside a running server, which touches no
    /// conversation, may share it.
    pub exclusive: bool,
}

/// The embedded store.
pub struct Sqlite {
    path: PathBuf,
    store_id: StoreId,
    epochs: Epochs,
    writer: Writer,
    /// The position of the newest change that was committed.
    horizon: AtomicU64,
    /// Whether somebody has looked for whom to tell of what was stored before this process.
    former: Mutex<Former>,
    flushed: Arc<Flushed>,
    readers: Readers,
    scrubber: Scrubber,
    timeout: Duration,
    metrics: Arc<Metrics>,
    /// Held for as long as the store is open: two servers on one file would number the same conversation twice.
    _lock: Option<File>,
}

impl Sqlite {
    /// Opens the store, bringing its schema up to date.
    ///
    /// # Errors
    /// When the file cannot be opened or created, is another program's, belongs to another running server, or is from a newer
    /// version; without
    /// `exclusive`, when its schema has to be brought up to date and another server has it open.
    pub fn open(
        options: Options,
        clock: Arc<dyn Clock>,
        ids: Arc<Ids>,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<Store, StoreError> {
        let Options { path, readers, timeout, exclusive } = options;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| unavailable(&format!("{}: {error}", folder.display())))?;
        }
        refuse_foreign(&path)?;
        create_private(&path)?;
        let lock = if exclusive { Some(lock(&path)?) } else { None };
        let mut connection = connect(&path).map_err(of_file(&path))?;
        let mut is_scrubbed = !exclusive;
        let (memory, epochs) = if exclusive {
            migrations::run(&mut connection)?;
            let memory = recover(&mut connection).map_err(row::store_error)?;
            let epochs = epochs::begin(&mut connection, &ids).map_err(row::store_error)?;
            // A kill may have come between an erasure and the scrub of the log.
            let is_busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
            if let Err(error) = &is_busy {
                tracing::warn!(%error, "the log could not be moved into the file");
            }
            is_scrubbed = matches!(is_busy, Ok(false));
            (memory, epochs)
        } else {
            update_schema(&path, &mut connection)?;
            let memory = Memory::without_log(&connection).map_err(row::store_error)?;
            (memory, epochs::read(&connection).map_err(row::store_error)?)
        };
        let store_id =
            connection.query_row("SELECT store_id FROM meta", [], |row| row.get(0)).map_err(row::store_error)?;
        let former = push::place(&connection).map_err(row::store_error)?;
        let position = memory.states.flushed;
        let checkpoints = Checkpoints::spawn(&path, checkpoint::PAGES, &metrics, supervisor)?;
        let builder = exclusive.then(|| Builder::spawn(&path, supervisor)).transpose()?;
        let (scrubber, flushed) = (checkpoints.scrubber(), Arc::new(Flushed::new(position)));
        if !is_scrubbed {
            // A reader was in the way, or there is no room on the disk for what the log adds to the file.
            scrubber.scrub();
        }
        let injected = Injected { clock, ids, metrics: Arc::clone(&metrics) };
        let writing = (connection, memory);
        let writer = Writer::spawn(writing, checkpoints, builder, Arc::clone(&flushed), injected, supervisor)?;
        let readers = Readers::spawn(&path, readers, supervisor)?;
        let former = Former::of(former, position);
        let (store_id, horizon) = (StoreId(store_id), AtomicU64::new(position));
        let sqlite = Arc::new(Self {
            path,
            store_id,
            epochs,
            writer,
            horizon,
            former: Mutex::new(former),
            flushed,
            readers,
            scrubber,
            timeout,
            metrics,
            _lock: lock,
        });
        Ok(Store {
            members: Arc::clone(&sqlite) as _,
            sessions: Arc::clone(&sqlite) as _,
            conversations: Arc::clone(&sqlite) as _,
            log: Arc::clone(&sqlite) as _,
            recovery: None,
            fleet: None,
            audit: Arc::clone(&sqlite) as _,
            archive: Arc::clone(&sqlite) as _,
            recommendations: Arc::clone(&sqlite) as _,
            invitations: Arc::clone(&sqlite) as _,
            jobs: Arc::clone(&sqlite) as _,
            mail: Arc::clone(&sqlite) as _,
            push: Arc::clone(&sqlite) as _,
            backend: sqlite,
        })
    }

    /// Runs `work` in the next write transaction; returns once it is durable.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let started = tokio::time::Instant::now();
        let answer = self.writer.submit(work);
        let answer = self.count_error(self.wait_for(answer).await);
        self.metrics.store_write_seconds.observe(started.elapsed().as_secs_f64());
        answer
    }

    /// Runs `work` on a reading connection when it is its turn.
    async fn read<T, F>(&self, turn: Turn, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let started = tokio::time::Instant::now();
        let answer = self.readers.submit(turn, work);
        let answer = self.count_error(self.wait_for(answer).await);
        self.metrics.store_read_seconds.observe(started.elapsed().as_secs_f64());
        answer
    }

    /// The same, once the rows that follow from the log have everything that was acknowledged.
    async fn read_log<T, F>(&self, turn: Turn, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let horizon = self.horizon.load(Ordering::Acquire);
        if !self.flushed.has(horizon) {
            // Nobody waits for the answer of what wakes it.
            let wake = || self.writer.submit(|_| Ok(())).is_ok();
            let reached = tokio::time::timeout(self.timeout, self.flushed.reach(horizon, wake)).await;
            match reached {
                Ok(Ok(())) => {}
                Ok(Err(Stuck)) => return self.count_error(self.read_unwritten(work).await),
                Err(_) => return self.count_error(Err(StoreError::Timeout)),
            }
        }
        self.read(turn, work).await
    }

    /// Runs `work` where the rows are up to date and cannot be written, as on a full disk: see [`Writer::submit_read`].
    async fn read_unwritten<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let answer = self.writer.submit_read(work);
        self.wait_for(answer).await
    }

    /// Waits until what was erased is gone from the log too. If that takes too long it happens later.
    async fn scrub(&self) {
        let Some(done) = self.scrubber.scrub() else { return };
        match tokio::time::timeout(self.timeout, done).await {
            Ok(Ok(true)) => {}
            Ok(_) => tracing::warn!("erased data is still in the log; the next checkpoint or the end removes it"),
            Err(_) => tracing::warn!("readers are in the way of removing erased data from the log; it is tried again"),
        }
    }

    async fn wait_for<T>(
        &self,
        answer: Result<oneshot::Receiver<Result<T, StoreError>>, StoreError>,
    ) -> Result<T, StoreError> {
        tokio::time::timeout(self.timeout, wait(answer)).await.unwrap_or(Err(StoreError::Timeout))
    }

    fn count_error<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &answer {
            self.metrics.store_error(error.kind());
        }
        answer
    }
}

#[async_trait]
impl Backend for Sqlite {
    fn describe(&self) -> String {
        format!("SQLite, {}", place(&self.path).display())
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.read(Turn::of(Caller::Health), |connection| connection.query_row("SELECT 1", [], |_| Ok(()))).await?;
        // Nothing is put behind a transaction that hangs: whoever asks wants to know now.
        self.writer.progress(self.timeout)?;
        let Err(failure) = self.writer.health() else { return Ok(()) };
        if !self.writer.may_probe() {
            return Err(failure);
        }
        // Whether it can be written again is known only from a write that reaches the disk.
        self.write(|tx| {
            let sql = "INSERT INTO probe VALUES (1, randomblob(?1)) ON CONFLICT DO UPDATE SET content = randomblob(?1)";
            tx.connection.prepare_cached(sql)?.execute([writer::PROBE_BYTES]).map(drop)
        })
        .await?;
        self.writer.health()
    }

    fn store_id(&self) -> StoreId {
        self.store_id
    }

    async fn count(&self) -> Result<ConversationCounts, StoreError> {
        self.read_log(Turn::HEAVY_SYSTEM, conversations::count).await
    }

    async fn size(&self) -> Result<u64, StoreError> {
        self.read(Turn::SYSTEM, |connection| {
            connection.query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| {
                row.get(0)
            })
        })
        .await
    }

    async fn end_after_restore(&self, ending: Ending) -> Result<Ended, StoreError> {
        // All of it or nothing, however long it takes: whoever is told of a time that is over does not know which.
        self.count_error(wait(self.writer.submit(move |tx| restore::end(tx.connection, ending))).await)
    }

    async fn close(&self) {
        // The writer last: whoever closes the file last tidies up beside it, and a reader may not.
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Reads what the rows do not have yet, and brings them up to date: after a kill.
fn recover(connection: &mut Connection) -> rusqlite::Result<Memory> {
    // One that reads first would not wait for another process that writes.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut memory = Memory::open(&transaction)?;
    memory.flush(&transaction)?;
    transaction.commit()?;
    Ok(memory)
}

/// Waits for an answer however long it takes.
async fn wait<T>(answer: Result<oneshot::Receiver<Result<T, StoreError>>, StoreError>) -> Result<T, StoreError> {
    answer?.await.unwrap_or_else(|_| Err(unavailable("it dropped the request")))
}

fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable(reason.to_owned())
}

/// Runs a statement without parameters, prepared once for each connection.
fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

#[cfg(test)]
mod tests;
