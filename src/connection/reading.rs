//! Reading through a buffer that all connections of a thread share.
//!
//! A connection needs a buffer while bytes are on their way through it, which an idle one never has. So the kernel is asked
//! for as much as it has, into one buffer for each thread; what does not fit into the small buffer of the WebSocket library
//! waits in an allocation that lives until it is read.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::{Meter, Refused};

/// Bytes that the kernel is asked for at once.
const SHARED: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SHARED].into_boxed_slice());
}

/// A stream that is read through the buffer of the thread.
pub struct Reading<S> {
    stream: S,
    /// What was read from the stream and is not taken yet, from `taken` on.
    rest: Vec<u8>,
    taken: usize,
    meter: Meter,
    /// Why nothing more is read, once what came before is taken.
    refused: Option<Refused>,
}

impl<S> Reading<S> {
    /// Reads from a stream, after what was read from it before.
    pub fn new(stream: S, mut early: Vec<u8>) -> Self {
        let mut meter = Meter::new();
        let (good, refused) = meter.read(&early);
        early.truncate(good);
        Self { stream, rest: early, taken: 0, meter, refused }
    }

    /// The stream itself, to read past what was refused.
    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Reading<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(rest) = this.rest.get(this.taken..).filter(|rest| !rest.is_empty()) {
            let (now, later) = rest.split_at(rest.len().min(into.remaining()));
            into.put_slice(now);
            this.taken += now.len();
            if later.is_empty() {
                (this.rest, this.taken) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(refused) = this.refused {
            return Poll::Ready(Err(io::Error::other(refused)));
        }
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
            let (good, refused) = this.meter.read(read.filled());
            this.refused = refused;
            if let (0, Some(refused)) = (good, refused) {
                return Poll::Ready(Err(io::Error::other(refused)));
            }
            let good = read.filled().get(..good).unwrap_or_default();
            let (now, later) = good.split_at(good.len().min(into.remaining()));
            into.put_slice(now);
            if !later.is_empty() {
                this.rest = later.to_vec();
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reading<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn every_byte_comes_once_and_in_order_however_small_the_pieces_are() {
        let (mut far, near) = tokio::io::duplex(40_000);
        // Two messages, so that the meter has nothing against them.
        let payload: Vec<u8> = (0..=250).cycle().take(65_535).collect();
        let mut sent = vec![0x81, 0x80, 0, 0, 0, 0];
        for _ in 0..2 {
            sent.extend([0x81, 0xfe, 0xff, 0xff, 0, 0, 0, 0]);
            sent.extend_from_slice(&payload);
        }
        let (early, rest) = sent.split_at(5);
        let rest = rest.to_vec();
        let writing = tokio::spawn(async move { far.write_all(&rest).await });
        let mut reading = Reading::new(near, early.to_vec());
        let mut received = Vec::new();
        let mut piece = [0; 77];
        loop {
            let read = reading.read(&mut piece).await.unwrap();
            if read == 0 {
                break;
            }
            received.extend_from_slice(&piece[..read]);
            assert_eq!(reading.rest.is_empty(), reading.taken == 0 && reading.rest.capacity() == 0);
        }
        writing.await.unwrap().unwrap();
        assert!(received == sent);
        assert_eq!(reading.rest.capacity(), 0, "nothing is kept once everything is read");
    }
}
