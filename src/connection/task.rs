//! The task that owns a connection.
//!
//! Round and round: everything that is queued goes out with one flush; then it waits for more to send, something to
//! read, or its timer. What has arrived is read to its end before anything is answered.

use std::{
    collections::VecDeque, convert::Infallible, net::IpAddr, panic::AssertUnwindSafe, pin::Pin, sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use protocol::{CloseCode, ErrorCode, MemberId, RequestId, client::Hello, limits::TOO_MUCH_WAIT_MS};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message},
};

use super::{
    Context,
    charge::Charge,
    dispatch,
    machine::{Effect, Machine, Moment},
    order::Order,
    reading::Reading,
    socket::{Gone, Socket, close_code},
    sync,
};
use crate::{
    admission::Place,
    failure::Failure,
    hub::{Close, Connection, Delivery, Frame, Outbox},
    service::catch_up::{CatchUp, Start},
};

/// Frames read before what they ask for is answered.
const READ_BUDGET: usize = 64;

/// Rounds of a sync: with more, a client takes less than what goes on in its conversations.
const ROUNDS_MAX: usize = 20;

/// A sync of so many bytes goes out in one piece with what is said before and after it: a socket has room for that.
const SMALL_SYNC_BYTES: usize = 8 * 1024;

/// When to come back to a server that has hardly any place left, and too many of them taken from there.
const CROWDED_RETRY: Duration = Duration::from_secs(60);
/// What a connection hears that gives its place up to who signs in from elsewhere.
const CROWDED: Close = Close { code: CloseCode::TryAgainLater, retry_after_ms: Some(60_000) };

/// How a connection ended.
#[derive(Debug, Clone, Copy)]
enum End {
    /// With a close code of ours.
    Close(Close),
    /// The other side closed it, with a close frame.
    Left,
    /// The other side vanished.
    Gone,
}

/// Begins a connection; `place` is what it holds among those there is room for. The stream may be a TCP socket or anything
/// else that carries bytes. To be run to its end: [`Task::run_to_end`].
pub fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: WebSocketStream<Reading<S>>,
    peer: IpAddr,
    place: Option<Place>,
    context: Arc<Context>,
) -> Box<Task<S>> {
    context.metrics.connections.inc();
    let started = Instant::now();
    let outbox = Arc::new(Outbox::new(context.outbox, Arc::clone(&context.budget)));
    if let Some(place) = &place {
        place.closes_through(&outbox);
    }
    Box::new(Task {
        socket: Socket::new(stream, context.timing, Arc::clone(&context.metrics)),
        machine: Machine::new(&context.timing, started),
        outbox,
        place,
        connection: None,
        peer,
        effects: Vec::new(),
        order: Order::default(),
        charge: Charge::default(),
        started,
        received: 0,
        sent: 0,
        context,
    })
}

/// A connection.
///
/// Its future is small, because there is one for every idle connection: what it owns is in one box, and what is needed
/// only now and then is boxed when it is.
pub struct Task<S> {
    socket: Socket<S>,
    machine: Machine,
    outbox: Arc<Outbox>,
    /// Among the connections that there is room for; nothing for one that is not counted.
    place: Option<Place>,
    /// There once it is signed in.
    connection: Option<Arc<Connection>>,
    peer: IpAddr,
    /// What the state machine wants done; empty between two steps.
    effects: Vec<Effect>,
    order: Order,
    charge: Charge,
    started: Instant,
    received: u64,
    sent: u64,
    context: Arc<Context>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    /// Runs the connection to its end.
    pub async fn run_to_end(mut self: Box<Self>) {
        let served = AssertUnwindSafe(self.serve()).catch_unwind().await;
        // A fault in here must not leave a dead connection in the hub. The panic itself was logged by its hook.
        let end = served.unwrap_or(End::Close(Close::with(CloseCode::Internal)));
        let context = Arc::clone(&self.context);
        Box::pin(self.finish(end)).await;
        context.metrics.connections.dec();
    }

    async fn serve(&mut self) -> End {
        let timer = sleep_until(self.machine.deadline());
        tokio::pin!(timer);
        let Err(end) = self.run(timer).await;
        end
    }

    async fn run(&mut self, mut timer: Pin<&mut Sleep>) -> Result<Infallible, End> {
        loop {
            // Deadlines mostly move away, and then the timer need not be touched: it finds out when it fires.
            let deadline = self.machine.deadline();
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            let signed_in = self.connection.is_some();
            tokio::select! {
                () = self.outbox.ready() => self.send_queued().await?,
                message = self.socket.next(), if self.machine.can_read() => self.hear(message).await?,
                () = timer.as_mut() => {
                    // What has arrived counts, although the timer was looked at first.
                    let waiting = if self.machine.can_read() { self.socket.next().now_or_never() } else { None };
                    if let Some(message) = waiting {
                        self.hear(message).await?;
                    }
                    let now = Instant::now();
                    self.machine.tick(now, &mut self.effects);
                    self.perform().await?;
                    timer.as_mut().reset(self.machine.deadline().max(now));
                }
                () = self.context.shutdown.cancelled(), if !signed_in => {
                    return Err(End::Close(Close::with(CloseCode::GoingAway)));
                }
            }
        }
    }

    /// Signs out, says how it was, and closes.
    async fn finish(mut self: Box<Self>, end: End) {
        let typing = self.machine.end();
        let Self { socket, connection, outbox, peer, started, received, sent, context, place, .. } = *self;
        if let Some(connection) = &connection {
            context.connections.sign_out(connection);
            dispatch::stop_typing(&context, connection, typing);
        }
        outbox.end();
        let code = match end {
            End::Close(close) => Some(close.code),
            End::Left | End::Gone => None,
        };
        if let (Some(CloseCode::TooMuch), Some(connection)) = (code, &connection) {
            context.hellos.keep_out(connection.member, Duration::from_millis(TOO_MUCH_WAIT_MS));
        }
        context.metrics.connection_closed(code);
        let (seconds, number) = (started.elapsed().as_secs(), code.map(CloseCode::number));
        // A line for each connection of a member; not for those that anybody can make as often as they like.
        if let Some(Connection { id: connection, member, .. }) = connection.as_deref() {
            tracing::info!(%connection, %member, %peer, code = number, received, sent, seconds, "connection closed");
        } else {
            tracing::debug!(%peer, code = number, received, sent, seconds, "connection closed before hello");
        }
        // What the socket has half written is held until that is closed, unless that memory is needed: then it ends at once.
        let is_cut = outbox.is_cut();
        let end = if is_cut && socket.unwritten() > 0 { End::Gone } else { end };
        if !matches!(end, End::Gone) {
            outbox.hold(socket.unwritten());
        }
        let closed = async {
            match end {
                End::Close(close) => socket.close(close).await,
                End::Left => socket.answer_close().await,
                End::Gone => {}
            }
        };
        let cut = async {
            match &place {
                Some(place) => place.cut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = closed => {}
            () = cut => {}
            () = outbox.cut_off(), if !is_cut => {}
        }
        outbox.written();
        if let Some(connection) = &connection {
            context.connections.hub.forget(connection);
        }
    }

    /// Reads what has arrived, and does what it asks for.
    async fn hear(&mut self, first: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        self.outbox.attend();
        let end = self.read(first);
        // What came before the end is done even so: a message that arrived is sent.
        let performed = self.perform().await;
        end?;
        if let Err(End::Close(close)) = performed {
            // Boxed, as is all that is seldom needed.
            Box::pin(self.finish_requests(close)).await?;
        }
        performed
    }

    /// Reads a message and whatever else has arrived with it.
    fn read(&mut self, first: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        self.message(first)?;
        for _ in 0..READ_BUDGET {
            if !self.machine.can_read() {
                break;
            }
            match self.socket.next().now_or_never() {
                Some(message) => self.message(message)?,
                None => break,
            }
        }
        Ok(())
    }

    fn message(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        match message {
            Some(Ok(Message::Text(text))) => self.text(&text),
            Some(Ok(Message::Binary(_))) => self.machine.violation(CloseCode::UnsupportedData, &mut self.effects),
            // The library answers pings of the WebSocket layer; they do not count as heartbeats.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_))) => return Err(End::Left),
            None => return Err(End::Gone),
            Some(Err(error)) => match close_code(&error) {
                Some(code) => self.machine.violation(code, &mut self.effects),
                None => return Err(End::Gone),
            },
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.received += 1;
        let now = self.now();
        let limited = self.connection.as_ref().map(|connection| {
            let member = connection.member;
            self.charge.frame(|| self.context.frames.check(&member))
        });
        if let Some(Err(failure)) = limited {
            return self.machine.too_much(now, text, failure, &mut self.effects);
        }
        match self.machine.text(now, text, &mut self.effects) {
            Some(frame) => {
                if frame.is_mark {
                    self.charge.was_mark();
                }
                self.context.metrics.frame_received(frame.index);
            }
            None => self.context.metrics.frame_invalid(),
        }
    }

    fn now(&self) -> Moment {
        Moment { instant: Instant::now(), time: self.context.clock.now() }
    }

    /// Does what the state machine wants.
    async fn perform(&mut self) -> Result<(), End> {
        match self.act().await? {
            // Boxed: it is large, and needed once.
            Some((id, hello)) => Box::pin(self.sign_in(id, *hello)).await,
            None => Ok(()),
        }
    }

    /// Does what the state machine wants, except for signing in. Frames go out together.
    async fn act(&mut self) -> Result<Option<(Option<RequestId>, Box<Hello>)>, End> {
        let mut frames = VecDeque::new();
        let mut hello = None;
        let mut close = None;
        for effect in std::mem::take(&mut self.effects) {
            match (effect, &self.connection) {
                (Effect::Send(frame), _) => frames.push_back(frame),
                (Effect::SignIn(id, wanted), _) => hello = Some((id, wanted)),
                (Effect::Close(order), _) => close = Some(order),
                (Effect::Call(id, call), Some(connection)) => {
                    dispatch::dispatch(&self.context, connection, &mut self.order, id, call);
                }
                (Effect::StopTyping(target), Some(connection)) => {
                    dispatch::stop_typing(&self.context, connection, vec![target]);
                }
                // The state machine asks for nothing before it is signed in.
                (Effect::Call(..) | Effect::StopTyping(_), None) => {}
            }
        }
        self.send(frames).await?;
        close.map_or(Ok(hello), |order| Err(End::Close(order)))
    }

    /// Signs the connection in and brings the client up to date. Events are queued from the moment of the sign-in and
    /// go out after the sync, so nothing falls between.
    async fn sign_in(&mut self, id: Option<RequestId>, hello: Hello) -> Result<(), End> {
        let started = Instant::now();
        let (hellos, accounts) = (&self.context.hellos, &self.context.connections.accounts);
        let start = |member| match &hello.cursor {
            Some(cursor) => self.context.messaging.start_of(member, cursor),
            None => Start::Full,
        };
        let start = match hellos.admit((&accounts.tokens, &accounts.stale), &hello.token, self.peer, start) {
            Ok(start) => start,
            Err(failure) => return self.refuse(id.as_ref(), failure).await,
        };
        if self.place.as_ref().is_some_and(|place| place.may_sign_in().is_err()) {
            let crowded = Failure::of(ErrorCode::Overloaded).retry_after(CROWDED_RETRY);
            return self.refuse(id.as_ref(), crowded).await;
        }
        self.outbox.begin_sync();
        let signed_in = self.context.connections.sign_in(hello, Arc::clone(&self.outbox), self.peer).await;
        let signed_in = match signed_in {
            Ok(signed_in) => signed_in,
            Err(failure) => return self.refuse(id.as_ref(), failure).await,
        };
        if let Some(crowd) = self.place.as_ref().and_then(Place::signed_in) {
            self.context
                .connections
                .hub
                .close_newest(|connection| connection.from.is_some_and(|from| crowd.has(from)), CROWDED);
        }
        let member = signed_in.connection.member;
        self.connection = Some(Arc::clone(&signed_in.connection));
        self.machine.signed_in(self.now(), id.as_ref(), &signed_in, &mut self.effects);
        // If the order to go away went round before this connection was registered, it did not hear it.
        if self.context.shutdown.is_cancelled() {
            self.outbox.close(Close::with(CloseCode::GoingAway));
        }
        self.catch_up(member, start).await?;
        self.context.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
        self.machine.synced(Instant::now());
        Ok(())
    }

    /// Sends the sync, part by part: the next one is read when this one has gone. What there is to be said before, `welcome`,
    /// goes out with the first part, and a sync that is one small part in one piece with it.
    async fn catch_up(&mut self, member: MemberId, start: Start) -> Result<(), End> {
        let context = Arc::clone(&self.context);
        let mut catch_up = CatchUp::new(member, start);
        let mut rounds = 0;
        loop {
            let part = match catch_up.next(&context.messaging).await {
                Ok(part) => part,
                Err(failure) => return self.refuse(None, failure).await,
            };
            let ends_round = part.ends_round;
            let mut frames = sync::frames(member, part, &context.messaging);
            let is_small = frames.iter().map(Frame::len).sum::<usize>() <= SMALL_SYNC_BYTES;
            if !(ends_round && is_small) {
                self.act().await?;
                self.send_sync(std::mem::take(&mut frames)).await?;
            }
            if !ends_round {
                continue;
            }
            match catch_up.done() {
                Some(done) if self.outbox.end_sync() => {
                    if let Some(connection) = &self.connection {
                        connection.synced_in(done.place.epoch);
                    }
                    frames.push_back(sync::done(member, done, &context.messaging));
                    self.effects.extend(frames.drain(..).map(Effect::Send));
                    return self.act().await.map(drop);
                }
                _ if rounds >= ROUNDS_MAX => return Err(End::Close(Close::with(CloseCode::SlowConsumer))),
                _ => {
                    rounds += 1;
                    self.act().await?;
                    self.send_sync(frames).await?;
                    self.outbox.begin_sync();
                    catch_up.again();
                }
            }
        }
    }

    /// Writes frames of a sync. That may take minutes, so an order to close ends it.
    async fn send_sync(&mut self, frames: VecDeque<Frame>) -> Result<(), End> {
        let outbox = Arc::clone(&self.outbox);
        outbox.hold(frames.iter().map(Frame::len).sum());
        let sent = tokio::select! {
            biased;
            close = outbox.ordered_to_close() => Err(End::Close(close)),
            sent = self.send(frames) => sent,
        };
        outbox.written();
        sent
    }

    async fn refuse(&mut self, id: Option<&RequestId>, failure: Failure) -> Result<(), End> {
        self.machine.refused(id, failure, &mut self.effects);
        self.act().await.map(drop)
    }

    /// Sends everything that is queued, and closes if that is the order.
    async fn send_queued(&mut self) -> Result<(), End> {
        let closing = self.outbox.closing();
        self.forward().await?;
        let Some(close) = closing else { return Ok(()) };
        Box::pin(self.finish_requests(close)).await?;
        Err(End::Close(close))
    }

    /// Before a close: what is under way is finished and answered, unless the client does not take it anyway.
    async fn finish_requests(&mut self, close: Close) -> Result<(), End> {
        let patience = Instant::now() + self.context.timing.close;
        while self.machine.is_busy() && close.code != CloseCode::SlowConsumer {
            let further = async {
                self.outbox.filled().await;
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
        let now = self.now();
        let queued = self.outbox.take();
        let mut frames = VecDeque::with_capacity(queued.len());
        for delivery in queued {
            match delivery {
                Delivery::Event(frame) => frames.push_back(frame),
                Delivery::Reply(reply) => {
                    if let (Some(message), Err(failure)) = (reply.refused, &reply.result) {
                        self.order.refused(message, now.instant, failure);
                    }
                    self.machine.reply(now, *reply, &mut self.effects);
                    for effect in std::mem::take(&mut self.effects) {
                        match effect {
                            Effect::Send(frame) => frames.push_back(frame),
                            other => self.effects.push(other),
                        }
                    }
                }
            }
        }
        self.send(frames).await?;
        self.act().await.map(drop)
    }

    /// Writes frames and flushes once; does nothing if there are none. Once the connection is to close, what is left of
    /// them has only so much time.
    async fn send(&mut self, mut frames: VecDeque<Frame>) -> Result<(), End> {
        if frames.is_empty() {
            return Ok(());
        }
        self.sent += u64::try_from(frames.len()).unwrap_or(u64::MAX);
        tokio::select! {
            biased;
            written = self.socket.send(&mut frames) => written.map_err(|gone| match gone {
                Gone::Closed => End::Gone,
                Gone::TooSlow => End::Close(Close::with(CloseCode::SlowConsumer)),
            }),
            close = given_up(&self.outbox, self.context.timing.close) => Err(End::Close(close)),
        }
    }
}

/// Waits until there is no use in writing on: a while after the order to close, at once if its memory is needed.
async fn given_up(outbox: &Outbox, patience: Duration) -> Close {
    let close = outbox.ordered_to_close().await;
    // Either way it is over: an end of the patience is no failure.
    let _ = timeout(patience, outbox.overflowed()).await;
    close
}
