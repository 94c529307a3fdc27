//! Room for the commands that are on their way through the lanes.
//!
//! A command takes its bytes before it is handed to its lane, and gives them back when it is answered. When there is no room a
//! connection reads no further: what its client sends then waits in the socket, as with too many requests in flight. Who
//! waits longest is let in first, and nobody waits longer than a call of the store may take.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::failure::Failure;

/// Bytes of all commands together.
const BYTES: usize = 32 * 1024 * 1024;
/// Bytes that a command takes beside its content: itself, who asked for it, and its outcome.
const COMMAND_BYTES: usize = 512;
/// So many commands there are at most.
pub(super) const COMMANDS: usize = BYTES / COMMAND_BYTES;

/// The room.
#[derive(Clone)]
pub struct Room {
    bytes: Arc<Semaphore>,
    patience: Duration,
}

/// What one command takes of the room, until it is dropped.
pub struct Permit(#[expect(dead_code, reason = "gives back what it holds when it is dropped")] OwnedSemaphorePermit);

impl Room {
    /// Room for everybody; who finds none waits for so long.
    pub(super) fn new(patience: Duration) -> Self {
        Self::of(BYTES, patience)
    }

    pub(super) fn of(bytes: usize, patience: Duration) -> Self {
        Self { bytes: Arc::new(Semaphore::new(bytes)), patience }
    }

    /// Whether there is none for one more command.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.available_permits() < COMMAND_BYTES
    }

    /// Room for a command with so many bytes of content, if there is some at once.
    #[must_use]
    pub fn take(&self, content: usize) -> Option<Permit> {
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes(content)).ok().map(Permit)
    }

    /// Waits for room for a command with so many bytes of content.
    ///
    /// # Errors
    /// `overloaded` when that takes too long.
    pub async fn wait(self, content: usize) -> Result<Permit, Failure> {
        let permit = timeout(self.patience, self.bytes.acquire_many_owned(bytes(content))).await;
        permit.ok().and_then(Result::ok).map(Permit).ok_or_else(Failure::overloaded)
    }
}

/// What a command takes; no more than there is, or it would wait in vain.
fn bytes(content: usize) -> u32 {
    u32::try_from(content.saturating_add(COMMAND_BYTES).min(BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use protocol::ErrorCode;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_is_let_in_first_and_a_large_one_is_not_passed_by_small_ones() {
        let room = Room::of(4 * COMMAND_BYTES, PATIENCE);
        let taken: Vec<Permit> = (0..4).filter_map(|_| room.take(0)).collect();
        assert!(taken.len() == 4 && room.is_full() && room.take(0).is_none());
        let (mut large, mut small) = (Box::pin(room.clone().wait(COMMAND_BYTES)), Box::pin(room.clone().wait(0)));
        assert!((&mut large).now_or_never().is_none() && (&mut small).now_or_never().is_none());
        let mut taken = taken.into_iter();
        drop(taken.next());
        assert!(room.take(0).is_none(), "it is for the one that waits");
        assert!((&mut large).now_or_never().is_none() && (&mut small).now_or_never().is_none());
        drop(taken.next());
        let large = large.await;
        assert!(large.is_ok() && (&mut small).now_or_never().is_none());
        drop(large);
        assert!(small.await.is_ok());
        drop(taken);
        assert!(!room.is_full());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let room = Room::of(COMMAND_BYTES, PATIENCE);
        let _taken = room.take(0);
        let began = tokio::time::Instant::now();
        let refused = room.clone().wait(0).await.err();
        assert_eq!(refused.map(|failure| failure.code), Some(ErrorCode::Overloaded));
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
