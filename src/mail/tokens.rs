//! The tokens of links. Each is derived from an id and a key that the secret of access tokens gives: whoever reads the database finds the
//! ids of mails that wait and the hashes of tokens, and can use neither.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::Mac as _;
use sha2::{Digest as _, Sha256};

use crate::{
    auth::keys::{KeyRing, Keyed, Keys, first_bytes},
    store::mail::{AskedFrom, LinkHash, TokenId},
};

/// What the key is derived with, so that it is good for nothing else and says nothing about the secret.
const LABEL: &[u8] = b"members-book link 1";

/// The same for where links are asked for from.
const ASKED_LABEL: &[u8] = b"members-book asked 1";

/// Derives tokens.
pub struct TokenKeys {
    /// Those of former secrets are for mails that waited while the secret was replaced.
    keys: Keys<Keyed>,
    asked: Keys<Keyed>,
}

impl TokenKeys {
    /// Those that belong to the secrets of access tokens.
    #[must_use]
    pub fn new(ring: &KeyRing) -> Self {
        Self { keys: ring.derive(LABEL), asked: ring.derive(ASKED_LABEL) }
    }

    /// The token of a new link.
    #[must_use]
    pub fn token(&self, id: TokenId) -> String {
        token(&self.keys.present, id)
    }

    /// What a network is counted under: whoever reads the database does not learn from it which one it was.
    #[must_use]
    pub fn asked(&self, network: IpAddr) -> AskedFrom {
        let code = self.asked.present.clone().chain_update(network.to_string());
        AskedFrom(u64::from_be_bytes(first_bytes(code)))
    }

    /// The tokens that a link may have been made with, the likeliest first.
    pub fn tokens(&self, id: TokenId) -> impl Iterator<Item = String> + '_ {
        self.keys.all().map(move |key| token(key, id))
    }
}

fn token(key: &Keyed, id: TokenId) -> String {
    URL_SAFE_NO_PAD.encode(key.clone().chain_update(id.0).finalize().into_bytes())
}

/// A token of random bytes, as long as others, for a link that no mail brings.
#[must_use]
pub fn random(bytes: [u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// How a token is recognised. A plain hash is enough: there is nothing to guess in 256 bits that nobody knows the key of.
#[must_use]
pub fn hash(token: &str) -> LinkHash {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::ring;

    /// Links are in members' mailboxes.
    #[test]
    fn a_token_is_what_it_has_always_been() {
        let token = TokenKeys::new(&ring("an old secret", &[])).token(TokenId([1; 16]));
        assert_eq!(token, "8eQRtwzrr1DVp4wuh0Z8W0_NLLbq1EOtiSfQgc-JJ-w");
    }

    #[test]
    fn a_token_is_that_of_its_id_and_secret() {
        let before = TokenKeys::new(&ring("an old secret", &[]));
        let after = TokenKeys::new(&ring("a new secret", &["an old secret"]));
        let (one, other) = (TokenId([1; 16]), TokenId([2; 16]));
        assert_eq!(before.token(one), before.token(one));
        assert_eq!(before.token(one).len(), 43);
        assert_ne!(before.token(one), before.token(other));
        assert_ne!(before.token(one), after.token(one));
        assert!(after.tokens(one).any(|token| token == before.token(one)), "it waited while the secret was replaced");
    }
}
