//! Refresh tokens: 32 bytes that nobody can guess, opaque to the client. The store keeps their hashes only.
//!
//! The first token of a session is random. The one that follows a token is derived from it, with a key that belongs to the secret
//! that signs access tokens: so an exchange whose answer was lost has the same outcome again, on every node, and nobody has to keep
//! a token to be able to give it twice.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

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

/// The hash of a token. A plain one is enough: there is nothing to guess in 256 random bits.
#[must_use]
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Derives the token that follows a token.
pub struct Successors {
    /// Of the secret of now.
    key: Hmac<Sha256>,
    former: Vec<Hmac<Sha256>>,
}

impl Successors {
    /// Those that belong to the secrets of access tokens.
    #[must_use]
    pub fn new(secret: &SecretString, former: &[SecretString]) -> Self {
        Self { key: derive(secret), former: former.iter().map(derive).collect() }
    }

    /// What follows a token.
    #[must_use]
    pub fn of(&self, token: &str) -> RefreshToken {
        follow(&self.key, token)
    }

    /// What followed a token if it was exchanged under a former secret.
    #[must_use]
    pub fn former(&self, token: &str) -> Vec<RefreshToken> {
        self.former.iter().map(|key| follow(key, token)).collect()
    }
}

fn follow(key: &Hmac<Sha256>, token: &str) -> RefreshToken {
    RefreshToken::of(&key.clone().chain_update(token.as_bytes()).finalize().into_bytes())
}

fn derive(secret: &SecretString) -> Hmac<Sha256> {
    let key = keyed(secret.expose_secret().as_bytes()).chain_update(LABEL).finalize().into_bytes();
    keyed(&key)
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
    Hmac::new_from_slice(key).expect("a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn successors(secret: &str, former: &[&str]) -> Successors {
        let former: Vec<SecretString> = former.iter().map(|&secret| secret.into()).collect();
        Successors::new(&secret.into(), &former)
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
