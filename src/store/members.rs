//! Members.

use std::{net::IpAddr, ops::RangeInclusive};

use async_trait::async_trait;
use protocol::{
    InvitationId, MemberId, PhotoName, Timestamp,
    model::{Tier, UserType},
    rest::{Audience, Language, MemberStatus, SharedWith, Visibility},
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    StoreError,
    addresses::Allowed,
    changes::{Actor, Change, Changed, Overtaken},
    invitations::InvitationRecord,
    mail::NewLink,
    second_factor::StoredFactor,
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
    /// Their second factor, if they have one.
    pub second_factor: Option<StoredFactor>,
    /// Grows when the password becomes another one, and when the second factor is turned on or reset: device proofs of before are good no more,
    /// and a login that has looked at those of before starts no session, and what was begun to turn a factor on is good no more. Not when the same password is hashed anew.
    pub credentials: u64,
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
    /// Whether they may sign in, as far as administrators have decided it for good; [`Self::standing`] is the whole answer.
    pub is_active: bool,
    /// Whether they have registered and wait for an administrator; such a one is not active.
    pub is_pending: bool,
    /// Whether they have registered while mail was sent, and have not shown yet that the address is theirs; such a one is not active.
    pub must_verify: bool,
    /// Until when they may not sign in all the same.
    pub suspension: Option<Suspension>,
    /// Who brought them in, if somebody did.
    pub invited: Option<Invited>,
    /// The language of mails to them, if they have one.
    pub language: Option<Language>,
    /// When they showed that the address is theirs.
    pub email_verified_at: Option<Timestamp>,
}

/// A member may not sign in until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// Until when.
    pub until: Timestamp,
    /// Why, in the words of an administrator.
    pub reason: Option<String>,
}

/// Who brought a member in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invited {
    /// The member who made the invitation.
    pub by: MemberId,
    /// The invitation.
    pub invitation: InvitationId,
}

/// Whether a member may sign in, and why not. Decided in [`Self::at`] and nowhere else; what stores ask for in their own language is
/// held against it by their conformance suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They may.
    Active,
    /// Not before this time.
    Suspended(Timestamp),
    /// Not until an administrator activates them; also of one who has left.
    Deactivated,
    /// Not yet: they wait for an administrator.
    Pending,
    /// Not before they have shown that the address is theirs. Nobody knows yet that it was they who registered.
    Unverified,
}

impl Standing {
    /// That of a member at a time.
    #[must_use]
    pub fn at(
        now: Timestamp,
        is_active: bool,
        (is_pending, must_verify): (bool, bool),
        suspended_until: Option<Timestamp>,
    ) -> Self {
        match suspended_until.filter(|until| now < *until) {
            _ if must_verify => Self::Unverified,
            _ if is_pending => Self::Pending,
            _ if !is_active => Self::Deactivated,
            Some(until) => Self::Suspended(until),
            None => Self::Active,
        }
    }
}

impl StoredProfile {
    /// Whether they may sign in at a time, and why not.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        let until = self.suspension.as_ref().map(|suspension| suspension.until);
        Standing::at(now, self.is_active, (self.is_pending, self.must_verify), until)
    }

    /// Whether only administrators know of them: nobody has let them in yet, or nobody knows that it was they who registered.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.is_pending || self.must_verify
    }

    /// Whether they may sign in at a time.
    #[must_use]
    pub fn may_sign_in(&self, now: Timestamp) -> bool {
        self.standing(now) == Standing::Active
    }

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

    /// What the address is unique by. That of who has left has no `@`: whatever address somebody else has, it keeps nobody from leaving.
    #[must_use]
    pub(in crate::store) fn email_key(&self) -> String {
        if self.is_erased { format!("erased/{}", self.profile.id) } else { email_key(&self.profile.email) }
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
    /// The language of mails to the member, if it is known.
    pub language: Option<Language>,
    /// Whether the member has to show that the address is theirs before they sign in.
    pub must_verify: bool,
}

impl NewMember {
    /// The record that this becomes: lowest tier, active unless the address is to be verified, nothing else known.
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
                is_active: !self.must_verify,
                is_pending: false,
                must_verify: self.must_verify,
                suspension: None,
                invited: None,
                language: self.language,
                email_verified_at: None,
            },
            password_hash: self.password_hash,
            version: 1,
            is_erased: false,
            second_factor: None,
            credentials: 0,
        }
    }
}

impl MemberRecord {
    /// The same new member, who came by an invitation: of its tier.
    #[must_use]
    pub fn invited(mut self, invitation: &InvitationRecord) -> Self {
        self.profile.tier = invitation.tier;
        self.profile.invited = Some(Invited { by: invitation.created_by, invitation: invitation.id });
        self
    }

    /// The same new member, who waits for an administrator.
    #[must_use]
    pub fn waiting(mut self) -> Self {
        self.profile.is_pending = true;
        self.profile.is_active = false;
        self
    }
}

/// How somebody comes in who registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By themselves.
    Free,
    /// By an invitation, a use of which is taken with it.
    Invitation(InvitationId),
    /// They wait for an administrator, one of so many at most.
    Application {
        /// How many may wait, this one included.
        most: u64,
    },
}

impl Way {
    /// Whether who comes in like this takes the place of somebody who has registered with the same address and has not verified it: who was
    /// invited, of who was not. Else a stranger who is first has their name, their tier, and whether they wait, whoever reads the mail.
    #[must_use]
    pub(super) const fn displaces(self, owner: &MemberRecord) -> bool {
        matches!(self, Self::Invitation(_)) && owner.profile.must_verify && owner.profile.invited.is_none()
    }

    /// Its name, for the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Invitation(_) => "invitation",
            Self::Application { .. } => "application",
        }
    }
}

/// Somebody who registers.
#[derive(Clone)]
pub struct Registration {
    /// Who.
    pub member: NewMember,
    /// How they come in.
    pub way: Way,
    /// Where the request came from.
    pub from: IpAddr,
    /// The first link by which they verify the address, if they have to. Whose address is taken gets none: in its place the member who
    /// has it is told, and the use of the invitation is taken all the same, so that nobody sees by it whether the address was free. Of one
    /// invitation an address takes one use until it is verified or the use comes back, however often somebody registers with it.
    pub link: Option<NewLink>,
    /// How many may have to show that the address is theirs, at a time, those whose address is another's included: with so many, no stranger is added who would have to.
    pub most_unverified: u64,
}

/// [`Registration::most_unverified`] of a server.
pub const UNVERIFIED_MAX: u64 = 10_000;

/// Records that one call of [`MemberStore::purge_unverified`] removes at most.
pub const PURGED_AT_ONCE: usize = 500;

/// Why somebody who registers was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRegistered {
    /// Another member has the e-mail address, or had it and had shown that it was theirs when they left.
    EmailTaken,
    /// There is no such invitation that is good at the moment.
    InvitationInvalid,
    /// As many wait as may wait.
    TooManyWaiting,
}

/// What became of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// The record is gone.
    Done,
    /// There is none.
    NotFound,
    /// They do not wait any more: they were approved.
    Decided,
    /// Whoever wanted it may not decide any more.
    Overtaken(Overtaken),
}

/// The form of an e-mail address under which it is unique.
#[must_use]
pub fn email_key(email: &str) -> String {
    email.trim().to_lowercase()
}

/// The costs that hashes of passwords may have: those that `BCRYPT_COST` takes.
pub const COSTS: RangeInclusive<u32> = 4..=16;
/// The highest cost that a hash of bcrypt can have, wherever it comes from.
const HIGHEST_COST: u32 = 31;
/// The versions of bcrypt, as hashes name them; those that are made here are of `2b`.
const VERSIONS: [&str; 4] = ["2a", "2b", "2x", "2y"];
/// How long the beginning of a hash is that says the version and the cost: `$2b$12`.
pub(in crate::store) const COST_ENDS: usize = 6;

/// Between which strings the hashes of each version of bcrypt are whose cost is among [`COSTS`]; the second one is not among them. They are
/// in the order of their costs.
pub(in crate::store) fn hashes() -> [(String, String); 4] {
    VERSIONS.map(|version| (format!("${version}${:02}", COSTS.start()), format!("${version}${:02}", COSTS.end() + 1)))
}

/// Between which strings the hashes of each version of bcrypt are whose cost is higher than this one, however high; as [`hashes`].
pub(in crate::store) fn hashes_above(cost: u32) -> [(String, String); 4] {
    VERSIONS.map(|version| (format!("${version}${:02}", cost + 1), format!("${version}${:02}", HIGHEST_COST + 1)))
}

/// The cost that the beginning of a hash says.
pub(in crate::store) fn cost_of(hash: &str) -> Option<u32> {
    hash.get(COST_ENDS - 2..COST_ENDS)?.parse().ok()
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

/// Which members a list has. A member who has left is in none, and one of whom only administrators know
/// ([`StoredProfile::is_unknown`]) only where it is asked for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this tier.
    pub tier: Option<Tier>,
    /// Only those of this type.
    pub user_type: Option<UserType>,
    /// Only those who are active, or only those who are not.
    pub is_active: Option<bool>,
    /// Only those whose standing is this at a time.
    pub status: Option<(MemberStatus, Timestamp)>,
}

impl Filter {
    /// The turn of a page: members who are passed over are read too, and of the rare ones whom only administrators ask for
    /// those may be the whole club.
    #[must_use]
    pub const fn turn(self, caller: Caller) -> Turn {
        let of_status = matches!(self.status, Some((MemberStatus::Suspended | MemberStatus::Deactivated, _)));
        let is_rare = self.user_type.is_some() || matches!(self.is_active, Some(false)) || of_status;
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
    /// Those who may sign in: neither deactivated nor suspended.
    pub active: u64,
    /// Those who wait for an administrator; not among all. Who has not verified the address is among none of these.
    pub waiting: u64,
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

    /// Stores a member who registers, in the way that they come in: with the use of the invitation, what the audit log keeps of it, and
    /// the first link, in the same transaction. Its turn is that of the address. May be repeated while the outcome is unknown, and then has the same one.
    ///
    /// # Errors
    /// Inner: why they are not stored. Outer: [`StoreError::Overloaded`] when a link is to be sent and too many mails wait, or the store.
    async fn register(&self, new: Registration) -> Result<Result<MemberRecord, NotRegistered>, StoreError>;

    /// Removes the records of those who registered before a time and have not verified the address since, with their links and mails.
    /// The use of an invitation is given back, and the audit log keeps that. Whom somebody has written to, in a version that let them,
    /// stays. The same of those who registered with an address that is another's, of whom there is no record. Returns how many,
    /// [`PURGED_AT_ONCE`] at most.
    ///
    /// # Errors
    /// The store.
    async fn purge_unverified(&self, before: Timestamp, at: Timestamp) -> Result<usize, StoreError>;

    /// Lets somebody register again with an address that nobody could register with, because a member who had shown that it was theirs has
    /// left; with what the audit log keeps of that. False: nobody was kept out.
    ///
    /// # Errors
    /// The store.
    async fn allow_address(&self, email: &str, by: Actor, at: Timestamp) -> Result<Allowed, StoreError>;

    /// Removes the record of somebody who waits for an administrator, their links and the mail to them, with what the audit log keeps of
    /// that. Their address is free again.
    ///
    /// # Errors
    /// The store.
    async fn reject(&self, id: MemberId, by: Actor, at: Timestamp) -> Result<Rejected, StoreError>;

    /// Removes the records of those who have waited for an administrator since before a time, their links and the mail to them. Returns how
    /// many.
    ///
    /// # Errors
    /// The store.
    async fn purge_waiting(&self, before: Timestamp) -> Result<usize, StoreError>;

    /// How many wait for an administrator, and have verified the address if they have to.
    ///
    /// # Errors
    /// The store.
    async fn count_waiting(&self, by: Caller) -> Result<u64, StoreError>;

    /// Administrators who are active, so many at most; only those with a second factor, if the club demands one of them.
    ///
    /// # Errors
    /// The store.
    async fn admins(&self, limit: usize, with_factor: bool) -> Result<Vec<MemberId>, StoreError>;

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

    /// The highest cost of the hashes of passwords, of those among [`COSTS`]; none if there is no such hash. A look at the end of an index,
    /// however many members there are.
    ///
    /// # Errors
    /// The store.
    async fn highest_cost(&self, by: Caller) -> Result<Option<u32>, StoreError>;

    /// How many hashes of passwords have a higher cost than this one, those that no setting gives included; counted up to `most`. A look at
    /// the end of an index, however many members there are.
    ///
    /// # Errors
    /// The store.
    async fn count_costlier(&self, than: u32, most: u64) -> Result<u64, StoreError>;

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
    async fn count(&self, at: Timestamp) -> Result<MemberCounts, StoreError>;

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
