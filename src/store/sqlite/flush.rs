//! Write-behind: the rows that follow from the log are brought up to date later, and in order.
//!
//! A message writes its row of `entries` at its commit, a receipt its row of `marks`. What follows from them, the rows of
//! `conversations`, `participants` and `receipts`, would be a page of its own for nearly every message; so the writer keeps
//! it in memory and **flushes** it: when a reader wants it, when there is much of it, when it is a second old, when nothing
//! else is to be done. `meta.position` is the place up to which the rows have everything; what is beyond is read again
//! from the log after a restart, or after a transaction that was undone.
//!
//! A flush goes conversation by conversation in the order of their rows, in slices, so that no commit is kept waiting for all
//! of it. Whoever reads waits until the rows have what was acknowledged ([`Flushed`]).

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use protocol::{ConversationId, Timestamp};
use quick_cache::unsync::Cache;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::{sync::watch, time::Instant};

use super::{row::inconsistent, state::LogState};
use crate::store::rules::{End, Reached};

/// Conversations whose state the writer keeps when their rows are up to date: about 420 bytes each.
const KEPT: usize = 200_000;
/// Conversations that are ahead of their rows, from which on they are flushed.
const CONVERSATIONS: usize = 32_768;
/// Rows that a restart would have to read again, from which on they are flushed.
const ROWS: usize = 65_536;
/// How old the oldest of them gets.
const AGE: Duration = Duration::from_secs(1);
/// Conversations that are flushed with one commit, beside as many as rows were written to the log since the last one: so a flush
/// keeps nobody waiting for long, and comes to its end however much is written meanwhile.
const SLICE: usize = 64;

/// How far the rows are, told to those who read.
pub(super) struct Flushed {
    progress: watch::Sender<Progress>,
    /// The position that somebody waits for.
    wanted: AtomicU64,
}

#[derive(Clone, Copy)]
struct Progress {
    position: u64,
    /// Transactions that could not be written.
    failures: u64,
}

/// The rows cannot be written.
#[derive(Debug)]
pub(super) struct Stuck;

impl Flushed {
    pub(super) fn new(position: u64) -> Self {
        Self { progress: watch::Sender::new(Progress { position, failures: 0 }), wanted: AtomicU64::new(0) }
    }

    /// Whether the rows have everything up to a position.
    pub(super) fn has(&self, position: u64) -> bool {
        self.progress.borrow().position >= position
    }

    /// Asks for everything up to a position, and wakes the writer if nobody has asked before. Waits until the rows have it.
    ///
    /// # Errors
    /// When a transaction fails meanwhile, or the writer cannot be woken.
    pub(super) async fn reach(&self, position: u64, wake: impl FnOnce() -> bool) -> Result<(), Stuck> {
        let mut progress = self.progress.subscribe();
        let before = progress.borrow().failures;
        if self.want(position) && !wake() {
            return Err(Stuck);
        }
        // The sender is here, so it cannot be gone.
        let seen = progress.wait_for(|now| now.position >= position || now.failures > before).await;
        if seen.is_ok_and(|now| now.position >= position) { Ok(()) } else { Err(Stuck) }
    }

    /// Asks for everything up to a position. Returns whether nobody has before.
    pub(super) fn want(&self, position: u64) -> bool {
        self.wanted.fetch_max(position, Ordering::AcqRel) < position
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > self.progress.borrow().position
    }

    /// Tells how far it is.
    pub(super) fn tell(&self, position: u64) {
        self.progress.send_if_modified(|now| std::mem::replace(&mut now.position, position) != position);
    }

    /// Tells that a transaction could not be written.
    pub(super) fn fail(&self) {
        // Whoever waits asks again, and wakes the writer then.
        self.wanted.store(0, Ordering::Release);
        self.progress.send_modify(|now| now.failures += 1);
    }
}

/// A flush that is under way.
struct UnderWay {
    /// The conversations that are still to be written, the last first.
    left: Vec<ConversationId>,
    /// The position up to which the rows have everything then.
    until: u64,
}

/// The states of conversations, those ahead of their rows apart.
pub(super) struct States {
    /// Those that may be ahead.
    ahead: HashMap<ConversationId, LogState>,
    kept: Cache<ConversationId, LogState>,
    under_way: Option<UnderWay>,
    /// Rows that were written to the log since the last flush.
    rows: usize,
    /// Those of them that came since the last slice.
    fresh: usize,
    /// When the first of them was.
    since: Option<Instant>,
    /// The place up to which the rows have everything.
    pub(super) flushed: u64,
}

impl States {
    /// Reads what the log has and the rows do not; returns the newest position too.
    pub(super) fn recover(connection: &Connection) -> rusqlite::Result<(Self, u64)> {
        let mut states = Self::of_rows(connection)?;
        let entries = states.recover_entries(connection)?;
        let marks = states.recover_marks(connection)?;
        let position = states.flushed.max(entries).max(marks);
        Ok((states, position))
    }

    /// Those that the rows have.
    pub(super) fn of_rows(connection: &Connection) -> rusqlite::Result<Self> {
        let flushed = connection.query_row("SELECT position FROM meta", [], |row| row.get(0))?;
        let (ahead, kept) = (HashMap::new(), Cache::new(KEPT));
        Ok(Self { ahead, kept, under_way: None, rows: 0, fresh: 0, since: None, flushed })
    }

    fn recover_entries(&mut self, connection: &Connection) -> rusqlite::Result<u64> {
        let mut query = connection.prepare_cached(
            "SELECT e.position, c.id, e.sender, e.seq, e.at FROM entries e CROSS JOIN conversations c
             ON c.key = e.conversation WHERE e.position > ? ORDER BY e.position",
        )?;
        let (mut rows, mut last) = (query.query([self.flushed])?, 0);
        while let Some(row) = rows.next()? {
            let (position, id) = (row.get(0)?, ConversationId::from_bytes(row.get(1)?));
            let (sender, end) = (row.get(2)?, End { seq: row.get(3)?, at: Timestamp::from_millis(row.get(4)?) });
            // Whatever is passed over here would get its place again.
            let state = self.load(connection, id)?.ok_or_else(|| inconsistent("an entry of no conversation"))?;
            let place = state.place_of_key(sender);
            state.appended(place.ok_or_else(|| inconsistent("an entry of no participant"))?, position, end);
            self.logged();
            last = position;
        }
        Ok(last)
    }

    fn recover_marks(&mut self, connection: &Connection) -> rusqlite::Result<u64> {
        let mut query = connection.prepare_cached(
            "SELECT m.position, c.id, m.member, m.delivered, m.read, m.at FROM marks m CROSS JOIN conversations c
             ON c.key = m.conversation ORDER BY m.key",
        )?;
        let (mut rows, mut last) = (query.query([])?, 0);
        while let Some(row) = rows.next()? {
            let (position, id) = (row.get(0)?, ConversationId::from_bytes(row.get(1)?));
            let (member, after) = (row.get(2)?, Reached { delivered: row.get(3)?, read: row.get(4)? });
            if let Some(state) = self.load(connection, id)?
                && let Some(place) = state.place_of_key(member)
            {
                state.moved(place, position, after, Timestamp::from_millis(row.get(5)?));
            }
            self.logged();
            last = position.max(last);
        }
        Ok(last)
    }

    /// A row was written to the log.
    pub(super) fn logged(&mut self) {
        self.rows += 1;
        self.fresh += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    /// The state of a conversation, to be changed.
    pub(super) fn load(
        &mut self,
        connection: &Connection,
        id: ConversationId,
    ) -> rusqlite::Result<Option<&mut LogState>> {
        if !self.ahead.contains_key(&id) {
            let kept = self.kept.remove(&id).map(|(_, state)| state);
            let state = if kept.is_some() { kept } else { LogState::read(connection, id)? };
            let Some(state) = state else { return Ok(None) };
            self.ahead.insert(id, state);
        }
        Ok(self.ahead.get_mut(&id))
    }

    /// One that is in use.
    pub(super) fn get_mut(&mut self, id: ConversationId) -> Option<&mut LogState> {
        self.ahead.get_mut(&id)
    }

    pub(super) fn insert(&mut self, id: ConversationId, state: LogState) {
        self.ahead.insert(id, state);
    }

    /// Whether there is something to flush.
    pub(super) fn is_behind(&self) -> bool {
        self.since.is_some() || self.under_way.is_some()
    }

    /// Rows that were written to the log and are not part of a flush yet.
    pub(super) fn behind(&self) -> usize {
        self.rows
    }

    /// Whether a flush is under way.
    pub(super) fn is_flushing(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether it is time for a flush, with commits going on.
    pub(super) fn is_due(&self, flushed: &Flushed) -> bool {
        let is_old = || self.since.is_some_and(|since| since.elapsed() >= AGE);
        self.ahead.len() >= CONVERSATIONS || self.is_behind() && (flushed.is_wanted() || self.rows >= ROWS || is_old())
    }

    /// Writes the next slice, and begins with the first one if none is under way. `position` is that of the newest change.
    pub(super) fn flush(&mut self, connection: &Connection, position: u64) -> rusqlite::Result<()> {
        let fresh = std::mem::take(&mut self.fresh);
        // What was written before it began is what it is about.
        let slice = if self.is_flushing() { SLICE.saturating_add(fresh) } else { SLICE };
        self.flush_some(connection, position, slice)
    }

    /// Writes everything.
    pub(super) fn flush_all(&mut self, connection: &Connection, position: u64) -> rusqlite::Result<()> {
        // The rest of what is under way, and then what came since.
        while self.is_behind() {
            self.flush_some(connection, position, usize::MAX)?;
        }
        Ok(())
    }

    fn flush_some(&mut self, connection: &Connection, position: u64, most: usize) -> rusqlite::Result<()> {
        let mut under_way = self.under_way.take().unwrap_or_else(|| self.begin(position));
        for _ in 0..most {
            let Some(id) = under_way.left.pop() else { break };
            let Some(mut state) = self.ahead.remove(&id) else { continue };
            state.write(connection)?;
            self.kept.insert(id, state);
        }
        if !under_way.left.is_empty() {
            self.under_way = Some(under_way);
            return Ok(());
        }
        self.reach(connection, under_way.until)?;
        // All of them, if there is none that came since: then there is nothing to be looked for.
        let newer = connection
            .prepare_cached("SELECT 1 FROM marks WHERE position > ? ORDER BY key DESC LIMIT 1")?
            .query_row([under_way.until], |_| Ok(()))
            .optional()?;
        match newer {
            None => connection.prepare_cached("DELETE FROM marks")?.execute([])?,
            Some(()) => {
                connection.prepare_cached("DELETE FROM marks WHERE position <= ?")?.execute(params![under_way.until])?
            }
        };
        Ok(())
    }

    /// The rows have everything up to a position.
    pub(super) fn reach(&mut self, connection: &Connection, position: u64) -> rusqlite::Result<()> {
        if position > self.flushed {
            connection.prepare_cached("UPDATE meta SET position = ?")?.execute([position])?;
            self.flushed = position;
        }
        Ok(())
    }

    fn begin(&mut self, position: u64) -> UnderWay {
        let mut left: Vec<_> = self.ahead.iter().map(|(id, state)| (state.key, *id)).collect();
        left.sort_unstable_by(|one, other| other.cmp(one));
        (self.rows, self.since) = (0, None);
        UnderWay { left: left.into_iter().map(|(_, id)| id).collect(), until: position }
    }
}
