//! What a member who talks makes of what it hears, and the audit at the end.

use std::time::Duration;

use protocol::{
    ClientFrame, ErrorCode, RequestId, ServerFrame,
    client::HistoryGet,
    model::{Entry, Message, Watermarks},
};
use tokio::{net::TcpStream, time::Instant};

use super::talker::{Talker, Waiting};
use crate::{
    book::Told,
    link::{Link, decode},
    recorder::{Count, Timing},
    scan::{Hot, scan, scan_sent},
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
            Some(Hot::Accepted { message, duplicate, .. }) => {
                self.accepted(message.try_into().map_err(foreign)?, duplicate);
            }
            Some(Hot::Pushed { message }) => self.pushed(wire, message.try_into().map_err(foreign)?),
            Some(Hot::Receipt { member, delivered, read, .. }) => {
                let member = member.parse().map_err(foreign)?;
                self.receipt(Watermarks { member, delivered, read });
            }
            None => self.hear_slowly(wire, text)?,
        }
        Ok(())
    }

    fn hear_slowly(&mut self, wire: &mut Wire<TcpStream>, text: &str) -> Result<(), Ended> {
        let envelope = decode(text)?;
        match envelope.frame {
            ServerFrame::MessageAccepted(accepted) => self.accepted((&accepted.message).into(), accepted.duplicate),
            ServerFrame::MessagePush(push) => self.pushed(wire, (&push.message).into()),
            ServerFrame::Receipt(receipt) => {
                let protocol::server::Receipt { member, delivered, read, .. } = receipt;
                self.receipt(Watermarks { member, delivered, read });
            }
            ServerFrame::Okay(okay) => self.okay(envelope.id.as_ref(), okay.unread, okay.last_seq),
            ServerFrame::Pong(pong) => {
                self.tally.count(Count::Beats);
                self.cursor = Some(pong.cursor);
            }
            ServerFrame::History(history) => {
                for Entry::Message(message) in &history.entries {
                    let news = self.book.learn(message.into());
                    if self.check(news) == Some(true) {
                        self.tally.count(Count::CaughtUp);
                    }
                }
                self.mark(wire, history.conversation);
                self.fill_gap(wire);
            }
            ServerFrame::AuthExpiring(_) => {
                // The connection is closed when the token expires, and the next one begins with a fresh token.
            }
            ServerFrame::Error(error) => {
                self.refused(envelope.id.as_ref(), error.code, error.retry_after_ms, &error.message);
            }
            // Close follows.
            ServerFrame::Goodbye(_) => {}
            other => self.broken(format!("{} was not asked for", other.frame_type())),
        }
        Ok(())
    }

    /// A relay sends everything back to its sender, and to the other.
    fn hear_relay(&mut self, text: &str) -> Result<(), Ended> {
        let (to, client_id, content) = scan_sent(text).ok_or_else(|| Ended::Foreign(text.to_owned()))?;
        if to == self.part.account.id.to_string() {
            self.tally.count(Count::Pushed);
            self.time_delivery(content);
            self.book.relayed();
        } else {
            self.tally.count(Count::Acknowledged);
            let client_id = client_id.parse().map_err(|_| Ended::Foreign(text.to_owned()))?;
            let due = self.book.echoed(client_id);
            if let Some(due) = self.check(due) {
                self.tally.time_since(Timing::Acknowledgement, due);
            }
        }
        Ok(())
    }

    fn accepted(&mut self, message: Told<'_>, duplicate: bool) {
        self.tally.count(Count::Acknowledged);
        if duplicate {
            self.tally.count(Count::Duplicate);
        }
        let due = self.book.accepted(message, duplicate);
        if let Some(Some(due)) = self.check(due) {
            self.tally.time_since(Timing::Acknowledgement, due);
        }
    }

    fn pushed(&mut self, wire: &mut Wire<TcpStream>, message: Told<'_>) {
        if message.sender == self.part.other {
            self.tally.count(Count::Pushed);
            self.time_delivery(message.content);
        }
        let pushed = self.book.pushed(message);
        self.check(pushed);
        self.mark(wire, message.conversation);
    }

    /// The content begins with the time at which the message was due.
    fn time_delivery(&self, content: &str) {
        let due = content.split_once(' ').and_then(|(micros, _)| micros.parse().ok()).map(Duration::from_micros);
        if let Some(due) = due {
            self.tally.time_since(Timing::Delivery, self.talk.started + due);
        }
    }

    fn receipt(&mut self, moved: Watermarks) {
        self.tally.count(Count::Receipts);
        let moved = self.book.receipt(moved);
        self.check(moved);
    }

    fn okay(&mut self, id: Option<&RequestId>, unread: Option<u64>, last_seq: Option<u64>) {
        let read = id.and_then(|id| id.as_str().strip_prefix('r')).and_then(|seq| seq.parse().ok());
        let Some(read) = read else { return };
        self.book.marked(read);
        let expected = self.book.unread_between(read, last_seq.unwrap_or(0));
        match unread {
            None => self.broken("read was answered without unread".to_owned()),
            // Everything up to `last_seq` was pushed before the watermark moved, so both sides count the same messages.
            Some(unread) if unread != expected && self.book.is_first_connection() => {
                self.broken(format!("{unread} unread instead of {expected}"));
            }
            // After a reconnect, history may have told of messages that the answer does not know of yet.
            Some(unread) if unread > self.sent_by_other() => self.broken(format!("{unread} unread")),
            Some(_) => {}
        }
    }

    /// Asks for the newest entries that are missing, if some are and they are not just on their way.
    pub(super) fn fill_gap(&self, wire: &mut Wire<TcpStream>) {
        if let (Some(conversation), Some(missing)) = (self.book.conversation, self.book.missing()) {
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
        let number = id.and_then(|id| id.as_str().strip_prefix('s')).and_then(|number| number.parse().ok());
        if matches!(code, ErrorCode::Timeout | ErrorCode::Unavailable) {
            self.book.left_open(number);
        }
        let what = number.map_or(Waiting::Marks, Waiting::Message);
        let wait = Duration::from_millis(retry_after_ms.unwrap_or(200));
        self.put_off.push((Instant::now() + wait, what));
    }

    /// Sends again what was put off and is due.
    pub(super) fn send_put_off(&mut self, wire: &mut Wire<TcpStream>) {
        let now = Instant::now();
        let due: Vec<Waiting> = self.put_off.extract_if(.., |(when, _)| *when <= now).map(|(_, what)| what).collect();
        for what in due {
            match (what, self.book.conversation) {
                (Waiting::Message(number), _) => {
                    if let Some((client_id, content)) = self.book.send_again(number) {
                        self.write_message(wire, client_id, number, &content);
                    }
                }
                // Watermarks: the newest ones include those that were put off.
                (Waiting::Marks, Some(conversation)) => self.mark(wire, conversation),
                (Waiting::Marks, None) => {}
            }
        }
    }

    /// Reads the conversation as a new device, and compares it with the book. Tries again when the server is killed.
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
        let conversations = std::mem::take(&mut link.synced);
        let with_other = |watermarks: &Watermarks| watermarks.member == self.part.other;
        let Some(state) = conversations.iter().find(|state| state.members.iter().any(with_other)) else {
            if self.book.last_seq() > 0 {
                self.broken("the conversation is gone");
            }
            return Ok(());
        };
        let synced = self.book.synced(state);
        self.check(synced);
        if self.talk.receipts && state.unread != 0 {
            self.broken(format!("{} unread after everything was read", state.unread));
        }
        let expected = self.book.base() + self.book.acknowledged() + self.book.of_other();
        if state.last_seq != expected || self.book.missing().is_some() {
            self.broken(format!("the log ends with {} instead of {expected}", state.last_seq));
        }
        let first = state.last_seq.saturating_sub(self.talk.audited);
        let log = read_after(&mut link, state.id, first).await?;
        let audited = self.book.audit(first + 1, &log);
        self.check(audited);
        Ok(())
    }
}

/// The log of a conversation after an entry.
async fn read_after(
    link: &mut Link,
    conversation: protocol::ConversationId,
    first: u64,
) -> Result<Vec<Message>, Ended> {
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
