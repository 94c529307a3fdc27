//! Who the server is to push services: RFC 8292.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::{
    SecretKey,
    ecdsa::{Signature, SigningKey, signature::Signer as _},
    elliptic_curve::sec1::ToSec1Point as _,
};
use protocol::Timestamp;
use quick_cache::sync::Cache;
use serde::Serialize;

use crate::auth::KeyRing;

/// What the key is derived for.
const LABEL: &[u8] = b"members-book web push 1";
/// How long a token is good: a day at most by the standard.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// How long before its end another one is made.
const MARGIN: Duration = Duration::from_secs(60 * 60);
/// Push services whose tokens are kept: there are a handful in the world.
const SERVICES: usize = 64;

/// The key with which the server signs, and the tokens that it has signed.
pub struct Vapid {
    key: SigningKey,
    /// The public key, as browsers want it.
    public: String,
    contact: String,
    tokens: Cache<String, (Timestamp, String)>,
}

/// What a token says.
#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    exp: i64,
    sub: &'a str,
}

impl Vapid {
    /// The key that the secret of the club gives: the same on all nodes. `contact` is a `mailto:` or `https:` URL.
    ///
    /// # Errors
    /// Never, but for one secret of 2^32.
    pub fn new(ring: &KeyRing, contact: String) -> Result<Self, String> {
        let secret = SecretKey::from_slice(&ring.bytes(LABEL).present)
            .map_err(|_| "JWT_SECRET gives no key of the curve P-256")?;
        let public = URL_SAFE_NO_PAD.encode(secret.public_key().to_sec1_point(false).as_bytes());
        Ok(Self { key: secret.into(), public, contact, tokens: Cache::new(SERVICES) })
    }

    /// The public key, in base64url: what a browser is given as `applicationServerKey`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// What is said in `Authorization` to the push service with an origin, such as `https://push.example.com`.
    #[must_use]
    pub fn authorization(&self, origin: &str, now: Timestamp) -> String {
        if let Some((until, token)) = self.tokens.get(origin)
            && now.after(MARGIN) < until
        {
            return token;
        }
        let until = now.after(LIFETIME);
        let claims = Claims { aud: origin, exp: until.as_millis() / 1_000, sub: &self.contact };
        let claims = serde_json::to_vec(&claims).unwrap_or_default();
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(br#"{"typ":"JWT","alg":"ES256"}"#), URL_SAFE_NO_PAD.encode(claims));
        let signature: Signature = self.key.sign(signed.as_bytes());
        let token = format!("vapid t={signed}.{}, k={}", URL_SAFE_NO_PAD.encode(signature.to_bytes()), self.public);
        self.tokens.insert(origin.to_owned(), (until, token.clone()));
        token
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::{VerifyingKey, signature::Verifier as _};

    use super::*;
    use crate::auth::keys::ring;

    #[test]
    fn a_token_is_signed_with_the_key_that_browsers_are_given_and_made_anew_before_its_end() {
        let vapid = Vapid::new(&ring("a secret of the club", &[]), "mailto:ops@example.com".into()).unwrap();
        let start = Timestamp::from_millis(1_000_000);
        let first = vapid.authorization("https://push.example.com", start);
        let (token, key) = first.strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
        assert_eq!(key, vapid.public());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let key = VerifyingKey::from_sec1_bytes(&URL_SAFE_NO_PAD.decode(key).unwrap()).unwrap();
        let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        key.verify(signed.as_bytes(), &signature).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(signed.rsplit_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(
            claims,
            serde_json::json!({ "aud": "https://push.example.com", "exp": 44_200, "sub": "mailto:ops@example.com" })
        );
        assert_eq!(vapid.authorization("https://push.example.com", start.after(LIFETIME - 2 * MARGIN)), first);
        assert_ne!(vapid.authorization("https://push.example.com", start.after(LIFETIME - MARGIN)), first);
        assert_ne!(vapid.authorization("https://other.example.com", start), first);
        let again = Vapid::new(&ring("a secret of the club", &[]), "mailto:ops@example.com".into()).unwrap();
        assert_eq!(again.public(), vapid.public(), "every node has the same");
    }
}
