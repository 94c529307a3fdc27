//! Reading conversations, history, receipts and changes; each answer from one consistent snapshot.

use std::{ops::ControlFlow, sync::atomic::Ordering};

use async_trait::async_trait;
use protocol::{
    ConversationId, MemberId, MessageId, Timestamp, limits,
    model::{ConversationKind, ConversationSettings, Watermarks},
};
use rusqlite::{Connection, Row, params};

use super::{
    Sqlite,
    history::{self, LogReader, MemberIds},
    list::list,
    log,
    memory::Tx,
    readers::snapshot,
    row::kind,
    settings,
    unread::{self, Log},
    wait,
};
use crate::{
    position::{Epoch, Position, StreamPosition},
    store::{
        ConversationLog, ConversationStore, StoreError,
        conversations::{
            Applied, Command, ConversationCounts, ConversationPage, ConversationState, HistoryPage, Membership, Range,
            ReceiptRange, ReceiptTimes, StoredSettings, UnreadCount,
        },
        entries::StoredEntry,
        lists::ListFilter,
        pages::{Entries, Part},
        sync::{Delta, SyncPart},
        turns::{Caller, Turn},
    },
};

/// A filter that lets all conversations through.
const ALL: ListFilter = ListFilter { archived: None, pinned: None, unread: None };

/// A row of `conversations`, as one of its members reads it.
pub(super) struct ConversationRow {
    key: i64,
    id: ConversationId,
    kind: ConversationKind,
    last_seq: u64,
    last_at: Timestamp,
    pub(super) last_position: u64,
    /// The position of the newest entry.
    newest: Option<u64>,
    /// How many entries each participant has sent.
    tally: Option<Vec<u8>>,
    /// The reading member's key and watermark.
    member: i64,
    read: u64,
    /// What they have set.
    settings: StoredSettings,
}

impl ConversationRow {
    /// A row of [`ROWS`].
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            key: row.get(0)?,
            id: ConversationId::from_bytes(row.get(1)?),
            kind: kind(row)?,
            last_seq: row.get(3)?,
            last_at: Timestamp::from_millis(row.get(4)?),
            last_position: row.get(5)?,
            newest: row.get(6)?,
            tally: row.get(7)?,
            member: row.get(8)?,
            read: row.get(9)?,
            settings: settings::stored(row)?,
        })
    }

    /// Messages of others that the reading member has not read. Looked up: where all of them are at hand they are counted there.
    fn unread(&self, connection: &Connection) -> rusqlite::Result<UnreadCount> {
        unread::count(connection, &self.log(), self.member, (self.read, self.last_seq))
    }

    /// Whether there is one of them at least.
    pub(super) fn has_unread(&self, connection: &Connection) -> rusqlite::Result<bool> {
        Ok(unread::number(connection, &self.log(), self.member, (self.read, self.last_seq))? > 0)
    }

    fn log(&self) -> Log<'_> {
        Log { conversation: self.key, last_seq: self.last_seq, newest: self.newest, tally: self.tally.as_deref() }
    }

    /// The whole conversation with the newest `limit` of its entries that came after position `since`.
    pub(super) fn complete(
        &self,
        connection: &Connection,
        ids: &mut MemberIds,
        since: u64,
        limit: usize,
    ) -> rusqlite::Result<ConversationState> {
        let members = self.watermarks(connection, ids)?;
        let mut entries = Entries::new();
        if limit > 0 {
            let mut log = LogReader { connection, key: self.key, conversation: self.id, ids };
            log.since(self.newest, since, |entry| {
                let has_room = entries.push(entry) && entries.len() < limit;
                if has_room { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        let mut entries = entries.into_vec();
        entries.reverse();
        let unread = match entries.first() {
            Some(first) if first.seq <= self.read.saturating_add(1) => {
                let own = ids.get(connection, self.member)?;
                let unread = entries.iter().filter(|entry| entry.seq > self.read && entry.sender != own);
                UnreadCount::of(u64::try_from(unread.count()).unwrap_or(u64::MAX))
            }
            _ => self.unread(connection)?,
        };
        Ok(ConversationState {
            id: self.id,
            kind: self.kind,
            members,
            last_seq: self.last_seq,
            unread,
            last_at: self.last_at,
            settings: self.settings,
            entries,
        })
    }

    fn watermarks(&self, connection: &Connection, ids: &mut MemberIds) -> rusqlite::Result<Vec<Watermarks>> {
        let mut participants = connection.prepare_cached(
            "SELECT member, delivered, read FROM participants WHERE conversation = ? ORDER BY member",
        )?;
        let mut rows = participants.query([self.key])?;
        let mut members = Vec::with_capacity(2);
        while let Some(row) = rows.next()? {
            let member = ids.get(connection, row.get(0)?)?;
            members.push(Watermarks { member, delivered: row.get(1)?, read: row.get(2)? });
        }
        Ok(members)
    }
}

/// The conversations of a member, from the index of participants on: a `CROSS JOIN` takes that order from the planner's choice.
pub(super) const ROWS: &str =
    "SELECT c.key, c.id, c.kind, c.last_seq, c.last_at, c.last_position, c.newest, c.tally, p.member, p.read,
        p.notify, p.muted_until, p.archived, p.pinned, p.settings_revision
    FROM participants p CROSS JOIN conversations c ON c.key = p.conversation
    WHERE p.member = (SELECT key FROM members WHERE id = ?1) AND (c.changed > ?2 OR p.configured > ?2) AND c.last_position < ?3
        AND (?5 IS NULL OR p.archived = ?5) AND (?6 IS NULL OR p.pinned = ?6) AND (NOT ?7 OR c.last_seq > p.read)
    ORDER BY c.last_position DESC LIMIT ?4";

/// Whom a member has a conversation with; in that order, too.
pub(super) const PARTNERS: &str = "SELECT DISTINCT m.id FROM participants mine
    CROSS JOIN participants theirs ON theirs.conversation = mine.conversation AND theirs.member <> mine.member
    CROSS JOIN members m ON m.key = theirs.member
    WHERE mine.member = (SELECT key FROM members WHERE id = ?)";

/// The conversations of a member in which something changed after `changed` that is for them, and whose newest entry is before `before`.
/// Of the filter all but what has to be counted: of what may be unread those that have an entry after what was read.
///
/// Every conversation of the member is looked at: an index ordered by change would have to be rewritten at two places
/// for every message, and a member has far fewer conversations than messages.
pub(super) fn rows(
    connection: &Connection,
    member: MemberId,
    (changed, before): (u64, u64),
    filter: ListFilter,
    limit: usize,
) -> rusqlite::Result<Vec<ConversationRow>> {
    let mut query = connection.prepare_cached(ROWS)?;
    let ListFilter { archived, pinned, .. } = filter;
    let values = params![member.as_bytes(), changed, before, limit, archived, pinned, filter.wants_unread()];
    query.query_map(values, ConversationRow::from_row)?.collect()
}

fn delta(connection: &Connection, epoch: Epoch, member: MemberId, since: Option<Position>) -> rusqlite::Result<Delta> {
    let position = position(connection)?;
    if let Some(Position(since)) = since.filter(|since| *since <= position) {
        let found = rows(connection, member, (since, history::NEVER), ALL, limits::SYNC_CHANGED_CONVERSATIONS + 1)?;
        if found.len() <= limits::SYNC_CHANGED_CONVERSATIONS {
            let begun = StreamPosition { epoch, position };
            return complete_part(connection, member, &found, &SyncPart::first(begun, Some(Position(since))));
        }
    }
    let part = SyncPart::first(StreamPosition { epoch, position }, None);
    let found = rows(connection, member, (0, history::NEVER), ALL, part.conversations + 1)?;
    complete_part(connection, member, &found, &part)
}

fn delta_below(
    connection: &Connection,
    epoch: Epoch,
    member: MemberId,
    part: &SyncPart,
) -> rusqlite::Result<Option<Delta>> {
    let position = position(connection)?;
    if part.begun.position > position {
        return Ok(None);
    }
    let bound = |place: Option<Position>, none: u64| place.map_or(none, |Position(place)| place.min(history::NEVER));
    let (changed, below) = (bound(part.changed, 0), bound(part.below, history::NEVER));
    let found = rows(connection, member, (changed, below), ALL, part.conversations + 1)?;
    let begun = StreamPosition { epoch, position };
    complete_part(connection, member, &found, &SyncPart { begun, ..*part }).map(Some)
}

/// Completes conversations with their entries, as many as a part of a sync holds.
fn complete_part(
    connection: &Connection,
    member: MemberId,
    found: &[ConversationRow],
    part: &SyncPart,
) -> rusqlite::Result<Delta> {
    let since = part.since.map_or(0, |Position(since)| since);
    let (mut filled, mut ids) = (Part::new(part, found.len()), ids_of(found, member));
    for row in found {
        let Some(limit) = filled.next() else { break };
        filled.push(Position(row.last_position), row.complete(connection, &mut ids, since, limit)?);
    }
    Ok(filled.into_delta())
}

/// What is known of ids from the conversations of a member: their own.
pub(super) fn ids_of(found: &[ConversationRow], member: MemberId) -> MemberIds {
    MemberIds::of(found.iter().map(|row| (row.member, member)).next())
}

fn position(connection: &Connection) -> rusqlite::Result<Position> {
    let mut query = connection.prepare_cached("SELECT position FROM meta")?;
    query.query_row([], |row| row.get(0)).map(Position)
}

fn membership(connection: &Connection, conversation: ConversationId) -> rusqlite::Result<Option<Membership>> {
    let mut query = connection.prepare_cached(
        "SELECT c.kind, m.id FROM conversations c JOIN participants p ON p.conversation = c.key
         JOIN members m ON m.key = p.member WHERE c.id = ? ORDER BY p.member",
    )?;
    let rows =
        query.query_map([conversation.as_bytes()], |row| Ok((kind(row)?, MemberId::from_bytes(row.get("id")?))))?;
    let (kinds, members): (Vec<_>, Vec<_>) = rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().unzip();
    // A conversation without members cannot be.
    Ok(kinds.first().map(|kind| Membership { kind: *kind, members: members.into() }))
}

fn begun(connection: &Connection, conversations: Vec<ConversationId>) -> rusqlite::Result<Vec<ConversationId>> {
    let mut query = connection.prepare_cached("SELECT 1 FROM conversations WHERE id = ? AND last_seq > 0")?;
    let mut begun = Vec::new();
    for conversation in conversations {
        if query.exists([conversation.as_bytes()])? {
            begun.push(conversation);
        }
    }
    Ok(begun)
}

fn partners(connection: &Connection, member: MemberId) -> rusqlite::Result<Vec<MemberId>> {
    let mut query = connection.prepare_cached(PARTNERS)?;
    let partners = query.query_map([member.as_bytes()], |row| row.get(0).map(MemberId::from_bytes))?;
    partners.collect()
}

fn all_unread(connection: &Connection, member: MemberId) -> rusqlite::Result<Vec<(ConversationId, UnreadCount)>> {
    let found = rows(connection, member, (0, history::NEVER), ALL, usize::MAX >> 1)?;
    let mut all = Vec::new();
    for row in found {
        let unread = row.unread(connection)?;
        all.extend((unread.count > 0).then_some((row.id, unread)));
    }
    Ok(all)
}

/// What a member has not read in all conversations together, up to `most`.
pub(super) fn unread_in_all(connection: &Connection, member: MemberId, most: u32) -> rusqlite::Result<u32> {
    let mut unread = 0_u64;
    for row in rows(connection, member, (0, history::NEVER), ALL, usize::MAX >> 1)? {
        unread += unread::number(connection, &row.log(), row.member, (row.read, row.last_seq))?;
        if unread >= u64::from(most) {
            return Ok(most);
        }
    }
    Ok(u32::try_from(unread).unwrap_or(most))
}

/// Logs have no holes, so the last numbers add up to the number of messages.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<ConversationCounts> {
    let mut query =
        connection.prepare_cached("SELECT count(*), ifnull(sum(last_seq), 0) FROM conversations WHERE last_seq > 0")?;
    query.query_row([], |row| Ok(ConversationCounts { conversations: row.get(0)?, messages: row.get(1)? }))
}

#[async_trait]
impl ConversationLog for Sqlite {
    fn lanes(&self) -> usize {
        1
    }

    fn horizon(&self) -> StreamPosition {
        StreamPosition { epoch: self.epochs.current(), position: Position(self.horizon.load(Ordering::Acquire)) }
    }

    fn accepts(&self, place: StreamPosition) -> bool {
        self.epochs.accepts(place)
    }

    async fn apply(&self, batch: Vec<Command>) -> Result<Applied, StoreError> {
        let started = tokio::time::Instant::now();
        let applied = self.count_error(wait(self.writer.submit(move |tx| log::apply(tx, batch))).await);
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        if let Ok(applied) = &applied {
            self.horizon.fetch_max(applied.position.0, Ordering::AcqRel);
        }
        applied
    }

    async fn position(&self) -> Result<Position, StoreError> {
        self.read_log(Turn::SYSTEM, position).await
    }
}

#[async_trait]
impl ConversationStore for Sqlite {
    async fn membership(&self, by: Caller, conversation: ConversationId) -> Result<Option<Membership>, StoreError> {
        self.read(Turn::of(by), move |connection| membership(connection, conversation)).await
    }

    async fn begun(&self, by: Caller, conversations: Vec<ConversationId>) -> Result<Vec<ConversationId>, StoreError> {
        self.read_log(Turn::look_ups(by, conversations.len()), move |connection| begun(connection, conversations)).await
    }

    async fn partners(&self, member: MemberId) -> Result<Vec<MemberId>, StoreError> {
        self.read(Turn::light(member), move |connection| partners(connection, member)).await
    }

    async fn list(
        &self,
        member: MemberId,
        filter: ListFilter,
        before: Option<Position>,
        limit: usize,
    ) -> Result<ConversationPage, StoreError> {
        self.read_log(Turn::heavy(member), move |connection| {
            snapshot(connection, |connection| list(connection, member, filter, before, limit))
        })
        .await
    }

    async fn history(
        &self,
        member: MemberId,
        conversation: ConversationId,
        range: Range,
        limit: usize,
    ) -> Result<Option<HistoryPage>, StoreError> {
        self.read_log(Turn::light(member), move |connection| {
            snapshot(connection, |connection| history::history(connection, member, conversation, range, limit))
        })
        .await
    }

    async fn logs(
        &self,
        member: MemberId,
        after: Vec<(ConversationId, u64)>,
        limit: usize,
    ) -> Result<Vec<HistoryPage>, StoreError> {
        self.read_log(Turn::heavy(member), move |connection| {
            snapshot(connection, |connection| {
                let page =
                    |(conversation, seq)| history::history(connection, member, conversation, Range::After(seq), limit);
                after.into_iter().map(|after| Ok(page(after)?.unwrap_or_default())).collect()
            })
        })
        .await
    }

    async fn message(&self, by: Caller, id: MessageId) -> Result<Option<StoredEntry>, StoreError> {
        // Only the writer knows where the newest ones are.
        let find = move |tx: &mut Tx<'_>| {
            let keys = &tx.memory.keys;
            keys.find(tx.connection, keys.hashing.message(id))
        };
        let places = self.write(find).await?;
        self.read(Turn::of(by), move |connection| history::message(connection, id, &places)).await
    }

    async fn unread(&self, member: MemberId) -> Result<Vec<(ConversationId, UnreadCount)>, StoreError> {
        self.read_log(Turn::heavy(member), move |connection| {
            snapshot(connection, |connection| all_unread(connection, member))
        })
        .await
    }

    async fn settings(
        &self,
        by: Caller,
        member: MemberId,
        conversations: Vec<ConversationId>,
    ) -> Result<Vec<ConversationSettings>, StoreError> {
        let read = move |connection: &Connection| settings::of_conversations(connection, member, &conversations);
        self.read(Turn::of(by), read).await
    }

    async fn count_unread(
        &self,
        conversation: ConversationId,
        member: MemberId,
        read: u64,
        last: u64,
    ) -> Result<UnreadCount, StoreError> {
        self.read_log(Turn::light(member), move |connection| {
            snapshot(connection, |connection| unread::count_between(connection, conversation, member, (read, last)))
        })
        .await
    }

    async fn receipt_times(
        &self,
        asking: MemberId,
        ranges: Vec<ReceiptRange>,
    ) -> Result<Vec<Vec<ReceiptTimes>>, StoreError> {
        self.read_log(Turn::light(asking), move |connection| {
            snapshot(connection, |connection| {
                ranges.into_iter().map(|range| history::receipt_times(connection, range)).collect()
            })
        })
        .await
    }

    async fn delta(&self, member: MemberId, since: Option<Position>) -> Result<Delta, StoreError> {
        let epoch = self.epochs.current();
        let read = move |connection: &Connection| delta(connection, epoch, member, since);
        self.read_log(Turn::sync(member), move |connection| snapshot(connection, read)).await
    }

    async fn delta_below(&self, member: MemberId, part: SyncPart) -> Result<Option<Delta>, StoreError> {
        let epoch = self.epochs.current();
        let read = move |connection: &Connection| delta_below(connection, epoch, member, &part);
        self.read_log(Turn::sync(member), move |connection| snapshot(connection, read)).await
    }
}
