//! Addresses that nobody registers with: those of members who have left, and who had shown that the address was theirs. And the key with which
//! addresses are hashed, these and those of [claims](super::mail::Claim).
//!
//! Only a hash of such an address is kept, with a key of the store: whoever has neither the database nor the address learns nothing, and
//! it can be compared whatever becomes of the secret that signs access tokens. The key is drawn when it is needed for the first time.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

use protocol::{MemberId, Timestamp, rest::AuditAction};

use super::{
    audit::AuditRecord,
    changes::{Actor, Change, Overtaken},
    members::{MemberRecord, email_key},
};

/// What addresses are hashed with, random.
pub type AddressKey = [u8; 32];
/// The hash of an address.
pub type AddressHash = [u8; 32];

/// The name of the key among the secrets of a store.
pub(super) const KEY: &str = "addresses";

/// The hash of an address, the same in any case. None without a key: then nobody is kept out.
#[must_use]
pub(super) fn hash(key: Option<AddressKey>, email: &str) -> Option<AddressHash> {
    hash_of(key, b"", email)
}

/// The hash of an address that somebody has claimed: another one, so that the two cannot be compared.
#[must_use]
pub(super) fn claim_hash(key: Option<AddressKey>, email: &str) -> Option<AddressHash> {
    hash_of(key, b"claim/", email)
}

fn hash_of(key: Option<AddressKey>, prefix: &[u8], email: &str) -> Option<AddressHash> {
    // A key of any length is one.
    let key = Hmac::<Sha256>::new_from_slice(&key?).ok()?;
    Some(key.chain_update(prefix).chain_update(email_key(email)).finalize().into_bytes().into())
}

/// What became of an address that somebody was to register with again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// It is free again.
    Done,
    /// Nobody was kept out.
    NotBarred,
    /// Whoever wanted it may not decide any more.
    Overtaken(Overtaken),
}

/// The address that nobody registers with after a change of a member.
#[must_use]
pub(super) fn barred_by<'a>(change: &Change, before: &'a MemberRecord) -> Option<&'a str> {
    let leaves = matches!(change, Change::Erase) && !before.is_erased;
    (leaves && before.profile.email_verified_at.is_some()).then_some(before.profile.email.as_str())
}

/// What the audit log keeps of an address that is free again. Not which one.
#[must_use]
pub(super) fn allowed(by: Actor, member: MemberId, at: Timestamp) -> AuditRecord {
    let (action, details) = (AuditAction::AddressAllowed, json!({}));
    AuditRecord { at, actor: by.member, action, target: Some(member), details, address: by.address }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_hash_in_any_case_and_another_with_another_key() {
        let of = |key: u8, email| hash(Some([key; 32]), email).unwrap();
        assert_eq!(of(1, " Ana@Example.com"), of(1, "ana@example.COM "));
        assert_ne!(of(1, "ana@example.com"), of(1, "ben@example.com"));
        assert_ne!(of(1, "ana@example.com"), of(2, "ana@example.com"));
        assert_eq!(hash(None, "ana@example.com"), None);
        assert_ne!(hash(Some([1; 32]), "ana@example.com"), claim_hash(Some([1; 32]), "ana@example.com"));
    }
}
