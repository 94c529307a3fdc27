//! Refresh tokens: 32 bytes that nobody can guess, opaque to the client. The store keeps their hashes only.
//!
//! The first token of a session is random. The one that follows a token is derived from it, with a key that belongs to the secret
//! that signs access tokens: so an exchange whose answer was lost has the same outcome again, on every node, and nobody has to keep
//! a token to be able to give it twice.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::Mac as _;
use sha2::{Digest as _, Sha256};

use super::keys::{KeyRing, Keyed, Keys};
use crate::{ids::Ids, store::sessions::TokenHash};

/// What the key of successors is derived with, so that it is good for nothing else.
const LABEL: &[u8] = b"members-book refresh token 1";

/// A refresh token that was made.
pub struct RefreshToken {
    /// For the client.
    pub token: String,
    /// For the store.
    pub hash: TokenHash,
}

impl RefreshToken {
    fn of(bytes: &[u8]) -> Self {
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let hash = hash(&token);
        Self { token, hash }
    }
}

/// Makes the first token of a session.
#[must_use]
pub fn issue(ids: &Ids) -> RefreshToken {
    RefreshToken::of(&ids.secret::<32>())
}

/// The hash of a token, or of the attempt to exchange one. A plain one is enough: there is nothing to guess in so many random bits.
#[must_use]
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Derives the token that follows a token.
pub struct Successors {
    keys: Keys<Keyed>,
}

impl Successors {
    /// Those that belong to the secrets of access tokens.
    #[must_use]
    pub fn new(ring: &KeyRing) -> Self {
        Self { keys: ring.derive(LABEL) }
    }

    /// What follows a token.
    #[must_use]
    pub fn of(&self, token: &str) -> RefreshToken {
        follow(&self.keys.present, token)
    }

    /// What followed a token if it was exchanged under a former secret.
    #[must_use]
    pub fn former(&self, token: &str) -> Vec<RefreshToken> {
        self.keys.former.iter().map(|key| follow(key, token)).collect()
    }
}

fn follow(key: &Keyed, token: &str) -> RefreshToken {
    RefreshToken::of(&key.clone().chain_update(token.as_bytes()).finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::ring;

    fn successors(secret: &str, former: &[&str]) -> Successors {
        Successors::new(&ring(secret, former))
    }

    /// Tokens are in the hands of apps.
    #[test]
    fn a_token_is_followed_by_the_one_that_has_always_followed_it() {
        assert_eq!(successors("one", &[]).of("token").token, "JKQe7BQm6VV2QAtlGg3OOoQiISDweNMZDmk_GUZ1sB0");
    }

    #[test]
    fn a_token_is_followed_by_the_same_one_wherever_it_is_exchanged() {
        let next = successors("one", &[]).of("token");
        assert_eq!((next.token.len(), next.hash), (43, hash(&next.token)));
        assert_eq!(next.token, successors("one", &["two"]).of("token").token);
        assert_ne!(next.token, successors("one", &[]).of("tokem").token);
        assert_ne!(next.token, successors("two", &[]).of("token").token);
        assert_ne!(next.token, successors("one", &[]).of(&next.token).token);
    }

    #[test]
    fn what_a_former_secret_made_is_recognised() {
        let before = successors("one", &[]).of("token").token;
        let former = successors("two", &["zero", "one"]).former("token");
        assert!(former.iter().any(|token| token.token == before));
    }
}
