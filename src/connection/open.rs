//! A signed-in connection at work: what it hears, what it is asked to send, and its timer.
//!
//! Step by step: what is queued, what has arrived and what is due is done, and what there is to be said goes out together.
//! All of that is one plain function without a future of its own ([`AtWork::poll_step`]), because there is a connection for
//! every idle client, and because a step nearly always ends where it began: waiting for the next. What has to wait for
//! something else, a socket that is full or requests that are to be finished, does so in a future that is made for it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use super::{
    Context,
    backpressure::{Parked, Turn},
    dispatch::{self, Asked, Storing},
    machine::{Action, Call, Machine, Moment, Refused},
    socket::Heard,
    stranger::Farewell,
    sync,
    transport::{End, Transport},
};
use crate::{
    hub::{Close, Connection, Delivery, Frame, Ticket},
    service::catch_up::{CatchUp, Start},
};
use protocol::{CloseCode, Cursor, peek_id};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, timeout_at},
};

/// Messages read before what they ask for is answered.
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
    /// Requests that wait for room on their way to the store; while there are any, nothing is read.
    parked: Option<Box<Parked>>,
}

impl Open {
    /// A connection that was signed in just now, and is welcomed with the first part of its sync.
    pub(super) fn new(connection: Arc<Connection>, machine: Machine, welcome: Frame) -> Self {
        let actions = vec![Action::Say(welcome)];
        Self { connection, machine, actions, parked: None }
    }

    /// Whether a further frame may be read.
    fn can_read(&self) -> bool {
        self.parked.is_none() && self.machine.can_read()
    }

    /// Calls the services.
    fn call(&mut self, context: &Arc<Context>, ticket: Ticket, call: Call) {
        let asked = Asked { context, connection: &self.connection, ticket };
        if let Some(request) = dispatch::dispatch(asked, &mut self.machine, call) {
            self.store(context, request);
        }
    }

    /// Hands on what is to be stored; without room on its way it waits, and so does what comes after it.
    fn store(&mut self, context: &Context, request: Storing) {
        if let Some(parked) = &mut self.parked {
            return parked.push(request);
        }
        match context.messaging.room_for(request.conversation(), request.content_bytes()) {
            Ok(Some(permit)) => dispatch::store(context, &self.connection, request, permit),
            Ok(None) => {
                context.metrics.backpressure.inc();
                self.parked = Some(Parked::new(request, Instant::now()));
            }
            Err(failure) => dispatch::refuse(context, &self.connection, &request, failure),
        }
    }

    /// Hands on what has waited, as far as there is room now; or it has waited too long, and is refused.
    fn resume(&mut self, context: &Context, (room, requests): Turn) {
        let mut room = room;
        for request in requests {
            match &mut room {
                Ok(permit) => match (&mut self.parked, permit.split(request.content_bytes())) {
                    (Some(parked), _) => parked.push(request),
                    (None, Some(part)) => dispatch::store(context, &self.connection, request, part),
                    (None, None) => self.parked = Some(Parked::new(request, permit.since())),
                },
                Err(failure) => dispatch::refuse(context, &self.connection, &request, failure.clone()),
            }
        }
        self.machine.reads_again(Instant::now());
    }

    /// A text frame came.
    fn text(&mut self, now: Moment, text: &str, context: &Context) {
        if let Err(failure) = self.machine.charge.frame(|| context.frames.check(&self.connection.member)) {
            let message = dispatch::refused_message(self.connection.member, text);
            let refused = Refused { id: peek_id(text), message, failure };
            return self.actions.push(Action::Refuse(Box::new(refused)));
        }
        match self.machine.text(now, text, &mut self.actions) {
            Some(frame) => {
                if frame.is_mark {
                    self.machine.charge.was_mark();
                }
                context.metrics.frame_received(frame.index);
            }
            None => context.metrics.frame_invalid(),
        }
    }
}

/// A signed-in connection at work.
pub(super) struct AtWork<'a, S> {
    pub(super) transport: &'a mut Transport<S>,
    pub(super) open: &'a mut Open,
}

/// What a step could not do without waiting.
struct Rest {
    /// What is to be said, as far as the socket has not taken it.
    frames: VecDeque<Frame>,
    ended: Option<Ended>,
}

/// How a step ended the connection.
#[derive(Debug, Clone, Copy)]
enum Ended {
    /// There is nobody to say anything to.
    Alone(End),
    /// What there is to be said is sent before.
    Close(Close),
    /// What is under way is finished before.
    CloseWhenDone(Close),
}

impl<S: AsyncRead + AsyncWrite + Unpin> AtWork<'_, S> {
    /// Works until the connection ends.
    pub(super) async fn run(&mut self, mut timer: Pin<&mut Sleep>) -> Result<Infallible, End> {
        loop {
            let rest = poll_fn(|context| self.poll_steps(context, timer.as_mut())).await;
            // Boxed, as is all that is seldom needed.
            Box::pin(self.finish_step(rest)).await?;
        }
    }

    /// Does step after step until nothing is to be done; ready if something is left that has to wait.
    fn poll_steps(&mut self, context: &mut task::Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<Box<Rest>> {
        loop {
            let mut frames = VecDeque::new();
            let stepped = self.poll_step(context, timer.as_mut(), &mut frames);
            let ended = match stepped {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ended @ Some(Ended::Alone(_))) => ended,
                Poll::Ready(ended) => match self.transport.poll_send(context, &mut frames) {
                    Poll::Ready(Ok(())) if ended.is_none() => continue,
                    Poll::Ready(Ok(())) | Poll::Pending => ended,
                    Poll::Ready(Err(end)) => Some(Ended::Alone(end)),
                },
            };
            return Poll::Ready(Box::new(Rest { frames, ended }));
        }
    }

    /// Does what is queued, what has arrived, and what is due; ready if there was any of it. What is to be said goes to
    /// `frames`.
    fn poll_step(
        &mut self,
        context: &mut task::Context<'_>,
        mut timer: Pin<&mut Sleep>,
        frames: &mut VecDeque<Frame>,
    ) -> Poll<Option<Ended>> {
        let mut stepped = Poll::Pending;
        if let Poll::Ready(turn) = self.poll_turn(context) {
            self.resume(turn);
            stepped = Poll::Ready(None);
        }
        if let Poll::Ready((queued, order)) = self.transport.outbox.poll_take(context) {
            let close = self.forward(queued, frames).map(Ended::Close);
            if let Some(ended) = close.or(order.map(Ended::CloseWhenDone)) {
                return Poll::Ready(Some(ended));
            }
            stepped = Poll::Ready(None);
        }
        if let Poll::Ready(end) = self.poll_hear(context) {
            // What came before the end is done even so: a message that arrived is sent.
            let close = self.act(frames).map(Ended::CloseWhenDone);
            if let Some(ended) = end.map(Ended::Alone).or(close) {
                return Poll::Ready(Some(ended));
            }
            stepped = Poll::Ready(None);
        }
        // Deadlines mostly move away, and then the timer need not be touched: it finds out when it fires.
        let deadline = self.open.machine.deadline();
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        if timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            self.open.machine.tick(now, &mut self.open.actions);
            timer.as_mut().reset(self.open.machine.deadline().max(now));
            stepped = Poll::Ready(self.act(frames).map(Ended::Close));
        }
        stepped
    }

    /// Waits for what a step has left. If the client is gone, what has arrived of it is stored all the same, though nobody hears of
    /// it: it waits as long as a call of the store may take at most.
    async fn finish_step(&mut self, rest: Box<Rest>) -> Result<(), End> {
        let finished = self.finish_rest(rest).await;
        while matches!(finished, Err(End::Left | End::Gone)) && self.open.parked.is_some() {
            let turn = poll_fn(|context| self.poll_turn(context)).await;
            self.resume(turn);
        }
        finished
    }

    async fn finish_rest(&mut self, rest: Box<Rest>) -> Result<(), End> {
        let Rest { frames, ended } = *rest;
        if let Some(Ended::Alone(end)) = ended {
            return Err(end);
        }
        self.step_aside();
        self.transport.send_rest(frames).await?;
        match ended {
            None | Some(Ended::Alone(_)) => Ok(()),
            Some(Ended::Close(close)) => Err(End::Close(close)),
            Some(Ended::CloseWhenDone(close)) => {
                self.finish_requests(close).await?;
                Err(End::Close(close))
            }
        }
    }

    /// Reads what has arrived. Ready if there was anything, with the end of the connection if that came.
    fn poll_hear(&mut self, context: &mut task::Context<'_>) -> Poll<Option<End>> {
        if !self.open.can_read() {
            return Poll::Pending;
        }
        let Transport { socket, received, context: shared, .. } = &mut *self.transport;
        let open = &mut *self.open;
        let (mut heard, mut end, mut now) = (0, None, None);
        let read = socket.poll_hear(context, |what| {
            heard += 1;
            match what {
                Heard::Text(text) => {
                    *received = received.saturating_add(1);
                    open.text(*now.get_or_insert_with(|| shared.now()), text, shared);
                }
                Heard::Violation(code) => open.machine.violation(code, &mut open.actions),
                Heard::Nothing => {}
                Heard::Left => end = Some(End::Left),
                Heard::Gone => end = Some(End::Gone),
            }
            if heard < READ_BUDGET && open.can_read() && !shared.messaging.room().is_full() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        self.charge_kept();
        if read.is_pending() && heard == 0 { Poll::Pending } else { Poll::Ready(end) }
    }

    /// Does what the state machine wants; what it wants to say goes to `frames`. Returns the order to close, if there is one.
    fn act(&mut self, frames: &mut VecDeque<Frame>) -> Option<Close> {
        let mut close = None;
        let mut actions = VecDeque::from(std::mem::take(&mut self.open.actions));
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Say(frame) => frames.push_back(frame),
                Action::Close(order) => close = Some(order),
                Action::Call(ticket, call) => {
                    // Its answer is looked for before this task waits again.
                    self.transport.outbox.attend();
                    self.open.call(&self.transport.context, ticket, call);
                }
                Action::Refuse(refused) => {
                    let now = self.transport.context.now();
                    self.open.machine.too_much(now, *refused, &mut self.open.actions);
                    self.open.actions.drain(..).rev().for_each(|action| actions.push_front(action));
                }
                Action::StopTyping(target) => {
                    dispatch::stop_typing(&self.transport.context, &self.open.connection, vec![target]);
                }
            }
        }
        if self.open.parked.is_some() {
            self.charge_kept();
        }
        close
    }

    /// Waits for room for what is parked.
    fn poll_turn(&mut self, context: &mut task::Context<'_>) -> Poll<Turn> {
        Parked::poll_turn(&mut self.open.parked, self.transport.context.messaging.room(), context)
    }

    /// Before something else is waited for: what is parked keeps nothing from others meanwhile.
    fn step_aside(&mut self) {
        if let Some(parked) = &mut self.open.parked {
            parked.step_aside();
        }
    }

    /// Hands on what has waited for room.
    fn resume(&mut self, turn: Turn) {
        self.transport.outbox.attend();
        self.open.resume(&self.transport.context, turn);
        self.charge_kept();
    }

    /// Charges what has arrived and waits: for the rest of its message, or for room.
    fn charge_kept(&mut self) {
        let parked = self.open.parked.as_ref().map_or(0, |parked| parked.bytes());
        self.transport.charge_kept(parked);
    }

    /// Everything that is queued, in its order: a pong must not overtake the events before it. Returns the order to close, if
    /// an answer makes one necessary.
    fn forward(&mut self, queued: VecDeque<Delivery>, frames: &mut VecDeque<Frame>) -> Option<Close> {
        let now = self.transport.context.now();
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
        self.act(frames)
    }

    /// Does what the state machine wants, and sends what it says.
    async fn act_and_send(&mut self) -> Result<(), End> {
        let mut frames = VecDeque::new();
        let close = self.act(&mut frames);
        self.transport.send(frames).await?;
        close.map_or(Ok(()), |order| Err(End::Close(order)))
    }

    /// Sends the sync, part by part: the next one is read when this one has gone. What there is to be said before, `welcome`,
    /// goes out with the first part, and a sync that is one small part in one piece with it.
    pub(super) async fn catch_up(&mut self, start: Start, cursor: Option<&Cursor>) -> Result<(), End> {
        let (context, member) = (Arc::clone(&self.transport.context), self.open.connection.member);
        let start = match context.messaging.start_of_now(member, cursor, start).await {
            Ok(start) => start,
            Err(failure) => {
                self.act_and_send().await?;
                return Err(self.transport.refuse(Farewell::new(None, failure)).await);
            }
        };
        let mut catch_up = CatchUp::new(member, start);
        let mut rounds = 0;
        loop {
            let part = match catch_up.next(&context.messaging).await {
                Ok(part) => part,
                Err(failure) => {
                    self.act_and_send().await?;
                    return Err(self.transport.refuse(Farewell::new(None, failure)).await);
                }
            };
            let ends_round = part.ends_round;
            let mut frames = sync::frames(member, part, &context.messaging);
            let is_small = frames.iter().map(Frame::len).sum::<usize>() <= SMALL_SYNC_BYTES;
            if !(ends_round && is_small) {
                self.act_and_send().await?;
                self.transport.send_sync(std::mem::take(&mut frames)).await?;
            }
            if !ends_round {
                continue;
            }
            match catch_up.done() {
                Some(done) if self.transport.outbox.end_sync() => {
                    context.messaging.synced(&self.open.connection, done.place);
                    frames.push_back(sync::done(member, done, &context.messaging));
                    self.open.actions.extend(frames.drain(..).map(Action::Say));
                    self.act_and_send().await?;
                    self.open.machine.reads_again(Instant::now());
                    return Ok(());
                }
                _ if rounds >= ROUNDS_MAX => return Err(End::Close(Close::with(CloseCode::SlowConsumer))),
                _ => {
                    rounds += 1;
                    self.act_and_send().await?;
                    self.transport.send_sync(frames).await?;
                    self.transport.outbox.begin_sync();
                    catch_up.again();
                }
            }
        }
    }

    /// Before a close: what is under way is finished and answered, unless the client does not take it anyway.
    async fn finish_requests(&mut self, close: Close) -> Result<(), End> {
        let patience = Instant::now() + self.transport.context.timing.close;
        while self.open.machine.is_busy() && close.code != CloseCode::SlowConsumer {
            let outbox = Arc::clone(&self.transport.outbox);
            let further = async {
                let mut frames = VecDeque::new();
                let close = tokio::select! {
                    biased;
                    turn = poll_fn(|context| self.poll_turn(context)) => {
                        self.resume(turn);
                        None
                    }
                    () = outbox.filled() => self.forward(outbox.take(), &mut frames),
                };
                self.step_aside();
                self.transport.send(frames).await?;
                close.map_or(Ok(()), |order| Err(End::Close(order)))
            };
            match timeout_at(patience, further).await {
                Ok(sent) => sent?,
                Err(_) => break,
            }
        }
        Ok(())
    }
}
