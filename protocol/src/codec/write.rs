//! Writing frames.

use serde::Serialize;

use crate::RequestId;

/// Writes a frame: `type` first, then `id`, then the fields of the body.
pub(crate) fn encode<T: Serialize>(frame_type: &'static str, id: Option<&RequestId>, body: &T) -> String {
    let mut text = begin(frame_type, id, ENCODED_BYTES);
    let fields = text.len();
    write(&mut text, body);
    // The body is an object of its own as it was written: its fields become those of the frame.
    match text.get_mut(fields..) {
        Some([_, b'}']) => drop(text.remove(fields)),
        Some([brace, ..]) => *brace = b',',
        _ => {}
    }
    finish(text)
}

/// Room for a frame at first: it holds most.
const ENCODED_BYTES: usize = 384;

/// The beginning of a frame, up to and without the comma before its first field; with room for so many bytes.
pub(crate) fn begin(frame_type: &str, id: Option<&RequestId>, capacity: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(capacity);
    text.extend_from_slice(br#"{"type":""#);
    // The types are ours: none needs an escape.
    text.extend_from_slice(frame_type.as_bytes());
    text.push(b'"');
    if let Some(id) = id {
        text.extend_from_slice(br#","id":"#);
        write(&mut text, id);
    }
    text
}

/// Writes a value.
pub(crate) fn write<T: Serialize>(text: &mut Vec<u8>, value: &T) {
    // Cannot fail: the bodies are plain structs with string keys, and writing to memory does not fail.
    let _ = serde_json::to_writer(text, value);
}

/// A frame that is complete.
pub(crate) fn finish(text: Vec<u8>) -> String {
    // JSON is written as UTF-8.
    String::from_utf8(text).unwrap_or_default()
}
