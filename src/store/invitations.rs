//! Invitations: who may bring how many in, until when. The same rules for every store.

use std::time::Duration;

use async_trait::async_trait;
use protocol::{
    InvitationId, MemberId, Timestamp,
    model::{Tier, UserType},
    rest::AuditAction,
};
use serde_json::json;

use super::{
    StoreError,
    audit::AuditRecord,
    changes::{Actor, Change, EmailProof, Overtaken},
    members::{Invited, MemberRecord, StoredProfile},
    turns::Caller,
};

/// The SHA-256 hash of a code: the code itself is never stored.
pub type CodeHash = [u8; 32];

/// Members whom a list names of each invitation, the newest.
pub const CAME_BY_MAX: usize = 20;

/// An invitation, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationRecord {
    /// Its id.
    pub id: InvitationId,
    /// By what it is found.
    pub code: CodeHash,
    /// The tier of who comes by it.
    pub tier: Tier,
    /// How many may come by it.
    pub uses: u32,
    /// How many have.
    pub used: u32,
    /// Who made it.
    pub created_by: MemberId,
    /// When.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// What its maker wants to remember of it; gone when they leave.
    pub note: Option<String>,
}

impl InvitationRecord {
    /// Whether somebody can come by it now.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.can_open(now) && self.used < self.uses
    }

    /// Whether somebody can come by it now or later: one that is used up is open again when a use comes back ([`return_of`]). What ends
    /// invitations ends all of these.
    #[must_use]
    pub fn can_open(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

/// In which time so many invitations may be made ([`NewInvitation::most_made`]).
pub const MADE_WITHIN: Duration = Duration::from_secs(86_400);

/// An invitation to be stored.
#[derive(Debug, Clone)]
pub struct NewInvitation {
    /// The invitation.
    pub record: InvitationRecord,
    /// How many open ones its maker may have, this one included.
    pub most_open: usize,
    /// How many they may have made within a day ([`MADE_WITHIN`]), this one included, whatever became of them.
    pub most_made: usize,
    /// Whether only an administrator may make it.
    pub needs_admin: bool,
    /// Who makes it, from where.
    pub by: Actor,
}

impl NewInvitation {
    /// Whether the maker may still make it when its turn has come.
    #[must_use]
    pub fn may_be_made_by(&self, maker: &StoredProfile) -> bool {
        let may = !self.needs_admin || maker.user_type == UserType::Admin;
        may && maker.may_sign_in(self.record.created_at)
    }

    /// What the audit log keeps of it.
    #[must_use]
    pub fn audit(&self) -> AuditRecord {
        let InvitationRecord { id, tier, uses, created_by, created_at, expires_at, .. } = &self.record;
        AuditRecord {
            at: *created_at,
            actor: self.by.member,
            action: AuditAction::InvitationCreated,
            target: Some(*created_by),
            details: json!({ "invitation": id, "tier": tier, "uses": uses, "expires_at": expires_at }),
            address: self.by.address,
        }
    }
}

/// What the audit log keeps of the end of an invitation that somebody has revoked.
#[must_use]
pub fn revocation(record: &InvitationRecord, by: Actor, at: Timestamp) -> AuditRecord {
    AuditRecord {
        at,
        actor: by.member,
        action: AuditAction::InvitationRevoked,
        target: Some(record.created_by),
        details: json!({ "invitation": record.id }),
        address: by.address,
    }
}

/// What the audit log keeps of somebody who came by an invitation.
#[must_use]
pub fn use_of(record: &InvitationRecord, member: MemberId, by: Actor, at: Timestamp) -> AuditRecord {
    AuditRecord {
        at,
        actor: by.member,
        action: AuditAction::InvitationUsed,
        target: Some(member),
        details: json!({ "invitation": record.id, "invited_by": record.created_by }),
        address: by.address,
    }
}

/// What the audit log keeps of a use that is given back: whoever took it has not shown that the address is theirs.
#[must_use]
pub fn return_of(invited: &Invited, member: MemberId, at: Timestamp) -> AuditRecord {
    AuditRecord {
        at,
        actor: None,
        action: AuditAction::InvitationReturned,
        target: Some(member),
        details: json!({ "invitation": invited.invitation, "invited_by": invited.by }),
        address: None,
    }
}

/// Which invitations that [can open](InvitationRecord::can_open) end with a change of a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Those that this member has made.
    pub made_by: Option<MemberId>,
    /// This one, which the member came by: who was put out does not come back by it, nor does who gave them the code; and who has left
    /// needs a new one.
    pub came_by: Option<InvitationId>,
    /// Whether the notes of the member's invitations go as well: they leave.
    pub forgets_notes: bool,
}

/// What a change of a member does to invitations.
#[must_use]
pub fn of_change(change: &Change, before: &MemberRecord) -> Revocations {
    let profile = &before.profile;
    let made_by = Some(profile.id);
    let came_by = profile.invited.map(|invited| invited.invitation);
    match change {
        Change::Active(false) | Change::Suspended(Some(_)) => Revocations { made_by, came_by, forgets_notes: false },
        Change::Erase => Revocations { made_by, came_by, forgets_notes: true },
        // What only an administrator may make is not open after they are none, and what a thief has made not after the account is taken back.
        Change::Role(UserType::Member) | Change::Email { proof: EmailProof::TakenOver, .. } => {
            Revocations { made_by, ..Revocations::default() }
        }
        Change::Role(UserType::Admin)
        | Change::Profile { .. }
        | Change::Tier(_)
        | Change::Active(true)
        | Change::Suspended(None)
        | Change::Password { .. }
        | Change::ResetPassword { .. }
        | Change::VerifyEmail { .. }
        | Change::Email { .. }
        | Change::EnableSecondFactor { .. }
        | Change::UseCode(_)
        | Change::ReplaceRecoveryCodes { .. }
        | Change::DisableSecondFactor(_)
        | Change::ResetSecondFactor
        | Change::Approve => Revocations::default(),
    }
}

/// What the audit log keeps of the invitations that a change has ended.
#[must_use]
pub fn revoked_with(member: MemberId, count: u64, because: AuditAction, by: Actor, at: Timestamp) -> AuditRecord {
    AuditRecord {
        at,
        actor: by.member,
        action: AuditAction::InvitationRevoked,
        target: Some(member),
        details: json!({ "count": count, "because": because }),
        address: by.address,
    }
}

/// What became of an invitation that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is.
    Done,
    /// Its maker has as many open ones as they may have.
    TooMany,
    /// Its maker may not make it any more.
    NotAllowed,
    /// Nor may whoever asked for it in that session.
    Overtaken(Overtaken),
}

/// Who came by an invitation.
#[derive(Clone, Default)]
pub struct CameBy {
    /// The newest [`CAME_BY_MAX`] of them. Who has left is not among them.
    pub members: Vec<MemberRecord>,
    /// How many have registered by it and have not verified the address: their uses come back when they are removed. Those whose address is
    /// another's are among them.
    pub unverified: u64,
}

/// What became of an invitation that was to be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawn {
    /// It is revoked, now or before.
    Done,
    /// There is none.
    NotFound,
    /// Whoever wanted it may not revoke it any more.
    Overtaken(Overtaken),
}

/// Invitations.
#[async_trait]
pub trait InvitationStore: Send + Sync {
    /// Stores an invitation, and in the same transaction what the audit log keeps of it. May be repeated while the outcome is unknown.
    ///
    /// # Errors
    /// The store.
    async fn create(&self, new: NewInvitation) -> Result<Created, StoreError>;

    /// The invitation with a code, good or not.
    ///
    /// # Errors
    /// The store.
    async fn by_code(&self, by: Caller, code: CodeHash) -> Result<Option<InvitationRecord>, StoreError>;

    /// The invitation with an id.
    ///
    /// # Errors
    /// The store.
    async fn by_id(&self, by: Caller, id: InvitationId) -> Result<Option<InvitationRecord>, StoreError>;

    /// Invitations of a member, or all, the newest first, those before a place.
    ///
    /// # Errors
    /// The store.
    async fn list(
        &self,
        by: Caller,
        made_by: Option<MemberId>,
        before: Option<InvitationId>,
        limit: usize,
    ) -> Result<Vec<InvitationRecord>, StoreError>;

    /// Who came by each of some invitations, in their order.
    ///
    /// # Errors
    /// The store.
    async fn came_by(&self, by: Caller, invitations: Vec<InvitationId>) -> Result<Vec<CameBy>, StoreError>;

    /// Revokes an invitation, with what the audit log keeps of it, unless it was revoked before. Whoever has not made it has to be an
    /// administrator still.
    ///
    /// # Errors
    /// The store.
    async fn revoke(&self, id: InvitationId, by: Actor, at: Timestamp) -> Result<Withdrawn, StoreError>;

    /// Removes invitations that had expired at a time. Returns how many.
    ///
    /// # Errors
    /// The store.
    async fn purge(&self, expired: Timestamp) -> Result<usize, StoreError>;
}
