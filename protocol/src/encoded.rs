//! A message that is stored goes out twice: as `entry` to everybody else, and as `message.accepted` to who sent it. Both
//! carry the same bytes, which are encoded once.

use std::ops::Range;

use crate::{
    RequestId,
    codec::{begin, finish, write},
    model::{Entry, Message},
    server::{EntryPush, MessageAccepted},
    size::{ENTRY_BYTES, needs_escape},
};

/// Bytes of a frame beside its message: its type, an id of a request, and what follows.
const AROUND_BYTES: usize = 160;

/// Writes an `entry` frame. Returns it, and where in it the fields of the message are, if it is one, with the brace that ends them.
#[must_use]
pub fn entry(EntryPush { entry, conversation }: &EntryPush) -> (String, Range<usize>) {
    let Entry::Message(message) = entry;
    // Escapes are rare, and looking for them costs as much as writing does: the text grows then.
    let room = AROUND_BYTES + ENTRY_BYTES + message.content.len();
    let mut text = begin(EntryPush::TYPE, None, room);
    text.extend_from_slice(br#","entry":{"kind":"message","#);
    let start = text.len();
    write_fields(&mut text, message);
    let end = text.len();
    if let Some(conversation) = conversation {
        text.extend_from_slice(br#","conversation":"#);
        write(&mut text, conversation);
    }
    text.push(b'}');
    (finish(text), start..end)
}

/// Writes the fields of a message, and the brace that ends them, as serde does (a property test compares them), with far fewer
/// instructions: no id needs an escape, and whether a text does is found out for many bytes at a time.
fn write_fields(text: &mut Vec<u8>, message: &Message) {
    let Message { id, conversation, seq, sender, client_id, content, at, reply_to } = message;
    put(text, br#""id":""#, &id.digits().0);
    put(text, br#"","conversation":""#, &conversation.digits().0);
    put(text, br#"","seq":"#, &[]);
    write(text, seq);
    put(text, br#","sender":""#, &sender.digits().0);
    put(text, br#"","client_id":""#, &client_id.digits().0);
    put(text, br#"","content":"#, &[]);
    write_text(text, content);
    put(text, br#","at":"#, &[]);
    write(text, at);
    if let Some(seq) = reply_to {
        put(text, br#","reply_to":"#, &[]);
        write(text, seq);
    }
    text.push(b'}');
}

/// Writes what stands before a value, and the value.
fn put(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    text.extend_from_slice(name);
    text.extend_from_slice(value);
}

/// Writes a text, looking for what needs an escape at once instead of byte by byte.
fn write_text(text: &mut Vec<u8>, content: &str) {
    // Without a way out in the middle, so that the compiler can take many bytes at a time.
    if content.as_bytes().iter().fold(false, |found, byte| found | needs_escape(*byte)) {
        write(text, &content);
        return;
    }
    text.push(b'"');
    text.extend_from_slice(content.as_bytes());
    text.push(b'"');
}

/// Writes a `message.accepted` frame around the fields of a message that were written before.
#[must_use]
pub fn accepted(id: Option<&RequestId>, fields: &str, duplicate: bool) -> String {
    let mut text = begin(MessageAccepted::TYPE, id, AROUND_BYTES + fields.len());
    text.extend_from_slice(br#","message":{"#);
    text.extend_from_slice(fields.as_bytes());
    text.extend_from_slice(br#","duplicate":"#);
    write(&mut text, &duplicate);
    text.push(b'}');
    finish(text)
}
