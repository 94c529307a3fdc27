//! The embedded store: one SQLite file, in WAL mode, with every commit on disk before it is acknowledged.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`writer`] | the one thread that writes; commits what has gathered together |
//! | [`checkpoint`] | moving changes from the log into the file, beside the commits |
//! | [`readers`] | the threads that read beside it |
//! | [`migrations`] | the numbered schema changes |
//! | [`epochs`] | which cursors are still good |
//! | [`members`], [`sessions`], [`audit`], [`recommendations`], [`jobs`] | these aggregates |
//! | [`candidates`] | whom one could recommend |
//! | [`search`] | the search index of members |
//! | [`log`], [`state`] | appending messages and moving watermarks; what the writer knows of a conversation |
//! | [`flush`] | bringing the rows that follow from the log up to date, later and in order |
//! | [`keys`] | where entries are found by what their sender calls them, and by their id |
//! | [`conversations`], [`history`] | reading conversations and changes; the log of one |
//! | [`unread`], [`tally`], [`recent`] | what a member has not read; how many entries each participant has sent; who sent the newest |
//! | [`archive`] | everything as rows |
//! | [`row`] | columns to types and back |

mod archive;
mod audit;
mod candidates;
mod checkpoint;
mod conversations;
mod epochs;
mod flush;
mod history;
mod jobs;
mod keys;
mod log;
mod members;
mod migrations;
mod readers;
mod recent;
mod recommendations;
mod row;
mod search;
mod sessions;
mod state;
mod tally;
mod unread;
mod writer;

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{Connection, config::DbConfig};
use tokio::sync::oneshot;

use self::{
    checkpoint::{Checkpoints, Scrubber},
    flush::{Flushed, Stuck},
    keys::Builder,
    readers::Readers,
    writer::{Injected, Memory, Tx, Writer},
};
use super::{
    Backend, Store, StoreError,
    conversations::{ConversationCounts, StoreId},
    epochs::Epochs,
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
    /// When the file cannot be opened or created, belongs to another running server, or is from a newer version; without
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
        create_private(&path).map_err(|error| unavailable(&format!("{}: {error}", path.display())))?;
        let lock = if exclusive { Some(lock(&path)?) } else { None };
        let mut connection = connect(&path).map_err(row::store_error)?;
        let (memory, epochs) = if exclusive {
            migrations::run(&mut connection)?;
            let memory = recover(&mut connection).map_err(row::store_error)?;
            let epochs = epochs::begin(&mut connection, &ids).map_err(row::store_error)?;
            // A kill may have come between an erasure and the scrub of the log.
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(row::store_error)?;
            (memory, epochs)
        } else {
            update_schema(&path, &mut connection)?;
            let memory = Memory::without_log(&connection).map_err(row::store_error)?;
            (memory, epochs::read(&connection).map_err(row::store_error)?)
        };
        let store_id =
            connection.query_row("SELECT store_id FROM meta", [], |row| row.get(0)).map_err(row::store_error)?;
        let position = memory.states.flushed;
        let checkpoints = Checkpoints::spawn(&path, checkpoint::PAGES, supervisor)?;
        let builder = exclusive.then(|| Builder::spawn(&path, supervisor)).transpose()?;
        let (scrubber, flushed) = (checkpoints.scrubber(), Arc::new(Flushed::new(position)));
        let injected = Injected { clock, ids, metrics: Arc::clone(&metrics) };
        let writing = (connection, memory);
        let writer = Writer::spawn(writing, checkpoints, builder, Arc::clone(&flushed), injected, supervisor)?;
        let readers = Readers::spawn(&path, readers, supervisor)?;
        let (store_id, horizon) = (StoreId(store_id), AtomicU64::new(position));
        let sqlite = Arc::new(Self {
            path,
            store_id,
            epochs,
            writer,
            horizon,
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
            audit: Arc::clone(&sqlite) as _,
            archive: Arc::clone(&sqlite) as _,
            recommendations: Arc::clone(&sqlite) as _,
            jobs: Arc::clone(&sqlite) as _,
            backend: sqlite,
        })
    }

    /// Runs `work` in the next write transaction; returns once it is durable.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let answer = self.writer.submit(work);
        self.count_error(self.wait_for(answer).await)
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

    /// Runs `work` where the rows are up to date and cannot be written, as on a full disk: in a transaction of the writer that
    /// is undone then.
    async fn read_unwritten<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let undone = self.writer.submit(move |tx| -> rusqlite::Result<()> {
            tx.memory.flush(tx.connection)?;
            // Whoever stopped waiting needs no answer.
            let _ = sender.send(work(tx.connection).map_err(row::store_error));
            Err(rusqlite::Error::QueryReturnedNoRows)
        })?;
        let answered = self.wait_for(Ok(answer)).await;
        // Without an answer, this is why.
        if answered.is_err() { self.wait_for(Ok(undone)).await.and(answered) } else { answered }
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
        format!("SQLite, {}", self.path.display())
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

    async fn close(&self) {
        // The writer last: whoever closes the file last tidies up beside it, and a reader may not.
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// What the schema of a file lacks; brings it up to date unless that is only to be told.
///
/// # Errors
/// When the file cannot be read or written, or is from a newer version.
pub fn migrate(path: &Path, check_only: bool) -> Result<Vec<String>, StoreError> {
    let is_there = path.exists();
    let pending = if is_there {
        migrations::pending(&Connection::open(path).map_err(row::store_error)?)?
    } else {
        migrations::pending(&Connection::open_in_memory().map_err(row::store_error)?)?
    };
    if !check_only && pending > 0 {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| unavailable(&format!("{}: {error}", folder.display())))?;
        }
        create_private(path).map_err(|error| unavailable(&format!("{}: {error}", path.display())))?;
        let _lock = lock(path)?;
        migrations::run(&mut connect(path).map_err(row::store_error)?)?;
    }
    let first = migrations::count() - pending + 1;
    Ok((first..=migrations::count()).map(|number| format!("migration {number}")).collect())
}

/// Brings the schema up to date for a command that may run beside a server: only while no server has the file open.
fn update_schema(path: &Path, connection: &mut Connection) -> Result<(), StoreError> {
    if migrations::pending(connection)? == 0 {
        // Refuses a file from a newer version.
        return migrations::run(connection);
    }
    let _lock = lock(path).map_err(|error| {
        unavailable(&format!("its schema has to be brought up to date, and that needs the file for itself: {error}"))
    })?;
    migrations::run(connection)
}

/// Reads what the rows do not have yet, and brings them up to date: after a kill.
fn recover(connection: &mut Connection) -> rusqlite::Result<Memory> {
    let transaction = connection.transaction()?;
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

/// Creates the file if it is missing, readable by its owner only: password hashes and messages are in it. SQLite gives
/// the files beside it the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

/// Takes the lock beside the file; the kernel gives it back however the process ends.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::create(&name).map_err(|error| unavailable(&format!("{}: {error}", path.display())))?;
    lock.try_lock()
        .map_err(|error| unavailable(&format!("{} is in use by another server ({error})", path.display())))?;
    Ok(lock)
}

/// Opens the connection that writes.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         -- Full: the log is synced at every commit, so what was acknowledged survives a loss of power.
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         -- What is removed or replaced is overwritten with zeros. Messages are only ever appended, and pay nothing for it.
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         -- 64 MiB.
         PRAGMA cache_size = -65536;
         -- See `checkpoint`.
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 134217728;",
    )?;
    prepare_once(&connection)?;
    Ok(connection)
}

/// Statements are prepared once for each connection. Left to itself SQLite prepares those with a parameter that a plan could
/// depend on, `LIMIT ?` above all, anew whenever it is bound, which costs more than most reads.
fn prepare_once(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Runs a statement without parameters, prepared once for each connection.
fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kill of the process does not show a missing fsync, a loss of power does.
    #[test]
    fn a_commit_is_synced_before_it_returns() {
        let folder = tempfile::tempdir().unwrap();
        let connection = connect(&folder.path().join("test.db")).unwrap();
        let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!((journal.as_str(), pragma("synchronous"), pragma("foreign_keys")), ("wal", 2, 1));
    }

    fn open(path: &Path, exclusive: bool) -> Result<Store, StoreError> {
        open_with(path, exclusive, Duration::from_secs(5))
    }

    fn open_with(path: &Path, exclusive: bool, timeout: Duration) -> Result<Store, StoreError> {
        let metrics = Arc::new(Metrics::new());
        let supervisor = Supervisor::new(Arc::clone(&metrics), <_>::default());
        let clock = Arc::new(crate::clock::SystemClock);
        let ids = Arc::new(Ids::new(Arc::clone(&clock) as _, Arc::new(crate::ids::SystemEntropy)));
        let options = Options { path: path.to_owned(), readers: 1, timeout, exclusive };
        Sqlite::open(options, clock, ids, metrics, &supervisor)
    }

    /// `admin create` of a newer version beside a server of an older one.
    #[tokio::test]
    async fn a_command_beside_a_server_does_not_change_the_schema_under_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        migrations::run_to(&mut Connection::open(&path).unwrap(), migrations::count() - 1).unwrap();
        let server = lock(&path).unwrap();
        let refused = open(&path, false).err().unwrap().to_string();
        assert!(refused.contains("schema") && refused.contains("in use by another server"), "{refused}");
        drop(server);
        open(&path, false).unwrap().backend.close().await;
        let _server = lock(&path).unwrap();
        open(&path, false).unwrap().backend.close().await;
    }

    /// Found by a kill between an erasure and the scrub that follows it: the log had the profile until an orderly stop.
    #[tokio::test]
    async fn a_start_leaves_nothing_in_the_log_of_before() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("test.db"), folder.path().join("copy.db"));
        let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
        let store = open(&path, true).unwrap();
        store.backend.check().await.unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('unforgettable'); DELETE FROM t").unwrap();
        let has = |path: &Path| {
            let bytes = fs::read(log(path)).unwrap_or_default();
            bytes.windows(13).any(|window| window == b"unforgettable")
        };
        assert!(has(&path));
        // As a kill leaves them.
        fs::copy(&path, &copy).unwrap();
        fs::copy(log(&path), log(&copy)).unwrap();
        let started = open(&copy, true).unwrap();
        assert!(!has(&copy));
        started.backend.close().await;
        store.backend.close().await;
    }

    #[tokio::test]
    async fn a_transaction_that_hangs_is_no_good_health_whatever_it_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let store = open_with(&path, true, Duration::from_millis(50)).unwrap();
        store.backend.check().await.unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        // Of a member's record, that is of no lane of messages.
        let late = store.members.record_last_seen(Vec::new()).await;
        assert_eq!(late, Err(StoreError::Timeout));
        let unwell = store.backend.check().await;
        assert!(matches!(unwell, Err(StoreError::Unavailable(_))), "it is known, and not waited for: {unwell:?}");
        other.execute_batch("COMMIT").unwrap();
        while store.backend.check().await.is_err() {
            tokio::task::yield_now().await;
        }
        store.backend.close().await;
    }
}
