//! Cursors: a position of the store as opaque text, or a place within a sync that was not sent to its end.
//!
//! Not signed: a made-up cursor shows its member nothing but their own conversations.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::Cursor;

use crate::store::conversations::{Position, StoreId};

const VERSION: u8 = 1;
/// Of a place within a sync.
const PARTIAL: u8 = 2;
/// Stands for no position.
const NONE: Position = Position(u64::MAX);

/// A place within the list of conversations that a sync sends, the one with the newest entry first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// What the client had before: entries after this position are sent; without it the latest ones (the full state).
    pub since: Option<Position>,
    /// The list has conversations that changed after this position; all without it.
    pub changed: Option<Position>,
    /// The snapshot in which the list was begun.
    pub begun: Position,
    /// How far down the list was sent; nothing of it without.
    pub below: Option<Position>,
    /// Conversations of the full state that were sent.
    pub listed: u8,
}

/// Writes a place within a sync as a cursor.
#[must_use]
pub fn encode_partial(store: StoreId, place: &Partial) -> Cursor {
    let number = |position: Option<Position>| position.unwrap_or(NONE).0.to_be_bytes();
    let Partial { since, changed, begun, below, listed } = *place;
    let numbers = [since, changed, Some(begun), below].map(number);
    let bytes = [&[PARTIAL][..], &store.0, numbers.as_flattened(), &[listed]].concat();
    #[expect(clippy::expect_used, reason = "42 bytes are 56 characters, and a cursor may have 1 to 128")]
    URL_SAFE_NO_PAD.encode(bytes).parse().expect("a cursor of 56 characters")
}

/// Reads a place within a sync; `None` if it is not one of this store.
#[must_use]
pub fn decode_partial(store: StoreId, cursor: &Cursor) -> Option<Partial> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor.as_str()).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (numbers, rest) = rest.split_first_chunk::<32>()?;
    let &[listed] = rest else { return None };
    let (numbers, _) = numbers.as_chunks::<8>();
    let &[since, changed, begun, below] = numbers else { return None };
    let position = |bytes: [u8; 8]| Some(Position(u64::from_be_bytes(bytes))).filter(|position| *position != NONE);
    let (since, changed, below) = (position(since), position(changed), position(below));
    let ours = *version == PARTIAL && *id == store.0;
    ours.then(|| Partial { since, changed, begun: position(begun).unwrap_or(NONE), below, listed })
}

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
    fn a_place_within_a_sync_is_read_as_it_was_written() {
        let (ours, other) = (StoreId([1; 8]), StoreId([2; 8]));
        let at = |number| Some(Position(number));
        for place in [
            Partial { since: None, changed: None, begun: Position(9), below: at(7), listed: 3 },
            Partial { since: at(2), changed: at(5), begun: Position(u64::MAX), below: None, listed: 255 },
            Partial { since: at(0), changed: at(0), begun: Position(0), below: at(1), listed: 0 },
        ] {
            let cursor = encode_partial(ours, &place);
            assert_eq!(decode_partial(ours, &cursor), Some(place));
            assert_eq!((decode_partial(other, &cursor), decode(ours, &cursor)), (None, None));
        }
        assert_eq!(decode_partial(ours, &encode(ours, Position(1))), None);
    }

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
