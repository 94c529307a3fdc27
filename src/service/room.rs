//! Room for the commands that are on their way through the lanes.
//!
//! A command takes its bytes before it is handed to its lane, and gives them back when all is done that follows from it. When
//! there is no room a connection reads no further: what its client sends then waits in the socket, as with too many requests in
//! flight. Who waits longest is let in first, and nobody waits longer than a call of the store may take.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::failure::Failure;

/// Bytes of all commands together.
const BYTES: u32 = 32 * 1024 * 1024;
/// Bytes that a command takes beside its content: itself, who asked for it, and its outcome.
const COMMAND_BYTES: u32 = 512;

/// So many commands there are at most.
pub(super) const COMMANDS: usize = (BYTES / COMMAND_BYTES) as usize;

/// The room.
#[derive(Clone)]
pub struct Room {
    bytes: Arc<Semaphore>,
    size: u32,
    patience: Duration,
}

/// What commands take of the room, until it is dropped.
pub struct Permit {
    bytes: OwnedSemaphorePermit,
    /// Since when it was asked for.
    since: Instant,
}

impl Room {
    /// Room for everybody; who finds none waits for so long.
    pub(super) fn new(patience: Duration) -> Self {
        Self::of(BYTES, patience)
    }

    fn of(size: u32, patience: Duration) -> Self {
        let bytes = usize::try_from(size).unwrap_or(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(bytes)), size, patience }
    }

    /// Room for so many small commands.
    #[cfg(test)]
    pub fn for_commands(commands: u32, patience: Duration) -> Self {
        Self::of(commands * COMMAND_BYTES, patience)
    }

    /// Whether there is none for one more command.
    #[must_use]
    pub fn is_full(&self) -> bool {
        u32::try_from(self.bytes.available_permits()).is_ok_and(|free| free < COMMAND_BYTES)
    }

    /// Room for a command with so many bytes of content, if there is some at once.
    #[must_use]
    pub fn take(&self, content: usize) -> Option<Permit> {
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes(content).min(self.size)).ok()?;
        Some(Permit { bytes, since: Instant::now() })
    }

    /// Waits for room for commands with so many bytes of content each, which have waited since then. Of more than there ever
    /// is, as much as there is.
    ///
    /// # Errors
    /// `overloaded` when that takes too long.
    pub fn wait(
        self,
        contents: impl IntoIterator<Item = usize>,
        since: Instant,
    ) -> impl Future<Output = Result<Permit, Failure>> + Send + 'static {
        let wanted = contents.into_iter().fold(0, |sum: u32, content| sum.saturating_add(bytes(content)));
        async move {
            let acquired =
                timeout_at(since + self.patience, self.bytes.acquire_many_owned(wanted.min(self.size))).await;
            let bytes = acquired.ok().and_then(Result::ok).ok_or_else(Failure::overloaded)?;
            Ok(Permit { bytes, since })
        }
    }
}

impl Permit {
    /// The part of a command with so many bytes of content; nothing if there is not that much left.
    #[must_use]
    pub fn split(&mut self, content: usize) -> Option<Self> {
        let bytes = self.bytes.split(usize::try_from(bytes(content)).ok()?)?;
        Some(Self { bytes, since: self.since })
    }

    /// How much it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.num_permits()
    }

    /// That of a small command.
    #[cfg(test)]
    pub(super) fn of_a_test() -> Self {
        Room::new(Duration::ZERO).take(0).unwrap()
    }

    /// Since when it was asked for.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }
}

/// What a command takes.
fn bytes(content: usize) -> u32 {
    u32::try_from(content).unwrap_or(u32::MAX).saturating_add(COMMAND_BYTES)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use protocol::ErrorCode;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);
    const ONE: usize = COMMAND_BYTES as usize;

    fn wait(room: &Room, contents: &[usize]) -> std::pin::Pin<Box<dyn Future<Output = Result<Permit, Failure>>>> {
        Box::pin(room.clone().wait(contents.to_vec(), Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_is_let_in_first_and_a_large_one_is_not_passed_by_small_ones() {
        let room = Room::of(4 * COMMAND_BYTES, PATIENCE);
        let taken: Vec<Permit> = (0..4).filter_map(|_| room.take(0)).collect();
        assert!(taken.len() == 4 && room.is_full() && room.take(0).is_none());
        let (mut large, mut small) = (wait(&room, &[ONE]), wait(&room, &[0]));
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
    async fn nobody_waits_for_ever_and_who_has_waited_already_waits_less() {
        let room = Room::of(COMMAND_BYTES, PATIENCE);
        let _taken = room.take(0);
        let began = Instant::now();
        let refused = wait(&room, &[0]).await.err();
        assert_eq!(refused.map(|failure| failure.code), Some(ErrorCode::Overloaded));
        assert_eq!(began.elapsed(), PATIENCE);
        let refused = room.clone().wait([0], began + Duration::from_secs(2)).await.err();
        assert!(refused.is_some() && began.elapsed() == PATIENCE + Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn room_for_several_is_shared_out_and_never_more_than_there_is() {
        let room = Room::of(6 * COMMAND_BYTES, PATIENCE);
        let mut all = wait(&room, &[0, ONE, 0]).await.ok().unwrap();
        let parts = [all.split(0), all.split(ONE), all.split(0), all.split(0)];
        assert_eq!(parts.map(|part| part.map(|part| part.bytes())), [Some(ONE), Some(2 * ONE), Some(ONE), None]);
        drop(all);
        let mut most = wait(&room, &[0; 7]).await.ok().unwrap();
        assert_eq!((most.bytes(), most.split(6 * ONE).is_none()), (6 * ONE, true));
    }
}
