//! A signed-in connection at work: what it hears, what it is asked to send, and its timer.
//!
//! Round and round: everything that is queued goes out with one flush; then it waits for more to send, something to
//! read, or its timer. What has arrived is read to its end before anything is answered.

use std::{collections::VecDeque, convert::Infallible, pin::Pin, sync::Arc};

use futures_util::FutureExt as _;
use protocol::CloseCode;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, timeout_at},
};
use tokio_tungstenite::tungstenite::{self, Message};

use super::{
    charge::Charge,
    dispatch,
    link::{End, Heard, Link, heard},
    machine::{Effect, Machine},
    stranger::Refusal,
    sync,
};
use crate::{
    hub::{Close, Connection, Delivery, Frame},
    service::catch_up::{CatchUp, Start},
};

/// Frames read before what they ask for is answered.
const READ_BUDGET: usize = 64;

/// Rounds of a sync: with more, a client takes less than what goes on in its conversations.
const ROUNDS_MAX: usize = 20;

/// A sync of so many bytes goes out in one piece with what is said before and after it: a socket has room for that.
const SMALL_SYNC_BYTES: usize = 8 * 1024;

/// What a connection has from its sign-in on.
pub(super) struct Open {
    pub(super) connection: Arc<Connection>,
    pub(super) machine: Machine,
    /// What the state machine wants done; empty between two steps.
    effects: Vec<Effect>,
    charge: Charge,
}

impl Open {
    /// A connection that was signed in just now, and is welcomed with the first part of its sync.
    pub(super) fn new(connection: Arc<Connection>, machine: Machine, welcome: Frame) -> Self {
        let effects = vec![Effect::Send(welcome)];
        Self { connection, machine, effects, charge: Charge::default() }
    }
}

/// A signed-in connection at work.
pub(super) struct Working<'a, S> {
    pub(super) link: &'a mut Link<S>,
    pub(super) open: &'a mut Open,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Working<'_, S> {
    /// Works until the connection ends.
    pub(super) async fn run(&mut self, mut timer: Pin<&mut Sleep>) -> Result<Infallible, End> {
        loop {
            // Deadlines mostly move away, and then the timer need not be touched: it finds out when it fires.
            let deadline = self.open.machine.deadline();
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                () = self.link.outbox.ready() => self.send_queued().await?,
                message = self.link.socket.next(), if self.open.machine.can_read() => self.hear(message).await?,
                () = timer.as_mut() => {
                    // What has arrived counts, although the timer was looked at first.
                    let waiting = if self.open.machine.can_read() { self.link.socket.next().now_or_never() } else { None };
                    if let Some(message) = waiting {
                        self.hear(message).await?;
                    }
                    let now = Instant::now();
                    self.open.machine.tick(now, &mut self.open.effects);
                    self.act().await?;
                    timer.as_mut().reset(self.open.machine.deadline().max(now));
                }
            }
        }
    }

    /// Reads what has arrived, and does what it asks for.
    async fn hear(&mut self, first: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        self.link.outbox.attend();
        let end = self.read(first);
        // What came before the end is done even so: a message that arrived is sent.
        let acted = self.act().await;
        end?;
        if let Err(End::Close(close)) = acted {
            // Boxed, as is all that is seldom needed.
            Box::pin(self.finish_requests(close)).await?;
        }
        acted
    }

    /// Reads a message and whatever else has arrived with it.
    fn read(&mut self, first: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        self.message(first)?;
        for _ in 0..READ_BUDGET {
            if !self.open.machine.can_read() {
                break;
            }
            match self.link.socket.next().now_or_never() {
                Some(message) => self.message(message)?,
                None => break,
            }
        }
        Ok(())
    }

    fn message(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        match heard(message)? {
            Heard::Text(text) => self.text(&text),
            Heard::Violation(code) => self.open.machine.violation(code, &mut self.open.effects),
            Heard::Nothing => {}
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.link.received += 1;
        let (now, context, member) = (self.link.now(), &self.link.context, self.open.connection.member);
        if let Err(failure) = self.open.charge.frame(|| context.frames.check(&member)) {
            return self.open.machine.too_much(now, text, failure, &mut self.open.effects);
        }
        match self.open.machine.text(now, text, &mut self.open.effects) {
            Some(frame) => {
                if frame.is_mark {
                    self.open.charge.was_mark();
                }
                context.metrics.frame_received(frame.index);
            }
            None => context.metrics.frame_invalid(),
        }
    }

    /// Does what the state machine wants. Frames go out together.
    async fn act(&mut self) -> Result<(), End> {
        let mut frames = VecDeque::new();
        let mut close = None;
        for effect in std::mem::take(&mut self.open.effects) {
            match effect {
                Effect::Send(frame) => frames.push_back(frame),
                Effect::Close(order) => close = Some(order),
                Effect::Call(ticket, call) => {
                    let Open { connection, machine, .. } = &mut *self.open;
                    dispatch::dispatch(&self.link.context, connection, machine, ticket, call);
                }
                Effect::StopTyping(target) => {
                    dispatch::stop_typing(&self.link.context, &self.open.connection, vec![target]);
                }
            }
        }
        self.link.send(frames).await?;
        close.map_or(Ok(()), |order| Err(End::Close(order)))
    }

    /// Sends the sync, part by part: the next one is read when this one has gone. What there is to be said before, `welcome`,
    /// goes out with the first part, and a sync that is one small part in one piece with it.
    pub(super) async fn catch_up(&mut self, start: Start) -> Result<(), End> {
        let (context, member) = (Arc::clone(&self.link.context), self.open.connection.member);
        let mut catch_up = CatchUp::new(member, start);
        let mut rounds = 0;
        loop {
            let part = match catch_up.next(&context.messaging).await {
                Ok(part) => part,
                Err(failure) => {
                    self.act().await?;
                    return Err(self.link.refuse(Refusal::new(None, failure)).await);
                }
            };
            let ends_round = part.ends_round;
            let mut frames = sync::frames(member, part, &context.messaging);
            let is_small = frames.iter().map(Frame::len).sum::<usize>() <= SMALL_SYNC_BYTES;
            if !(ends_round && is_small) {
                self.act().await?;
                self.link.send_sync(std::mem::take(&mut frames)).await?;
            }
            if !ends_round {
                continue;
            }
            match catch_up.done() {
                Some(done) if self.link.outbox.end_sync() => {
                    self.open.connection.synced_in(done.place.epoch);
                    frames.push_back(sync::done(member, done, &context.messaging));
                    self.open.effects.extend(frames.drain(..).map(Effect::Send));
                    self.act().await?;
                    self.open.machine.synced(Instant::now());
                    return Ok(());
                }
                _ if rounds >= ROUNDS_MAX => return Err(End::Close(Close::with(CloseCode::SlowConsumer))),
                _ => {
                    rounds += 1;
                    self.act().await?;
                    self.link.send_sync(frames).await?;
                    self.link.outbox.begin_sync();
                    catch_up.again();
                }
            }
        }
    }

    /// Sends everything that is queued, and closes if that is the order.
    async fn send_queued(&mut self) -> Result<(), End> {
        let closing = self.link.outbox.closing();
        self.forward().await?;
        let Some(close) = closing else { return Ok(()) };
        Box::pin(self.finish_requests(close)).await?;
        Err(End::Close(close))
    }

    /// Before a close: what is under way is finished and answered, unless the client does not take it anyway.
    async fn finish_requests(&mut self, close: Close) -> Result<(), End> {
        let patience = Instant::now() + self.link.context.timing.close;
        while self.open.machine.is_busy() && close.code != CloseCode::SlowConsumer {
            let outbox = Arc::clone(&self.link.outbox);
            let further = async {
                outbox.filled().await;
                self.forward().await
            };
            match timeout_at(patience, further).await {
                Ok(sent) => sent?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Sends everything that is queued, in its order: a pong must not overtake the events before it.
    async fn forward(&mut self) -> Result<(), End> {
        let now = self.link.now();
        let queued = self.link.outbox.take();
        let mut frames = VecDeque::with_capacity(queued.len());
        for delivery in queued {
            match delivery {
                Delivery::Event(frame) => frames.push_back(frame),
                Delivery::Reply(reply) => {
                    self.open.machine.reply(now, *reply, &mut self.open.effects);
                    for effect in std::mem::take(&mut self.open.effects) {
                        match effect {
                            Effect::Send(frame) => frames.push_back(frame),
                            other => self.open.effects.push(other),
                        }
                    }
                }
            }
        }
        self.link.send(frames).await?;
        self.act().await
    }
}
