//! What a member has not read: exact, and as cheap for a million messages as for one.
//!
//! Entries after `read` that are not the member's own are all of them less those that the member has sent. How many these
//! are up to an entry is in a tally ([`super::tally`]) at most 31 steps away.

use protocol::{ConversationId, MemberId};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::tally;
use crate::store::conversations::UnreadCount;

/// The log of a conversation as its row tells it.
pub(super) struct Log<'a> {
    /// The key of the conversation.
    pub(super) conversation: i64,
    pub(super) last_seq: u64,
    /// The position of the newest entry.
    pub(super) newest: Option<u64>,
    /// How many entries each participant has sent.
    pub(super) tally: Option<&'a [u8]>,
}

/// Messages of others among the entries after the first `seq` and up to the second one.
pub(super) fn count(
    connection: &Connection,
    log: &Log<'_>,
    member: i64,
    range: (u64, u64),
) -> rusqlite::Result<UnreadCount> {
    number(connection, log, member, range).map(UnreadCount::of)
}

/// The same, however many they are.
pub(super) fn number(
    connection: &Connection,
    log: &Log<'_>,
    member: i64,
    (read, last): (u64, u64),
) -> rusqlite::Result<u64> {
    let last = last.min(log.last_seq);
    if read >= last {
        return Ok(0);
    }
    let own = sent_up_to(connection, log, member, last)?.saturating_sub(sent_up_to(connection, log, member, read)?);
    Ok((last - read).saturating_sub(own))
}

/// The same for a conversation that is not at hand; nothing if it is not one of the member's.
pub(super) fn count_between(
    connection: &Connection,
    conversation: ConversationId,
    member: MemberId,
    range: (u64, u64),
) -> rusqlite::Result<UnreadCount> {
    let mut query = connection.prepare_cached(
        "SELECT c.key, c.last_seq, c.newest, c.tally, p.member FROM conversations c
         JOIN participants p ON p.conversation = c.key AND p.member = (SELECT key FROM members WHERE id = ?)
         WHERE c.id = ?",
    )?;
    let found = query
        .query_row([member.as_bytes(), conversation.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, Option<Vec<u8>>>(3)?, row.get(4)?))
        })
        .optional()?;
    let Some((conversation, last_seq, newest, tally, member)) = found else { return Ok(UnreadCount::default()) };
    count(connection, &Log { conversation, last_seq, newest, tally: tally.as_deref() }, member, range)
}

/// The nearest entry with a tally from a `seq` on: the conversation, the `seq`.
pub(super) const NEAREST: &str = "SELECT position, tally FROM entries
    WHERE conversation = ?1 AND seq >= ?2 AND seq % 32 = 0 ORDER BY seq LIMIT 1";

/// Entries of a member from a position back to a `seq`, which is not counted: the position, the `seq`, the member.
pub(super) const OWN_SINCE: &str = "WITH RECURSIVE log AS (
        SELECT previous, seq, sender FROM entries WHERE position = ?1
        UNION ALL
        SELECT e.previous, e.seq, e.sender FROM log CROSS JOIN entries e ON e.position = log.previous
        WHERE log.seq > ?2 + 1
    )
    SELECT count(*) FROM log WHERE seq > ?2 AND sender = ?3";

/// How many of the entries up to a `seq` a member has sent.
fn sent_up_to(connection: &Connection, log: &Log<'_>, member: i64, seq: u64) -> rusqlite::Result<u64> {
    if seq == 0 {
        return Ok(0);
    }
    let sent = tally::of(log.tally, member)?;
    if seq >= log.last_seq || sent == 0 {
        return Ok(sent);
    }
    let nearest = connection
        .prepare_cached(NEAREST)?
        .query_row(params![log.conversation, seq], |row| Ok((row.get(0)?, row.get::<_, Option<Vec<u8>>>(1)?)))
        .optional()?;
    let (position, sent) = match nearest {
        Some((position, tally)) => (Some(position), tally::of(tally.as_deref(), member)?),
        None => (log.newest, sent),
    };
    let own: u64 = connection.prepare_cached(OWN_SINCE)?.query_row(params![position, seq, member], |row| row.get(0))?;
    Ok(sent.saturating_sub(own))
}
