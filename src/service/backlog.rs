//! Entries that were found in logs and that others have not told of, on their way between the outcomes of a batch.

use std::collections::{HashMap, VecDeque};

use protocol::{ConnectionId, ConversationId, MessageId};

use super::asker::Asker;
use crate::store::conversations::{Appended, Outcome, Refusal, Untold};

/// The entries of each conversation, ascending by `seq`.
#[derive(Default)]
pub(super) struct Backlog {
    entries: HashMap<ConversationId, VecDeque<Untold>>,
    /// Who asks for one of them again in this batch, and is answered rather than told.
    origins: HashMap<MessageId, ConnectionId>,
}

impl Backlog {
    /// The entries that were found while a batch was applied.
    pub(super) fn new(untold: Vec<Untold>, outcomes: &[Result<Outcome, Refusal>], askers: &[Asker]) -> Self {
        let mut backlog = Self::default();
        // Nearly always.
        if untold.is_empty() {
            return backlog;
        }
        for each in untold {
            backlog.entries.entry(each.message.conversation).or_default().push_back(each);
        }
        for (outcome, asker) in outcomes.iter().zip(askers) {
            if let (Ok(Outcome::Appended(Appended { message, .. })), Some(origin)) = (outcome, asker.origin) {
                backlog.origins.insert(message.id, origin);
            }
        }
        backlog
    }

    /// Tells of the entries of a conversation up to a `seq`.
    pub(super) fn up_to(
        &mut self,
        conversation: ConversationId,
        seq: u64,
        tell: impl Fn(Untold, Option<ConnectionId>),
    ) {
        let Some(entries) = self.entries.get_mut(&conversation) else { return };
        while let Some(next) = entries.pop_front_if(|next| next.message.seq <= seq) {
            let origin = self.origins.get(&next.message.id).copied();
            tell(next, origin);
        }
    }

    /// Tells of what is left.
    pub(super) fn rest(mut self, tell: impl Fn(Untold, Option<ConnectionId>)) {
        let conversations: Vec<ConversationId> = self.entries.keys().copied().collect();
        for conversation in conversations {
            self.up_to(conversation, u64::MAX, &tell);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use protocol::{ClientMessageId, MemberId, Timestamp, model::ConversationKind};

    use super::*;
    use crate::store::{
        conversations::Membership,
        entries::{EntryBody, StoredEntry},
    };

    const ONE: ConversationId = ConversationId::from_bytes([1; 12]);
    const OTHER: ConversationId = ConversationId::from_bytes([2; 12]);
    const PHONE: ConnectionId = ConnectionId::from_bytes([7; 12]);

    fn message(conversation: ConversationId, seq: u8) -> StoredEntry {
        let [first, ..] = *conversation.as_bytes();
        StoredEntry {
            id: MessageId::from_bytes([seq * 16 + first; 12]),
            conversation,
            seq: seq.into(),
            sender: MemberId::from_bytes([3; 12]),
            client_id: ClientMessageId::from_bytes([seq; 16]),
            at: Timestamp::from_millis(0),
            body: EntryBody::Text(String::new()),
            reply_to: None,
        }
    }

    fn membership() -> Membership {
        Membership { kind: ConversationKind::Direct, members: [].into() }
    }

    fn untold(conversation: ConversationId, seq: u8) -> Untold {
        Untold { message: message(conversation, seq), ours: false, membership: membership() }
    }

    /// What was told, and to whom not.
    #[derive(Default)]
    struct Told(RefCell<Vec<(ConversationId, u64, Option<ConnectionId>)>>);

    impl Told {
        fn tell(&self, untold: &Untold, origin: Option<ConnectionId>) {
            self.0.borrow_mut().push((untold.message.conversation, untold.message.seq, origin));
        }
    }

    #[test]
    fn what_was_found_is_told_before_what_comes_after_it_in_its_own_conversation() {
        let found = vec![untold(ONE, 2), untold(ONE, 3), untold(ONE, 5), untold(OTHER, 1)];
        let mut backlog = Backlog::new(found, &[], &[]);
        let told = Told::default();
        backlog.up_to(ONE, 1, |untold, origin| told.tell(&untold, origin));
        assert!(told.0.take().is_empty(), "nothing is told too early");
        backlog.up_to(ONE, 4, |untold, origin| told.tell(&untold, origin));
        assert_eq!(told.0.take(), [(ONE, 2, None), (ONE, 3, None)]);
        backlog.up_to(ConversationId::from_bytes([9; 12]), 9, |untold, origin| told.tell(&untold, origin));
        backlog.rest(|untold, origin| told.tell(&untold, origin));
        let mut rest = told.0.take();
        rest.sort_unstable_by_key(|(conversation, ..)| *conversation);
        assert_eq!(rest, [(ONE, 5, None), (OTHER, 1, None)], "the others are told in the end");
    }

    #[test]
    fn who_asks_for_one_of_them_again_is_answered_and_not_told() {
        let again = Appended { message: message(ONE, 2), duplicate: true, membership: membership() };
        let outcomes = [Err(Refusal::MemberNotFound), Ok(Outcome::Appended(again))];
        let askers = [Asker::answered(ConnectionId::from_bytes([8; 12])), Asker::answered(PHONE)];
        let backlog = Backlog::new(vec![untold(ONE, 1), untold(ONE, 2)], &outcomes, &askers);
        let told = Told::default();
        backlog.rest(|untold, origin| told.tell(&untold, origin));
        assert_eq!(told.0.take(), [(ONE, 1, None), (ONE, 2, Some(PHONE))]);
    }
}
