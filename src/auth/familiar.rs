//! Where members have logged in from, as far as it is remembered.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    time::Duration,
};

use protocol::Timestamp;
use quick_cache::sync::Cache;

use crate::store::members::email_key;

/// Logins that are remembered, about 50 bytes each; the oldest unused ones are forgotten.
const REMEMBERED: usize = 10_000;
/// Accounts are free: whoever makes some only to go first has to wait for so long.
const OLD_ENOUGH: Duration = Duration::from_secs(86_400);

/// Members and where they have logged in from since the server started. Only hashes of both are kept.
pub struct Familiar {
    logins: Cache<u64, ()>,
    /// With keys of this process: nobody can make two logins look the same.
    hasher: RandomState,
}

impl Default for Familiar {
    fn default() -> Self {
        Self { logins: Cache::new(REMEMBERED), hasher: RandomState::new() }
    }
}

impl Familiar {
    /// Whether an account is old enough for its member to go first: nobody makes accounts for that.
    #[must_use]
    pub fn is_old_enough(created_at: Timestamp, now: Timestamp) -> bool {
        created_at.after(OLD_ENOUGH) <= now
    }

    /// Remembers that the member with this e-mail address has logged in from `address`, if the account is not a new one.
    pub fn remember(&self, email: &str, address: IpAddr, created_at: Timestamp, now: Timestamp) {
        if Self::is_old_enough(created_at, now) {
            self.logins.insert(self.key(email, address), ());
        }
    }

    /// Whether they have. Says nothing about whether there is such a member to who asks from anywhere else.
    #[must_use]
    pub fn knows(&self, email: &str, address: IpAddr) -> bool {
        self.logins.get(&self.key(email, address)).is_some()
    }

    fn key(&self, email: &str, address: IpAddr) -> u64 {
        self.hasher.hash_one((email_key(email), address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_of_an_account_that_is_not_new_is_remembered_for_its_member_and_its_address() {
        let (familiar, [home, elsewhere]) =
            (Familiar::default(), ["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap()));
        let (created, day) = (Timestamp::from_millis(1_795_370_633_120), Duration::from_secs(86_400));
        familiar.remember("Ana@Example.com ", home, created, created.after(day));
        familiar.remember("ben@example.com", home, created, created.after(day / 2));
        assert!(familiar.knows("ana@example.com", home));
        assert!(!familiar.knows("ana@example.com", elsewhere));
        assert!(!familiar.knows("ben@example.com", home), "the account is new");
        assert!(!familiar.knows("eva@example.com", home));
    }
}
