//! What is stored, as clients see it.

use protocol::model::{Conversation, Entry, Message};

use crate::store::{
    conversations::ConversationState,
    entries::{Body, StoredEntry},
};

/// An entry that is a message.
#[must_use]
pub fn message(entry: StoredEntry) -> Message {
    let StoredEntry { id, conversation, seq, sender, client_id, at, body } = entry;
    let Body::Text(content) = body;
    Message { id, conversation, seq, sender, client_id, content, at }
}

/// An entry of any kind.
#[must_use]
pub fn entry(entry: StoredEntry) -> Entry {
    match entry.body {
        Body::Text(_) => Entry::Message(message(entry)),
    }
}

/// A conversation with entries.
#[must_use]
pub fn conversation(state: ConversationState) -> Conversation {
    let ConversationState { id, kind, members, last_seq, unread, last_at, entries } = state;
    Conversation {
        id,
        kind,
        members,
        last_seq,
        unread: unread.count,
        unread_more: unread.more,
        last_at,
        entries: entries.into_iter().map(entry).collect(),
    }
}
