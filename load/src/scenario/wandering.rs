//! A member who talks with a fleet: goes from node to node, gives a silent one up, and is compared with the log at the end.

use std::time::Duration;

use protocol::{
    limits,
    model::{Conversation, Entry},
    server::Sync,
};
use rand::Rng as _;
use tokio::{net::TcpStream, time::Instant};

use super::talker::Talker;
use crate::{
    link::Link,
    recorder::{Count, Timing},
    wire::{Ended, Wire, broken},
};

/// How often a heartbeat is sent: each brings a cursor.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// How long a heartbeat may stay without an answer, or any other frame, before the connection counts as dead.
const SILENCE: Duration = Duration::from_secs(10);
/// How long opening a connection may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long, after everybody has said everything, a message may be on its way to a client whose connection is up.
const SETTLE: Duration = Duration::from_secs(20);
/// Messages of a member that are on their way at the same time: more are left out while the fleet does not answer, or what is
/// sent again after a fault would be the next one.
const ON_THEIR_WAY: usize = 8;
/// How long what is asked for at the very end may take.
const LAST_LOOK: Duration = Duration::from_secs(10);

/// What a member who wanders remembers.
#[derive(Debug, Default)]
pub(super) struct Wandering {
    pub(super) node: usize,
    /// When the heartbeat was sent that no frame has come after.
    asked: Option<Instant>,
    /// When the server asked to come back.
    back_at: Option<Instant>,
    /// When the end has to be settled.
    settled_by: Option<Instant>,
    /// What was stored in each conversation, and read by the other, before the newest hello.
    stored: Vec<(u64, u64)>,
    /// Watermarks are told now.
    marking: bool,
}

impl Talker {
    pub(super) fn is_of_fleet(&self) -> bool {
        self.talk.nodes.is_fleet()
    }

    /// A connection is about to be opened.
    pub(super) fn before_hello(&mut self) {
        if self.is_of_fleet() {
            let said = &self.talk.said;
            let stored = |kept: &super::books::Kept| said.stored(kept.who.conversation, 1 - kept.who.side);
            self.wandering.stored = self.books.iter().map(stored).collect();
        }
    }

    /// The server said when to come back.
    pub(super) fn asked_back(&mut self, retry_after_ms: Option<u64>) {
        let wait = retry_after_ms.filter(|_| self.is_of_fleet());
        self.wandering.back_at = wait.map(|wait| Instant::now() + Duration::from_millis(wait));
    }

    /// Whether watermarks wait for the next heartbeat: they are told once a second, as the protocol asks clients to.
    pub(super) fn marks_later(&self) -> bool {
        self.is_of_fleet() && !self.wandering.marking
    }

    /// With the heartbeat: tells the watermarks that are not confirmed.
    pub(super) fn mark_in_turn(&mut self, wire: &mut Wire<TcpStream>) {
        if !self.is_of_fleet() || !self.talk.receipts {
            return;
        }
        self.wandering.marking = true;
        for place in self.unconfirmed() {
            // A reply is asked for.
            self.reads = 0;
            self.mark(wire, place);
        }
        self.wandering.marking = false;
    }

    /// Whether nothing further is sent, because too much is on its way.
    pub(super) fn is_held_back(&self) -> bool {
        self.is_of_fleet() && self.on_their_way >= ON_THEIR_WAY
    }

    /// How long a request is put off when the server does not say.
    pub(super) fn put_off_for(&mut self) -> Duration {
        let more = if self.is_of_fleet() { self.random.random_range(300..1_800) } else { 0 };
        Duration::from_millis(200 + more)
    }

    /// The connection is gone: what comes next is another node, once it may be.
    pub(super) async fn move_on(&mut self) {
        self.wandering.asked = None;
        if let Some(at) = self.wandering.back_at.take() {
            tokio::time::sleep_until(at).await;
        }
        self.wandering.node = self.talk.nodes.next(self.wandering.node, &mut self.random);
    }

    /// A heartbeat was sent.
    pub(super) fn asked(&mut self) {
        self.wandering.asked.get_or_insert_with(Instant::now);
    }

    /// A frame has come.
    pub(super) fn heard(&mut self) {
        self.wandering.asked = None;
    }

    /// Fails when nothing has come for too long.
    pub(super) fn listen_for_silence(&self) -> Result<(), Ended> {
        let silent = self.wandering.asked.is_some_and(|asked| self.is_of_fleet() && asked.elapsed() > SILENCE);
        if silent { Err(broken("nothing came for 10 s")) } else { Ok(()) }
    }

    /// Whether the end has been waited for long enough: what has not come by now does not come.
    pub(super) fn is_settled(&mut self) -> bool {
        if !self.is_of_fleet() || !self.all_are_silent() {
            return false;
        }
        let by = *self.wandering.settled_by.get_or_insert_with(|| Instant::now() + SETTLE);
        if Instant::now() < by {
            return false;
        }
        for kept in self.books.iter() {
            let (heard, sent) = (kept.book.of_other(), self.sent_by_other(kept));
            if heard != sent {
                let who = kept.who.conversation;
                self.broken(format!("conversation {who}: {heard} of {sent} messages came, 20 s after the last one"));
            } else if self.talk.receipts && kept.book.read().0 < kept.book.newest().0 {
                self.broken(format!("conversation {}: a receipt never came", kept.who.conversation));
            }
        }
        true
    }

    /// The client came back: whatever was stored before its cursor it has to have, or the sync has to bring it.
    pub(super) fn check_return(&mut self, states: &[Conversation], full: bool) {
        if !self.is_of_fleet() || full {
            return;
        }
        let entries: usize = states.iter().map(|state| state.entries.len()).sum();
        let whole = entries < limits::SYNC_ENTRIES_TOTAL;
        let mut told = vec![None; self.books.len()];
        for state in states {
            let place = self.books.described(state);
            // The state that comes first has what was missed; a later one has what changed since.
            if let Some(told) = place.and_then(|place| told.get_mut(place))
                && told.is_none()
            {
                *told = Some(state);
            }
        }
        for (place, state) in told.into_iter().enumerate() {
            let stored = self.wandering.stored.get(place).copied().unwrap_or_default();
            let returned = self.books.get_mut(place).map(|kept| kept.book.returned(state, whole, stored)).transpose();
            self.check(returned);
        }
    }

    /// A sync came that nobody asked for.
    pub(super) fn swept(&mut self, wire: &mut Wire<TcpStream>, sync: Sync) {
        self.tally.count(Count::Unasked);
        for state in &sync.conversations {
            let Some(place) = self.books.described(state) else { continue };
            for Entry::Message(message) in &state.entries {
                let is_news = self.books.get(place).is_some_and(|kept| kept.book.is_news(message));
                if is_news {
                    self.time_delivery(&message.content);
                }
            }
            let swept = self.books.get_mut(place).map(|kept| kept.book.swept(state)).transpose();
            if let Some(Some(news @ 1..)) = self.check(swept) {
                self.tally.add(Count::Swept, news);
                self.mark(wire, place);
            }
        }
        self.cursor = Some(sync.cursor);
    }

    /// A message of the other arrived: the content begins with the time at which it was due, and its node.
    pub(super) fn time_delivery(&self, content: &str) {
        let Some((head, _)) = content.split_once(' ') else { return };
        let (micros, node) = head.split_once('@').unwrap_or((head, ""));
        let Ok(micros) = micros.parse() else { return };
        let due = self.talk.started + Duration::from_micros(micros);
        self.tally.time_since(Timing::Delivery, due);
        match node.parse::<usize>() {
            Err(_) => {}
            Ok(node) if node == self.wandering.node => self.tally.time_since(Timing::Here, due),
            Ok(_) => {
                self.tally.time_since(Timing::Across, due);
                self.talk.nodes.arrived(due.elapsed());
            }
        }
    }

    /// What the content of a message begins with.
    pub(super) fn stamp(&self, due: Instant) -> String {
        let micros = due.duration_since(self.talk.started).as_micros();
        if self.is_of_fleet() { format!("{micros}@{} ", self.wandering.node) } else { format!("{micros} ") }
    }

    /// Everything is said: comes back once more with its cursor, and asks for what that leaves open.
    pub(super) async fn look_once_more(&mut self, link: &mut Link) -> Result<(), Ended> {
        let (states, pushes) = link.states().await?;
        self.take_up(link, states, pushes);
        let by = Instant::now() + LAST_LOOK;
        while self.books.iter().any(|kept| kept.book.missing().is_some()) {
            let text = tokio::time::timeout_at(by, link.wire.next()).await;
            let Ok(text) = text else { break };
            self.hear(&mut link.wire, &text?)?;
        }
        Ok(())
    }
}
