//! Reading the log of a conversation: pages of entries, single messages, and when they were delivered and read.

use protocol::{ClientMessageId, ConversationId, MemberId, MessageId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::row::{inconsistent, time};
use crate::store::{
    conversations::{HistoryPage, Range, ReceiptRange, ReceiptTimes},
    entries::{EntryBody, Format, StoredEntry},
    pages::Entries,
};

/// Larger than every `seq`: SQLite's largest integer.
pub(super) const NEVER: u64 = i64::MAX as u64;
/// Every so many entries of a conversation one is in the index, and has a tally. Also written in the statements here.
pub(super) const INDEXED: u64 = 32;

/// A row of `entries`, with the sender's id.
pub(super) fn entry(row: &Row<'_>, conversation: ConversationId) -> rusqlite::Result<StoredEntry> {
    Ok(StoredEntry {
        id: MessageId::from_bytes(row.get("id")?),
        conversation,
        seq: row.get("seq")?,
        sender: MemberId::from_bytes(row.get("sender_id")?),
        client_id: ClientMessageId::from_bytes(row.get("client_id")?),
        at: time(row, "at")?,
        body: body(row)?,
    })
}

/// What a row of `entries` says.
pub(super) fn body(row: &Row<'_>) -> rusqlite::Result<EntryBody> {
    let body = EntryBody::read(Format(row.get("format")?), row.get("content")?);
    body.ok_or_else(|| inconsistent("an entry has a form of a newer version of the server"))
}

/// The key of a conversation, if the member is in it.
fn key_for(
    connection: &Connection,
    conversation: ConversationId,
    member: MemberId,
) -> rusqlite::Result<Option<(i64, i64)>> {
    let mut query = connection.prepare_cached(
        "SELECT c.key, p.member FROM conversations c
         JOIN participants p ON p.conversation = c.key AND p.member = (SELECT key FROM members WHERE id = ?)
         WHERE c.id = ?",
    )?;
    query.query_row([member.as_bytes(), conversation.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// A page of entries.
pub(super) fn history(
    connection: &Connection,
    member: MemberId,
    conversation: ConversationId,
    range: Range,
    limit: usize,
) -> rusqlite::Result<Option<HistoryPage>> {
    let Some((key, _)) = key_for(connection, conversation, member)? else { return Ok(None) };
    let one_more = u64::try_from(limit).unwrap_or(NEVER).saturating_add(1);
    let (sql, bound, last) = match range {
        Range::Newest => (BEFORE, NEVER, one_more),
        Range::Before(seq) => (BEFORE, seq, one_more),
        Range::After(seq) => (BETWEEN, seq.saturating_add(one_more).saturating_add(1).min(NEVER), seq),
    };
    let mut query = connection.prepare_cached(sql)?;
    let mut rows = query.query(params![key, bound, last])?;
    let (mut entries, mut more) = (Entries::new(), false);
    while let Some(row) = rows.next()? {
        let entry = entry(row, conversation)?;
        if entries.len() == limit || !entries.push(entry) {
            more = true;
            break;
        }
    }
    let mut entries = entries.into_vec();
    if !matches!(range, Range::After(_)) {
        entries.reverse();
    }
    Ok(Some(HistoryPage { entries, more }))
}

/// Where a walk begins that is to come to the entry before ?2 soon, as `start`: at an entry that the index knows, or at the
/// newest one.
macro_rules! start {
    () => {
        "WITH RECURSIVE start AS (
            SELECT coalesce(
                (SELECT position FROM entries
                 WHERE conversation = ?1 AND seq >= ?2 - 1 AND seq % 32 = 0 ORDER BY seq LIMIT 1),
                (SELECT newest FROM conversations WHERE key = ?1)
            ) AS position
        )"
    };
}

/// The newest entries before a `seq`, newest first: the conversation, the `seq`, how many.
pub(super) const BEFORE: &str = concat!(
    start!(),
    ", log AS (
        SELECT e.* FROM start CROSS JOIN entries e ON e.position = start.position
        UNION ALL
        SELECT e.* FROM log CROSS JOIN entries e ON e.position = log.previous
    )
    SELECT log.*, m.id AS sender_id FROM log CROSS JOIN members m ON m.key = log.sender WHERE log.seq < ?2 LIMIT ?3"
);

/// The entries before a `seq` and after another one, oldest first: the conversation, the one, the other.
pub(super) const BETWEEN: &str = concat!(
    start!(),
    ", log AS (
        SELECT e.* FROM start CROSS JOIN entries e ON e.position = start.position
        UNION ALL
        SELECT e.* FROM log CROSS JOIN entries e ON e.position = log.previous WHERE log.seq > ?3 + 1
    )
    SELECT log.*, m.id AS sender_id FROM log CROSS JOIN members m ON m.key = log.sender
    WHERE log.seq < ?2 AND log.seq > ?3 ORDER BY log.seq"
);

/// When a member received and read entries.
pub(super) fn receipt_times(connection: &Connection, range: ReceiptRange) -> rusqlite::Result<Vec<ReceiptTimes>> {
    let ReceiptRange { conversation, member, first, last } = range;
    let Some((key, member)) = key_for(connection, conversation, member)? else { return Ok(Vec::new()) };
    let mut query = connection.prepare_cached(
        "SELECT seq, at FROM receipts WHERE conversation = ? AND member = ? AND kind = ? AND seq >= ? ORDER BY seq",
    )?;
    // The watermark reached an entry with the first move that covers it.
    let mut times = |kind: i64| -> rusqlite::Result<Vec<Option<Timestamp>>> {
        let mut rows = query.query(params![key, member, kind, first])?;
        let mut times = Vec::new();
        let mut next = first;
        while next <= last {
            let Some(row) = rows.next()? else { break };
            let (reached, at): (u64, _) = (row.get("seq")?, time(row, "at")?);
            times.extend((next..=reached.min(last)).map(|_| Some(at)));
            next = reached + 1;
        }
        times.extend((next..=last).map(|_| None));
        Ok(times)
    };
    let (delivered, read) = (times(0)?, times(1)?);
    let both = delivered.into_iter().zip(read);
    Ok(both.map(|(delivered_at, read_at)| ReceiptTimes { delivered_at, read_at }).collect())
}

/// The message with this id, which is at one of these positions.
pub(super) fn message(
    connection: &Connection,
    id: MessageId,
    positions: &[u64],
) -> rusqlite::Result<Option<StoredEntry>> {
    let mut query = connection.prepare_cached(
        "SELECT e.*, m.id AS sender_id, c.id AS conversation_id FROM entries e CROSS JOIN members m ON m.key = e.sender
         CROSS JOIN conversations c ON c.key = e.conversation WHERE e.position = ? AND e.id = ?",
    )?;
    let of_row = |row: &Row<'_>| entry(row, ConversationId::from_bytes(row.get("conversation_id")?));
    for position in positions {
        if let Some(found) = query.query_row(params![position, id.as_bytes()], of_row).optional()? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
