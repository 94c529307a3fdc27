//! One member of the chat scenario: talks, listens, loses the connection, comes back, and checks.

use std::{sync::Arc, time::Duration};

use protocol::{
    ClientFrame, ClientMessageId, ConversationId, Cursor, Envelope, ErrorCode, RequestId, ServerFrame,
    client::{AuthRenew, HistoryGet, MessageDelivered, MessageRead, MessageSend, Ping},
    model::{Conversation, Entry, Message},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::Barrier, time::Instant};

use crate::{
    book::{Book, Broken},
    link::{Ended, Link},
    stats::{Count, Stats, Timing},
    target::{Account, Target},
};

/// The read buffer of a client, in bytes.
const READ_BUFFER: usize = 16 * 1024;
/// Frames between two heartbeats that bring a fresh cursor.
const FRAMES_PER_PING: u64 = 100;

/// What everybody in the scenario shares.
pub(crate) struct Talk {
    pub(crate) target: Target,
    pub(crate) stats: Stats,
    pub(crate) bar: indicatif::ProgressBar,
    /// Messages on their way at a time.
    pub(crate) window: usize,
    /// Characters of a message.
    pub(crate) size: usize,
    /// The chance to lose the connection with a frame, in a million.
    pub(crate) drops_per_million: u32,
    /// How long to try to come back.
    pub(crate) patience: Duration,
    pub(crate) started: Instant,
    pub(crate) start: Barrier,
}

/// One member.
pub(crate) struct Talker {
    talk: Arc<Talk>,
    account: Account,
    book: Book,
    /// Messages still to be sent for the first time.
    to_send: usize,
    /// Messages that the other is going to send.
    to_hear: usize,
    cursor: Option<Cursor>,
    /// What the server asked to send again later.
    put_off: Vec<(Instant, RequestId)>,
    frames: u64,
    random: StdRng,
}

/// Why a connection is left.
enum Leave {
    /// Everything is said and heard.
    Done,
    /// It was dropped on purpose.
    Dropped,
    /// It is gone.
    Ended(Ended),
}

impl From<Ended> for Leave {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

impl Talker {
    pub(crate) fn new(
        talk: Arc<Talk>,
        account: Account,
        other: &Account,
        to_send: usize,
        to_hear: usize,
        seed: u64,
    ) -> Self {
        let book = Book::new(account.id, other.id);
        let random = StdRng::seed_from_u64(seed);
        Self { talk, account, book, to_send, to_hear, cursor: None, put_off: Vec::new(), frames: 0, random }
    }

    /// Talks until everything is said, heard, delivered and read; then somebody who knows nothing reads it all.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        let mut link = self.connect().await?;
        self.talk.start.wait().await;
        while let Err(leave) = self.converse(&mut link).await {
            match leave {
                Leave::Done => break,
                Leave::Dropped => self.talk.stats.count(Count::Dropped),
                Leave::Ended(Ended::Foreign(what)) => return Err(what),
                Leave::Ended(_) => self.talk.stats.count(Count::Lost),
            }
            drop(link);
            link = self.connect().await?;
        }
        drop(link);
        self.audit().await
    }

    /// Opens a connection; tries again, waiting longer and longer, until the patience ends.
    async fn connect(&mut self) -> Result<Link, String> {
        let started = Instant::now();
        let mut wait = Duration::from_millis(20);
        loop {
            let token = &self.account.auth.access_token;
            let opening = Instant::now();
            let problem = match Link::open(self.talk.target.addr, token, "load", self.cursor.clone(), READ_BUFFER).await
            {
                Ok(mut link) => {
                    self.talk.stats.count(Count::Connected);
                    self.talk.stats.time(Timing::Sync, opening.elapsed());
                    match self.take_up(&mut link).await {
                        Ok(()) => return Ok(link),
                        Err(ended) => ended,
                    }
                }
                Err(ended) => ended,
            };
            if let Ended::Foreign(what) = problem {
                return Err(what);
            }
            if matches!(problem, Ended::Closed(4401)) {
                self.account.auth = self.talk.target.refresh(&self.account.auth.refresh_token).await?;
            }
            if started.elapsed() > self.talk.patience {
                return Err(format!("no way back to the server: {problem}"));
            }
            // Full jitter, or everybody comes at once.
            tokio::time::sleep(wait.mul_f64(self.random.random())).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }

    /// Takes the state of a new connection, and sends again what was not acknowledged on the old one.
    async fn take_up(&mut self, link: &mut Link) -> Result<(), Ended> {
        self.put_off.clear();
        let again = if self.cursor.is_some() { self.book.reconnected() } else { Vec::new() };
        for conversation in std::mem::take(&mut link.synced) {
            let news = self.book.synced(&conversation);
            match self.check(news) {
                Some(news) => (0..news).for_each(|_| self.talk.stats.count(Count::CaughtUp)),
                None => continue,
            }
            self.mark(link, conversation.id).await?;
        }
        self.cursor = Some(link.done.cursor.clone());
        for (client_id, content) in again {
            self.talk.stats.count(Count::Retried);
            self.queue_message(link, client_id, content).await?;
        }
        self.fill_gap(link).await?;
        link.flush().await
    }

    /// Talks and listens on one connection.
    async fn converse(&mut self, link: &mut Link) -> Result<(), Leave> {
        let heartbeat = Duration::from_millis(link.welcome.heartbeat_ms.into());
        let mut next_ping = Instant::now() + heartbeat;
        loop {
            while self.to_send > 0 && self.book.pending() < self.talk.window {
                self.to_send -= 1;
                self.say(link).await?;
            }
            link.flush().await?;
            if self.is_done() {
                return Err(Leave::Done);
            }
            let wake = self.put_off.iter().map(|(when, _)| *when).min().map_or(next_ping, |when| when.min(next_ping));
            let wait = wake.saturating_duration_since(Instant::now());
            match tokio::time::timeout(wait, link.next()).await {
                Ok(envelope) => self.hear(link, envelope?).await?,
                Err(_) => self.send_put_off(link).await?,
            }
            self.frames += 1;
            if Instant::now() >= next_ping || self.frames.is_multiple_of(FRAMES_PER_PING) {
                link.queue(id("ping"), ClientFrame::Ping(Ping {})).await?;
                next_ping = Instant::now() + heartbeat;
            }
            if self.talk.drops_per_million > 0 && self.random.random_ratio(self.talk.drops_per_million, 1_000_000) {
                return Err(Leave::Dropped);
            }
        }
    }

    /// Everything is said and acknowledged, everything is heard, and both have read it all.
    fn is_done(&self) -> bool {
        let (theirs, mine) = self.book.read();
        let (newest_mine, newest_of_other) = self.book.newest();
        self.to_send == 0
            && self.book.pending() == 0
            && self.book.of_other() == self.to_hear
            && theirs >= newest_mine
            && mine >= newest_of_other
    }

    async fn say(&mut self, link: &mut Link) -> Result<(), Ended> {
        let client_id = ClientMessageId::from_uuid(uuid::Uuid::now_v7());
        let now = Instant::now();
        // The time travels in the content, so that the receiver can tell how long it took.
        let mut content = format!("{} ", now.duration_since(self.talk.started).as_micros());
        content.extend(std::iter::repeat_n('x', self.talk.size.saturating_sub(content.len())));
        self.book.send(client_id, content.clone(), now);
        self.talk.stats.count(Count::Sent);
        self.queue_message(link, client_id, content).await
    }

    async fn queue_message(&self, link: &mut Link, client_id: ClientMessageId, content: String) -> Result<(), Ended> {
        let send = MessageSend { to: Some(self.book.other), conversation: None, client_id, content };
        link.queue(id(&format!("send {client_id}")), ClientFrame::MessageSend(send)).await
    }

    async fn hear(&mut self, link: &mut Link, envelope: Envelope) -> Result<(), Ended> {
        let now = Instant::now();
        let stats = &self.talk.stats;
        match envelope.frame {
            ServerFrame::MessageAccepted(accepted) => {
                stats.count(Count::Acknowledged);
                if accepted.duplicate {
                    stats.count(Count::Duplicate);
                }
                self.talk.bar.inc(1);
                let took = self.book.accepted(&accepted.message, accepted.duplicate, now);
                if let Some(Some(took)) = self.check(took) {
                    self.talk.stats.time(Timing::Acknowledgement, took);
                }
            }
            ServerFrame::MessagePush(push) => {
                if push.message.sender == self.book.other {
                    stats.count(Count::Pushed);
                }
                let sent = push.message.content.split(' ').next().and_then(|micros| micros.parse().ok());
                if let Some(sent) = sent {
                    let took = now.duration_since(self.talk.started).saturating_sub(Duration::from_micros(sent));
                    stats.time(Timing::Delivery, took);
                }
                let pushed = self.book.pushed(&push.message);
                self.check(pushed);
                self.mark(link, push.message.conversation).await?;
            }
            ServerFrame::Receipt(receipt) => {
                stats.count(Count::Receipts);
                let moved = self.book.receipt(&receipt);
                self.check(moved);
            }
            ServerFrame::Okay(okay) => self.okay(envelope.id.as_ref(), okay.unread),
            ServerFrame::Pong(pong) => self.cursor = Some(pong.cursor),
            ServerFrame::History(history) => {
                for Entry::Message(message) in &history.entries {
                    let news = self.book.learn(message);
                    if self.check(news) == Some(true) {
                        self.talk.stats.count(Count::CaughtUp);
                    }
                }
                self.mark(link, history.conversation).await?;
                self.fill_gap(link).await?;
            }
            ServerFrame::AuthExpiring(_) => {
                // Whatever goes wrong here ends with the connection, and is taken up after it.
                if let Ok(auth) = self.talk.target.refresh(&self.account.auth.refresh_token).await {
                    let token = auth.access_token.clone();
                    self.account.auth = auth;
                    link.queue(id("renew"), ClientFrame::AuthRenew(AuthRenew { token })).await?;
                }
            }
            ServerFrame::Error(error) => self.refused(envelope.id, error.code, error.retry_after_ms, &error.message),
            // Close follows.
            ServerFrame::Goodbye(_) => {}
            other => self.broken(format!("{} was not asked for", other.frame_type())),
        }
        Ok(())
    }

    fn okay(&mut self, id: Option<&RequestId>, unread: Option<u64>) {
        let read = id.and_then(|id| id.as_str().strip_prefix("read ")).and_then(|seq| seq.parse().ok());
        let Some(read) = read else { return };
        self.book.marked(read);
        // There may be more by now than we know of, but never less.
        let expected = self.book.unread(read);
        match unread {
            None => self.broken("read was answered without unread".to_owned()),
            Some(unread) if unread > self.to_hear as u64 => self.broken(format!("{unread} unread")),
            Some(unread) if self.book.of_other() == self.to_hear && unread != expected => {
                self.broken(format!("{unread} unread instead of {expected}"));
            }
            Some(_) => {}
        }
    }

    /// Says delivered and read for everything that is known.
    async fn mark(&mut self, link: &mut Link, conversation: ConversationId) -> Result<(), Ended> {
        let (_, seq) = self.book.newest();
        if seq == 0 {
            return Ok(());
        }
        let delivered = MessageDelivered { conversation, seq };
        link.queue(id(&format!("delivered {seq}")), ClientFrame::MessageDelivered(delivered)).await?;
        let read = MessageRead { conversation, seq };
        link.queue(id(&format!("read {seq}")), ClientFrame::MessageRead(read)).await
    }

    /// Asks for the newest entries that are missing, if some are and they are not just on their way.
    async fn fill_gap(&mut self, link: &mut Link) -> Result<(), Ended> {
        if let (Some(conversation), Some(missing)) = (self.book.conversation, self.book.missing()) {
            let get = HistoryGet { conversation, before: Some(missing + 1), after: None, limit: Some(100) };
            link.queue(id("gap"), ClientFrame::HistoryGet(get)).await?;
        }
        Ok(())
    }

    fn refused(&mut self, id: Option<RequestId>, code: ErrorCode, retry_after_ms: Option<u64>, message: &str) {
        let later = matches!(
            code,
            ErrorCode::RateLimited
                | ErrorCode::Overloaded
                | ErrorCode::Unavailable
                | ErrorCode::Timeout
                | ErrorCode::Draining
        );
        match id {
            Some(id) if later => {
                self.talk.stats.count(Count::PutOff);
                let wait = Duration::from_millis(retry_after_ms.unwrap_or(200));
                self.put_off.push((Instant::now() + wait, id));
            }
            id => self.broken(format!("{code} for {id:?}: {message}")),
        }
    }

    /// Sends again what was put off and is due.
    async fn send_put_off(&mut self, link: &mut Link) -> Result<(), Ended> {
        let now = Instant::now();
        let due: Vec<RequestId> = self.put_off.extract_if(.., |(when, _)| *when <= now).map(|(_, id)| id).collect();
        let mut mark = false;
        for id in due {
            let client_id = id.as_str().strip_prefix("send ").and_then(|client_id| client_id.parse().ok());
            match client_id.and_then(|client_id| Some((client_id, self.book.send_again(client_id)?))) {
                Some((client_id, content)) => self.queue_message(link, client_id, content).await?,
                None => mark = true,
            }
        }
        match self.book.conversation {
            // Watermarks: the newest ones include those that were put off.
            Some(conversation) if mark => self.mark(link, conversation).await,
            _ => Ok(()),
        }
    }

    /// Reads the whole conversation as a new device, and compares it with the book.
    async fn audit(&mut self) -> Result<(), String> {
        let Some((state, log)) = self.read_all().await? else {
            if self.book.last_seq() > 0 {
                self.broken("the conversation is gone".to_owned());
            }
            return Ok(());
        };
        let synced = self.book.synced(&state);
        self.check(synced);
        if state.unread != 0 {
            self.broken(format!("{} unread after everything was read", state.unread));
        }
        let audited = self.book.audit(&log);
        self.check(audited);
        let expected = self.book.acknowledged() + self.to_hear;
        if log.len() != expected || state.last_seq != expected as u64 {
            self.broken(format!("{} entries instead of {expected}", log.len()));
        }
        Ok(())
    }

    /// The conversation and its whole log, as a device that knows nothing reads them. A server may be killed even now.
    async fn read_all(&self) -> Result<Option<(Conversation, Vec<Message>)>, String> {
        let started = Instant::now();
        loop {
            match self.try_read_all().await {
                Ok(found) => return Ok(found),
                Err(Ended::Foreign(what)) => return Err(what),
                Err(ended) if started.elapsed() > self.talk.patience => return Err(format!("the audit: {ended}")),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn try_read_all(&self) -> Result<Option<(Conversation, Vec<Message>)>, Ended> {
        let token = &self.account.auth.access_token;
        let mut link = Link::open(self.talk.target.addr, token, "auditor", None, READ_BUFFER).await?;
        let Some(state) = link.synced.first().cloned() else { return Ok(None) };
        let log = history(&mut link, state.id).await?;
        Ok(Some((state, log)))
    }

    fn check<T>(&self, result: Result<T, Broken>) -> Option<T> {
        result.map_err(|rule| self.broken(rule)).ok()
    }

    fn broken(&self, rule: impl std::fmt::Display) {
        self.talk.stats.broken(format!("member {}: {rule}", self.account.id));
    }
}

/// The whole log of a conversation.
async fn history(link: &mut Link, conversation: ConversationId) -> Result<Vec<Message>, Ended> {
    let mut log: Vec<Message> = Vec::new();
    loop {
        let after = Some(log.last().map_or(0, |message| message.seq));
        let get = HistoryGet { conversation, before: None, after, limit: Some(100) };
        link.queue(id("audit"), ClientFrame::HistoryGet(get)).await?;
        link.flush().await?;
        let page = loop {
            match link.next().await?.frame {
                ServerFrame::History(page) => break page,
                ServerFrame::Error(error) => return Err(Ended::Foreign(error.message)),
                _ => {}
            }
        };
        log.extend(page.entries.into_iter().map(|Entry::Message(message)| message));
        if !page.more {
            return Ok(log);
        }
    }
}

fn id(text: &str) -> RequestId {
    #[expect(clippy::expect_used, reason = "every id here has 1 to 64 characters")]
    text.parse().expect("an id of 1 to 64 characters")
}
