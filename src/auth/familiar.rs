//! Where members have logged in from, as far as it is remembered.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
};

use quick_cache::sync::Cache;

use crate::store::members::email_key;

/// Logins that are remembered, about 50 bytes each; the oldest unused ones are forgotten.
const REMEMBERED: usize = 10_000;

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
    /// Remembers that the member with this e-mail address has logged in from `address`.
    pub fn remember(&self, email: &str, address: IpAddr) {
        self.logins.insert(self.key(email, address), ());
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
    fn a_login_is_remembered_for_its_member_and_its_address() {
        let (familiar, [home, elsewhere]) =
            (Familiar::default(), ["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap()));
        familiar.remember("Ana@Example.com ", home);
        assert!(familiar.knows("ana@example.com", home));
        assert!(!familiar.knows("ana@example.com", elsewhere));
        assert!(!familiar.knows("ben@example.com", home));
    }
}
