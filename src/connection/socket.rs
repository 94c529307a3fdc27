//! The socket of a connection: reading and writing frames, deadlines, and closing properly.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    ops::ControlFlow,
    task::{Context, Poll},
};

use futures_util::FutureExt as _;
use protocol::{CloseCode, ServerFrame, server::Goodbye};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    Timing,
    frames::{Frames, Incoming},
    pace::Patience,
    reading,
    writing::Writing,
};
use crate::{
    hub::{Close, Frame},
    telemetry::Metrics,
};

/// Bytes that are read and thrown away while a connection is being closed.
const LINGER_BYTES: usize = 1024 * 1024;
/// Bytes of them at a time.
const LINGER_PIECE: usize = 512;

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// A frame of the protocol, or what poses as one.
    Text(&'a str),
    /// What no client of this protocol sends.
    Violation(CloseCode),
    /// What does not count as a heartbeat: the socket answers pings of the WebSocket layer by itself.
    Nothing,
    /// The other side closed, with a close frame.
    Left,
    /// The other side vanished.
    Gone,
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub(super) enum Gone {
    /// The other side closed it, or vanished.
    Closed,
    /// The other side does not read fast enough.
    TooSlow,
}

/// A stream that was upgraded to WebSocket, with the server's manners: it answers pings and closes.
///
/// There is one for every idle connection, and it is small: buffers are the threads'.
pub(super) struct Socket<S> {
    stream: S,
    frames: Frames,
    writing: Writing,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// A stream of which `early` was read before.
    pub(super) fn new(stream: S, early: Vec<u8>) -> Self {
        Self { stream, frames: Frames::new(early), writing: Writing::default() }
    }

    /// Hears what has arrived, until there is no more or `hear` pauses. Ready when it has paused, and at the end of what can
    /// be heard, of which it is told.
    pub(super) fn poll_hear(
        &mut self,
        context: &mut Context<'_>,
        mut hear: impl FnMut(Heard<'_>) -> ControlFlow<()>,
    ) -> Poll<()> {
        let Self { stream, frames, writing } = self;
        let read = reading::poll_frames(stream, frames, context, &mut |incoming| {
            hear(match incoming {
                Incoming::Text(text) => Heard::Text(text),
                Incoming::Ping(payload) => {
                    writing.pong(payload);
                    Heard::Nothing
                }
                Incoming::Pong => Heard::Nothing,
                Incoming::Close(answer) => {
                    writing.close(None, answer);
                    Heard::Left
                }
                Incoming::Refused(code) => Heard::Violation(code),
            })
        });
        // A pong that the socket does not take waits for the next one, or for the next frame, which has a deadline.
        let answered = if writing.is_empty() { Poll::Ready(Ok(())) } else { writing.poll_waiting(stream, context) };
        match (read, answered) {
            (Poll::Ready(Ok(true)), _) => Poll::Ready(()),
            (Poll::Ready(Ok(false) | Err(_)), _) | (Poll::Pending, Poll::Ready(Err(_))) => {
                let _ = hear(Heard::Gone);
                Poll::Ready(())
            }
            (Poll::Pending, _) => Poll::Pending,
        }
    }

    /// Hears one thing. Can be abandoned at any time.
    pub(super) async fn hear<T>(&mut self, mut what: impl FnMut(Heard<'_>) -> T) -> T {
        let mut heard = None;
        poll_fn(|context| {
            // It is ready only after it has told something.
            let _ = self.poll_hear(context, |one| {
                heard = Some(what(one));
                ControlFlow::Break(())
            });
            heard.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Bytes of memory that are taken by what has arrived of an incomplete message.
    pub(super) fn incomplete(&self) -> u32 {
        u32::try_from(self.frames.incomplete()).unwrap_or(u32::MAX)
    }

    /// Bytes that are begun and not written yet.
    pub(super) fn unwritten(&self) -> usize {
        self.writing.unwritten()
    }

    /// Writes frames. What is written leaves `frames`. A slow reader may take its time, but neither stop nor take hardly
    /// anything: see [`Pace`](super::pace::Pace).
    ///
    /// # Errors
    /// When the other side is gone, or too slow.
    pub(super) async fn send(
        &mut self,
        frames: &mut VecDeque<Frame>,
        timing: &Timing,
        metrics: &Metrics,
    ) -> Result<(), Gone> {
        // Made when the socket takes no more, which is seldom, and given back with this future.
        let mut patience: Option<Box<Patience>> = None;
        poll_fn(|context| {
            let before = self.writing.total();
            match self.poll_send(context, frames, metrics) {
                Poll::Ready(written) => Poll::Ready(written.map_err(|_| Gone::Closed)),
                Poll::Pending => {
                    // What went into empty buffers at first says nothing of the reader.
                    let taken = patience.as_ref().map_or(0, |_| self.writing.total().wrapping_sub(before));
                    let patience = patience.get_or_insert_with(|| Box::new(Patience::new(timing.write)));
                    patience.poll_lost(taken, context).map(|()| Err(Gone::TooSlow))
                }
            }
        })
        .await
    }

    /// Writes as much of these frames as the socket takes. What has no room in it is kept, and comes before the next ones.
    ///
    /// # Errors
    /// When the stream is broken.
    pub(super) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut VecDeque<Frame>,
        metrics: &Metrics,
    ) -> Poll<io::Result<()>> {
        self.writing.poll_frames(&mut self.stream, context, frames, |frame| metrics.frame_sent(frame.index()))
    }

    /// Says goodbye, closes, and waits a little for the other side to do the same: a socket that is closed with unread
    /// data in it takes back what was not delivered yet, the reason included.
    pub(super) async fn close(mut self, close: Close, timing: &Timing) {
        let Close { code, retry_after_ms } = close;
        // One who is slow, and not gone, takes longer to come to the reason.
        let patience = if code == CloseCode::SlowConsumer { timing.close * 3 } else { timing.close };
        let goodbye = Goodbye { code, reason: code.reason().to_owned(), retry_after_ms };
        let goodbye = ServerFrame::Goodbye(goodbye).encode(None);
        let payload = [&code.number().to_be_bytes(), code.reason().as_bytes()].concat();
        self.writing.close(Some(&goodbye), &payload);
        // However this ends, the connection is over.
        let _ = timeout(patience, self.leave()).await;
        // What was not read yet would make the kernel throw away what it has for the other side.
        let _ = linger(&mut self.stream).now_or_never();
    }

    /// Answers the close frame of the other side with one (RFC 6455, section 5.5.1), and closes.
    pub(super) async fn answer_close(mut self, timing: &Timing) {
        // However this ends, the connection is over. The answer lies ready.
        let _ = timeout(timing.close, self.leave()).await;
    }

    async fn leave(&mut self) -> io::Result<()> {
        poll_fn(|context| self.writing.poll_waiting(&mut self.stream, context)).await?;
        self.stream.shutdown().await?;
        linger(&mut self.stream).await?;
        Ok(())
    }
}

/// Reads and throws away until the other side has closed.
async fn linger<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    // Small: many may be closed at once.
    let mut piece = [0; LINGER_PIECE];
    for _ in 0..LINGER_BYTES / LINGER_PIECE {
        if stream.read(&mut piece).await? == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::{ErrorCode, server::Error};
    use tokio::io::{AsyncReadExt as _, DuplexStream};

    use super::*;
    use crate::connection::TIMING;

    /// What the kernel holds, on both sides.
    const KERNEL: usize = 16 * 1024;

    fn socket() -> (Socket<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(KERNEL);
        (Socket::new(near, Vec::new()), far)
    }

    async fn send(socket: &mut Socket<DuplexStream>, mut frames: VecDeque<Frame>) -> Result<(), Gone> {
        socket.send(&mut frames, &TIMING, &Metrics::new()).await
    }

    fn frames(count: usize, length: usize) -> VecDeque<Frame> {
        let message = "x".repeat(length);
        let error = Error { code: ErrorCode::Internal, message, field: None, retry_after_ms: None };
        std::iter::repeat_n(Frame::push(&ServerFrame::Error(error)), count).collect()
    }

    /// Reads so many bytes every second, until the end. Returns them.
    async fn read_slowly(mut far: DuplexStream, bytes_per_second: usize) -> Vec<u8> {
        let mut interval = tokio::time::interval(Duration::from_secs(1));
        let (mut read, mut piece) = (Vec::new(), vec![0; bytes_per_second]);
        loop {
            interval.tick().await;
            match far.read(&mut piece).await {
                Ok(count) if count > 0 => read.extend_from_slice(&piece[..count]),
                _ => return read,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_of_2_kb_a_second_gets_everything_however_large_the_frames_are() {
        for (count, length) in [(100, 7_700), (12, 64_000), (4, 190_000)] {
            let (mut socket, far) = socket();
            let reading = tokio::spawn(read_slowly(far, 2_000));
            send(&mut socket, frames(count, length)).await.unwrap();
            socket.close(Close::with(CloseCode::GoingAway), &TIMING).await;
            assert!(reading.await.unwrap().len() > count * length - KERNEL);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_or_takes_hardly_anything_is_too_slow() {
        for (bytes_per_second, seconds) in [(0, 10), (1, 60), (50, 60)] {
            let (mut socket, far) = socket();
            let reading = tokio::spawn(async move {
                if bytes_per_second == 0 {
                    let _open = far;
                    return std::future::pending().await;
                }
                read_slowly(far, bytes_per_second).await
            });
            let started = tokio::time::Instant::now();
            let sent = send(&mut socket, frames(10, 64_000)).await;
            assert!(matches!(sent, Err(Gone::TooSlow)), "{bytes_per_second}");
            assert_eq!(started.elapsed().as_secs(), seconds, "{bytes_per_second}");
            reading.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_told_why_it_is_cut() {
        let (mut socket, far) = socket();
        // Cut in the middle of a frame, as an outbox that overflows does it.
        assert!(send(&mut socket, frames(1, 20_000)).now_or_never().is_none());
        let reading = tokio::spawn(read_slowly(far, 8_000));
        socket.close(Close::with(CloseCode::SlowConsumer), &TIMING).await;
        let read = reading.await.unwrap();
        let text = String::from_utf8_lossy(&read);
        assert!(text.contains(r#"{"type":"goodbye","code":4413,"reason":"slow_consumer"}"#), "{} bytes", read.len());
    }
}
