//! Appending messages and moving watermarks, inside the writer's transaction.
//!
//! A batch loads each conversation once, works on it in memory, and writes its row once. The state between batches is
//! kept by the writer; a failed transaction throws it away.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use protocol::{ClientMessageId, ConversationId, MemberId, MessageId, Timestamp, model::UserType};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    history,
    members::USER_TYPES,
    recent::Recent,
    row::{inconsistent, kind, time, word},
    tally,
    writer::Tx,
};
use crate::{
    position::Position,
    store::{
        conversations::{
            Append, Appended, Applied, Command, Mark, Membership, NewConversation, Outcome, Refusal, UnreadCount,
        },
        entries::{EntryBody, StoredEntry},
        rules::{self, End, MemberFacts, Reached, Verdict},
    },
};

/// A member, as the log needs them.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemberRef {
    pub(super) key: i64,
    pub(super) is_active: bool,
    pub(super) user_type: UserType,
}

impl MemberRef {
    fn facts(self) -> MemberFacts {
        MemberFacts { is_active: self.is_active, user_type: self.user_type }
    }
}

/// A participant of a conversation.
#[derive(Debug, Clone, Copy)]
struct Participant {
    key: i64,
    reached: Reached,
    /// Entries that they have sent.
    sent: u64,
    /// Which watermarks moved in this batch.
    moved: (bool, bool),
}

/// The state of a conversation.
pub(super) struct LogState {
    key: i64,
    end: End,
    last_position: u64,
    /// The position of the newest entry.
    newest: Option<u64>,
    changed: u64,
    /// Whether the row is behind this.
    dirty: bool,
    /// When the watermarks moved in this batch.
    marked_at: Timestamp,
    /// Who has sent the newest entries.
    recent: Recent,
    participants: Box<[Participant]>,
    /// The ids of the participants, in the same order.
    membership: Membership,
}

impl LogState {
    /// How many entries each participant has sent.
    fn tally(&self) -> Vec<u8> {
        tally::encode(self.participants.iter().map(|participant| (participant.key, participant.sent)))
    }

    /// The same with one more entry of the participant at `place`.
    fn tally_with(&self, place: usize) -> Vec<u8> {
        let sent =
            |(at, participant): (usize, &Participant)| (participant.key, participant.sent + u64::from(at == place));
        tally::encode(self.participants.iter().enumerate().map(sent))
    }
}

type Working = HashMap<ConversationId, LogState>;

/// Applies a batch.
pub(super) fn apply(tx: &mut Tx<'_>, batch: Vec<Command>) -> rusqlite::Result<Applied> {
    let now = tx.clock.now();
    let mut working = Working::new();
    let mut outcomes = Vec::with_capacity(batch.len());
    tx.metrics.commit_commands.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
    for command in batch {
        outcomes.push(match command {
            Command::Append(append) => append_message(tx, &mut working, append, now)?,
            Command::Mark(mark) => move_watermark(tx, &mut working, mark, now)?,
            // Nobody else writes here.
            Command::Refresh(_) => Ok(Outcome::Refreshed),
        });
    }
    flush(tx, working)?;
    Ok(Applied { outcomes, untold: Vec::new(), position: Position(tx.memory.position) })
}

/// Brings a conversation into the working set.
fn load<'a>(
    tx: &mut Tx<'_>,
    working: &'a mut Working,
    id: ConversationId,
) -> rusqlite::Result<Option<&'a mut LogState>> {
    Ok(match working.entry(id) {
        Entry::Occupied(known) => Some(known.into_mut()),
        Entry::Vacant(vacant) => {
            let remembered = tx.memory.conversations.remove(&id).map(|(_, state)| state);
            let state = if remembered.is_some() { remembered } else { read_state(tx.connection, id)? };
            state.map(|state| vacant.insert(state))
        }
    })
}

fn read_state(connection: &Connection, id: ConversationId) -> rusqlite::Result<Option<LogState>> {
    let mut conversation = connection.prepare_cached(
        "SELECT key, kind, last_seq, last_at, last_position, newest, changed, tally FROM conversations WHERE id = ?",
    )?;
    let found = conversation
        .query_row([id.as_bytes()], |row| {
            let state = LogState {
                key: row.get("key")?,
                end: End { seq: row.get("last_seq")?, at: time(row, "last_at")? },
                last_position: row.get("last_position")?,
                newest: row.get("newest")?,
                changed: row.get("changed")?,
                dirty: false,
                marked_at: Timestamp::from_millis(0),
                recent: Recent::default(),
                participants: Box::default(),
                membership: Membership { kind: kind(row)?, members: Arc::default() },
            };
            Ok((state, row.get::<_, Option<Vec<u8>>>("tally")?))
        })
        .optional()?;
    let Some((mut state, sent)) = found else { return Ok(None) };
    let mut participants = connection.prepare_cached(
        "SELECT m.id, p.member, p.delivered, p.read FROM participants p JOIN members m ON m.key = p.member
         WHERE p.conversation = ? ORDER BY p.member",
    )?;
    let rows = participants.query_map([state.key], |row| {
        let key = row.get(1)?;
        let sent = tally::of(sent.as_deref(), key)?;
        let reached = Reached { delivered: row.get(2)?, read: row.get(3)? };
        let participant = Participant { key, reached, sent, moved: (false, false) };
        Ok((MemberId::from_bytes(row.get(0)?), participant))
    })?;
    let (members, participants): (Vec<_>, Vec<_>) = rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().unzip();
    state.membership.members = members.into();
    state.participants = participants.into();
    Ok(Some(state))
}

pub(super) fn member_ref(tx: &mut Tx<'_>, id: MemberId) -> rusqlite::Result<Option<MemberRef>> {
    if let Some(known) = tx.memory.members.get(&id) {
        return Ok(Some(*known));
    }
    let mut query = tx.connection.prepare_cached("SELECT key, is_active, user_type FROM members WHERE id = ?")?;
    let found = query.query_row([id.as_bytes()], |row| {
        let user_type = word(row, "user_type", USER_TYPES)?;
        Ok(MemberRef { key: row.get("key")?, is_active: row.get("is_active")?, user_type })
    });
    let found = found.optional()?;
    if let Some(member) = found {
        tx.memory.members.insert(id, member);
    }
    Ok(found)
}

fn append_message(
    tx: &mut Tx<'_>,
    working: &mut Working,
    mut append: Append,
    now: Timestamp,
) -> rusqlite::Result<Result<Outcome, Refusal>> {
    let known = load(tx, working, append.conversation)?.map(|state| &state.membership);
    let facts = |member| member_ref(tx, member).map(|found| found.map(MemberRef::facts));
    let verdict = rules::admit(&append, known, facts)?;
    let (may_append, refusal) = match verdict {
        Verdict::Refuse(refusal) => return Ok(Err(refusal)),
        Verdict::Begin(new) => {
            let state = create(tx, append.conversation, new, now)?;
            working.insert(append.conversation, state);
            (None, None)
        }
        Verdict::Append { sender } => (Some(sender), None),
        Verdict::OnlyRetry { sender, refusal } => (Some(sender), Some(refusal)),
    };
    // It was loaded or made above.
    let Some(state) = working.get_mut(&append.conversation) else { return Ok(Err(Refusal::ConversationNotFound)) };
    let place = may_append.or_else(|| state.membership.place_of(append.sender));
    let Some((place, sender)) = place.and_then(|place| Some((place, state.participants.get(place)?.key))) else {
        return Ok(Err(Refusal::ConversationNotFound));
    };
    if let Some(refusal) = refusal {
        let first = first_message(tx.connection, state, &append, sender)?;
        return Ok(first.map(|message| duplicate(message, state)).ok_or(refusal));
    }
    let body = EntryBody::Text(std::mem::take(&mut append.content));
    let message = state.end.next(tx.ids.message(), &append, body, now);
    let position = tx.memory.position + 1;
    let tally = message.seq.is_multiple_of(history::INDEXED).then(|| state.tally_with(place));
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO entries (position, conversation, seq, sender, id, client_id, at, format, content, previous, tally)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (client_id, sender, conversation) DO NOTHING",
    )?;
    let inserted = insert.execute(params![
        position,
        state.key,
        message.seq,
        sender,
        message.id.as_bytes(),
        message.client_id.as_bytes(),
        message.at.as_millis(),
        message.body.format().0,
        message.body.content(),
        state.newest,
        tally,
    ])?;
    if inserted == 0 {
        let first = first_message(tx.connection, state, &append, sender)?;
        let first = first.ok_or_else(|| inconsistent("a message conflicts with one that is not there"))?;
        return Ok(Ok(duplicate(first, state)));
    }
    tx.memory.position = position;
    if let Some(sender) = state.participants.get_mut(place) {
        sender.sent += 1;
    }
    state.recent.push(place);
    state.end.reach(message.seq, message.at);
    state.last_position = position;
    state.newest = Some(position);
    state.changed = position;
    state.dirty = true;
    Ok(Ok(Outcome::Appended(Appended { message, duplicate: false, membership: state.membership.clone() })))
}

fn duplicate(message: StoredEntry, state: &LogState) -> Outcome {
    Outcome::Appended(Appended { message, duplicate: true, membership: state.membership.clone() })
}

fn first_message(
    connection: &Connection,
    state: &LogState,
    append: &Append,
    sender: i64,
) -> rusqlite::Result<Option<StoredEntry>> {
    let mut query = connection.prepare_cached(
        "SELECT id, seq, at, format, content FROM entries WHERE client_id = ? AND sender = ? AND conversation = ?",
    )?;
    let found = query.query_row(params![append.client_id.as_bytes(), sender, state.key], |row| {
        Ok(StoredEntry {
            id: MessageId::from_bytes(row.get("id")?),
            conversation: append.conversation,
            seq: row.get("seq")?,
            sender: append.sender,
            client_id: ClientMessageId::from_bytes(*append.client_id.as_bytes()),
            at: time(row, "at")?,
            body: history::body(row)?,
        })
    });
    found.optional()
}

/// Makes a conversation; it is listed only once it has its first entry.
fn create(tx: &mut Tx<'_>, id: ConversationId, new: &NewConversation, now: Timestamp) -> rusqlite::Result<LogState> {
    let mut members = Vec::with_capacity(new.members.len());
    for member in &new.members {
        let found = member_ref(tx, *member)?.ok_or_else(|| inconsistent("a member of a conversation is not there"))?;
        members.push((found.key, *member));
    }
    members.sort_unstable();
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO conversations (id, kind, last_seq, last_at, last_position, changed) VALUES (?, ?, 0, ?, 0, 0)",
    )?;
    let key = insert.insert(params![id.as_bytes(), rules::kind_word(new.kind), now.as_millis()])?;
    let mut insert = tx.connection.prepare_cached("INSERT INTO participants (conversation, member) VALUES (?, ?)")?;
    for (member, _) in &members {
        insert.execute([key, *member])?;
    }
    let participant = |(key, _): &(i64, MemberId)| Participant {
        key: *key,
        reached: Reached::default(),
        sent: 0,
        moved: (false, false),
    };
    Ok(LogState {
        key,
        end: End { seq: 0, at: now },
        last_position: 0,
        newest: None,
        changed: 0,
        dirty: false,
        marked_at: now,
        recent: Recent::default(),
        participants: members.iter().map(participant).collect(),
        membership: Membership { kind: new.kind, members: members.iter().map(|(_, id)| *id).collect() },
    })
}

fn move_watermark(
    tx: &mut Tx<'_>,
    working: &mut Working,
    mark: Mark,
    now: Timestamp,
) -> rusqlite::Result<Result<Outcome, Refusal>> {
    let Some(state) = load(tx, working, mark.conversation)? else { return Ok(Err(Refusal::ConversationNotFound)) };
    let (end, at) = (state.end, state.end.not_before(now));
    let Some((place, participant)) =
        state.membership.place_of(mark.member).and_then(|place| Some((place, state.participants.get_mut(place)?)))
    else {
        return Ok(Err(Refusal::ConversationNotFound));
    };
    let before = participant.reached;
    let after = before.moved(mark.kind, mark.seq, end.seq);
    participant.reached = after;
    participant.moved.0 |= after.delivered > before.delivered;
    participant.moved.1 |= after.read > before.read;
    if after != before {
        tx.memory.position += 1;
        state.changed = tx.memory.position;
        state.dirty = true;
        state.marked_at = at;
    }
    let unread = state.recent.of_others(place, end.seq.saturating_sub(after.read)).map(UnreadCount::of);
    Ok(Ok(Outcome::Marked(rules::marked(&mark, (before, after), end.seq, at, unread, &state.membership))))
}

/// Writes every conversation that changed, and gives it back to the writer's memory.
fn flush(tx: &mut Tx<'_>, working: Working) -> rusqlite::Result<()> {
    let mut conversation = tx.connection.prepare_cached(
        "UPDATE conversations SET last_seq = ?, last_at = ?, last_position = ?, newest = ?, changed = ?, tally = ?
         WHERE key = ?",
    )?;
    let mut watermarks = tx
        .connection
        .prepare_cached("UPDATE participants SET delivered = ?, read = ? WHERE conversation = ? AND member = ?")?;
    let mut receipt = tx
        .connection
        .prepare_cached("INSERT INTO receipts (conversation, member, kind, seq, at) VALUES (?, ?, ?, ?, ?)")?;
    for (id, mut state) in working {
        if state.dirty {
            let tally = state.tally();
            let LogState { key, end: End { seq, at }, last_position, newest, changed, .. } = state;
            conversation.execute(params![seq, at.as_millis(), last_position, newest, changed, tally, key])?;
            state.dirty = false;
        }
        for participant in state.participants.iter_mut().filter(|participant| participant.moved != (false, false)) {
            let Participant { key, reached: Reached { delivered, read }, moved, .. } = *participant;
            watermarks.execute(params![delivered, read, state.key, key])?;
            let at = state.marked_at.as_millis();
            if moved.0 {
                receipt.execute(params![state.key, key, 0, delivered, at])?;
            }
            if moved.1 {
                receipt.execute(params![state.key, key, 1, read, at])?;
            }
            participant.moved = (false, false);
        }
        tx.memory.conversations.insert(id, state);
    }
    Ok(())
}
