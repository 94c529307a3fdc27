//! Encrypting what goes to a browser, so that its push service cannot read it: RFC 8291 with the content coding `aes128gcm` of RFC 8188.

use aes_gcm::{
    Aes128Gcm, KeyInit as _,
    aead::{Aead as _, Nonce},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use p256::{PublicKey, SecretKey, ecdh::diffie_hellman, elliptic_curve::sec1::ToSec1Point as _};
use protocol::rest::PushKeys;
use sha2::Sha256;

use crate::push::Unfit;

/// Bytes of what is sent, at most: what every push service takes (RFC 8030, section 7.2).
const RECORD: usize = 4_096;
/// Bytes of a public key.
const POINT: usize = 65;
/// Bytes before the encrypted text: salt, size of a record, length of the key, key.
const HEAD: usize = 16 + 4 + 1 + POINT;
/// Bytes behind it: the end of the text, and its tag.
const TAIL: usize = 1 + 16;
/// What a text is filled up to a multiple of, in bytes, so that its length says little of what was written.
const STEP: usize = 256;
/// Bytes of the text, at most.
pub(super) const TEXT_MAX: usize = RECORD - HEAD - TAIL;

/// Which of the keys of a browser is none, if one is not.
#[must_use]
pub(super) fn unfit(keys: &PushKeys) -> Option<Unfit> {
    if point(&keys.p256dh).is_none() {
        return Some(Unfit { field: "keys.p256dh", why: "must be an uncompressed point of P-256, in base64url" });
    }
    let is_secret = secret(&keys.auth).is_some();
    (!is_secret).then_some(Unfit { field: "keys.auth", why: "must be 16 bytes in base64url" })
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

fn point(text: &str) -> Option<PublicKey> {
    PublicKey::from_sec1_bytes(&bytes(text).filter(|bytes| bytes.len() == POINT)?).ok()
}

fn secret(text: &str) -> Option<[u8; 16]> {
    bytes(text)?.try_into().ok()
}

/// The keys of a browser.
pub(super) struct Receiver {
    public: PublicKey,
    secret: [u8; 16],
}

impl Receiver {
    /// Reads them; nothing if they are none: not of the right length, or not a point of the curve.
    #[must_use]
    pub(super) fn read(keys: &PushKeys) -> Option<Self> {
        Some(Self { public: point(&keys.p256dh)?, secret: secret(&keys.auth)? })
    }

    /// Encrypts a text with a key and a salt that are used for nothing else, filled up so that its length tells little. Nothing if the text
    /// has more than [`TEXT_MAX`] bytes.
    #[must_use]
    pub(super) fn seal(&self, text: &[u8], key: &SecretKey, salt: [u8; 16]) -> Option<Vec<u8>> {
        let filled = text.len().next_multiple_of(STEP).min(TEXT_MAX);
        self.seal_with(text, filled.checked_sub(text.len())?, key, salt)
    }

    /// The same with so many zeros behind the end of the text (RFC 8188, section 2).
    fn seal_with(&self, text: &[u8], zeros: usize, key: &SecretKey, salt: [u8; 16]) -> Option<Vec<u8>> {
        let (ours, theirs) = (key.public_key().to_sec1_point(false), self.public.to_sec1_point(false));
        let shared = diffie_hellman(key.to_nonzero_scalar(), self.public.as_affine());
        let mut secret = [0; 32];
        let info = [b"WebPush: info\0", theirs.as_bytes(), ours.as_bytes()].concat();
        Hkdf::<Sha256>::new(Some(&self.secret), shared.raw_secret_bytes()).expand(&info, &mut secret).ok()?;
        let derived = Hkdf::<Sha256>::new(Some(&salt), &secret);
        let (mut content_key, mut nonce) = ([0; 16], Nonce::<Aes128Gcm>::default());
        derived.expand(b"Content-Encoding: aes128gcm\0", &mut content_key).ok()?;
        derived.expand(b"Content-Encoding: nonce\0", &mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(HEAD + text.len() + zeros + TAIL);
        sealed.extend(salt);
        sealed.extend(u32::try_from(RECORD).ok()?.to_be_bytes());
        sealed.push(u8::try_from(POINT).ok()?);
        sealed.extend(ours.as_bytes());
        // 2: the last record.
        let mut padded = [text, &[2]].concat();
        padded.resize(text.len() + 1 + zeros, 0);
        sealed.extend(Aes128Gcm::new(&content_key.into()).encrypt(&nonce, padded.as_slice()).ok()?);
        Some(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn browser() -> Receiver {
        Receiver::read(&PushKeys {
            p256dh: "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4".into(),
            auth: "BTBZMqHH6r4Tts7J_aSIgg".into(),
        })
        .unwrap()
    }

    fn ours() -> (SecretKey, [u8; 16]) {
        let key = SecretKey::from_slice(&bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw").unwrap()).unwrap();
        (key, bytes("DGv6ra1nlYgDCS1FRnbzlw").unwrap().try_into().unwrap())
    }

    /// RFC 8291, appendix A.
    #[test]
    fn a_text_is_encrypted_as_in_the_standard() {
        let (key, salt) = ours();
        let sealed = browser().seal_with(b"When I grow up, I want to be a watermelon", 0, &key, salt).unwrap();
        let expected = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(URL_SAFE_NO_PAD.encode(sealed), expected);
    }

    #[test]
    fn what_is_sent_is_never_longer_than_every_push_service_takes() {
        let (key, salt) = ours();
        assert_eq!(browser().seal(&[b'x'; TEXT_MAX], &key, salt).unwrap().len(), RECORD);
        assert!(browser().seal(&[b'x'; TEXT_MAX + 1], &key, salt).is_none());
    }

    #[test]
    fn the_length_of_a_text_does_not_show() {
        let (key, salt) = ours();
        let length = |text: usize| browser().seal(&vec![b'x'; text], &key, salt).unwrap().len();
        assert_eq!([1, 100, 256, 257, 512].map(length), [359, 359, 359, 615, 615]);
    }

    #[test]
    fn what_are_no_keys_is_not_taken_for_some() {
        let keys = |p256dh: &str, auth: &str| Receiver::read(&PushKeys { p256dh: p256dh.into(), auth: auth.into() });
        let (point, secret) = (
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "BTBZMqHH6r4Tts7J_aSIgg",
        );
        assert!(keys(point, &format!("{secret}==")).is_some());
        assert!(keys(&point.replace("iw4", "iw8"), secret).is_none(), "not on the curve");
        assert!(
            keys(point, "BTBZMqHH6r4Tts7J_aSI").is_none() && keys("", secret).is_none() && keys(point, "!").is_none()
        );
    }
}
