//! Reading the log of a conversation: pages of entries, single messages, and when they were delivered and read.

use std::ops::ControlFlow;

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
        reply_to: row.get("reply_to")?,
    })
}

/// What a row of `entries` says.
pub(super) fn body(row: &Row<'_>) -> rusqlite::Result<EntryBody> {
    body_of(Format(row.get("format")?), row.get("content")?)
}

fn body_of(format: Format, content: String) -> rusqlite::Result<EntryBody> {
    EntryBody::read(format, content).ok_or_else(|| inconsistent("an entry has a form of a newer version of the server"))
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
    let Some((key, own)) = key_for(connection, conversation, member)? else { return Ok(None) };
    let mut ids = MemberIds::of(Some((own, member)));
    let mut log = LogReader { connection, key, conversation, ids: &mut ids };
    let (mut entries, mut more) = (Entries::new(), false);
    let mut put = |entry| {
        more = entries.len() == limit || !entries.push(entry);
        if more { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let is_backwards = match range {
        Range::Newest => log.before(NEVER, put).map(|()| true)?,
        Range::Before(seq) => log.before(seq, put).map(|()| true)?,
        Range::After(seq) => {
            let one_more = u64::try_from(limit).unwrap_or(NEVER).saturating_add(1);
            let found = log.between(seq, seq.saturating_add(one_more).saturating_add(1).min(NEVER))?;
            let _ = found.into_iter().try_for_each(&mut put);
            false
        }
    };
    let mut entries = entries.into_vec();
    if is_backwards {
        entries.reverse();
    }
    Ok(Some(HistoryPage { entries, more }))
}

/// The ids of members whose keys one read meets, each looked up once: few members write what one member reads.
#[derive(Debug)]
pub(super) struct MemberIds(Vec<(i64, MemberId)>);

impl MemberIds {
    /// One is known already, or none.
    pub(super) fn of(known: Option<(i64, MemberId)>) -> Self {
        Self(known.into_iter().collect())
    }

    /// The id of a member.
    pub(super) fn get(&mut self, connection: &Connection, key: i64) -> rusqlite::Result<MemberId> {
        // Whoever was met last is the likeliest.
        if let Some((_, id)) = self.0.iter().rev().find(|(known, _)| *known == key) {
            return Ok(*id);
        }
        let mut query = connection.prepare_cached("SELECT id FROM members WHERE key = ?")?;
        let id = query.query_row([key], |row| row.get(0).map(MemberId::from_bytes))?;
        self.0.push((key, id));
        Ok(id)
    }
}

/// Where a walk begins that is to come to the entry before a `seq` soon: at an entry that the index knows, or at the newest one.
/// The conversation, the `seq`.
pub(super) const START: &str = "SELECT coalesce(
        (SELECT position FROM entries
         WHERE conversation = ?1 AND seq >= ?2 - 1 AND seq % 32 = 0 ORDER BY seq LIMIT 1),
        (SELECT newest FROM conversations WHERE key = ?1)
    )";

/// One step of a walk: an entry by its position.
///
/// A recursive query over the same chain costs more for each entry, since every row of it goes through a queue.
pub(super) const STEP: &str =
    "SELECT previous, seq, sender, id, client_id, at, format, content, reply_to FROM entries WHERE position = ?";

/// Reads the log of a conversation, from its end or from an entry of the index towards its first entry.
pub(super) struct LogReader<'a> {
    pub(super) connection: &'a Connection,
    /// The key of the conversation, and its id.
    pub(super) key: i64,
    pub(super) conversation: ConversationId,
    pub(super) ids: &'a mut MemberIds,
}

impl LogReader<'_> {
    /// The entries before a `seq`, newest first, for as long as `visit` goes on.
    pub(super) fn before(
        &mut self,
        seq: u64,
        visit: impl FnMut(StoredEntry) -> ControlFlow<()>,
    ) -> rusqlite::Result<()> {
        let start = self.start(seq)?;
        self.walk(start, 0, seq, visit)
    }

    /// The entries whose positions come after `since`, from the newest one on, for as long as `visit` goes on.
    pub(super) fn since(
        &mut self,
        newest: Option<u64>,
        since: u64,
        visit: impl FnMut(StoredEntry) -> ControlFlow<()>,
    ) -> rusqlite::Result<()> {
        self.walk(newest, since, NEVER, visit)
    }

    /// The entries after a `seq` and before another one, oldest first.
    pub(super) fn between(&mut self, after: u64, before: u64) -> rusqlite::Result<Vec<StoredEntry>> {
        let (start, mut entries) = (self.start(before)?, Vec::new());
        self.walk(start, 0, before, |entry| {
            let seq = entry.seq;
            if seq > after {
                entries.push(entry);
            }
            if seq > after.saturating_add(1) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        entries.reverse();
        Ok(entries)
    }

    fn start(&self, before: u64) -> rusqlite::Result<Option<u64>> {
        self.connection.prepare_cached(START)?.query_row(params![self.key, before], |row| row.get(0))
    }

    /// Walks from the entry at a position towards the first one, as far as positions come after `since`; entries that are not before
    /// a `seq` are passed over.
    fn walk(
        &mut self,
        from: Option<u64>,
        since: u64,
        before: u64,
        mut visit: impl FnMut(StoredEntry) -> ControlFlow<()>,
    ) -> rusqlite::Result<()> {
        let mut step = self.connection.prepare_cached(STEP)?;
        let mut next = from;
        // Within a conversation positions grow with `seq`, so the first old entry ends the new ones.
        while let Some(position) = next.filter(|position| *position > since) {
            next = step.query_row([position], |row| {
                let is_wanted = row.get::<_, u64>(1)? < before;
                let goes_on = if is_wanted { visit(self.entry(row)?) } else { ControlFlow::Continue(()) };
                if goes_on.is_continue() { row.get(0) } else { Ok(None) }
            })?;
        }
        Ok(())
    }

    /// The entry in a row of [`STEP`].
    fn entry(&mut self, row: &Row<'_>) -> rusqlite::Result<StoredEntry> {
        Ok(StoredEntry {
            id: MessageId::from_bytes(row.get(3)?),
            conversation: self.conversation,
            seq: row.get(1)?,
            sender: self.ids.get(self.connection, row.get(2)?)?,
            client_id: ClientMessageId::from_bytes(row.get(4)?),
            at: Timestamp::from_millis(row.get(5)?),
            body: body_of(Format(row.get(6)?), row.get(7)?)?,
            reply_to: row.get(8)?,
        })
    }
}

/// The entries before a `seq` and after another one, oldest first: the conversation, the one, the other. For the archive.
pub(super) const BETWEEN: &str = "WITH RECURSIVE start AS (
        SELECT coalesce(
            (SELECT position FROM entries
             WHERE conversation = ?1 AND seq >= ?2 - 1 AND seq % 32 = 0 ORDER BY seq LIMIT 1),
            (SELECT newest FROM conversations WHERE key = ?1)
        ) AS position
    ), log AS (
        SELECT e.* FROM start CROSS JOIN entries e ON e.position = start.position
        UNION ALL
        SELECT e.* FROM log CROSS JOIN entries e ON e.position = log.previous WHERE log.seq > ?3 + 1
    )
    SELECT log.*, m.id AS sender_id FROM log CROSS JOIN members m ON m.key = log.sender
    WHERE log.seq < ?2 AND log.seq > ?3 ORDER BY log.seq";

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
