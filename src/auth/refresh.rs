//! Refresh tokens: 32 random bytes, opaque to the client. The store keeps their hashes only.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::{ids::Ids, store::sessions::TokenHash};

/// A refresh token that was made.
pub struct RefreshToken {
    /// For the client.
    pub token: String,
    /// For the store.
    pub hash: TokenHash,
}

/// Makes a token.
#[must_use]
pub fn issue(ids: &Ids) -> RefreshToken {
    let token = URL_SAFE_NO_PAD.encode(ids.secret::<32>());
    let hash = hash(&token);
    RefreshToken { token, hash }
}

/// The hash of a token. A plain one is enough: there is nothing to guess in 256 random bits.
#[must_use]
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}
