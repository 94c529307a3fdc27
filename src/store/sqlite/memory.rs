//! What a transaction works on, and what the writer remembers between transactions.

use protocol::MemberId;
use quick_cache::unsync::Cache;
use rusqlite::Connection;

use super::{flush::States, keys::Keys, state::MemberRef};
use crate::{clock::Clock, ids::Ids, telemetry::Metrics};

/// Members whose key and state the writer keeps: about 50 bytes each.
const MEMBERS: usize = 200_000;

/// What a job works on: the transaction, and what the writer remembers between transactions.
pub(super) struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) memory: &'a mut Memory,
    pub(super) clock: &'a dyn Clock,
    pub(super) ids: &'a Ids,
    pub(super) metrics: &'a Metrics,
}

/// What the writer remembers between transactions. Thrown away whenever one fails, and read again.
pub(super) struct Memory {
    /// The position of the newest change.
    pub(super) position: u64,
    pub(super) states: States,
    pub(super) members: Cache<MemberId, MemberRef>,
    pub(super) keys: Keys,
    /// Whether somebody was erased since this was last looked at.
    pub(super) erased: bool,
}

impl Memory {
    /// Reads what the rows of a file do not have yet.
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let (states, position) = States::recover(connection)?;
        let (members, keys) = (Cache::new(MEMBERS), Keys::open(connection)?);
        Ok(Self { position, states, members, keys, erased: false })
    }

    /// For a process that does not write the log: what its rows do not have, another one knows.
    pub(super) fn without_log(connection: &Connection) -> rusqlite::Result<Self> {
        let states = States::of_rows(connection)?;
        let position = states.flushed;
        Ok(Self { position, states, members: Cache::new(MEMBERS), keys: Keys::none(connection)?, erased: false })
    }

    /// Forgets what was read of the tables, and reads again what they do not have. Positions may be skipped but never reused,
    /// so the counter stays good. Returns the position of the newest change that there is.
    pub(super) fn distrust(&mut self, connection: &Connection) -> rusqlite::Result<u64> {
        let (states, position) = States::recover(connection)?;
        self.states = states;
        self.position = self.position.max(position);
        self.members.clear();
        Ok(position)
    }

    /// Brings all rows up to date, in the transaction that is under way.
    pub(super) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.states.flush_all(connection, self.position)
    }
}
