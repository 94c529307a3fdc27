//! Access tokens: JSON Web Tokens (RFC 7519), HMAC-SHA256, short-lived.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use protocol::{ErrorCode, MemberId, SessionId, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{keys::Keys, signing};
use crate::{clock::Clock, ids::Ids};

/// How access tokens are made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The secret that signs, and former ones, still accepted while their tokens run out.
    pub secrets: Keys<SecretString>,
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// How long a token lives.
    pub lifetime: Duration,
}

/// The last second that can be written as a time, whatever the time zone: within the year 9999.
const EXPIRY_MAX: i64 = 253_402_207_200;

/// What a token says.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: MemberId,
    sid: SessionId,
    iat: i64,
    exp: i64,
    jti: String,
    /// Those of before had none.
    #[serde(rename = "gen", default, skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
}

/// A token that was made.
pub struct AccessToken {
    /// For the client.
    pub token: String,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// A token that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Who it speaks for.
    pub member: MemberId,
    /// The session that it belongs to.
    pub session: SessionId,
    /// How often the refresh token of the session had been replaced when it was made; nothing in one of before.
    pub generation: Option<u64>,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// What an access token is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Who it speaks for.
    pub member: MemberId,
    /// The session that it belongs to.
    pub session: SessionId,
    /// How often the refresh token of that was replaced.
    pub generation: u64,
    /// When the session ends: no token is good for longer.
    pub until: Timestamp,
}

/// Makes and verifies access tokens.
pub struct AccessTokens {
    signing: EncodingKey,
    /// The signing secret's key first.
    verifying: Vec<DecodingKey>,
    validation: Validation,
    issuer: String,
    audience: String,
    lifetime: Duration,
    clock: Arc<dyn Clock>,
    ids: Arc<Ids>,
}

impl AccessTokens {
    /// Tokens signed with these secrets.
    #[must_use]
    pub fn new(options: &Options, clock: Arc<dyn Clock>, ids: Arc<Ids>) -> Self {
        signing::install();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[&options.issuer]);
        validation.set_audience(&[&options.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Compared with the injected clock below, and without leeway: one clock makes and checks them.
        validation.validate_exp = false;
        Self {
            signing: EncodingKey::from_secret(options.secrets.present.expose_secret().as_bytes()),
            verifying: options.secrets.all().map(verifying_key).collect(),
            validation,
            issuer: options.issuer.clone(),
            audience: options.audience.clone(),
            lifetime: options.lifetime,
            clock,
            ids,
        }
    }

    /// Makes a token.
    ///
    /// # Errors
    /// `internal`, if the token cannot be signed; with HMAC that does not happen.
    pub fn issue(&self, grant: Grant) -> Result<AccessToken, ErrorCode> {
        let Grant { member, session, generation, until } = grant;
        let now = self.clock.now();
        // Whole seconds, as in the claim, so that client and server mean the same moment.
        let expires_at = Timestamp::from_millis(now.after(self.lifetime).min(until).as_secs() * 1000);
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: member,
            sid: session,
            iat: now.as_secs(),
            exp: expires_at.as_secs(),
            jti: hex(&self.ids.secret::<16>()),
            generation: Some(generation),
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(|_| ErrorCode::Internal)?;
        Ok(AccessToken { token, expires_at })
    }

    /// Verifies a token: signature, issuer, audience, expiry.
    ///
    /// # Errors
    /// `token_missing` for an empty one, `token_invalid`, or `token_expired`.
    pub fn verify(&self, token: &str) -> Result<Verified, ErrorCode> {
        if token.is_empty() {
            return Err(ErrorCode::TokenMissing);
        }
        let claims = self
            .verifying
            .iter()
            .find_map(|key| jsonwebtoken::decode::<Claims>(token, key, &self.validation).ok())
            .ok_or(ErrorCode::TokenInvalid)?
            .claims;
        if !(0..=EXPIRY_MAX).contains(&claims.exp) {
            return Err(ErrorCode::TokenInvalid);
        }
        let expires_at = Timestamp::from_millis(claims.exp.saturating_mul(1000));
        if expires_at <= self.clock.now() {
            return Err(ErrorCode::TokenExpired);
        }
        Ok(Verified { member: claims.sub, session: claims.sid, generation: claims.generation, expires_at })
    }
}

fn verifying_key(secret: &SecretString) -> DecodingKey {
    DecodingKey::from_secret(secret.expose_secret().as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::keys::ring, clock::ManualClock, ids::SystemEntropy};

    fn tokens(secret: &str, previous: &[&str], clock: &ManualClock, audience: &str) -> AccessTokens {
        let options = Options {
            secrets: ring(secret, previous).secrets().clone(),
            issuer: "members-book".to_owned(),
            audience: audience.to_owned(),
            lifetime: Duration::from_secs(900),
        };
        let clock: Arc<dyn Clock> = Arc::new(clock.clone());
        AccessTokens::new(&options, Arc::clone(&clock), Arc::new(Ids::new(clock, Arc::new(SystemEntropy))))
    }

    fn clock() -> ManualClock {
        ManualClock::at(Timestamp::from_millis(1_795_370_633_120))
    }

    const MEMBER: MemberId = MemberId::from_bytes([1; 12]);
    const SESSION: SessionId = SessionId::from_bytes([2; 12]);
    const GRANT: Grant =
        Grant { member: MEMBER, session: SESSION, generation: 7, until: Timestamp::from_millis(1 << 42) };

    #[test]
    fn a_token_says_who_until_it_expires() {
        let clock = clock();
        let tokens = tokens("secret", &[], &clock, "app");
        let issued = tokens.issue(GRANT).unwrap();
        let verified = tokens.verify(&issued.token).unwrap();
        assert_eq!(
            verified,
            Verified { member: MEMBER, session: SESSION, generation: Some(7), expires_at: issued.expires_at }
        );
        clock.advance(Duration::from_secs(899));
        assert!(tokens.verify(&issued.token).is_ok());
        clock.advance(Duration::from_secs(1));
        assert_eq!(tokens.verify(&issued.token), Err(ErrorCode::TokenExpired));
    }

    #[test]
    fn a_token_is_good_for_no_longer_than_its_session() {
        let clock = clock();
        let until = clock.now().after(Duration::from_secs(60));
        let issued = tokens("secret", &[], &clock, "app").issue(Grant { until, ..GRANT }).unwrap();
        assert_eq!(issued.expires_at.as_secs(), until.as_secs());
    }

    /// Found from outside: the welcome with such a time could not be written, and the connection's task panicked.
    #[test]
    fn a_token_that_expires_when_no_time_can_be_written_is_none() {
        let clock = clock();
        let tokens = tokens("secret", &[], &clock, "app");
        for (exp, expected) in [(EXPIRY_MAX, true), (EXPIRY_MAX + 1, false), (1 << 62, false), (-1, false)] {
            let claims = Claims {
                iss: "members-book".to_owned(),
                aud: "app".to_owned(),
                sub: MEMBER,
                sid: SESSION,
                iat: 0,
                exp,
                jti: String::new(),
                generation: None,
            };
            let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &tokens.signing).unwrap();
            match tokens.verify(&token) {
                Ok(verified) => {
                    assert!(expected && verified.generation.is_none() && !verified.expires_at.to_string().is_empty());
                }
                Err(code) => assert_eq!((code, expected), (ErrorCode::TokenInvalid, false), "{exp}"),
            }
        }
    }

    #[test]
    fn a_former_secret_is_accepted_and_a_foreign_one_is_not() {
        let clock = clock();
        let old = tokens("old", &[], &clock, "app").issue(GRANT).unwrap().token;
        assert!(tokens("new", &["old"], &clock, "app").verify(&old).is_ok());
        assert_eq!(tokens("new", &[], &clock, "app").verify(&old), Err(ErrorCode::TokenInvalid));
    }

    #[test]
    fn a_token_for_somebody_else_or_without_a_signature_is_refused() {
        let clock = clock();
        let tokens_for_app = tokens("secret", &[], &clock, "app");
        let other = tokens("secret", &[], &clock, "another-app").issue(GRANT).unwrap().token;
        assert_eq!(tokens_for_app.verify(&other), Err(ErrorCode::TokenInvalid));
        // {"alg":"none","typ":"JWT"} with the claims of a good token.
        let good = tokens_for_app.issue(GRANT).unwrap().token;
        let claims = good.split('.').nth(1).unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
        for token in [unsigned.as_str(), "x", "a.b.c", &good[..good.len() - 2]] {
            assert_eq!(tokens_for_app.verify(token), Err(ErrorCode::TokenInvalid), "{token}");
        }
        assert_eq!(tokens_for_app.verify(""), Err(ErrorCode::TokenMissing));
    }
}
