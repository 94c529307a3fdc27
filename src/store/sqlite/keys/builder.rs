//! The thread that makes runs: it sorts and merges, and leaves the writing to the writer, a slice at a time.

use std::{ops::RangeInclusive, path::Path, sync::Arc, thread::JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::{
    super::{StoreError, row, unavailable},
    Key, Table,
    filter::Filter,
    run::{self, Place, Run},
};
use crate::{
    background::{Priority, lower_priority},
    supervisor::Supervisor,
};

/// Pages that the writer writes with one commit.
const SLICE: usize = 32;
/// Slices that wait for the writer.
const WAITING: usize = 2;
/// Tasks that wait: a table, a merge, and what was left by a kill.
const TASKS: usize = 4;

/// What is to be done.
pub(in super::super) enum Task {
    /// A table becomes a run.
    Seal {
        /// The keys.
        table: Arc<Table>,
        /// The number of the run.
        number: u32,
        /// The newest position in it.
        until: u64,
    },
    /// Runs become one.
    Merge {
        /// Those.
        runs: Vec<Place>,
        /// The number of the new one.
        number: u32,
        /// Its level.
        level: u8,
    },
}

/// What the writer is to write.
pub(in super::super) enum Slice {
    /// Pages of a run that is not there yet.
    Pages(Vec<(i64, Vec<u8>)>),
    /// The run has all its pages.
    Done {
        /// The run.
        run: Run,
        /// Those whose keys it has.
        replaces: Vec<Place>,
        /// Whether it is of a merge.
        is_merge: bool,
    },
    /// Pages that belong to no run.
    Unused(RangeInclusive<i64>),
    /// A merge could not be done: what was to be merged is where it was.
    MergeFailed,
}

/// The thread, as the writer sees it.
pub(in super::super) struct Builder {
    tasks: Option<Sender<Task>>,
    slices: Option<Receiver<Slice>>,
    thread: Option<JoinHandle<()>>,
}

impl Builder {
    pub(in super::super) fn spawn(path: &Path, supervisor: &Supervisor) -> Result<Self, StoreError> {
        let connection = connect(path).map_err(row::store_error)?;
        let (tasks, given) = bounded(TASKS);
        let (slices, made) = bounded(WAITING);
        let thread = supervisor
            .thread("sqlite-keys", None, move || {
                lower_priority(Priority::Later);
                run(&connection, &given, &slices);
            })
            .map_err(|error| unavailable(&format!("no thread for keys: {error}")))?;
        Ok(Self { tasks: Some(tasks), slices: Some(made), thread: Some(thread) })
    }

    /// Gives it something to do.
    pub(in super::super) fn give(&self, task: Task) {
        if let Some(tasks) = &self.tasks {
            // It has room for all that there can be at a time; a thread that is gone has failed the process.
            let _ = tasks.try_send(task);
        }
    }

    /// What it has made.
    pub(in super::super) fn slices(&self) -> Option<&Receiver<Slice>> {
        self.slices.as_ref()
    }

    /// Ends the thread; what it was making is made again after the next start.
    pub(in super::super) fn finish(&mut self) {
        self.tasks.take();
        self.slices.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -1024;")?;
    Ok(connection)
}

/// The writer is gone: nothing is left to be done.
struct Gone;

fn run(connection: &Connection, tasks: &Receiver<Task>, slices: &Sender<Slice>) {
    if let Err(error) = remove_unused(connection, slices) {
        tracing::warn!(%error, "pages of keys that nobody uses cannot be found");
    }
    for task in tasks {
        let done = match task {
            Task::Seal { table, number, until } => Ok(seal(&table, number, until, slices)),
            Task::Merge { runs, number, level } => merge(connection, &runs, Place { number, bits: 0 }, level, slices),
        };
        match done {
            Ok(Ok(())) => {}
            Ok(Err(Gone)) => return,
            Err(error) => {
                tracing::error!(%error, "runs of keys cannot be merged, and are not until the next start");
                if slices.send(Slice::MergeFailed).is_err() {
                    return;
                }
            }
        }
    }
}

fn send(slices: &Sender<Slice>, slice: Slice) -> Result<(), Gone> {
    slices.send(slice).map_err(|_| Gone)
}

fn seal(table: &Table, number: u32, until: u64, slices: &Sender<Slice>) -> Result<(), Gone> {
    let keys = table.sorted();
    let (run, mut pages) = run::build(&keys, number, 0, until);
    loop {
        let slice: Vec<_> = pages.by_ref().take(SLICE).collect();
        if slice.is_empty() {
            break;
        }
        send(slices, Slice::Pages(slice))?;
    }
    send(slices, Slice::Done { run, replaces: Vec::new(), is_merge: false })
}

/// Goes through the runs side by side, as far each time as a page of the shortest one goes.
fn merge(
    connection: &Connection,
    runs: &[Place],
    place: Place,
    level: u8,
    slices: &Sender<Slice>,
) -> rusqlite::Result<Result<(), Gone>> {
    let known: Vec<Run> = run::read(connection)?.into_iter().filter(|run| runs.contains(&run.place)).collect();
    let clients: usize = known.iter().map(|run| run.clients).sum();
    let until = known.iter().map(|run| run.until).max().unwrap_or(0);
    drop(known);
    // As many are of messages.
    let place = Place::for_keys(place.number, 2 * clients);
    let mut filter = Filter::new(clients);
    let shortest = runs.iter().map(|run| run.bits).min().unwrap_or(0);
    let mut slice = Vec::new();
    for part in 0..1_u64 << shortest {
        let mut keys = Vec::new();
        for run in runs {
            let pages = 1_u64 << (run.bits - shortest);
            for page in part * pages..(part + 1) * pages {
                read_page(connection, run.at(page), &mut keys)?;
            }
        }
        keys.sort_unstable();
        keys.iter().filter(|(key, _)| key.is_of_client()).for_each(|(key, _)| filter.insert(*key));
        slice.extend(run::pages(place, &keys));
        if slice.len() >= SLICE && send(slices, Slice::Pages(std::mem::take(&mut slice))).is_err() {
            return Ok(Err(Gone));
        }
    }
    let run = Run { place, level, until, clients, filter: Some(filter) };
    let done = send(slices, Slice::Pages(slice))
        .and_then(|()| send(slices, Slice::Done { run, replaces: runs.to_vec(), is_merge: true }))
        .and_then(|()| runs.iter().try_for_each(|run| remove(*run, slices)));
    Ok(done)
}

pub(super) fn read_page(connection: &Connection, page: i64, keys: &mut Vec<(Key, u64)>) -> rusqlite::Result<()> {
    run::with_page(connection, page, |found| keys.extend(found))
}

/// Has the pages of a run removed.
fn remove(run: Place, slices: &Sender<Slice>) -> Result<(), Gone> {
    let pages = 1_u64 << run.bits;
    let step = u64::try_from(SLICE).unwrap_or(1);
    (0..pages.div_ceil(step))
        .try_for_each(|number| send(slices, Slice::Unused(run.at(number * step)..=run.at((number + 1) * step - 1))))
}

/// Has those removed that a kill has left: of runs that were not finished, and of those that were replaced.
fn remove_unused(connection: &Connection, slices: &Sender<Slice>) -> rusqlite::Result<()> {
    let known: Vec<u32> = run::read(connection)?.into_iter().map(|run| run.place.number).collect();
    let mut next =
        connection.prepare("SELECT page, page >> 32 FROM key_pages WHERE page >= ? ORDER BY page LIMIT 1")?;
    let mut from = 0_i64;
    while let Some((page, number)) =
        next.query_row([from], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?))).optional()?
    {
        if known.contains(&number) {
            from = (i64::from(number) + 1) << 32;
            continue;
        }
        let last = page + i64::try_from(SLICE).unwrap_or(1) - 1;
        if send(slices, Slice::Unused(page..=last)).is_err() {
            return Ok(());
        }
        from = last + 1;
    }
    Ok(())
}
