//! One member who talks with others: sends, listens, loses the connection, comes back, and checks.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use protocol::{ClientFrame, ClientMessageId, Cursor, Envelope, client::Ping, model::Conversation};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep_until};

use super::{
    books::{Books, Kept},
    talk::{Part, Talk},
    wandering::{self, Wandering},
};
use crate::{
    book::{Broken, answered, note_of_answer},
    link::{Link, Opening},
    pace::{Due, Order},
    recorder::{Count, Tally, Timing},
    wire::{Ended, Wire},
};

/// Frames between two heartbeats that bring a fresh cursor.
const FRAMES_PER_PING: u64 = 1_000;
/// Messages of a member on their way at a time, before those that are measured.
const PRELOAD_WINDOW: usize = 16;
/// Of so many messages of a member one answers another.
const MESSAGES_PER_ANSWER: u64 = 8;
/// How often a heartbeat is sent, whatever else is.
const BEAT: Duration = Duration::from_secs(20);
/// How long the last watermark may take to be confirmed before it is sent again.
const CONFIRM: Duration = Duration::from_secs(1);

/// What is sent again later.
#[derive(Debug, Clone, Copy)]
pub(super) enum Waiting {
    /// A message, by the place of its conversation and its own number.
    Message(usize, u64),
    /// Watermarks, of the conversation at a place, or of whichever has some that are not confirmed.
    Marks(Option<usize>),
}

/// One member.
pub(crate) struct Talker {
    pub(super) talk: Arc<Talk>,
    pub(super) part: Part,
    pub(super) tally: Tally,
    pub(super) books: Books,
    /// This member's id, as it is written.
    pub(super) name: String,
    padding: String,
    number: u64,
    /// Messages that are not acknowledged yet, in all conversations.
    pub(super) on_their_way: usize,
    /// The first of the others in the order of their places who may still say something.
    listening_to: usize,
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
    pub(super) wandering: Wandering,
    pub(super) random: StdRng,
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
        let mut talker = Self::at_home(talk, part);
        talker.wandering.node = talker.talk.nodes.first(talker.part.member, &mut talker.random);
        talker
    }

    fn at_home(talk: Arc<Talk>, part: Part) -> Self {
        Self {
            tally: talk.recorder.tally(part.member),
            books: Books::new(part.account.id, &part.others, talk.nodes.is_fleet()),
            name: part.account.id.to_string(),
            padding: "x".repeat(talk.size),
            number: 0,
            on_their_way: 0,
            listening_to: 0,
            cursor: None,
            put_off: Vec::new(),
            reads: 0,
            frames: 0,
            beat: Instant::now() + BEAT,
            confirm: Instant::now(),
            cut: false,
            recovered: false,
            wandering: Wandering::default(),
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
        let (states, _) = link.states().await.map_err(|ended| ended.to_string())?;
        for state in states {
            if let Some(place) = self.books.described(&state)
                && let Some(kept) = self.books.get_mut(place)
            {
                kept.book.begin_after(&state);
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
            self.move_on().await;
            link = self.connect().await?;
            match link.states().await {
                Ok((states, pushes)) => self.take_up(&mut link, states, pushes),
                Err(Ended::Foreign(what)) => return Err(what),
                // It is lost already, which the next turn finds out.
                Err(_) => self.take_up(&mut link, Vec::new(), Vec::new()),
            }
        }
        drop(link);
        let _door = talk.doors.acquire().await.map_err(|error| error.to_string())?;
        if self.is_of_fleet() {
            self.move_on().await;
            let mut link = self.connect().await?;
            self.look_once_more(&mut link).await.map_err(|ended| format!("at the end: {ended}"))?;
        }
        self.audit().await
    }

    async fn run_with_relay(&mut self) -> Result<(), String> {
        let socket = self.opening().socket(&format!("/{}", self.name)).await;
        let mut wire = socket.map_err(|ended| format!("the relay: {ended}"))?;
        self.talk.start.wait().await;
        match self.converse(&mut wire).await {
            Ok(()) | Err(Leave::Done | Leave::Dropped) => Ok(()),
            Err(Leave::Ended(ended)) => Err(format!("the relay: {ended}")),
        }
    }

    /// How this member's connections are opened.
    pub(super) fn opening(&self) -> Opening {
        let shared = self.talk.opening.clone();
        let addr = self.talk.nodes.addr(self.wandering.node).unwrap_or(shared.addr);
        let patience = if self.is_of_fleet() { wandering::PATIENCE } else { shared.patience };
        Opening { addr, from: self.part.from, patience, ..shared }
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
            self.before_hello();
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
            self.move_on().await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }

    /// Takes the state of a new connection, and sends again what was not acknowledged on the old one.
    pub(super) fn take_up(&mut self, link: &mut Link, states: Vec<Conversation>, pushes: Vec<Envelope>) {
        self.put_off.clear();
        self.confirm = Instant::now();
        let mut again: Vec<_> = Vec::new();
        for (place, kept) in self.books.iter_mut().enumerate() {
            again.extend(
                kept.book
                    .reconnected()
                    .into_iter()
                    .map(|(client_id, number, content)| (number, place, client_id, content)),
            );
        }
        self.check_return(&states, link.done.full);
        for state in states {
            let Some(place) = self.books.described(&state) else { continue };
            let news = self.books.get_mut(place).map(|kept| kept.book.synced(&state)).transpose();
            if let Some(Some(news)) = self.check(news) {
                self.tally.add(Count::CaughtUp, news);
                self.mark(&mut link.wire, place);
            }
        }
        self.cursor = Some(link.done.cursor.clone());
        for envelope in pushes {
            self.hear_parsed(&mut link.wire, envelope);
        }
        // In the order in which they were sent first.
        again.sort_unstable_by_key(|(number, ..)| *number);
        for (number, place, client_id, content) in again {
            self.tally.count(Count::Retried);
            self.write_message(&mut link.wire, place, client_id, number, &content);
        }
        for place in 0..self.books.len() {
            self.fill_gap(&mut link.wire, place);
        }
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
                        self.heard();
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
                    self.listen_for_silence()?;
                    if self.is_settled() {
                        return Err(Leave::Done);
                    }
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
        if self.is_silent() && self.talk.receipts && self.confirm <= Instant::now() {
            let unconfirmed = self.unconfirmed();
            if !unconfirmed.is_empty() {
                self.confirm = Instant::now() + CONFIRM;
            }
            for place in unconfirmed {
                self.reads = 0;
                self.mark(wire, place);
            }
        }
        if self.beat <= Instant::now() {
            self.beat(wire);
        }
    }

    /// The places of conversations in which the last watermark is not confirmed.
    pub(super) fn unconfirmed(&self) -> Vec<usize> {
        let open = |kept: &Kept| kept.book.read().1 < kept.book.newest().1;
        self.books.iter().enumerate().filter(|(_, kept)| open(kept)).map(|(place, _)| place).collect()
    }

    fn beat(&mut self, wire: &mut Wire<tokio::net::TcpStream>) {
        self.beat = Instant::now() + if self.is_of_fleet() { wandering::BEAT } else { BEAT };
        self.mark_in_turn(wire);
        if self.talk.target.is_some() {
            self.asked();
            wire.queue(&[&ClientFrame::Ping(Ping {}).encode(None)]);
        }
    }

    /// Says what the window has room for, or what is due.
    fn say_what_is_due(&mut self, wire: &mut Wire<tokio::net::TcpStream>) {
        if self.is_silent() {
            return;
        }
        if self.talk.stop.load(Ordering::Relaxed) || self.part.quota == Some(0) {
            self.talk.said.fall_silent(self.part.member);
            return;
        }
        while self.on_their_way < PRELOAD_WINDOW && self.talk.preload.take() {
            self.say(wire, Instant::now());
        }
        if !self.talk.preload.is_over() {
            return;
        }
        if let Some(due) = &mut self.part.due {
            let orders: Vec<Order> = std::iter::from_fn(|| due.try_recv().ok()).collect();
            orders.into_iter().for_each(|order| self.obey(wire, order));
        } else if self.on_their_way < self.talk.window {
            let now = Instant::now();
            while self.on_their_way < self.talk.window && self.part.quota != Some(0) {
                self.say(wire, now);
            }
        }
    }

    fn obey(&mut self, wire: &mut Wire<tokio::net::TcpStream>, order: Order) {
        match order {
            Order::Send(_) if self.is_held_back() => self.tally.count(Count::HeldBack),
            Order::Send(due) => self.say(wire, due),
            Order::Cut => {
                // What is due is sent, and cut off on its way.
                let _ = futures_util::FutureExt::now_or_never(wire.flush());
                self.cut = true;
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.talk.said.is_silent(self.part.member)
    }

    /// Everything is said and acknowledged, everything is heard, and, if that is told, both have read it all.
    fn is_done(&mut self) -> bool {
        if !self.all_are_silent() {
            return false;
        }
        self.books.iter().all(|kept| {
            let ((theirs, mine), (newest_mine, newest_of_other)) = (kept.book.read(), kept.book.newest());
            let all_read = !self.talk.receipts || (theirs >= newest_mine && mine >= newest_of_other);
            kept.book.pending() == 0 && kept.book.of_other() == self.sent_by_other(kept) && all_read
        })
    }

    /// Everything of this member is said and acknowledged, and nobody else says anything more.
    pub(super) fn all_are_silent(&mut self) -> bool {
        if !self.is_silent() || self.on_their_way > 0 {
            return false;
        }
        // Who is silent stays so.
        while let Some(kept) = self.books.get(self.listening_to) {
            if !self.talk.said.is_silent(kept.who.other) {
                return false;
            }
            self.listening_to += 1;
        }
        true
    }

    fn say(&mut self, wire: &mut Wire<tokio::net::TcpStream>, due: Instant) {
        if self.part.quota == Some(0) || self.is_silent() {
            return;
        }
        // Each message goes to one of the others, drawn at random.
        let place = if self.books.len() > 1 { self.random.random_range(0..self.books.len()) } else { 0 };
        let client_id = self.talk.client_ids.next(&mut self.random);
        self.number += 1;
        // The time travels in the content, so that the receiver can tell how long it took.
        let mut content = self.stamp(due);
        // So does what it answers, so that everybody can tell whether they were told that.
        let answered = if self.number.is_multiple_of(MESSAGES_PER_ANSWER) { self.answerable(place) } else { None };
        if let Some(seq) = answered {
            content.push_str(&note_of_answer(seq));
            self.tally.count(Count::Answers);
        }
        let padding = self.talk.size.saturating_sub(content.len());
        content.push_str(self.padding.get(..padding).unwrap_or_default());
        self.tally.count(Count::Sent);
        if self.part.due.is_some() {
            self.tally.time_since(Timing::Lag, due);
        }
        self.write_message(wire, place, client_id, self.number, &content);
        self.part.quota = self.part.quota.map(|left| left - 1);
        if let Some(kept) = self.books.get_mut(place) {
            kept.book.send(client_id, self.number, content, due);
            self.on_their_way += 1;
            self.talk.said.count(kept.who.conversation, kept.who.side);
        }
    }

    /// A message of the conversation at a place that can be answered.
    fn answerable(&self, place: usize) -> Option<u64> {
        self.books.get(place)?.book.answerable()
    }

    /// Sends a message; what it answers is said in its content.
    pub(super) fn write_message(
        &self,
        wire: &mut Wire<tokio::net::TcpStream>,
        place: usize,
        client_id: ClientMessageId,
        number: u64,
        content: &str,
    ) {
        let Some(kept) = self.books.get(place) else { return };
        // The reply, which has the same id, says so which conversation it is about.
        let (id, client_id) = (format!("{}-{number}", kept.who.conversation), client_id.to_string());
        let start = r#"{"type":"message.send","id":"s"#;
        let end = answered(content).map(|seq| format!(r#"","reply_to":{seq}}}"#));
        let end = end.as_deref().unwrap_or(r#""}"#);
        wire.queue(&[start, &id, &kept.head, &client_id, r#"","content":""#, content, end]);
    }

    /// Messages that the other in a conversation has sent so far.
    pub(super) fn sent_by_other(&self, kept: &Kept) -> u64 {
        self.talk.said.sent(kept.who.conversation, 1 - kept.who.side)
    }

    /// Says delivered and read for everything that is known.
    pub(super) fn mark(&mut self, wire: &mut Wire<tokio::net::TcpStream>, place: usize) {
        if !self.talk.receipts || self.marks_later() {
            return;
        }
        let Some(kept) = self.books.get(place) else { return };
        let (Some(conversation), (_, seq @ 1..)) = (kept.book.conversation, kept.book.newest()) else { return };
        let (conversation, number) = (conversation.to_string(), seq.to_string());
        let middle = r#","conversation":""#;
        wire.queue(&[r#"{"type":"message.delivered""#, middle, &conversation, r#"","seq":"#, &number, "}"]);
        // A reply is asked for now and then, to see whether the unread count in it is right.
        let asked = self.reads.is_multiple_of(16) || self.is_silent();
        let id = if asked { format!(r#","id":"r{}-{seq}""#, kept.who.conversation) } else { String::new() };
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
