//! A message that is stored goes out twice: as `message` to everybody else, and as `message.accepted` to who sent it. Both
//! carry the same bytes, which are encoded once.

use std::ops::Range;

use crate::{
    RequestId,
    codec::{begin, finish, write},
    server::{MessageAccepted, MessagePush},
    size::ENTRY_BYTES,
};

/// Bytes of a frame beside its message: its type, an id of a request, and what follows.
const AROUND_BYTES: usize = 160;

/// Writes a `message` frame. Returns it, and where in it the bytes of the message itself are.
#[must_use]
pub fn message(MessagePush { message, conversation }: &MessagePush) -> (String, Range<usize>) {
    // Escapes are rare, and looking for them costs as much as writing does: the text grows then.
    let room = AROUND_BYTES + ENTRY_BYTES + message.content.len();
    let mut text = begin(MessagePush::TYPE, None, room);
    text.extend_from_slice(br#","message":"#);
    let start = text.len();
    write(&mut text, message);
    let end = text.len();
    if let Some(conversation) = conversation {
        text.extend_from_slice(br#","conversation":"#);
        write(&mut text, conversation);
    }
    text.push(b'}');
    (finish(text), start..end)
}

/// Writes a `message.accepted` frame around a message that was written before.
#[must_use]
pub fn accepted(id: Option<&RequestId>, message: &str, duplicate: bool) -> String {
    let mut text = begin(MessageAccepted::TYPE, id, AROUND_BYTES + message.len());
    text.extend_from_slice(br#","message":"#);
    text.extend_from_slice(message.as_bytes());
    text.extend_from_slice(br#","duplicate":"#);
    write(&mut text, &duplicate);
    text.push(b'}');
    finish(text)
}
