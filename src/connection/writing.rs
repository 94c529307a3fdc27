//! Writing through a buffer that all connections of a thread share.
//!
//! The counterpart of [`super::reading`]: the WebSocket library would keep a buffer as large as the largest burst that it
//! ever wrote, for each connection and for ever. So frames are put together in one buffer for each thread and handed to
//! the kernel from there; only what it does not take at once waits in an allocation of the connection's own.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Data, OpCode},
};

use crate::hub::Frame;

/// Bytes written together before the first of them go out.
const SHARED: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Every frame of ours: whole, text, and not masked, as a server's are.
const HEADER: FrameHeader =
    FrameHeader { is_final: true, rsv1: false, rsv2: false, rsv3: false, opcode: OpCode::Data(Data::Text), mask: None };

/// What was begun and not taken by the kernel yet.
#[derive(Default)]
pub(super) struct Writing {
    rest: Vec<u8>,
    taken: usize,
    /// Bytes that the kernel has taken in all, modulo what the number holds.
    total: usize,
}

impl Writing {
    /// Bytes that the kernel has taken in all; may begin again at zero.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Bytes that are kept because the stream did not take them.
    pub(super) fn unwritten(&self) -> usize {
        self.rest.len()
    }

    /// Writes what is left of earlier frames.
    ///
    /// # Errors
    /// When the stream is broken.
    pub(super) fn poll_rest<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self.rest.get(self.taken..).filter(|rest| !rest.is_empty()) {
            let count = written(ready!(Pin::new(&mut *stream).poll_write(context, rest))?)?;
            self.taken += count;
            self.total = self.total.wrapping_add(count);
        }
        (self.rest, self.taken) = (Vec::new(), 0);
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
            ready!(self.poll_rest(stream, context))?;
            if frames.is_empty() {
                return Poll::Ready(Ok(()));
            }
            BUFFER.with_borrow_mut(|buffer| {
                buffer.clear();
                while buffer.len() < SHARED
                    && let Some(frame) = frames.pop_front()
                {
                    begun(&frame);
                    put(&frame, buffer)?;
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
                            self.rest = rest.to_vec();
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

fn put(frame: &Frame, buffer: &mut Vec<u8>) -> io::Result<()> {
    let length = u64::try_from(frame.len()).unwrap_or(u64::MAX);
    HEADER.format(length, buffer).map_err(io::Error::other)?;
    buffer.extend_from_slice(frame.text().as_bytes());
    Ok(())
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
        assert_eq!(writing.rest.capacity(), 0, "nothing is kept once everything is written");
    }
}
