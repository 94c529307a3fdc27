//! Entries of a log as they are stored, apart from how they go over the wire.
//!
//! What an entry says is its [`EntryBody`], which is stored as a number, its format, and a text. The formats are the versions of the
//! stored form: what a body becomes on the disk, and what the disk becomes, is decided here for every store, and a format that
//! was once written can be read for ever. What clients see of a body is `service::views`'.

use protocol::{ClientMessageId, ConversationId, MemberId, MessageId, Timestamp, size};

/// An entry of a conversation's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its id.
    pub id: MessageId,
    /// The conversation that it is in.
    pub conversation: ConversationId,
    /// Its place in the conversation: 1, 2, 3 … without holes.
    pub seq: u64,
    /// The member who made it.
    pub sender: MemberId,
    /// The id that the sender's client gave it.
    pub client_id: ClientMessageId,
    /// When it was stored. Never goes back within a conversation.
    pub at: Timestamp,
    /// What it says.
    pub body: EntryBody,
    /// The number of the entry of the same conversation that it answers, if it answers one.
    pub reply_to: Option<u64>,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryBody {
    /// A text, as it is.
    Text(String),
}

/// The number of a form in which bodies are stored. Never changed, only added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format(pub u8);

impl Format {
    /// A text as it is: what was stored before there were formats.
    pub const TEXT: Self = Self(1);
}

impl EntryBody {
    /// The form in which it is stored.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self {
            Self::Text(_) => Format::TEXT,
        }
    }

    /// What is stored.
    #[must_use]
    pub fn content(&self) -> &str {
        match self {
            Self::Text(text) => text,
        }
    }

    /// Reads what was stored; nothing if its form is of a newer version of the server.
    #[must_use]
    pub fn read(format: Format, content: String) -> Option<Self> {
        match format {
            Format::TEXT => Some(Self::Text(content)),
            _ => None,
        }
    }

    /// Bytes of what it says in a frame: what a page has room for.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        size::json_length(self.content())
    }
}

impl StoredEntry {
    /// Bytes of it in a frame: never less than it has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size::ENTRY_BYTES + self.body.content_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_as_it_was_and_what_is_not_known_is_not() {
        for body in [EntryBody::Text("hello".to_owned()), EntryBody::Text(String::new())] {
            assert_eq!(EntryBody::read(body.format(), body.content().to_owned()), Some(body));
        }
        assert_eq!((Format::TEXT.0, EntryBody::read(Format(200), "?".to_owned())), (1, None));
    }
}
