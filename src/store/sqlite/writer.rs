//! The one thread that writes.
//!
//! Group commit: what arrived while the last commit ran goes into the next transaction together, with no added delay.
//! An answer is given only after the commit, so an acknowledgement means that it is on disk.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::{Connection, ffi};
use tokio::{sync::oneshot, time::Instant};

use super::{
    StoreError,
    checkpoint::Checkpoints,
    flush::Flushed,
    health::Health,
    keys::{Builder, Keys, Slice},
    memory::{Memory, Tx},
    row, unavailable,
};
use crate::{clock::Clock, ids::Ids, supervisor::Supervisor, telemetry::Metrics};

/// Jobs that wait for the writer; more are refused.
const QUEUE: usize = 4_096;
/// Jobs in one transaction.
const BATCH: usize = 1_024;

/// How long nothing is to be done before rows are brought up to date.
const IDLE: Duration = Duration::from_millis(50);

/// How long what could not be written is left alone, unless something else is to be written.
const UNDONE: Duration = Duration::from_millis(500);

/// Failures of a commit that is in the log whole: only its sync, or the index of the log, is missing. A start after a crash may find
/// it there.
const WRITTEN: [i32; 3] = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMMAP];

/// How much is written to find out whether the file can be written again: more than a large message.
pub(super) const PROBE_BYTES: u32 = 64 * 1024;
/// How often that is tried at most.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// Something to be done in a transaction, and somebody to be told.
trait Write: Send {
    /// Does it. An error undoes all that this job did.
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// Tells whoever waits, after the commit.
    fn settle(self: Box<Self>, committed: Result<(), StoreError>);
    /// Whether it only reads, what is committed and nothing else.
    fn only_reads(&self) -> bool;
}

struct Call<T, F> {
    work: Option<F>,
    value: Option<T>,
    only_reads: bool,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Write for Call<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(tx)?);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { value, answer, .. } = *self;
        let outcome = committed.and_then(|()| value.ok_or_else(|| unavailable("the write did not run")));
        // Whoever stopped waiting needs no answer.
        let _ = answer.send(outcome);
    }

    fn only_reads(&self) -> bool {
        self.only_reads
    }
}

/// The handle of the writing thread.
pub(super) struct Writer {
    queue: Mutex<Option<Sender<Box<dyn Write>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    health: Arc<Health>,
    /// When it was last tried whether the file can be written again.
    probed: Mutex<Option<Instant>>,
}

impl Writer {
    /// Starts the thread. `builder`: it makes runs of keys, if this process writes the log.
    pub(super) fn spawn(
        (connection, memory): (Connection, Memory),
        checkpoints: Checkpoints,
        builder: Option<Builder>,
        flushed: Arc<Flushed>,
        injected: Injected,
        supervisor: &Supervisor,
    ) -> Result<Self, StoreError> {
        let (sender, receiver) = bounded(QUEUE);
        let health = Arc::new(Health::default());
        let thread = WriterThread {
            connection,
            checkpoints,
            builder,
            slice: None,
            memory,
            is_undone: false,
            is_open: false,
            version: 0,
            flushed,
            injected,
            health: Arc::clone(&health),
        };
        let thread = supervisor
            .thread("sqlite-write", None, move || thread.run(&receiver))
            .map_err(|error| unavailable(&format!("no thread for the writer: {error}")))?;
        let (queue, thread) = (Mutex::new(Some(sender)), Mutex::new(Some(thread)));
        Ok(Self { queue, thread, health, probed: Mutex::default() })
    }

    /// Queues work for the next transaction.
    pub(super) fn submit<T, F>(&self, work: F) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        self.queue(Box::new(Call { work: Some(work), value: None, only_reads: false, answer }))?;
        Ok(receiver)
    }

    /// Queues work that only reads, where the rows are up to date and cannot be written, as on a full disk: it sees what is
    /// committed, in a transaction that is undone.
    pub(super) fn submit_read<T, F>(&self, work: F) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        let work = move |tx: &mut Tx<'_>| work(tx.connection);
        self.queue(Box::new(Call { work: Some(work), value: None, only_reads: true, answer }))?;
        Ok(receiver)
    }

    fn queue(&self, job: Box<dyn Write>) -> Result<(), StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queue = queue.ok_or_else(|| unavailable("it is closed"))?;
        match queue.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(StoreError::Overloaded),
            Err(TrySendError::Disconnected(_)) => Err(unavailable("its writer has ended")),
        }
    }

    /// Whether the next probe may be made; at most one within [`PROBE_PAUSE`].
    pub(super) fn may_probe(&self) -> bool {
        let (mut probed, now) = (self.probed.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let may = probed.is_none_or(|probed| now.saturating_duration_since(probed) >= PROBE_PAUSE);
        if may {
            *probed = Some(now);
        }
        may
    }

    /// Whether nothing has failed since a transaction wrote something that is on disk.
    pub(super) fn health(&self) -> Result<(), StoreError> {
        self.health.lock().last.clone()
    }

    /// Whether no transaction, with what follows it, takes longer than `patience`.
    pub(super) fn progress(&self, patience: Duration) -> Result<(), StoreError> {
        let begun = self.health.lock().busy_since;
        match begun {
            Some(since) if since.elapsed() > patience => Err(unavailable("a transaction does not come to its end")),
            _ => Ok(()),
        }
    }

    /// Commits what is queued, and ends the thread.
    pub(super) async fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Joining blocks; a writer that panicked has nothing left to finish.
            let _ = tokio::task::spawn_blocking(move || drop(thread.join())).await;
        }
    }
}

/// Time, ids and metrics, as they come from outside.
pub(super) struct Injected {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<Ids>,
    pub(super) metrics: Arc<Metrics>,
}

struct WriterThread {
    connection: Connection,
    checkpoints: Checkpoints,
    builder: Option<Builder>,
    /// What the builder has made and is not written.
    slice: Option<Slice>,
    memory: Memory,
    /// A transaction was undone, and what is remembered may be of it.
    is_undone: bool,
    /// A transaction was undone, and yet it may come back after a crash.
    is_open: bool,
    /// What SQLite says of changes by others when the last transaction began.
    version: i64,
    flushed: Arc<Flushed>,
    injected: Injected,
    health: Arc<Health>,
}

impl WriterThread {
    fn run(mut self, queue: &Receiver<Box<dyn Write>>) {
        Checkpoints::attach(&self.connection);
        let mut batch = Vec::new();
        while self.gather(queue, &mut batch) {
            let reads = batch.extract_if(.., |job| job.only_reads()).collect();
            self.commit(&mut batch);
            self.read_what_is_committed(reads);
            self.give_tasks();
            self.checkpoints.after_commit(&self.connection);
            self.health.lock().busy_since = None;
            if std::mem::take(&mut self.memory.erased) {
                // Whoever asked may be gone: it happens all the same.
                self.checkpoints.scrubber().scrub();
            }
        }
        self.finish();
    }

    /// Waits until there is something to write; jobs go into `batch`. Returns whether there may be more.
    fn gather(&mut self, queue: &Receiver<Box<dyn Write>>, batch: &mut Vec<Box<dyn Write>>) -> bool {
        let never = crossbeam_channel::never();
        let slices = self.builder.as_ref().and_then(Builder::slices).unwrap_or(&never);
        let is_free = self.slice.is_none();
        let is_flushing = self.memory.states.is_flushing();
        let is_old = !self.is_undone && !is_flushing && is_free && self.memory.states.is_behind();
        // What was begun goes on without a wait; what is old enough begins.
        let patience = match () {
            // What cannot be written now is tried again, and not without a pause.
            () if self.is_undone => Some(UNDONE),
            () if is_flushing || !is_free => Some(Duration::ZERO),
            () if is_old => Some(IDLE),
            () => None,
        };
        // Without the builder nothing goes on: it has panicked, and the process is ending.
        if self.memory.keys.must_wait() && is_free {
            self.health.lock().busy_since = Some(Instant::now());
            let Ok(slice) = slices.recv() else { return false };
            self.slice = Some(slice);
        } else if is_free && let Ok(slice) = slices.try_recv() {
            self.slice = Some(slice);
        } else {
            let idle = patience.map_or_else(crossbeam_channel::never, crossbeam_channel::after);
            crossbeam_channel::select! {
                recv(queue) -> job => match job {
                    Ok(job) => batch.push(job),
                    Err(_) => return false,
                },
                recv(if is_free { slices } else { &never }) -> slice => match slice {
                    Ok(slice) => self.slice = Some(slice),
                    Err(_) => return false,
                },
                recv(idle) -> _ => if is_old {
                    self.flushed.want(self.memory.position);
                },
            }
        }
        batch.extend(queue.try_iter().take(BATCH - batch.len()));
        true
    }

    /// Gives the builder what there is to be done.
    fn give_tasks(&mut self) {
        let Some(builder) = &self.builder else { return };
        while let Some(task) = self.memory.keys.task() {
            builder.give(task);
        }
    }

    /// Leaves a file that needs nothing to be read again.
    fn finish(&mut self) {
        if let Some(builder) = &mut self.builder {
            builder.finish();
            let flushed = self
                .begin()
                .and_then(|()| self.memory.flush(&self.connection).map_err(row::store_error))
                .and_then(|()| execute(&self.connection, "COMMIT"));
            if let Err(error) = flushed {
                tracing::warn!(%error, "the next start reads the newest messages again");
            }
        }
        self.checkpoints.finish();
        // A clean file for the next start; failing is harmless, the log is replayed then.
        let _ = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);");
    }

    /// Commits a batch and tells everybody in it.
    fn commit(&mut self, batch: &mut Vec<Box<dyn Write>>) {
        let mut failures = Vec::new();
        self.health.lock().busy_since = Some(Instant::now());
        let before = self.connection.total_changes();
        let committed = std::panic::catch_unwind(AssertUnwindSafe(|| self.transaction(batch, &mut failures)))
            .unwrap_or_else(|_| Err(StoreError::Inconsistent("a write panicked".to_owned())));
        let is_undone = committed.is_err() || !self.connection.is_autocommit() || self.is_undone;
        if is_undone {
            self.forget();
        } else {
            self.remember();
        }
        if committed.is_err() {
            self.flushed.fail();
        }
        let wrote = !is_undone && self.connection.total_changes() != before;
        self.health.note(committed.as_ref().err(), wrote);
        let committed = if std::mem::take(&mut self.is_open) { Err(StoreError::Timeout) } else { committed };
        for (index, job) in batch.drain(..).enumerate() {
            let failure = failures.iter().find(|(failed, _)| *failed == index).map(|(_, error)| error.clone());
            job.settle(failure.map_or_else(|| committed.clone(), Err));
        }
    }

    /// Runs reads in a transaction of their own, in which the rows that follow from the log are brought up to date, and undoes it.
    fn read_what_is_committed(&mut self, mut reads: Vec<Box<dyn Write>>) {
        if reads.is_empty() {
            return;
        }
        let mut outcomes = Vec::new();
        let begun =
            std::panic::catch_unwind(AssertUnwindSafe(|| self.bring_up_to_date_and_read(&mut reads, &mut outcomes)))
                .unwrap_or_else(|_| Err(StoreError::Inconsistent("a read panicked".to_owned())));
        self.forget();
        // What was not come to has failed as the rest has.
        outcomes.resize(reads.len(), begun);
        reads.into_iter().zip(outcomes).for_each(|(read, outcome)| read.settle(outcome));
    }

    fn bring_up_to_date_and_read(
        &mut self,
        reads: &mut [Box<dyn Write>],
        outcomes: &mut Vec<Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        execute(&self.connection, "BEGIN IMMEDIATE")?;
        let Injected { clock, ids, metrics } = &self.injected;
        let (connection, memory) = (&self.connection, &mut self.memory);
        // As far as the log goes, and not as far as positions were given out: a cursor from here has to be good after a restart.
        let newest = memory.distrust(connection).map_err(row::store_error)?;
        memory.states.flush_all(connection, newest).map_err(row::store_error)?;
        let mut tx = Tx { connection, memory, clock: &**clock, ids, metrics };
        outcomes.extend(reads.iter_mut().map(|read| read.run(&mut tx).map_err(row::store_error)));
        Ok(())
    }

    /// Runs every job in one transaction, and writes what is due. A job that fails alone is undone alone and listed in
    /// `failures`.
    fn transaction(
        &mut self,
        batch: &mut [Box<dyn Write>],
        failures: &mut Vec<(usize, StoreError)>,
    ) -> Result<(), StoreError> {
        self.begin()?;
        let is_alone = batch.len() == 1;
        for (index, job) in batch.iter_mut().enumerate() {
            let Injected { clock, ids, metrics } = &self.injected;
            let (connection, memory) = (&self.connection, &mut self.memory);
            let mut tx = Tx { connection, memory, clock: &**clock, ids, metrics };
            if !is_alone {
                execute(tx.connection, "SAVEPOINT job")?;
            }
            match job.run(&mut tx) {
                Ok(()) if is_alone => {}
                Ok(()) => execute(tx.connection, "RELEASE job")?,
                // SQLite itself may have ended the transaction: no space, an I/O error.
                Err(error) if self.connection.is_autocommit() => return Err(row::store_error(error)),
                Err(error) => {
                    failures.push((index, row::store_error(error)));
                    if is_alone {
                        self.is_undone = true;
                        return execute(&self.connection, "ROLLBACK");
                    }
                    execute(&self.connection, "ROLLBACK TO job")?;
                    execute(&self.connection, "RELEASE job")?;
                    // It may have remembered what is undone now, and the next job must not build on that.
                    self.memory.distrust(&self.connection).map_err(row::store_error)?;
                }
            }
        }
        self.write_what_is_due().map_err(row::store_error)?;
        super::run(&self.connection, "COMMIT").map_err(|error| {
            self.is_open = error.sqlite_error().is_some_and(|error| WRITTEN.contains(&error.extended_code));
            row::store_error(error)
        })
    }

    /// Begins a transaction in which nothing is believed that was undone, or that another process has changed: a command beside
    /// the server changes members.
    fn begin(&mut self) -> Result<(), StoreError> {
        execute(&self.connection, "BEGIN IMMEDIATE")?;
        let version = row::data_version(&self.connection).map_err(row::store_error)?;
        if std::mem::replace(&mut self.version, version) != version {
            self.memory.members.clear();
        }
        if self.is_undone {
            self.memory.distrust(&self.connection).map_err(row::store_error)?;
            self.is_undone = false;
        }
        Ok(())
    }

    /// Rows that are behind, and a slice of the keys.
    fn write_what_is_due(&mut self) -> rusqlite::Result<()> {
        if self.builder.is_none() {
            // The log is another process's.
            return Ok(());
        }
        let Memory { states, position, .. } = &mut self.memory;
        if states.is_flushing() || states.is_due(&self.flushed) {
            states.flush(&self.connection, *position)?;
        } else if !states.is_behind() {
            states.reach(&self.connection, *position)?;
        }
        self.slice.as_ref().map_or(Ok(()), |slice| Keys::write(&self.connection, slice))
    }

    /// After a commit: what was written is so.
    fn remember(&mut self) {
        self.memory.keys.keep();
        if let Some(slice) = self.slice.take() {
            self.memory.keys.written(slice);
        }
        self.flushed.tell(self.memory.states.flushed);
        let Injected { metrics, .. } = &self.injected;
        metrics.store_rows_behind.set(count(self.memory.states.behind()));
        metrics.store_key_runs.set(count(self.memory.keys.runs()));
    }

    /// After a failure: ends the transaction. What was remembered is read again before anything else is done.
    fn forget(&mut self) {
        if !self.connection.is_autocommit() && self.connection.execute_batch("ROLLBACK").is_err() {
            tracing::error!("the store could not roll back");
        }
        self.is_undone = true;
        self.memory.keys.undo();
    }
}

fn count(many: usize) -> i64 {
    i64::try_from(many).unwrap_or(i64::MAX)
}

fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    super::run(connection, sql).map_err(row::store_error)
}

#[cfg(test)]
mod tests;
