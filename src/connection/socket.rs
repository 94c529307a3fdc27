//! The writing half of a connection: deadlines, counting, and closing properly.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use protocol::{CloseCode, ServerFrame, server::Goodbye};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        error::{CapacityError, ProtocolError},
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use super::{Timing, meter::Refused, pace::Patience, reading::Reading, writing::Writing};
use crate::{
    hub::{Close, Frame},
    telemetry::Metrics,
};

/// Bytes that the library reads at once, and allocates for as long as the connection lives. They come out of a buffer that
/// all connections share, so a small number costs no calls of the kernel.
const READ_BUFFER: usize = 256;
/// Bytes that may wait in the library while the socket takes none: a pong, the goodbye and the close frame. All other
/// frames go past it.
const WRITE_BUFFER_MAX: usize = 4 * 1024;
/// Bytes that are read and thrown away while a connection is being closed.
const LINGER_BYTES: u64 = 1024 * 1024;

/// A stream that was upgraded to WebSocket, after what was read from it before.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(stream: S, early: Vec<u8>) -> WebSocketStream<Reading<S>> {
    WebSocketStream::from_raw_socket(Reading::new(stream, early), Role::Server, Some(config())).await
}

/// The settings of the WebSocket library: its defaults are 128 KiB for reading and no bound for writing.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_MAX)
        .max_message_size(Some(protocol::limits::FRAME_MAX_BYTES))
        .max_frame_size(Some(protocol::limits::FRAME_MAX_BYTES))
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub enum Gone {
    /// The other side closed it, or vanished.
    Closed,
    /// The other side does not read fast enough.
    TooSlow,
}

/// A WebSocket with the server's manners.
///
/// The library reads, answers pings and closes; frames are written by [`Writing`], between what the library writes.
pub struct Socket<S> {
    stream: WebSocketStream<Reading<S>>,
    writing: Writing,
    timing: Timing,
    metrics: Arc<Metrics>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Wraps a WebSocket.
    pub fn new(stream: WebSocketStream<Reading<S>>, timing: Timing, metrics: Arc<Metrics>) -> Self {
        Self { stream, writing: Writing::default(), timing, metrics }
    }

    /// The next message. Can be abandoned at any time.
    pub async fn next(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        self.stream.next().await
    }

    /// Bytes that are begun and not written yet.
    pub fn unwritten(&self) -> usize {
        self.writing.unwritten()
    }

    /// Writes frames and flushes once. What is written leaves `frames`. A slow reader may take its time, but neither stop
    /// nor take hardly anything: see [`Pace`](super::pace::Pace).
    ///
    /// # Errors
    /// When the other side is gone, or too slow.
    pub async fn send(&mut self, frames: &mut VecDeque<Frame>) -> Result<(), Gone> {
        // Made when the socket takes no more, which is seldom, and given back with this future.
        let mut patience: Option<Box<Patience>> = None;
        poll_fn(|context| {
            let before = self.writing.total();
            match self.poll_send(context, frames) {
                Poll::Ready(written) => Poll::Ready(written.map_err(|_| Gone::Closed)),
                Poll::Pending => {
                    // What went into empty buffers at first says nothing of the reader.
                    let taken = patience.as_ref().map_or(0, |_| self.writing.total().wrapping_sub(before));
                    let patience = patience.get_or_insert_with(|| Box::new(Patience::new(self.timing.write)));
                    patience.poll_lost(taken, context).map(|()| Err(Gone::TooSlow))
                }
            }
        })
        .await
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut VecDeque<Frame>,
    ) -> Poll<Result<(), tungstenite::Error>> {
        // Not between two halves of something of ours: what is begun is finished before anything is read again, and it is
        // only when reading that the library writes.
        ready!(self.writing.poll_rest(self.stream.get_mut(), context))?;
        ready!(self.stream.poll_flush_unpin(context))?;
        let Self { stream, writing, metrics, .. } = self;
        let begun = |frame: &Frame| metrics.frame_sent(frame.index());
        ready!(writing.poll_frames(stream.get_mut(), context, frames, begun))?;
        Poll::Ready(Ok(()))
    }

    /// Says goodbye, closes, and waits a little for the other side to do the same: a socket that is closed with unread
    /// data in it takes back what was not delivered yet, the reason included.
    pub async fn close(mut self, close: Close) {
        let Close { code, retry_after_ms } = close;
        // One who is slow, and not gone, takes longer to come to the reason.
        let patience = if code == CloseCode::SlowConsumer { self.timing.close * 3 } else { self.timing.close };
        let goodbye = Goodbye { code, reason: code.reason().to_owned(), retry_after_ms };
        let goodbye = ServerFrame::Goodbye(goodbye).encode(None);
        let frame = CloseFrame { code: code.number().into(), reason: code.reason().into() };
        // However this ends, the connection is over.
        let _ = timeout(patience, async {
            poll_fn(|context| self.writing.poll_rest(self.stream.get_mut(), context)).await?;
            self.stream.feed(Message::Text(goodbye.into())).await?;
            self.stream.close(Some(frame)).await?;
            self.stream.get_mut().shutdown().await?;
            linger(self.stream.get_mut().stream()).await?;
            Ok::<(), tungstenite::Error>(())
        })
        .await;
        // What was not read yet would make the kernel throw away what it has for the other side.
        let _ = linger(self.stream.get_mut().stream()).now_or_never();
    }

    /// Answers the close frame of the other side with one (RFC 6455, section 5.5.1), and closes.
    pub async fn answer_close(mut self) {
        // However this ends, the connection is over.
        let _ = timeout(self.timing.close, async {
            poll_fn(|context| self.writing.poll_rest(self.stream.get_mut(), context)).await?;
            // The library has the answer ready, and says that the connection is closed once it is written.
            match self.stream.flush().await {
                Ok(()) | Err(tungstenite::Error::ConnectionClosed) => {}
                Err(error) => return Err(error),
            }
            self.stream.get_mut().shutdown().await?;
            linger(self.stream.get_mut().stream()).await?;
            Ok::<(), tungstenite::Error>(())
        })
        .await;
    }
}

/// Reads and throws away until the other side has closed.
async fn linger<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<u64> {
    let mut rest = tokio::io::AsyncReadExt::take(stream, LINGER_BYTES);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
}

/// The close code for something that the WebSocket library refused; none if the other side is gone.
#[must_use]
pub fn close_code(error: &tungstenite::Error) -> Option<CloseCode> {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseCode::TooLarge),
        tungstenite::Error::Utf8(_) => Some(CloseCode::InvalidUtf8),
        tungstenite::Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing,
        ) => None,
        tungstenite::Error::Protocol(_) => Some(CloseCode::ProtocolError),
        tungstenite::Error::Io(error) => Refused::of(error).map(|refused| match refused {
            Refused::TooMany => CloseCode::TooMuch,
            Refused::TooLarge => CloseCode::TooLarge,
        }),
        _ => None,
    }
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

    async fn socket() -> (Socket<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(KERNEL);
        let metrics = Arc::new(Metrics::new());
        (Socket::new(accept(near, Vec::new()).await, TIMING, metrics), far)
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
            let (mut socket, far) = socket().await;
            let reading = tokio::spawn(read_slowly(far, 2_000));
            socket.send(&mut frames(count, length)).await.unwrap();
            socket.close(Close::with(CloseCode::GoingAway)).await;
            assert!(reading.await.unwrap().len() > count * length - KERNEL);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_or_takes_hardly_anything_is_too_slow() {
        for (bytes_per_second, seconds) in [(0, 10), (1, 60), (50, 60)] {
            let (mut socket, far) = socket().await;
            let reading = tokio::spawn(async move {
                if bytes_per_second == 0 {
                    let _open = far;
                    return std::future::pending().await;
                }
                read_slowly(far, bytes_per_second).await
            });
            let started = tokio::time::Instant::now();
            let sent = socket.send(&mut frames(10, 64_000)).await;
            assert!(matches!(sent, Err(Gone::TooSlow)), "{bytes_per_second}");
            assert_eq!(started.elapsed().as_secs(), seconds, "{bytes_per_second}");
            reading.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_told_why_it_is_cut() {
        let (mut socket, far) = socket().await;
        let mut begun = frames(1, 20_000);
        // Cut in the middle of a frame, as an outbox that overflows does it.
        assert!(socket.send(&mut begun).now_or_never().is_none());
        let reading = tokio::spawn(read_slowly(far, 8_000));
        socket.close(Close::with(CloseCode::SlowConsumer)).await;
        let read = reading.await.unwrap();
        let text = String::from_utf8_lossy(&read);
        assert!(text.contains(r#"{"type":"goodbye","code":4413,"reason":"slow_consumer"}"#), "{} bytes", read.len());
    }
}
