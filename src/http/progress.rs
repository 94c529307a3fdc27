//! A stream whose writes have to make progress.
//!
//! The deadline of a request ends when its handler has answered; from there on the answer is with hyper, which waits
//! for the client to take it for as long as the client likes. This adapter ends such a connection: a write during which
//! the kernel takes no byte for the whole of `patience` fails with [`io::ErrorKind::TimedOut`].
//!
//! It costs one pointer while writes succeed: the timer is made when the socket is full, and dropped at the next byte.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A stream whose writes fail when nothing is taken for too long.
#[derive(Debug)]
pub struct Progress<S> {
    stream: S,
    patience: Duration,
    /// Runs while the stream is full.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Progress<S> {
    /// Wraps a stream of which every write has to make progress within `patience`.
    pub fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, stalled: None }
    }

    /// The bare stream: from here on it has no deadline.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Passes the outcome of a write on, unless the stream has been full for too long.
    fn within<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Progress<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Progress<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.within(context, outcome)
    }

    // Without it hyper copies every body into one buffer of its own.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_fails_after_its_patience() {
        let (near, _far) = tokio::io::duplex(100);
        let mut near = Progress::new(near, PATIENCE);
        let started = Instant::now();
        let error = near.write_all(&[0; 101]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_that_takes_something_now_and_then_gets_everything() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut near = Progress::new(near, PATIENCE);
        let writing = tokio::spawn(async move { near.write_all(&[7; 1000]).await.map(|()| near) });
        let mut received = 0;
        while received < 1000 {
            sleep(Duration::from_secs(9)).await;
            received += far.read(&mut [0; 50]).await.unwrap();
        }
        let near = writing.await.unwrap().unwrap();
        assert!(near.stalled.is_none(), "a stream that is not full has no timer");
    }
}
