//! Cursors: a position of the store as opaque text.
//!
//! Not signed: a made-up cursor shows its member nothing but their own conversations.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::Cursor;

use crate::store::conversations::{Position, StoreId};

const VERSION: u8 = 1;

/// Writes a cursor.
#[must_use]
pub fn encode(store: StoreId, position: Position) -> Cursor {
    let mut bytes = [VERSION; 17];
    let (_, rest) = bytes.split_at_mut(1);
    let (id, place) = rest.split_at_mut(8);
    id.copy_from_slice(&store.0);
    place.copy_from_slice(&position.0.to_be_bytes());
    #[expect(clippy::expect_used, reason = "17 bytes are 23 characters, and a cursor may have 1 to 128")]
    URL_SAFE_NO_PAD.encode(bytes).parse().expect("a cursor of 23 characters")
}

/// Reads a cursor; `None` if it is not one of this store.
#[must_use]
pub fn decode(store: StoreId, cursor: &Cursor) -> Option<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor.as_str()).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (id, place) = rest.split_first_chunk::<8>()?;
    let ours = *version == VERSION && *id == store.0;
    ours.then(|| place.try_into().ok().map(|place| Position(u64::from_be_bytes(place))))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cursor_of_the_same_store_is_read() {
        let (ours, other) = (StoreId([1; 8]), StoreId([2; 8]));
        let cursor = encode(ours, Position(42));
        assert_eq!(decode(ours, &cursor), Some(Position(42)));
        assert_eq!(decode(other, &cursor), None);
        for foreign in ["x", "AX8kQm9va0NsdWI", "not base64!", &format!("{cursor}AA")] {
            assert_eq!(decode(ours, &foreign.parse().unwrap()), None, "{foreign}");
        }
    }
}
