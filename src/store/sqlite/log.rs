//! Appending messages and moving watermarks, inside the writer's transaction.
//!
//! A message writes a row of `entries`, a watermark one of `marks`; what follows from them is kept by the writer and
//! written later ([`super::flush`]). A failed transaction throws it away, and it is read again.

use protocol::{ClientMessageId, ConversationId, MessageId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    history,
    keys::{Key, Keys},
    memory::{Memory, Tx},
    row::time,
    state::{LogState, MemberRef, member_ref},
};
use crate::{
    position::Position,
    store::{
        conversations::{
            Append, Appended, Applied, Command, Configure, Configured, Mark, Outcome, Refusal, UnreadCount,
        },
        entries::{EntryBody, StoredEntry},
        rules::{self, End, Known, Verdict},
    },
};

/// Participants whose watermarks a batch has moved.
type Moved = Vec<(ConversationId, usize)>;

/// Applies a batch.
pub(super) fn apply(tx: &mut Tx<'_>, batch: Vec<Command>) -> rusqlite::Result<Applied> {
    let now = tx.clock.now();
    let mut moved = Moved::new();
    let mut outcomes = Vec::with_capacity(batch.len());
    tx.metrics.commit_commands.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
    for command in batch {
        outcomes.push(match command {
            Command::Append(append) => append_message(tx, append, now)?,
            Command::Mark(mark) => move_watermark(tx, &mut moved, &mark, now)?,
            Command::Configure(wanted) => configure(tx, &mut moved, &wanted, now)?,
            // Nobody else writes here.
            Command::Refresh(_) => Ok(Outcome::Refreshed),
        });
    }
    log_marks(tx, moved, now)?;
    let position = Position(tx.memory.position);
    Ok(Applied { outcomes, untold: Vec::new(), position, latest: position })
}

fn append_message(tx: &mut Tx<'_>, mut append: Append, now: Timestamp) -> rusqlite::Result<Result<Outcome, Refusal>> {
    let known = tx.memory.states.load(tx.connection, append.conversation)?;
    let known = known.map(|state| (state.membership.clone(), state.end.seq));
    let known = known.as_ref().map(|(membership, newest)| Known { membership, newest: *newest });
    let facts = |member| member_ref(tx, member).map(|found| found.map(MemberRef::facts));
    let (may_append, refusal) = match rules::admit(&append, known, now, facts)? {
        Verdict::Refuse(refusal) => return Ok(Err(refusal)),
        Verdict::Begin(new) => {
            let state = LogState::create(tx, append.conversation, new, now)?;
            tx.memory.states.insert(append.conversation, state);
            (None, None)
        }
        Verdict::Append { sender } => (Some(sender), None),
        Verdict::OnlyRetry { sender, refusal } => (Some(sender), Some(refusal)),
    };
    let Memory { states, keys, position, .. } = &mut *tx.memory;
    // It was loaded or made above.
    let Some(state) = states.get_mut(append.conversation) else { return Ok(Err(Refusal::ConversationNotFound)) };
    let place = may_append.or_else(|| state.membership.place_of(append.sender));
    let Some((place, sender)) = place.and_then(|place| Some((place, state.participants.get(place)?.key))) else {
        return Ok(Err(Refusal::ConversationNotFound));
    };
    let key = keys.hashing.client_id(state.key, sender, append.client_id);
    let first = first_message(tx.connection, keys, key, state.key, &append, sender)?;
    let message = match (first, refusal) {
        (Some(first), _) => return Ok(Ok(appended(first, true, state))),
        (None, Some(refusal)) => return Ok(Err(refusal)),
        (None, None) => {
            let body = EntryBody::Text(std::mem::take(&mut append.content));
            state.end.next(tx.ids.message(), &append, body, now)
        }
    };
    *position += 1;
    let tally = message.seq.is_multiple_of(history::INDEXED).then(|| state.tally_with(place));
    let links = Links { conversation: state.key, sender, previous: state.newest, tally };
    insert(tx.connection, *position, &message, &links)?;
    keys.insert(*position, key, keys.hashing.message(message.id));
    state.appended(place, *position, End { seq: message.seq, at: message.at });
    let outcome = appended(message, false, state);
    states.logged();
    Ok(Ok(outcome))
}

/// What the row of an entry has beside the message.
pub(super) struct Links {
    /// The key of its conversation.
    pub(super) conversation: i64,
    /// The key of its sender.
    pub(super) sender: i64,
    /// The position of the entry before it.
    pub(super) previous: Option<u64>,
    /// How many entries each participant has sent, if the entry has a tally.
    pub(super) tally: Option<Vec<u8>>,
}

/// Appends the row of a message.
pub(super) fn insert(
    connection: &Connection,
    position: u64,
    message: &StoredEntry,
    links: &Links,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO entries (position, conversation, seq, sender, id, client_id, at, format, content, previous, tally, reply_to)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert
        .execute(params![
            position,
            links.conversation,
            message.seq,
            links.sender,
            message.id.as_bytes(),
            message.client_id.as_bytes(),
            message.at.as_millis(),
            message.body.format().0,
            message.body.content(),
            links.previous,
            links.tally,
            message.reply_to,
        ])
        .map(drop)
}

fn appended(message: StoredEntry, duplicate: bool, state: &LogState) -> Outcome {
    Outcome::Appended(Appended { message, duplicate, membership: state.membership.clone() })
}

/// The message that a sender has called this before.
fn first_message(
    connection: &Connection,
    keys: &Keys,
    key: Key,
    conversation: i64,
    append: &Append,
    sender: i64,
) -> rusqlite::Result<Option<StoredEntry>> {
    for position in keys.find(connection, key)? {
        let mut query = connection.prepare_cached(
            "SELECT id, seq, at, format, content, reply_to FROM entries
             WHERE position = ? AND client_id = ? AND sender = ? AND conversation = ?",
        )?;
        let values = params![position, append.client_id.as_bytes(), sender, conversation];
        let found = query.query_row(values, |row| {
            Ok(StoredEntry {
                id: MessageId::from_bytes(row.get("id")?),
                conversation: append.conversation,
                seq: row.get("seq")?,
                sender: append.sender,
                client_id: ClientMessageId::from_bytes(*append.client_id.as_bytes()),
                at: time(row, "at")?,
                body: history::body(row)?,
                reply_to: row.get("reply_to")?,
            })
        });
        if let Some(found) = found.optional()? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn move_watermark(
    tx: &mut Tx<'_>,
    moved: &mut Moved,
    mark: &Mark,
    now: Timestamp,
) -> rusqlite::Result<Result<Outcome, Refusal>> {
    let Memory { states, position, .. } = &mut *tx.memory;
    let Some(state) = states.load(tx.connection, mark.conversation)? else {
        return Ok(Err(Refusal::ConversationNotFound));
    };
    let (end, at) = (state.end, state.end.not_before(now));
    let Some((place, before)) =
        state.membership.place_of(mark.member).and_then(|place| Some((place, state.participants.get(place)?.reached)))
    else {
        return Ok(Err(Refusal::ConversationNotFound));
    };
    let after = before.moved(mark.kind, mark.seq, end.seq);
    if after != before {
        *position += 1;
        state.moved(place, *position, after, at);
        moved.push((mark.conversation, place));
    }
    let unread = state.recent.of_others(place, end.seq.saturating_sub(after.read)).map(UnreadCount::of);
    Ok(Ok(Outcome::Marked(rules::marked(mark, (before, after), end.seq, at, unread, &state.membership))))
}

/// Sets what a participant wants. The mark that goes with it moves nothing, and says that its position is taken.
fn configure(
    tx: &mut Tx<'_>,
    moved: &mut Moved,
    wanted: &Configure,
    now: Timestamp,
) -> rusqlite::Result<Result<Outcome, Refusal>> {
    let Configure { conversation, member, settings } = *wanted;
    let Memory { states, position, .. } = &mut *tx.memory;
    let Some(state) = states.load(tx.connection, conversation)? else {
        return Ok(Err(Refusal::ConversationNotFound));
    };
    let place = state.membership.place_of(member);
    let Some((place, participant)) = place.and_then(|place| Some((place, *state.participants.get(place)?))) else {
        return Ok(Err(Refusal::ConversationNotFound));
    };
    let before = super::settings::of_participant(tx.connection, state.key, participant.key)?;
    let after = rules::configured(settings, before);
    if let Some(after) = after {
        *position += 1;
        super::settings::write(tx.connection, (state.key, participant.key), after, *position)?;
        state.moved(place, *position, participant.reached, state.end.not_before(now));
        moved.push((conversation, place));
    }
    let (stored, changed) = (after.unwrap_or(before), after.is_some());
    Ok(Ok(Outcome::Configured(Configured { conversation, member, stored, changed })))
}

/// Writes how far participants have got, one row for each.
fn log_marks(tx: &mut Tx<'_>, mut moved: Moved, now: Timestamp) -> rusqlite::Result<()> {
    moved.sort_unstable();
    moved.dedup();
    let states = &mut tx.memory.states;
    for (conversation, place) in moved {
        let Some(state) = states.get_mut(conversation) else { continue };
        let Some(participant) = state.participants.get(place) else { continue };
        let mut insert = tx.connection.prepare_cached(
            "INSERT INTO marks (position, conversation, member, delivered, read, at) VALUES (?, ?, ?, ?, ?, ?)",
        )?;
        insert.execute(params![
            state.touched,
            state.key,
            participant.key,
            participant.reached.delivered,
            participant.reached.read,
            state.end.not_before(now).as_millis(),
        ])?;
        states.logged();
    }
    Ok(())
}
