//! Members.

use async_trait::async_trait;
use protocol::{
    MemberId, PhotoName, Timestamp,
    model::{Tier, UserType},
    rest::{Audience, SharedWith, Visibility},
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    StoreError,
    changes::{Actor, Change, Changed},
    turns::{Caller, Turn, Weight},
};
use crate::text;

/// A member as they are stored, apart from how clients see them, which is `service::views`'.
#[derive(Clone)]
pub struct MemberRecord {
    /// Who they are.
    pub profile: StoredProfile,
    /// The bcrypt hash of the password.
    pub password_hash: String,
    /// Grows with every change of the profile.
    pub version: u64,
    /// Whether the member has left for ever; only the record that messages refer to remains.
    pub is_erased: bool,
}

/// Who a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredProfile {
    /// Their id.
    pub id: MemberId,
    /// The name to show.
    pub name: String,
    /// The e-mail address, as it was given.
    pub email: String,
    /// The kind of membership.
    pub tier: Tier,
    /// How to reach them.
    pub contact: Contact,
    /// Which of their details others see, and who sees the presence.
    pub visibility: StoredVisibility,
    /// Where the picture is.
    pub profile_image_url: Option<String>,
    /// What they may do.
    pub user_type: UserType,
    /// When they registered.
    pub created_at: Timestamp,
    /// When the profile changed last.
    pub updated_at: Timestamp,
    /// When they logged in last.
    pub last_login: Option<Timestamp>,
    /// Whether they may sign in.
    pub is_active: bool,
}

impl StoredProfile {
    /// How to reach them, as far as other members may know; so what they are found by as well.
    #[must_use]
    pub fn shared_contact(&self) -> Contact {
        let visible = |value: &Option<String>, to| value.clone().filter(|_| to == SharedWith::Members);
        let Self { contact, visibility, .. } = self;
        Contact {
            phone: visible(&contact.phone, visibility.phone),
            company: visible(&contact.company, visibility.company),
            position: visible(&contact.position, visibility.position),
        }
    }

    /// The e-mail address, if other members may know it.
    #[must_use]
    pub fn shared_email(&self) -> Option<String> {
        (self.visibility.email == SharedWith::Members).then(|| self.email.clone())
    }
}

/// How to reach a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contact {
    /// The phone number.
    pub phone: Option<String>,
    /// Where they work.
    pub company: Option<String>,
    /// What they do there.
    pub position: Option<String>,
}

/// Which details of a member others see, and who sees the presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredVisibility {
    /// The e-mail address.
    pub email: SharedWith,
    /// The phone number.
    pub phone: SharedWith,
    /// Where they work.
    pub company: SharedWith,
    /// What they do there.
    pub position: SharedWith,
    /// The presence, and when they were last seen.
    pub presence: Audience,
}

impl Default for StoredVisibility {
    /// Of a member who has not chosen: see [`protocol::rest::Visibility`].
    fn default() -> Self {
        let Visibility { email, phone, company, position, presence } = Visibility::default();
        Self { email, phone, company, position, presence }
    }
}

impl MemberRecord {
    /// What the directory is ordered by, together with the id.
    #[must_use]
    pub fn name_key(&self) -> String {
        text::fold(&self.profile.name)
    }

    /// The photo of this server that the profile names.
    #[must_use]
    pub fn photo(&self) -> Option<PhotoName> {
        self.profile.profile_image_url.as_deref().and_then(PhotoName::from_url)
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
            profile: StoredProfile {
                id: self.id,
                name: self.name,
                email: self.email,
                tier: Tier::Disruption,
                contact: Contact::default(),
                visibility: StoredVisibility::default(),
                profile_image_url: None,
                user_type: self.user_type,
                created_at: self.created_at,
                updated_at: self.created_at,
                last_login: None,
                is_active: true,
            },
            password_hash: self.password_hash,
            version: 1,
            is_erased: false,
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

/// Why the first administrator was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFirst {
    /// Another member has the e-mail address.
    EmailTaken,
    /// There is an administrator already, who may sign in.
    HasAdmin,
}

/// When a member was last connected, and who may see that and their presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeen {
    /// The member.
    pub member: MemberId,
    /// When their last device left; unknown until the first did.
    pub at: Option<Timestamp>,
    /// Who may see it.
    pub audience: Audience,
    /// The [`MemberRecord::version`] that says so.
    pub version: u64,
}

/// Which members a list has. A member who has left is in none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this tier.
    pub tier: Option<Tier>,
    /// Only those of this type.
    pub user_type: Option<UserType>,
    /// Only those who may sign in, or only those who may not.
    pub is_active: Option<bool>,
}

impl Filter {
    /// The turn of a page: members who are passed over are read too, and of the rare ones whom only administrators ask for
    /// those may be the whole club.
    #[must_use]
    pub const fn turn(self, caller: Caller) -> Turn {
        let is_rare = self.user_type.is_some() || matches!(self.is_active, Some(false));
        Turn { caller, weight: if is_rare { Weight::Heavy } else { Weight::Light } }
    }
}

/// A place in the list of members: after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryPosition {
    /// Their [`MemberRecord::name_key`].
    pub name_key: String,
    /// Their id.
    pub id: MemberId,
}

/// How many members there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberCounts {
    /// All, those who have left included.
    pub all: u64,
    /// Those who may sign in.
    pub active: u64,
}

/// Members.
#[async_trait]
pub trait MemberStore: Send + Sync {
    /// Stores a new member, and in the same transaction who created them, if that is to be remembered.
    ///
    /// # Errors
    /// Inner: the address is taken. Outer: the store.
    async fn insert(
        &self,
        member: NewMember,
        created_by: Option<Actor>,
    ) -> Result<Result<MemberRecord, EmailTaken>, StoreError>;

    /// Stores a new administrator if there is none, and in the same transaction who created them. Of several at the same moment one
    /// is stored. Administrators who may not sign in do not count.
    ///
    /// # Errors
    /// Inner: why they are not stored. Outer: the store.
    async fn insert_first_admin(
        &self,
        member: NewMember,
        created_by: Actor,
    ) -> Result<Result<MemberRecord, NotFirst>, StoreError>;

    /// Whether there is an administrator who may sign in.
    ///
    /// # Errors
    /// The store.
    async fn has_admin(&self) -> Result<bool, StoreError>;

    /// The member with this id. Here and below, `by` is whose request the read belongs to.
    ///
    /// # Errors
    /// The store.
    async fn by_id(&self, by: Caller, id: MemberId) -> Result<Option<MemberRecord>, StoreError>;

    /// The member with this address, in any case.
    ///
    /// # Errors
    /// The store.
    async fn by_email(&self, by: Caller, email: &str) -> Result<Option<MemberRecord>, StoreError>;

    /// Changes a member; with it, in the same transaction, goes what [`Change`] says about sessions and the audit log.
    /// Nothing is written, `updated_at` included, when it changes nothing, and nothing after it was `given_up`.
    ///
    /// # Errors
    /// The store.
    async fn change(
        &self,
        id: MemberId,
        change: Change,
        by: Actor,
        at: Timestamp,
        given_up: CancellationToken,
    ) -> Result<Changed, StoreError>;

    /// Replaces the hash of a password, if it is still `from`: the same password, hashed at another cost. The version of
    /// the profile stays. False when it was another one.
    ///
    /// # Errors
    /// The store.
    async fn replace_hash(&self, id: MemberId, from: String, to: String) -> Result<bool, StoreError>;

    /// Members by name, from a place on.
    ///
    /// # Errors
    /// The store.
    async fn list(
        &self,
        by: Caller,
        filter: Filter,
        after: Option<DirectoryPosition>,
        limit: usize,
    ) -> Result<Vec<MemberRecord>, StoreError>;

    /// Active members of whom each word is the beginning of a word in what they share of name, company and position.
    /// The words are folded ([`text::words`]). `by` is who searches.
    ///
    /// No more than `limit` are read, so that a search costs the same however many would be found: first those of whom
    /// each word is a whole word, then those of whom it is a beginning. In any order.
    ///
    /// # Errors
    /// The store.
    async fn search(&self, by: MemberId, words: Vec<String>, limit: usize) -> Result<Vec<MemberRecord>, StoreError>;

    /// How many there are.
    ///
    /// # Errors
    /// The store.
    async fn count(&self) -> Result<MemberCounts, StoreError>;

    /// Records when members were last connected.
    ///
    /// # Errors
    /// The store.
    async fn record_last_seen(&self, seen: Vec<(MemberId, Timestamp)>) -> Result<(), StoreError>;

    /// When members were last connected; those that do not exist or are not active are left out.
    ///
    /// # Errors
    /// The store.
    async fn last_seen(&self, by: Caller, members: Vec<MemberId>) -> Result<Vec<LastSeen>, StoreError>;
}
