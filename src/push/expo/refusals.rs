//! Requests that are refused as a whole: because of something in them, or because of who sends them. Nobody says which it is. Something in them
//! is found by dividing them; who is refused whatever they send must not send more and more for that.
//!
//! Requests are counted and not addresses: with a wrong access token it is the requests that cost something, and they are to be few. But a member
//! registers what they like for up to 20 devices: those are found, however many they are, and asked for alone. So a member whose messages alone
//! were refused explains refusals, and what is explained does not count: a few members are never taken for everything. Each node counts what it
//! has sent itself: another one finds out with as few requests.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU32, Ordering},
};

use protocol::MemberId;
use quick_cache::sync::Cache;

/// Refusals in a row with nothing taken in between after which it is not something in the requests: one message among a hundred is found with 8.
const SOMETHING_MAX: u32 = 16;
/// Members of whom it is remembered that messages of theirs alone were refused.
const MEMBERS: usize = 1_000;

/// What a request is about, for who is told that it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// Several messages, of these members: any of them may be what is refused.
    Several(HashSet<MemberId>),
    /// One message of this member.
    One(MemberId),
    /// Nothing that says anything about others: a message that was refused alone before, or receipts.
    Known,
}

/// Refusals since something was taken.
#[derive(Debug)]
pub(super) struct Row {
    /// Those that nothing explains.
    refusals: AtomicU32,
    /// Members whose messages alone were refused, and for whom nothing was taken since.
    refused: Cache<MemberId, ()>,
}

impl Row {
    pub(super) fn new() -> Self {
        Self { refusals: AtomicU32::new(0), refused: Cache::new(MEMBERS) }
    }

    /// A request was refused.
    pub(super) fn refused(&self, scope: &Scope) {
        let alone = match scope {
            Scope::Known => return,
            Scope::Several(members) if members.iter().all(|member| self.has_refused(*member)) => return,
            Scope::One(member) if self.has_refused(*member) => return,
            Scope::Several(members) if members.len() == 1 => members.iter().next(),
            Scope::Several(_) => None,
            Scope::One(member) => Some(member),
        };
        if let Some(member) = alone {
            self.refused.insert(*member, ());
        }
        // It starts anew with the next one that is taken: nobody counts that far.
        self.refusals.fetch_add(1, Ordering::AcqRel);
    }

    /// A request was not.
    pub(super) fn answered(&self) {
        self.refusals.store(0, Ordering::Release);
    }

    /// A message of a member was taken.
    pub(super) fn taken(&self, member: MemberId) {
        self.refused.remove(&member);
    }

    /// Whether messages of this member alone were refused, and nothing was taken since.
    pub(super) fn has_refused(&self, member: MemberId) -> bool {
        self.refused.get(&member).is_some()
    }

    /// Whether everything is refused, as it seems.
    pub(super) fn is_everything(&self) -> bool {
        self.refusals.load(Ordering::Acquire) > SOMETHING_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_refused_when_a_few_members_cannot_be_why() {
        let member = |id: u8| MemberId::from_bytes([id; 12]);
        let (row, [ana, ben]) = (Row::new(), [1, 2].map(member));
        for _ in 0..2 * SOMETHING_MAX {
            row.refused(&Scope::One(ana));
            row.refused(&Scope::Several(HashSet::from([ben])));
            row.refused(&Scope::Several(HashSet::from([ana, ben])));
            row.refused(&Scope::Known);
        }
        assert!(!row.is_everything(), "they are all of two");
        row.answered();
        for _ in 0..=SOMETHING_MAX {
            assert!(!row.is_everything());
            row.refused(&Scope::Several(HashSet::from([ana, member(3)])));
        }
        assert!(row.is_everything(), "one of them was not refused alone");
        row.answered();
        row.taken(ana);
        for id in 0..SOMETHING_MAX {
            row.refused(&Scope::One(member(u8::try_from(100 + id).unwrap())));
        }
        assert!(!row.is_everything());
        row.refused(&Scope::One(ana));
        assert!(row.is_everything(), "they are many");
    }
}
