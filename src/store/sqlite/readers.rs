//! The threads that read. WAL lets them read a consistent snapshot while the writer goes on.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::{StoreError, prepare_once, row, run, unavailable};
use crate::{
    store::{
        queue::{Full, Queue},
        turns::{Turn, Weight},
    },
    supervisor::Supervisor,
};

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// A pool of reading connections, each with a thread.
pub(super) struct Readers {
    waiting: Arc<Waiting>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What waits for the threads.
struct Waiting {
    state: Mutex<State>,
    /// Told of every read that comes while a thread sleeps, and of the end.
    changed: Condvar,
}

struct State {
    queue: Queue<ReadJob>,
    /// Threads that sleep: with none there is nobody to be woken, which is a call of the kernel.
    asleep: usize,
    is_closed: bool,
}

impl Waiting {
    /// The lock is never held across a read, and nothing under it panics.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next read for a thread, after one of a weight that it has `finished`; `None` at the end.
    fn next(&self, finished: Option<Weight>) -> Option<(ReadJob, Weight)> {
        let mut state = self.lock();
        if let Some(weight) = finished {
            state.queue.finished(weight);
            if state.is_closed {
                // Another thread may wait for the last ones.
                self.changed.notify_all();
            }
        }
        loop {
            if let Some(next) = state.queue.pop() {
                return Some(next);
            }
            if state.is_closed && state.queue.is_empty() {
                return None;
            }
            state.asleep += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep -= 1;
        }
    }
}

impl Readers {
    pub(super) fn spawn(path: &Path, count: usize, supervisor: &Supervisor) -> Result<Self, StoreError> {
        let count = count.max(1);
        let state = Mutex::new(State { queue: Queue::new(count), asleep: 0, is_closed: false });
        let waiting = Arc::new(Waiting { state, changed: Condvar::new() });
        let threads = (0..count).map(|number| spawn_reader(path, number, Arc::clone(&waiting), supervisor));
        let threads = threads.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { waiting, threads: Mutex::new(threads) })
    }

    /// Queues a read.
    pub(super) fn submit<T, F>(
        &self,
        turn: Turn,
        work: F,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: ReadJob = Box::new(move |connection| {
            // Whoever stopped waiting needs no answer.
            if !sender.is_closed() {
                let _ = sender.send(work(connection).map_err(row::store_error));
            }
        });
        let mut state = self.waiting.lock();
        if state.is_closed {
            return Err(unavailable("it is closed"));
        }
        state.queue.push(turn, job).map_err(|Full| StoreError::Overloaded)?;
        let someone_sleeps = state.asleep > 0;
        drop(state);
        if someone_sleeps {
            self.waiting.changed.notify_one();
        }
        Ok(receiver)
    }

    /// Finishes the queued reads and ends the threads.
    pub(super) async fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.waiting.changed.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // Joining blocks; a reader that panicked has nothing left to finish.
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
    }
}

impl Drop for Readers {
    /// A store that nobody closed: the threads end all the same.
    fn drop(&mut self) {
        self.waiting.lock().is_closed = true;
        self.waiting.changed.notify_all();
    }
}

fn spawn_reader(
    path: &Path,
    number: usize,
    waiting: Arc<Waiting>,
    supervisor: &Supervisor,
) -> Result<JoinHandle<()>, StoreError> {
    let connection = connect(path).map_err(row::store_error)?;
    supervisor
        .thread("sqlite-read", Some(number), move || {
            let mut finished = None;
            while let Some((job, weight)) = waiting.next(finished) {
                // A panicking read must not take the other reads of this thread with it. Reads leave nothing behind.
                let job = std::panic::AssertUnwindSafe(|| job(&connection));
                if std::panic::catch_unwind(job).is_err() {
                    tracing::error!("a read of the store panicked");
                }
                finished = Some(weight);
            }
        })
        .map_err(|error| unavailable(&format!("no thread for a reader: {error}")))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // 2 MiB: the upper pages of the trees. The kernel has the whole file in its page cache, and what would be mapped counts as the
    // server's memory.
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -2048;")?;
    prepare_once(&connection)?;
    Ok(connection)
}

/// Runs a read of several statements on one snapshot.
pub(super) fn snapshot<T>(
    connection: &Connection,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    // Within a transaction it is one already.
    let _snapshot = connection.is_autocommit().then(|| Snapshot::begin(connection)).transpose()?;
    read(connection)
}

/// A transaction that only reads, ended however the read ends. rusqlite's own has its two statements parsed each time.
struct Snapshot<'a>(&'a Connection);

impl<'a> Snapshot<'a> {
    fn begin(connection: &'a Connection) -> rusqlite::Result<Self> {
        run(connection, "BEGIN")?;
        Ok(Self(connection))
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        // Nothing was written, so there is nothing to lose; if it did not end, the next one cannot begin, and says so.
        let _ = run(self.0, "COMMIT");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use protocol::MemberId;
    use rusqlite::StatementStatus;

    use super::*;

    /// Found in a profile: a tenth of what a hello cost was planning the same statement again.
    #[test]
    fn a_bound_limit_does_not_have_a_statement_prepared_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        let connection = connect(&path).unwrap();
        let mut statement = connection.prepare_cached("SELECT a FROM t ORDER BY a LIMIT ?").unwrap();
        for limit in 1..5 {
            assert!(!statement.exists([limit]).unwrap());
        }
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }

    #[test]
    fn a_snapshot_ends_however_its_read_does() {
        let connection = Connection::open_in_memory().unwrap();
        let panics = || snapshot(&connection, |_| -> rusqlite::Result<()> { panic!("a fault") });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert!(connection.is_autocommit());
        assert!(snapshot(&connection, |_| Err::<(), _>(rusqlite::Error::QueryReturnedNoRows)).is_err());
        assert_eq!(snapshot(&connection, |_| Ok(1)), Ok(1));
    }

    /// One member asks for 200 long reads; others come after them, and are not behind them.
    #[tokio::test]
    async fn one_member_cannot_fill_the_readers() {
        let supervisor = Supervisor::new(Arc::default(), <_>::default());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        Connection::open(&path).unwrap();
        let readers = Readers::spawn(&path, 2, &supervisor).unwrap();
        let member = |number| MemberId::from_bytes([number; 12]);
        // Until everything waits nothing may begin: each thread is held by a read of its own.
        let gates: Vec<_> = [Turn::light(member(8)), Turn::heavy(member(9))]
            .into_iter()
            .map(|turn| {
                let (begun, begins) = mpsc::sync_channel(1);
                let (open, opens) = mpsc::sync_channel::<()>(1);
                let held = readers.submit(turn, move |_| {
                    begun.send(()).unwrap();
                    // Until the other side is dropped.
                    let _ = opens.recv();
                    Ok(())
                });
                begins.recv().unwrap();
                (open, held.unwrap())
            })
            .collect();
        let (done, order) = mpsc::sync_channel(256);
        let submit = |turn, name: &'static str| {
            let done = done.clone();
            let tell = move |_: &Connection| {
                done.send(name).unwrap();
                Ok(())
            };
            readers.submit(turn, tell).unwrap()
        };
        let mut answers: Vec<_> = (0..200).map(|_| submit(Turn::heavy(member(1)), "many")).collect();
        answers.push(submit(Turn::heavy(member(2)), "sync"));
        answers.push(submit(Turn::light(member(2)), "history"));
        for (open, held) in gates {
            drop(open);
            held.await.unwrap().unwrap();
        }
        for answer in answers {
            answer.await.unwrap().unwrap();
        }
        let order: Vec<_> = order.try_iter().collect();
        let place_of = |name| order.iter().position(|done| *done == name).unwrap();
        // Two threads may tell of theirs in either order.
        assert!(place_of("history") <= 3 && place_of("sync") <= 4, "{:?}", &order[..10]);
        assert_eq!(order.len(), 202);
    }
}
