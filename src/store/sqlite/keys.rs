//! Where entries are found by what their sender calls them, and by their id.
//!
//! A client's id is unique for ever within a conversation and a sender, and most clients draw it at random. In a B-tree
//! such keys touch a page of their own for nearly every message: the more messages there are, the more it costs to send
//! one. So this is a log-structured merge tree, kept in two tables:
//!
//! - The keys of the newest entries are in memory only ([`Table`]). `entries` has all of it, and is read again after a
//!   restart.
//! - Full, such a table becomes a **run**: its keys in order, in pages that a key leads to directly, written once. A thread
//!   of its own sorts ([`builder`]); the writer writes a slice of it with each commit.
//! - [`FAN_IN`] runs of one level are merged into one of the next.
//! - Each run has a filter ([`filter`]) of the client ids in it: an id is looked for far more often absent than present, and
//!   that costs no read.
//!
//! Keys are hashes, with a secret of the file ([`Hashing`]): whoever finds a position compares what is there. So a key too
//! many does no harm, and the ids of a transaction that was undone need not be taken out.

mod builder;
mod filter;
mod key;
mod run;

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use rusqlite::{Connection, params};

use self::{builder::Task, run::Run};
pub(super) use self::{
    builder::{Builder, Slice},
    key::{Hashing, Key},
    run::rebuild,
};

/// Entries whose keys are in memory before they become a run: two keys each, about 5 MiB.
const TABLE: usize = 65_536;
/// Runs of a level that become one of the next.
const FAN_IN: usize = 8;
/// Bytes of filters that are kept in memory; of what is beyond, the largest ones, a page is read for each look-up instead.
const FILTERS: usize = 64 << 20;

/// A key is a hash already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, value: u64) {
        self.0 = value.rotate_left(17);
    }
}

/// Keys with the positions that they lead to.
#[derive(Default)]
pub(super) struct Table {
    positions: HashMap<Key, u64, BuildHasherDefault<Same>>,
    /// Further positions of keys that are there already: two ids of one hash, or what an undone transaction has left.
    further: Vec<(Key, u64)>,
}

impl Table {
    fn insert(&mut self, key: Key, position: u64) {
        if let Some(former) = self.positions.insert(key, position)
            && former != position
        {
            self.further.push((key, former));
        }
    }

    fn find(&self, key: Key, found: &mut Vec<u64>) {
        if let Some(position) = self.positions.get(&key) {
            found.push(*position);
            found.extend(self.further.iter().filter(|(of, _)| *of == key).map(|(_, position)| *position));
        }
    }

    fn remove(&mut self, key: Key, position: u64) {
        if self.positions.get(&key) == Some(&position) {
            self.positions.remove(&key);
            if let Some(at) = self.further.iter().position(|(of, _)| *of == key) {
                let (key, former) = self.further.swap_remove(at);
                self.positions.insert(key, former);
            }
        }
    }

    /// All of them, in order.
    fn sorted(&self) -> Vec<(Key, u64)> {
        let mut keys: Vec<_> = self.positions.iter().map(|(key, position)| (*key, *position)).collect();
        keys.extend(&self.further);
        keys.sort_unstable();
        keys
    }
}

/// The keys of all entries.
pub(super) struct Keys {
    /// How ids become keys.
    pub(super) hashing: Hashing,
    recent: Table,
    /// The newest position in [`Self::recent`].
    until: u64,
    /// What becomes a run now.
    sealed: Option<Arc<Table>>,
    /// The oldest first.
    runs: Vec<Run>,
    next_number: u32,
    /// Whether a merge is under way.
    is_merging: bool,
    /// What the transaction that is under way has added.
    added: Vec<(Key, u64)>,
    /// Keys of a table that becomes a run: [`TABLE`] times two.
    table: usize,
}

impl Keys {
    /// What the file has, and the keys of its newest entries.
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let mut runs = run::read(connection)?;
        run::fit(&mut runs, FILTERS);
        let (until, last) = connection.query_row(
            "SELECT ifnull(max(until), 0), max(ifnull(max(number), 0), ifnull((SELECT max(page) >> 32 FROM key_pages), 0))
             FROM key_runs",
            [],
            |row| Ok((row.get(0)?, row.get::<_, u32>(1)?)),
        )?;
        let mut keys = Self { until, runs, next_number: last + 1, ..Self::none(connection)? };
        keys.read_since(connection, until)?;
        Ok(keys)
    }

    /// None at all.
    pub(super) fn none(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            hashing: Hashing::of(connection)?,
            recent: Table::default(),
            until: 0,
            sealed: None,
            runs: Vec::new(),
            next_number: 1,
            is_merging: false,
            added: Vec::new(),
            table: 2 * TABLE,
        })
    }

    fn read_since(&mut self, connection: &Connection, position: u64) -> rusqlite::Result<()> {
        run::each_entry(connection, self.hashing, position, |position, keys| {
            keys.into_iter().for_each(|key| self.recent.insert(key, position));
            self.until = position;
            Ok(())
        })
    }

    /// Adds an entry that was appended, in the transaction that is under way.
    pub(super) fn insert(&mut self, position: u64, client: Key, message: Key) {
        for key in [client, message] {
            self.recent.insert(key, position);
            self.added.push((key, position));
        }
    }

    /// The transaction was committed.
    pub(super) fn keep(&mut self) {
        // Not before: what is undone must not count as being in a run, since its position can be another's after a restart.
        let newest = self.added.drain(..).map(|(_, position)| position).max();
        self.until = self.until.max(newest.unwrap_or_default());
    }

    /// It was undone.
    pub(super) fn undo(&mut self) {
        for (key, position) in std::mem::take(&mut self.added) {
            self.recent.remove(key, position);
        }
    }

    /// Positions of entries that may be the one with this key, the newest first.
    pub(super) fn find(&self, connection: &Connection, key: Key) -> rusqlite::Result<Vec<u64>> {
        let mut found = Vec::new();
        self.recent.find(key, &mut found);
        if let Some(sealed) = &self.sealed {
            sealed.find(key, &mut found);
        }
        for run in self.runs.iter().rev() {
            run.find(connection, key, &mut found)?;
        }
        Ok(found)
    }

    /// What the builder is to do next, if anything; to be asked after each commit.
    pub(super) fn task(&mut self) -> Option<Task> {
        if self.sealed.is_none() && self.recent.positions.len() >= self.table {
            let table = Arc::new(std::mem::take(&mut self.recent));
            self.sealed = Some(Arc::clone(&table));
            let number = self.number();
            return Some(Task::Seal { table, number, until: self.until });
        }
        if self.is_merging {
            return None;
        }
        let full = |level| self.runs.iter().filter(move |run| run.level == level);
        let level = (0..=u8::MAX).take_while(|level| self.runs.iter().any(|run| run.level >= *level));
        let level = level.into_iter().find(|level| full(*level).count() >= FAN_IN)?;
        let runs: Vec<_> = full(level).take(FAN_IN).map(Run::place).collect();
        self.is_merging = true;
        Some(Task::Merge { runs, number: self.number(), level: level + 1 })
    }

    fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// Runs in which keys are looked for.
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Whether so much waits to become a run that the writer should do nothing else.
    pub(super) fn must_wait(&self) -> bool {
        self.sealed.is_some() && self.recent.positions.len() >= 4 * self.table
    }

    /// Writes a slice of a run.
    pub(super) fn write(connection: &Connection, slice: &Slice) -> rusqlite::Result<()> {
        match slice {
            Slice::Pages(pages) => {
                let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO key_pages VALUES (?, ?)")?;
                pages.iter().try_for_each(|(page, keys)| insert.execute(params![page, keys]).map(drop))
            }
            Slice::Done { run, replaces, .. } => {
                run.insert(connection)?;
                let mut delete = connection.prepare_cached("DELETE FROM key_runs WHERE number = ?")?;
                replaces.iter().try_for_each(|run| delete.execute([run.number]).map(drop))
            }
            Slice::Unused(pages) => {
                let mut delete = connection.prepare_cached("DELETE FROM key_pages WHERE page BETWEEN ? AND ?")?;
                delete.execute([pages.start(), pages.end()]).map(drop)
            }
            Slice::MergeFailed => Ok(()),
        }
    }

    /// Takes in what was written, after its commit.
    pub(super) fn written(&mut self, slice: Slice) {
        match slice {
            Slice::Pages(_) | Slice::Unused(_) => {}
            Slice::Done { run, replaces, is_merge } => {
                if is_merge {
                    self.is_merging = false;
                } else {
                    self.sealed = None;
                }
                // In the place of those that it replaces, so that the newest stay last.
                let replaced = |run: &Run| replaces.iter().any(|place| place.number == run.place.number);
                let at = self.runs.iter().position(replaced).unwrap_or(self.runs.len());
                self.runs.retain(|run| !replaced(run));
                self.runs.insert(at, run);
                run::fit(&mut self.runs, FILTERS);
            }
            // Once is enough: what is broken stays so, and each attempt would leave pages behind. With more runs keys are found as
            // well, if later.
            Slice::MergeFailed => {}
        }
    }
}

#[cfg(test)]
mod tests;
