//! The audit log: who did what to whom, when, from where. Append-only; only the addresses of a member who leaves are
//! removed from their entries.

use std::net::IpAddr;

use async_trait::async_trait;
use protocol::{MemberId, Timestamp, rest::AuditAction};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StoreError;

/// Entries of which addresses are removed at a time, of those by a member and of those about them: so many hold nobody up who writes.
pub const FORGOTTEN_AT_ONCE: usize = 1_000;

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// Who; nobody for the command line, and for a login that failed.
    pub actor: Option<MemberId>,
    /// What.
    pub action: AuditAction,
    /// To whom.
    pub target: MemberId,
    /// What changed. No personal data: it outlives the member.
    pub details: Value,
    /// Where the request came from; nowhere for the command line, and of a member who has left.
    pub address: Option<IpAddr>,
}

/// The place of an entry in the audit log; larger is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AuditPlace(pub u64);

impl AuditPlace {
    /// What a page that ends before a place is bounded by; without one it is the newest.
    pub(super) fn bound(before: Option<Self>) -> i64 {
        before.map_or(i64::MAX, |Self(before)| i64::try_from(before).unwrap_or(i64::MAX))
    }
}

/// The audit log. What changes a member writes its entry together with the change ([`super::MemberStore::change`]).
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Appends an entry about something that is not stored otherwise.
    ///
    /// # Errors
    /// The store.
    async fn append(&self, record: AuditRecord) -> Result<(), StoreError>;

    /// Entries, the newest first, from a place on.
    ///
    /// # Errors
    /// The store.
    async fn entries(
        &self,
        before: Option<AuditPlace>,
        limit: usize,
    ) -> Result<Vec<(AuditPlace, AuditRecord)>, StoreError>;

    /// Entries after a place, the oldest first.
    ///
    /// A place that was taken may get its entry after a later place has got its own: whoever follows the log looks again at
    /// the last few.
    ///
    /// # Errors
    /// The store.
    async fn after(&self, after: AuditPlace, limit: usize) -> Result<Vec<(AuditPlace, AuditRecord)>, StoreError>;

    /// Entries about a member or by them, the newest first, from a place on.
    ///
    /// # Errors
    /// The store.
    async fn of_member(
        &self,
        member: MemberId,
        before: Option<AuditPlace>,
        limit: usize,
    ) -> Result<Vec<(AuditPlace, AuditRecord)>, StoreError>;

    /// Removes the addresses that a member has acted from, and those of failed logins at their account, which may be theirs, from the next
    /// [`FORGOTTEN_AT_ONCE`] entries by them and about them after a place. Returns where to go on; nothing at the end.
    ///
    /// # Errors
    /// The store.
    async fn forget_addresses(&self, member: MemberId, after: AuditPlace) -> Result<Option<AuditPlace>, StoreError>;
}

/// Up to where addresses are forgotten: the places of the entries by a member and of those about them, in their order, at most
/// [`FORGOTTEN_AT_ONCE`] of each. Nothing, if both are all that there are.
pub(super) fn forgotten_up_to(by: &[u64], about: &[u64]) -> Option<AuditPlace> {
    let last = |places: &[u64]| places.last().copied().filter(|_| places.len() >= FORGOTTEN_AT_ONCE);
    last(by).into_iter().chain(last(about)).min().map(AuditPlace)
}
