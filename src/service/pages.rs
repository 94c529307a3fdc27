//! Places in lists as opaque text.
//!
//! Not signed: a made-up place shows nobody anything that the list itself would not.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::ErrorCode;
use serde::{Serialize, de::DeserializeOwned};

use crate::failure::Failure;

/// Writes a place.
pub fn encode<T: Serialize>(place: &T) -> String {
    // What is written here are numbers and texts, which can always be.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).unwrap_or_default())
}

/// Reads the place that a page starts after, if one is given.
///
/// # Errors
/// `validation_failed` when it is not one of this list.
pub fn decode<T: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<T>, Failure> {
    let Some(cursor) = cursor else { return Ok(None) };
    let place = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let wrong = || Failure::field(ErrorCode::ValidationFailed, "cursor", "not a `next` of this list");
    place.map(Some).ok_or_else(wrong)
}

/// Cuts what was read with one item too many to a page, and writes the place of the next one.
pub fn cut<T, P: Serialize>(items: &mut Vec<T>, limit: usize, place: impl FnOnce(&T) -> P) -> Option<String> {
    let more = items.len() > limit;
    items.truncate(limit);
    items.last().filter(|_| more).map(|last| encode(&place(last)))
}
