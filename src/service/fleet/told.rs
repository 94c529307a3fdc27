//! What this node has delivered while it sweeps, so that a sweep does not deliver it again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use protocol::{ConversationId, MemberId, model::Watermarks};
use smallvec::SmallVec;

use crate::store::{
    conversations::{Appended, Configured, Marked, Outcome},
    fleet::ChangedConversation,
};

/// Conversations that are remembered: with more, all are forgotten, and delivered again. About 200 bytes each.
const REMEMBERED: usize = 100_000;

/// What was delivered of one conversation.
#[derive(Debug, Default)]
struct Delivered {
    /// Everything up to this entry was swept.
    swept: Option<u64>,
    /// Entries after that which were pushed.
    pushed: BTreeSet<u64>,
    /// The watermarks of its members, as far as they were told.
    marks: SmallVec<[Watermarks; 2]>,
    /// The revisions of what members have set, as far as they were told.
    revisions: SmallVec<[(MemberId, u64); 2]>,
    /// The sweep in which it was seen last, or before which it was pushed last.
    sweep: u64,
}

impl Delivered {
    fn mark(&mut self, Watermarks { member, delivered, read }: Watermarks) {
        match self.marks.iter_mut().find(|known| known.member == member) {
            Some(known) => {
                (known.delivered, known.read) = (known.delivered.max(delivered), known.read.max(read));
            }
            None => self.marks.push(Watermarks { member, delivered, read }),
        }
    }

    /// A receipt was pushed to all but the connection whose request moved something. When both watermarks are others than was told, one
    /// of them may have been moved by another node, and that connection does not know it: then nothing is taken for told.
    fn receipt(&mut self, Watermarks { member, delivered, read }: Watermarks) {
        let known = self.marks.iter_mut().find(|known| known.member == member);
        if let Some(known) = known.filter(|known| known.delivered >= delivered || known.read >= read) {
            (known.delivered, known.read) = (known.delivered.max(delivered), known.read.max(read));
        }
    }

    fn configured(&mut self, member: MemberId, revision: u64) {
        match self.revisions.iter_mut().find(|(known, _)| *known == member) {
            Some((_, known)) => *known = revision.max(*known),
            None => self.revisions.push((member, revision)),
        }
    }

    fn knows(&self, (member, revision): (MemberId, u64)) -> bool {
        self.revisions.iter().any(|(known, told)| *known == member && *told >= revision)
    }

    fn has(&self, Watermarks { member, delivered, read }: Watermarks) -> bool {
        let known = self.marks.iter().find(|known| known.member == member);
        known.is_some_and(|known| known.delivered >= delivered && known.read >= read)
    }
}

/// What is missing of a conversation here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    /// Everything up to this entry was delivered; not known without it.
    pub(super) after: u64,
}

/// What was delivered of conversations that have changed lately. Keeps nothing while there are no sweeps.
#[derive(Default)]
pub struct Told {
    active: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    conversations: HashMap<ConversationId, Delivered>,
    sweep: u64,
}

impl Told {
    /// From now on it is remembered, or not any more.
    pub(super) fn activate(&self, active: bool) {
        if self.active.swap(active, Ordering::AcqRel) && !active {
            self.lock().conversations = HashMap::new();
        }
    }

    /// Forgets all: the log may have gone back.
    pub(super) fn forget(&self) {
        self.lock().conversations.clear();
    }

    /// Something was pushed by this node.
    pub fn pushed(&self, outcome: &Outcome) {
        if !self.active.load(Ordering::Acquire) {
            return;
        }
        match outcome {
            Outcome::Appended(Appended { duplicate: true, .. }) | Outcome::Refreshed => {}
            Outcome::Appended(Appended { message, .. }) => self.entry(message.conversation, message.seq),
            Outcome::Marked(Marked { conversation, member, delivered, read, moved: true, .. }) => {
                let watermarks = Watermarks { member: *member, delivered: *delivered, read: *read };
                self.change(*conversation, |known| known.receipt(watermarks));
            }
            Outcome::Configured(Configured { conversation, member, stored, changed: true }) => {
                self.change(*conversation, |known| known.configured(*member, stored.revision));
            }
            Outcome::Marked(_) | Outcome::Configured(_) => {}
        }
    }

    fn entry(&self, conversation: ConversationId, seq: u64) {
        self.change(conversation, |known| {
            known.pushed.insert(seq);
        });
    }

    fn change(&self, conversation: ConversationId, change: impl FnOnce(&mut Delivered)) {
        let mut known = self.lock();
        let Known { conversations, sweep } = &mut *known;
        if conversations.len() >= REMEMBERED && !conversations.contains_key(&conversation) {
            conversations.clear();
        }
        let delivered = conversations.entry(conversation).or_default();
        delivered.sweep = *sweep;
        change(delivered);
    }

    /// What is missing of a conversation; nothing if all of it was delivered.
    pub(super) fn missing(&self, changed: &ChangedConversation) -> Option<Missing> {
        let mut known = self.lock();
        let Known { conversations, sweep } = &mut *known;
        let Some(delivered) = conversations.get_mut(&changed.id) else { return Some(Missing { after: 0 }) };
        delivered.sweep = *sweep;
        let Some(swept) = delivered.swept else { return Some(Missing { after: 0 }) };
        let first = (swept + 1..=changed.last_seq).find(|seq| !delivered.pushed.contains(seq));
        let marks = changed.members.iter().all(|mark| delivered.has(*mark))
            && changed.revisions.iter().all(|revision| delivered.knows(*revision));
        match first {
            Some(first) => Some(Missing { after: first - 1 }),
            None if marks => None,
            None => Some(Missing { after: changed.last_seq }),
        }
    }

    /// A conversation was delivered as it is.
    pub(super) fn swept(&self, changed: &ChangedConversation) {
        self.change(changed.id, |known| {
            known.swept = known.swept.max(Some(changed.last_seq));
            known.pushed.retain(|seq| *seq > changed.last_seq);
            changed.members.iter().for_each(|mark| known.mark(*mark));
            changed.revisions.iter().for_each(|(member, revision)| known.configured(*member, *revision));
        });
    }

    /// A sweep has seen everything that changed lately: what it has not seen is forgotten.
    pub(super) fn end_sweep(&self) {
        let mut known = self.lock();
        let Known { conversations, sweep } = &mut *known;
        // One that was pushed while the sweep was read is seen by the next.
        conversations.retain(|_, delivered| delivered.sweep + 1 >= *sweep);
        *sweep += 1;
    }

    /// Held for some instructions, and never across a call that could panic.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use protocol::Timestamp;

    use super::*;
    use crate::position::Position;

    const ANA: MemberId = MemberId::from_bytes([1; 12]);
    const ONE: ConversationId = ConversationId::from_bytes([9; 12]);

    fn changed(last_seq: u64, read: u64) -> ChangedConversation {
        let members = vec![Watermarks { member: ANA, delivered: read, read }];
        let (revisions, last_at) = (Vec::new(), Timestamp::from_millis(0));
        ChangedConversation { id: ONE, changed: Position(1), members, revisions, last_seq, last_at }
    }

    #[test]
    fn what_was_pushed_or_swept_is_not_delivered_again() {
        let told = Told::default();
        told.activate(true);
        assert_eq!(told.missing(&changed(5, 0)), Some(Missing { after: 0 }), "nothing is known");
        told.swept(&changed(5, 0));
        assert_eq!(told.missing(&changed(5, 0)), None);
        told.entry(ONE, 7);
        assert_eq!(told.missing(&changed(7, 0)), Some(Missing { after: 5 }), "another node stored 6");
        told.entry(ONE, 6);
        assert_eq!(told.missing(&changed(7, 0)), None);
        assert_eq!(told.missing(&changed(7, 3)), Some(Missing { after: 7 }), "a watermark has moved elsewhere");
        told.swept(&changed(7, 3));
        assert_eq!(told.missing(&changed(7, 3)), None);
    }

    /// Found from outside: another node moved `read`, this one `delivered`, and whoever asked for that never heard of `read`.
    #[test]
    fn what_another_node_has_moved_is_not_taken_for_told_with_what_this_one_moves() {
        let receipt = |delivered, read| {
            let told = Told::default();
            told.activate(true);
            told.swept(&changed(5, 3));
            told.change(ONE, |known| known.receipt(Watermarks { member: ANA, delivered, read }));
            let members = vec![Watermarks { member: ANA, delivered, read }];
            told.missing(&ChangedConversation { members, ..changed(5, 3) })
        };
        assert_eq!((receipt(4, 3), receipt(3, 3)), (None, None));
        assert_eq!(receipt(5, 4), Some(Missing { after: 5 }));
    }

    #[test]
    fn settings_that_were_changed_elsewhere_are_delivered_once() {
        let told = Told::default();
        told.activate(true);
        let with = |revision| ChangedConversation { revisions: vec![(ANA, revision)], ..changed(5, 0) };
        told.swept(&with(1));
        assert_eq!((told.missing(&with(1)), told.missing(&with(2))), (None, Some(Missing { after: 5 })));
        told.change(ONE, |known| known.configured(ANA, 2));
        assert_eq!((told.missing(&with(2)), told.missing(&with(3))), (None, Some(Missing { after: 5 })));
    }

    #[test]
    fn what_no_sweep_sees_any_more_is_forgotten() {
        let told = Told::default();
        told.activate(true);
        told.swept(&changed(5, 0));
        for _ in 0..2 {
            told.end_sweep();
            assert_eq!(told.lock().conversations.len(), 1);
        }
        told.end_sweep();
        assert!(told.lock().conversations.is_empty());
        told.swept(&changed(5, 0));
        told.activate(false);
        assert!(told.lock().conversations.is_empty(), "nothing is kept while there are no sweeps");
    }
}
