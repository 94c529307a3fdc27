//! Sessions that are known to be over while their access tokens are still in date.
//!
//! A token's signature says whose it is, and that is what limits are charged by before the store is asked. Whoever has a
//! token of a session that was revoked must not spend the allowances of its member with it.

use protocol::SessionId;
use quick_cache::sync::Cache;

/// Sessions that are remembered, about 50 bytes each; the oldest unused ones are forgotten, and found out again.
const REMEMBERED: usize = 10_000;

/// Sessions that are over, as far as it was seen. Says only whom a request is charged to, never whether it is answered.
pub struct Stale(Cache<SessionId, ()>);

impl Default for Stale {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Stale {
    /// The session was seen to be over.
    pub fn remember(&self, session: SessionId) {
        self.0.insert(session, ());
    }

    /// The session was seen to be good.
    pub fn forget(&self, session: SessionId) {
        if self.has(session) {
            self.0.remove(&session);
        }
    }

    /// Whether the session was over when it was seen last.
    #[must_use]
    pub fn has(&self, session: SessionId) -> bool {
        self.0.get(&session).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_counts() {
        let (stale, session) = (Stale::default(), SessionId::from_bytes([1; 12]));
        assert!(!stale.has(session));
        stale.remember(session);
        assert!(stale.has(session) && !stale.has(SessionId::from_bytes([2; 12])));
        stale.forget(session);
        assert!(!stale.has(session));
    }
}
