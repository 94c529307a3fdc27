//! The tokens of links. Each is derived from an id and a key that the secret of access tokens gives: whoever reads the database finds the
//! ids of mails that wait and the hashes of tokens, and can use neither.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::ErrorCode;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::{
    failure::Failure,
    store::mail::{LinkHash, TokenId},
};

/// What the key is derived with, so that it is good for nothing else and says nothing about the secret.
const LABEL: &[u8] = b"members-book link 1";

/// Derives tokens.
pub struct TokenKeys {
    /// That of the present secret first; those of former ones are for mails that waited while it was replaced.
    keys: Vec<Hmac<Sha256>>,
}

impl TokenKeys {
    /// Of a club whose nodes sign with `secret`, and have signed with `former` ones.
    ///
    /// # Errors
    /// `internal`, of a secret that is no key; there is none.
    pub fn new(secret: &SecretString, former: &[SecretString]) -> Result<Self, Failure> {
        let key = |bytes: &[u8]| Hmac::<Sha256>::new_from_slice(bytes).map_err(|_| Failure::of(ErrorCode::Internal));
        let derive = |secret: &SecretString| {
            let derived = key(secret.expose_secret().as_bytes())?.chain_update(LABEL).finalize().into_bytes();
            key(&derived)
        };
        let keys = std::iter::once(secret).chain(former).map(derive);
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// The token of a new link.
    #[must_use]
    pub fn token(&self, id: TokenId) -> String {
        self.tokens(id).next().unwrap_or_default()
    }

    /// The tokens that a link may have been made with, the likeliest first.
    pub fn tokens(&self, id: TokenId) -> impl Iterator<Item = String> + '_ {
        self.keys.iter().map(move |key| URL_SAFE_NO_PAD.encode(key.clone().chain_update(id.0).finalize().into_bytes()))
    }
}

/// How a token is recognised. A plain hash is enough: there is nothing to guess in 256 bits that nobody knows the key of.
#[must_use]
pub fn hash(token: &str) -> LinkHash {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_that_of_its_id_and_secret() {
        let (old, new): (SecretString, SecretString) = ("an old secret".into(), "a new secret".into());
        let before = TokenKeys::new(&old, &[]).unwrap();
        let after = TokenKeys::new(&new, &[old]).unwrap();
        let (one, other) = (TokenId([1; 16]), TokenId([2; 16]));
        assert_eq!(before.token(one), before.token(one));
        assert_eq!(before.token(one).len(), 43);
        assert_ne!(before.token(one), before.token(other));
        assert_ne!(before.token(one), after.token(one));
        assert!(after.tokens(one).any(|token| token == before.token(one)), "it waited while the secret was replaced");
    }
}
