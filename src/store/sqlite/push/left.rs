//! What was stored and not looked through: the place in the log, and the log after it.

use std::collections::{HashMap, hash_map::Entry};

use protocol::{ConversationId, MemberId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::{history::MemberIds, row::time};
use crate::{
    position::Position,
    store::push::{StoredPlace, Stretch},
};

/// What is known of what was stored by the process before this one.
#[derive(Debug)]
pub(in crate::store::sqlite) enum Former {
    /// Somebody has to look through it.
    Unlooked,
    /// Somebody does, until then.
    InHand(Timestamp),
    /// It was looked through.
    Looked,
}

impl Former {
    /// It was looked through up to a place, and stored up to a position.
    pub(in crate::store::sqlite) const fn of(place: u64, position: u64) -> Self {
        if place < position { Self::Unlooked } else { Self::Looked }
    }
}

pub(super) fn stored(
    connection: &Connection,
    Position(after): Position,
    Position(until): Position,
    limit: usize,
) -> rusqlite::Result<(Vec<Stretch>, Position)> {
    let mut entries = connection.prepare_cached(
        "SELECT position, conversation, seq, sender, at FROM entries WHERE position > ? AND position <= ?
         ORDER BY position LIMIT ?",
    )?;
    let (mut stretches, mut places) = (Vec::<Stretch>::new(), HashMap::new());
    let (mut ids, mut count, mut reached) = (MemberIds::of(None), 0, after);
    let mut rows = entries.query(params![after, until, limit])?;
    while let Some(row) = rows.next()? {
        let key = row.get::<_, i64>("conversation")?;
        let place = match places.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                stretches.push(stretch(connection, key)?);
                *new.insert(stretches.len() - 1)
            }
        };
        let position = row.get("position")?;
        let (seq, sender, at) = (row.get("seq")?, ids.get(connection, row.get("sender")?)?, time(row, "at")?);
        if let Some(stretch) = stretches.get_mut(place) {
            stretch.entries.push(StoredPlace { seq, sender, at, latest: Position(position) });
        }
        (count, reached) = (count + 1, position);
    }
    // All there were.
    if count < limit {
        reached = reached.max(until);
    }
    Ok((stretches, Position(reached)))
}

/// The conversation with a key, and no entry yet.
fn stretch(connection: &Connection, key: i64) -> rusqlite::Result<Stretch> {
    let mut query = connection.prepare_cached("SELECT id FROM conversations WHERE key = ?")?;
    let conversation = query.query_row([key], |row| row.get(0).map(ConversationId::from_bytes))?;
    let mut members = connection.prepare_cached(
        "SELECT m.id FROM participants p CROSS JOIN members m ON m.key = p.member WHERE p.conversation = ? ORDER BY p.member",
    )?;
    let members = members.query_map([key], |row| row.get(0).map(MemberId::from_bytes))?;
    Ok(Stretch { conversation, members: members.collect::<rusqlite::Result<_>>()?, entries: Vec::new() })
}

/// The positions of the newest entries of conversations.
pub(super) fn newest(
    connection: &Connection,
    of: &[ConversationId],
) -> rusqlite::Result<Vec<(ConversationId, Position)>> {
    let mut query = connection.prepare_cached("SELECT last_position FROM conversations WHERE id = ?")?;
    let mut newest = Vec::with_capacity(of.len());
    for conversation in of {
        let position = query.query_row([conversation.as_bytes()], |row| row.get(0)).optional()?;
        newest.extend(position.map(|position| (*conversation, Position(position))));
    }
    Ok(newest)
}

/// Up to where everything is acknowledged, or a task.
pub(in crate::store::sqlite) fn place(connection: &Connection) -> rusqlite::Result<u64> {
    connection.prepare_cached("SELECT position FROM push_place")?.query_row([], |row| row.get(0))
}

/// Everything that was stored up to there is acknowledged, or a task.
pub(in crate::store::sqlite) fn reach(connection: &Connection, position: u64) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached("UPDATE push_place SET position = max(position, ?)")?;
    update.execute([position]).map(drop)
}
