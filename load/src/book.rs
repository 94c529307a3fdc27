//! What a client knows of its conversation, and whether that is as the rules have it.
//!
//! The rules are those of `docs/protocol.md`: a log without holes that is the same for everybody and never changes, a
//! message stored once however often it is sent, watermarks that only grow, unread counts that are exact.

use std::{collections::HashMap, time::Duration};

use protocol::{
    ClientMessageId, ConversationId, MemberId, MessageId,
    model::{Conversation, Entry, Message, Watermarks},
    server::Receipt,
};
use tokio::time::Instant;

/// What is kept of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    id: MessageId,
    client_id: ClientMessageId,
    mine: bool,
}

/// A message of mine that is not acknowledged yet.
struct Pending {
    content: String,
    since: Instant,
    /// Whether it was sent more than once.
    again: bool,
}

/// A rule that was broken, in words.
pub(crate) type Broken = String;

/// What a client knows of its conversation with one other member.
pub(crate) struct Book {
    me: MemberId,
    pub(crate) other: MemberId,
    pub(crate) conversation: Option<ConversationId>,
    /// By `seq`, counted from zero here.
    log: Vec<Option<Known>>,
    known: usize,
    of_other: usize,
    pending: HashMap<ClientMessageId, Pending>,
    acknowledged: HashMap<ClientMessageId, u64>,
    last_push: u64,
    /// Whether this is not the first connection.
    reconnected: bool,
    /// The `last_seq` of the sync of this connection: what is missing up to there is being read from history.
    synced_to: u64,
    /// What the receipts of this connection said last. The first ones may have waited for the sync, and be older.
    receipts: [Watermarks; 2],
    mine: Watermarks,
    theirs: Watermarks,
}

impl Book {
    pub(crate) fn new(me: MemberId, other: MemberId) -> Self {
        let start = |member| Watermarks { member, delivered: 0, read: 0 };
        Self {
            me,
            other,
            conversation: None,
            log: Vec::new(),
            known: 0,
            of_other: 0,
            pending: HashMap::new(),
            acknowledged: HashMap::new(),
            last_push: 0,
            reconnected: false,
            synced_to: 0,
            receipts: [start(me), start(other)],
            mine: start(me),
            theirs: start(other),
        }
    }

    /// The newest entry that is known.
    pub(crate) fn last_seq(&self) -> u64 {
        self.log.len() as u64
    }

    /// Messages of the other that are known.
    pub(crate) fn of_other(&self) -> usize {
        self.of_other
    }

    /// Messages of mine that were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
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
        let newest = |mine: bool| {
            let place = self.log.iter().rposition(|entry| entry.is_some_and(|entry| entry.mine == mine));
            place.map_or(0, |place| place as u64 + 1)
        };
        (newest(true), newest(false))
    }

    /// I send a message.
    pub(crate) fn send(&mut self, client_id: ClientMessageId, content: String, now: Instant) {
        self.pending.insert(client_id, Pending { content, since: now, again: false });
    }

    /// There is a new connection, not the first one: what has to be sent again on it, in the order in which it was sent first.
    pub(crate) fn reconnected(&mut self) -> Vec<(ClientMessageId, String)> {
        let mut again: Vec<_> = self
            .pending
            .iter_mut()
            .map(|(id, pending)| {
                pending.again = true;
                (*id, pending.content.clone())
            })
            .collect();
        // Pushes come in the order of `seq` on each connection. An entry of the sync may be pushed as well.
        self.last_push = 0;
        self.receipts = [self.me, self.other].map(|member| Watermarks { member, delivered: 0, read: 0 });
        self.reconnected = true;
        // Version 7 UUIDs sort by time.
        again.sort_unstable_by_key(|(id, _)| *id);
        again
    }

    /// The content of a message that has to be sent again on the same connection.
    pub(crate) fn send_again(&mut self, client_id: ClientMessageId) -> Option<String> {
        let pending = self.pending.get_mut(&client_id)?;
        pending.again = true;
        Some(pending.content.clone())
    }

    /// The server acknowledged a message. Returns how long it took, the first time.
    pub(crate) fn accepted(
        &mut self,
        message: &Message,
        duplicate: bool,
        now: Instant,
    ) -> Result<Option<Duration>, Broken> {
        let was_known = self.log.get(place(message.seq)).copied().flatten().is_some();
        if was_known && !duplicate {
            return Err(format!("seq {} was stored before and is not called a duplicate", message.seq));
        }
        if let Some(first) = self.acknowledged.get(&message.client_id) {
            return if *first == message.seq {
                Ok(None)
            } else {
                Err(format!("one message has seq {first} and {}", message.seq))
            };
        }
        let Some(pending) = self.pending.remove(&message.client_id) else {
            return Err(format!("seq {} was acknowledged and never sent", message.seq));
        };
        if pending.content != message.content {
            return Err(format!("seq {} was stored with another content", message.seq));
        }
        if duplicate && !pending.again {
            return Err(format!("seq {} was sent once and is called a duplicate", message.seq));
        }
        self.learn(message)?;
        self.acknowledged.insert(message.client_id, message.seq);
        Ok(Some(now.duration_since(pending.since)))
    }

    /// A message was pushed.
    pub(crate) fn pushed(&mut self, message: &Message) -> Result<(), Broken> {
        // What an earlier connection sent is pushed to the one after it, as to any other device of mine.
        let sent_before = self.pending.get(&message.client_id).is_none_or(|pending| pending.again);
        if message.sender == self.me && !sent_before {
            return Err(format!("seq {} was pushed to the connection that sent it", message.seq));
        }
        if message.seq <= self.last_push {
            return Err(format!("seq {} was pushed after {}", message.seq, self.last_push));
        }
        self.last_push = message.seq;
        self.learn(message)?;
        // What is missing since the sync can only be mine and not acknowledged yet.
        let missing = self.log.iter().skip(place(self.synced_to + 1)).filter(|entry| entry.is_none()).count();
        if missing > self.pending.len() {
            return Err(format!("{missing} entries are missing before seq {}", message.seq));
        }
        Ok(())
    }

    /// Takes an entry, whichever way it came. Returns whether it was news.
    pub(crate) fn learn(&mut self, message: &Message) -> Result<bool, Broken> {
        let conversation = *self.conversation.get_or_insert(message.conversation);
        if message.conversation != conversation {
            return Err(format!("two conversations with one member: {conversation} and {}", message.conversation));
        }
        let mine = message.sender == self.me;
        if message.seq == 0 || (!mine && message.sender != self.other) {
            return Err(format!("seq {} of {}", message.seq, message.sender));
        }
        let news = Known { id: message.id, client_id: message.client_id, mine };
        if self.log.len() <= place(message.seq) {
            self.log.resize(place(message.seq) + 1, None);
        }
        let Some(entry) = self.log.get_mut(place(message.seq)) else { return Ok(false) };
        match entry {
            Some(known) if *known == news => Ok(false),
            Some(known) => Err(format!("seq {} was {known:?} and is {news:?}", message.seq)),
            None => {
                *entry = Some(news);
                self.known += 1;
                self.of_other += usize::from(!mine);
                Ok(true)
            }
        }
    }

    /// A watermark of the other moved.
    pub(crate) fn receipt(&mut self, receipt: &Receipt) -> Result<(), Broken> {
        let [of_mine, of_theirs] = &mut self.receipts;
        let (known, last) = match receipt.member {
            member if member == self.other => (&mut self.theirs, of_theirs),
            // As with messages: what an earlier connection said.
            member if member == self.me && self.reconnected => (&mut self.mine, of_mine),
            member => return Err(format!("a receipt of {member}")),
        };
        let moved = Watermarks { member: receipt.member, delivered: receipt.delivered, read: receipt.read };
        grown(*last, moved)?;
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
    pub(crate) fn synced(&mut self, state: &Conversation) -> Result<usize, Broken> {
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
            news += usize::from(self.learn(message)?);
        }
        if self.last_seq() == state.last_seq && self.missing().is_none() {
            let expected = self.unread(self.mine.read);
            if expected != state.unread {
                return Err(format!("{} unread instead of {expected}", state.unread));
            }
        }
        Ok(news)
    }

    /// Messages of the other after `read`, as far as they are known.
    pub(crate) fn unread(&self, read: u64) -> u64 {
        self.log.iter().skip(place(read + 1)).filter(|entry| entry.is_some_and(|entry| !entry.mine)).count() as u64
    }

    /// The newest entry that is missing, if one is.
    pub(crate) fn missing(&self) -> Option<u64> {
        if self.known == self.log.len() {
            return None;
        }
        self.log.iter().rposition(Option::is_none).map(|place| place as u64 + 1)
    }

    /// The whole log, read at the end by somebody who knew nothing: it is what was acknowledged and pushed.
    pub(crate) fn audit(&self, log: &[Message]) -> Result<(), Broken> {
        let seqs_are_whole = log.iter().zip(1..).all(|(message, seq)| message.seq == seq);
        if !seqs_are_whole {
            return Err("the log has a hole, or a seq twice".to_owned());
        }
        let mut ids = std::collections::HashSet::new();
        if !log.iter().all(|message| ids.insert((message.sender, message.client_id))) {
            return Err("a message is in the log twice".to_owned());
        }
        for message in log {
            let news = Known { id: message.id, client_id: message.client_id, mine: message.sender == self.me };
            if self.log.get(place(message.seq)).copied().flatten().is_some_and(|known| known != news) {
                return Err(format!("seq {} is not what it was", message.seq));
            }
        }
        for (client_id, seq) in &self.acknowledged {
            let stored = log.get(place(*seq)).filter(|message| message.client_id == *client_id);
            if stored.is_none_or(|message| message.sender != self.me) {
                return Err(format!("seq {seq} was acknowledged and is not there"));
            }
        }
        if (log.len() as u64) < self.last_seq() {
            return Err(format!("{} entries were seen and {} are there", self.last_seq(), log.len()));
        }
        Ok(())
    }
}

fn place(seq: u64) -> usize {
    usize::try_from(seq.saturating_sub(1)).unwrap_or(usize::MAX)
}

/// 0 <= read <= delivered, and both only grow.
fn grown(before: Watermarks, after: Watermarks) -> Result<(), Broken> {
    if after.read > after.delivered || after.read < before.read || after.delivered < before.delivered {
        return Err(format!("watermarks went from {before:?} to {after:?}"));
    }
    Ok(())
}
