//! The threads that read. WAL lets them read a consistent snapshot while the writer goes on.

use std::{path::Path, sync::Mutex, thread::JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::{StoreError, row, unavailable};
use crate::supervisor::Supervisor;

/// Reads that wait for a thread; more are refused.
const QUEUE: usize = 4_096;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// A pool of reading connections, each with a thread.
pub(super) struct Readers {
    queue: Mutex<Option<Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    pub(super) fn spawn(path: &Path, count: usize, supervisor: &Supervisor) -> Result<Self, StoreError> {
        let (sender, receiver) = bounded(QUEUE);
        let threads = (0..count.max(1)).map(|number| spawn_reader(path, number, receiver.clone(), supervisor));
        let threads = threads.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { queue: Mutex::new(Some(sender)), threads: Mutex::new(threads) })
    }

    /// Queues a read.
    pub(super) fn submit<T, F>(&self, work: F) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let queue = lock(&self.queue).clone().ok_or_else(|| unavailable("it is closed"))?;
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Whoever stopped waiting needs no answer.
            if !sender.is_closed() {
                let _ = sender.send(work(connection).map_err(row::store_error));
            }
        });
        match queue.try_send(job) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(StoreError::Overloaded),
            Err(TrySendError::Disconnected(_)) => Err(unavailable("its readers have ended")),
        }
    }

    /// Finishes the queued reads and ends the threads.
    pub(super) async fn close(&self) {
        lock(&self.queue).take();
        let threads = std::mem::take(&mut *lock(&self.threads));
        // Joining blocks; a reader that panicked has nothing left to finish.
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
    }
}

fn spawn_reader(
    path: &Path,
    number: usize,
    queue: Receiver<Job>,
    supervisor: &Supervisor,
) -> Result<JoinHandle<()>, StoreError> {
    let connection = connect(path).map_err(row::store_error)?;
    supervisor
        .thread("sqlite-read", Some(number), move || {
            for job in queue {
                // A panicking read must not take the other reads of this thread with it. Reads leave nothing behind.
                let job = std::panic::AssertUnwindSafe(|| job(&connection));
                if std::panic::catch_unwind(job).is_err() {
                    tracing::error!("a read of the store panicked");
                }
            }
        })
        .map_err(|error| unavailable(&format!("no thread for a reader: {error}")))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // 4 MiB, and no memory map: the kernel has the file in its page cache, and what is mapped counts as the server's memory.
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -4096;")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Locks a mutex that is never held across a panic: its owner only clones or takes what is in it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
