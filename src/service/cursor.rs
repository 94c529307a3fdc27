//! Cursors: a place of the store as opaque text that only its member can use.
//!
//! A cursor has a kind, an epoch, a position, and a message authentication code (HMAC-SHA256, its first 10 bytes) over
//! these and the member. So nobody can make one up, which would make a sync as large as they like, or use another
//! member's. Its key is derived from the secret that signs access tokens, so that every node knows it; cursors under a
//! former secret are read for as long as that is kept. What is not good in any way is as good as no cursor.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use protocol::{Cursor, MemberId};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use crate::store::{
    conversations::Position,
    epochs::{Epoch, Place},
};

type Hasher = Hmac<Sha256>;

const VERSION: u8 = 2;
/// What the key of cursors is derived with, so that it is good for nothing else.
const LABEL: &[u8] = b"members-book cursor 2";
/// Bytes before the code: version, kind, epoch, position.
const BODY: usize = 18;
/// Bytes of the code: 2^80 guesses, each of which costs a rate-limited hello.
const CODE: usize = 10;

/// What a cursor is for. One of a kind is none of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A device has everything up to there.
    Sync = 0,
    /// The next page of the list of conversations.
    Page = 1,
}

/// The keys of cursors.
pub struct Keys {
    /// Of the secret of now.
    signing: Hasher,
    former: Vec<Hasher>,
}

impl Keys {
    /// The keys that belong to the secrets of access tokens.
    #[must_use]
    pub fn new(secret: &SecretString, former: &[SecretString]) -> Self {
        Self { signing: derive(secret), former: former.iter().map(derive).collect() }
    }

    /// Writes a cursor for a member.
    #[must_use]
    pub fn encode(&self, member: MemberId, kind: Kind, place: Place) -> Cursor {
        let mut bytes = [0; BODY + CODE];
        let (body, code) = bytes.split_at_mut(BODY);
        body.copy_from_slice(&self::body(kind, place));
        let computed = finish(&self.signing, member, body);
        code.copy_from_slice(&computed);
        #[expect(clippy::expect_used, reason = "28 bytes are 38 characters, and a cursor may have 1 to 128")]
        URL_SAFE_NO_PAD.encode(bytes).parse().expect("a cursor of 38 characters")
    }

    /// Reads a member's cursor; nothing if it was not made for them, for this kind, by a server with one of these keys.
    /// Whether its place is still good is the store's to say.
    #[must_use]
    pub fn decode(&self, member: MemberId, kind: Kind, cursor: &Cursor) -> Option<Place> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor.as_str()).ok()?;
        let (body, code) = bytes.split_first_chunk::<BODY>()?;
        if code.len() != CODE {
            return None;
        }
        let [VERSION, its, rest @ ..] = body else { return None };
        let (epoch, position) = rest.split_first_chunk::<8>()?;
        let place = Place { epoch: Epoch(*epoch), position: Position(u64::from_be_bytes(position.try_into().ok()?)) };
        // `verify_truncated_left` takes as long whatever differs.
        let is_ours = |key: &Hasher| mac(key, member, body).verify_truncated_left(code).is_ok();
        let ours = *its == kind as u8 && std::iter::once(&self.signing).chain(&self.former).any(is_ours);
        ours.then_some(place)
    }
}

fn derive(secret: &SecretString) -> Hasher {
    let key = new(secret.expose_secret().as_bytes()).chain_update(LABEL).finalize().into_bytes();
    new(&key)
}

fn new(key: &[u8]) -> Hasher {
    #[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
    Hasher::new_from_slice(key).expect("a key of any length")
}

fn body(kind: Kind, Place { epoch, position }: Place) -> [u8; BODY] {
    let mut bytes = [0; BODY];
    let (head, rest) = bytes.split_at_mut(2);
    head.copy_from_slice(&[VERSION, kind as u8]);
    let (its_epoch, its_position) = rest.split_at_mut(8);
    its_epoch.copy_from_slice(&epoch.0);
    its_position.copy_from_slice(&position.0.to_be_bytes());
    bytes
}

fn mac(key: &Hasher, member: MemberId, body: &[u8]) -> Hasher {
    key.clone().chain_update(body).chain_update(member.as_bytes())
}

fn finish(key: &Hasher, member: MemberId, body: &[u8]) -> [u8; CODE] {
    let full: [u8; 32] = mac(key, member, body).finalize().into_bytes().into();
    let mut code = [0; CODE];
    code.iter_mut().zip(full).for_each(|(byte, computed)| *byte = computed);
    code
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANA: MemberId = MemberId::from_bytes([1; 12]);
    const BEN: MemberId = MemberId::from_bytes([2; 12]);
    const PLACE: Place = Place { epoch: Epoch([7; 8]), position: Position(42) };

    fn keys(secret: &str, former: &[&str]) -> Keys {
        let former: Vec<SecretString> = former.iter().map(|secret| (*secret).into()).collect();
        Keys::new(&secret.into(), &former)
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
