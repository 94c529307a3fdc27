//! Reading through a buffer that all connections of a thread share.
//!
//! A connection needs a buffer while bytes are on their way through it, which an idle one never has. So the kernel is asked
//! for as much as it has, into one buffer for each thread, and frames are taken out of it there ([`Frames`]).

use std::{
    cell::Cell,
    io,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::frames::{Frames, Incoming};

/// Bytes that the kernel is asked for at once.
const SHARED: usize = 16 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Reads until nothing more has arrived, or who hears of it pauses; ready then, and when the stream has ended (false).
///
/// # Errors
/// When the stream is broken.
pub(super) fn poll_frames<S: AsyncRead + Unpin>(
    stream: &mut S,
    frames: &mut Frames,
    context: &mut Context<'_>,
    hear: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
) -> Poll<io::Result<bool>> {
    if frames.is_over() {
        return Poll::Ready(Ok(false));
    }
    if frames.is_paused() && frames.take(&mut [], hear).is_break() {
        return Poll::Ready(Ok(true));
    }
    // Taken out while it is used: whoever hears of a frame may do anything.
    let mut buffer = BUFFER.take();
    buffer.resize(SHARED, 0);
    let read = poll_into(&mut buffer, stream, frames, context, hear);
    BUFFER.set(buffer);
    read
}

fn poll_into<S: AsyncRead + Unpin>(
    buffer: &mut [u8],
    stream: &mut S,
    frames: &mut Frames,
    context: &mut Context<'_>,
    hear: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
) -> Poll<io::Result<bool>> {
    loop {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Ok(false));
        }
        if frames.take(read.filled_mut(), hear).is_break() {
            return Poll::Ready(Ok(true));
        }
    }
}
