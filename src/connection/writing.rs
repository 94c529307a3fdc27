//! Writing through a buffer that all connections of a thread share.
//!
//! The counterpart of [`super::reading`]: frames are put together in one buffer for each thread and handed to the kernel from
//! there; only what it does not take at once waits in an allocation of the connection's own.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::frames;
use crate::hub::Frame;

/// Bytes written together before the first of them go out.
const SHARED: usize = 16 * 1024;
/// Bytes of pongs that may wait while the socket takes none. Of more, only the newest is sent (RFC 6455, section 5.5.3).
const PONGS_MAX: usize = 4 * 1024;

/// The first byte of a frame that is whole, as all of ours are.
const LAST: u8 = 0x80;
const TEXT: u8 = 0x1;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What was not taken by the kernel yet.
#[derive(Default)]
pub(super) struct Writing {
    waiting: Option<Box<Waiting>>,
    /// Bytes that the kernel has taken in all, modulo what the number holds.
    total: usize,
}

#[derive(Default)]
struct Waiting {
    /// What was begun, from `taken` on.
    begun: Vec<u8>,
    taken: usize,
    /// What goes out after it, before any other frame: pongs, and what is said last.
    next: Vec<u8>,
}

impl Writing {
    /// Bytes that the kernel has taken in all; may begin again at zero.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Bytes that are kept because the stream did not take them.
    pub(super) fn unwritten(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.begun.len())
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// Answers a ping.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        let next = &mut self.waiting.get_or_insert_default().next;
        if next.len() + payload.len() > PONGS_MAX {
            next.clear();
        }
        put(frames::PONG, payload, next);
    }

    /// Says something last, before a close frame with this payload.
    pub(super) fn close(&mut self, last: Option<&str>, payload: &[u8]) {
        let next = &mut self.waiting.get_or_insert_default().next;
        if let Some(text) = last {
            put(TEXT, text.as_bytes(), next);
        }
        put(frames::CLOSE, payload, next);
    }

    /// Writes what was begun, and what goes out before any other frame.
    ///
    /// # Errors
    /// When the stream is broken.
    pub(super) fn poll_waiting<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(waiting) = &mut self.waiting {
            if waiting.taken >= waiting.begun.len() {
                if waiting.next.is_empty() {
                    self.waiting = None;
                    break;
                }
                (waiting.begun, waiting.taken) = (std::mem::take(&mut waiting.next), 0);
            }
            let rest = waiting.begun.get(waiting.taken..).unwrap_or_default();
            let count = written(ready!(Pin::new(&mut *stream).poll_write(context, rest))?)?;
            waiting.taken += count;
            self.total = self.total.wrapping_add(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes frames; calls `begun` for each that leaves `frames`. Ready when all are with the kernel.
    ///
    /// # Errors
    /// When the stream is broken.
    pub(super) fn poll_frames<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        frames: &mut VecDeque<Frame>,
        begun: impl Fn(&Frame),
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_waiting(stream, context))?;
            if frames.is_empty() {
                return Poll::Ready(Ok(()));
            }
            BUFFER.with_borrow_mut(|buffer| {
                buffer.clear();
                while buffer.len() < SHARED
                    && let Some(frame) = frames.pop_front()
                {
                    begun(&frame);
                    put(TEXT, frame.text().as_bytes(), buffer);
                }
                let mut taken = 0;
                while let Some(rest) = buffer.get(taken..).filter(|rest| !rest.is_empty()) {
                    match Pin::new(&mut *stream).poll_write(context, rest) {
                        Poll::Ready(count) => {
                            let count = written(count?)?;
                            taken += count;
                            self.total = self.total.wrapping_add(count);
                        }
                        Poll::Pending => {
                            self.waiting.get_or_insert_default().begun = rest.to_vec();
                            break;
                        }
                    }
                }
                // A large frame of one connection is not kept for all others.
                buffer.clear();
                buffer.shrink_to(SHARED * 2);
                Ok::<(), io::Error>(())
            })?;
        }
    }
}

/// Puts a frame into a buffer: whole and not masked, as a server's are (RFC 6455, section 5.2).
fn put(opcode: u8, payload: &[u8], buffer: &mut Vec<u8>) {
    buffer.push(LAST | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..126), _) => buffer.push(length),
        (_, Ok(length)) => {
            buffer.push(126);
            buffer.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            buffer.push(127);
            buffer.extend_from_slice(&u64::try_from(payload.len()).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    buffer.extend_from_slice(payload);
}

/// A stream that takes nothing and is not full is broken.
fn written(count: usize) -> io::Result<usize> {
    if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::StreamExt as _;
    use protocol::{ServerFrame, server::Error};
    use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

    use super::*;

    fn frame(length: usize) -> Frame {
        let error = Error {
            code: protocol::ErrorCode::Internal,
            message: "x".repeat(length),
            field: None,
            retry_after_ms: None,
        };
        Frame::push(&ServerFrame::Error(error))
    }

    #[tokio::test]
    async fn every_frame_arrives_whole_and_in_order_however_little_the_stream_takes() {
        // The lengths of a header change at 126 and at 65,536 bytes.
        let lengths = [0, 20, 24, 25, 26, 27, 28, 200, 5_000, 65_400, 65_500, 70_000, 3];
        let (mut near, far) = tokio::io::duplex(777);
        let mut frames: VecDeque<Frame> = lengths.into_iter().map(frame).collect();
        let sent: Vec<_> = frames.iter().map(|frame| frame.text().clone()).collect();
        let reading = tokio::spawn(async move {
            let mut socket = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
            let mut received = Vec::new();
            while received.len() < lengths.len() {
                received.push(socket.next().await.unwrap().unwrap().into_text().unwrap());
            }
            received
        });
        let mut writing = Writing::default();
        poll_fn(|context| writing.poll_frames(&mut near, context, &mut frames, |_| ())).await.unwrap();
        assert_eq!(reading.await.unwrap(), sent);
        assert!(writing.is_empty(), "nothing is kept once everything is written");
    }
}
