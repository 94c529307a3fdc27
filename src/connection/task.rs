//! The task that owns a connection, from its first moment to its last: it waits for hello, signs the connection in, lets it work
//! ([`Open`]), and closes it.

use std::{net::IpAddr, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use super::{
    Context, dispatch,
    machine::Machine,
    open::{AtWork, Open},
    socket::{Heard, Socket},
    stranger::{Farewell, Greeting, Stranger, first_frame, violation},
    transport::{End, Transport},
};
use crate::{
    admission::Place,
    failure::Failure,
    hub::{Close, Connection, Outbox},
    service::{catch_up::Start, hellos::Admitted},
};
use futures_util::FutureExt as _;
use protocol::{CloseCode, ErrorCode, Request, limits::TOO_MUCH_WAIT_MS};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};

/// When to come back to a server that has hardly any place left, and too many of them taken from there.
const CROWDED_RETRY: Duration = Duration::from_secs(60);
/// What a connection hears that gives its place up to who signs in from elsewhere.
const CROWDED: Close = Close { code: CloseCode::TryAgainLater, retry_after_ms: Some(60_000) };

/// Begins a connection over a stream that was upgraded to WebSocket, of which `early` was read before; `place` is what it
/// holds among those there is room for. The stream may be a TCP socket or anything else that carries bytes. To be run to its
/// end: [`Task::run_to_end`].
pub fn open<S: AsyncRead + AsyncWrite + Unpin>(
    (stream, early): (S, Vec<u8>),
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
    let stage = Stage::Stranger(Stranger::new(&context.timing, started));
    let socket = Socket::new(stream, early);
    Box::new(Task {
        transport: Transport { socket, outbox, place, peer, started, received: 0, sent: 0, kept: 0, context },
        stage,
    })
}

/// A connection.
///
/// Its future is small, because there is one for every idle connection: what it owns is in one box, and what is needed
/// only now and then is boxed when it is.
pub struct Task<S> {
    transport: Transport<S>,
    stage: Stage,
}

/// How far a connection has come.
enum Stage {
    /// Nobody has signed in.
    Stranger(Stranger),
    /// Signed in.
    Open(Open),
}

impl Stage {
    fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Stranger(_) => None,
            Self::Open(open) => Some(&open.connection),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    /// Runs the connection to its end.
    pub async fn run_to_end(mut self: Box<Self>) {
        let served = AssertUnwindSafe(self.serve()).catch_unwind().await;
        // A fault in here must not leave a dead connection in the hub. The panic itself was logged by its hook.
        let end = served.unwrap_or(End::Close(Close::with(CloseCode::Internal)));
        let context = Arc::clone(&self.transport.context);
        Box::pin(self.finish(end)).await;
        context.metrics.connections.dec();
    }

    async fn serve(&mut self) -> End {
        let hello = Instant::now() + self.transport.context.timing.hello;
        let timer = sleep_until(hello);
        tokio::pin!(timer);
        // Each in a box: they are large, and needed once.
        let greeting = match Box::pin(self.greet(timer.as_mut())).await {
            Ok(greeting) => greeting,
            Err(end) => return end,
        };
        if let Err(end) = Box::pin(self.sign_in(greeting)).await {
            return end;
        }
        // It is open now: nothing else ends well.
        let Self { transport, stage: Stage::Open(open) } = self else { return End::Gone };
        let Err(end) = AtWork { transport, open }.run(timer).await;
        end
    }

    /// Waits for hello: nothing else can be asked for before it.
    async fn greet(&mut self, mut timer: Pin<&mut Sleep>) -> Result<Box<Greeting>, End> {
        let Self { transport, stage: Stage::Stranger(stranger) } = self else { return Err(End::Gone) };
        loop {
            if stranger.deadline() < timer.deadline() {
                timer.as_mut().reset(stranger.deadline());
            }
            let Transport { socket, outbox, context, received, .. } = transport;
            let first = tokio::select! {
                close = outbox.ordered_to_close() => return Err(End::Close(close)),
                first = socket.hear(|heard| first(heard, received, context)) => first?,
                () = timer.as_mut() => {
                    // What has arrived counts, although the timer was looked at first.
                    match socket.hear(|heard| first(heard, received, context)).now_or_never() {
                        Some(first) => first?,
                        None => {
                            let now = Instant::now();
                            if let Some(close) = stranger.tick(now) {
                                return Err(End::Close(close));
                            }
                            timer.as_mut().reset(stranger.deadline().max(now));
                            continue;
                        }
                    }
                }
                () = context.draining.cancelled() => return Err(End::Close(Close::with(CloseCode::GoingAway))),
            };
            match first {
                First::Greeting(greeting) => return Ok(greeting),
                First::Farewell(farewell) => return Err(Box::pin(transport.refuse(*farewell)).await),
                First::Nothing => {}
            }
        }
    }

    /// Signs the connection in and brings the client up to date. Events are queued from the moment of the sign-in and
    /// go out after the sync, so nothing falls between.
    async fn sign_in(&mut self, greeting: Box<Greeting>) -> Result<(), End> {
        let (Greeting { id, hello }, started) = (*greeting, Instant::now());
        let transport = &mut self.transport;
        let context = Arc::clone(&transport.context);
        let accounts = &context.connections.accounts;
        let start = |member| match &hello.cursor {
            Some(cursor) => context.messaging.start_of(member, cursor),
            None => Start::Full,
        };
        let admitted = context.hellos.admit((&accounts.tokens, &accounts.stale), &hello.token, transport.peer, start);
        let Admitted { verified, start } = match admitted {
            Ok(admitted) => admitted,
            Err(failure) => return Err(transport.refuse(Farewell::new(id.as_ref(), failure)).await),
        };
        if transport.place.as_ref().is_some_and(|place| place.may_sign_in().is_err()) {
            let crowded = Failure::of(ErrorCode::Overloaded).retry_after(CROWDED_RETRY);
            return Err(transport.refuse(Farewell::new(id.as_ref(), crowded)).await);
        }
        transport.outbox.begin_sync();
        let cursor = hello.cursor.clone();
        let signed_in =
            match context.connections.sign_in((hello, verified), Arc::clone(&transport.outbox), transport.peer).await {
                Ok(signed_in) => signed_in,
                Err(failure) => return Err(transport.refuse(Farewell::new(id.as_ref(), failure)).await),
            };
        let (machine, welcome) = Machine::welcome(&context.timing, context.now(), id.as_ref(), &signed_in);
        self.stage = Stage::Open(Open::new(signed_in.connection, machine, welcome));
        if let Some(crowd) = self.transport.place.as_ref().and_then(Place::signed_in) {
            let is_of_crowd = |connection: &Connection| connection.from.is_some_and(|from| crowd.has(from));
            context.connections.hub.close_newest(is_of_crowd, CROWDED);
        }
        // If the order to go away went round before this connection was registered, it did not hear it.
        if context.draining.is_cancelled() {
            self.transport.outbox.close(Close::with(CloseCode::GoingAway));
        }
        if let Self { transport, stage: Stage::Open(open) } = self {
            AtWork { transport, open }.catch_up(start, cursor.as_ref()).await?;
        }
        context.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Signs out, says how it was, and closes.
    async fn finish(mut self: Box<Self>, end: End) {
        let Self { transport, stage } = &mut *self;
        let context = Arc::clone(&transport.context);
        if let Stage::Open(open) = stage {
            let typing = open.machine.end();
            context.connections.sign_out(&open.connection);
            dispatch::stop_typing(&context, &open.connection, typing);
        }
        transport.outbox.end();
        report(transport, stage.connection(), end);
        let Self { transport, stage } = *self;
        close(transport, end).await;
        if let Some(connection) = stage.connection() {
            context.connections.hub.forget(connection);
        }
    }
}

/// The first thing that is said.
enum First {
    Greeting(Box<Greeting>),
    Farewell(Box<Farewell>),
    /// It was nothing yet.
    Nothing,
}

fn first(heard: Heard<'_>, received: &mut u32, context: &Context) -> Result<First, End> {
    let text = match heard {
        Heard::Text(text) => text,
        Heard::Violation(code) => return Err(End::Close(violation(code))),
        Heard::Nothing => return Ok(First::Nothing),
        Heard::Left => return Err(End::Left),
        Heard::Gone => return Err(End::Gone),
    };
    *received = received.saturating_add(1);
    let request = Request::decode(text);
    match &request {
        Ok(request) => context.metrics.frame_received(request.frame.index()),
        Err(_) => context.metrics.frame_invalid(),
    }
    Ok(match first_frame(request) {
        Ok(greeting) => First::Greeting(Box::new(greeting)),
        Err(farewell) => First::Farewell(Box::new(farewell)),
    })
}

/// Counts and logs the end of a connection, and keeps out for a while who asked for too much.
fn report<S>(transport: &Transport<S>, connection: Option<&Connection>, end: End) {
    let Transport { peer, started, received, sent, context, .. } = transport;
    let code = match end {
        End::Close(close) => Some(close.code),
        End::Left | End::Gone => None,
    };
    // Not who has a connection too many on several nodes: that was for others to close.
    if let (Some(CloseCode::TooMuch), Some(connection)) = (code, connection)
        && transport.outbox.closing().is_none_or(|ordered| ordered.code != CloseCode::TooMuch)
    {
        let wait = Duration::from_millis(TOO_MUCH_WAIT_MS);
        context.hellos.keep_out(connection.member, wait);
        context.connections.tell_kept_out(connection.member, wait);
    }
    context.metrics.connection_closed(code);
    let (seconds, number) = (started.elapsed().as_secs(), code.map(CloseCode::number));
    // A line for each connection of a member; not for those that anybody can make as often as they like.
    if let Some(Connection { id: connection, member, .. }) = connection {
        tracing::info!(%connection, %member, %peer, code = number, received, sent, seconds, "connection closed");
    } else {
        tracing::debug!(%peer, code = number, received, sent, seconds, "connection closed before hello");
    }
}

/// Closes the socket, as long as its memory is not needed.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(transport: Transport<S>, end: End) {
    let Transport { socket, outbox, place, context, .. } = transport;
    // What the socket has half written is held until that is closed, unless that memory is needed: then it ends at once.
    let is_cut = outbox.is_cut();
    let end = if is_cut && socket.unwritten() > 0 { End::Gone } else { end };
    if !matches!(end, End::Gone) {
        outbox.hold(socket.unwritten());
    }
    let closed = async {
        match end {
            End::Close(close) => socket.close(close, &context.timing).await,
            End::Left => socket.answer_close(&context.timing).await,
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
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use tokio::net::TcpStream;

    use super::*;

    fn future_size<F>(_: fn(Box<Task<TcpStream>>) -> F) -> usize {
        size_of::<F>()
    }

    /// There is one of each for every idle connection.
    #[test]
    fn what_an_idle_connection_holds_is_small() {
        let (task, future) = (size_of::<Task<TcpStream>>(), future_size(Task::run_to_end));
        // Bytes, on 64 bits. The allocator has room for 320 and then for 384; the runtime adds about 100 to the future, and
        // rounds that up to 128.
        assert!(task <= 320 && future <= 256, "{task} {future}");
    }
}
