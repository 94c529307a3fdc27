//! Members.

use async_trait::async_trait;
use protocol::{
    MemberId, Timestamp,
    model::{MemberCard, Tier, UserType},
    rest::{ContactInfo, Member, MemberPatch},
};

use super::StoreError;

/// A member as stored: the record of the API and what must never leave the server.
#[derive(Clone)]
pub struct MemberRecord {
    /// What the member may see of themselves.
    pub profile: Member,
    /// The bcrypt hash of the password.
    pub password_hash: String,
}

impl MemberRecord {
    /// What other members see.
    #[must_use]
    pub fn card(&self) -> MemberCard {
        let profile = &self.profile;
        MemberCard {
            id: profile.id,
            name: profile.name.clone(),
            tier: profile.tier,
            profile_image_url: profile.profile_image_url.clone(),
            updated_at: profile.updated_at,
        }
    }
}

/// A member to be stored.
#[derive(Clone)]
pub struct NewMember {
    /// Their id.
    pub id: MemberId,
    /// The name to show.
    pub name: String,
    /// The e-mail address as it was given; its lower-case form is what must be unique.
    pub email: String,
    /// The bcrypt hash of the password.
    pub password_hash: String,
    /// What the member may do.
    pub user_type: UserType,
    /// When the member registered.
    pub created_at: Timestamp,
}

impl NewMember {
    /// The record that this becomes: lowest tier, active, nothing else known.
    #[must_use]
    pub fn into_record(self) -> MemberRecord {
        MemberRecord {
            profile: Member {
                id: self.id,
                name: self.name,
                email: self.email,
                tier: Tier::Disruption,
                contact_info: ContactInfo::default(),
                profile_image_url: None,
                user_type: self.user_type,
                created_at: self.created_at,
                updated_at: self.created_at,
                last_login: None,
                is_active: true,
            },
            password_hash: self.password_hash,
        }
    }
}

/// The form of an e-mail address under which it is unique.
#[must_use]
pub fn email_key(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Another member has the e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmailTaken;

/// When a member was last connected, and whether they may be seen at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeen {
    /// The member.
    pub member: MemberId,
    /// When their last device left; unknown until the first did.
    pub at: Option<Timestamp>,
}

/// Members.
#[async_trait]
pub trait MemberStore: Send + Sync {
    /// Stores a new member.
    ///
    /// # Errors
    /// Inner: the address is taken. Outer: the store.
    async fn insert(&self, member: NewMember) -> Result<Result<MemberRecord, EmailTaken>, StoreError>;

    /// The member with this id.
    ///
    /// # Errors
    /// The store.
    async fn by_id(&self, id: MemberId) -> Result<Option<MemberRecord>, StoreError>;

    /// The member with this address, in any case.
    ///
    /// # Errors
    /// The store.
    async fn by_email(&self, email: &str) -> Result<Option<MemberRecord>, StoreError>;

    /// Applies a validated patch. Nothing is written, `updated_at` included, when it changes nothing.
    ///
    /// # Errors
    /// The store.
    async fn update(&self, id: MemberId, patch: MemberPatch, at: Timestamp)
    -> Result<Option<MemberRecord>, StoreError>;

    /// Activates or deactivates a member; a deactivated member's sessions are revoked in the same transaction.
    ///
    /// # Errors
    /// The store.
    async fn set_active(&self, id: MemberId, active: bool, at: Timestamp) -> Result<Option<MemberRecord>, StoreError>;

    /// Records when members were last connected.
    ///
    /// # Errors
    /// The store.
    async fn record_last_seen(&self, seen: Vec<(MemberId, Timestamp)>) -> Result<(), StoreError>;

    /// When members were last connected; those that do not exist or are not active are left out.
    ///
    /// # Errors
    /// The store.
    async fn last_seen(&self, members: Vec<MemberId>) -> Result<Vec<LastSeen>, StoreError>;
}
