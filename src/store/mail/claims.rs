//! Claims: registrations with an address that is another's, where mail is sent.
//!
//! Nobody may see by anything whether an address was free. So of one that was not as much is kept, for as long, as of one that was: it
//! counts against the bound of those who have yet to verify the address, and holds a use of its invitation, which comes back with it. It is
//! a link that was over from the beginning, of a member whom there is not.

use protocol::InvitationId;

use crate::store::{
    addresses::{AddressKey, claim_hash},
    members::MemberRecord,
};

/// A hash of an address, with the key of the store. It says that two are the same, for as long as a registration that was not verified is kept.
pub type ClaimedAddress = [u8; 16];

/// A registration with an address that is another's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claim {
    /// The invitation of which it holds a use.
    pub invitation: Option<InvitationId>,
    /// The address with which it holds that; nothing when the member whose it is has left.
    pub address: Option<ClaimedAddress>,
}

impl Claim {
    /// One that holds a use of an invitation.
    #[must_use]
    pub fn by_invitation(invitation: InvitationId, key: AddressKey, email: &str) -> Self {
        Self { invitation: Some(invitation), address: claimed(Some(key), email) }
    }
}

/// The hash of an address, the same in any case. None without a key: then there is no claim yet.
#[must_use]
pub(in crate::store) fn claimed(key: Option<AddressKey>, email: &str) -> Option<ClaimedAddress> {
    claim_hash(key, email)?.first_chunk().copied()
}

/// Whether who has the address holds a use of an invitation with it already, and has not verified it. Of one invitation an address takes
/// one use, however often somebody registers with it.
#[must_use]
pub(in crate::store) fn holds_use(owner: Option<&MemberRecord>, invitation: InvitationId) -> bool {
    let profile = owner.map(|owner| &owner.profile).filter(|profile| profile.must_verify);
    profile.and_then(|profile| profile.invited).is_some_and(|invited| invited.invitation == invitation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_hash_in_any_case() {
        let of = |key: u8, email| claimed(Some([key; 32]), email).unwrap();
        assert_eq!(of(1, " Ana@Example.com"), of(1, "ana@example.COM "));
        assert_ne!(of(1, "ana@example.com"), of(1, "ben@example.com"));
        assert_ne!(
            of(1, "ana@example.com"),
            of(2, "ana@example.com"),
            "who has the database alone cannot try addresses"
        );
        assert_eq!(claimed(None, "ana@example.com"), None);
    }
}
