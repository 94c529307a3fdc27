//! The audit log: who did what to whom, when, from where. Append-only; only the addresses of a member who leaves are
//! removed from their entries.

use std::net::IpAddr;

use async_trait::async_trait;
use protocol::{
    MemberId, Timestamp,
    rest::{AuditAction, AuditActions},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    StoreError,
    changes::{Actor, Overtaken},
};

/// The detail in which an administrator says why; it goes when the member leaves.
pub const REASON: &str = "reason";

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
    /// To whom; nobody if it is about no member in particular.
    pub target: Option<MemberId>,
    /// What changed. No personal data, but for [`REASON`]: it outlives the member.
    pub details: Value,
    /// Where the request came from; nowhere for the command line, and of a member who has left.
    pub address: Option<IpAddr>,
}

/// What stores have in place of a target where there is none. No member has this id.
const NOBODY: MemberId = MemberId::from_bytes([0; 12]);

impl AuditRecord {
    /// Its target, as stores have it.
    pub(super) fn stored_target(&self) -> MemberId {
        self.target.unwrap_or(NOBODY)
    }

    /// The target that is stored as this.
    pub(super) fn target_of(stored: MemberId) -> Option<MemberId> {
        Some(stored).filter(|target| *target != NOBODY)
    }
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

/// Entries that one page looks at along an index when not all of what is asked for is in that: a page costs no more than that.
pub const EXAMINED: usize = 1_000;

/// Which entries of the audit log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By them.
    pub actor: Option<MemberId>,
    /// About them.
    pub target: Option<MemberId>,
    /// Of this action.
    pub action: Option<AuditAction>,
    /// Of none of these.
    pub not_action: AuditActions,
    /// Of this time or later.
    pub since: Option<Timestamp>,
    /// Of before this time.
    pub until: Option<Timestamp>,
}

/// The order of the audit log by time: when, and among those of the same moment the place.
pub type AuditMoment = (Timestamp, AuditPlace);

/// A page of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFound {
    /// The newest first. May be fewer than were asked for although there are more.
    pub entries: Vec<(AuditPlace, AuditRecord)>,
    /// What the next page is before; nothing at the end.
    pub next: Option<AuditMoment>,
}

/// The index along which entries are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuditIndex {
    /// Of entries by a member.
    Actor(MemberId),
    /// Of those about one.
    Target(MemberId),
    /// Of an action.
    Action(AuditAction),
    /// Of all.
    All,
}

impl AuditFilter {
    /// The index to look along: members have fewer entries than actions have.
    pub(super) fn index(&self) -> AuditIndex {
        match *self {
            Self { target: Some(target), .. } => AuditIndex::Target(target),
            Self { actor: Some(actor), .. } => AuditIndex::Actor(actor),
            Self { action: Some(action), .. } => AuditIndex::Action(action),
            _ => AuditIndex::All,
        }
    }

    /// What the entries of a page are before.
    pub(super) fn bound(&self, before: Option<AuditMoment>) -> Option<AuditMoment> {
        let until = self.until.map(|until| (until, AuditPlace(0)));
        before.into_iter().chain(until).min()
    }

    /// How many entries along the index are read for a page of so many.
    pub(super) fn examined(&self, limit: usize) -> usize {
        let fields = [self.actor.is_some(), self.target.is_some(), self.action.is_some()];
        let is_all_in_index =
            self.not_action.is_empty() && fields.into_iter().filter(|is_given| *is_given).count() <= 1;
        // With one more it is known whether there is a further page.
        if is_all_in_index { limit + 1 } else { EXAMINED.max(limit + 1) }
    }

    fn takes(&self, entry: &AuditRecord) -> bool {
        self.actor.is_none_or(|actor| entry.actor == Some(actor))
            && self.target.is_none_or(|target| entry.target == Some(target))
            && self.action.is_none_or(|action| entry.action == action)
            && !self.not_action.contains(entry.action)
    }

    /// The page of what was read along the index: [`Self::examined`] entries, or fewer at its end.
    pub(super) fn page(&self, read: Vec<(AuditPlace, AuditRecord)>, limit: usize) -> AuditFound {
        let (is_end, mut entries, mut last) = (read.len() < self.examined(limit), Vec::new(), None);
        let all = read.len();
        for (number, (place, entry)) in read.into_iter().enumerate() {
            last = Some((entry.at, place));
            if self.takes(&entry) {
                entries.push((place, entry));
            }
            if entries.len() == limit {
                let is_end = is_end && number + 1 == all;
                return AuditFound { entries, next: last.filter(|_| !is_end) };
            }
        }
        AuditFound { entries, next: last.filter(|_| !is_end) }
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

    /// Appends an entry about something that an administrator orders and that is not stored otherwise, if they still may order it.
    ///
    /// # Errors
    /// The store.
    async fn append_order(&self, record: AuditRecord, by: Actor) -> Result<Option<Overtaken>, StoreError>;

    /// Entries, the newest first, from a place on.
    ///
    /// # Errors
    /// The store.
    async fn entries(
        &self,
        before: Option<AuditPlace>,
        limit: usize,
    ) -> Result<Vec<(AuditPlace, AuditRecord)>, StoreError>;

    /// Those entries of a filter that are before a moment, the newest first.
    ///
    /// # Errors
    /// The store.
    async fn page(
        &self,
        filter: AuditFilter,
        before: Option<AuditMoment>,
        limit: usize,
    ) -> Result<AuditFound, StoreError>;

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

    /// Removes the addresses that a member has acted from, those of failed logins at their account, which may be theirs, and the reasons of
    /// their suspensions, from the next [`FORGOTTEN_AT_ONCE`] entries by them and about them after a place. Returns where to go on; nothing at the end.
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
