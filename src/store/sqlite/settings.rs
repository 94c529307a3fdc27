//! What members have set of conversations: columns of `participants`.
//!
//! They are written with their command, unlike watermarks, and with the position of that: by it a sync of the member finds them. That position
//! is no change of the conversation, which the other members would be told of. A row of `marks` that moves nothing goes with it, so that
//! a restart knows that the position is taken.

use protocol::{
    ConversationId, MemberId, Timestamp,
    model::{ConversationSettings, Notify},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::row::{optional_time, word};
use crate::store::conversations::StoredSettings;

const NOTIFY: &[(&str, Notify)] = &[
    (Notify::All.as_str(), Notify::All),
    (Notify::Mentions.as_str(), Notify::Mentions),
    (Notify::Nothing.as_str(), Notify::Nothing),
];

/// What a row has that holds `notify`, `muted_until`, `archived`, `pinned` and `settings_revision`.
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<StoredSettings> {
    let settings = ConversationSettings {
        notify: word(row, "notify", NOTIFY)?,
        muted_until: optional_time(row, "muted_until")?,
        archived: row.get("archived")?,
        pinned: row.get("pinned")?,
    };
    Ok(StoredSettings { settings, revision: row.get("settings_revision")? })
}

/// What a participant has set, by the keys of the conversation and of the member.
pub(super) fn of_participant(
    connection: &Connection,
    conversation: i64,
    member: i64,
) -> rusqlite::Result<StoredSettings> {
    let mut query = connection.prepare_cached(
        "SELECT notify, muted_until, archived, pinned, settings_revision FROM participants
         WHERE conversation = ? AND member = ?",
    )?;
    query.query_row([conversation, member], stored)
}

/// Writes what a participant has set at a position.
pub(super) fn write(
    connection: &Connection,
    (conversation, member): (i64, i64),
    StoredSettings { settings, revision }: StoredSettings,
    position: u64,
) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE participants
         SET notify = ?, muted_until = ?, archived = ?, pinned = ?, settings_revision = ?, configured = ?
         WHERE conversation = ? AND member = ?",
    )?;
    let ConversationSettings { notify, muted_until, archived, pinned } = settings;
    let muted_until = muted_until.map(Timestamp::as_millis);
    let values = params![notify.as_str(), muted_until, archived, pinned, revision, position, conversation, member];
    update.execute(values).map(drop)
}

/// Forgets all that a member has set.
pub(super) fn forget(connection: &Connection, member: i64) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE participants SET notify = 'all', muted_until = NULL, archived = 0, pinned = 0, settings_revision = 0
         WHERE member = ? AND settings_revision > 0",
    )?;
    update.execute([member]).map(drop)
}

/// What a member has set of conversations, in their order.
pub(super) fn of_conversations(
    connection: &Connection,
    member: MemberId,
    conversations: &[ConversationId],
) -> rusqlite::Result<Vec<ConversationSettings>> {
    let mut query = connection.prepare_cached(
        "SELECT p.notify, p.muted_until, p.archived, p.pinned, p.settings_revision FROM conversations c
         CROSS JOIN participants p ON p.conversation = c.key AND p.member = (SELECT key FROM members WHERE id = ?)
         WHERE c.id = ?",
    )?;
    let mut all = Vec::with_capacity(conversations.len());
    for conversation in conversations {
        let found = query.query_row([member.as_bytes(), conversation.as_bytes()], stored).optional()?;
        all.push(found.unwrap_or_default().settings);
    }
    Ok(all)
}
