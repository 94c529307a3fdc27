//! What a client knows of its conversation when several nodes tell it.
//!
//! What other nodes have stored may come late, out of its turn, or with a sync that nobody asked for. What has to hold is this:
//! when a client keeps a cursor, everything that was stored before it is in its view. It shows when the client comes back with
//! that cursor: what the sync does not bring, and is missing nevertheless, was passed over.

use protocol::{
    limits,
    model::{Conversation, Entry, Message},
};

use super::{Book, Broken, Known, Told};

/// What a client that came back has to have had.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Owed {
    /// Everything up to this `seq` was stored before the cursor of the newest hello.
    to: u64,
    /// Pushes that came after one with a larger `seq`.
    late: u64,
}

/// What somebody found who compared a view with the log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Entries of the view that are not in the log, or are another one there.
    pub(crate) lost: u64,
    /// Messages that are in the log more than once.
    pub(crate) doubled: u64,
    /// Numbers that the log passes over, or has twice.
    pub(crate) holes: u64,
    /// Entries of the log that are not in the view.
    pub(crate) missing: u64,
    /// Entries that a cursor passed over before the client had them.
    pub(crate) passed: u64,
}

impl Verdict {
    pub(crate) fn is_good(self) -> bool {
        self == Self::default()
    }
}

impl Book {
    /// The same, for a conversation that several nodes serve.
    pub(crate) fn of_fleet(self) -> Self {
        Self { fleet: Some(Owed::default()), ..self }
    }

    /// Pushes that came after one with a larger `seq`, since this was asked last.
    pub(crate) fn take_late(&mut self) -> u64 {
        self.fleet.as_mut().map_or(0, |fleet| std::mem::take(&mut fleet.late))
    }

    /// A push of a fleet: what is missing before it may still come, with a push or a sync.
    pub(super) fn pushed_across(&mut self, message: Told<'_>) -> Result<(), Broken> {
        if message.seq == self.last_push {
            let whose = if message.sender == self.me { "own" } else { "the other's" };
            let (synced, reconnected) = (self.synced_to, self.reconnected);
            return Err(format!(
                "seq {}, {whose}, was pushed twice (synced to {synced}, reconnected: {reconnected})",
                message.seq
            ));
        }
        if message.seq < self.last_push {
            self.fleet.iter_mut().for_each(|fleet| fleet.late += 1);
        }
        self.last_push = self.last_push.max(message.seq);
        self.learn(message).map(drop)
    }

    /// A sync came that nobody asked for: state, which what was pushed may have overtaken. Returns how many entries were news.
    pub(crate) fn swept(&mut self, state: &Conversation) -> Result<u64, Broken> {
        let mut read = 0;
        for watermarks in &state.members {
            if watermarks.read > watermarks.delivered || watermarks.delivered > state.last_seq {
                return Err(format!("{watermarks:?} of {}", state.last_seq));
            }
            let mine = watermarks.member == self.me;
            let known = if mine { &mut self.mine } else { &mut self.theirs };
            known.delivered = known.delivered.max(watermarks.delivered);
            known.read = known.read.max(watermarks.read);
            if mine {
                read = watermarks.read;
            }
        }
        let mut news = 0;
        for Entry::Message(message) in &state.entries {
            if message.seq > state.last_seq {
                return Err(format!("seq {} in a sync that ends with {}", message.seq, state.last_seq));
            }
            let is_news = self.learn(message.into())?;
            if is_news && self.pending.iter().any(|pending| pending.client_id == message.client_id) {
                self.swept.insert(message.seq);
            }
            news += u64::from(is_news);
        }
        let expected = self.unread_between(read, state.last_seq);
        if self.knows_all(read, state.last_seq) && expected != state.unread {
            return Err(format!("{} unread instead of {expected} in a sync unasked", state.unread));
        }
        Ok(news)
    }

    /// Whether every entry after `read` up to `last` is known.
    pub(crate) fn knows_all(&self, read: u64, last: u64) -> bool {
        read >= self.base && (read + 1..=last).all(|seq| self.entry(seq).is_some())
    }

    /// The client came back with a cursor and was told what changed since; `state` is what was said of this conversation, if
    /// anything was, and `whole` whether the sync had room for everything. `stored` was in the log, and `read` was the
    /// watermark of the other, before the hello. What was missed by then is asked for like any gap; [`Self::was_owed`] tells.
    pub(crate) fn returned(
        &mut self,
        state: Option<&Conversation>,
        whole: bool,
        (stored, read): (u64, u64),
    ) -> Result<(), Broken> {
        let entries = state.map_or(&[][..], |state| &state.entries);
        let owed = match (state, entries.first()) {
            _ if !whole || entries.len() >= limits::SYNC_MISSED_ENTRIES => 0,
            (None, _) => self.last_seq().max(stored),
            (Some(_), Some(Entry::Message(first))) => first.seq.saturating_sub(1),
            (Some(state), None) => state.last_seq,
        };
        if let Some(fleet) = &mut self.fleet {
            fleet.to = owed;
        }
        if let Some(places) = self.place(owed).map(|last| last + 1)
            && places > self.log.len()
        {
            self.log.resize(places, None);
        }
        if state.is_none() && whole && self.theirs.read < read {
            let known = std::mem::replace(&mut self.theirs.read, read);
            self.theirs.delivered = self.theirs.delivered.max(read);
            return Err(format!("the cursor passed over the watermark {read}: {known} is known"));
        }
        Ok(())
    }

    /// Whether the client should have had an entry of the other when it kept its cursor, if it is news now.
    pub(crate) fn was_owed(&self, message: &Message) -> bool {
        self.fleet.is_some_and(|fleet| message.seq <= fleet.to) && self.is_news(message)
    }

    /// Whether a message of the other is not known yet.
    pub(crate) fn is_news(&self, message: &Message) -> bool {
        message.sender == self.other && message.seq > self.base && self.entry(message.seq).is_none()
    }

    /// Compares the view with the log, which somebody who knew nothing has read from `first` on.
    pub(crate) fn compare(&self, first: u64, log: &[Message]) -> Verdict {
        let mut verdict = Verdict::default();
        let (mut ids, mut expected) = (std::collections::HashSet::new(), first);
        for message in log {
            verdict.holes += message.seq.abs_diff(expected);
            expected = message.seq + 1;
            verdict.doubled += u64::from(!ids.insert((message.sender, message.client_id)));
            let entry = Known { id: message.id, client_id: message.client_id, mine: message.sender == self.me };
            match self.entry(message.seq) {
                None => verdict.missing += u64::from(message.seq > self.base),
                Some(known) => verdict.lost += u64::from(known != entry),
            }
        }
        verdict.lost += (expected..=self.last_seq()).filter(|seq| self.entry(*seq).is_some()).count() as u64;
        verdict
    }
}

#[cfg(test)]
mod tests {
    use protocol::{
        ClientMessageId, ConversationId, MemberId, MessageId, Timestamp,
        model::{ConversationKind, ConversationSettings, Watermarks},
    };

    use super::*;

    const ME: MemberId = MemberId::from_bytes([1; 12]);
    const OTHER: MemberId = MemberId::from_bytes([2; 12]);

    fn message(seq: u64) -> Message {
        let byte = u8::try_from(seq).unwrap();
        Message {
            id: MessageId::from_bytes([byte; 12]),
            conversation: ConversationId::from_bytes([9; 12]),
            seq,
            sender: OTHER,
            client_id: ClientMessageId::from_bytes([byte; 16]),
            content: "x".to_owned(),
            at: Timestamp::from_millis(0),
            reply_to: None,
        }
    }

    fn state(last_seq: u64, read: u64, unread: u64, entries: &[u64]) -> Conversation {
        Conversation {
            id: ConversationId::from_bytes([9; 12]),
            kind: ConversationKind::Direct,
            members: vec![
                Watermarks { member: ME, delivered: read, read },
                Watermarks { member: OTHER, delivered: 0, read: 0 },
            ],
            last_seq,
            unread,
            unread_more: false,
            last_at: Timestamp::from_millis(0),
            settings: ConversationSettings::default(),
            settings_revision: 0,
            entries: entries.iter().map(|seq| Entry::Message(message(*seq))).collect(),
        }
    }

    fn book(pushed: &[u64]) -> Book {
        let mut book = Book::new(ME, OTHER).of_fleet();
        pushed.iter().for_each(|seq| book.pushed((&message(*seq)).into()).unwrap());
        book
    }

    #[test]
    fn a_sync_unasked_fills_a_hole_and_lowers_nothing() {
        let mut book = book(&[1, 4]);
        assert_eq!(book.swept(&state(3, 1, 2, &[2, 3])), Ok(2));
        assert_eq!((book.last_seq(), book.missing()), (4, None));
        assert_eq!(book.swept(&state(3, 0, 3, &[2, 3])), Ok(0), "twice changes nothing");
        assert_eq!(book.read().1, 1);
        assert!(book.swept(&state(3, 1, 3, &[])).is_err(), "unread counts up to the end of the sync");
    }

    #[test]
    fn a_sync_unasked_may_bring_what_is_not_acknowledged_yet() {
        let mut book = Book::new(ME, OTHER);
        let mine = Message { sender: ME, ..message(1) };
        book.send(mine.client_id, 1, "x".to_owned(), tokio::time::Instant::now());
        let mut swept = state(1, 0, 0, &[]);
        swept.entries.push(Entry::Message(mine.clone()));
        assert_eq!(book.swept(&swept), Ok(1));
        assert!(book.accepted((&mine).into(), false).unwrap().is_some());
        assert_eq!(book.pending(), 0);
        assert!(book.accepted((&mine).into(), false).is_err(), "once");
    }

    #[test]
    fn what_the_cursor_passed_over_is_owed() {
        let mut book = book(&[1, 3]);
        book.returned(Some(&state(5, 0, 5, &[4, 5])), true, (5, 0)).unwrap();
        assert!(book.was_owed(&message(2)) && !book.was_owed(&message(4)) && !book.was_owed(&message(3)));

        let mut book = self::book(&[1, 2]);
        book.returned(None, true, (3, 0)).unwrap();
        assert!(book.was_owed(&message(3)), "nothing changed since the cursor, and 3 was there before the hello");
        assert_eq!(book.missing(), Some(3), "it is asked for");
        assert!(book.returned(None, true, (3, 2)).is_err(), "a watermark");

        book.returned(Some(&state(9, 0, 9, &[])), false, (9, 0)).unwrap();
        assert!(!book.was_owed(&message(3)), "a sync without room for everything says nothing");
    }

    #[test]
    fn a_view_is_compared_with_the_log() {
        let log = |seqs: &[u64]| seqs.iter().map(|seq| message(*seq)).collect::<Vec<_>>();
        let book = book(&[1, 2, 3]);
        assert!(book.compare(1, &log(&[1, 2, 3])).is_good());
        assert_eq!(book.compare(1, &log(&[1, 2, 3, 4])), Verdict { missing: 1, ..Verdict::default() });
        assert_eq!(book.compare(1, &log(&[1, 2])), Verdict { lost: 1, ..Verdict::default() });
        assert_eq!(book.compare(1, &log(&[1, 3])).holes, 1);
        let mut doubled = log(&[1, 2, 3]);
        doubled[2].client_id = doubled[1].client_id;
        assert_eq!(book.compare(1, &doubled).doubled, 1);
    }
}
