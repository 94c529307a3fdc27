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
    machine::{Action, Machine},
    stranger::Farewell,
    sync,
    transport::{End, Heard, Transport, heard},
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
    actions: Vec<Action>,
    charge: Charge,
}

impl Open {
    /// A connection that was signed in just now, and is welcomed with the first part of its sync.
    pub(super) fn new(connection: Arc<Connection>, machine: Machine, welcome: Frame) -> Self {
        let actions = vec![Action::Say(welcome)];
        Self { connection, machine, actions, charge: Charge::default() }
    }
}

/// A signed-in connection at work.
pub(super) struct AtWork<'a, S> {
    pub(super) transport: &'a mut Transport<S>,
    pub(super) open: &'a mut Open,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AtWork<'_, S> {
    /// Works until the connection ends.
    pub(super) async fn run(&mut self, mut timer: Pin<&mut Sleep>) -> Result<Infallible, End> {
        loop {
            // Deadlines mostly move away, and then the timer need not be touched: it finds out when it fires.
            let deadline = self.open.machine.deadline();
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                () = self.transport.outbox.ready() => self.send_queued().await?,
                message = self.transport.socket.next(), if self.open.machine.can_read() => self.hear(message).await?,
                () = timer.as_mut() => {
                    // What has arrived counts, although the timer was looked at first.
                    let waiting = if self.open.machine.can_read() { self.transport.socket.next().now_or_never() } else { None };
                    if let Some(message) = waiting {
                        self.hear(message).await?;
                    }
                    let now = Instant::now();
                    self.open.machine.tick(now, &mut self.open.actions);
                    self.act().await?;
                    timer.as_mut().reset(self.open.machine.deadline().max(now));
                }
            }
        }
    }

    /// Reads what has arrived, and does what it asks for.
    async fn hear(&mut self, first: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        self.transport.outbox.attend();
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
            match self.transport.socket.next().now_or_never() {
                Some(message) => self.message(message)?,
                None => break,
            }
        }
        Ok(())
    }

    fn message(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        match heard(message)? {
            Heard::Text(text) => self.text(&text),
            Heard::Violation(code) => self.open.machine.violation(code, &mut self.open.actions),
            Heard::Nothing => {}
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.transport.received += 1;
        let (now, context, member) = (self.transport.now(), &self.transport.context, self.open.connection.member);
        if let Err(failure) = self.open.charge.frame(|| context.frames.check(&member)) {
            return self.open.machine.too_much(now, text, failure, &mut self.open.actions);
        }
        match self.open.machine.text(now, text, &mut self.open.actions) {
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
        for action in std::mem::take(&mut self.open.actions) {
            match action {
                Action::Say(frame) => frames.push_back(frame),
                Action::Close(order) => close = Some(order),
                Action::Call(ticket, call) => {
                    let Open { connection, machine, .. } = &mut *self.open;
                    dispatch::dispatch(&self.transport.context, connection, machine, ticket, call);
                }
                Action::StopTyping(target) => {
                    dispatch::stop_typing(&self.transport.context, &self.open.connection, vec![target]);
                }
            }
        }
        self.transport.send(frames).await?;
        close.map_or(Ok(()), |order| Err(End::Close(order)))
    }

    /// Sends the sync, part by part: the next one is read when this one has gone. What there is to be said before, `welcome`,
    /// goes out with the first part, and a sync that is one small part in one piece with it.
    pub(super) async fn catch_up(&mut self, start: Start) -> Result<(), End> {
        let (context, member) = (Arc::clone(&self.transport.context), self.open.connection.member);
        let mut catch_up = CatchUp::new(member, start);
        let mut rounds = 0;
        loop {
            let part = match catch_up.next(&context.messaging).await {
                Ok(part) => part,
                Err(failure) => {
                    self.act().await?;
                    return Err(self.transport.refuse(Farewell::new(None, failure)).await);
                }
            };
            let ends_round = part.ends_round;
            let mut frames = sync::frames(member, part, &context.messaging);
            let is_small = frames.iter().map(Frame::len).sum::<usize>() <= SMALL_SYNC_BYTES;
            if !(ends_round && is_small) {
                self.act().await?;
                self.transport.send_sync(std::mem::take(&mut frames)).await?;
            }
            if !ends_round {
                continue;
            }
            match catch_up.done() {
                Some(done) if self.transport.outbox.end_sync() => {
                    self.open.connection.synced_in(done.place.epoch);
                    frames.push_back(sync::done(member, done, &context.messaging));
                    self.open.actions.extend(frames.drain(..).map(Action::Say));
                    self.act().await?;
                    self.open.machine.synced(Instant::now());
                    return Ok(());
                }
                _ if rounds >= ROUNDS_MAX => return Err(End::Close(Close::with(CloseCode::SlowConsumer))),
                _ => {
                    rounds += 1;
                    self.act().await?;
                    self.transport.send_sync(frames).await?;
                    self.transport.outbox.begin_sync();
                    catch_up.again();
                }
            }
        }
    }

    /// Sends everything that is queued, and closes if that is the order.
    async fn send_queued(&mut self) -> Result<(), End> {
        let closing = self.transport.outbox.closing();
        self.forward().await?;
        let Some(close) = closing else { return Ok(()) };
        Box::pin(self.finish_requests(close)).await?;
        Err(End::Close(close))
    }

    /// Before a close: what is under way is finished and answered, unless the client does not take it anyway.
    async fn finish_requests(&mut self, close: Close) -> Result<(), End> {
        let patience = Instant::now() + self.transport.context.timing.close;
        while self.open.machine.is_busy() && close.code != CloseCode::SlowConsumer {
            let outbox = Arc::clone(&self.transport.outbox);
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
        let now = self.transport.now();
        let queued = self.transport.outbox.take();
        let mut frames = VecDeque::with_capacity(queued.len());
        for delivery in queued {
            match delivery {
                Delivery::Event(frame) => frames.push_back(frame),
                Delivery::Reply(reply) => {
                    self.open.machine.reply(now, *reply, &mut self.open.actions);
                    for action in std::mem::take(&mut self.open.actions) {
                        match action {
                            Action::Say(frame) => frames.push_back(frame),
                            other => self.open.actions.push(other),
                        }
                    }
                }
            }
        }
        self.transport.send(frames).await?;
        self.act().await
    }
}
