//! Moving changes from SQLite's write-ahead log into the database file, beside the commits.
//!
//! Left to itself, SQLite does it within the commit that makes the log too long, and everybody waits: at 64 MiB for some
//! hundred milliseconds. Here a thread of its own moves nearly all of it while commits go on, and the writer moves what
//! was appended meanwhile, which is little. Then nothing is left in the log, and the next commit begins it anew.
//!
//! SQLite syncs the database file only in the checkpoint that leaves nothing in the log, and with commits going on that is the
//! writer's. So the thread syncs what it has moved itself, and the writer's sync finds little to do.

use std::{
    cell::Cell,
    fs::File,
    mem::ManuallyDrop,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rusqlite::Connection;
use tokio::{sync::oneshot, time::Instant};

use super::{StoreError, row, unavailable};
use crate::{
    background::{Priority, lower_priority},
    supervisor::Supervisor,
    telemetry::Metrics,
};

/// Pages of 4 KiB in the log from which on they are moved: 64 MiB. Fewer at a time would write the same pages more often;
/// with SQLite's 4 MiB it cost the writer a third of its time.
pub(super) const PAGES: i32 = 16_000;

thread_local! {
    /// Pages in the log after the last commit of this thread's connection.
    static LOGGED: Cell<i32> = const { Cell::new(0) };
}

/// Asks the thread to leave nothing in the log.
#[derive(Clone)]
pub(super) struct Scrubber(Sender<Waiting>);

/// Who waits for a scrub: hears whether it was done.
type Waiting = oneshot::Sender<bool>;

impl Scrubber {
    /// Has the log moved and cut off, so that nothing of what pages were before is left in it. Tells whether that was
    /// done; nothing if so many wait for it that it happens anyway.
    pub(super) fn scrub(&self) -> Option<oneshot::Receiver<bool>> {
        let (sender, done) = oneshot::channel();
        self.0.try_send(sender).ok().map(|()| done)
    }
}

/// How often what there is to be moved is moved and synced before the writer moves the rest.
const PASSES: usize = 2;

/// Scrubs that wait. Each does what all before it ask for.
const SCRUBS: usize = 64;
/// How often a scrub is tried while readers are in the way, and the pause between.
const SCRUB_ATTEMPTS: usize = 600;
const SCRUB_PAUSE: Duration = Duration::from_millis(50);

/// The thread that moves, as the writer sees it.
pub(super) struct Checkpoints {
    wake: Option<Sender<()>>,
    scrubs: Scrubber,
    /// The thread was told that there is something to move, and the writer has not finished it yet.
    is_asked: bool,
    /// The thread has moved what there was.
    moved: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pages: i32,
    /// From how many pages on the writer tries to finish it again, if a reader was in the way.
    again: i32,
    metrics: Arc<Metrics>,
}

impl Checkpoints {
    /// Starts the thread; from `pages` on it has something to do.
    pub(super) fn spawn(
        path: &Path,
        pages: i32,
        metrics: &Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<Self, StoreError> {
        let mover = Mover::open(path, Arc::clone(metrics))?;
        let (wake, woken) = bounded(1);
        let (scrubs, asked) = bounded(SCRUBS);
        let moved = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&moved);
        let thread = supervisor
            .thread("sqlite-checkpoint", None, move || {
                lower_priority(Priority::Later);
                mover.run(&woken, &asked, &done);
            })
            .map_err(|error| unavailable(&format!("no thread for checkpoints: {error}")))?;
        let (wake, scrubs, thread) = (Some(wake), Scrubber(scrubs), Some(thread));
        let metrics = Arc::clone(metrics);
        Ok(Self { wake, scrubs, is_asked: false, moved, thread, pages, again: pages, metrics })
    }

    /// For who erases.
    pub(super) fn scrubber(&self) -> Scrubber {
        self.scrubs.clone()
    }

    /// Takes over from SQLite on the connection that writes. To be called on the thread that uses it.
    pub(super) fn attach(connection: &Connection) {
        // The hook is a plain function: the number of pages goes through the thread that commits.
        connection.wal_hook(Some(|_, pages| {
            LOGGED.set(pages);
            Ok(())
        }));
    }

    /// To be called after each commit, on the thread that commits.
    pub(super) fn after_commit(&mut self, connection: &Connection) {
        let logged = LOGGED.get();
        self.metrics.store_log_pages.set(logged.into());
        if logged < self.pages {
            // The log began anew: after the last checkpoint, or a scrub.
            self.is_asked &= !self.moved.swap(false, Ordering::Acquire);
            self.again = self.pages;
            return;
        }
        if self.is_asked {
            // Not before the thread is done: two cannot move at a time.
            if self.moved.swap(false, Ordering::Acquire) {
                checkpoint(connection);
                self.is_asked = false;
                self.again = logged.saturating_add(self.pages / 4);
            }
        } else if logged >= self.again
            && let Some(wake) = &self.wake
        {
            self.moved.store(false, Ordering::Release);
            self.is_asked = wake.try_send(()).is_ok();
        }
        if logged >= self.pages.saturating_mul(8) {
            // The thread does not keep up, or is gone: the log must not fill the disk.
            checkpoint(connection);
        }
    }

    /// Ends the thread.
    pub(super) fn finish(&mut self) {
        self.wake.take();
        if let Some(thread) = self.thread.take() {
            // If it panicked, it has left nothing half done: moving is SQLite's own transaction.
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Mover {
    connection: Connection,
    /// The database file, to sync it. Never closed: that would take away SQLite's locks on it, which are the process's
    /// (<https://sqlite.org/howtocorrupt.html>, section 2.2).
    file: ManuallyDrop<File>,
    metrics: Arc<Metrics>,
}

impl Mover {
    fn open(path: &Path, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let connection = connect(path).map_err(row::store_error)?;
        let file = File::open(path).map_err(|error| unavailable(&format!("{}: {error}", path.display())))?;
        Ok(Self { connection, file: ManuallyDrop::new(file), metrics })
    }

    fn run(&self, wake: &Receiver<()>, scrubs: &Receiver<Waiting>, moved: &AtomicBool) {
        loop {
            crossbeam_channel::select! {
                recv(wake) -> woken => {
                    if woken.is_err() {
                        return;
                    }
                    // Again for what was appended meanwhile: then hardly anything is left for the writer, which everybody waits for.
                    let began = Instant::now();
                    for _ in 0..PASSES {
                        checkpoint(&self.connection);
                        self.sync();
                    }
                    self.metrics.store_checkpoint_seconds.observe(began.elapsed().as_secs_f64());
                    moved.store(true, Ordering::Release);
                }
                recv(scrubs) -> asked => {
                    let Ok(asked) = asked else { continue };
                    // All who wait now are served by the same one.
                    let waiting: Vec<_> = std::iter::once(asked).chain(scrubs.try_iter()).collect();
                    let done = scrub(&self.connection, wake, SCRUB_ATTEMPTS);
                    // It may have heard what was meant for a checkpoint, and has moved what there was.
                    moved.store(true, Ordering::Release);
                    for waiting in waiting {
                        // Whoever stopped waiting need not be told.
                        let _ = waiting.send(done);
                    }
                }
            }
        }
    }

    /// Has the disk take what was moved. Nothing depends on it: the log begins anew only after a sync of SQLite's own.
    fn sync(&self) {
        if let Err(error) = self.file.sync_data() {
            tracing::warn!(%error, "the database file could not be synced");
        }
    }
}

/// Moves everything and cuts the log off, between the reads of others; returns whether it could. The end of the server does
/// so as well.
fn scrub(connection: &Connection, wake: &Receiver<()>, attempts: usize) -> bool {
    let mut is_told = false;
    for _ in 0..attempts {
        // First as much as can be had without keeping the writer waiting. A full disk may have room by the next attempt.
        if let Err(error) = try_checkpoint(connection)
            && !std::mem::replace(&mut is_told, true)
        {
            tell(&error);
        }
        match connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0)) {
            Ok(false) => return true,
            // A reader looks at the state before; it is gone soon.
            Ok(true) => {}
            Err(error) => tracing::debug!(%error, "the log cannot be cut off yet"),
        }
        if wake.recv_timeout(SCRUB_PAUSE) == Err(RecvTimeoutError::Disconnected) {
            return false;
        }
    }
    tracing::warn!("the log could not be cut off: erased data is in it until the next checkpoint");
    false
}

/// Moves what can be moved without waiting for anybody.
fn checkpoint(connection: &Connection) {
    if let Err(error) = try_checkpoint(connection) {
        tell(&error);
    }
}

fn try_checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
}

/// Everything is safe in the log; it is tried again.
fn tell(error: &rusqlite::Error) {
    tracing::warn!(%error, "a checkpoint failed");
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    // Cutting the log off keeps the writer out for as long.
    connection.busy_timeout(Duration::from_millis(50))?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -1024;")?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrub_says_whether_it_was_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let writer = super::super::connect(&path).unwrap();
        writer.execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)").unwrap();
        let (own, reader) = (connect(&path).unwrap(), Connection::open(&path).unwrap());
        let (_wake, woken) = bounded(1);
        reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        writer.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        assert!(!scrub(&own, &woken, 2), "a reader is in the way");
        reader.execute_batch("COMMIT").unwrap();
        assert!(scrub(&own, &woken, 2));
    }

    /// A file with one table, and what moves its log from 100 pages on.
    fn writing(folder: &Path) -> (Connection, Checkpoints) {
        let path = folder.join("test.db");
        let connection = super::super::connect(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)").unwrap();
        let supervisor = Supervisor::new(Arc::default(), <_>::default());
        let checkpoints = Checkpoints::spawn(&path, 100, &Arc::default(), &supervisor).unwrap();
        Checkpoints::attach(&connection);
        (connection, checkpoints)
    }

    /// Writes two pages.
    fn write(connection: &Connection, checkpoints: &mut Checkpoints) {
        connection.execute("INSERT INTO t (b) VALUES (zeroblob(5000))", []).unwrap();
        checkpoints.after_commit(connection);
    }

    #[test]
    fn the_log_begins_anew_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (connection, mut checkpoints) = writing(folder.path());
        let mut longest = 0;
        for _ in 0..3_000 {
            write(&connection, &mut checkpoints);
            longest = longest.max(LOGGED.get());
        }
        checkpoints.finish();
        assert!(longest < 2_000, "the log had {longest} pages");
        let count: i64 = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 3_000);
        let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
    }

    /// Found from outside: after a scrub that had to wait for a reader the log grew to 500 MiB, again and again.
    #[test]
    fn a_scrub_that_waits_does_not_keep_checkpoints_from_going_on() {
        let folder = tempfile::tempdir().unwrap();
        let (connection, mut checkpoints) = writing(folder.path());
        let reader = Connection::open(folder.path().join("test.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        let scrubbed = checkpoints.scrubber().scrub().unwrap();
        while !checkpoints.is_asked {
            write(&connection, &mut checkpoints);
        }
        // The scrub hears what was meant for a checkpoint, if it is waiting; either way it is heard.
        while checkpoints.wake.as_ref().is_some_and(|wake| !wake.is_empty()) {
            std::thread::yield_now();
        }
        reader.execute_batch("COMMIT").unwrap();
        assert!(scrubbed.blocking_recv().unwrap());
        for _ in 0..3 {
            write(&connection, &mut checkpoints);
            assert!(LOGGED.get() < 100, "the log was not begun anew");
            while !checkpoints.is_asked {
                write(&connection, &mut checkpoints);
            }
            while !checkpoints.moved.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            // Moves the rest; the next one begins the log anew.
            write(&connection, &mut checkpoints);
        }
        checkpoints.finish();
    }
}
