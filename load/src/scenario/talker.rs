//! One member who talks with another: sends, listens, loses the connection, comes back, and checks.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::{ClientFrame, ClientMessageId, ConversationId, Cursor, MemberId, client::Ping};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::{Barrier, Semaphore},
    time::{Instant, sleep_until},
};

use crate::{
    book::{Book, Broken},
    client_ids::ClientIds,
    link::{Link, Opening},
    pace::{Due, Order},
    recorder::{Count, Recorder, Tally, Timing},
    target::{Account, Target},
    wire::{Ended, Wire},
};

/// Frames between two heartbeats that bring a fresh cursor.
const FRAMES_PER_PING: u64 = 1_000;
/// How often a heartbeat is sent, whatever else is.
const BEAT: Duration = Duration::from_secs(20);
/// How long the last watermark may take to be confirmed before it is sent again.
const CONFIRM: Duration = Duration::from_secs(1);

/// What everybody in a conversation shares.
pub(crate) struct Talk {
    pub(crate) recorder: Arc<Recorder>,
    /// None: a relay, which knows no protocol.
    pub(crate) target: Option<Target>,
    pub(crate) opening: Opening,
    /// Messages on their way at a time, in a closed loop.
    pub(crate) window: usize,
    /// Characters of a message.
    pub(crate) size: usize,
    pub(crate) client_ids: ClientIds,
    /// Whether every message is said to be delivered and read.
    pub(crate) receipts: bool,
    /// The chance to lose the connection with a frame, in a million.
    pub(crate) drops_per_million: u32,
    /// How long to try to come back.
    pub(crate) patience: Duration,
    /// Entries of a conversation that are read again at the end.
    pub(crate) audited: u64,
    pub(crate) started: Instant,
    pub(crate) start: Barrier,
    /// Those who may connect at the same time at the beginning.
    pub(crate) doors: Semaphore,
    /// When all connections were cut, and over how long they wait before they come back.
    pub(crate) cut: OnceLock<(Instant, Duration)>,
    /// How often somebody who has said everything looks whether all is heard.
    pub(crate) look: Duration,
    /// Nothing more is to be said.
    pub(crate) stop: AtomicBool,
}

/// What the two of a pair know of each other beside what the server tells them.
#[derive(Default)]
pub(crate) struct Pair {
    /// Messages that each has sent.
    sent: [AtomicU64; 2],
    /// Whether that was all.
    silent: [AtomicBool; 2],
}

impl Pair {
    fn sent(&self, side: usize) -> u64 {
        self.sent.get(side).map_or(0, |sent| sent.load(Ordering::Acquire))
    }

    fn all_sent(&self, side: usize) -> Option<u64> {
        let silent = self.silent.get(side).is_some_and(|silent| silent.load(Ordering::Acquire));
        silent.then(|| self.sent(side))
    }
}

/// Whom a member talks to, and how much.
pub(crate) struct Part {
    pub(crate) account: Account,
    pub(crate) other: MemberId,
    pub(crate) pair: Arc<Pair>,
    /// The number of the pair, and 0 or 1 within it.
    pub(crate) place: (usize, usize),
    /// How many messages; none: until the stop.
    pub(crate) quota: Option<u64>,
    /// When they are due; none: as soon as the window has room.
    pub(crate) due: Option<Due>,
    pub(crate) seed: u64,
    /// Where the connections come from, if that matters.
    pub(crate) from: Option<IpAddr>,
}

/// What is sent again later.
#[derive(Debug, Clone, Copy)]
pub(super) enum Waiting {
    Message(u64),
    Marks,
}

/// One member.
pub(crate) struct Talker {
    pub(super) talk: Arc<Talk>,
    pub(super) part: Part,
    pub(super) tally: Tally,
    pub(super) book: Book,
    /// What every message of this member begins with.
    head: String,
    padding: String,
    number: u64,
    pub(super) cursor: Option<Cursor>,
    /// What the server asked to send again later.
    pub(super) put_off: Vec<(Instant, Waiting)>,
    pub(super) reads: u64,
    frames: u64,
    /// When the next heartbeat is due, if nothing else is said.
    beat: Instant,
    /// When the last watermark is sent again, if it is not confirmed.
    confirm: Instant,
    /// The connection is to be dropped.
    cut: bool,
    recovered: bool,
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
    pub(crate) fn new(talk: Arc<Talk>, part: Part) -> Self {
        let (pair, side) = part.place;
        Self {
            tally: talk.recorder.tally(pair * 2 + side),
            book: Book::new(part.account.id, part.other),
            head: format!(r#"","to":"{}","client_id":""#, part.other),
            padding: "x".repeat(talk.size),
            number: 0,
            cursor: None,
            put_off: Vec::new(),
            reads: 0,
            frames: 0,
            beat: Instant::now() + BEAT,
            confirm: Instant::now(),
            cut: false,
            recovered: false,
            random: StdRng::seed_from_u64(part.seed),
            talk,
            part,
        }
    }

    /// Talks until everything is said and heard; then somebody who knows nothing reads it again.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        if self.talk.target.is_none() {
            return self.run_with_relay().await;
        }
        let talk = Arc::clone(&self.talk);
        let door = talk.doors.acquire().await.map_err(|error| error.to_string())?;
        let mut link = self.connect().await?;
        drop(door);
        // Until the first pong, this is where a sync would have to begin.
        self.cursor = Some(link.done.cursor.clone());
        for conversation in std::mem::take(&mut link.synced) {
            if conversation.members.iter().any(|watermarks| watermarks.member == self.part.other) {
                self.book.begin_after(&conversation);
            }
        }
        self.talk.start.wait().await;
        while let Err(leave) = self.converse(&mut link.wire).await {
            match leave {
                Leave::Done => break,
                Leave::Dropped => self.tally.count(Count::Dropped),
                Leave::Ended(Ended::Foreign(what)) => return Err(what),
                Leave::Ended(_) => self.tally.count(Count::Lost),
            }
            drop(link);
            link = self.connect().await?;
            self.take_up(&mut link);
        }
        drop(link);
        self.audit().await
    }

    async fn run_with_relay(&mut self) -> Result<(), String> {
        let (pair, side) = self.part.place;
        let socket = self.opening().socket(&format!("/{pair}/{side}")).await;
        let mut wire = socket.map_err(|ended| format!("the relay: {ended}"))?;
        self.talk.start.wait().await;
        match self.converse(&mut wire).await {
            Ok(()) | Err(Leave::Done | Leave::Dropped) => Ok(()),
            Err(Leave::Ended(ended)) => Err(format!("the relay: {ended}")),
        }
    }

    /// How this member's connections are opened.
    pub(super) fn opening(&self) -> Opening {
        Opening { from: self.part.from, ..self.talk.opening.clone() }
    }

    /// Opens a connection; tries again, waiting longer and longer, until the patience ends.
    async fn connect(&mut self) -> Result<Link, String> {
        let started = Instant::now();
        if let Some((_, spread)) = self.talk.cut.get().filter(|_| !self.recovered) {
            tokio::time::sleep(spread.mul_f64(self.random.random())).await;
        }
        let mut wait = Duration::from_millis(20);
        loop {
            let opening = Instant::now();
            let problem = match self.opening().open(&self.part.account.token, self.cursor.clone()).await {
                Ok(link) => {
                    self.tally.count(Count::Connected);
                    self.tally.time(Timing::Sync, opening.elapsed());
                    if let Some((cut, _)) = self.talk.cut.get().filter(|_| !self.recovered) {
                        self.tally.time(Timing::Recovery, cut.elapsed());
                        self.tally.count(Count::Recovered);
                        self.recovered = true;
                    }
                    return Ok(link);
                }
                Err(Ended::Foreign(what)) => return Err(what),
                Err(problem) => problem,
            };
            self.tally.count(Count::Refused);
            if let (Ended::Closed(4401), Some(target)) = (&problem, &self.talk.target) {
                target.refresh(&mut self.part.account).await?;
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
    fn take_up(&mut self, link: &mut Link) {
        self.put_off.clear();
        self.confirm = Instant::now();
        let again = self.book.reconnected();
        for conversation in std::mem::take(&mut link.synced) {
            let news = self.book.synced(&conversation);
            if let Some(news) = self.check(news) {
                self.tally.add(Count::CaughtUp, news);
                self.mark(&mut link.wire, conversation.id);
            }
        }
        self.cursor = Some(link.done.cursor.clone());
        for (client_id, number, content) in again {
            self.tally.count(Count::Retried);
            self.write_message(&mut link.wire, client_id, number, &content);
        }
        self.fill_gap(&mut link.wire);
    }

    /// Talks and listens on one connection.
    async fn converse(&mut self, wire: &mut Wire<tokio::net::TcpStream>) -> Result<(), Leave> {
        let alarm = sleep_until(Instant::now() + self.rest());
        tokio::pin!(alarm);
        loop {
            self.say_what_is_due(wire);
            if std::mem::take(&mut self.cut) {
                return Err(Leave::Dropped);
            }
            if self.is_done() {
                wire.flush().await?;
                return Err(Leave::Done);
            }
            let due = next_due(&mut self.part.due);
            tokio::select! {
                turned = wire.turn() => {
                    turned?;
                    while let Some(text) = wire.take()? {
                        self.frames += 1;
                        self.hear(wire, &text)?;
                        if self.talk.drops_per_million > 0
                            && self.random.random_ratio(self.talk.drops_per_million, 1_000_000)
                        {
                            return Err(Leave::Dropped);
                        }
                        if self.frames.is_multiple_of(FRAMES_PER_PING) {
                            self.beat(wire);
                        }
                    }
                }
                order = due => match order {
                    Some(order) => self.obey(wire, order),
                    // The pacer has ended, and with it the talk.
                    None => self.part.due = None,
                },
                () = alarm.as_mut() => {
                    self.send_put_off(wire);
                    self.tick(wire);
                    let rest = self.rest();
                    alarm.as_mut().reset(Instant::now() + rest);
                }
            }
        }
    }

    /// How long to do nothing when nothing happens.
    fn rest(&self) -> Duration {
        if self.is_silent() || self.part.quota.is_some() || !self.put_off.is_empty() {
            self.talk.look
        } else if self.part.due.is_some() {
            // Woken when there is something to do.
            self.beat.saturating_duration_since(Instant::now())
        } else {
            Duration::from_millis(100)
        }
    }

    /// Once everything is said: sees to it that the last watermark is confirmed.
    fn tick(&mut self, wire: &mut Wire<tokio::net::TcpStream>) {
        if let (true, true, Some(conversation)) = (self.is_silent(), self.talk.receipts, self.book.conversation)
            && self.book.read().1 < self.book.newest().1
            && self.confirm <= Instant::now()
        {
            self.confirm = Instant::now() + CONFIRM;
            self.reads = 0;
            self.mark(wire, conversation);
        }
        if self.beat <= Instant::now() {
            self.beat(wire);
        }
    }

    fn beat(&mut self, wire: &mut Wire<tokio::net::TcpStream>) {
        self.beat = Instant::now() + BEAT;
        if self.talk.target.is_some() {
            wire.queue(&[&ClientFrame::Ping(Ping {}).encode(None)]);
        }
    }

    /// Says what the window has room for, or what is due.
    fn say_what_is_due(&mut self, wire: &mut Wire<tokio::net::TcpStream>) {
        if self.is_silent() {
            return;
        }
        if self.talk.stop.load(Ordering::Relaxed) || self.part.quota == Some(0) {
            let (_, side) = self.part.place;
            if let Some(silent) = self.part.pair.silent.get(side) {
                silent.store(true, Ordering::Release);
            }
        } else if let Some(due) = &mut self.part.due {
            let orders: Vec<Order> = std::iter::from_fn(|| due.try_recv().ok()).collect();
            orders.into_iter().for_each(|order| self.obey(wire, order));
        } else if self.book.pending() < self.talk.window {
            let now = Instant::now();
            while self.book.pending() < self.talk.window && self.part.quota != Some(0) {
                self.say(wire, now);
            }
        }
    }

    fn obey(&mut self, wire: &mut Wire<tokio::net::TcpStream>, order: Order) {
        match order {
            Order::Send(due) => self.say(wire, due),
            Order::Cut => {
                // What is due is sent, and cut off on its way.
                let _ = futures_util::FutureExt::now_or_never(wire.flush());
                self.cut = true;
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.part.pair.all_sent(self.part.place.1).is_some()
    }

    /// Everything is said and acknowledged, everything is heard, and, if that is told, both have read it all.
    fn is_done(&self) -> bool {
        let all_heard = self.part.pair.all_sent(1 - self.part.place.1).is_some_and(|sent| self.book.of_other() == sent);
        let ((theirs, mine), (newest_mine, newest_of_other)) = (self.book.read(), self.book.newest());
        let all_read = !self.talk.receipts || (theirs >= newest_mine && mine >= newest_of_other);
        self.is_silent() && self.book.pending() == 0 && all_heard && all_read
    }

    fn say(&mut self, wire: &mut Wire<tokio::net::TcpStream>, due: Instant) {
        if self.part.quota == Some(0) || self.is_silent() {
            return;
        }
        let client_id = self.talk.client_ids.next(&mut self.random);
        self.number += 1;
        // The time travels in the content, so that the receiver can tell how long it took.
        let mut content = format!("{} ", due.duration_since(self.talk.started).as_micros());
        let padding = self.talk.size.saturating_sub(content.len());
        content.push_str(self.padding.get(..padding).unwrap_or_default());
        self.tally.count(Count::Sent);
        if self.part.due.is_some() {
            self.tally.time_since(Timing::Lag, due);
        }
        self.write_message(wire, client_id, self.number, &content);
        self.book.send(client_id, self.number, content, due);
        self.part.quota = self.part.quota.map(|left| left - 1);
        if let Some(sent) = self.part.pair.sent.get(self.part.place.1) {
            sent.fetch_add(1, Ordering::Release);
        }
    }

    pub(super) fn write_message(
        &self,
        wire: &mut Wire<tokio::net::TcpStream>,
        client_id: ClientMessageId,
        number: u64,
        content: &str,
    ) {
        let (number, client_id) = (number.to_string(), client_id.to_string());
        let start = r#"{"type":"message.send","id":"s"#;
        wire.queue(&[start, &number, &self.head, &client_id, r#"","content":""#, content, r#""}"#]);
    }

    /// Messages that the other has sent so far.
    pub(super) fn sent_by_other(&self) -> u64 {
        self.part.pair.sent(1 - self.part.place.1)
    }

    /// Says delivered and read for everything that is known.
    pub(super) fn mark(&mut self, wire: &mut Wire<tokio::net::TcpStream>, conversation: ConversationId) {
        let (_, seq) = self.book.newest();
        if seq == 0 || !self.talk.receipts {
            return;
        }
        let (conversation, number) = (conversation.to_string(), seq.to_string());
        let middle = r#","conversation":""#;
        wire.queue(&[r#"{"type":"message.delivered""#, middle, &conversation, r#"","seq":"#, &number, "}"]);
        // A reply is asked for now and then, to see whether the unread count in it is right.
        let asked = self.reads.is_multiple_of(16) || self.is_silent();
        let id = if asked { format!(r#","id":"r{seq}""#) } else { String::new() };
        wire.queue(&[r#"{"type":"message.read""#, &id, middle, &conversation, r#"","seq":"#, &number, "}"]);
        self.reads += 1;
    }

    pub(super) fn check<T>(&self, result: Result<T, Broken>) -> Option<T> {
        result.map_err(|rule| self.broken(rule)).ok()
    }

    pub(super) fn broken(&self, rule: impl std::fmt::Display) {
        self.tally.broken(format!("member {}: {rule}", self.part.account.id));
    }
}

/// What is to be done next; nothing, in a closed loop.
async fn next_due(due: &mut Option<Due>) -> Option<Order> {
    match due {
        Some(due) => due.recv().await,
        None => std::future::pending().await,
    }
}
