//! What a client knows of its conversation, and whether that is as the rules have it.
//!
//! The rules are those of `docs/protocol.md`: a log without holes that is the same for everybody and never changes, a
//! message stored once however often it is sent, watermarks that only grow, unread counts that are exact.

mod fleet;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use protocol::{
    ClientMessageId, ConversationId, MemberId, MessageId, limits,
    model::{Conversation, Entry, Message, Watermarks},
};
use tokio::time::Instant;

use crate::scan::Scanned;
pub(crate) use fleet::Verdict;

/// What is kept of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    id: MessageId,
    client_id: ClientMessageId,
    mine: bool,
}

/// A message of mine that is not acknowledged yet.
struct Pending {
    client_id: ClientMessageId,
    /// The same number is in the id of its request.
    number: u64,
    content: String,
    /// When it was to be sent.
    due: Instant,
    /// Whether it was sent more than once, or will be: what became of it the first time is not known.
    again: bool,
}

/// How long a node of a fleet may tell nothing of what it has stored until others do.
const AUTHOR_SILENT: Duration = Duration::from_secs(2);

/// A rule that was broken, in words.
pub(crate) type Broken = String;

/// What a frame says of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) id: MessageId,
    pub(crate) conversation: ConversationId,
    pub(crate) seq: u64,
    pub(crate) sender: MemberId,
    pub(crate) client_id: ClientMessageId,
    pub(crate) content: &'a str,
    pub(crate) reply_to: Option<u64>,
}

/// What stands in the content of a message that answers another, before its number and after the time that it begins with.
const ANSWERS: &str = "re:";

/// What is put into the content of a message that answers one, so that whoever reads it knows that.
pub(crate) fn note_of_answer(seq: u64) -> String {
    format!("{ANSWERS}{seq}")
}

/// The message that one with this content was sent as an answer to.
pub(crate) fn answered(content: &str) -> Option<u64> {
    let note = content.split_once(' ')?.1.strip_prefix(ANSWERS)?;
    let end = note.find(|c: char| !c.is_ascii_digit()).unwrap_or(note.len());
    note.get(..end)?.parse().ok()
}

impl<'a> From<&'a Message> for Told<'a> {
    fn from(message: &'a Message) -> Self {
        let Message { id, conversation, seq, sender, client_id, content, reply_to, .. } = message;
        let (id, conversation, sender, client_id) = (*id, *conversation, *sender, *client_id);
        Self { id, conversation, seq: *seq, sender, client_id, content, reply_to: *reply_to }
    }
}

impl<'a> TryFrom<Scanned<'a>> for Told<'a> {
    type Error = protocol::ids::InvalidId;

    fn try_from(scanned: Scanned<'a>) -> Result<Self, Self::Error> {
        Ok(Self {
            id: scanned.id.parse()?,
            conversation: scanned.conversation.parse()?,
            seq: scanned.seq,
            sender: scanned.sender.parse()?,
            client_id: scanned.client_id.parse()?,
            content: scanned.content,
            reply_to: scanned.reply_to,
        })
    }
}

/// What a client knows of its conversation with one other member.
pub(crate) struct Book {
    me: MemberId,
    pub(crate) other: MemberId,
    pub(crate) conversation: Option<ConversationId>,
    /// By `seq`, counted from `base`.
    log: Vec<Option<Known>>,
    /// Entries before those that this run is about.
    base: u64,
    known: usize,
    of_other: u64,
    acknowledged: u64,
    /// The `seq` of the newest message of mine, and of the other.
    newest: (u64, u64),
    /// In the order in which they were sent first, which is nearly always the order of their acknowledgements.
    pending: VecDeque<Pending>,
    last_push: u64,
    /// Whether this is not the first connection.
    reconnected: bool,
    /// Whether a watermark of mine may be told to me: an earlier connection moved it, or the server could not say in time
    /// whether it moved.
    hears_own_marks: bool,
    /// The `last_seq` of the sync of this connection: what is missing up to there is being read from history.
    synced_to: u64,
    /// What the receipts of this connection said last. The first ones may have waited for the sync, and be older.
    receipts: [Watermarks; 2],
    mine: Watermarks,
    theirs: Watermarks,
    /// Entries of mine that a sync unasked brought before their acknowledgement.
    swept: BTreeSet<u64>,
    /// What only a fleet of several nodes needs.
    fleet: Option<fleet::Owed>,
}

impl Book {
    pub(crate) fn new(me: MemberId, other: MemberId) -> Self {
        let start = |member| Watermarks { member, delivered: 0, read: 0 };
        Self {
            me,
            other,
            conversation: None,
            log: Vec::new(),
            base: 0,
            known: 0,
            of_other: 0,
            acknowledged: 0,
            newest: (0, 0),
            pending: VecDeque::new(),
            last_push: 0,
            reconnected: false,
            hears_own_marks: false,
            synced_to: 0,
            receipts: [start(me), start(other)],
            mine: start(me),
            theirs: start(other),
            swept: BTreeSet::new(),
            fleet: None,
        }
    }

    /// The conversation had entries before this run, which are taken as they are.
    pub(crate) fn begin_after(&mut self, state: &Conversation) {
        self.base = state.last_seq;
        self.conversation = Some(state.id);
        for watermarks in &state.members {
            let known = if watermarks.member == self.me { &mut self.mine } else { &mut self.theirs };
            *known = *watermarks;
        }
    }

    /// The newest entry that is known.
    pub(crate) fn last_seq(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    /// Entries before those that this run is about.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Whether the connection has not been lost so far.
    pub(crate) fn is_first_connection(&self) -> bool {
        !self.reconnected
    }

    /// Messages of the other that are known.
    pub(crate) fn of_other(&self) -> u64 {
        self.of_other
    }

    /// Messages of mine that were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Messages of mine that are on their way.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How far the other has read, and how far I have told that I have.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.theirs.read, self.mine.read)
    }

    /// The `seq` of the newest message of mine, and of the other.
    pub(crate) fn newest(&self) -> (u64, u64) {
        self.newest
    }

    /// A message that can be answered: the newest one of the other, else of mine.
    pub(crate) fn answerable(&self) -> Option<u64> {
        let (mine, theirs) = self.newest;
        [theirs, mine].into_iter().find(|seq| *seq > 0)
    }

    /// I send a message that was due at some time.
    pub(crate) fn send(&mut self, client_id: ClientMessageId, number: u64, content: String, due: Instant) {
        self.pending.push_back(Pending { client_id, number, content, due, again: false });
    }

    /// There is a new connection, not the first one: what has to be sent again on it, in the order in which it was sent first.
    pub(crate) fn reconnected(&mut self) -> Vec<(ClientMessageId, u64, String)> {
        // Pushes come in the order of `seq` on each connection. An entry of the sync may be pushed as well.
        self.last_push = 0;
        self.receipts = [self.me, self.other].map(|member| Watermarks { member, delivered: 0, read: 0 });
        self.reconnected = true;
        self.hears_own_marks = true;
        let again = |pending: &mut Pending| {
            pending.again = true;
            (pending.client_id, pending.number, pending.content.clone())
        };
        self.pending.iter_mut().map(again).collect()
    }

    /// The server could not say whether a message, or a watermark of mine, took effect. If it did, this connection is told
    /// like every other.
    pub(crate) fn left_open(&mut self, message: Option<u64>) {
        match message {
            Some(number) => {
                if let Some(pending) = self.pending.iter_mut().find(|pending| pending.number == number) {
                    pending.again = true;
                }
            }
            None => self.hears_own_marks = true,
        }
    }

    /// What has to be sent again on the same connection.
    pub(crate) fn send_again(&mut self, number: u64) -> Option<(ClientMessageId, String)> {
        let pending = self.pending.iter_mut().find(|pending| pending.number == number)?;
        pending.again = true;
        Some((pending.client_id, pending.content.clone()))
    }

    fn take_pending(&mut self, client_id: ClientMessageId) -> Option<Pending> {
        let place = self.pending.iter().position(|pending| pending.client_id == client_id)?;
        self.pending.remove(place)
    }

    /// A relay, which knows no protocol, sent a message of mine back. Returns when it was due.
    pub(crate) fn echoed(&mut self, client_id: ClientMessageId) -> Result<Instant, Broken> {
        let pending = self.take_pending(client_id).ok_or("the relay sent back what was not sent")?;
        self.acknowledged += 1;
        Ok(pending.due)
    }

    /// A relay brought a message of the other.
    pub(crate) fn relayed(&mut self) {
        self.of_other += 1;
    }

    /// The server acknowledged a message. Returns when it was due, the first time.
    pub(crate) fn accepted(&mut self, message: Told<'_>, duplicate: bool) -> Result<Option<Instant>, Broken> {
        let known = self.entry(message.seq);
        let is_swept = self.swept.remove(&message.seq);
        if known.is_some() && !duplicate && !is_swept {
            return Err(format!("seq {} was stored before and is not called a duplicate", message.seq));
        }
        let Some(pending) = self.take_pending(message.client_id) else {
            let same = known.is_some_and(|known| known.mine && known.client_id == message.client_id);
            return if same { Ok(None) } else { Err(format!("seq {} was acknowledged and never sent", message.seq)) };
        };
        if pending.content != message.content {
            return Err(format!("seq {} was stored with another content", message.seq));
        }
        if duplicate && !pending.again {
            return Err(format!("seq {} was sent once and is called a duplicate", message.seq));
        }
        self.learn(message)?;
        self.acknowledged += 1;
        Ok(Some(pending.due))
    }

    /// A message was pushed.
    pub(crate) fn pushed(&mut self, message: Told<'_>) -> Result<(), Broken> {
        // What an earlier connection sent is pushed to the one after it, as to any other device of mine.
        if message.sender == self.me {
            let pending = self.pending.iter().find(|pending| pending.client_id == message.client_id);
            // Another node that finds it in the log tells of it, if the one that has stored it does not for long.
            let is_told_for = |pending: &Pending| self.fleet.is_some() && pending.due.elapsed() > AUTHOR_SILENT;
            if pending.is_some_and(|pending| !pending.again && !is_told_for(pending)) {
                return Err(format!("seq {} was pushed to the connection that sent it", message.seq));
            }
        }
        if self.fleet.is_some() {
            return self.pushed_across(message);
        }
        if message.seq <= self.last_push {
            return Err(format!("seq {} was pushed after {}", message.seq, self.last_push));
        }
        self.last_push = message.seq;
        self.learn(message)?;
        if self.known == self.log.len() {
            return Ok(());
        }
        // What is missing since the sync can only be mine and not acknowledged yet.
        let missing = self.after(self.synced_to).filter(|entry| entry.is_none()).count();
        if missing > self.pending.len() {
            return Err(format!("{missing} entries are missing before seq {}", message.seq));
        }
        Ok(())
    }

    /// Takes an entry, whichever way it came. Returns whether it was news.
    pub(crate) fn learn(&mut self, message: Told<'_>) -> Result<bool, Broken> {
        let conversation = *self.conversation.get_or_insert(message.conversation);
        if message.conversation != conversation {
            return Err(format!("two conversations with one member: {conversation} and {}", message.conversation));
        }
        let mine = message.sender == self.me;
        if message.seq == 0 || (!mine && message.sender != self.other) {
            return Err(format!("seq {} of {}", message.seq, message.sender));
        }
        let answered = answered(message.content);
        if message.reply_to != answered {
            return Err(format!("seq {} answers {:?} and was sent with {answered:?}", message.seq, message.reply_to));
        }
        let news = Known { id: message.id, client_id: message.client_id, mine };
        let Some(place) = self.place(message.seq) else { return Ok(false) };
        if self.log.len() <= place {
            self.log.resize(place + 1, None);
        }
        let Some(entry) = self.log.get_mut(place) else { return Ok(false) };
        match entry {
            Some(known) if *known == news => Ok(false),
            Some(known) => Err(format!("seq {} was {known:?} and is {news:?}", message.seq)),
            None => {
                *entry = Some(news);
                self.known += 1;
                self.of_other += u64::from(!mine);
                let newest = if mine { &mut self.newest.0 } else { &mut self.newest.1 };
                *newest = (*newest).max(message.seq);
                Ok(true)
            }
        }
    }

    fn entry(&self, seq: u64) -> Option<Known> {
        self.log.get(self.place(seq)?).copied().flatten()
    }

    /// Where an entry is in `log`; nowhere, if it is older than this run.
    fn place(&self, seq: u64) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.base + 1)?).ok()
    }

    /// The entries after a `seq`, as far as they are known.
    fn after(&self, seq: u64) -> impl Iterator<Item = &Option<Known>> {
        let first = self.place(seq.max(self.base) + 1).unwrap_or_default();
        self.log.iter().skip(first)
    }

    /// A watermark of the other moved.
    pub(crate) fn receipt(&mut self, moved: Watermarks) -> Result<(), Broken> {
        let [of_mine, of_theirs] = &mut self.receipts;
        let (known, last) = match moved.member {
            member if member == self.other => (&mut self.theirs, of_theirs),
            // As with messages: what an earlier connection said, or what the server gave no answer to.
            member if member == self.me && self.hears_own_marks => (&mut self.mine, of_mine),
            member => return Err(format!("a receipt of {member}")),
        };
        if self.fleet.is_none() {
            grown(*last, moved)?;
        } else if moved.read > moved.delivered {
            return Err(format!("more is read than delivered: {moved:?}"));
        }
        *last = moved;
        known.delivered = known.delivered.max(moved.delivered);
        known.read = known.read.max(moved.read);
        Ok(())
    }

    /// The server acknowledged that I have read up to `seq`.
    pub(crate) fn marked(&mut self, seq: u64) {
        self.mine.delivered = self.mine.delivered.max(seq);
        self.mine.read = self.mine.read.max(seq);
    }

    /// A sync told the state of the conversation. Returns how many of its entries were news.
    pub(crate) fn synced(&mut self, state: &Conversation) -> Result<u64, Broken> {
        if state.last_seq < self.last_seq() {
            return Err(format!("the log ended with {} and ends with {} now", self.last_seq(), state.last_seq));
        }
        for watermarks in &state.members {
            if watermarks.delivered > state.last_seq {
                return Err(format!("delivered is {} of {}", watermarks.delivered, state.last_seq));
            }
            let known = if watermarks.member == self.me { &mut self.mine } else { &mut self.theirs };
            grown(*known, *watermarks)?;
            *known = *watermarks;
        }
        self.synced_to = state.last_seq;
        let mut news = 0;
        for Entry::Message(message) in &state.entries {
            news += u64::from(self.learn(message.into())?);
        }
        if self.base == 0 && self.last_seq() == state.last_seq && self.missing().is_none() {
            let expected = self.unread(self.mine.read);
            if expected != state.unread {
                return Err(format!("{} unread instead of {expected}", state.unread));
            }
        }
        Ok(news)
    }

    /// Messages of the other after `read`, as far as they are known; no more than the server tells.
    pub(crate) fn unread(&self, read: u64) -> u64 {
        self.unread_between(read, u64::MAX)
    }

    /// The same up to a `seq`.
    pub(crate) fn unread_between(&self, read: u64, last: u64) -> u64 {
        let entries = usize::try_from(last.saturating_sub(read.max(self.base))).unwrap_or(usize::MAX);
        let others = self.after(read).take(entries).filter(|entry| entry.is_some_and(|entry| !entry.mine));
        (others.count() as u64).min(limits::UNREAD_MAX)
    }

    /// The newest entry that is missing, if one is.
    pub(crate) fn missing(&self) -> Option<u64> {
        if self.known == self.log.len() {
            return None;
        }
        self.log.iter().rposition(Option::is_none).map(|place| self.base + place as u64 + 1)
    }

    /// The end of the log, from `first` on, read by somebody who knew nothing: it is what was acknowledged and pushed.
    pub(crate) fn audit(&self, first: u64, log: &[Message]) -> Result<(), Broken> {
        let seqs_are_whole = log.iter().zip(first..).all(|(message, seq)| message.seq == seq);
        if !seqs_are_whole {
            return Err("the log has a hole, or a seq twice".to_owned());
        }
        let mut ids = std::collections::HashSet::new();
        if !log.iter().all(|message| ids.insert((message.sender, message.client_id))) {
            return Err("a message is in the log twice".to_owned());
        }
        for message in log {
            let news = Known { id: message.id, client_id: message.client_id, mine: message.sender == self.me };
            if self.entry(message.seq).is_some_and(|known| known != news) {
                return Err(format!("seq {} is not what it was", message.seq));
            }
        }
        // With the seqs whole and every known entry the same, nothing that was acknowledged is missing.
        let last = first.saturating_sub(1) + log.len() as u64;
        if last < self.last_seq() {
            return Err(format!("entries up to {} were seen and up to {last} are there", self.last_seq()));
        }
        Ok(())
    }
}

/// 0 <= read <= delivered, and both only grow.
fn grown(before: Watermarks, after: Watermarks) -> Result<(), Broken> {
    if after.read > after.delivered || after.read < before.read || after.delivered < before.delivered {
        return Err(format!("watermarks went from {before:?} to {after:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: MemberId = MemberId::from_bytes([1; 12]);
    const OTHER: MemberId = MemberId::from_bytes([2; 12]);

    fn told(seq: u64, sender: MemberId) -> Told<'static> {
        let id = |byte| [u8::try_from(seq).unwrap(), byte, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let client_id = ClientMessageId::from_bytes([u8::try_from(seq).unwrap(); 16]);
        let (id, conversation) = (MessageId::from_bytes(id(1)), ConversationId::from_bytes([9; 12]));
        Told { id, conversation, seq, sender, client_id, content: "x", reply_to: None }
    }

    fn send(book: &mut Book, seq: u64) {
        book.send(told(seq, ME).client_id, seq, "x".to_owned(), Instant::now());
    }

    #[test]
    fn a_conversation_as_it_should_be_breaks_no_rule() {
        let mut book = Book::new(ME, OTHER);
        send(&mut book, 2);
        book.pushed(told(1, OTHER)).unwrap();
        // Mine is stored between theirs, and its answer comes last.
        book.pushed(told(3, OTHER)).unwrap();
        assert!(book.accepted(told(2, ME), false).unwrap().is_some());
        assert_eq!((book.of_other(), book.acknowledged(), book.unread(1), book.missing()), (2, 1, 1, None));
    }

    #[test]
    fn a_hole_a_double_and_a_change_are_noticed() {
        let mut book = Book::new(ME, OTHER);
        book.pushed(told(1, OTHER)).unwrap();
        assert!(book.pushed(told(3, OTHER)).is_err(), "2 is missing, and nothing of mine is on its way");
        assert!(book.pushed(told(3, OTHER)).is_err(), "twice");
        assert!(book.learn(Told { id: told(7, ME).id, ..told(1, OTHER) }).is_err(), "another message has its place");
        assert!(book.accepted(told(4, ME), false).is_err(), "never sent");
        send(&mut book, 4);
        assert!(book.accepted(Told { content: "y", ..told(4, ME) }, false).is_err(), "another content");
    }

    #[test]
    fn an_answer_answers_what_it_was_sent_with() {
        let content = format!("123@1 {}xx", note_of_answer(7));
        for (content, seq) in
            [(&*content, Some(7)), ("1 re:7", Some(7)), ("1 x", None), ("re:7", None), ("1 re:x", None)]
        {
            assert_eq!(answered(content), seq, "{content}");
        }
        let mut book = Book::new(ME, OTHER);
        assert_eq!(book.answerable(), None);
        book.pushed(told(1, OTHER)).unwrap();
        assert_eq!(book.answerable(), Some(1));
        let answer = |seq, reply_to| Told { content: "1 re:1", reply_to, ..told(seq, OTHER) };
        book.pushed(answer(2, Some(1))).unwrap();
        assert!(book.pushed(answer(3, None)).is_err() && book.learn(answer(4, Some(2))).is_err());
        assert!(book.learn(Told { reply_to: Some(1), ..told(5, OTHER) }).is_err(), "it was sent as no answer");
    }

    #[test]
    fn a_duplicate_is_one_only_after_a_retry() {
        let mut book = Book::new(ME, OTHER);
        send(&mut book, 1);
        assert!(book.accepted(told(1, ME), true).is_err());
        send(&mut book, 2);
        assert_eq!(book.reconnected().len(), 1);
        assert!(book.accepted(told(2, ME), true).is_ok());
    }

    /// The server answered `timeout`, and then it happened after all.
    #[test]
    fn what_was_left_open_is_told_like_anything_else() {
        let mut book = Book::new(ME, OTHER);
        send(&mut book, 1);
        book.left_open(Some(1));
        book.pushed(told(1, ME)).unwrap();
        assert!(book.accepted(told(1, ME), true).unwrap().is_some(), "the retry is a duplicate");
        let own = Watermarks { member: ME, delivered: 1, read: 1 };
        book.left_open(None);
        book.receipt(own).unwrap();
        send(&mut book, 2);
        assert!(book.pushed(told(2, ME)).is_err(), "this one was not left open");
    }

    #[test]
    fn watermarks_only_grow_and_read_implies_delivered() {
        let mut book = Book::new(ME, OTHER);
        let marks = |delivered, read| Watermarks { member: OTHER, delivered, read };
        book.receipt(marks(3, 2)).unwrap();
        assert!(book.receipt(marks(3, 1)).is_err());
        assert!(book.receipt(marks(4, 5)).is_err());
        assert!(
            book.receipt(Watermarks { member: ME, delivered: 1, read: 1 }).is_err(),
            "my own, and I have one device"
        );
    }
}
