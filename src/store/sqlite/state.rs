//! What the writer knows of a conversation, and of its members.

use std::sync::Arc;

use protocol::{ConversationId, MemberId, Timestamp, model::UserType};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    members::USER_TYPES,
    memory::Tx,
    recent::Recent,
    row::{inconsistent, kind, optional_time, time, word},
    tally,
};
use crate::store::{
    conversations::{Membership, NewConversation},
    rules::{self, End, MemberFacts, Reached},
};

/// A member, as the log needs them.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemberRef {
    pub(super) key: i64,
    pub(super) is_active: bool,
    pub(super) suspended_until: Option<Timestamp>,
    pub(super) user_type: UserType,
}

impl MemberRef {
    pub(super) fn facts(self) -> MemberFacts {
        let Self { is_active, suspended_until, user_type, .. } = self;
        MemberFacts { is_active, suspended_until, user_type }
    }
}

/// A participant of a conversation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Participant {
    pub(super) key: i64,
    pub(super) reached: Reached,
    /// Entries that they have sent.
    pub(super) sent: u64,
    /// What the row has.
    written: Reached,
}

/// A watermark moved: what becomes a row of `receipts`.
#[derive(Debug, Clone, Copy)]
struct Step {
    member: i64,
    /// 0: delivered, 1: read.
    kind: i64,
    seq: u64,
    at: Timestamp,
}

/// The state of a conversation: after the newest entry and the newest mark, and so ahead of its rows until it is written.
pub(super) struct LogState {
    pub(super) key: i64,
    pub(super) end: End,
    pub(super) last_position: u64,
    /// The position of the newest entry.
    pub(super) newest: Option<u64>,
    /// The position of the newest entry or step of a participant: what a sync brings to all of them.
    pub(super) changed: u64,
    /// The newest position that was taken here; beyond `changed` if a participant has set something for themselves.
    pub(super) touched: u64,
    /// Whether the row is behind this.
    pub(super) is_dirty: bool,
    /// Who has sent the newest entries.
    pub(super) recent: Recent,
    pub(super) participants: Box<[Participant]>,
    /// The ids of the participants, in the same order.
    pub(super) membership: Membership,
    /// What is not in `receipts` yet.
    steps: Vec<Step>,
}

impl LogState {
    /// Reads one.
    pub(super) fn read(connection: &Connection, id: ConversationId) -> rusqlite::Result<Option<Self>> {
        let mut conversation = connection.prepare_cached(
            "SELECT key, kind, last_seq, last_at, last_position, newest, changed, tally FROM conversations WHERE id = ?",
        )?;
        let found = conversation
            .query_row([id.as_bytes()], |row| {
                let state = Self {
                    key: row.get("key")?,
                    end: End { seq: row.get("last_seq")?, at: time(row, "last_at")? },
                    last_position: row.get("last_position")?,
                    newest: row.get("newest")?,
                    changed: row.get("changed")?,
                    touched: row.get("changed")?,
                    is_dirty: false,
                    recent: Recent::default(),
                    participants: Box::default(),
                    membership: Membership { kind: kind(row)?, members: Arc::default() },
                    steps: Vec::new(),
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
            Ok((MemberId::from_bytes(row.get(0)?), Participant { key, reached, sent, written: reached }))
        })?;
        let (members, participants): (Vec<_>, Vec<_>) = rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().unzip();
        state.membership.members = members.into();
        state.participants = participants.into();
        Ok(Some(state))
    }

    /// Makes a conversation; it is listed only once it has its first entry.
    pub(super) fn create(
        tx: &mut Tx<'_>,
        id: ConversationId,
        new: &NewConversation,
        now: Timestamp,
    ) -> rusqlite::Result<Self> {
        let mut members = Vec::with_capacity(new.members.len());
        for member in &new.members {
            let found =
                member_ref(tx, *member)?.ok_or_else(|| inconsistent("a member of a conversation is not there"))?;
            members.push((found.key, *member));
        }
        members.sort_unstable();
        let mut insert = tx.connection.prepare_cached(
            "INSERT INTO conversations (id, kind, last_seq, last_at, last_position, changed) VALUES (?, ?, 0, ?, 0, 0)",
        )?;
        let key = insert.insert(params![id.as_bytes(), rules::kind_word(new.kind), now.as_millis()])?;
        let mut insert =
            tx.connection.prepare_cached("INSERT INTO participants (conversation, member) VALUES (?, ?)")?;
        for (member, _) in &members {
            insert.execute([key, *member])?;
        }
        let participant = |(key, _): &(i64, MemberId)| Participant {
            key: *key,
            reached: Reached::default(),
            sent: 0,
            written: Reached::default(),
        };
        Ok(Self {
            key,
            end: End { seq: 0, at: now },
            last_position: 0,
            newest: None,
            changed: 0,
            touched: 0,
            is_dirty: false,
            recent: Recent::default(),
            participants: members.iter().map(participant).collect(),
            membership: Membership { kind: new.kind, members: members.iter().map(|(_, id)| *id).collect() },
            steps: Vec::new(),
        })
    }

    /// How many entries each participant has sent, with one more of the participant at `place`.
    pub(super) fn tally_with(&self, place: usize) -> Vec<u8> {
        let sent =
            |(at, participant): (usize, &Participant)| (participant.key, participant.sent + u64::from(at == place));
        tally::encode(self.participants.iter().enumerate().map(sent))
    }

    /// Takes in an entry of the participant at `place`. One that is known changes nothing.
    pub(super) fn appended(&mut self, place: usize, position: u64, end: End) {
        if !self.end.reach(end.seq, end.at) {
            return;
        }
        if let Some(sender) = self.participants.get_mut(place) {
            sender.sent += 1;
        }
        self.recent.push(place);
        self.last_position = position;
        self.newest = Some(position);
        self.changed = self.changed.max(position);
        self.touched = self.touched.max(position);
        self.is_dirty = true;
    }

    /// Takes in how far the participant at `place` has got. What is known changes nothing but that the position is taken.
    pub(super) fn moved(&mut self, place: usize, position: u64, after: Reached, at: Timestamp) {
        let Some(Participant { reached: before, key: member, .. }) = self.participants.get(place).copied() else {
            return;
        };
        if after.delivered > before.delivered {
            self.step(Step { member, kind: 0, seq: after.delivered, at });
        }
        if after.read > before.read {
            self.step(Step { member, kind: 1, seq: after.read, at });
        }
        if let Some(participant) = self.participants.get_mut(place) {
            participant.reached =
                Reached { delivered: before.delivered.max(after.delivered), read: before.read.max(after.read) };
        }
        if after.delivered > before.delivered || after.read > before.read {
            self.changed = self.changed.max(position);
        }
        self.touched = self.touched.max(position);
        self.is_dirty = true;
    }

    /// Two steps of one time are one.
    fn step(&mut self, step: Step) {
        let same = |last: &&mut Step| (last.member, last.kind, last.at) == (step.member, step.kind, step.at);
        match self.steps.iter_mut().rev().take(4).find(same) {
            Some(last) => last.seq = step.seq,
            None => self.steps.push(step),
        }
    }

    /// The place of a participant with this key.
    pub(super) fn place_of_key(&self, key: i64) -> Option<usize> {
        self.participants.iter().position(|participant| participant.key == key)
    }

    /// Brings the rows up to date.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if !self.is_dirty {
            return Ok(());
        }
        let tally = tally::encode(self.participants.iter().map(|participant| (participant.key, participant.sent)));
        let End { seq, at } = self.end;
        connection
            .prepare_cached(
                "UPDATE conversations SET last_seq = ?, last_at = ?, last_position = ?, newest = ?, changed = ?, tally = ?
                 WHERE key = ?",
            )?
            .execute(params![seq, at.as_millis(), self.last_position, self.newest, self.changed, tally, self.key])?;
        for participant in &mut self.participants {
            let Participant { key, reached: Reached { delivered, read }, .. } = *participant;
            if participant.reached != participant.written {
                connection
                    .prepare_cached(
                        "UPDATE participants SET delivered = ?, read = ? WHERE conversation = ? AND member = ?",
                    )?
                    .execute(params![delivered, read, self.key, key])?;
                participant.written = participant.reached;
            }
        }
        // In the order of the table.
        self.steps.sort_unstable_by_key(|step| (step.member, step.kind, step.seq));
        for Step { member, kind, seq, at } in std::mem::take(&mut self.steps) {
            connection
                .prepare_cached(
                    "INSERT INTO receipts (conversation, member, kind, seq, at) VALUES (?, ?, ?, ?, ?)
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![self.key, member, kind, seq, at.as_millis()])?;
        }
        self.is_dirty = false;
        Ok(())
    }
}

/// A member, from what is remembered or read.
pub(super) fn member_ref(tx: &mut Tx<'_>, id: MemberId) -> rusqlite::Result<Option<MemberRef>> {
    if let Some(known) = tx.memory.members.get(&id) {
        return Ok(Some(*known));
    }
    // Nobody knows yet of who waits for an administrator, or has to verify the address.
    let mut query = tx.connection.prepare_cached(
        "SELECT key, is_active, suspended_until, user_type FROM members
         WHERE id = ? AND is_pending = 0 AND must_verify = 0",
    )?;
    let found = query.query_row([id.as_bytes()], |row| {
        let user_type = word(row, "user_type", USER_TYPES)?;
        let suspended_until = optional_time(row, "suspended_until")?;
        Ok(MemberRef { key: row.get("key")?, is_active: row.get("is_active")?, suspended_until, user_type })
    });
    let found = found.optional()?;
    if let Some(member) = found {
        tx.memory.members.insert(id, member);
    }
    Ok(found)
}
