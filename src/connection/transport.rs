//! What a connection has from its first moment to its last, whoever is at the other end.

use std::{
    collections::VecDeque,
    future::poll_fn,
    net::IpAddr,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use protocol::CloseCode;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};

use super::{
    Context,
    socket::{Gone, Socket},
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

/// The socket, and what belongs to it.
pub(super) struct Transport<S> {
    pub(super) socket: Socket<S>,
    pub(super) outbox: Arc<Outbox>,
    /// Among the connections that there is room for; nothing for one that is not counted.
    pub(super) place: Option<Place>,
    pub(super) peer: IpAddr,
    pub(super) started: Instant,
    /// Text frames.
    pub(super) received: u32,
    /// Frames.
    pub(super) sent: u32,
    /// Bytes of an incomplete message and of requests that wait that are charged.
    pub(super) kept: u32,
    pub(super) context: Arc<Context>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    /// Says why a connection cannot be served.
    pub(super) async fn refuse(&mut self, Farewell { frame, close }: Farewell) -> End {
        match self.send(VecDeque::from([frame])).await {
            Ok(()) => End::Close(close),
            Err(end) => end,
        }
    }

    /// Writes frames; does nothing if there are none.
    pub(super) async fn send(&mut self, mut frames: VecDeque<Frame>) -> Result<(), End> {
        match poll_fn(|context| Poll::Ready(self.poll_send(context, &mut frames))).await {
            Poll::Ready(sent) => sent,
            // Boxed, as is all that is seldom needed.
            Poll::Pending => Box::pin(self.send_rest(frames)).await,
        }
    }

    /// Charges what has arrived of an incomplete message, and so many bytes of requests that wait: a client decides how much
    /// that is, and for how long.
    pub(super) fn charge_kept(&mut self, waiting: usize) {
        let kept = self.socket.incomplete().saturating_add(u32::try_from(waiting).unwrap_or(u32::MAX));
        if kept != self.kept {
            self.kept = kept;
            self.outbox.keep(kept);
        }
    }

    /// Writes as much of these frames as the socket takes; the rest is for [`Self::send_rest`].
    pub(super) fn poll_send(
        &mut self,
        context: &mut task::Context<'_>,
        frames: &mut VecDeque<Frame>,
    ) -> Poll<Result<(), End>> {
        if frames.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.sent = self.sent.saturating_add(u32::try_from(frames.len()).unwrap_or(u32::MAX));
        self.socket.poll_send(context, frames, &self.context.metrics).map_err(|_| End::Gone)
    }

    /// Writes what [`Self::poll_send`] has begun or left. Once the connection is to close, it has only so much time.
    pub(super) async fn send_rest(&mut self, mut frames: VecDeque<Frame>) -> Result<(), End> {
        let Context { timing, metrics, .. } = &*self.context;
        tokio::select! {
            biased;
            written = self.socket.send(&mut frames, timing, metrics) => written.map_err(|gone| match gone {
                Gone::Closed => End::Gone,
                Gone::TooSlow => End::Close(Close::with(CloseCode::SlowConsumer)),
            }),
            close = given_up(&self.outbox, timing.close) => Err(End::Close(close)),
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
