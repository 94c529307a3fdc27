//! How many bytes things have as JSON: what bounds a frame is its encoded size, not the length of its texts.

use crate::model::{Conversation, Entry};

/// Bytes of an entry beside its content: ids, times, names of fields.
pub const ENTRY_BYTES: usize = 320;
/// Bytes of a conversation beside its members and entries, with settings.
const CONVERSATION_BYTES: usize = 400;
/// Bytes of the watermarks of one member.
const WATERMARKS_BYTES: usize = 100;

/// Whether a byte of a text is written as an escape in JSON (RFC 8259, section 7).
pub(crate) const fn needs_escape(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// The bytes of a text within a JSON string, without the quotes, as this crate encodes it (RFC 8259, section 7).
#[must_use]
pub fn json_length(text: &str) -> usize {
    let escape = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        _ if needs_escape(byte) => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(escape).sum::<usize>()
}

/// The encoded size of an entry, in bytes: never less than it has.
#[must_use]
pub fn entry_bytes(entry: &Entry) -> usize {
    let Entry::Message(message) = entry;
    ENTRY_BYTES + json_length(&message.content)
}

/// The encoded size of a conversation with its entries, in bytes: never less than it has.
#[must_use]
pub fn conversation_bytes(conversation: &Conversation) -> usize {
    conversation_head_bytes(conversation.members.len()) + conversation.entries.iter().map(entry_bytes).sum::<usize>()
}

/// The encoded size of a conversation of so many members without its entries, in bytes: never less than it has.
#[must_use]
pub const fn conversation_head_bytes(members: usize) -> usize {
    CONVERSATION_BYTES + WATERMARKS_BYTES * members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ClientMessageId, ConversationId, MemberId, MessageId, Timestamp,
        limits::INTEGER_MAX,
        model::{ConversationKind, ConversationSettings, Message, Notify, Watermarks},
    };

    #[test]
    fn the_length_of_a_text_is_that_of_its_encoding() {
        let every_ascii: String = (0..=127_u8).map(char::from).collect();
        for text in ["", "plain", "é ß 日本 😀", "\u{7f}\u{80}\u{2028}", every_ascii.as_str()] {
            assert_eq!(json_length(text) + 2, serde_json::to_string(text).unwrap().len(), "{text:?}");
        }
    }

    #[test]
    fn no_conversation_is_larger_than_its_estimate() {
        let member = MemberId::from_bytes([255; 12]);
        let at = Timestamp::from_millis(1_795_370_633_999);
        let message = Message {
            id: MessageId::from_bytes([255; 12]),
            conversation: ConversationId::from_bytes([255; 12]),
            seq: INTEGER_MAX,
            sender: member,
            client_id: ClientMessageId::from_bytes([255; 16]),
            content: "\u{1}\"😀".repeat(500),
            at,
            reply_to: Some(INTEGER_MAX),
        };
        let watermarks = Watermarks { member, delivered: INTEGER_MAX, read: INTEGER_MAX };
        let mut conversation = Conversation {
            id: message.conversation,
            kind: ConversationKind::Direct,
            members: vec![watermarks; 2],
            last_seq: INTEGER_MAX,
            unread: INTEGER_MAX,
            unread_more: true,
            last_at: at,
            settings: ConversationSettings {
                notify: Notify::Mentions,
                muted_until: Some(at),
                archived: true,
                pinned: true,
            },
            settings_revision: INTEGER_MAX,
            entries: Vec::new(),
        };
        let encoded = |conversation: &Conversation| serde_json::to_string(conversation).unwrap().len();
        assert!(encoded(&conversation) <= conversation_bytes(&conversation));
        conversation.entries = vec![Entry::Message(message); 50];
        assert!(encoded(&conversation) <= conversation_bytes(&conversation));
    }
}
