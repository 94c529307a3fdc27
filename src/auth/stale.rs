//! Which access tokens are known to be good for nothing while they are still in date.
//!
//! A token's signature says whose it is, and that is what limits are charged by before the store is asked. Whoever has a token of a
//! session that was revoked, or one that was replaced, must not spend the allowances of its member with it.

use protocol::SessionId;
use quick_cache::sync::Cache;

use super::access::Verified;

/// Sessions that are remembered, about 60 bytes each; the oldest unused ones are forgotten, and found out again.
const REMEMBERED: usize = 50_000;

/// What is known of an access token whose signature is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing: its session was not looked at yet, or long ago.
    Nothing,
    /// It was good when its session was seen last.
    Good,
    /// Its session is over, or it was replaced.
    Stale,
}

/// What was seen of sessions. Says only whom a request is charged to, never whether it is answered.
pub struct Stale(Cache<SessionId, Option<u64>>);

impl Default for Stale {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Stale {
    /// The session was seen to be over.
    pub fn saw_end(&self, session: SessionId) {
        self.0.insert(session, None);
    }

    /// The session was seen to be good, for tokens of this generation and later ones.
    pub fn saw_good(&self, session: SessionId, from: u64) {
        // Most see what was seen before: it is not written again.
        if self.0.get(&session) != Some(Some(from)) {
            self.0.insert(session, Some(from));
        }
    }

    /// What is known of a token.
    #[must_use]
    pub fn known(&self, token: &Verified) -> Known {
        match self.0.get(&token.session) {
            None => Known::Nothing,
            Some(Some(from)) if token.generation.unwrap_or(0) >= from => Known::Good,
            Some(_) => Known::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{MemberId, Timestamp};

    use super::*;

    #[test]
    fn what_was_seen_last_counts() {
        let token = |session: u8, generation| Verified {
            member: MemberId::from_bytes([9; 12]),
            session: SessionId::from_bytes([session; 12]),
            generation,
            expires_at: Timestamp::from_millis(0),
        };
        let (stale, session) = (Stale::default(), SessionId::from_bytes([1; 12]));
        assert_eq!(stale.known(&token(1, Some(0))), Known::Nothing);
        stale.saw_end(session);
        assert_eq!(stale.known(&token(1, Some(7))), Known::Stale);
        assert_eq!(stale.known(&token(2, Some(7))), Known::Nothing);
        stale.saw_good(session, 0);
        assert_eq!(stale.known(&token(1, None)), Known::Good, "one of before generations");
        stale.saw_good(session, 3);
        let known = [None, Some(2), Some(3), Some(4)].map(|generation| stale.known(&token(1, generation)));
        assert_eq!(known, [Known::Stale, Known::Stale, Known::Good, Known::Good]);
    }
}
