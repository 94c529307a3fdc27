//! The books of one member: one for each conversation, and how the book is found that a frame is about.

use std::collections::HashMap;

use members_book::service::messaging::direct_conversation;
use protocol::{ConversationId, MemberId, model::Conversation};

use super::graph::Acquaintance;
use crate::book::Book;

/// The book of a conversation, and what is needed to write to the other member.
pub(super) struct Kept {
    pub(super) who: Acquaintance,
    pub(super) book: Book,
    /// What every message in this conversation has between the number of its request and its client id.
    pub(super) head: String,
}

/// The books of one member. A place is where a book is among them.
pub(super) struct Books {
    me: MemberId,
    /// Ascending by the number of the conversation.
    all: Vec<Kept>,
    /// Where the books of conversations are whose id is known. Unused with a single book.
    by_id: HashMap<ConversationId, usize>,
    by_member: HashMap<MemberId, usize>,
}

impl Books {
    /// Empty ones; `others` ascend by the number of the conversation.
    pub(super) fn new(me: MemberId, others: &[(Acquaintance, MemberId)], of_fleet: bool) -> Self {
        let book = |other| if of_fleet { Book::new(me, other).of_fleet() } else { Book::new(me, other) };
        let kept = |(who, other): &(Acquaintance, MemberId)| Kept {
            who: *who,
            book: book(*other),
            head: format!(r#"","to":"{other}","client_id":""#),
        };
        let by_member = others.iter().enumerate().map(|(place, (_, other))| (*other, place)).collect();
        // Of several nodes a receipt may come before the message that it is about.
        let known = others.iter().enumerate().filter(|_| of_fleet);
        let by_id = known.map(|(place, (_, other))| (direct_conversation(me, *other), place)).collect();
        Self { me, all: others.iter().map(kept).collect(), by_id, by_member }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, place: usize) -> Option<&Kept> {
        self.all.get(place)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Kept> {
        self.all.get_mut(place)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Kept> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Kept> {
        self.all.iter_mut()
    }

    /// The place of a conversation by its number.
    pub(super) fn numbered(&self, conversation: usize) -> Option<usize> {
        if self.all.len() == 1 {
            return Some(0);
        }
        self.all.binary_search_by_key(&conversation, |kept| kept.who.conversation).ok()
    }

    /// The place of a conversation by its id, or, while that is not known, by who has written in it. With a single book it is
    /// that one, which notices itself what is not its own.
    pub(super) fn find(&mut self, id: ConversationId, sender: Option<MemberId>) -> Option<usize> {
        if self.all.len() == 1 {
            return Some(0);
        }
        if let Some(place) = self.by_id.get(&id) {
            return Some(*place);
        }
        let place = *self.by_member.get(&sender?)?;
        self.named(place, id).then_some(place)
    }

    /// The id of a conversation is known now. False if another one has it.
    pub(super) fn named(&mut self, place: usize, id: ConversationId) -> bool {
        self.all.len() == 1 || *self.by_id.entry(id).or_insert(place) == place
    }

    /// The place of a conversation that the server describes; none for those that this run is not about.
    pub(super) fn described(&mut self, state: &Conversation) -> Option<usize> {
        let other = state.members.iter().find(|watermarks| watermarks.member != self.me)?;
        let place = *self.by_member.get(&other.member)?;
        self.named(place, state.id).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{ClientMessageId, MessageId};
    use tokio::time::Instant;

    use super::*;
    use crate::book::Told;

    const ME: MemberId = MemberId::from_bytes([1; 12]);

    fn member(number: u8) -> MemberId {
        MemberId::from_bytes([number; 12])
    }

    fn conversation(number: u8) -> ConversationId {
        ConversationId::from_bytes([number; 12])
    }

    fn books(numbers: &[usize]) -> Books {
        let other = |number: &usize| {
            let who = Acquaintance { conversation: *number, side: 0, other: *number };
            (who, member(u8::try_from(*number).unwrap()))
        };
        Books::new(ME, &numbers.iter().map(other).collect::<Vec<_>>(), false)
    }

    fn told(number: u8, seq: u64, sender: MemberId) -> Told<'static> {
        let (id, client_id) = (MessageId::from_bytes([number; 12]), ClientMessageId::from_bytes([number; 16]));
        Told { id, conversation: conversation(number), seq, sender, client_id, content: "x", reply_to: None }
    }

    #[test]
    fn a_book_is_found_by_number_by_sender_and_then_by_id() {
        let mut books = books(&[7, 9, 40]);
        assert_eq!([7, 9, 40, 8].map(|number| books.numbered(number)), [Some(0), Some(1), Some(2), None]);
        assert_eq!(books.find(conversation(9), None), None, "nobody has written in it");
        assert_eq!(books.find(conversation(9), Some(member(9))), Some(1));
        assert_eq!(books.find(conversation(9), None), Some(1));
        assert_eq!(books.find(conversation(50), Some(member(50))), None, "who is not talked to");
    }

    #[test]
    fn two_members_are_not_in_one_conversation() {
        let mut books = books(&[7, 9]);
        assert!(books.named(0, conversation(1)) && books.named(0, conversation(1)));
        assert!(!books.named(1, conversation(1)));
    }

    #[test]
    fn each_conversation_has_rules_of_its_own() {
        let mut books = books(&[7, 9]);
        for number in [7, 9] {
            let place = books.find(conversation(number), Some(member(number))).unwrap();
            books.get_mut(place).unwrap().book.pushed(told(number, 1, member(number))).unwrap();
        }
        let book =
            |books: &mut Books, place| std::mem::replace(&mut books.get_mut(place).unwrap().book, Book::new(ME, ME));
        let (mut one, mut other) = (book(&mut books, 0), book(&mut books, 1));
        assert!(one.pushed(told(7, 1, member(7))).is_err(), "twice");
        other.send(told(9, 2, ME).client_id, 1, "x".to_owned(), Instant::now());
        assert!(one.accepted(told(9, 2, ME), false).is_err(), "sent in another conversation");
    }
}
