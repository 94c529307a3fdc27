//! The keys that the secret of access tokens gives: every node has the same ones, and nothing has to be stored.
//!
//! Each is for one purpose, which its label names: what is made with one is good for nothing else, and says nothing about the secret. What
//! a former secret made is recognised for as long as that is kept (`JWT_SECRET_PREVIOUS`).

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// A key, ready to make message authentication codes with (HMAC-SHA256, RFC 2104): clone it, and give it what the code is of.
pub type Keyed = Hmac<Sha256>;

/// The secret of now, and those of before.
#[derive(Debug, Clone)]
pub struct KeyRing {
    secrets: Keys<SecretString>,
}

/// One for the secret of now, and one for each of before.
#[derive(Debug, Clone)]
pub struct Keys<K> {
    /// What new things are made with.
    pub present: K,
    /// What things of before were made with, in the order of `JWT_SECRET_PREVIOUS`.
    pub former: Vec<K>,
}

impl<K> Keys<K> {
    /// All of them, that of now first: the likeliest one of whatever is presented.
    pub fn all(&self) -> impl Iterator<Item = &K> {
        std::iter::once(&self.present).chain(&self.former)
    }

    /// The same with something made of each.
    pub fn map<T>(&self, each: impl Fn(&K) -> T) -> Keys<T> {
        Keys { present: each(&self.present), former: self.former.iter().map(each).collect() }
    }
}

impl KeyRing {
    /// Of a club whose nodes sign with `present`, and have signed with `former` ones.
    #[must_use]
    pub const fn new(present: SecretString, former: Vec<SecretString>) -> Self {
        Self { secrets: Keys { present, former } }
    }

    /// The secrets themselves. Access tokens are signed with them, as other programs that read such tokens expect.
    #[must_use]
    pub const fn secrets(&self) -> &Keys<SecretString> {
        &self.secrets
    }

    /// 32 bytes for one purpose: the code of its label.
    #[must_use]
    pub fn bytes(&self, label: &[u8]) -> Keys<[u8; 32]> {
        self.labelled(label).map(|key| key.clone().finalize().into_bytes().into())
    }

    /// Keys of one purpose for codes: those [`bytes`](Self::bytes). What is new uses these.
    #[must_use]
    pub fn derive(&self, label: &[u8]) -> Keys<Keyed> {
        self.bytes(label).map(|bytes| keyed(bytes))
    }

    /// The secrets themselves as keys for codes which all begin with the label, as device proofs and setup codes were made from the first.
    #[must_use]
    pub fn labelled(&self, label: &[u8]) -> Keys<Keyed> {
        self.secrets.map(|secret| keyed(secret.expose_secret().as_bytes()).chain_update(label))
    }
}

/// The first bytes of a code, 32 at most.
#[must_use]
pub fn first_bytes<const BYTES: usize>(code: Keyed) -> [u8; BYTES] {
    const { assert!(BYTES <= 32, "a code has 32 bytes") };
    let whole: [u8; 32] = code.finalize().into_bytes().into();
    let mut bytes = [0; BYTES];
    bytes.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    bytes
}

fn keyed(key: &[u8]) -> Keyed {
    #[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
    Keyed::new_from_slice(key).expect("a key of any length")
}

/// A ring of these secrets.
#[cfg(test)]
pub fn ring(present: &str, former: &[&str]) -> KeyRing {
    KeyRing::new(present.into(), former.iter().map(|&secret| secret.into()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, section 4.3.
    #[test]
    fn a_code_is_that_of_the_standard() {
        let code = ring("Jefe", &[]).bytes(b"what do ya want for nothing?").present;
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn a_key_is_that_of_its_secret_and_its_label() {
        let ring_of_two = ring("new", &["older", "old"]);
        let of = |ring: &KeyRing, label: &[u8]| ring.bytes(label).present;
        assert_ne!(of(&ring_of_two, b"one 1"), of(&ring_of_two, b"two 1"));
        assert_ne!(of(&ring_of_two, b"one 1"), of(&ring("old", &[]), b"one 1"));
        let all: Vec<[u8; 32]> = ring_of_two.bytes(b"one 1").all().copied().collect();
        assert_eq!(all, ["new", "older", "old"].map(|secret| of(&ring(secret, &[]), b"one 1")));
    }

    #[test]
    fn a_derived_key_is_none_of_the_secret() {
        let ring = ring("secret", &[]);
        let code = |key: Keyed| first_bytes::<32>(key.chain_update(b"text"));
        let (derived, labelled) = (code(ring.derive(b"one 1").present), code(ring.labelled(b"one 1").present));
        assert_ne!(derived, labelled);
        assert_eq!(labelled, ring.bytes(b"one 1text").present);
        assert_eq!(derived[..4], first_bytes::<4>(ring.derive(b"one 1").present.chain_update(b"text")));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", ring("hunter2", &["hunter1"])).contains("hunter"));
    }
}
