//! What a connection has from its first moment to its last, whoever is at the other end.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

use protocol::CloseCode;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::{
    Context,
    machine::Moment,
    socket::{Gone, Socket, close_code},
    stranger::Farewell,
};
use crate::{
    admission::Place,
    hub::{Close, Frame, Outbox},
};

/// How a connection ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// With a close code of ours.
    Close(Close),
    /// The other side closed it, with a close frame.
    Left,
    /// The other side vanished.
    Gone,
}

/// A message of the WebSocket library.
pub(super) enum Heard {
    /// A frame of the protocol, or what poses as one.
    Text(Utf8Bytes),
    /// What no client of this protocol sends.
    Violation(CloseCode),
    /// What the library answers itself.
    Nothing,
}

/// What came.
pub(super) fn heard(message: Option<Result<Message, tungstenite::Error>>) -> Result<Heard, End> {
    match message {
        Some(Ok(Message::Text(text))) => Ok(Heard::Text(text)),
        Some(Ok(Message::Binary(_))) => Ok(Heard::Violation(CloseCode::UnsupportedData)),
        // The library answers pings of the WebSocket layer; they do not count as heartbeats.
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(Heard::Nothing),
        Some(Ok(Message::Close(_))) => Err(End::Left),
        None => Err(End::Gone),
        Some(Err(error)) => close_code(&error).map(Heard::Violation).ok_or(End::Gone),
    }
}

/// The socket, and what belongs to it.
pub(super) struct Transport<S> {
    pub(super) socket: Socket<S>,
    pub(super) outbox: Arc<Outbox>,
    /// Among the connections that there is room for; nothing for one that is not counted.
    pub(super) place: Option<Place>,
    pub(super) peer: IpAddr,
    pub(super) started: Instant,
    /// Text frames.
    pub(super) received: u64,
    /// Frames.
    pub(super) sent: u64,
    pub(super) context: Arc<Context>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    pub(super) fn now(&self) -> Moment {
        Moment { instant: Instant::now(), time: self.context.clock.now() }
    }

    /// Says why a connection cannot be served.
    pub(super) async fn refuse(&mut self, Farewell { frame, close }: Farewell) -> End {
        match self.send(VecDeque::from([frame])).await {
            Ok(()) => End::Close(close),
            Err(end) => end,
        }
    }

    /// Writes frames and flushes once; does nothing if there are none. Once the connection is to close, what is left of
    /// them has only so much time.
    pub(super) async fn send(&mut self, mut frames: VecDeque<Frame>) -> Result<(), End> {
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

    /// Writes frames of a sync. That may take minutes, so an order to close ends it.
    pub(super) async fn send_sync(&mut self, frames: VecDeque<Frame>) -> Result<(), End> {
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
}

/// Waits until there is no use in writing on: a while after the order to close, at once if its memory is needed.
async fn given_up(outbox: &Outbox, patience: Duration) -> Close {
    let close = outbox.ordered_to_close().await;
    // Either way it is over: an end of the patience is no failure.
    let _ = timeout(patience, outbox.overflowed()).await;
    close
}
