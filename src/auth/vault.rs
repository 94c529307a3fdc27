//! Sealing: what is stored or handed out, and is for the servers of the club alone (XChaCha20-Poly1305). Its key belongs to the secret that
//! signs access tokens: every node opens what another one has sealed, and whoever has the database alone opens nothing.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use protocol::{ErrorCode, MemberId};

use super::keys::{KeyRing, Keys};
use crate::ids::Ids;

/// What the key is derived with, so that it is good for nothing else and says nothing about the secret.
const LABEL: &[u8] = b"members-book second factor 1";
/// Bytes of the nonce before what is sealed. So many may be drawn at random.
const NONCE: usize = 24;

/// What something sealed is for. Sealed for one, it is opened for no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The secret of a second factor, in the store.
    Secret,
    /// The secret of one that is not turned on yet, with its client.
    Enrolment,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Secret => b"secret",
            Self::Enrolment => b"enrolment",
        }
    }

    /// What is bound to what is sealed: what for, and whose.
    fn bound(self, member: MemberId) -> Vec<u8> {
        [self.label(), b"/", member.as_bytes()].concat()
    }
}

/// What was opened.
#[derive(PartialEq, Eq)]
pub struct Opened {
    /// What was sealed.
    pub plain: Vec<u8>,
    /// Whether that was with the key of a former secret.
    pub is_former: bool,
}

/// Seals and opens.
pub struct Vault {
    keys: Keys<XChaCha20Poly1305>,
}

impl Vault {
    /// With the keys of the club.
    #[must_use]
    pub fn new(ring: &KeyRing) -> Self {
        Self { keys: ring.bytes(LABEL).map(|key| XChaCha20Poly1305::new(&(*key).into())) }
    }

    /// Seals something of a member.
    ///
    /// # Errors
    /// `internal`, of what is longer than any message; there is none.
    pub fn seal(&self, ids: &Ids, purpose: Purpose, member: MemberId, plain: &[u8]) -> Result<Vec<u8>, ErrorCode> {
        let nonce: [u8; NONCE] = ids.secret();
        let aad = purpose.bound(member);
        let sealed = self.keys.present.encrypt(&nonce.into(), Payload { msg: plain, aad: &aad });
        Ok([&nonce[..], &sealed.map_err(|_| ErrorCode::Internal)?].concat())
    }

    /// What was sealed for this purpose and this member; nothing if that was not done with a key that is known.
    #[must_use]
    pub fn open(&self, purpose: Purpose, member: MemberId, sealed: &[u8]) -> Option<Opened> {
        let (nonce, msg) = sealed.split_first_chunk::<NONCE>()?;
        let aad = purpose.bound(member);
        self.keys.all().enumerate().find_map(|(number, key)| {
            let plain = key.decrypt(&(*nonce).into(), Payload { msg, aad: &aad }).ok()?;
            Some(Opened { plain, is_former: number > 0 })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{auth::keys::ring, clock::SystemClock, ids::SystemEntropy};

    const ANA: MemberId = MemberId::from_bytes([1; 12]);

    fn vault(secret: &str, former: &[&str]) -> Vault {
        Vault::new(&ring(secret, former))
    }

    #[test]
    fn what_is_sealed_is_opened_for_the_same_member_and_purpose_only() {
        let ids = Ids::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        let one = vault("one", &[]);
        let sealed = one.seal(&ids, Purpose::Secret, ANA, b"hidden").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"hidden"));
        assert_ne!(sealed, one.seal(&ids, Purpose::Secret, ANA, b"hidden").unwrap(), "never the same twice");
        let open = |vault: &Vault, purpose, member| {
            vault.open(purpose, member, &sealed).map(|opened| (opened.plain, opened.is_former))
        };
        assert_eq!(open(&one, Purpose::Secret, ANA), Some((b"hidden".to_vec(), false)));
        assert_eq!(open(&one, Purpose::Enrolment, ANA), None);
        assert_eq!(open(&one, Purpose::Secret, MemberId::from_bytes([2; 12])), None);
        assert_eq!(open(&vault("two", &["zero", "one"]), Purpose::Secret, ANA), Some((b"hidden".to_vec(), true)));
        assert_eq!(open(&vault("two", &[]), Purpose::Secret, ANA), None);
        for at in [0, NONCE, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(one.open(Purpose::Secret, ANA, &changed).is_none(), "{at}");
        }
        assert!(one.open(Purpose::Secret, ANA, &sealed[..NONCE - 1]).is_none());
    }
}
