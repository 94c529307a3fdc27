//! Where members have logged in from, as far as it is remembered.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    time::Duration,
};

use protocol::Timestamp;
use quick_cache::sync::Cache;

use crate::store::members::{MemberRecord, email_key};

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

    /// Remembers that a member has logged in from `address` with credentials (their
    /// [`MemberRecord::credentials`]), if the account is not a new one.
    pub fn remember(&self, member: &MemberRecord, address: IpAddr, now: Timestamp) {
        if Self::is_old_enough(member.profile.created_at, now) {
            self.logins.insert(self.key(&member.profile.email, Some(member), address), ());
        }
    }

    /// Whether the member with an e-mail address, if there is one, has logged in with it from `address` with the credentials that they have now: whoever
    /// has known former ones is a stranger. Says nothing about whether there is such a member to who asks from anywhere else.
    #[must_use]
    pub fn knows(&self, email: &str, member: Option<&MemberRecord>, address: IpAddr) -> bool {
        self.logins.get(&self.key(email, member, address)).is_some()
    }

    /// Of the member too: who has the address next is somebody else.
    fn key(&self, email: &str, member: Option<&MemberRecord>, address: IpAddr) -> u64 {
        let member = member.map(|member| (*member.profile.id.as_bytes(), member.credentials));
        self.hasher.hash_one((email_key(email), member, address))
    }
}

#[cfg(test)]
mod tests {
    use protocol::{MemberId, model::UserType};

    use super::*;
    use crate::store::members::NewMember;

    fn member(email: &str, created_at: Timestamp) -> MemberRecord {
        let (name, password_hash) = ("Ana".to_owned(), String::new());
        let (id, email) = (MemberId::from_bytes([1; 12]), email.to_owned());
        let (user_type, language, must_verify) = (UserType::Member, None, false);
        NewMember { id, name, email, password_hash, user_type, created_at, language, must_verify }.into_record()
    }

    #[test]
    fn a_login_of_an_account_that_is_not_new_is_remembered_for_its_member_and_its_address() {
        let (familiar, [home, elsewhere]) =
            (Familiar::default(), ["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap()));
        let (created, day) = (Timestamp::from_millis(1_795_370_633_120), Duration::from_secs(86_400));
        let [ana, ben] = ["Ana@Example.com", "ben@example.com"].map(|email| member(email, created));
        familiar.remember(&ana, home, created.after(day));
        familiar.remember(&ben, home, created.after(day / 2));
        assert!(familiar.knows("ana@example.com ", Some(&ana), home));
        assert!(!familiar.knows("ana@example.com", Some(&ana), elsewhere));
        assert!(!familiar.knows("ben@example.com", Some(&ben), home), "the account is new");
        assert!(!familiar.knows("eva@example.com", None, home));
        let mut next = ana.clone();
        next.profile.id = MemberId::from_bytes([2; 12]);
        assert!(!familiar.knows("ana@example.com", Some(&next), home), "who has the address next");
        let replaced = MemberRecord { credentials: 1, ..ana };
        assert!(!familiar.knows("ana@example.com", Some(&replaced), home), "with a password of before");
    }
}
