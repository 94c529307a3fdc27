//! Requests that are refused as a whole: because of something in them, or because of who sends them. Nobody says which it is. Something in them
//! is found by dividing them; who is refused whatever they send must not send more and more for that.

//!
//! Requests are counted and not members: with a wrong access token it is the requests that cost something, and they are to be few. But a member
//! registers what they like for up to 20 devices, and if there is one whose messages are in every request that was refused, it may be those: then
//! they are found, however many they are, and asked for alone. Each node counts what it has sent itself: another one finds out with as few requests.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use protocol::MemberId;

/// Refusals in a row with nothing taken in between after which it is not something in the requests: one message among a hundred is found with 8.
const SOMETHING_MAX: u32 = 16;

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
#[derive(Debug, Default)]
pub(super) struct Row(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    refusals: u32,
    /// Members whose messages were in all of them.
    suspects: HashSet<MemberId>,
}

impl Row {
    /// A request was refused.
    pub(super) fn refused(&self, scope: &Scope) {
        let Counted { refusals, suspects } = &mut *self.counted();
        match scope {
            Scope::Known => return,
            Scope::Several(members) if *refusals == 0 => suspects.clone_from(members),
            Scope::Several(members) => suspects.retain(|suspect| members.contains(suspect)),
            Scope::One(member) if *refusals == 0 => *suspects = HashSet::from([*member]),
            Scope::One(member) => suspects.retain(|suspect| suspect == member),
        }
        *refusals = refusals.saturating_add(1);
    }

    /// A request was not.
    pub(super) fn answered(&self) {
        *self.counted() = Counted::default();
    }

    /// Whether everything is refused, as it seems.
    pub(super) fn is_everything(&self) -> bool {
        let counted = self.counted();
        counted.refusals > SOMETHING_MAX && counted.suspects.is_empty()
    }

    /// Held for some instructions.
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_refused_when_no_single_member_may_be_why() {
        let (row, [ana, ben, cleo]) = (Row::default(), [1, 2, 3].map(|id| MemberId::from_bytes([id; 12])));
        row.refused(&Scope::Several(HashSet::from([ana, ben])));
        for _ in 0..2 * SOMETHING_MAX {
            row.refused(&Scope::One(ana));
        }
        assert!(!row.is_everything(), "they are all of one");
        row.refused(&Scope::Known);
        row.refused(&Scope::Several(HashSet::from([ana, cleo])));
        assert!(!row.is_everything());
        row.refused(&Scope::One(cleo));
        assert!(row.is_everything());
        row.answered();
        for _ in 0..SOMETHING_MAX {
            row.refused(&Scope::One(ana));
            row.refused(&Scope::One(ben));
        }
        assert!(row.is_everything());
    }
}
