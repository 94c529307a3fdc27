//! A connection without a socket: two buffers in memory, which take no room while nothing is in them.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait in one direction.
const ROOM: usize = 64 * 1024;

#[derive(Default)]
struct Pipe {
    /// To the server, and to the client.
    buffers: [Vec<u8>; 2],
    /// The task of the server's end, and of the client's.
    wakers: [Option<Waker>; 2],
    closed: bool,
}

/// One end of a connection in memory.
pub(super) struct End {
    pipe: Arc<Mutex<Pipe>>,
    /// Which of the buffers is read at this end.
    reads: usize,
}

/// Bytes that a connection takes here, beside the server: what is in no buffer is counted only.
pub(super) const BYTES: usize = size_of::<Mutex<Pipe>>() + 2 * size_of::<usize>() + size_of::<End>();

/// The server's end and the client's.
pub(super) fn pair() -> (End, End) {
    let pipe = Arc::new(Mutex::new(Pipe::default()));
    (End { pipe: Arc::clone(&pipe), reads: 0 }, End { pipe, reads: 1 })
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Pipe> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes without waiting, and reads what there is: for a client that has no task. False if the other end is gone.
    pub(super) fn exchange(&self, write: &[u8], read: impl FnOnce(&[u8])) -> bool {
        let mut pipe = self.lock();
        if pipe.closed {
            return false;
        }
        let [to_server, to_client] = &mut pipe.buffers;
        let (written, answered) = if self.reads == 1 { (to_server, to_client) } else { (to_client, to_server) };
        read(&std::mem::take(answered));
        written.extend_from_slice(write);
        // Whoever only looks leaves the other end asleep.
        let sleeper = pipe.wakers.get_mut(1 - self.reads).filter(|_| !write.is_empty());
        let waker = sleeper.and_then(Option::take);
        drop(pipe);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.lock();
        let closed = pipe.closed;
        let Some(buffer) = pipe.buffers.get_mut(self.reads) else { return Poll::Ready(Ok(())) };
        if buffer.is_empty() {
            if closed {
                return Poll::Ready(Ok(()));
            }
            return wait(&mut pipe, self.reads, context);
        }
        let taken = buffer.len().min(into.remaining());
        into.put_slice(buffer.get(..taken).unwrap_or_default());
        if taken == buffer.len() {
            *buffer = Vec::new();
        } else {
            buffer.drain(..taken);
        }
        wake(pipe, 1 - self.reads);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.lock();
        if pipe.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let Some(buffer) = pipe.buffers.get_mut(1 - self.reads) else { return Poll::Ready(Ok(0)) };
        let taken = bytes.len().min(ROOM.saturating_sub(buffer.len()));
        if taken == 0 && !bytes.is_empty() {
            return wait(&mut pipe, self.reads, context);
        }
        buffer.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        wake(pipe, 1 - self.reads);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.lock();
        pipe.closed = true;
        wake(pipe, 1 - self.reads);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut pipe = self.lock();
        pipe.closed = true;
        wake(pipe, 1 - self.reads);
    }
}

fn wait<T>(pipe: &mut Pipe, end: usize, context: &Context<'_>) -> Poll<T> {
    if let Some(waker) = pipe.wakers.get_mut(end)
        && !waker.as_ref().is_some_and(|known| known.will_wake(context.waker()))
    {
        *waker = Some(context.waker().clone());
    }
    Poll::Pending
}

/// Wakes an end, after giving back the lock that it is going to take.
fn wake(mut pipe: MutexGuard<'_, Pipe>, end: usize) {
    let waker = pipe.wakers.get_mut(end).and_then(Option::take);
    drop(pipe);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn bytes_go_through_in_both_directions_and_an_end_is_noticed() {
        let (mut server, client) = pair();
        let echo = tokio::spawn(async move {
            let mut bytes = vec![0; 300_000];
            server.read_exact(&mut bytes).await.unwrap();
            server.write_all(&bytes).await.unwrap();
            server.read_u8().await.unwrap_err().kind()
        });
        let (mut read, mut write) = tokio::io::split(client);
        let sent: Vec<u8> = (0..=250).cycle().take(300_000).collect();
        let mut received = vec![0; 300_000];
        let (written, came) = tokio::join!(write.write_all(&sent), read.read_exact(&mut received));
        written.and(came.map(drop)).unwrap();
        assert!(sent == received);
        drop((read, write));
        assert_eq!(echo.await.unwrap(), io::ErrorKind::UnexpectedEof);
    }
}
