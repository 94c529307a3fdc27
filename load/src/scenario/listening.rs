//! What a member who talks makes of what it hears, and the audit at the end.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    ClientFrame, ConversationId, Envelope, ErrorCode, MemberId, RequestId, ServerFrame,
    client::HistoryGet,
    model::{Conversation, Entry, Message, Watermarks},
};
use rand::seq::SliceRandom as _;
use tokio::{net::TcpStream, time::Instant};

use super::{
    books::Books,
    talker::{Talker, Waiting},
};
use crate::{
    book::{Told, Verdict},
    link::{Link, decode},
    recorder::{Count, Timing},
    scan::{Hot, Sent, scan, scan_sent},
    wire::{Ended, Wire},
};

/// How long to wait before an audit is tried again.
const AGAIN: Duration = Duration::from_millis(200);

impl Talker {
    /// Takes a frame.
    pub(super) fn hear(&mut self, wire: &mut Wire<TcpStream>, text: &str) -> Result<(), Ended> {
        if self.talk.target.is_none() {
            return self.hear_relay(text);
        }
        let foreign = |error: protocol::ids::InvalidId| Ended::Foreign(error.to_string());
        match scan(text) {
            Some(Hot::Accepted { id, message, duplicate }) => {
                self.accepted(id, message.try_into().map_err(foreign)?, duplicate);
            }
            Some(Hot::Pushed { message }) => self.pushed(wire, message.try_into().map_err(foreign)?),
            Some(Hot::Receipt { conversation, member, delivered, read }) => {
                let member = member.parse().map_err(foreign)?;
                self.receipt(conversation.parse().map_err(foreign)?, Watermarks { member, delivered, read });
            }
            None => self.hear_parsed(wire, decode(text)?),
        }
        Ok(())
    }

    /// Takes a frame that was read the long way.
    pub(super) fn hear_parsed(&mut self, wire: &mut Wire<TcpStream>, envelope: Envelope) {
        match envelope.frame {
            ServerFrame::MessageAccepted(accepted) => {
                let id = envelope.id.as_ref().map(RequestId::as_str).unwrap_or_default();
                self.accepted(id, (&accepted.message).into(), accepted.duplicate);
            }
            ServerFrame::EntryPush(push) => {
                let Entry::Message(message) = &push.entry;
                self.pushed(wire, message.into());
            }
            ServerFrame::Receipt(receipt) => {
                let protocol::server::Receipt { conversation, member, delivered, read, .. } = receipt;
                self.receipt(conversation, Watermarks { member, delivered, read });
            }
            ServerFrame::Okay(okay) => self.okay(envelope.id.as_ref(), okay.unread, okay.last_seq),
            ServerFrame::Pong(pong) => {
                self.tally.count(Count::Beats);
                self.cursor = Some(pong.cursor);
            }
            ServerFrame::History(history) => {
                let Some(place) = self.place(history.conversation, None) else { return };
                for Entry::Message(message) in &history.entries {
                    if self.books.get(place).is_some_and(|kept| kept.book.was_owed(message)) {
                        self.talk.nodes.judged(Verdict { passed: 1, ..Verdict::default() });
                        self.broken(format!("the cursor passed over seq {} of {}", message.seq, message.conversation));
                    }
                    let news = self.books.get_mut(place).map(|kept| kept.book.learn(message.into())).transpose();
                    if self.check(news) == Some(Some(true)) {
                        self.tally.count(Count::CaughtUp);
                    }
                }
                self.mark(wire, place);
                self.fill_gap(wire, place);
            }
            ServerFrame::AuthExpiring(_) => {
                // The connection is closed when the token expires, and the next one begins with a fresh token.
            }
            ServerFrame::Error(error) => {
                self.refused(envelope.id.as_ref(), error.code, error.retry_after_ms, &error.message);
            }
            ServerFrame::Sync(sync) => self.swept(wire, sync),
            // Close follows.
            ServerFrame::Goodbye(goodbye) => self.asked_back(goodbye.retry_after_ms),
            other => self.broken(format!("{} was not asked for", other.frame_type())),
        }
    }

    /// A relay sends everything back to its sender, and to the other.
    fn hear_relay(&mut self, text: &str) -> Result<(), Ended> {
        let foreign = || Ended::Foreign(text.to_owned());
        let Sent { id, to, client_id, content } = scan_sent(text).ok_or_else(foreign)?;
        let place = request('s', id).and_then(|(conversation, _)| self.books.numbered(conversation));
        let kept = place.and_then(|place| self.books.get_mut(place)).ok_or_else(foreign)?;
        if to == self.name {
            kept.book.relayed();
            self.tally.count(Count::Pushed);
            self.time_delivery(content);
        } else {
            let due = kept.book.echoed(client_id.parse().map_err(|_| foreign())?);
            self.on_their_way = self.on_their_way.saturating_sub(usize::from(due.is_ok()));
            self.tally.count(Count::Acknowledged);
            if let Some(due) = self.check(due) {
                self.tally.time_since(Timing::Acknowledgement, due);
            }
        }
        Ok(())
    }

    /// The place of a conversation. That there is none breaks a rule.
    fn place(&mut self, conversation: ConversationId, sender: Option<MemberId>) -> Option<usize> {
        let place = self.books.find(conversation, sender);
        if place.is_none() {
            self.broken(format!("told of the conversation {conversation}, which is with nobody"));
        }
        place
    }

    fn accepted(&mut self, id: &str, message: Told<'_>, duplicate: bool) {
        self.tally.count(Count::Acknowledged);
        if duplicate {
            self.tally.count(Count::Duplicate);
        }
        let place = request('s', id).and_then(|(conversation, _)| self.books.numbered(conversation));
        let Some(place) = place.filter(|place| self.books.named(*place, message.conversation)) else {
            return self.broken(format!("{id} was acknowledged in another conversation"));
        };
        let Some(kept) = self.books.get_mut(place) else { return };
        let before = kept.book.pending();
        let due = kept.book.accepted(message, duplicate);
        // It is no longer on its way, even if what was said of it is wrong.
        self.on_their_way -= before - kept.book.pending();
        if let Some(Some(due)) = self.check(due) {
            self.tally.time_since(Timing::Acknowledgement, due);
            let who = self.books.get(place).map(|kept| kept.who);
            who.inspect(|who| self.talk.said.confirm(who.conversation, who.side, message.seq, 0));
            self.talk.nodes.accepted(self.wandering.node);
            if self.talk.nodes.is_compared() {
                self.talk
                    .nodes
                    .hops
                    .acknowledged(message.client_id)
                    .inspect(|took| self.tally.time(Timing::Hop, *took));
            }
        }
    }

    fn pushed(&mut self, wire: &mut Wire<TcpStream>, message: Told<'_>) {
        if message.sender != self.part.account.id {
            self.tally.count(Count::Pushed);
            self.time_delivery(message.content);
            if self.talk.nodes.is_compared() {
                self.talk.nodes.hops.pushed(message.client_id).inspect(|took| self.tally.time(Timing::Hop, *took));
            }
        }
        let Some(place) = self.place(message.conversation, Some(message.sender)) else { return };
        let pushed = self.books.get_mut(place).map(|kept| kept.book.pushed(message)).transpose();
        self.check(pushed);
        let late = self.books.get_mut(place).map_or(0, |kept| kept.book.take_late());
        self.tally.add(Count::Late, late);
        self.mark(wire, place);
    }

    fn receipt(&mut self, conversation: ConversationId, moved: Watermarks) {
        self.tally.count(Count::Receipts);
        let Some(place) = self.place(conversation, Some(moved.member)) else { return };
        let moved = self.books.get_mut(place).map(|kept| kept.book.receipt(moved)).transpose();
        self.check(moved);
    }

    fn okay(&mut self, id: Option<&RequestId>, unread: Option<u64>, last_seq: Option<u64>) {
        let Some((conversation, read)) = id.and_then(|id| request('r', id.as_str())) else { return };
        let Some(place) = self.books.numbered(conversation) else { return };
        let Some(kept) = self.books.get_mut(place) else { return };
        kept.book.marked(read);
        let expected = kept.book.unread_between(read, last_seq.unwrap_or(0));
        let Some(kept) = self.books.get(place) else { return };
        self.talk.said.confirm(kept.who.conversation, kept.who.side, 0, read);
        // Of what another node has stored, the answer may know before the push comes.
        let is_exact = if self.talk.alone && !self.is_of_fleet() {
            kept.book.is_first_connection()
        } else {
            kept.book.knows_all(read, last_seq.unwrap_or(0))
        };
        match unread {
            None => self.broken("read was answered without unread".to_owned()),
            // Everything up to `last_seq` was pushed before the watermark moved, so both sides count the same messages.
            Some(unread) if unread != expected && is_exact => {
                self.broken(format!("{unread} unread instead of {expected}"));
            }
            // After a reconnect, history may have told of messages that the answer does not know of yet.
            Some(unread) if unread > self.sent_by_other(kept) => self.broken(format!("{unread} unread")),
            Some(_) => {}
        }
    }

    /// Asks for the newest entries that are missing, if some are and they are not just on their way.
    pub(super) fn fill_gap(&self, wire: &mut Wire<TcpStream>, place: usize) {
        let Some(kept) = self.books.get(place) else { return };
        if let (Some(conversation), Some(missing)) = (kept.book.conversation, kept.book.missing()) {
            let get = HistoryGet { conversation, before: Some(missing + 1), after: None, limit: Some(100) };
            let id: Option<RequestId> = "gap".parse().ok();
            wire.queue(&[&ClientFrame::HistoryGet(get).encode(id.as_ref())]);
        }
    }

    fn refused(&mut self, id: Option<&RequestId>, code: ErrorCode, retry_after_ms: Option<u64>, message: &str) {
        let later = matches!(
            code,
            ErrorCode::RateLimited
                | ErrorCode::Overloaded
                | ErrorCode::Unavailable
                | ErrorCode::Timeout
                | ErrorCode::Draining
        );
        if !later {
            return self.broken(format!("{code} for {id:?}: {message}"));
        }
        self.tally.count(Count::PutOff);
        let id = id.map(RequestId::as_str).unwrap_or_default();
        let place = |books: &Books, kind| {
            let (conversation, number) = request(kind, id)?;
            Some((books.numbered(conversation)?, number))
        };
        let what = match place(&self.books, 's') {
            Some((place, number)) => Waiting::Message(place, number),
            None => Waiting::Marks(place(&self.books, 'r').map(|(place, _)| place)),
        };
        if matches!(code, ErrorCode::Timeout | ErrorCode::Unavailable) {
            for (place, kept) in self.books.iter_mut().enumerate() {
                match what {
                    Waiting::Message(at, number) if at == place => kept.book.left_open(Some(number)),
                    Waiting::Marks(at) if at.is_none_or(|at| at == place) => kept.book.left_open(None),
                    _ => {}
                }
            }
        }
        let wait = retry_after_ms.map_or_else(|| self.put_off_for(), Duration::from_millis);
        self.put_off.push((Instant::now() + wait, what));
    }

    /// Sends again what was put off and is due.
    pub(super) fn send_put_off(&mut self, wire: &mut Wire<TcpStream>) {
        let now = Instant::now();
        let due: Vec<Waiting> = self.put_off.extract_if(.., |(when, _)| *when <= now).map(|(_, what)| what).collect();
        for what in due {
            match what {
                Waiting::Message(place, number) => {
                    let again = self.books.get_mut(place).and_then(|kept| kept.book.send_again(number));
                    if let Some((client_id, content)) = again {
                        self.write_message(wire, place, client_id, number, &content);
                    }
                }
                // The newest watermarks include those that were put off.
                Waiting::Marks(Some(place)) => self.mark(wire, place),
                Waiting::Marks(None) => self.unconfirmed().into_iter().for_each(|place| self.mark(wire, place)),
            }
        }
    }

    /// Reads the conversations as a new device, and compares them with the books. Tries again when the server is killed.
    pub(super) async fn audit(&mut self) -> Result<(), String> {
        let started = Instant::now();
        loop {
            match self.try_audit().await {
                Ok(()) => return Ok(()),
                Err(Ended::Foreign(what)) => return Err(format!("the audit: {what}")),
                Err(ended) if started.elapsed() > self.talk.patience => return Err(format!("the audit: {ended}")),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    async fn try_audit(&mut self) -> Result<(), Ended> {
        let opening = self.opening().on("auditor");
        let mut link = opening.open(&self.part.account.token, None).await?;
        let (states, _) = link.states().await?;
        let mut found: BTreeMap<usize, Conversation> = BTreeMap::new();
        for state in states {
            if let Some(place) = self.books.described(&state) {
                self.audit_state(place, &state);
                found.insert(place, state);
            }
        }
        if self.books.iter().enumerate().any(|(place, kept)| kept.book.last_seq() > 0 && !found.contains_key(&place)) {
            self.broken("a conversation is gone");
        }
        let mut drawn: Vec<(usize, Conversation)> = found.into_iter().collect();
        let (drawn, _) = drawn.partial_shuffle(&mut self.random, self.talk.audited.conversations);
        for (place, state) in drawn {
            let first = state.last_seq.saturating_sub(self.talk.audited.entries);
            let log = read_after(&mut link, state.id, first).await?;
            self.audit_log(*place, first + 1, &log);
        }
        Ok(())
    }

    /// Compares a log with its book.
    fn audit_log(&mut self, place: usize, first: u64, log: &[Message]) {
        let Some(kept) = self.books.get(place) else { return };
        let audited = kept.book.audit(first, log);
        if self.is_of_fleet() {
            let verdict = kept.book.compare(first, log);
            self.talk.nodes.judged(verdict);
            if !verdict.is_good() {
                self.broken(format!("conversation {}: {verdict:?}", kept.who.conversation));
            }
        }
        self.check(audited);
    }

    /// Compares how a conversation ended with its book.
    fn audit_state(&mut self, place: usize, state: &Conversation) {
        let Some(kept) = self.books.get_mut(place) else { return };
        let synced = kept.book.synced(state);
        let (book, expected) = (&kept.book, kept.book.base() + kept.book.acknowledged() + kept.book.of_other());
        // What was there before this run is read only where somebody has written in it.
        let all_read = book.newest().1 > 0 || book.base() == 0;
        let whole = state.last_seq == expected && book.missing().is_none();
        self.check(synced);
        if self.talk.receipts && all_read && state.unread != 0 {
            self.broken(format!("{} unread after everything was read", state.unread));
        }
        if !whole {
            self.broken(format!("the log ends with {} instead of {expected}", state.last_seq));
        }
    }
}

/// The number of the conversation and the further number in the id of a request of ours, such as `s3-17`.
fn request(kind: char, id: &str) -> Option<(usize, u64)> {
    let (conversation, number) = id.strip_prefix(kind)?.split_once('-')?;
    Some((conversation.parse().ok()?, number.parse().ok()?))
}

/// The log of a conversation after an entry.
async fn read_after(link: &mut Link, conversation: ConversationId, first: u64) -> Result<Vec<Message>, Ended> {
    let mut log: Vec<Message> = Vec::new();
    loop {
        let after = Some(log.last().map_or(first, |message| message.seq));
        let get = HistoryGet { conversation, before: None, after, limit: Some(100) };
        let page = match link.ask(&ClientFrame::HistoryGet(get), |_| ()).await? {
            ServerFrame::History(page) => page,
            ServerFrame::Error(error) if error.retry_after_ms.is_some() => return Err(Ended::Broken(error.message)),
            other => return Err(Ended::Foreign(format!("{} instead of history", other.frame_type()))),
        };
        log.extend(page.entries.into_iter().map(|Entry::Message(message)| message));
        if !page.more {
            return Ok(log);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_request_says_which_conversation_it_is_about() {
        assert_eq!(request('s', "s3-17"), Some((3, 17)));
        assert_eq!(request('r', "r199999-4"), Some((199_999, 4)));
        for other in ["r3-17", "s3", "s-1", "gap", "", "s3-17-1"] {
            assert_eq!(request('s', other), None, "{other}");
        }
    }
}
