//! Cursors: a place of the store, or one within a sync that was not sent to its end, as opaque text that only its member
//! can use.
//!
//! A cursor has a kind, an epoch, positions, and a message authentication code (HMAC-SHA256, its first 10 bytes) over
//! these and the member. So nobody can make one up, which would make a sync as large as they like, or use another
//! member's. Its key is derived from the secret that signs access tokens, so that every node knows it; cursors under a
//! former secret are read for as long as that is kept. What is not good in any way is as good as no cursor.

use crate::{
    auth::keys::{self, KeyRing, Keyed, first_bytes},
    position::{Epoch, Position, StreamPosition},
    store::fleet::SecretId,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::Mac as _;
use protocol::{Cursor, MemberId};

const VERSION: u8 = 2;
/// What the key of cursors is derived with, so that it is good for nothing else.
const LABEL: &[u8] = b"members-book cursor 2";
/// What is hashed to tell secrets apart: shorter than what is signed of any cursor.
const SECRET_ID: &[u8] = b"id";
/// Bytes before the code: version, kind, epoch, position.
const BODY: usize = 18;
/// The same for a place within a sync: version, kind, epoch, four positions, how many conversations, what is told at the end.
const WITHIN: usize = 44;
/// What is told at the end of a sync, as bits.
const RESET: u8 = 1;
const MORE: u8 = 2;
/// Stands for no position.
const NONE: Position = Position(u64::MAX);
/// Bytes of the code: 2^80 guesses, each of which costs a rate-limited hello.
const CODE: usize = 10;

/// A place within the list of conversations that a sync sends, the one with the newest entry first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// The epoch of `begun`. What the client had before was good when the list was begun.
    pub epoch: Epoch,
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
    /// Whether the store had gone back behind what the client had when the sync began: whoever gets the rest is told too.
    pub reset: bool,
    /// Whether the full state, which is sent, had no room for further conversations: the same.
    pub more: bool,
}

impl Partial {
    /// Where the list was begun: as long as that place is good, the rest is.
    #[must_use]
    pub fn start(&self) -> StreamPosition {
        StreamPosition { epoch: self.epoch, position: self.begun }
    }
}

/// What a cursor of one place is for. One of a kind is none of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A device has everything up to there.
    Sync = 0,
    /// The next page of the list of conversations.
    Page = 1,
}

/// The kind of a cursor that stands for a place within a sync.
const KIND_WITHIN: u8 = 2;

/// The keys of cursors.
pub struct Keys {
    keys: keys::Keys<Keyed>,
}

impl Keys {
    /// The keys that belong to the secrets of access tokens.
    #[must_use]
    pub fn new(ring: &KeyRing) -> Self {
        Self { keys: ring.derive(LABEL) }
    }

    /// Tells secrets of now apart.
    #[must_use]
    pub fn secret_id(&self) -> SecretId {
        SecretId(first_bytes(self.keys.present.clone().chain_update(SECRET_ID)))
    }

    /// Writes a cursor for a member.
    #[must_use]
    pub fn encode(&self, member: MemberId, kind: Kind, place: StreamPosition) -> Cursor {
        let mut body = [0; BODY];
        let (head, position) = body.split_at_mut(BODY - 8);
        write_head(head, kind as u8, place.epoch);
        position.copy_from_slice(&place.position.0.to_be_bytes());
        self.sign::<BODY, { BODY + CODE }>(member, &body)
    }

    /// Writes a cursor for a member that stands for a place within a sync.
    #[must_use]
    pub fn encode_within(&self, member: MemberId, place: &Partial) -> Cursor {
        let number = |position: Option<Position>| position.unwrap_or(NONE).0.to_be_bytes();
        let Partial { epoch, since, changed, begun, below, listed, reset, more } = *place;
        let told = (u8::from(reset) * RESET) | (u8::from(more) * MORE);
        let mut body = [0; WITHIN];
        let (head, rest) = body.split_at_mut(BODY - 8);
        write_head(head, KIND_WITHIN, epoch);
        let numbers = [since, changed, Some(begun), below].map(number);
        let bytes = numbers.as_flattened().iter().copied().chain([listed, told]);
        rest.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        self.sign::<WITHIN, { WITHIN + CODE }>(member, &body)
    }

    /// Reads a member's cursor; nothing if it was not made for them, for this kind, by a server with one of these keys.
    /// Whether its place is still good is the store's to say.
    #[must_use]
    pub fn decode(&self, member: MemberId, kind: Kind, cursor: &Cursor) -> Option<StreamPosition> {
        let body = self.verify::<BODY>(member, kind as u8, cursor)?;
        let (epoch, position) = after_kind(&body)?;
        Some(StreamPosition { epoch, position: Position(u64::from_be_bytes(position.try_into().ok()?)) })
    }

    /// Reads a member's cursor that stands for a place within a sync.
    #[must_use]
    pub fn decode_within(&self, member: MemberId, cursor: &Cursor) -> Option<Partial> {
        let body = self.verify::<WITHIN>(member, KIND_WITHIN, cursor)?;
        let (epoch, rest) = after_kind(&body)?;
        let (numbers, rest) = rest.split_first_chunk::<32>()?;
        let &[listed, told] = rest else { return None };
        let (numbers, _) = numbers.as_chunks::<8>();
        let &[since, changed, begun, below] = numbers else { return None };
        let position = |bytes: [u8; 8]| Some(Position(u64::from_be_bytes(bytes))).filter(|position| *position != NONE);
        let (since, changed, below) = (position(since), position(changed), position(below));
        Some(Partial {
            epoch,
            since,
            changed,
            begun: position(begun).unwrap_or(NONE),
            below,
            listed,
            reset: told & RESET != 0,
            more: told & MORE != 0,
        })
    }

    /// A body with its code, as text. `WHOLE` is `BYTES` and those of the code.
    fn sign<const BYTES: usize, const WHOLE: usize>(&self, member: MemberId, body: &[u8; BYTES]) -> Cursor {
        let mut bytes = [0; WHOLE];
        let (start, code) = bytes.split_at_mut(BYTES);
        start.copy_from_slice(body);
        code.copy_from_slice(&first_bytes::<CODE>(mac(&self.keys.present, member, body)));
        #[expect(clippy::expect_used, reason = "54 bytes at most are 72 characters, and a cursor may have 1 to 128")]
        URL_SAFE_NO_PAD.encode(bytes).parse().expect("a cursor of at most 72 characters")
    }

    /// The body of a member's cursor, if it has this length, version and kind, and its code is right.
    fn verify<const BYTES: usize>(&self, member: MemberId, kind: u8, cursor: &Cursor) -> Option<[u8; BYTES]> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor.as_str()).ok()?;
        let (body, code) = bytes.split_first_chunk::<BYTES>()?;
        let [VERSION, its, ..] = body.as_slice() else { return None };
        // `verify_truncated_left` takes as long whatever differs.
        let is_ours = |key: &Keyed| mac(key, member, body).verify_truncated_left(code).is_ok();
        let ours = code.len() == CODE && *its == kind && self.keys.all().any(is_ours);
        ours.then_some(*body)
    }
}

/// Writes version, kind and epoch: 10 bytes.
fn write_head(head: &mut [u8], kind: u8, epoch: Epoch) {
    let bytes = [VERSION, kind].into_iter().chain(epoch.0);
    head.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
}

/// The epoch, and what comes after it.
fn after_kind(body: &[u8]) -> Option<(Epoch, &[u8])> {
    let (epoch, rest) = body.get(2..)?.split_first_chunk::<8>()?;
    Some((Epoch(*epoch), rest))
}

fn mac(key: &Keyed, member: MemberId, body: &[u8]) -> Keyed {
    key.clone().chain_update(body).chain_update(member.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::keys::ring;

    const ANA: MemberId = MemberId::from_bytes([1; 12]);
    const BEN: MemberId = MemberId::from_bytes([2; 12]);
    const PLACE: StreamPosition = StreamPosition { epoch: Epoch([7; 8]), position: Position(42) };

    fn keys(secret: &str, former: &[&str]) -> Keys {
        Keys::new(&ring(secret, former))
    }

    /// Cursors are in the hands of apps, and nodes of two versions run beside each other.
    #[test]
    fn a_cursor_is_what_it_has_always_been() {
        let keys = keys("secret", &[]);
        assert_eq!(keys.encode(ANA, Kind::Sync, PLACE).as_str(), "AgAHBwcHBwcHBwAAAAAAAAAqndAX4vecEOsqog");
        assert_eq!(keys.secret_id().0, [18, 128, 254, 56, 4, 188, 112, 23]);
    }

    #[test]
    fn a_cursor_is_good_for_its_member_and_its_kind_only() {
        let keys = keys("secret", &[]);
        let cursor = keys.encode(ANA, Kind::Sync, PLACE);
        assert_eq!(keys.decode(ANA, Kind::Sync, &cursor), Some(PLACE));
        assert_eq!(keys.decode(BEN, Kind::Sync, &cursor), None);
        assert_eq!(keys.decode(ANA, Kind::Page, &cursor), None);
        let old = "AX8kQm9va0NsdWIAAAAAAAAAKg";
        for foreign in ["x", old, "not base64!", &format!("{cursor}AA"), &cursor.as_str()[..24]] {
            assert_eq!(keys.decode(ANA, Kind::Sync, &foreign.parse().unwrap()), None, "{foreign}");
        }
    }

    #[test]
    fn a_former_secret_is_good_for_as_long_as_it_is_kept() {
        let cursor = keys("old", &[]).encode(ANA, Kind::Sync, PLACE);
        assert_eq!(keys("new", &["older", "old"]).decode(ANA, Kind::Sync, &cursor), Some(PLACE));
        assert_eq!(keys("new", &[]).decode(ANA, Kind::Sync, &cursor), None);
    }

    #[test]
    fn secrets_are_told_apart() {
        assert_eq!(keys("one", &["former"]).secret_id(), keys("one", &[]).secret_id());
        assert_ne!(keys("one", &[]).secret_id(), keys("another", &[]).secret_id());
    }

    #[test]
    fn a_place_within_a_sync_is_read_as_it_was_written() {
        let (keys, at) = (keys("secret", &[]), |number| Some(Position(number)));
        let epoch = Epoch([7; 8]);
        for place in [
            Partial {
                epoch,
                since: None,
                changed: None,
                begun: Position(9),
                below: at(7),
                listed: 3,
                reset: true,
                more: true,
            },
            Partial {
                epoch,
                since: at(0),
                changed: at(0),
                begun: Position(0),
                below: at(0),
                listed: 0,
                reset: false,
                more: true,
            },
            Partial {
                epoch,
                since: at(2),
                changed: at(5),
                begun: Position(u64::MAX),
                below: None,
                listed: 255,
                reset: true,
                more: false,
            },
        ] {
            let cursor = keys.encode_within(ANA, &place);
            assert_eq!(keys.decode_within(ANA, &cursor), Some(place));
            assert_eq!((keys.decode_within(BEN, &cursor), keys.decode(ANA, Kind::Sync, &cursor)), (None, None));
        }
        assert_eq!(keys.decode_within(ANA, &keys.encode(ANA, Kind::Sync, PLACE)), None);
    }

    proptest! {
        #[test]
        fn no_byte_can_be_changed(place in 0..BODY + CODE, to in 1_u8..) {
            let keys = keys("secret", &[]);
            let mut bytes = URL_SAFE_NO_PAD.decode(keys.encode(ANA, Kind::Sync, PLACE).as_str()).unwrap();
            bytes[place] ^= to;
            let changed = URL_SAFE_NO_PAD.encode(bytes).parse().unwrap();
            prop_assert_eq!(keys.decode(ANA, Kind::Sync, &changed), None);
        }
    }
}
